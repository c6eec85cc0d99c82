"""Label maps in the MATLAB files of the Semantic Boundaries Dataset and of SIFT Flow.

Read here and not by SciPy, whose reader of the format ends the whole process on some damaged files. The format (level
5) is that of MathWorks' "MAT-File Format": a header of 128 bytes, then elements, each with a tag (type, bytes) and
padded to 8 bytes; a matrix is an element of elements.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from smalti.data.contract import DataError

STRUCTS = ("GTcls", "GTinst")
"""Semantic Boundaries: structs whose field `Segmentation` is a map of class ids, or of instance ids."""
FIELD = "Segmentation"
MAP = "S"
"""SIFT Flow: the map of class ids itself."""
MAX_BYTES = 2**30
"""A variable that takes more, unpacked, is refused: a map of 8-byte numbers for 11,000 x 11,000 pixels."""
MAX_FIELDS = 1000
"""Of a struct, and variables of a file; the sets have six at most."""
HEADER, TAG = 128, 8
HDF5 = b"\x89HDF"
INT32, UINT32, MATRIX, COMPRESSED = 5, 6, 14, 15
"""Types of elements."""
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy's names of the numbers in an element, by its type."""
TEXTS = (16, 17, 18)
DEEPEST = 16
"""Matrices in matrices (cells in structs in structs); the sets have three."""
STRUCT = 2
FLOATS, INTEGERS = (6, 7), range(8, 16)
"""Classes of matrices, whose numbers may be stored in a smaller type: whole doubles as bytes, say."""
COMPLEX = 0x0800
"""A flag of a matrix."""
Array = Shaped[np.ndarray, "..."]


class _DamagedError(ValueError):
    """The file says something that cannot be."""


@dataclass(frozen=True)
class _Element:
    """The type of an element, and its content."""

    kind: int
    content: memoryview


