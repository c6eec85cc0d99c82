"""Objects that were found tile by tile, as objects of the whole picture."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchvision.ops import box_iou

from smalti.containers import Instances, Size
from smalti.predict.windows import Window

ALIKE = 0.5
"""Two tiles' objects are one if they agree by more than this intersection over union where both tiles look; of masks
that do not overlap each other, no other can then agree with either as well."""
CUT = 8
"""Pixels: a box that comes so close to an inner border of its tile may go on beyond it."""
MASK_BYTES = 2**32
"""Masks of all objects together; they are as large as the picture, each."""

Box = tuple[float, float, float, float]


class Found(NamedTuple):
    """An object in the picture's pixels: its box (xyxy) and, where it has one, its mask in a window around it."""

    label: int
    score: float | None
    box: Box
    around: Window
    mask: Bool[Tensor, "rows columns"] | None


@dataclass(frozen=True, kw_only=True)
class TileObjects:
    """What was found in one tile: `seen` is all of it, `own` where its word counts most."""

    seen: Window
    own: Window
    found: tuple[Found, ...]
    with_masks: bool

    @classmethod
    def of(cls, objects: Instances, seen: Window, own: Window) -> "TileObjects":
        """From a tile's answer, in the tile's pixels; masks are kept as far as they reach."""
        boxes = (objects.boxes.cpu() + torch.tensor([seen.left, seen.top, seen.left, seen.top])).tolist()
        scores = [None] * len(objects) if objects.scores is None else objects.scores.tolist()
        masks = [None] * len(objects) if objects.masks is None else objects.masks.cpu()
        rows = zip(objects.labels.tolist(), scores, boxes, masks, strict=True)
        found = tuple(_found(label, score, tuple(box), mask, seen) for label, score, box, mask in rows)
        return cls(seen=seen, own=own, found=found, with_masks=objects.masks is not None)


class _Part(NamedTuple):
    tile: TileObjects
    one: Found


def _found(label: int, score: float | None, box: Box, mask: Tensor | None, seen: Window) -> Found:
    if mask is None:
        left, top, right, bottom = box
        return Found(label, score, box, Window(int(top), int(left), math.ceil(bottom), math.ceil(right)), None)
    tight = _tight(mask)
    return Found(label, score, box, tight.moved(seen.top, seen.left), tight.of(mask).clone())


