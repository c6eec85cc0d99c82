"""Writes tiny data sets in their real folder shapes; the pictures are made at run time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

import smalti.data.sets
from smalti.data.sets.sift_flow import COLLECTION
from smalti.labels import SIFT_FLOW, VOC

SIZE = (24, 32)
PREFIX = "/SegNet/CamVid/"
ORDER = Path(smalti.data.sets.__file__).parent / "stanford_background_order.txt"


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


VOC_SPLITS = {"train": ("2007_000001", "2007_000002"), "val": ("2007_000003",), "test": ("2007_000004", "2007_000005")}


def save_palette(path: Path, values: np.ndarray) -> Path:
    """A palette PNG, as VOC's masks are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values, mode="P")
    image.putpalette(VOC.palette().tobytes())
    image.save(path)
    return path


VOC_OBJECTS = (("person", (3, 2, 20, 24), 0), ("tvmonitor", (5, 6, 32, 10), 1))
"""Name, (xmin, ymin, xmax, ymax) counted from 1 and inclusive, difficult."""


def voc_xml(objects: Sequence[tuple[str, tuple[float, ...], int]]) -> str:
    entries = (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for name, box, difficult in objects
    )
    return f"<annotation>{''.join(entries)}</annotation>\n"


def write_voc(root: Path, year: str = "2012") -> Path:
    """Returns the VOCdevkit."""
    folder = root / "VOCdevkit" / f"VOC{year}"
    (folder / "Annotations").mkdir(parents=True)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for number, name in enumerate(n for names in VOC_SPLITS.values() for n in names):
        save(folder / "JPEGImages" / f"{name}.jpg", picture(number))
        save_palette(folder / "SegmentationClass" / f"{name}.png", index_mask(number, [0, 15, 20, 255]))
        save_palette(folder / "SegmentationObject" / f"{name}.png", index_mask(number, [0, 1, 2, 255]))
        (folder / "Annotations" / f"{name}.xml").write_text(voc_xml(VOC_OBJECTS))
    for split, names in VOC_SPLITS.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (lists / "trainval.txt").write_text("".join(f"{name}\n" for name in VOC_SPLITS["train"] + VOC_SPLITS["val"]))
    return folder.parent


