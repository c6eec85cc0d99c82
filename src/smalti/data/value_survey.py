"""Looking at many images before they are used: which are deeper than 8 bits, and which range their values have."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from smalti.data.contract import DataError
from smalti.data.deep_images import deep_kind
from smalti.data.pictures import sample_picture
from smalti.data.value_range import ValueRange, ValueSample, format_value, measure_range

MAX_SAMPLED_IMAGES = 32
"""Deep images whose values are looked at, evenly spread over all of them."""


@dataclass(frozen=True, kw_only=True)
class ValueScaling:
    """How the deep images of a data set, or of a command, become 8 bits: all by one range."""

    value_range: ValueRange
    origin: str
    """Where the range comes from, in words."""
    kind: str
    """Of the deep images, in words: "16 bits"."""
    files: frozenset[Path]
    """The deep ones."""
    total: int
    """All images, 8-bit ones among them."""
    samples: tuple[ValueSample, ...] = ()

    def sentence(self, how_to_change: str) -> str:
        """What was decided, in one line."""
        rest = "; images of 8 bits stay as they are" if len(self.files) < self.total else ""
        return (
            f"{len(self.files)} of {self.total} images ({self.kind}): values {self.value_range} become 0 to 255 "
            f"({self.origin}{self._seen()}; {how_to_change} changes it){rest}"
        )

    def filled_share(self) -> float:
        """The share of the range that lies between the lowest and the highest value seen; 1 if none were looked at."""
        if (seen := self._extremes()) is None:
            return 1.0
        low, high = self.value_range.low, self.value_range.high
        return max(0.0, min(seen[1], high) - max(seen[0], low)) / (high - low)

    def _extremes(self) -> tuple[float, float] | None:
        filled = [sample for sample in self.samples if len(sample.values)]
        return (min(s.lowest for s in filled), max(s.highest for s in filled)) if filled else None

    def _seen(self) -> str:
        text = ""
        if (seen := self._extremes()) is not None and seen != (self.value_range.low, self.value_range.high):
            text = f"; values seen: {format_value(seen[0])} to {format_value(seen[1])}"
        lost = sum(sample.non_finite for sample in self.samples)
        return text + (f"; {lost} NaN or infinite values become 0" if lost else "")


def survey_values(
    files: Sequence[Path],
    value_range: ValueRange | None = None,
    origin: str = "as given",
    sample: Callable[[Path], ValueSample] = sample_picture,
    *,
    compare_values: bool = False,
) -> ValueScaling | None:
    """The range for the deep images among some files: the given one, else measured.

    None if all have 8 bits, or none can be read to be measured. Of 8-bit images only the header is read, and of all
    images where the range is given, unless `compare_values` asks for their values to be said beside it.

    Raises:
        DataError: If a range is to be measured and the images have values of different types, which no one range fits.
    """
    kinds = {file: kind for file in files if (kind := deep_kind(file)) is not None}
    if not kinds:
        return None
    types = Counter(kind.values for kind in kinds.values())
    if value_range is None and len(types) > 1:
        counts = " and ".join(f"{count} of {name}" for name, count in types.items())
        raise DataError(f"{counts} in one data set have no value range in common: save all images in one type, or give "
                        "the range of all (--set input.value_range=LOW,HIGH)")  # fmt: skip
    samples = _samples(list(kinds), sample) if value_range is None or compare_values else []
    if value_range is None and not samples:
        return None
    if value_range is None:
        origin = f"measured on {len(samples)} of them"
    return ValueScaling(
        value_range=value_range or measure_range(samples),
        origin=origin,
        kind=", ".join(types),
        files=frozenset(kinds),
        total=len(files),
        samples=tuple(samples),
    )


def _samples(files: Sequence[Path], sample: Callable[[Path], ValueSample]) -> list[ValueSample]:
    count = min(len(files), MAX_SAMPLED_IMAGES)
    chosen = sorted({round(k * (len(files) - 1) / max(1, count - 1)) for k in range(count)})
    samples = []
    for index in chosen:
        with contextlib.suppress(Exception):  # whatever decoders raise is said when the image is read
            samples.append(sample(files[index]))
    return samples
