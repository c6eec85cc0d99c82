"""Pictures that are too large for a network at once: overlapping tiles, blended where they overlap."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from smalti.containers import ClassScores, Predictions, Size
from smalti.labels import LabelSet
from smalti.predict.stitching import TileObjects, stitch
from smalti.predict.views import AVERAGED, Predict
from smalti.predict.windows import Window

SMALLEST_TILE = 64
GRID = 32
"""Tiles begin at multiples of this and are multiples of it large. It is the coarsest stride of the encoders, so a
network samples the same pixels as in the whole picture, and pads no tile inside of it. Of a half-trained U-Net's labels
0.1 % differed from those of the whole picture with tiles of 768 on the grid, 0.4 % with the last tile off it."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Squares of `size` pixels of which neighbours share `overlap` pixels or more.

    Raises:
        ValueError: If the size is less than 64 or no multiple of 32, or the overlap is more than a third of it.
    """

    size: int = 1024
    overlap: int = 128

    def __post_init__(self) -> None:
        if self.size < SMALLEST_TILE or self.size % GRID:
            raise ValueError(f"tiles have {SMALLEST_TILE} pixels a side or more, in steps of {GRID}, got {self.size}")
        if not 0 <= self.overlap <= self.size // 3:
            raise ValueError(f"tiles of {self.size} pixels overlap by 0 to {self.size // 3} pixels, got {self.overlap}")


class Span(NamedTuple):
    """A tile along one axis: it reaches from `start` to `stop`, and takes over from the tile before it between `enter`
    and `entered`, and hands over to the next one between `leave` and `left`."""  # noqa: D205, D209

    start: int
    stop: int
    enter: int
    entered: int
    leave: int
    left: int


def place_tiles(length: int, tiles: Tiles) -> list[Span]:
    """The tiles along an axis of `length` pixels; an axis that is no longer than a tile has one.

    All begin on the `GRID` and are of one size, but the last: it is moved inwards as far as the grid allows, and up to
    31 pixels smaller, which padding to the network's stride makes up for. Where two share more than the overlap, they
    blend in the middle of what they share, so that no pixel has more than two tiles, and all see as much as possible
    beyond the seam.
    """
    size = min(tiles.size, length)
    step = (tiles.size - tiles.overlap) // GRID * GRID
    starts = [*range(0, length - size, step), -(-(length - size) // GRID) * GRID]
    zones = [(0, 0)]
    for before, after in pairwise(starts):
        middle = (after + before + size - tiles.overlap) // 2
        zones.append((middle, middle + tiles.overlap))
    zones.append((length, length))
    return [Span(start, min(start + size, length), *zones[k], *zones[k + 1]) for k, start in enumerate(starts)]


def fading(width: int) -> Float[Tensor, " width"]:
    """The share of the second of two tiles over the pixels in which they blend: half a cosine, from 0 to 1."""
    return 0.5 - 0.5 * torch.cos((torch.arange(width) + 0.5) * (torch.pi / max(width, 1)))


class Tile(NamedTuple):
    """One tile, and the part of the picture for which its word counts most."""

    rows: Span
    columns: Span

    @property
    def window(self) -> Window:
        """All that it sees."""
        return Window(self.rows.start, self.columns.start, self.rows.stop, self.columns.stop)

    @property
    def own(self) -> Window:
        """Where it counts more than any other; the tiles' own windows make up the picture."""
        (top, bottom), (left, right) = (
            ((span.enter + span.entered) // 2, (span.leave + span.left) // 2) for span in self
        )
        return Window(top, left, bottom, right)

    @property
    def touched(self) -> Window:
        """Where it counts at all."""
        return Window(self.rows.enter, self.columns.enter, self.rows.left, self.columns.left)

    @property
    def finished(self) -> Window:
        """What no later tile counts for, and no earlier one has finished; these, too, make up the picture."""
        return Window(self.rows.enter, self.columns.enter, self.rows.leave, self.columns.leave)


def all_tiles(size: Size, tiles: Tiles) -> list[Tile]:
    """Those of a picture, row by row."""
    columns = place_tiles(size[1], tiles)
    return [Tile(row, column) for row in place_tiles(size[0], tiles) for column in columns]


class Blend:
    """Joins the tiles' maps, given row by row, and lets each part go as soon as it is finished.

    Weights fall to the tiles' inner borders and are 1 at the picture's own; they add up to 1 at every pixel. Keeps no
    more than the rows that two rows of tiles share: maps x overlap x width.
    """

    def __init__(self, width: int, tiles: Tiles) -> None:
        self.width = width
        self.fade = fading(tiles.overlap)
        self.above: Tensor | None = None
        self.before: Tensor | None = None

    def add(
        self, tile: Tile, maps: Float[Tensor, "maps height width"]
    ) -> Float[Tensor, "maps finished_height finished_width"]:
        """What the tile says where it counts (`tile.touched`) becomes what all say where it finishes the picture."""
        rows, columns = tile
        share = columns.entered - columns.enter
        if share and self.before is not None:
            maps[..., :share] = self.before.lerp(maps[..., :share], self.fade)
        done = columns.leave - columns.enter
        self.before, maps = maps[..., done:].clone(), maps[..., :done]
        share, done = rows.entered - rows.enter, rows.leave - rows.enter
        here = slice(columns.enter, columns.leave)
        if share and self.above is not None:
            maps[:, :share] = self.above[..., here].lerp(maps[:, :share], self.fade[:, None])
        if rows.left > rows.leave:
            if self.above is None:
                self.above = maps.new_empty(len(maps), len(self.fade), self.width)
            self.above[..., here] = maps[:, done:]
        return maps[:, :done]


def predict_tiled(predict: Predict, picture: UInt8[Tensor, "3 height width"], tiles: Tiles) -> Predictions:
    """The answer for a picture of which the network sees one tile at a time; it lies in main memory.

    Maps are blended and the classes are those most probable afterwards; label maps that come without probabilities (a
    cascade's two branches) are each tile's own. Objects are put together as `stitching.stitch` says. A picture that is
    no larger than a tile is predicted as if there were none.
    """
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    places = all_tiles(size, tiles)
    if len(places) == 1:
        return predict(picture)
    mosaic = _Mosaic(size, tiles)
    for tile in places:
        mosaic.add(tile, predict(tile.window.of(picture)))
    return mosaic.answer()


class _Mosaic:
    """The picture's answer as it grows."""

    def __init__(self, size: Size, tiles: Tiles) -> None:
        self.size = size
        self.blend = Blend(size[1], tiles)
        self.maps: dict[str, Tensor] = {}
        self.labels: dict[str, Tensor] = {}
        self.objects: list[TileObjects] = []
        self.label_set: LabelSet | None = None

    def add(self, tile: Tile, answer: Predictions) -> None:
        self.label_set = answer.labels
        maps = {name: _at_least_3d(value) for name in AVERAGED if (value := getattr(answer, name)) is not None}
        if maps:
            parts = tile.touched.inside(tile.window)
            finished = self.blend.add(tile, torch.cat([parts.of(value).float().cpu() for value in maps.values()]))
            counts = [len(value) for value in maps.values()]
            for name, part in zip(maps, torch.split(finished, counts), strict=True):
                self._whole(self.maps, name, part)[(..., *tile.finished.slices)] = part
        for name in ("coarse", "fine", *(("semantic",) if answer.scores is None else ())):
            value = getattr(answer, name)
            if value is not None:
                part = tile.own.inside(tile.window).of(value).cpu()
                self._whole(self.labels, name, part)[tile.own.slices] = part
        if answer.instances is not None:
            self.objects.append(TileObjects.of(answer.instances, tile.window, tile.own))

    def _whole(self, maps: dict[str, Tensor], name: str, part: Tensor) -> Tensor:
        if name not in maps:
            maps[name] = part.new_empty(*part.shape[:-2], *self.size)
        return maps[name]

    def answer(self) -> Predictions:
        assert self.label_set is not None
        maps: dict[str, Any] = {k: v[0] for k, v in self.maps.items() if k != "probabilities"}
        maps |= self.labels
        if "probabilities" in self.maps:
            scores = ClassScores.of(self.maps["probabilities"])
            maps |= {"semantic": scores.most_probable(), "scores": scores}
        objects = stitch(self.objects, self.size) if self.objects else None
        return Predictions(labels=self.label_set, instances=objects, **maps)


def _at_least_3d(maps: Tensor) -> Tensor:
    return maps if maps.ndim == 3 else maps[None]
