"""The kinds of answers by name, and which are meant."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from smalti.predict.writers.contract import Writer
from smalti.predict.writers.maps import Difficulty, Heat
from smalti.predict.writers.objects import MASKS, Boxes, CityscapesFiles, Objects
from smalti.predict.writers.panoptic import Panoptic
from smalti.predict.writers.polygons import Polygons
from smalti.predict.writers.semantic import ZARR, Labels, Overlay, Probabilities, ZarrProbabilities

WRITERS: dict[str, Callable[[Path], Writer]] = {
    "labels": Labels,
    "overlay": Overlay,
    "probabilities": Probabilities,
    "zarr": ZarrProbabilities,
    "polygons": Polygons,
    "difficulty": Difficulty,
    "edges": lambda out: Heat(out, "edges", "probability of an edge"),
    "distances": lambda out: Heat(out, "distances", "distance to the object's border, as a share of the farthest"),
    "instances": Objects,
    "panoptic": Panoptic,
    "boxes": Boxes,
    "cityscapes": CityscapesFiles,
}
SEVERAL = {"both": ("labels", "overlay")}
"""Names that stand for several kinds."""
ENDINGS = tuple(dict.fromkeys(ending for make in WRITERS.values() for ending in make(Path()).endings))
"""Of all kinds: a name is free only if none of them is taken."""
FOLDERS = (MASKS, ZARR)
"""Those that are folders."""
SUMMARIES = tuple(name for make in WRITERS.values() for name in make(Path()).summaries)
"""Names, or patterns of names, of the files about all pictures, of all kinds."""


def names_written(name: str, kinds: Iterable[str] = tuple(WRITERS)) -> list[str]:
    """The files and folders that a picture's answers of these kinds have; `name` is the stem of its answers."""
    writers = (WRITERS[kind](Path()) for kind in kinds)
    return [f"{writer.stem(name)}{ending}" for writer in writers for ending in writer.endings]


def kinds_of(show: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds meant by names, or by one text with commas between them; each once.

    Raises:
        ValueError: If one is unknown; names the nearest.
    """
    names = [name.strip() for name in (show.split(",") if isinstance(show, str) else show)]
    for name in names:
        if name not in WRITERS and name not in SEVERAL:
            near = difflib.get_close_matches(name, [*SEVERAL, *WRITERS], n=1)
            meant = f' (did you mean "{near[0]}"?)' if near else ""
            raise ValueError(f'--show "{name}" is not known{meant}; known: {", ".join([*SEVERAL, *WRITERS])}')
    return tuple(dict.fromkeys(kind for name in names for kind in SEVERAL.get(name, (name,))))
