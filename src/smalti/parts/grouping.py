"""From maps to objects: classes, distances and edges become instances (spec 1.7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label as label_components
from skimage.segmentation import watershed

Map = Float[np.ndarray, "height width"]
Mask = UInt8[np.ndarray, "height width"]
Numbers = Int32[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """The rules by which maps become objects."""

    seed_distance: float | None = None
    """Seeds are pixels whose distance is above this … None = half the way to the middle of an object, 0.5, where each
    object's middle is 1."""
    seed_edge: float = 0.5
    """… and whose probability of being an edge is below this."""
    seed_area: int = 20
    """Smallest seed, in pixels."""
    seed_area_of: Mapping[str, int] = field(default_factory=lambda: {"car": 25, "truck": 45, "bus": 45, "train": 45})
    """For some classes by name (Bai and Urtasun 2017)."""
    region_area: int = 100
    """A region without a seed is an object of its own from this size on."""
    join_below: float | None = None
    """Neighbours of one class are one object if the probability of an edge, averaged along their border, is below this:
    a thin waist makes two seeds of an object. None = never, as spec 1.7 has it."""
    least_confidence: float = 0.0
    """An object whose class is less probable than this, averaged over its pixels, is none; they keep the class."""
    most: int = 256
    """Objects of a picture, the surest: an untrained network finds thousands, and each has a mask."""


