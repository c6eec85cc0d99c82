"""Frames and sound from video files, cameras and network streams."""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from smalti.containers import Size

try:
    import av
    from av.container import InputContainer
    from av.error import ArgumentError, FFmpegError
    from av.packet import Packet
    from av.stream import Disposition
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
except ImportError as missing:
    raise ValueError('videos and cameras need PyAV: pip install "smalti[video]"') from missing

if TYPE_CHECKING:
    AnyPacket = Packet[Any]
else:
    AnyPacket = Packet  # generic for type checkers only

_DEVICE = re.compile(r"(?:camera:|/dev/video)(\d+)")
_OPENING, _READING = 10.0, 30.0
"""Seconds that a camera or a network stream may keep us waiting."""
_NO_VIDEOS = re.compile(r"image2|.*_pipe|tty")
"""FFmpeg's names for pictures and text."""
_KNOW_THEIR_LENGTH = frozenset({"mov", "matroska", "avi", "flv"})
"""Containers whose header says how long they are; of others the length is a guess."""
_MISSING = 0.5
"""Seconds that may be missing at the end: headers round, and count the last frame or do not."""
_HIGH_DEFINITION = 720
_UNSPECIFIED = 2
_MOST_SOUND = 256


REFERRING = frozenset({"hls", "applehttp", "concat", "dash", "imf", "sdp", "rtsp", "rtp", "sap", "lavfi", "avisynth",
                       "vapoursynth", "webm_dash_manifest"})  # fmt: skip
"""FFmpeg's names for files that are lists of other files, addresses or scripts."""


class SourceError(ValueError):
    """The source broke or ended early; what came before it was good."""


@dataclass(frozen=True)
class Piece:
    """A frame, upright, and the packets of sound that came before it in the file.

    `time` and `duration` are in ticks of the source's `time_base`, `time` from the start of the source; `duration` 0 =
    unknown. No picture = sound only.
    """

    picture: UInt8[np.ndarray, "height width 3"] | None = None
    time: int = 0
    duration: int = 0
    sound: Sequence[AnyPacket] = ()


