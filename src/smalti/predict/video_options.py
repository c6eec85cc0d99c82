"""What can be asked of videos, and how they and their answers are named."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
                            ".wmv", ".flv", ".ogv", ".3gp", ".y4m"})  # fmt: skip
ENDINGS = {"overlay": "_overlay.mp4", "labels": "_labels.mkv"}
CONTAINERS = {"overlay": {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}, "labels": {".mkv": "matroska"}}
"""FFmpeg's names by suffix, for each kind of answer."""
Ending = Literal["complete", "interrupted", "broken"]
_NO_FILE = re.compile(r"camera:\d+|/dev/video\d+|[a-z][a-z0-9+.-]+://.+")


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How a video is answered.

    `show`: "overlay" draws classes over the frames (H.264, with sound); "labels" writes the values of index masks as
    grey values, without loss and without sound. `smoothing`: weight of the past in the average of the probabilities,
    from 0 (each frame by itself) to below 1; a cut begins anew. `every`: the network looks at every so-manieth frame
    and at the first of each scene, and its answer stands until the next.
    """

    show: Literal["overlay", "labels"] = "overlay"
    smoothing: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: If a value is outside.
        """
        if self.show not in ENDINGS:
            raise ValueError(f"of a video, {' or '.join(ENDINGS)} can be shown, not {self.show}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is from 0 to below 1, got {self.smoothing}")
        if self.every < 1:
            raise ValueError(f"every is 1 (each frame) or more, got {self.every}")


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """What was written: a file that can be played, also where it is not the whole video.

    `ended`: "complete"; "interrupted" by the user; "broken" = the source broke, ended early or lost frames, and
    `problem` says how. `notes` are things worth knowing that went otherwise than asked.
    """

    path: Path
    frames: int
    ended: Ending
    problem: str = ""
    notes: list[str] = field(default_factory=list)


def is_video(source: str) -> bool:
    """Whether this names a camera, a network stream, or a file that by its name is a video."""
    return _NO_FILE.fullmatch(source) is not None or Path(source).suffix.lower() in VIDEO_SUFFIXES


def answer_name(source: str, show: str) -> str:
    """The file name of a video's answer: holiday.mov gives holiday_overlay.mp4, camera:0 camera0_overlay.mp4."""
    stem = re.sub(r"\W+", "", source.rsplit("/", 1)[-1]) if _NO_FILE.fullmatch(source) else Path(source).stem
    return f"{stem or 'stream'}{ENDINGS[show]}"


def container_for(source: str, out: Path, show: str) -> str:
    """FFmpeg's name of the container for an answer at `out`.

    Raises:
        ValueError: If there is none of that suffix, or `out` is the source itself.
    """
    known = CONTAINERS[show]
    if out.suffix.lower() not in known:
        raise ValueError(f"{out}: a video of {show} is written as {', '.join(known)}, not as {out.suffix or 'that'}")
    if Path(source).exists() and out.exists() and Path(source).samefile(out):
        raise ValueError(f"the answer {out} would replace the video that is to be segmented: choose another name")
    return known[out.suffix.lower()]
