"""How pictures are answered: what the command's options and a caller's wishes become."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from smalti.data.value_range import ValueRange
from smalti.predict.loading import Execution
from smalti.predict.tiling import Tiles
from smalti.predict.views import Views


@dataclass(frozen=True, kw_only=True)
class Options:
    """How pictures are answered.

    `changes` are dotted keys of the recipe, for a network that is to answer in another way than it was trained.
    `tiles="auto"` takes the whole picture if memory allows, else the largest tiles that fit. `resume` passes over
    files whose answers are in the folder already, made by the same model with the same options of a file that has
    not changed since. `overwrite` replaces files in the folder of the answers that this package did not write, or that
    were changed since. `value_range` are the values of images deeper than 8 bits that become 0 and 255 (None = those of
    the model's card, else measured). `bands` are those of a raster, from 1, that are red, green and blue; `smoothing`
    and `every` are those of videos (`VideoOptions`).
    """

    execution: Execution = Execution()
    changes: Mapping[str, Any] = field(default_factory=dict)
    views: Views = Views()
    tiles: Tiles | Literal["auto"] | None = "auto"
    resume: bool = False
    value_range: ValueRange | None = None
    overwrite: bool = False
    bands: tuple[int, ...] | None = None
    smoothing: float = 0.0
    every: int = 1

    def deciding(self) -> dict[str, Any]:
        """What of it decides about the answers, as plain values."""
        return {
            "changes": {key: str(value) for key, value in self.changes.items()},
            "views": str(self.views),
            "tiles": str(self.tiles),
            "runtime": self.execution.runtime,
            "scale": "auto" if self.value_range is None else repr(self.value_range),
            "bands": str(self.bands),
            "smoothing": self.smoothing,
            "every": self.every,
        }


def parse_tiles(text: str) -> Tiles | Literal["auto"] | None:
    """Of a command line: "auto", "none", or the side of a tile in pixels, of which neighbours share an eighth.

    Raises:
        ValueError: For anything else.
    """
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    if not text.isdecimal():
        raise ValueError(f'tiles are "auto", "none" or the pixels of their side, like 768, got "{text}"')
    return Tiles(size=int(text), overlap=int(text) // 8)


def parse_value_range(text: str) -> ValueRange | None:
    """Of a command line: "auto" (None), or two numbers with a comma between.

    Raises:
        ValueError: For anything else.
    """
    if text == "auto":
        return None
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f'--scale is "auto" or LOW,HIGH, such as 0,4095, got "{text}"') from None
    return ValueRange(low, high)


def parse_bands(text: str) -> tuple[int, ...]:
    """Of a command line: numbers from 1 on with commas between.

    Raises:
        ValueError: For anything else.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f'bands are numbers from 1 on, like "4,3,2", got "{text}"')
    return tuple(int(word) for word in words)
