"""A video in, a video of answers out: frame by frame, with its sound, in bounded memory."""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from smalti.containers import Predictions
from smalti.files import replacing
from smalti.labels import LabelSet
from smalti.predict.ahead import ahead
from smalti.predict.smoothing import Cuts, Smoothing
from smalti.predict.video_options import Ending, VideoOptions, VideoResult, container_for
from smalti.predict.video_reading import Piece, SourceError, VideoSource, open_source
from smalti.predict.video_writing import LabelDrawing, OverlayDrawing, VideoWriter
from smalti.predict.writers import NoSuchAnswerError

AHEAD = 4
"""Frames decoded before, and answered after, the one that the network looks at."""
DRAWINGS = {"overlay": OverlayDrawing, "labels": LabelDrawing}

Predict = Callable[[UInt8[Tensor, "3 height width"]], Predictions]
Answered = tuple[Piece, UInt8[np.ndarray, "height width"] | None]


def predict_video(  # noqa: PLR0917  # as many as the house allows
    predict: Predict,
    source: str | Path,
    out: Path,
    labels: LabelSet,
    options: VideoOptions,
    progress: Callable[[int, int], None] | None = None,
) -> VideoResult:
    """Answers each frame of a video, and writes the answers as a video of the same time stamps.

    Decoding and drawing go on beside the network, a few frames before and behind it. Where the source breaks off, or
    the user interrupts (the way to end a camera), what was done until then is finished and kept at `out`.

    Args:
        predict: The network, for one RGB picture; called from a thread of its own.
        source: A file, a camera (`camera:0` or `/dev/video0`; Linux), or an address (rtsp://, http://).
        out: The file to write; .mp4, .mov or .mkv for overlays, .mkv for labels.
        labels: What the answers' label ids mean.
        options: See `VideoOptions`.
        progress: Called with (frames done, frames in all; the frames done where nobody knows).

    Raises:
        ValueError: If the source is no video, `out` is no such file or the source itself, PyAV is missing, or the
            network does not answer what is asked for. Nothing is written, and what stood at `out` is still there.
        Exception: Whatever `predict` raises; the frames before it are kept at `out`.
    """
    container = container_for(str(source), out, options.show)
    with closing(open_source(str(source))) as video, replacing(out) as part:
        writer = VideoWriter(part, container, video, DRAWINGS[options.show](labels, video.size))
        error = _write_all(predict, video, writer, options, progress or (lambda done, total: None))
        writer.finish()
        if error is not None and not writer.frames:
            raise error
    ended, problem = _ending(error, video, writer)
    notes = [*writer.notes, *video.notes()]
    return VideoResult(path=out, frames=writer.frames, ended=ended, problem=problem, notes=notes)


def _write_all(
    predict: Predict,
    video: VideoSource,
    writer: VideoWriter,
    options: VideoOptions,
    progress: Callable[[int, int], None],
) -> BaseException | None:
    """Decodes, predicts and draws, each in its thread, until the end; answers what ended it before."""
    try:
        with closing(ahead(_answered(predict, ahead(video.pieces(), AHEAD), options), AHEAD)) as answered:
            for piece, semantic in answered:
                writer.write(piece, semantic)
                if semantic is not None:
                    progress(writer.frames, max(writer.frames, video.frames))
    except BaseException as error:  # whatever it is, what was done is finished first
        return error
    return None


def _answered(
    predict: Predict, pieces: Generator[Piece, None, None], options: VideoOptions
) -> Generator[Answered, None, None]:
    cuts, smoothing = Cuts(), Smoothing(options.smoothing) if options.smoothing else None
    held, since = None, 0
    with closing(pieces):
        for piece in pieces:
            if piece.picture is None:
                yield piece, None
                continue
            begins = cuts(piece.picture)
            since += 1
            if held is None or begins or since >= options.every:
                answer = predict(torch.from_numpy(piece.picture).permute(2, 0, 1))
                held, since = _semantic(smoothing(answer, begins) if smoothing else answer), 0
            yield piece, held


def _semantic(answer: Predictions) -> UInt8[np.ndarray, "height width"]:
    if answer.semantic is None:
        raise NoSuchAnswerError("this network does not know the classes of pixels: a video of them cannot be made")
    return answer.semantic.cpu().numpy()


def _ending(error: BaseException | None, video: VideoSource, writer: VideoWriter) -> tuple[Ending, str]:
    """How it ended, and the problem in words.

    Raises:
        BaseException: `error`, unless it is of the source or the user's wish to end.
    """
    if error is None or (isinstance(error, KeyboardInterrupt) and video.live):
        return "complete", ""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ""
    if isinstance(error, SourceError):
        return "broken", str(error)
    error.add_note(f"the {writer.frames} frames before it are kept")
    raise error
