"""Label maps in the MATLAB files of the Semantic Boundaries Dataset and of SIFT Flow."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from scipy.io import loadmat

from smalti.data.contract import DataError

STRUCTS = ("GTcls", "GTinst")
"""Semantic Boundaries: structs whose field `Segmentation` is a map of class ids, or of instance ids."""
MAP = "S"
"""SIFT Flow: the map of class ids itself."""


def read_matlab_map(path: Path) -> Integer[np.ndarray, "height width"]:
    """The map in `GTcls.Segmentation`, `GTinst.Segmentation` or `S`.

    Raises:
        DataError: If the file cannot be read or has no such map of whole numbers; names it.
    """
    try:
        content = loadmat(path, variable_names=(*STRUCTS, MAP), squeeze_me=True, struct_as_record=False)
        found = _map_in(content)
    except FileNotFoundError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # on damaged files the reader raises whatever its parts raise
        raise DataError(f"{path}: no readable MATLAB file with the struct GTcls or GTinst or the variable S "
                        f"({type(error).__name__}: {error}): copy it again") from error  # fmt: skip
    whole = np.issubdtype(found.dtype, np.integer)
    if found.ndim == 2 and np.issubdtype(found.dtype, np.floating) and np.array_equal(found, np.round(found)):
        found, whole = found.astype(np.int64), True  # MATLAB's own number type
    if found.ndim != 2 or not whole:
        raise DataError(f"{path}: expected a map of whole numbers, got {found.dtype} of {found.shape}")
    return found


def _map_in(content: dict[str, Any]) -> np.ndarray:
    for name in STRUCTS:
        if name in content:
            return np.asarray(content[name].Segmentation)
    return np.asarray(content[MAP])
