"""Answers as a video, with the sound of the source."""

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from smalti.containers import Size
from smalti.draw.legend import with_legend
from smalti.draw.overlay import file_values, overlay
from smalti.labels import LabelSet
from smalti.predict.video_reading import AnyPacket, Piece, VideoSource

_MPEG4_TICKS = Fraction(1, 60000)
"""A second has at most 65535 ticks there; this many fit the usual frame rates."""
_BT709 = 1
_LIMITED, _FULL = 1, 2
_AAC_RATE = 48000

Labels = UInt8[np.ndarray, "height width"]


class Drawing(ABC):
    """What a frame of the answer looks like, and how it is encoded."""

    keeps_sound: bool

    @abstractmethod
    def stream(self, container: OutputContainer, source: VideoSource) -> VideoStream:
        """A stream of the container for these frames, ready to encode."""

    @abstractmethod
    def frame(self, picture: UInt8[np.ndarray, "height width 3"], labels: Labels) -> VideoFrame:
        """The frame for a picture and its answer."""


class OverlayDrawing(Drawing):
    """Classes in colour over the picture, all of them in a legend below: H.264.

    The encoder takes even sizes only: an odd one gets one more row or column, a copy of the last.
    """

    keeps_sound = True

    def __init__(self, label_set: LabelSet, size: Size) -> None:
        self.label_set, self.size = label_set, size
        entries = list(zip(label_set.names, label_set.colors, strict=True))
        self.canvas = with_legend(np.zeros((*size, 3), np.uint8), entries)

    def stream(self, container: OutputContainer, source: VideoSource) -> VideoStream:
        """See `Drawing`."""
        best = "libx264" in av.codecs_available
        # frames that look ahead would need a start before 0 and lengths that uneven time stamps cannot give
        options = {"preset": "veryfast", "crf": "20", "bf": "0"} if best else {"qscale": "3"}
        stream: VideoStream = container.add_stream("libx264" if best else "mpeg4", source.rate, options)
        stream.height, stream.width = (n + n % 2 for n in self.canvas.shape[:2])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = source.time_base if best else max(source.time_base, _MPEG4_TICKS)
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        context.sample_aspect_ratio = source.pixel_aspect
        return stream

    def frame(self, picture: UInt8[np.ndarray, "height width 3"], labels: Labels) -> VideoFrame:
        """See `Drawing`."""
        drawn = self.canvas.copy()
        drawn[: self.size[0], : self.size[1]] = overlay(picture, labels, self.label_set)
        even = np.pad(drawn, [(0, drawn.shape[0] % 2), (0, drawn.shape[1] % 2), (0, 0)], mode="edge")
        return VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )


class LabelDrawing(Drawing):
    """The values of index masks as grey values, without loss: FFV1, without sound, the class table in the header."""

    keeps_sound = False

    def __init__(self, label_set: LabelSet, size: Size) -> None:
        self.label_set, self.size = label_set, size
        self.values = file_values(label_set)
        self.format = "gray" if self.values.dtype == np.uint8 else "gray16le"

    def stream(self, container: OutputContainer, source: VideoSource) -> VideoStream:
        """See `Drawing`."""
        container.metadata["labels"] = json.dumps(self.label_set.to_json())
        stream: VideoStream = container.add_stream("ffv1", source.rate, {"level": "3", "g": "1"})
        stream.height, stream.width = self.size
        stream.pix_fmt = self.format
        stream.codec_context.time_base = source.time_base
        stream.codec_context.color_range = _FULL
        return stream

    def frame(self, picture: UInt8[np.ndarray, "height width 3"], labels: Labels) -> VideoFrame:
        """See `Drawing`."""
        return VideoFrame.from_ndarray(self.values[labels], format=self.format)


@contextmanager
def _encoding() -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise OSError(f"the answer cannot be encoded or written: {error.strerror or type(error).__name__}") from error