def _tight(mask: Bool[Tensor, "height width"]) -> Window:
    """The window around what is True; empty if nothing is."""
    rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return Window(0, 0, 0, 0)
    return Window(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def stitch(tiles: Sequence[TileObjects], size: Size) -> Instances:
    """Objects across seams once.

    Of two tiles that share a part of the picture, objects of one class are the same one if their masks, or their boxes
    where there are no masks, agree there (`ALIKE`), the best pairs first and each object once; and so on from tile to
    tile. With masks, each tile speaks for its own pixels (so masks that did not overlap still do not), and an object is
    what its parts have there, with their mean score by pixels. Of boxes, the surest that is not cut by its tile stands;
    if all are cut, the box around them, with the surest score. A box that only one tile has found counts if its middle
    is that tile's own.

    Limits: an object about which two tiles disagree is cut at the seam, or found twice; of more masks than
    `MASK_BYTES` the surest are kept, with a warning.
    """
    groups = _groups([_Part(tile, one) for tile in tiles for one in tile.found])
    if any(tile.with_masks for tile in tiles):
        found = _affordable([one for group in groups if (one := _joined_masks(group)) is not None], size)
        masks = torch.zeros((len(found), *size), dtype=torch.bool)
        for whole, one in zip(masks, found, strict=True):
            assert one.mask is not None
            whole[one.around.slices] = one.mask
    else:
        found, masks = [one for group in groups if (one := _joined_boxes(group, size)) is not None], None
    scores = [one.score for one in found if one.score is not None]
    return Instances(
        boxes=torch.tensor([one.box for one in found], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([one.label for one in found], dtype=torch.int64),
        masks=masks,
        scores=torch.tensor(scores, dtype=torch.float32) if len(scores) == len(found) else None,
    )


def _groups(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Parts of one object together, in the order in which the objects were found first."""
    numbers: dict[int, list[int]] = {}
    for k, part in enumerate(parts):
        numbers.setdefault(id(part.tile), []).append(k)
    links = [pair for one, other in combinations(numbers.values(), 2) for pair in _same(parts, one, other)]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(len(parts), len(parts)))
    count, group_of = connected_components(graph, directed=False) if parts else (0, ())
    groups: list[list[_Part]] = [[] for _ in range(count)]
    for part, group in zip(parts, group_of, strict=True):
        groups[group].append(part)
    return groups


def _same(parts: Sequence[_Part], ones: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
    """The objects of two tiles that are the same."""
    common = parts[ones[0]].tile.seen.common(parts[others[0]].tile.seen)
    if not common.area:
        return []
    near = [[k for k in side if parts[k].one.around.common(common).area] for side in (ones, others)]
    alike = sorted(
        (-agreement, a, b)
        for a in near[0]
        for b in near[1]
        if parts[a].one.label == parts[b].one.label
        and (agreement := _agreement(parts[a].one, parts[b].one, common)) > ALIKE
    )
    taken: set[int] = set()
    pairs = []
    for _, a, b in alike:
        if not {a, b} & taken:
            taken |= {a, b}
            pairs.append((a, b))
    return pairs


def _agreement(one: Found, other: Found, common: Window) -> float:
    """Intersection over union within `common`."""
    if one.mask is None or other.mask is None:
        here = torch.tensor([common.left, common.top, common.right, common.bottom], dtype=torch.float32)
        boxes = torch.tensor([one.box, other.box])
        low, high = boxes[:, :2].maximum(here[:2]), boxes[:, 2:].minimum(here[2:])
        return float(box_iou(*torch.cat([low, high], 1)[:, None]))
    both = one.around.common(other.around).common(common)
    if not both.area:
        return 0.0
    shared = int((_seen(one, both) & _seen(other, both)).sum())
    areas = [int(_seen(found, found.around.common(common)).sum()) for found in (one, other)]
    return shared / max(1, sum(areas) - shared)


def _seen(found: Found, window: Window) -> Bool[Tensor, "rows columns"]:
    """Its mask in a window that lies within its own."""
    assert found.mask is not None
    return window.inside(found.around).of(found.mask)


def _joined_masks(group: Sequence[_Part]) -> Found | None:
    """The parts' own pixels; None if they have none."""
    windows = [part.one.around.common(part.tile.own) for part in group]
    present = [(part.one, window) for part, window in zip(group, windows, strict=True) if window.area]
    if not present:
        return None
    corners = torch.tensor([window for _, window in present])
    around = Window(*corners[:, :2].amin(0).tolist(), *corners[:, 2:].amax(0).tolist())
    mask = torch.zeros((around.height, around.width), dtype=torch.bool)
    weighted, pixels = 0.0, 0
    for one, window in present:
        part = _seen(one, window)
        mask[window.inside(around).slices] = part
        count = int(part.sum())
        weighted, pixels = weighted + count * (one.score or 0.0), pixels + count
    if not pixels:
        return None
    tight = _tight(mask)
    box = tight.moved(around.top, around.left)
    score = None if group[0].one.score is None else weighted / pixels
    return Found(group[0].one.label, score, (box.left, box.top, box.right, box.bottom), box, tight.of(mask))


def _joined_boxes(group: Sequence[_Part], size: Size) -> Found | None:
    by_score = sorted((part for part in group), key=lambda part: -(part.one.score or 0.0))
    surest = by_score[0].one
    if len(group) == 1 and not _is_own(group[0]):
        return None
    for part in by_score:
        if not _is_cut(part, size):
            return part.one._replace(score=surest.score)
    boxes = torch.tensor([part.one.box for part in group])
    left, top, right, bottom = (*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist())
    return surest._replace(box=(left, top, right, bottom))


def _is_own(part: _Part) -> bool:
    left, top, right, bottom = part.one.box
    own = part.tile.own
    return own.top <= (top + bottom) / 2 < own.bottom and own.left <= (left + right) / 2 < own.right


def _is_cut(part: _Part, size: Size) -> bool:
    left, top, right, bottom = part.one.box
    seen = part.tile.seen
    return (
        (seen.left > 0 and left - seen.left < CUT)
        or (seen.top > 0 and top - seen.top < CUT)
        or (seen.right < size[1] and seen.right - right < CUT)
        or (seen.bottom < size[0] and seen.bottom - bottom < CUT)
    )


def _affordable(found: list[Found], size: Size) -> list[Found]:
    most = max(1, MASK_BYTES // (size[0] * size[1]))
    if len(found) <= most:
        return found
    warnings.warn(
        f"{len(found)} objects of {size[0]} x {size[1]} pixels would fill the memory with their masks: the {most} "
        "surest are kept; predict parts of the picture for all of them",
        stacklevel=2,
    )
    surest = sorted(range(len(found)), key=lambda k: -(found[k].score or 0.0))[:most]
    return [found[k] for k in sorted(surest)]
