"""Label maps written as text: Stanford Background's `.regions.txt`, one line a row of pixels."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from smalti.data.contract import DataError
from smalti.labels import IGNORED

UNKNOWN = -1


def read_regions(path: Path, classes: int) -> UInt8[np.ndarray, "height width"]:
    """The map of label ids, 0 to `classes - 1`; -1 (unknown) becomes 255 (ignored).

    Raises:
        DataError: If the file cannot be read, or is no matrix of such numbers; names it.
    """
    try:
        lines = [line for line in path.read_text("ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not lines:
        raise DataError(f"{path}: empty, expected a line of region ids for each row of pixels")
    widths = [len(line.split()) for line in lines]
    if len(set(widths)) > 1:
        other = next(k for k, width in enumerate(widths) if width != widths[0])
        raise DataError(f"{path}: line {other + 1} has {widths[other]} numbers, the lines before have {widths[0]}: "
                        "copy it again")  # fmt: skip
    with warnings.catch_warnings():  # numpy warns, and stops reading, where a text is no number
        warnings.simplefilter("error")
        try:
            values = np.fromstring(" ".join(lines), dtype=np.int64, sep=" ").reshape(len(lines), widths[0])
        except (ValueError, DeprecationWarning) as error:
            raise DataError(f"{path}: expected whole numbers only ({error})") from error
    outside = (values < UNKNOWN) | (values >= classes)
    if outside.any():
        row, column = (int(k) for k in np.argwhere(outside)[0])
        raise DataError(f"{path}: region {values[row, column]} first at row {row}, column {column}; {outside.sum()} "
                        f"pixels are neither a class (0 to {classes - 1}) nor unknown (-1)")  # fmt: skip
    values[values == UNKNOWN] = IGNORED
    return values.astype(np.uint8)
