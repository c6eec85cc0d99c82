"""Masks of objects in the form in which files hold them."""

import numpy as np
from faster_coco_eval import mask as rle
from jaxtyping import Bool


def encode_mask(mask: Bool[np.ndarray, "height width"]) -> dict[str, object]:
    """COCO's run lengths: `size` [height, width] and `counts` as text, ready for JSON."""
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
