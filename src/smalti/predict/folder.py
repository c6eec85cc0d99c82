"""Files in, files out: pictures and folders of pictures to masks and overlays on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from smalti.containers import Predictions
from smalti.data.pictures import PICTURE_SUFFIXES, read_picture
from smalti.draw.legend import with_legend
from smalti.draw.overlay import overlay, save_index_png
from smalti.files import replacing
from smalti.predict.predictor import Predictor, load


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures meant: files as named, folders by everything below them that looks like a picture.

    Raises:
        ValueError: If a path does not exist, or a folder has no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
            if not inside:
                raise ValueError(f"{path}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such picture or folder")
    return found


def predict_files(
    model: Path, files: Sequence[Path], out: Path, show: str, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Writes each picture's answer into `out`; one bad file never stops the rest.

    Args:
        model: Run folder or checkpoint.
        files: Pictures. Two of the same name (in different folders) get different answers' names.
        out: Folder for `NAME.png` (index mask) and `NAME_overlay.png`.
        show: "labels", "overlay" or "both".
        progress: Called with (pictures done, pictures in all).

    Returns:
        What went wrong, a line a file.
    """
    predictor = load(model)
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for done, (file, name) in enumerate(zip(files, _unique_names(files), strict=True), start=1):
        try:
            _predict_file(predictor, file, out / name, show)
        except ValueError as error:
            failed.append(str(error) if str(file) in str(error) else f"{file}: {error}")
        if progress is not None:
            progress(done, len(files))
    return failed


def _unique_names(files: Sequence[Path]) -> list[str]:
    """File stems; where two are equal, with the folder's name before, then with a number behind."""
    stems = [f.stem for f in files]
    names: list[str] = []
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else f"{file.parent.name}_{file.stem}"
        taken, number = name, 2
        while taken in names:
            taken, number = f"{name}_{number}", number + 1
        names.append(taken)
    return names


def _predict_file(predictor: Predictor, file: Path, answer_path: Path, show: str) -> None:
    picture = read_picture(file)
    answer = predictor(picture)
    if show in ("labels", "both"):
        assert answer.semantic is not None
        save_index_png(answer.semantic.cpu().numpy(), answer.labels, answer_path.with_name(f"{answer_path.name}.png"))
    if show in ("overlay", "both"):
        target = answer_path.with_name(f"{answer_path.name}_overlay.png")
        with replacing(target) as part:
            Image.fromarray(draw_answer(picture.permute(1, 2, 0).numpy(), answer)).save(part, format="PNG")


def draw_answer(picture: np.ndarray, answer: Predictions) -> np.ndarray:
    """The picture with its classes in colour and a legend of those that occur."""
    assert answer.semantic is not None
    labels = answer.semantic.cpu().numpy()
    return with_legend(overlay(picture, labels, answer.labels), labels, answer.labels)
