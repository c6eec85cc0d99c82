"""Label maps in the MATLAB files of the Semantic Boundaries Dataset."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer
from scipy.io import loadmat

from smalti.data.contract import DataError

STRUCTS = ("GTcls", "GTinst")


def read_matlab_map(path: Path) -> Integer[np.ndarray, "height width"]:
    """The field `Segmentation` of the struct `GTcls` (class ids) or `GTinst` (instance ids).

    Raises:
        DataError: If the file cannot be read or has no such map; names it.
    """
    try:
        content = loadmat(path, variable_names=STRUCTS, squeeze_me=True, struct_as_record=False)
        struct = next(content[name] for name in STRUCTS if name in content)
        found = np.asarray(struct.Segmentation)
    except FileNotFoundError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # on damaged files the reader raises whatever its parts raise
        raise DataError(f"{path}: no readable MATLAB file with the struct GTcls or GTinst "
                        f"({type(error).__name__}: {error}): copy it again") from error  # fmt: skip
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.integer):
        raise DataError(f"{path}: Segmentation must be a map of whole numbers, got {found.dtype} of {found.shape}")
    return found
