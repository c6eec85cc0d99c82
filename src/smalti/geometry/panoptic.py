"""Classes and objects as one map of segments (Kirillov, He, Girshick, Rother, Dollár, CVPR 2019)."""

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8

STRIDE = 1 << 32
"""More than any object's number."""


def panoptic_segments(
    labels: UInt8[np.ndarray, "height width"],
    ids: Int32[np.ndarray, "height width"],
    is_thing: Bool[np.ndarray, "256"],
    *,
    ignored: int = 255,
) -> Int64[np.ndarray, "height width"]:
    """A number for each segment, label x STRIDE + object, and -1 where there is none.

    A segment is an object of a class of things, or all pixels of another class. Ignored pixels, and things that belong
    to no object (id 0), are of none.
    """
    things = is_thing[labels]
    segments: np.ndarray = labels.astype(np.int64) * STRIDE + np.where(things, ids, 0)
    segments[(labels == ignored) | (things & (ids == 0))] = -1
    return segments
