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
    edges = np.zeros(labels.shape, bool)
    buffers = np.empty((2, *labels.shape), bool)  # two for all steps: fresh memory costs more than comparing
    for upper, lower in _NEIGHBOURS:
        changes, other = (buffer[upper] for buffer in buffers)
        np.not_equal(labels[upper], labels[lower], out=changes)
        if ids is not None:
            np.not_equal(ids[upper], ids[lower], out=other)
            changes |= other
        changes &= known[upper]
        changes &= known[lower]
        edges[upper] |= changes
        edges[lower] |= changes
    found: Labels = edges.view(np.uint8)
    found[~known] = ignored
    return found


_NEIGHBOURS = (
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:, :-1], np.s_[:, 1:]),
)
"""Every pixel beside the one below it, and beside the one to its right."""
