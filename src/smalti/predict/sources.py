"""Sources in, answers out: pictures and folders, rasters of any size, videos and cameras, each on its way."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from smalti.data.value_range import ValueRange
from smalti.predict.folder import (
    answer_files,
    answer_names,
    check_targets,
    find_files,
    open_journal,
    picture_jobs,
    problem_of,
    summaries_of,
)
from smalti.predict.gdal import has_rasterio
from smalti.predict.georeference import unread_georeference
from smalti.predict.geotiff import count_pixels, is_raster, needs_gdal, open_raster
from smalti.predict.journal import Job, Journal
from smalti.predict.loading import load
from smalti.predict.options import Options
from smalti.predict.predictor import Predictor
from smalti.predict.raster import predict_raster, write_preview
from smalti.predict.raster_polygons import require_vector_packages, write_raster_polygons
from smalti.predict.tiling import Tiles
from smalti.predict.value_ranges import choose_value_ranges
from smalti.predict.video import predict_video
from smalti.predict.video_options import VideoOptions, answer_name, is_video
from smalti.predict.writers import kinds_of

Progress = Callable[[int, int], None]
LABELS, PREVIEW, GEOJSON, GEOPACKAGE = "_labels.tif", "_preview.jpg", ".geojson", ".gpkg"
"""Endings of a raster's answers."""
RASTER_KINDS = ("labels", "overlay", "polygons")
MANY_FRAMES = 1000
"""Those of a video."""


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

    Of rasters (georeferenced, or above 67 megapixels) labels are written, as GeoTIFF with a preview, and polygons; of
    videos the overlay, or labels.

    Raises:
        ValueError: If a source does not exist, there is no model, or it does not know what is asked for.
    """
    videos = [source for source in sources if is_video(source)]
    paths = [Path(source) for source in sources if not is_video(source)]
    files = find_files(paths, out) if paths else []
    rasters = [file for file in files if (is_raster if has_rasterio() else needs_gdal)(file)]
    in_parts = set(rasters)
    pictures = [file for file in files if file not in in_parts]
    kinds = kinds_of(show)
    if options.bands and pictures:
        telling.line(f"--bands is for rasters: {len(pictures)} pictures are taken in their own colours")
    if not has_rasterio() and (georeferenced := [file for file in pictures if is_raster(file)]):
        telling.line(unread_georeference(georeferenced))
    check_targets(pictures, out)
    _check_targets(rasters, videos, [*paths, *pictures], out)
    if "polygons" in kinds:
        _check_polygons(rasters, pictures, out)
    wishes = VideoOptions(smoothing=options.smoothing, every=options.every)
    outcome = Outcome(asked=len(pictures) + len(rasters) + len(videos))
    with open_journal(Path(model), kinds, out, options) as journal:
        work = MANY_FRAMES * len(videos) + sum(map(count_pixels, rasters)) // Tiles().size ** 2
        picture_work = picture_jobs(pictures, kinds)
        raster_work = [
            _raster_job(file, name, kinds) for file, name in zip(rasters, answer_names(rasters), strict=True)
        ]
        video_work = [_video_job(video, kinds) for video in videos]
        if not options.overwrite:
            summaries = summaries_of(kinds) if pictures else []
            journal.check_replaceable([*picture_work, *raster_work, *video_work], summaries)
        ranges = choose_value_ranges(Path(model), files, in_parts, options=options, journal=journal, say=telling.line)
        answering = _Answering(
            model=model, work=work, journal=journal, out=out, kinds=kinds, telling=telling, options=options,
            video_options=wishes, outcome=outcome, value_ranges=ranges,
        )  # fmt: skip
        if pictures:
            with telling.bar("pictures") as progress:
                failed = answer_files(
                    answering.load, picture_work, kinds, journal=journal, value_ranges=ranges, progress=progress
                )
            outcome.failed += failed
            outcome.answered += len(pictures) - len(failed)
        for job in raster_work:
            answering.attempt(str(job.file), partial(answering.raster, job))
        for source, job in zip(videos, video_work, strict=True):
            answering.attempt(source, partial(answering.video, source, job))
    return outcome


def _check_targets(rasters: Sequence[Path], videos: Sequence[str], paths: Sequence[Path], out: Path) -> None:
    """Nothing may be written over a source, or twice."""
    answers = [out / f"{name}{ending}" for name in answer_names(rasters) for ending in (LABELS, PREVIEW)]
    answers += [out / answer_name(video, show) for video in videos for show in ("overlay", "labels")]
    sources = {path.resolve() for path in (*rasters, *paths, *map(Path, videos))}
    for answer in answers:
        if answer.resolve() in sources:
            raise ValueError(f"the answer {answer} would replace a source: choose another folder with --out")
    twice = {answer for answer, count in Counter(answers).items() if count > 1}
    if twice:
        raise ValueError(f"two sources would both be answered in {min(twice)}: predict them one by one, each with its "
                         "own --out")  # fmt: skip


def _check_polygons(rasters: Sequence[Path], pictures: Sequence[Path], out: Path) -> None:
    """An image and a raster of one name would have one GeoJSON.

    Raises:
        ValueError: If two would, or a package that writes polygons of rasters is missing.
    """
    if rasters:
        require_vector_packages()
    both = set(answer_names(rasters)) & set(answer_names(pictures))
    if both:
        raise ValueError(f"an image and a raster would both be answered in {out / min(both)}{GEOJSON}: predict them "
                         "one by one, each with its own --out")  # fmt: skip


def _raster_job(file: Path, name: str, kinds: Sequence[str]) -> Job:
    endings = (LABELS, PREVIEW, *((GEOJSON, GEOPACKAGE) if "polygons" in kinds else ()))
    return Job.of(file, f"{name}{LABELS}", [f"{name}{ending}" for ending in endings])


def _video_job(source: str, kinds: Sequence[str]) -> Job:
    """Kinds that cannot be written of videos are refused later, one video after the other."""
    name = answer_name(source, "labels" if list(kinds) == ["labels"] else "overlay")
    return Job.of(Path(source), name, (name,))


@dataclass(kw_only=True)
class _Answering:
    """Rasters and videos, one after the other, and the network, which is loaded when one of all sources needs it."""

    model: str | Path
    work: int
    """Of rasters and videos, in pictures: what counts when a runtime is chosen."""
    journal: Journal
    out: Path
    kinds: Sequence[str]
    telling: Telling
    options: Options
    video_options: VideoOptions
    outcome: Outcome
    value_ranges: Mapping[Path, ValueRange]
    """Of files deeper than 8 bits."""
    predictor: Predictor | None = None
    side_by_side: bool = False
    """Whether the predictor is one for many pictures at once."""
    notes: set[str] = field(default_factory=set)
    """What was said of a raster already: it is not said of each."""

    def load(self, pictures: int = 0, side_by_side: bool = False) -> Predictor:
        """For so many pictures, or for the rest."""
        if self.predictor is None or side_by_side != self.side_by_side:
            self.predictor = None  # not both in memory
            execution = replace(self.options.execution, pictures=pictures + self.work, side_by_side=side_by_side)
            self.predictor = load(self.model, execution, self.options.changes)
            self.side_by_side = side_by_side
        self.predictor.views, self.predictor.tiles = self.options.views, self.options.tiles
        return self.predictor

    def attempt(self, source: str, work: Callable[[], str | None]) -> None:
        """Does the work, which says what went wrong; memory and runtimes fail for one source, too."""
        try:
            problem = work()
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            problem = problem_of(source, error)
        if problem is None:
            self.outcome.answered += 1
        else:
            self.outcome.failed.append(problem)

    def raster(self, job: Job) -> None:
        others = [kind for kind in self.kinds if kind not in RASTER_KINDS]
        if others:
            raise ValueError(
                f"of rasters labels and polygons are written, not {', '.join(others)}: choose --show labels,polygons"
            )
        file, (written, preview) = job.file, (self.out / name for name in job.answers[:2])
        if self._is_done(job):
            return
        tiles = self.options.tiles if isinstance(self.options.tiles, Tiles) else Tiles()
        with open_raster(file, self.options.bands, self.value_ranges.get(file)) as raster:
            self._say_once(file, *raster.notes)
            predictor = self.load()
            predictor.tiles = None  # a tile is looked at as it is
            with self._bar("tiles", job) as progress:
                predict_raster(predictor, raster, written, predictor.labels, tiles, progress=progress)
            write_preview(raster, written, preview, predictor.labels)
        if "polygons" in self.kinds:
            _, note = write_raster_polygons(written, self.out / job.answers[2], predictor.labels)
            self._say_once(file, note)
        self.journal.add(job, {})
        self.telling.line(f"{file}: labels in {written}, to be looked at in {preview.name}")

    def _say_once(self, file: Path, *notes: str | None) -> None:
        for note in notes:
            if note is not None and note not in self.notes:
                self.telling.line(f"{file}: {note}")
                self.notes.add(note)

    def video(self, source: str, job: Job) -> str | None:
        """What went wrong, if something did.

        Raises:
            KeyboardInterrupt: Says what is kept.
        """
        show = _shown(self.kinds)
        written = self.out / job.name
        if Path(source).is_file() and self._is_done(job):
            return None
        predictor = self.load()
        wishes = replace(self.video_options, show=show)
        with self._bar("frames", job) as progress:
            result = predict_video(predictor, source, written, predictor.labels, wishes, progress)
        for note in result.notes:
            self.telling.line(f"{source}: {note}")
        if result.ended == "interrupted":
            raise KeyboardInterrupt(f"stopped after {result.frames} frames, which are in {result.path}")
        self.telling.line(f"{source}: {result.frames} frames in {result.path}")
        if not result.problem:
            self.journal.add(job, {})
        return result.problem or None

    @contextmanager
    def _bar(self, unit: str, job: Job) -> Iterator[Progress]:
        """The job is begun with the first tile or frame that is answered; the file takes its place only later."""
        with self.telling.bar(unit) as progress:

            def told(done: int, total: int) -> None:
                self.journal.begin(job)
                progress(done, total)

            try:
                yield told
            finally:  # also of a video that ended early: what there is of it is this package's
                self.journal.leave(job)

    def _is_done(self, job: Job) -> bool:
        done = self.journal.is_done(job)
        if done:
            self.telling.line(f"{job.file}: answered already, in {self.out / job.answers[0]}")
        return done


def _shown(kinds: Sequence[str]) -> Literal["overlay", "labels"]:
    if list(kinds) == ["labels"]:
        return "labels"
    if set(kinds) <= {"labels", "overlay"}:
        return "overlay"
    raise ValueError(f"of videos the overlay or the labels are written, not {', '.join(kinds)}: choose --show overlay")
