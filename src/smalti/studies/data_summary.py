"""A look at a data set before anything is trained on it."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from smalti.command_log import keep_traceback
from smalti.containers import Instances
from smalti.data.dataset import Dataset, open_dataset, parse_data_argument
from smalti.data.derive import sample_objects
from smalti.data.doubts import Doubts, find_doubts
from smalti.data.sets.folder import EmptySplitError, Folder
from smalti.draw.boxes import draw_boxes
from smalti.draw.image_files import save_png
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.overlay import overlay
from smalti.labels import IGNORED, LabelSet
from smalti.ownership import SOFTWARE, check_replaceable

SPLITS = ("train", "val", "test")
SHOWN = 6
MOST_PROBLEMS = 10
"""Files that cannot be used of which each has a line."""


def summarise(
    data: str, split: str | None, out: Path | None, write: Callable[[str], None], *, overwrite: bool = False
) -> bool:
    """Writes lines about each split: images, sizes, classes by share of pixels, objects, and what is wrong.

    Returns:
        Whether everything can be used as it is.

    Raises:
        ValueError: If the data set cannot be opened, or a file of another maker is at `out` and not to be overwritten.
    """
    name, root = parse_data_argument(data, "folder")
    parts = (split,) if split else SPLITS
    drawings = {} if out is None else {part: out if split else out.with_stem(f"{out.stem}_{part}") for part in parts}
    _check_drawings(drawings.values(), root, overwrite=overwrite)
    opened: dict[str, Dataset] = {}
    problems: list[str] = []
    for part in parts:
        try:
            opened[part] = open_dataset(name, root=root, split=part, options={})
        except ValueError as error:
            if split or part == SPLITS[0]:
                raise
            keep_traceback(error)
            write(f"{name} {part}: {error}")
            is_missing = name != Folder.name or isinstance(error, EmptySplitError)
            problems += [] if is_missing else [f"the split {part}"]
            continue
        problems += _write_split(opened[part], part, write)
        if part in drawings:
            _draw(opened[part], drawings[part])
            write(f"  samples drawn in {drawings[part]}")
    return _write_doubts(find_doubts(opened, compare_published=True), problems, write)


def _check_drawings(files: Collection[Path], root: Path | None, *, overwrite: bool) -> None:
    for file in files:
        if file.suffix != ".png":
            raise ValueError(f"samples are drawn as PNG: name a file that ends with .png, not {file}")
        if root is not None and root.resolve() in file.resolve().parents:
            raise ValueError(f"{file} lies in the data set, where drawings would be taken for images: choose another "
                             "place with --out")  # fmt: skip
    check_replaceable(files, _is_drawing, overwrite=overwrite)


def _write_split(dataset: Dataset, split: str, write: Callable[[str], None]) -> list[str]:
    """Writes what a split is and holds; answers the problems of files that cannot be used."""
    write(f"{dataset.name} {split}: {len(dataset)} pictures, {len(dataset.labels)} classes")
    for note in dataset.notes:
        write(f"  note: {note}")
    if dataset.scaling is not None:
        write(f"  {dataset.scaling.sentence('training with --set input.value_range=LOW,HIGH')}")
    return _write_content(dataset, write)


def _write_doubts(doubts: Doubts, problems: list[str], write: Callable[[str], None]) -> bool:
    """Writes what is doubtful and what is wrong; answers whether nothing is."""
    for note in doubts.notes:
        write(f"note: {note}")
    if not problems and doubts.unusable is not None:
        problems = [doubts.unusable]
    for problem in (*problems[:MOST_PROBLEMS], *doubts.problems):
        write(f"cannot be used: {problem}")
    if len(problems) > MOST_PROBLEMS:
        write(f"cannot be used: {len(problems) - MOST_PROBLEMS} more images")
    return not problems and not doubts.problems


def _write_content(dataset: Dataset, write: Callable[[str], None]) -> list[str]:
    """Writes what is in a split; answers the problems of files that cannot be used."""
    sizes: Counter[tuple[int, int]] = Counter()
    counts = np.zeros(256, np.int64)
    objects: Counter[str] = Counter()
    is_thing, bare = dataset.labels.is_thing(), Counter({"masks": 0, "objects": 0})
    problems: list[str] = []
    for index in range(len(dataset)):
        try:
            sample = dataset.read(index)
        except ValueError as error:
            keep_traceback(error)
            problems.append(str(error))
            continue
        sizes[sample.size] += 1
        if sample.semantic is not None:
            counts += np.bincount(sample.semantic.as_subclass(Tensor).numpy().ravel(), minlength=256)
        found = sample_objects(sample, is_thing)
        bare.update(masks=sample.semantic is None, objects=found is None)
        if found is not None:
            objects.update(_kinds(found, dataset.labels))
    common = ", ".join(f"{n} of {h}x{w}" for (h, w), n in sizes.most_common(3))
    write(f"  sizes (height x width): {common}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""))
    if bare["masks"] < sizes.total():
        for line in _shares(counts, dataset.labels):
            write(line)
    if objects or bare["objects"] < sizes.total():
        write("  objects: " + (", ".join(f"{count} {name}" for name, count in objects.most_common()) or "none"))
    for what, pictures in bare.items():
        if pictures > 0 and (what == "masks" or pictures < sizes.total()):
            write(f"  {pictures} pictures without {what}")
    return problems


def _shares(counts: Int64[np.ndarray, " labels"], labels: LabelSet) -> Iterator[str]:
    total = max(int(counts.sum()), 1)
    for label, name in enumerate(labels.names):
        never = "" if counts[label] else "   never occurs"
        yield f"  {name:20} {100 * counts[label] / total:6.2f} % of pixels{never}"
    yield f"  {'(ignored)':20} {100 * counts[IGNORED] / total:6.2f} %"


def _kinds(objects: Instances, labels: LabelSet) -> list[str]:
    """The class of each object, and whether it is excused."""
    names = [labels.names[label] for label in objects.labels.tolist()]
    for mark, flags in (("difficult", objects.difficult), ("crowd", objects.crowd)):
        if flags is not None:
            names = [f"{name} ({mark})" if flag else name for name, flag in zip(names, flags.tolist(), strict=True)]
    return names


def _draw(dataset: Dataset, path: Path) -> None:
    tiles = []
    for index in np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset))).astype(int):
        try:
            sample = dataset.read(int(index))
        except ValueError:  # named among those that cannot be used
            continue
        picture = sample.image.as_subclass(Tensor).permute(1, 2, 0).numpy()
        if sample.semantic is not None:
            labels = sample.semantic.as_subclass(Tensor).numpy()
            picture = with_legend(overlay(picture, labels, dataset.labels), legend_entries(labels, dataset.labels))
        if sample.instances is not None:
            boxes, kinds = sample.instances.boxes.as_subclass(Tensor).numpy(), sample.instances.labels.tolist()
            picture = draw_boxes(picture, boxes, kinds, dataset.labels)
        tiles.append(picture)
    if not tiles:
        return
    width = max(t.shape[1] for t in tiles)
    padded = [np.pad(t, ((0, 8), (0, width - t.shape[1]), (0, 0)), constant_values=255) for t in tiles]
    save_png(np.concatenate(padded), path, made_by=SOFTWARE)


def _is_drawing(path: Path) -> bool:
    """Whether a file is a drawing of this package."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == SOFTWARE
    except (OSError, ValueError, SyntaxError):
        return False
