"""Edges of a label map: where the class or the object changes (spec 1.4)."""

import numpy as np
from jaxtyping import Integer, UInt8

Labels = UInt8[np.ndarray, "height width"]
Ids = Integer[np.ndarray, "height width"]


def label_edges(labels: Labels, ids: Ids | None = None, *, ignored: int = 255) -> Labels:
    """1 where one of the four neighbours has another label or another object id, 0 elsewhere, 255 where ignored.

    Edges are two pixels wide, one on each side. Ignored neighbours make none: their true label is unknown.

    Raises:
        ValueError: If labels and ids differ in size.
    """
    if ids is not None and ids.shape != labels.shape:
        raise ValueError(f"labels and ids must be of one size, got {labels.shape} and {ids.shape}")
    known = labels != ignored
    edges = np.zeros(labels.shape, np.uint8)
    for upper, lower in _NEIGHBOURS:
        changes = labels[upper] != labels[lower]
        if ids is not None:
            changes |= ids[upper] != ids[lower]
        changes &= known[upper]
        changes &= known[lower]
        edges[upper] |= changes
        edges[lower] |= changes
    edges[~known] = ignored
    return edges


_NEIGHBOURS = (
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:, :-1], np.s_[:, 1:]),
)
"""Every pixel beside the one below it, and beside the one to its right."""
