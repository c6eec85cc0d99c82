"""What stands where in a procedural street scene: street, houses, gardens, traffic and people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32

from smalti.data.scene_actors import Place, draw_car, draw_cyclist, draw_pedestrian
from smalti.data.scene_buildings import Fence, House, Tree, draw_fence, draw_house, draw_tree, foliage
from smalti.data.scene_furniture import draw_bin, draw_lamp_post, draw_sign, draw_traffic_light
from smalti.data.scene_ground import Street
from smalti.data.scene_stage import BICYCLIST, CAR, FIRST_THING, PEDESTRIAN, Stage, material

_SIDES = (-1, 1)
_FARTHEST = 75.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing to draw; pieces are drawn from the largest depth to the smallest."""

    depth: float
    draw: Callable[[Stage, np.random.Generator], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All pieces of a scene, the reach of the shade per half metre ahead, and the class of each thing."""

    pieces: list[Piece]
    shade: Float32[np.ndarray, "entries"]
    things: list[int]  # class id of owner FIRST_THING + index


def plan_street(rng: np.random.Generator) -> Street:
    """Draw the cross-section of a street; the camera stands on the road or, now and then, on a pavement."""
    width, pavements = rng.uniform(5.5, 11), rng.uniform(2.2, 5.2, 2)
    left = -width * rng.uniform(0.15, 0.85)
    if rng.random() < 0.18:
        left = rng.uniform(0.3, 1.2) if rng.random() < 0.5 else -width - rng.uniform(0.3, 1.2)
    start = rng.uniform(9, 28) if rng.random() < 0.35 else np.inf
    return Street(
        left=left,
        right=left + width,
        left_pavement=pavements[0],
        right_pavement=pavements[1],
        junction=(start, start + rng.uniform(6, 9)),
    )


def plan_scene(stage: Stage, rng: np.random.Generator, street: Street) -> Plan:
    """Place everything that stands on or beside the street."""
    shade = np.zeros(200, np.float32)
    pieces: list[Piece] = []
    for side in _SIDES:
        pieces += _roadside(stage, rng, street, side, shade)
        pieces += _kerbside(stage, rng, street, side)
    things: list[int] = []
    for place, kind in _things(stage, rng, street):
        draw = {CAR: draw_car, PEDESTRIAN: draw_pedestrian, BICYCLIST: draw_cyclist}[kind]
        owned = Place(x=place[0], z=place[1], heading=place[2], owner=FIRST_THING + len(things))
        pieces.append(Piece(depth=place[1], draw=partial(draw, place=owned)))
        things.append(kind)
    return Plan(pieces=sorted(pieces, key=lambda piece: -piece.depth), shade=shade, things=things)


def _roadside(
    stage: Stage, rng: np.random.Generator, street: Street, side: int, shade: Float32[np.ndarray, "entries"]
) -> Iterator[Piece]:
    """Houses along one side and gardens in the gaps between them; notes the houses' shade."""
    line, z = street.building_line(side) + side * rng.uniform(0, 0.8), 1.2
    low, built, beside = int(rng.integers(1, 4)), rng.uniform(0.35, 0.9), 0
    while z < _FARTHEST:
        length = rng.uniform(6, 14) * (1 + z / 60)
        start, end = street.junction
        if start - 2 < z < end:
            z, beside = end + 0.5, 0
            continue
        far = min(z + length, start) if z < start else z + length
        if rng.random() < built:
            storeys = int(low + rng.integers(0, 4))
            house = House(side=side, x=line, near=z, far=far, storeys=storeys, detached=storeys > beside)
            beside = storeys
            yield Piece(depth=far, draw=partial(draw_house, house=house))
            if side == stage.light.side:
                shade[int(z * 2) : int(far * 2)] = house.height * rng.uniform(0.35, 0.6)
        else:
            yield from _garden(stage, rng, line, (z, far))
            beside = 0
        if rng.random() < 0.2:
            far, beside = far + rng.uniform(0.5, 3), 0
        z = far


def _garden(stage: Stage, rng: np.random.Generator, line: float, span: tuple[float, float]) -> Iterator[Piece]:
    """Trees, a hedge and a fence between two houses."""
    side, (near, far) = float(np.sign(line)) or 1.0, span
    for _ in range(int(rng.integers(2, 4))):
        z = rng.uniform(max(near, 3), max(far, 4))
        tree = Tree(
            x=stage.camera.bend(line + side * rng.uniform(1.5, 5), z),
            z=z,
            height=rng.uniform(3, 8),
            crown=rng.uniform(1.3, 3),
            bare=rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0,
            colour=foliage(rng),
        )
        yield Piece(depth=z + far - near, draw=partial(draw_tree, tree=tree))
    for z in np.arange(max(near, 2) + 0.5, min(far, 30), 2.6):
        bush = Tree(
            x=stage.camera.bend(line + side * 0.9, z),
            z=float(z),
            height=rng.uniform(0.9, 1.8),
            crown=rng.uniform(1.0, 1.5),
            colour=foliage(rng),
        )
        yield Piece(depth=float(z) + 3, draw=partial(draw_tree, tree=bush))
    if rng.random() < 0.8:
        yield from _fence(stage, rng, line - side * 0.1, (near, far))


def _fence(stage: Stage, rng: np.random.Generator, x: float, span: tuple[float, float]) -> Iterator[Piece]:
    """Panels of one fence along the street."""
    height, kind, colour = rng.uniform(1.05, 1.8), int(rng.integers(4)), material(rng)
    posts = np.arange(span[0], min(span[1], 45) + 1.0, 2.5)
    for near, far in zip(posts[:-1].tolist(), posts[1:].tolist(), strict=True):
        start, end = (stage.camera.bend(x, near), near), (stage.camera.bend(x, far), far)
        fence = Fence(start=start, end=end, height=height, kind=kind, colour=colour)
        yield Piece(depth=(near + far) / 2, draw=partial(draw_fence, fence=fence))


def _kerbside(stage: Stage, rng: np.random.Generator, street: Street, side: int) -> Iterator[Piece]:
    """Lamp posts, signs, railings, bins and trees of an avenue along one kerb."""
    kerb, width = street.edge(side), abs(street.building_line(side) - street.edge(side))
    line = kerb + side * rng.uniform(0.35, 0.6)
    interval = rng.uniform(11, 24)
    for z in np.arange(rng.uniform(4, 12), 34, interval).tolist():
        foot = (stage.camera.bend(line, z), z)
        yield Piece(depth=z, draw=partial(draw_lamp_post, foot=foot, toward=-side))
    for _ in range(int(rng.integers(1, 3))):
        foot = _in_view(stage, rng, line + side * rng.uniform(0, 0.5), (4.0, 11.0))
        draw = draw_traffic_light if rng.random() < 0.25 else draw_sign
        yield Piece(depth=foot[1], draw=partial(draw, foot=foot))
    if rng.random() < 0.5:
        near = rng.uniform(3, 9)
        yield from _fence(stage, rng, kerb + side * 0.25, (near, near + rng.uniform(5, 14)))
    if rng.random() < 0.3:
        foot = _in_view(stage, rng, line + side * 0.3, (4.5, 14.0))
        yield Piece(depth=foot[1], draw=partial(draw_bin, foot=foot))
    if rng.random() < 0.3 and width > 2:
        colour, crown = foliage(rng), rng.uniform(1.2, 2.2)
        for z in np.arange(rng.uniform(6, 14), 60, rng.uniform(7, 14)).tolist():
            x = stage.camera.bend(line + side * 0.4, z)
            tree = Tree(x=x, z=z, height=rng.uniform(4, 6.5), crown=crown, colour=colour)
            yield Piece(depth=z, draw=partial(draw_tree, tree=tree))


def _in_view(stage: Stage, rng: np.random.Generator, x: float, span: tuple[float, float]) -> tuple[float, float]:
    """A point (x, z) beside the street's axis that the picture shows, if a few tries find one."""
    width = stage.image.shape[1]
    z = span[1]
    for _ in range(8):
        z = rng.uniform(*span)
        column = stage.camera.project([[stage.camera.bend(x, z), 0, z]])[0, 0]
        if 0.04 * width < column < 0.96 * width:
            break
    return stage.camera.bend(x, z), z


def _things(stage: Stage, rng: np.random.Generator, street: Street) -> Iterator[tuple[tuple[float, float, float], int]]:
    """Cars, people and cyclists as ((x, z, heading), class id)."""
    yield from (((x, z, heading), CAR) for x, z, heading in _cars(stage, rng, street))
    for _ in range(int(rng.integers(3, 7))):
        side = _SIDES[rng.integers(2)]
        inner, outer = street.edge(side), street.building_line(side)
        x = inner + (outer - inner) * rng.uniform(0.15, 0.9)
        if rng.random() < 0.2:
            x = rng.uniform(street.left, street.right)
        yield (*_in_view(stage, rng, x, (4.0, 12.0)), 0.0), PEDESTRIAN
    for _ in range(int(rng.integers(1, 4))):
        side = _SIDES[rng.integers(2)]
        x = street.edge(side) - side * rng.uniform(0.3, 2.6)
        if rng.random() < 0.25:
            x = street.edge(side) + side * rng.uniform(0.5, 1.2)
        yield (*_in_view(stage, rng, x, (4.0, 11.0)), rng.uniform(0.35, np.pi - 0.35)), BICYCLIST


def _cars(stage: Stage, rng: np.random.Generator, street: Street) -> Iterator[tuple[float, float, float]]:
    for side in _SIDES:
        if rng.random() < 0.5:  # parked along the kerb
            line, filled = street.edge(side) - side * rng.uniform(0.9, 1.2), rng.uniform(0.3, 0.9)
            for z in np.arange(rng.uniform(5, 9), 36, rng.uniform(5.3, 6.5)).tolist():
                if rng.random() < filled and not street.junction[0] - 2 < z < street.junction[1] + 2:
                    slant = rng.normal(0, 0.04) + (np.pi if rng.random() < 0.3 else 0)
                    yield stage.camera.bend(line, z), z, slant + 2 * stage.camera.curve * z
    for _ in range(int(rng.integers(0, 3))):  # driving
        side = _SIDES[rng.integers(2)]
        middle = (street.left + street.right) / 2
        z = rng.uniform(9, 36)
        x = stage.camera.bend(middle + side * (street.right - street.left) / 4, z)
        yield x, z, (0.0 if side > 0 else np.pi) + 2 * stage.camera.curve * z
    if np.isfinite(street.junction[0]) and rng.random() < 0.7:  # crossing
        z = float(np.mean(street.junction))
        yield rng.uniform(-0.4, 0.4) * z, z, np.pi / 2 * _SIDES[rng.integers(2)] + rng.normal(0, 0.15)
