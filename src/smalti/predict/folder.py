"""Files in, files out: pictures and folders of pictures to masks and overlays on disk."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smalti.containers import Predictions
from smalti.data.pictures import PICTURE_SUFFIXES, find_pictures, read_picture
from smalti.draw.heat import heat_map, with_scale
from smalti.draw.legend import with_legend
from smalti.draw.overlay import overlay, save_index_png
from smalti.files import replacing, write_text
from smalti.predict.predictor import Predictor, load

OVERLAY, DIFFICULTY = "_overlay", "_difficulty"
ENDINGS = ("", OVERLAY, DIFFICULTY)
"""Of the answers' names."""
RANKING = "difficulty.csv"


class NoDifficultyError(ValueError):
    """Of the network, and so said once and not for each picture."""


def find_files(paths: Sequence[Path], out: Path) -> list[Path]:
    """The pictures meant: files as named, folders by everything below them that is a picture and no answer in `out`.

    Raises:
        ValueError: If a path does not exist, or a folder has no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            answers = out.resolve()
            inside = [p for p in find_pictures(path)
                      if answers == path.resolve() or answers not in p.resolve().parents]  # fmt: skip
            if not inside:
                raise ValueError(f"{path}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such picture or folder")
    return found


def predict_files(
    model: Path,
    files: Sequence[Path],
    out: Path,
    show: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
) -> list[str]:
    """Writes each picture's answer into `out`; one bad file never stops the rest.

    Args:
        model: Run folder or checkpoint.
        files: Pictures. Two of the same name (in different folders) get different answers' names.
        out: Folder for `NAME.png` (index mask) and `NAME_overlay.png`; for difficulty `NAME_difficulty.png` and
            `difficulty.csv`, the pictures in the order in which a person should look at them.
        show: "labels", "overlay", "both" or "difficulty".
        progress: Called with (pictures done, pictures in all).
        changes: Dotted keys of the recipe, for a network that is to answer in another way than it was trained.

    Returns:
        What went wrong, a line a file.

    Raises:
        ValueError: If an answer would replace one of the pictures, there is no model, or it knows no difficulty.
    """
    names = _unique_names(files)
    _check_targets(files, names, out)
    predictor = load(model, changes=changes)
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    difficulties: dict[Path, float] = {}
    for done, (file, name) in enumerate(zip(files, names, strict=True), start=1):
        try:
            if show == "difficulty":
                difficulties[file] = _predict_difficulty(predictor, file, out / f"{name}{DIFFICULTY}.png")
            else:
                _predict_file(predictor, file, out / name, show)
        except NoDifficultyError:
            raise
        except ValueError as error:
            failed.append(str(error) if str(file) in str(error) else f"{file}: {error}")
        if progress is not None:
            progress(done, len(files))
    if difficulties:
        _write_ranking(difficulties, out / RANKING)
    return failed


def _predict_difficulty(predictor: Predictor, file: Path, target: Path) -> float:
    picture = read_picture(file)
    answer = predictor(picture)
    if answer.difficulty is None:
        raise NoDifficultyError("this network does not know how difficult a pixel is: train ccfnet with its attention "
                                "gate, or choose another --show")  # fmt: skip
    mean = float(answer.difficulty.mean())
    drawing = heat_map(picture.permute(1, 2, 0).numpy(), answer.difficulty.cpu().numpy())
    with replacing(target) as part:
        title = f"probability that the coarse answer is wrong (mean {100 * mean:.0f} %)"
        Image.fromarray(with_scale(drawing, title)).save(part, format="PNG")
    return mean


def _write_ranking(difficulties: dict[Path, float], path: Path) -> None:
    ranked = sorted(difficulties.items(), key=lambda entry: (-entry[1], str(entry[0])))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "picture", "mean_difficulty"])
    writer.writerows([rank, file, f"{mean:.4f}"] for rank, (file, mean) in enumerate(ranked, start=1))
    write_text(path, text.getvalue())


def _unique_names(files: Sequence[Path]) -> list[str]:
    """File stems; where two are equal, with the folder's name before, then with a number behind."""
    stems = Counter(file.stem for file in files)
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        wanted = file.stem if stems[file.stem] == 1 else f"{file.parent.name}_{file.stem}"
        name, number = wanted, 2
        while {f"{name}{ending}" for ending in ENDINGS} & taken:
            name, number = f"{wanted}_{number}", number + 1
        names.append(name)
        taken |= {f"{name}{ending}" for ending in ENDINGS}
    return names


def _check_targets(files: Sequence[Path], names: Sequence[str], out: Path) -> None:
    pictures = {file.resolve() for file in files}
    for name in names:
        for target in (out / f"{name}{ending}.png" for ending in ENDINGS):
            if target.resolve() in pictures:
                raise ValueError(f"the answer {target} would replace a picture that is to be segmented: choose another "
                                 "folder with --out")  # fmt: skip


def _predict_file(predictor: Predictor, file: Path, answer_path: Path, show: str) -> None:
    picture = read_picture(file)
    answer = predictor(picture)
    if show in ("labels", "both"):
        assert answer.semantic is not None
        save_index_png(answer.semantic.cpu().numpy(), answer.labels, answer_path.with_name(f"{answer_path.name}.png"))
    if show in ("overlay", "both"):
        target = answer_path.with_name(f"{answer_path.name}{OVERLAY}.png")
        with replacing(target) as part:
            Image.fromarray(draw_answer(picture.permute(1, 2, 0).numpy(), answer)).save(part, format="PNG")


def draw_answer(picture: np.ndarray, answer: Predictions) -> np.ndarray:
    """The picture with its classes in colour and a legend of those that occur."""
    assert answer.semantic is not None
    labels = answer.semantic.cpu().numpy()
    return with_legend(overlay(picture, labels, answer.labels), labels, answer.labels)
