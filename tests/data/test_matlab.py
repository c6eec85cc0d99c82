"""MATLAB files, beside SciPy's reader; damaged ones are named and end nothing."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from smalti.data.contract import DataError
from smalti.data.matlab import read_matlab_map

VALUES = np.random.default_rng(0).integers(0, 21, (37, 53))


def sbd(values, struct_name="GTcls"):
    """The struct as the set has it: cells of sparse borders beside the map."""
    borders = np.empty((20, 1), object)
    borders[:] = [[csc_matrix(np.eye(3))]] * 20
    return {struct_name: {"Boundaries": borders, "Segmentation": values, "CategoriesPresent": np.array([1, 3])}}


def sift_flow(values):
    return {"S": values, "names": np.array(["awning", "balcony"], object), "metaData": {"a": 1}}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("content", [sbd, sift_flow, lambda values: sbd(values, "GTinst")])
def test_maps_are_those_that_scipy_reads(tmp_path, content, dtype, compressed):
    path = tmp_path / "a.mat"
    savemat(path, content(VALUES.astype(dtype)), do_compression=compressed)
    read = loadmat(path, squeeze_me=True, struct_as_record=False)
    oracle = read["S"] if "S" in read else read.get("GTcls", read.get("GTinst")).Segmentation
    assert np.array_equal(oracle, VALUES)
    assert np.array_equal(read_matlab_map(path), VALUES)


def test_files_of_other_machines_and_numbers_in_smaller_types(tmp_path):
    """Big-endian, as old workstations wrote; doubles stored as bytes, as MATLAB does."""
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)

    def element(kind, content):
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    flags, shape = element(6, struct.pack(">II", 6, 0)), element(5, struct.pack(">2i", 2, 3))
    small_name = struct.pack(">HH", 1, 1) + b"S\0\0\0"
    matrix = element(14, flags + shape + small_name + element(2, values.tobytes(order="F")))
    (tmp_path / "a.mat").write_bytes(b"MATLAB".ljust(124) + b"\x01\x00MI" + matrix)
    assert np.array_equal(loadmat(tmp_path / "a.mat")["S"], values)
    assert np.array_equal(read_matlab_map(tmp_path / "a.mat"), values)


def test_a_map_of_one_row_stays_a_map(tmp_path):
    savemat(tmp_path / "a.mat", {"S": np.arange(5, dtype=np.uint8)[None]})
    assert read_matlab_map(tmp_path / "a.mat").shape == (1, 5)


@pytest.mark.parametrize(("content", "message"), [
    (b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + bytes(400), "version 7.3.*-v7"),
    (b"\x89HDF\r\n\x1a\n" + bytes(400), "version 7.3.*-v7"),
    (struct.pack("<5i", 0, 20, 20, 0, 2) + b"S\0" + np.zeros(400).tobytes(), "one of version 4 must be saved again"),
    (b"", "0 bytes are too few"), (b"no MATLAB file" * 20, "has no header"),
])  # fmt: skip
def test_other_versions_are_told_apart(tmp_path, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.mat: no readable MATLAB file.*{message}"):
        read_matlab_map(tmp_path / "a.mat")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.mat: cannot be read"):
        read_matlab_map(tmp_path / "a.mat")


@pytest.mark.parametrize("values", [np.full((3, 4), 0.5), np.full((3, 4), np.inf), np.full((3, 4), np.nan),
                                    np.full((3, 4), 1e300), np.zeros((2, 3, 4), np.uint8)])  # fmt: skip
def test_what_is_no_map_is_refused(tmp_path, values):
    savemat(tmp_path / "a.mat", {"S": values})
    with pytest.raises(DataError, match="expected a map of whole numbers"):
        read_matlab_map(tmp_path / "a.mat")


@pytest.mark.parametrize("values", [VALUES * 1j, csc_matrix(np.eye(3)), "text", {"a": 1}])
def test_other_kinds_of_matrices_are_refused(tmp_path, values):
    savemat(tmp_path / "a.mat", {"S": values})
    with pytest.raises(DataError, match=r"a\.mat"):
        read_matlab_map(tmp_path / "a.mat")


def test_a_variable_that_says_that_it_is_huge_is_not_unpacked(tmp_path):
    matrix = struct.pack("<II", 14, 2**31) + bytes(2**24)
    packed = zlib.compress(matrix, 9)
    tag = struct.pack("<II", 15, len(packed))
    (tmp_path / "a.mat").write_bytes(b"MATLAB".ljust(124) + b"\x00\x01IM" + tag + packed)
    with pytest.raises(DataError, match=f"says that it has {2**31} bytes"):
        read_matlab_map(tmp_path / "a.mat")


def test_damage_beside_the_map_is_named(tmp_path):
    """SciPy 1.17 ends the process on this one: the numbers in a cell beside the map have the type 0."""
    buffer = io.BytesIO()
    savemat(buffer, sbd(VALUES.astype(np.uint8)))
    whole = bytearray(buffer.getvalue())
    whole[whole.index(struct.pack("<II", 9, 24))] = 0
    (tmp_path / "a.mat").write_bytes(whole)
    with pytest.raises(DataError, match=r"a\.mat: .*unknown type 0"):
        read_matlab_map(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("content", [sbd, sift_flow])
def test_damage_is_always_named(unchecked, tmp_path, content, compressed):
    """Cut anywhere, or a few bytes changed: a map of the right size or an error, fast; compressed ones never lie."""
    buffer, path, begin = io.BytesIO(), tmp_path / "a.mat", time.process_time()
    savemat(buffer, content(VALUES.astype(np.uint8)), do_compression=compressed)
    whole, generator = buffer.getvalue(), np.random.default_rng(1)
    for trial in range(600):
        damaged = np.frombuffer(whole, np.uint8).copy()
        if trial % 3:
            places = generator.integers(0, len(whole), 1 + trial % 4)
            damaged[places] = generator.integers(0, 256, len(places))
        else:
            damaged = damaged[: generator.integers(0, len(whole))]
        path.write_bytes(damaged.tobytes())
        try:
            found = read_matlab_map(path)
        except DataError:
            continue
        assert found.ndim == 2
        assert not compressed or np.array_equal(found, VALUES)
    assert time.process_time() - begin < 20
