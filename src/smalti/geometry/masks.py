"""Masks of objects in the form in which files hold them."""

import numpy as np
from faster_coco_eval import mask as rle
from jaxtyping import Bool


def decode_mask(
    segmentation: list[list[float]] | dict[str, object], size: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """A mask from COCO's polygons (x, y, x, y, …), or from run lengths as numbers or text."""
    height, width = size
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        encoded = {**segmentation, "counts": segmentation["counts"].encode("ascii")}
    else:
        encoded = rle.frPyObjects(segmentation, height, width)
        encoded = rle.merge(encoded) if isinstance(encoded, list) else encoded
    decoded: np.ndarray = rle.decode(encoded).astype(bool)
    return decoded


def encode_mask(mask: Bool[np.ndarray, "height width"]) -> dict[str, object]:
    """COCO's run lengths: `size` [height, width] and `counts` as text, ready for JSON."""
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