class VideoSource:
    """An opened video, to be closed. `size` is that of every frame, upright; `rate` is frames a second."""

    def __init__(self, container: InputContainer, name: str, live: bool) -> None:
        """Reads up to the first frame; `live` = there is no end but the user's.

        Raises:
            ValueError: If there is no video stream, or no frame in it.
        """
        self.container, self.name, self.live = container, name, live
        self._format = container.format.name.partition(",")[0]
        self.video = _video_stream(container, name)
        self.sound = tuple(container.streams.audio)
        self.time_base = self.video.time_base or Fraction(1, 1000)
        rate = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        self.rate = min(max(Fraction(rate), Fraction(1)), Fraction(240))
        self.start = Fraction(max(container.start_time or 0, 0), 1_000_000)
        self._resized = 0
        self._broken = 0
        self._problem: FFmpegError | None = None
        self._shape: tuple[int, int, int] | None = None
        self._reached = Fraction(0)
        self._last = -1
        self._pieces = self._read()
        self._first = self._up_to_a_picture()
        assert self._first.picture is not None
        self.size: Size = self._first.picture.shape[:2]
        self._in_use = False

    def close(self) -> None:
        """Lets go of the file or the device."""
        if not self._in_use:  # by a thread that a camera never answered
            self.container.close()

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height, upright."""
        aspect = Fraction(self.video.sample_aspect_ratio or 1) or Fraction(1)
        return 1 / aspect if self._shape is not None and self._shape[2] % 2 else aspect

    @property
    def frames(self) -> int:
        """How many there are as far as the header says or lets guess; 0 = nobody knows."""
        if self.video.frames and self._format != "avi":
            return self.video.frames
        return round((self._stated() or 0) * self.rate)

    def notes(self) -> list[str]:
        """What went otherwise than one would expect, after the pieces."""
        height, width = self.size
        return [f"{self._resized} frames have another size than the first: they are scaled to {width} x {height}"
                ] if self._resized else []  # fmt: skip

    def pieces(self) -> Generator[Piece, None, None]:
        """Everything, once, in the file's order; a frame that cannot be decoded is left out.

        Raises:
            SourceError: After the last frame, if some could not be decoded or the source ends early.
        """
        self._in_use = True
        try:
            yield self._first
            yield from self._pieces
        finally:
            self._in_use = False
        self._check_end()

    def _up_to_a_picture(self) -> Piece:
        sound: list[AnyPacket] = []
        for piece in self._pieces:
            sound += piece.sound
            if piece.picture is not None:
                return Piece(piece.picture, piece.time, piece.duration, sound)
        why = f": {_short(self._problem)}" if self._problem else ""
        raise ValueError(f"{self.name}: no frame of this video can be decoded{why}")

    def _read(self) -> Iterator[Piece]:
        sound: list[AnyPacket] = []
        for packet in self._packets():
            if packet is None or packet.stream is self.video:
                for frame in self._decoded(packet):
                    yield Piece(self._upright(frame), self._tick(frame), frame.duration, sound)
                    sound = []
            elif packet.stream in self.sound:
                sound.append(packet)
                if len(sound) == _MOST_SOUND:
                    yield Piece(sound=sound)
                    sound = []
        yield Piece(sound=sound)

    def _packets(self) -> Iterator[AnyPacket | None]:
        """Those of all streams; None = what the decoder still holds, where the file breaks off."""
        try:
            for packet in self.container.demux():
                if packet.pts is not None and packet.time_base:
                    self._reached = max(self._reached, (packet.pts + (packet.duration or 0)) * packet.time_base)
                yield packet
        except FFmpegError as error:
            self._problem = error
            yield None

    def _decoded(self, packet: AnyPacket | None) -> list[VideoFrame]:
        try:
            return self.video.decode(packet)
        except FFmpegError:
            self._broken += 1
            return []

    def _upright(self, frame: VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """As RGB, turned by its display matrix; of the first frame's size, should the size change on the way."""
        if self._shape is None:
            self._shape = (frame.width, frame.height, round(frame.rotation / 90))
        width, height, turns = self._shape
        self._resized += (frame.width, frame.height) != (width, height)
        unknown = frame.colorspace == _UNSPECIFIED
        colors = ("ITU709" if frame.height >= _HIGH_DEFINITION else "ITU601") if unknown else None
        rgb: Any = frame.reformat(width, height, "rgb24", src_colorspace=colors).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, turns))

    def _tick(self, frame: VideoFrame) -> int:
        """Its time stamp from the start, later than that of the frame before even in files that say otherwise."""
        if frame.pts is None:
            tick = self._last + max(1, round(1 / (self.rate * self.time_base)))
        else:
            tick = frame.pts - round(self.start / self.time_base)
        self._last = max(tick, self._last + 1)
        return self._last

    def _stated(self) -> Fraction | None:
        """Seconds that the header gives, or FFmpeg guesses."""
        if self._format == "avi":  # its frames are ticks; its duration is cut to what is there
            return self.video.frames * self.time_base
        duration = self.container.duration
        return None if self.live or duration is None else Fraction(duration, 1_000_000)

    def _check_end(self) -> None:
        reached = self._reached - self.start
        if self._problem is not None:
            raise SourceError(f"{self.name}: broken or cut off after {float(reached):.1f} s: {_short(self._problem)}")
        stated = self._stated() if self._format in _KNOW_THEIR_LENGTH else None
        if stated is not None and reached < stated - max(Fraction(_MISSING), 3 / self.rate):
            raise SourceError(f"{self.name}: ends early: {float(reached):.1f} s of {float(stated):.1f} s are there")
        if self._broken:
            raise SourceError(f"{self.name}: frames that cannot be decoded and are left out: {self._broken}")


def open_source(source: str) -> VideoSource:
    """Opens a file, a camera (`camera:0` or `/dev/video0`; Linux) or an address (rtsp://, http://).

    Raises:
        ValueError: If it is missing, empty, no video, or cannot be decoded; names it.
    """
    try:
        container = _opened(source)
    except FFmpegError as error:
        lists = " (a list of other files is not followed)" if isinstance(error, ArgumentError) else ""
        raise ValueError(f"{source}: not a video that can be opened: {_short(error)}{lists}") from error
    try:
        if _NO_VIDEOS.fullmatch(container.format.name):
            raise ValueError(f"{source}: a picture or text and no video ({container.format.long_name})")
        endless = "://" in source and container.duration is None
        return VideoSource(container, source, endless or _DEVICE.fullmatch(source) is not None)
    except BaseException:
        container.close()
        raise


def _opened(source: str) -> InputContainer:
    if device := _DEVICE.fullmatch(source):
        path = Path(f"/dev/video{device[1]}")
        if not path.exists():
            found = ", ".join(str(p) for p in sorted(path.parent.glob("video[0-9]*"))) or "none"
            raise ValueError(f"{source}: there is no camera at {path}; found: {found}")
        return av.open(str(path), format="v4l2", timeout=(_OPENING, _READING))
    if "://" in source:
        return av.open(source, timeout=(_OPENING, _READING))
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{source}: no such video file")
    if path.stat().st_size == 0:
        raise ValueError(f"{source}: the file is empty (0 bytes): copy it again")
    # An absolute path is never taken for a protocol; and a file is not more than itself, whatever it says.
    formats = ",".join(sorted(name for name in av.formats_available if not REFERRING.intersection(name.split(","))))
    return av.open(str(path.absolute()), options={"protocol_whitelist": "file", "format_whitelist": formats})


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # a cover of an album
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise ValueError(f"{name}: no video in this file, only {kinds}")


def _short(error: FFmpegError) -> str:
    return error.strerror or type(error).__name__
