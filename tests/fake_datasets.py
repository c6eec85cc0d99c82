"""Writes tiny data sets in their real folder shapes; the pictures are made at run time."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (24, 32)
PREFIX = "/SegNet/CamVid/"


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def index_mask(seed: int, values: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Every value occurs."""
    mask = np.random.default_rng(seed).choice(np.array(values), size)
    mask.flat[: len(values)] = values
    return mask.astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_camvid(root: Path, pictures: int = 3, prefix: str = PREFIX) -> Path:
    """Returns the set's folder, root/CamVid."""
    folder = root / "CamVid"
    for number, split in enumerate(("train", "val", "test")):
        lines = []
        for k in range(pictures):
            name = f"{number}016E5_{k:05d}.png"
            save(folder / split / name, picture(10 * number + k))
            save(folder / f"{split}annot" / name, index_mask(10 * number + k, list(range(12))))
            lines.append(f"{prefix}{split}/{name} {prefix}{split}annot/{name}")
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@dataclass(frozen=True, kw_only=True)
class FolderShape:
    stems: tuple[str, ...] = tuple(f"p{k}" for k in range(10))
    values: tuple[int, ...] = (0, 1, 2, 255)
    table: dict[str, Any] | None = field(default_factory=lambda: {"classes": ["ground", "tree", "house"]})
    instances: bool = False


def write_folder(root: Path, shape: FolderShape | None = None) -> Path:
    shape = shape or FolderShape()
    for k, stem in enumerate(shape.stems):
        save(root / "images" / f"{stem}.png", picture(k))
        save(root / "masks" / f"{stem}.png", index_mask(k, list(shape.values)))
        if shape.instances:
            save(root / "instances" / f"{stem}.png", np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16))
    if shape.table is not None:
        (root / "labels.json").write_text(json.dumps(shape.table))
    return root


def write_scenes(root: Path) -> None:
    """Nothing to write: scenes are drawn."""


@dataclass(frozen=True, kw_only=True)
class Fake:
    """How a set's shape is written below a folder (the answer is the set's root), and the options to open it with."""

    write: Callable[[Path], Path | None]
    options: dict[str, Any] = field(default_factory=dict)


FAKES = {
    "camvid": Fake(write=write_camvid),
    "folder": Fake(write=write_folder),
    "scenes": Fake(write=write_scenes, options={"size": (64, 96), "length": 3}),
}