COCO_CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}]
COCO_OBJECTS: list[dict[str, Any]] = [
    {"category_id": 1, "bbox": [2.0, 3.0, 10.0, 8.0], "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]], "iscrowd": 0},
    {"category_id": 90, "bbox": [6.0, 5.0, 10.0, 15.0], "segmentation": [[6, 5, 16, 5, 16, 20, 6, 20]], "iscrowd": 0},
    {"category_id": 3, "bbox": [30.0, 0.0, 2.0, 24.0], "iscrowd": 1,
     "segmentation": {"size": list(SIZE), "counts": [30 * SIZE[0], 2 * SIZE[0]]}},
]  # fmt: skip


def coco_file(split: str, objects: Sequence[dict[str, Any]] = COCO_OBJECTS, pictures: int = 2) -> dict[str, Any]:
    """A file of objects, the same ones in each picture."""
    start = 100 if split == "train" else 200
    images = [{"id": start + k, "file_name": f"{start + k:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
              for k in range(pictures)]  # fmt: skip
    annotations = [{"area": 42.0, **entry, "image_id": image["id"]} for image in images for entry in objects]
    return {"images": images, "categories": COCO_CATEGORIES,
            "annotations": [{"id": k, **entry} for k, entry in enumerate(annotations, start=1)]}  # fmt: skip


def write_coco(root: Path) -> Path:
    """Files of objects, panoptic files and COCO-Stuff maps; returns the folder."""
    folder = root / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        content = coco_file(split)
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        segments = [{"id": 5 + 256, "category_id": 1, "iscrowd": 0, "area": 20, "bbox": [0, 0, 5, 4]},
                    {"id": 7, "category_id": 200, "iscrowd": 0, "area": 9, "bbox": [0, 4, 3, 3]}]  # fmt: skip
        for image in content["images"]:
            name = Path(image["file_name"]).stem
            save(folder / f"{split}2017" / image["file_name"], picture(image["id"]))
            save(
                folder / f"stuffthingmaps_trainval2017/{split}2017/{name}.png", index_mask(image["id"], [0, 2, 91, 255])
            )
            colors = np.zeros((*SIZE, 3), np.uint8)
            colors[:4, :5], colors[4:7, :3] = (5, 1, 0), (7, 0, 0)
            save(folder / "annotations" / f"panoptic_{split}2017" / f"{name}.png", colors)
        categories = [{**entry, "isthing": 1, "color": [9, 8, entry["id"]]} for entry in COCO_CATEGORIES]
        panoptic = {
            "images": content["images"],
            "categories": [*categories, {"id": 200, "name": "rug-merged", "isthing": 0, "color": [1, 2, 3]}],
            "annotations": [{"image_id": i["id"], "segments_info": segments} for i in content["images"]],
        }
        (folder / "annotations" / f"panoptic_{split}2017.json").write_text(json.dumps(panoptic))
    return folder


SBD_SPLITS = {"train": ("2008_000001", "2007_000003", "2007_000001"), "val": ("2008_000002", "2008_000003")}
"""One picture that VOC 2012 validates on, and one that it trains on."""


def write_sbd(root: Path) -> Path:
    """Returns benchmark_RELEASE/dataset."""
    folder = root / "benchmark_RELEASE" / "dataset"
    for kind in ("img", "cls", "inst"):
        (folder / kind).mkdir(parents=True)
    for split, names in SBD_SPLITS.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            seed = int(name[-1]) + 100
            save(folder / "img" / f"{name}.jpg", picture(seed))
            for kind, struct, values in (("cls", "GTcls", [0, 7, 12]), ("inst", "GTinst", [0, 1, 2])):
                boundaries = np.empty((20, 1), object)
                boundaries[:] = [[np.zeros(SIZE, np.uint8)]] * 20
                fields = {"Boundaries": boundaries, "Segmentation": index_mask(seed, values)}
                savemat(folder / kind / f"{name}.mat", {struct: fields}, do_compression=True)
    return folder


def write_stanford_background(root: Path) -> Path:
    """Returns iccv09Data, with all 715 names; the pictures are all the same."""
    folder = root / "iccv09Data"
    first = save(folder / "images" / "first.jpg", picture(0)).read_bytes()
    (folder / "images" / "first.jpg").unlink()
    (folder / "labels").mkdir()
    regions = index_mask(0, list(range(9))).astype(int) - 1
    text = "".join(" ".join(map(str, row)) + "\n" for row in regions)
    names = [line for line in ORDER.read_text().splitlines() if line]
    for name in names:
        (folder / "images" / f"{name}.jpg").write_bytes(first)
        (folder / "labels" / f"{name}.regions.txt").write_text(text)
    (folder / "horizons.txt").write_text("".join(f"{name} {SIZE[1]} {SIZE[0]} 12.0\n" for name in names))
    return folder


SIFT_TEST = ("coast_n1", "street_n2")
SIFT_TRAIN = ("coast_n3", "forest_n4", "tallbuilding_n5")


def write_sift_flow(root: Path) -> Path:
    """Returns SiftFlowDataset."""
    folder = root / "SiftFlowDataset"
    for seed, name in enumerate(SIFT_TEST + SIFT_TRAIN):
        save(folder / "Images" / COLLECTION / f"{name}.jpg", picture(seed))
        target = folder / "SemanticLabels" / COLLECTION / f"{name}.mat"
        target.parent.mkdir(parents=True, exist_ok=True)
        names = np.empty((33, 1), object)
        names[:, 0] = [np.array([text]) for text in SIFT_FLOW.names]
        savemat(target, {"S": index_mask(seed, [0, 1, 20, 33]), "names": names})
    (folder / "TestSet1.txt").write_text("".join(f"{COLLECTION}\\{name}.jpg\r\n" for name in SIFT_TEST))
    return folder


def labels_and_objects(seed: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Label ids as in Cityscapes' files, and objects numbered as class x factor + number: two cars, and a group."""
    labels = index_mask(seed, [0, 7, 11, 23, 24, 26])
    labels[:8, :16], labels[:8, 16:] = 26, 26
    objects = labels.astype(np.uint16) * (1 if factor == 1000 else factor)
    objects[:8, :8], objects[:8, 8:16] = 26 * factor + 1, 26 * factor + 2
    return labels, objects


def write_cityscapes(root: Path) -> Path:
    """Returns the folder with leftImg8bit and gtFine; test has no truth."""
    folder = root / "cityscapes"
    for number, (split, city) in enumerate(
        (("train", "aachen"), ("train", "bremen"), ("val", "ulm"), ("test", "bonn"))
    ):
        for k in range(2):
            name = f"{city}_00000{k}_000019"
            save(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture(10 * number + k))
            truth = folder / "gtFine" / split / city
            truth.mkdir(parents=True, exist_ok=True)
            if split != "test":
                labels, objects = labels_and_objects(10 * number + k, 1000)
                save(truth / f"{name}_gtFine_labelIds.png", labels)
                save(truth / f"{name}_gtFine_instanceIds.png", objects)
    return folder


def write_kitti(root: Path) -> Path:
    """Returns data_semantics: seven training pictures, of which 0 and 5 are val."""
    folder = root / "data_semantics"
    for k in range(7):
        name = f"{k:06d}_10.png"
        labels, objects = labels_and_objects(k, 256)
        save(folder / "training" / "image_2" / name, picture(k))
        save(folder / "training" / "semantic" / name, labels)
        save(folder / "training" / "instance" / name, objects)
    save(folder / "testing" / "image_2" / "000000_10.png", picture(99))
    return folder


def write_scenes(root: Path) -> None:
    """Nothing to write: scenes are drawn."""


@dataclass(frozen=True, kw_only=True)
class Fake:
    """How a set's shape is written below a folder (the answer is the set's root), and the options to open it with."""

    write: Callable[[Path], Path | None]
    options: dict[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = ("train", "val", "test")


FAKES = {
    "camvid": Fake(write=write_camvid),
    "cityscapes": Fake(write=write_cityscapes, splits=("train", "val")),
    "coco": Fake(write=write_coco, splits=("train", "val")),
    "folder": Fake(write=write_folder),
    "kitti": Fake(write=write_kitti, splits=("train", "val", "trainval")),
    "sbd": Fake(write=write_sbd, splits=("train", "val")),
    "voc": Fake(write=write_voc),
    "scenes": Fake(write=write_scenes, options={"size": (64, 96), "length": 3}),
    "sift_flow": Fake(write=write_sift_flow, splits=("train", "test", "all")),
    "stanford_background": Fake(write=write_stanford_background, splits=("train", "val", "test")),
}
