"""What an animated WebP says of itself, before a decoder believes it."""

import io
import os
import struct

LONGEST_SIDE = 16383
"""Pixels of a side that a frame can have in this format."""
CAREFREE = 2**22
"""Pixels of a canvas that is not compared with its frames."""
FRAME_SHARE = 64
"""A canvas may be so many times larger than its largest frame."""
MAX_CHUNKS = 100_000


def check_canvas(file: io.BytesIO | io.BufferedReader) -> None:
    """Reads the headers of an animated WebP, and leaves the file at its beginning; other files pass.

    A decoder reserves the whole canvas several times, however small the frames are: a damaged canvas of a file of 492
    bytes took 3.4 GiB and a minute.

    Raises:
        ValueError: If the canvas is none that its frames could fill.
    """
    try:
        start = file.read(30)
        if start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and len(start) == 30:
            _compare(_size(start[24:30]), _largest_frame(file))
    finally:
        file.seek(0)


def _size(numbers: bytes) -> tuple[int, int]:
    """(height, width) of two sides with three bytes each, which are stored less one."""
    width, height = int.from_bytes(numbers[:3], "little") + 1, int.from_bytes(numbers[3:6], "little") + 1
    return height, width


def _largest_frame(file: io.BytesIO | io.BufferedReader) -> int | None:
    """Pixels of the largest frame; None for a still picture."""
    largest = None
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            break
        name, length = struct.unpack("<4sI", header)
        content = file.read(min(length, 12))
        if name == b"ANMF" and len(content) == 12:
            height, width = _size(content[6:])
            largest = max(largest or 0, height * width)
        file.seek(length + length % 2 - len(content), os.SEEK_CUR)
    return largest


def _compare(canvas: tuple[int, int], largest_frame: int | None) -> None:
    height, width = canvas
    if largest_frame is None:  # the decoder itself compares the canvas with the one picture
        return
    pixels = height * width
    if max(canvas) > LONGEST_SIDE or (pixels > CAREFREE and pixels > FRAME_SHARE * largest_frame):
        raise ValueError(f"a WebP animation of {height} x {width} pixels whose largest frame has {largest_frame}")
