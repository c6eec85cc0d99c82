"""Whether the objects of a picture and its classes tell the same."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from smalti.data.contract import DataError
from smalti.labels import IGNORED, LabelSet

AGREEMENT = 0.75
"""Smallest share of an object's pixels that must be of one class."""


def check_objects(
    classes: UInt8[np.ndarray, "height width"],
    ids: Int32[np.ndarray, "height width"],
    labels: LabelSet,
    files: tuple[Path, Path],
) -> None:
    """Every object must lie, with at least 75 % of its pixels that are not ignored, on one class of things.

    Without a class of things in the table nothing is asked of the objects: no network will look at them.

    Args:
        classes: Label ids, 255 = ignored.
        ids: Numbers of the objects, 0 = none.
        labels: The class table.
        files: Of the classes and of the objects, for the message.

    Raises:
        DataError: If one does not; names the files, the object, its class and the share.
    """
    inside = (ids > 0) & (classes != IGNORED)
    if not labels.things or not inside.any():
        return
    keys, pixels = np.unique(ids[inside].astype(np.int64) << 8 | classes[inside], return_counts=True)
    owner, label = keys >> 8, keys & 0xFF
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    areas, most = np.add.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    things = np.isin(label, [k for k, name in enumerate(labels.names) if name in labels.things])
    on_things = np.maximum.reduceat(np.where(things, pixels, 0), starts)
    for k in np.flatnonzero((on_things < most) | (most < AGREEMENT * areas))[:1]:
        own = slice(starts[k], starts[k] + int(np.count_nonzero(owner == owner[starts[k]])))
        name = labels.names[int(label[own][pixels[own].argmax()])]
        what = f"object {owner[starts[k]]} has {100 * most[k] / areas[k]:.0f} % of its {areas[k]} pixels on {name}"
        why = f", of at least {100 * AGREEMENT:.0f} %" if name in labels.things else ", which is no class of things"
        raise DataError(f"{files[1]}: {what}{why}: objects and classes ({files[0]}) must agree (0 = no object; "
                        'classes with objects have "thing": true in labels.json)')  # fmt: skip