def read_matlab_map(path: Path) -> Integer[np.ndarray, "height width"]:
    """The map in `GTcls.Segmentation`, `GTinst.Segmentation` or `S`.

    Raises:
        DataError: If the file cannot be read or has no such map of whole numbers; names it.
    """
    try:
        found = _map_in(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (_DamagedError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: no readable MATLAB file with the struct GTcls or GTinst or the variable S "
                        f"({error}): copy it again") from error  # fmt: skip
    whole = np.issubdtype(found.dtype, np.integer)
    if found.ndim == 2 and np.issubdtype(found.dtype, np.floating):
        with np.errstate(invalid="ignore"):
            rounded = np.nan_to_num(np.round(found))  # MATLAB's own number type
        if np.array_equal(found, rounded) and bool((np.abs(rounded) < 2**53).all()):
            found, whole = rounded.astype(np.int64), True
    if found.ndim != 2 or not whole:
        raise DataError(f"{path}: expected a map of whole numbers, got {found.dtype} of {found.shape}")
    return found


def _map_in(content: bytes) -> Array:
    """The first of the wanted variables, in the order in which they are named here."""
    order = _byte_order(content)
    variables: dict[str, tuple[int, tuple[int, ...], Iterator[_Element]]] = {}
    for element in _elements(memoryview(content)[HEADER:], order):
        matrix = _unpacked(element, order) if element.kind == COMPRESSED else element
        if matrix.kind != MATRIX:
            continue
        _check_parts(matrix, order, DEEPEST)
        inside = _elements(matrix.content, order)
        kind, shape, name = _described(inside, order)
        if name in (*STRUCTS, MAP):
            variables.setdefault(name, (kind, shape, inside))
    for name in STRUCTS:
        if name in variables:
            return _field(variables[name], order)
    if MAP in variables:
        return _numbers(*variables[MAP], order)
    raise _DamagedError("it has none of them")


def _byte_order(content: bytes) -> str:
    """Of the numbers in the file, as `struct` writes it."""
    if len(content) < HEADER:
        raise _DamagedError(f"{len(content)} bytes are too few")
    if content[:4] == HDF5 or content[124:128] in (b"\x00\x02IM", b"\x02\x00MI"):
        raise _DamagedError("it is of version 7.3, which is another format: in MATLAB, save it with the option -v7")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise _DamagedError("it has no header of a MATLAB file of version 5 to 7; one of version 4 must be saved again")
    return order


def _elements(content: memoryview, order: str) -> Iterator[_Element]:
    """Each element of a file or of a matrix; of no more bytes than there are."""
    at = 0
    for _ in range(MAX_FIELDS * 4):
        if at + TAG > len(content):
            return
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # a small one: two bytes of size, two of type, then up to four bytes of content
            kind, size, begin, after = kind & 0xFFFF, kind >> 16, at + 4, at + TAG
            if size > 4:
                raise _DamagedError(f"a small element says that it has {size} bytes")
        else:
            begin = at + TAG
            after = begin + size if kind == COMPRESSED else begin + -(-size // 8) * 8
        if begin + size > len(content):
            raise _DamagedError(f"an element of {size} bytes is cut off")
        yield _Element(kind, content[begin : begin + size])
        at = after
    raise _DamagedError("it has too many parts")


def _check_parts(matrix: _Element, order: str, depth: int) -> None:
    """Also of what is not read from here on: damage there says that the file is not what it was."""
    for element in _elements(matrix.content, order):
        if element.kind == MATRIX and depth:
            _check_parts(element, order, depth - 1)
        elif element.kind not in NUMBERS and element.kind not in TEXTS:
            raise _DamagedError(f"it has a part of the unknown type {element.kind}")


def _unpacked(element: _Element, order: str) -> _Element:
    """The one element in a compressed one, of which no more is unpacked than its tag says."""
    unpacker = zlib.decompressobj()
    kind, size = struct.unpack(f"{order}II", unpacker.decompress(element.content, TAG))
    if kind >> 16 or size > MAX_BYTES:
        raise _DamagedError(f"a compressed variable says that it has {size} bytes")
    content = unpacker.decompress(unpacker.unconsumed_tail, size) if size else b""
    rest = unpacker.decompress(unpacker.unconsumed_tail, 1)  # up to the checksum
    if len(content) < size or rest or not unpacker.eof:
        raise _DamagedError("a compressed variable is cut off")
    return _Element(kind, memoryview(content))


def _described(inside: Iterator[_Element], order: str) -> tuple[int, tuple[int, ...], str]:
    """Class, shape and name of a matrix, which are its first three elements."""
    flags, shape, name = (next(inside, None) for _ in range(3))
    if flags is None or shape is None or name is None or flags.kind != UINT32 or shape.kind != INT32:
        raise _DamagedError("a variable does not say what it is")
    if len(flags.content) != 8 or len(shape.content) % 4 or not 2 <= len(shape.content) // 4 <= 32:
        raise _DamagedError("a variable does not say what it is")
    (said,) = struct.unpack_from(f"{order}I", flags.content)
    if said & COMPLEX:
        raise _DamagedError("a variable has complex numbers")
    sides = struct.unpack(f"{order}{len(shape.content) // 4}i", shape.content)
    return said & 0xFF, sides, bytes(name.content).decode("latin-1")


def _field(variable: tuple[int, tuple[int, ...], Iterator[_Element]], order: str) -> Array:
    """`Segmentation` of a struct of one element."""
    kind, shape, inside = variable
    length, names = next(inside, None), next(inside, None)
    if kind != STRUCT or any(side != 1 for side in shape) or length is None or names is None:
        raise _DamagedError("GTcls or GTinst is no struct")
    if length.kind != INT32 or len(length.content) != 4:
        raise _DamagedError("a struct does not say how long the names of its fields are")
    (longest,) = struct.unpack(f"{order}i", length.content)
    if not 1 <= longest <= 64 or len(names.content) // longest > MAX_FIELDS:
        raise _DamagedError("a struct has names of fields that cannot be")
    text = bytes(names.content)
    fields = [text[k : k + longest].split(b"\0")[0].decode("latin-1") for k in range(0, len(text), longest)]
    for name, element in zip(fields, inside, strict=False):
        if name == FIELD:
            if element.kind != MATRIX:
                break
            parts = _elements(element.content, order)
            kind, shape, _ = _described(parts, order)
            return _numbers(kind, shape, parts, order)
    raise _DamagedError(f"GTcls or GTinst has no field {FIELD} that can be read")


def _numbers(kind: int, shape: tuple[int, ...], inside: Iterator[_Element], order: str) -> Array:
    """The values of a matrix of numbers, which are stored column by column; sides of one are left out."""
    values = next(inside, None)
    if kind not in (*FLOATS, *INTEGERS) or values is None or values.kind not in NUMBERS:
        raise _DamagedError("the map is no matrix of numbers")
    stored = np.dtype(order + NUMBERS[values.kind])
    if kind in INTEGERS and stored.kind == "f":
        raise _DamagedError("the map has whole numbers that are stored as floats")
    count = 1
    for side in shape:
        count *= side
    if min(shape) < 0 or len(values.content) != count * stored.itemsize:
        raise _DamagedError(f"the map says that it is of {shape} numbers and has {len(values.content)} bytes")
    array = np.frombuffer(values.content, stored).reshape(shape, order="F")
    if array.ndim > 2:
        array = array.squeeze()
    return np.ascontiguousarray(array, stored.newbyteorder("="))
