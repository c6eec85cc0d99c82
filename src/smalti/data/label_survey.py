"""What the masks of a data set hold: looked at before anything is learned from them or measured with them."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures
from smalti.data.cache import remembered
from smalti.data.contract import DataError, Dataset, first_few, percent
from smalti.data.mask_smoothing import Blending, Counts, add_counts, count_solid, find_blending, sign_in_set
from smalti.data.masks import LabelledMask, remedy
from smalti.data.pictures import is_turned
from smalti.data.statistics import key_of
from smalti.labels import IGNORED, LabelSet

MUCH = 0.2
"""Share of ignored pixels from which on they are said."""
SAMPLE = 1000
"""Images of a public data set that are looked at, evenly spread; of people's own folders all are."""


@dataclass(frozen=True, kw_only=True)
class LabelSurvey:
    """Counts over the masks of one split."""

    images: int = 0
    looked_at: int = 0
    without_mask: int = 0
    turned_unlike: int = 0
    """Images that their EXIF orientation turns and whose masks have none, or the other way round."""
    pixels: tuple[int, ...] = ()
    """By label id."""
    ignored: int = 0
    readings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many mask files were read how; of people's own folders only, as nothing is to be decided of others."""
    compression: str | None = None
    """What shows that the masks were compressed, though none of them does by itself."""
    problems: tuple[str, ...] = ()
    """Of masks that cannot be used."""

    @property
    def ignored_share(self) -> float:
        """Of all annotated pixels; 0 where there are none."""
        return self.ignored / max(1, self.ignored + sum(self.pixels))


def survey_labels(dataset: Dataset) -> LabelSurvey | None:
    """Looks at the masks of a data set of files; None for others, which cannot be misread.

    The result is remembered until a file changes. Masks that cannot be used are collected, not raised.
    """
    if not isinstance(dataset, AnnotatedPictures):
        return None
    found: dict[str, Any] = remembered("surveys", key_of(dataset), lambda: dataclasses.asdict(_survey(dataset)))
    return LabelSurvey(**{**found, "pixels": tuple(found["pixels"]), "problems": tuple(found["problems"])})