class VideoWriter:
    """Writes frames with the source's time stamps, and its sound as it is.

    All of it raises OSError if the file cannot be written, or the encoder does not take frames of that size.
    """

    @_encoding()
    def __init__(self, path: Path, container_format: str, source: VideoSource, drawing: Drawing) -> None:
        self.frames = 0
        self.notes: list[str] = []
        self._drawing, self._time_base = drawing, source.time_base
        self._container = av.open(str(path), "w", format=container_format)
        self._stream = drawing.stream(self._container, source)
        self._sound: dict[int, SoundTrack] = {}
        for stream in source.sound if drawing.keeps_sound else ():
            self._add_sound(stream, source.start)

    @_encoding()
    def write(self, piece: Piece, labels: Labels | None) -> None:
        """Draws a frame (a piece without a picture has none), and copies its sound."""
        for packet in piece.sound:
            if packet.stream_index in self._sound:
                self._container.mux(self._sound[packet.stream_index].packets(packet))
        if piece.picture is None or labels is None:
            return
        frame = self._drawing.frame(piece.picture, labels)
        frame.pts, frame.time_base, frame.duration = piece.time, self._time_base, piece.duration
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    @_encoding()
    def finish(self) -> None:
        """Writes what the encoders still hold and closes the file: it can be played from now on."""
        try:
            if self.frames:
                for track in self._sound.values():
                    self._container.mux(track.rest())
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _add_sound(self, stream: AudioStream, start: Fraction) -> None:
        name = self._container.format.name
        if _holds(name, stream):
            self._sound[stream.index] = CopiedSound(self._container, stream, start)
        elif stream.codec_context is None:  # of a kind that this PyAV cannot decode, whatever the types say
            self.notes.append(
                f"sound track {stream.index} is left out: it can be neither copied into {name} nor decoded"
            )
        else:
            self._sound[stream.index] = EncodedSound(self._container, stream, start)
            self.notes.append(f"sound track {stream.index} ({stream.codec_context.name}) does not fit into {name}: "
                              "it is encoded anew as AAC")  # fmt: skip


def _holds(container_format: str, stream: AudioStream) -> bool:
    """Whether such a container takes this kind of sound: found out by writing the header of an empty one."""
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


class SoundTrack(ABC):
    """One track of sound on its way from the source to the file."""

    @abstractmethod
    def packets(self, packet: AnyPacket) -> list[AnyPacket]:
        """What to write for a packet of the source."""

    def rest(self) -> list[AnyPacket]:
        """What is still held back at the end."""
        return []


class CopiedSound(SoundTrack):
    """Packets as they are, on the clock of the frames."""

    def __init__(self, container: OutputContainer, stream: AudioStream, start: Fraction) -> None:
        """`start` of the source, in seconds."""
        self._stream = container.add_stream_from_template(stream)
        self._shift = round(start / (stream.time_base or Fraction(1, 1000)))
        self._last: int | None = None

    def packets(self, packet: AnyPacket) -> list[AnyPacket]:
        """See `SoundTrack`; one without a time, or from before the last, is of a broken file and left out."""
        if packet.dts is None or packet.pts is None or (self._last is not None and packet.dts <= self._last):
            return []
        self._last = packet.dts
        packet.pts, packet.dts = packet.pts - self._shift, packet.dts - self._shift
        packet.stream = self._stream
        return [packet]


class EncodedSound(SoundTrack):
    """Decoded and encoded as AAC, for containers that do not hold what the source has."""

    def __init__(self, container: OutputContainer, stream: AudioStream, start: Fraction) -> None:
        """See `CopiedSound`."""
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"  # which all players know
        self._stream: AudioStream = container.add_stream("aac", _AAC_RATE, layout=layout)
        self._shift = round(start / (stream.time_base or Fraction(1, 1000)))

    def packets(self, packet: AnyPacket) -> list[AnyPacket]:
        """See `SoundTrack`; what cannot be decoded is left out."""
        made: list[AnyPacket] = []
        try:
            frames = packet.decode()
        except FFmpegError:
            return made
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            if frame.pts is not None:
                frame.pts -= self._shift
            made += self._stream.encode(frame)
        return made

    def rest(self) -> list[AnyPacket]:
        """See `SoundTrack`."""
        return list(self._stream.encode(None))
