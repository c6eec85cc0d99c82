"""Sources in, answers out: pictures and folders, rasters of any size, videos and cameras, each on its way."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from smalti.predict.folder import answer_names, find_files, predict_files
from smalti.predict.geotiff import is_raster, open_raster
from smalti.predict.loading import load
from smalti.predict.options import Options
from smalti.predict.predictor import Predictor
from smalti.predict.raster import predict_raster, write_preview
from smalti.predict.tiling import Tiles
from smalti.predict.video import predict_video
from smalti.predict.video_options import VideoOptions, answer_name, is_video
from smalti.predict.writers import kinds_of

Progress = Callable[[int, int], None]
LABELS, PREVIEW = "_labels.tif", "_preview.jpg"
"""Endings of a raster's answers."""
MANY_FRAMES = 1000
"""That a video or a raster counts for, when a runtime is chosen."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """Where news go: lines of text, and a progress bar for a unit ("pictures", "tiles", "frames")."""

    line: Callable[[str], None]
    bar: Callable[[str], AbstractContextManager[Progress]]


@dataclass(kw_only=True)
class Outcome:
    """How many sources were answered, of how many; and what went wrong, a line each."""

    asked: int = 0
    answered: int = 0
    failed: list[str] = field(default_factory=list)


def predict_sources(
    model: str | Path, sources: Sequence[str], out: Path, show: str, *, telling: Telling, options: Options
) -> Outcome:
    """Answers everything named; one bad source never stops the rest.

    Of rasters (georeferenced, or above 67 megapixels) only labels are written, as GeoTIFF with a preview; of videos the
    overlay, or labels.

    Raises:
        ValueError: If a source does not exist, there is no model, or it does not know what is asked for.
    """
    videos = [source for source in sources if is_video(source)]
    paths = [Path(source) for source in sources if not is_video(source)]
    files = find_files(paths, out) if paths else []
    rasters = [file for file in files if is_raster(file)]
    in_parts = set(rasters)
    pictures = [file for file in files if file not in in_parts]
    kinds = kinds_of(show)
    _check_targets(rasters, videos, paths, out)
    many = len(pictures) + MANY_FRAMES * (len(rasters) + len(videos))
    options = replace(options, execution=replace(options.execution, pictures=many))
    outcome = Outcome(asked=len(pictures) + len(rasters) + len(videos))
    if pictures:
        with telling.bar("pictures") as progress:
            outcome.failed += predict_files(Path(model), pictures, out, show, progress, options=options)
        outcome.answered += len(pictures) - len(outcome.failed)
    if rasters or videos:
        predictor = load(model, options.execution, options.changes)
        predictor.views = options.views
        out.mkdir(parents=True, exist_ok=True)
        for file, name in zip(rasters, answer_names(rasters), strict=True):
            _attempt(
                outcome, file, partial(_raster, predictor, file, out / name, kinds, telling=telling, options=options)
            )
        for source in videos:
            _attempt(outcome, source, partial(_video, predictor, source, out, kinds, telling=telling, options=options))
    return outcome


def _check_targets(rasters: Sequence[Path], videos: Sequence[str], paths: Sequence[Path], out: Path) -> None:
    """Nothing may be written over a source, or twice."""
    answers = [out / f"{name}{ending}" for name in answer_names(rasters) for ending in (LABELS, PREVIEW)]
    answers += [out / answer_name(video, show) for video in videos for show in ("overlay", "labels")]
    sources = {path.resolve() for path in (*rasters, *paths, *map(Path, videos))}
    for answer in answers:
        if answer.resolve() in sources:
            raise ValueError(f"the answer {answer} would replace a source: choose another folder with --out")
    twice = {answer for answer in answers if answers.count(answer) > 1}
    if twice:
        raise ValueError(f"two sources would both be answered in {min(twice)}: predict them one by one, each with its "
                         "own --out")  # fmt: skip


def _attempt(outcome: Outcome, source: object, work: Callable[[], str | None]) -> None:
    try:
        problem = work()
    except (ValueError, OSError) as error:
        problem = str(error)
    if problem is None:
        outcome.answered += 1
    else:
        outcome.failed.append(problem if str(source) in problem else f"{source}: {problem}")


def _raster(
    predictor: Predictor, file: Path, stem: Path, kinds: Sequence[str], *, telling: Telling, options: Options
) -> None:
    others = [kind for kind in kinds if kind not in ("labels", "overlay")]
    if others:
        raise ValueError(f"of rasters the labels are written, not {', '.join(others)}: choose --show labels")
    tiles = options.tiles if isinstance(options.tiles, Tiles) else Tiles()
    predictor.tiles = None  # a tile is looked at as it is
    written = stem.with_name(f"{stem.name}{LABELS}")
    with open_raster(file, options.bands) as raster:
        with telling.bar("tiles") as progress:
            predict_raster(predictor, raster, written, predictor.labels, tiles, progress=progress)
        write_preview(raster, written, stem.with_name(f"{stem.name}{PREVIEW}"), predictor.labels)
    telling.line(f"{file}: labels in {written}, to be looked at in {stem.name}{PREVIEW}")


def _video(
    predictor: Predictor, source: str, out: Path, kinds: Sequence[str], *, telling: Telling, options: Options
) -> str | None:
    """What went wrong, if something did.

    Raises:
        KeyboardInterrupt: Says what is kept.
    """
    show = _shown(kinds)
    wishes = VideoOptions(show=show, smoothing=options.smoothing, every=options.every)
    predictor.tiles = options.tiles
    with telling.bar("frames") as progress:
        result = predict_video(predictor, source, out / answer_name(source, show), predictor.labels, wishes, progress)
    for note in result.notes:
        telling.line(f"{source}: {note}")
    if result.ended == "interrupted":
        raise KeyboardInterrupt(f"stopped after {result.frames} frames, which are in {result.path}")
    telling.line(f"{source}: {result.frames} frames in {result.path}")
    return result.problem or None


def _shown(kinds: Sequence[str]) -> Literal["overlay", "labels"]:
    if list(kinds) == ["labels"]:
        return "labels"
    if set(kinds) <= {"labels", "overlay"}:
        return "overlay"
    raise ValueError(f"of videos the overlay or the labels are written, not {', '.join(kinds)}: choose --show overlay")