STANDARD = Grouping()


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Objects of one picture: `ids` is 0 (none) or the place in the lists, counted from 1."""

    ids: Int32[np.ndarray, "height width"]
    labels: Sequence[int]
    scores: Sequence[float]


def group_objects(
    classes: UInt8[np.ndarray, "height width"],
    things: Mapping[int, str],
    distances: Map,
    *,
    edges: Map | None = None,
    confidence: Map | None = None,
    rules: Grouping = STANDARD,
) -> Objects:
    """Objects of the thing classes (label id -> name).

    In each class's region, seeds grow by a watershed that floods from high to low distance (4-neighbours) and never
    leaves the region; with edges it floods what is no edge first. An object's score is the mean confidence over its
    pixels times the mean distance over its seed.
    """
    region = _only(classes, things)
    seeds = region * (distances > (0.5 if rules.seed_distance is None else rules.seed_distance))
    if edges is not None:
        seeds *= edges < rules.seed_edge
    least = np.full(256, rules.seed_area)
    for label, name in things.items():
        least[1 + label] = rules.seed_area_of.get(name, rules.seed_area)
    markers, labels = _components(seeds, 2, least)
    found = _grow(region, markers, distances, None if edges is None else edges >= rules.seed_edge)
    if edges is not None and rules.join_below is not None and len(labels) > 1:
        numbers = _joined(found, labels, edges, rules.join_below)
        found, markers = numbers[found], numbers[markers]
        labels = labels[np.unique(numbers[1:], return_index=True)[1]]
    rest, more = _components(region * (found == 0), 2, np.full(256, rules.region_area))
    scores = np.concatenate([_means(distances, markers, len(labels)), _means(distances, rest, len(more))])
    if len(more):
        found = np.where(rest > 0, rest + len(labels), found)
    numbers = np.concatenate([labels, more]).astype(int) - 1
    kept = np.arange(len(numbers))
    if confidence is not None:
        sure = _means(confidence, found, len(scores))
        scores, kept = scores * sure, kept[sure >= rules.least_confidence]
    if len(kept) > rules.most:
        kept = np.sort(kept[np.argsort(-scores[kept], kind="stable")[: rules.most]])
    if len(kept) < len(numbers):
        table = np.zeros(len(numbers) + 1, np.int32)
        table[1 + kept] = np.arange(1, len(kept) + 1)
        found, numbers, scores = table[found], numbers[kept], scores[kept]
    return Objects(ids=found, labels=numbers.tolist(), scores=scores.tolist())


def _only(classes: Mask, things: Mapping[int, str]) -> Mask:
    """1 + the label where it is a thing, 0 elsewhere."""
    table = np.zeros(256, np.uint8)
    for label in things:
        table[label] = 1 + label
    chosen: Mask = table[classes]
    return chosen


def _components(values: Mask, connectivity: int, least: np.ndarray) -> tuple[Numbers, np.ndarray]:
    """Connected components of equal values other than 0, numbered from 1, and the value of each.

    Those of fewer pixels than `least[value]` are left out. Connectivity 1 = four neighbours, 2 = eight.
    """
    if not values.any():
        return np.zeros(values.shape, np.int32), np.zeros(0, np.uint8)
    components: Numbers = label_components(  # type: ignore[no-untyped-call]
        values, background=0, connectivity=connectivity
    ).astype(np.int32, copy=False)
    areas = np.bincount(components.ravel())
    value = np.zeros(len(areas), np.uint8)
    value[components.ravel()] = values.ravel()
    kept = areas >= least[value]
    kept[0] = False
    if kept[1:].all():
        return components, value[1:]
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return numbers[components], value[kept]


def _grow(region: Mask, markers: Numbers, distances: Map, barriers: Bool[np.ndarray, "height width"] | None) -> Numbers:
    """Markers grown over the parts of the region that they touch; where only one does, it is the whole part."""
    parts, _ = _components(region, 1, np.zeros(256, int))
    count, most = int(parts.max(initial=0)) + 1, int(markers.max(initial=0)) + 1
    inside = markers > 0
    pairs = np.unique(parts[inside].astype(np.int64) * most + markers[inside])
    owners, seeds = np.divmod(pairs, most)
    touching = np.bincount(owners, minlength=count)
    only = np.zeros(count, np.int32)
    only[owners] = seeds
    only[touching > 1] = 0
    found: Numbers = only[parts]
    for part, window in enumerate(find_objects(parts), start=1) if (touching > 1).any() else ():
        if window is not None and touching[part] > 1:
            own = parts[window] == part
            own_barriers = None if barriers is None else barriers[window]
            found[window] += _flood(own, markers[window] * own, distances[window], own_barriers)
    return found


def _joined(ids: Numbers, labels: np.ndarray, edges: Map, limit: float) -> Int32[np.ndarray, " objects"]:
    """A new number for each old one (and for 0): that of the object that it is part of, counted from 1."""
    count = len(labels) + 1
    pairs, edge = [], []
    for near, far in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        one, other = ids[near], ids[far]
        border = (one != other) & (one > 0) & (other > 0)
        one, other = one[border], other[border]
        pairs.append(np.minimum(one, other).astype(np.int64) * count + np.maximum(one, other))
        edge.append(np.maximum(edges[near][border], edges[far][border]))
    borders, places, lengths = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    weak = borders[np.bincount(places, np.concatenate(edge), len(borders)) < limit * lengths]
    one, other = np.divmod(weak, count)
    alike = labels[one - 1] == labels[other - 1]
    links = coo_array((np.ones(int(alike.sum())), (one[alike], other[alike])), shape=(count, count))
    _, groups = connected_components(links, directed=False)
    first = np.unique(groups, return_index=True)[1]
    by_first_member: np.ndarray = first.argsort().argsort().astype(np.int32)  # 0 is alone in the first group
    return by_first_member[groups]


def _flood(
    region: Bool[np.ndarray, "height width"],
    markers: Numbers,
    distances: Map,
    barriers: Bool[np.ndarray, "height width"] | None,
) -> Numbers:
    if barriers is not None:
        markers = watershed(-distances, markers, mask=region & ~barriers)  # type: ignore[no-untyped-call]
        distances = np.zeros_like(distances)  # over the edges, which are thin, from all sides at one pace
    grown: Numbers = watershed(-distances, markers, mask=region).astype(np.int32)  # type: ignore[no-untyped-call]
    return grown


def _means(values: Map, ids: Numbers, count: int) -> Float[np.ndarray, " objects"]:
    """Mean of the values over each object, numbered from 1."""
    inside = ids > 0
    own = ids[inside]
    sums, areas = np.bincount(own, values[inside], minlength=count + 1), np.bincount(own, minlength=count + 1)
    return sums[1:] / np.maximum(areas[1:], 1)