def _survey(dataset: AnnotatedPictures) -> LabelSurvey:
    step = 1 if dataset.is_own_folder else max(1, len(dataset) // SAMPLE)
    places = range(0, len(dataset), step)
    pixels = np.zeros(IGNORED + 1, np.int64)
    readings: Counter[str] = Counter()
    problems = []
    missing = turned_unlike = 0
    blending, values = Blending(0, 0, frozenset()), dict[int, tuple[int, int]]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for look in pool.map(lambda place: _look_at(dataset, place), places):
            if isinstance(look, str):
                problems.append(look)
            elif look is None:
                missing += 1
            else:
                pixels += look.pixels
                readings[look.reading] += dataset.is_own_folder
                turned_unlike += look.is_turned_unlike
                blending |= look.blending
                add_counts(values, look.values)
    return LabelSurvey(
        images=len(dataset),
        looked_at=len(places),
        without_mask=missing,
        turned_unlike=turned_unlike,
        pixels=tuple(pixels[: len(dataset.labels)].tolist()),
        ignored=int(pixels[IGNORED]),
        readings={reading: count for reading, count in readings.items() if count},
        compression=sign_in_set(blending, values) if values else None,
        problems=tuple(problems),
    )


class _Look(NamedTuple):
    pixels: np.ndarray
    """By label id."""
    reading: str
    is_turned_unlike: bool
    blending: Blending
    values: Counts
    """Index values of people's own masks."""


def _look_at(dataset: AnnotatedPictures, index: int) -> _Look | str | None:
    """What a mask holds; a problem in words; None without a mask."""
    try:
        mask: LabelledMask | None = dataset.read_labels(index)
        if mask is None:
            return None
        pixels = np.bincount(mask.ids.ravel(), minlength=IGNORED + 1)
        turned_unlike = _is_turned_unlike(dataset, index)
    except DataError as error:
        return str(error)
    if mask.values is None:
        return _Look(pixels, mask.reading, turned_unlike, Blending(0, 0, frozenset()), {})
    return _Look(pixels, mask.reading, turned_unlike, find_blending(mask.values), count_solid(mask.values))


def _is_turned_unlike(dataset: AnnotatedPictures, index: int) -> bool:
    """Whether only one of image and mask has an EXIF orientation; a broken image is an error only when it is read."""
    item = dataset.items[index]
    if not dataset.is_own_folder or not isinstance(item, AnnotatedPicture) or item.mask is None:
        return False
    try:
        return is_turned(item.picture) != is_turned(item.mask)
    except DataError:
        return False


def label_notes(labels: LabelSet, surveys: Mapping[str, LabelSurvey]) -> Iterator[str]:
    """What a person should know of the labels of some splits (the first is learned from), a line each."""
    readings: Counter[str] = Counter()
    for survey in surveys.values():
        readings.update(survey.readings)
    if readings:
        ways = ", ".join(f"{count} as {reading}" for reading, count in readings.most_common())
        ignored = _ignored_values(labels, readings)
        yield f"masks: {ways}" + (f"; ignored: {ignored}" if ignored else "")
    if turned := sum(survey.turned_unlike for survey in surveys.values()):
        yield (f"of {turned} images only the image or only the mask has an EXIF orientation: that one is turned, the "
               "other is taken as upright")  # fmt: skip
    for split, survey in surveys.items():
        if survey.looked_at < survey.images:
            yield f"{split}: looked at the labels of {survey.looked_at} of {survey.images} images, evenly spread"
        if survey.ignored_share == 1:
            yield f"{split}: all labelled pixels are ignored"
        elif survey.ignored_share > MUCH:
            yield f"{split}: {percent(survey.ignored_share)} of the labelled pixels are ignored"
    yield from _missing_classes(labels, surveys)


def _missing_classes(labels: LabelSet, surveys: Mapping[str, LabelSurvey]) -> Iterator[str]:
    learned, *others = surveys
    if not sum(surveys[learned].pixels):
        return
    missing = {name: k for k, name in enumerate(labels.names) if not surveys[learned].pixels[k]}
    for split in others:
        only_there = [name for name, k in missing.items() if surveys[split].pixels and surveys[split].pixels[k]]
        if only_there:
            yield f"classes that occur in {split}, but not in {learned}, and cannot be learned: {first_few(only_there)}"
        missing = {name: k for name, k in missing.items() if name not in only_there}
    if missing:
        yield f"classes that never occur: {first_few(list(missing))}"


def _ignored_values(labels: LabelSet, readings: Mapping[str, int]) -> str:
    parts = []
    if any(reading in ("index values", "palette numbers") for reading in readings):
        parts.append("value " + first_few([str(value) for value in labels.ignored_values]))
    if any(reading in ("colours", "palette colours") for reading in readings):
        parts.append("no colour" if labels.without_color else f"the colour {labels.no_class_color}")
    return ", ".join(parts)


def unusable_masks(surveys: Sequence[LabelSurvey]) -> str | None:
    """The first mask that cannot be used and why, and the number of the others; None if all can be used."""
    problems = [problem for survey in surveys for problem in survey.problems]
    if not problems:
        return None
    others = f" ({len(problems) - 1} more masks cannot be used: see `smalti data`)" if problems[1:] else ""
    return f"{problems[0]}{others}"


def wrong_labels(labels: LabelSet, surveys: Sequence[LabelSurvey]) -> Iterator[str]:
    """Why class table and masks of all splits cannot be meant as they are.

    A class that never occurs while much is ignored mostly is the class whose value the table does not know.
    """
    if sign := next((survey.compression for survey in surveys if survey.compression), None):
        yield f"{sign}: the masks were smoothed or compressed. {remedy(False)}"
    readings = {reading for survey in surveys for reading in survey.readings}
    if {"1-bit values", "values 0 and 255"} <= readings and IGNORED not in labels.ids:
        yield ("some masks have 1 bit a pixel, others the values 0 and 255, which stand for the same two classes: name "
               'these in labels.json ({"classes": [{"id": 0, …}, {"id": 255, …}], "ignored_ids": []})')  # fmt: skip
    pixels = [sum(survey.pixels[k] for survey in surveys if survey.pixels) for k in range(len(labels))]
    ignored = sum(survey.ignored for survey in surveys)
    if not ignored + sum(pixels):
        return
    share = ignored / (ignored + sum(pixels))
    never = [name for name, count in zip(labels.names, pixels, strict=True) if not count]
    values = f"the values {first_few([str(value) for value in labels.ignored_values])} and the colour " \
        f"{labels.no_class_color}"  # fmt: skip
    advice = (f"Ignored are {values}. If one of them is a class, write the values of the masks into labels.json "
               '({"classes": [{"id": 255, "name": "object"}, …], "ignored_ids": []})')  # fmt: skip
    if share == 1:
        yield f"all labelled pixels are ignored. {advice}"
    elif len(labels) > 1 and len(never) == len(labels) - 1:
        rest = f", and {percent(share)} of the labelled pixels are ignored. {advice}" if ignored else ""
        yield f"of {len(labels)} classes only one occurs: there is nothing to learn{rest}"
    elif never and share > MUCH:
        what = f"{first_few(never)} never occurs, while {percent(share)} of the labelled pixels are ignored"
        yield f"{what}. {advice}; take classes out of it that no mask has"
