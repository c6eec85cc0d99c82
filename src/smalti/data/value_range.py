"""Images deeper than 8 bits: which range of their values becomes 0 to 255, given or measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

SAMPLED_VALUES = 2**18
"""Values of one image that quantiles are taken from, evenly spread; its lowest and highest value are exact."""
OUTLIER_SHARE = 1e-4
"""Share of the values, at either end, that may be dead or hot pixels."""
NOMINAL_SHARE = 0.5
"""A nominal range (0 to 1, 0 to 255, the full type) is taken if the highest value lies in its part above this share."""
OFFSET_SHARE = 0.75
"""Values start at 0 unless even the lowest ones are above this share of the highest."""
CHUNK = 2**22
"""Values that are converted at a time: temporary arrays stay small."""


@dataclass(frozen=True)
class ValueRange:
    """The values, in the file's own units, that become 0 and 255; what lies outside is clipped."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Raises ValueError unless both are finite and low is below high."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a value range is two finite numbers, the lower one first, got {self.low}, {self.high}")

    def __str__(self) -> str:
        return f"{format_value(self.low)} to {format_value(self.high)}"

    def to_8_bit(self, values: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """The values mapped linearly to 0..255, rounded; 8-bit values as they are. NaN and infinity become 0."""
        if values.dtype == np.uint8:
            return values
        flat = np.ascontiguousarray(values).reshape(-1)
        converted = np.empty(flat.shape, np.uint8)
        # float32 holds every product of 16-bit values with 255 exactly.
        kind: type[Any] = np.float32 if values.dtype in (np.uint16, np.int16, np.int8) else np.float64
        for start in range(0, len(flat), CHUNK):
            part = flat[start : start + CHUNK].astype(kind)
            if values.dtype.kind == "f":
                part[~np.isfinite(part)] = self.low
            scaled = np.clip((part - kind(self.low)) * kind(255) / kind(self.high - self.low), 0, 255)
            converted[start : start + CHUNK] = np.floor(scaled + kind(0.5))
        return converted.reshape(values.shape)


def format_value(value: float) -> str:
    """A number for messages: 4080, 0.2461."""
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class ValueSample:
    """What is kept of one image, or of parts of it, to measure a range."""

    dtype: np.dtype
    values: Shaped[np.ndarray, " sampled"]
    """Finite and valid ones."""
    lowest: float
    highest: float
    non_finite: int
    """Values that are NaN or infinite."""

    @classmethod
    def of(
        cls, values: Shaped[np.ndarray, "bands height width"], valid: Bool[np.ndarray, "height width"] | None = None
    ) -> "ValueSample":
        """A sample of an image's values; those that are not valid (no data) do not count."""
        kept = values.reshape(-1) if valid is None else values[:, valid].reshape(-1)
        finite = kept[np.isfinite(kept)] if kept.dtype.kind == "f" else kept
        if not len(finite):
            nothing = np.empty(0, values.dtype)
            return cls(dtype=values.dtype, values=nothing, lowest=0, highest=0, non_finite=len(kept))
        return cls(
            dtype=values.dtype,
            values=finite[:: -(-len(finite) // SAMPLED_VALUES)].copy(),
            lowest=float(finite.min()),
            highest=float(finite.max()),
            non_finite=len(kept) - len(finite),
        )

    @classmethod
    def joined(cls, parts: "Sequence[ValueSample]") -> "ValueSample":
        """One sample of the parts of an image, of which there is at least one."""
        filled = [part for part in parts if len(part.values)] or parts[:1]
        return cls(
            dtype=filled[0].dtype,
            values=np.concatenate([part.values for part in filled]),
            lowest=min(part.lowest for part in filled),
            highest=max(part.highest for part in filled),
            non_finite=sum(part.non_finite for part in parts),
        )


def measure_range(samples: Sequence[ValueSample]) -> ValueRange:
    """The range of the images' values, one for all of them.

    * Values made from 8 bits (all are multiples of 257), and those of an unsigned type whose highest lies in the upper
      half of the type: the full range of the type.
    * Floats from 0 to 1 whose highest is above 0.5: 0 to 1. Values from 0 to 255 whose highest is above 127.5: 0 to
      255.
    * Else from 0 (where no values are negative, and the lowest is at most 3/4 of the highest; else from the lowest) to
      the highest value. If the 0.01 % of the values at an end reach further out than all others span, they are
      outliers, and do not count.
    """
    filled = [sample for sample in samples if len(sample.values)]
    if not filled:
        return ValueRange(0, 1)
    values = np.concatenate([sample.values for sample in filled])
    lowest, highest = min(s.lowest for s in filled), max(s.highest for s in filled)
    top = _unsigned_top(values.dtype)
    if values.dtype == np.uint16 and not np.any(values % 257):
        return ValueRange(0, top)
    if values.dtype.kind == "f" and lowest >= 0 and NOMINAL_SHARE < highest <= 1:
        return ValueRange(0, 1)
    near_low = float(np.quantile(values, OUTLIER_SHARE, method="higher"))
    near_high = float(np.quantile(values, 1 - OUTLIER_SHARE, method="lower"))
    low = 0.0 if 0 <= near_low <= OFFSET_SHARE * near_high or near_low == near_high >= 0 else near_low
    span = near_high - low
    high = highest if highest - near_high <= span else near_high
    if low == 0:
        nominal = next((t for t in (255.0, top) if NOMINAL_SHARE * t < high <= t), high)
        return ValueRange(0, nominal or 1)
    low = lowest if near_low - lowest <= span else near_low
    return ValueRange(low, high) if low < high else ValueRange(low, 0)


def _unsigned_top(dtype: np.dtype) -> float:
    """The highest value of an unsigned type; 0 for others, which have no full range that images fill."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 0.0


def to_8_bit(
    values: Shaped[np.ndarray, "bands height width"], value_range: ValueRange | None
) -> UInt8[np.ndarray, "bands height width"]:
    """An image's values as 8 bits: by the range, or without one by the values of this image alone."""
    if values.dtype == np.uint8:
        return values
    return (value_range or measure_range([ValueSample.of(values)])).to_8_bit(values)
