"""Cars, people and cyclists of a procedural street scene."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from smalti.data.scene_stage import Colour, Stage, paint, rgb

_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 14)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 14)[:-1])], axis=1)
# Five faces of a box (the bottom is never seen) as indices of its corners: lower ring 0-3, upper ring 4-7.
_FACES = np.array([[7, 6, 5, 4], [5, 4, 0, 1], [6, 5, 1, 2], [7, 6, 2, 3], [4, 7, 3, 0]])
_TOP, _BACK, _RIGHT, _FRONT, _LEFT = range(5)
Points = Float32[np.ndarray, "points 3"]
Pair = tuple[float, float]
Part = tuple[float, float, float, float]
_NEAR = 30.0  # metres; details of cars farther away would be smaller than a pixel


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a thing stands: (x, z) in metres, heading in radians (0 = away from the camera), and its owner id."""

    x: float
    z: float
    heading: float
    owner: int


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A car seen from its side, in metres: sizes, then the cabin's ends below and above as parts of the length."""

    length: float
    height: float
    belt: float
    lower: tuple[float, float]
    upper: tuple[float, float]


_MODELS = (
    _Model(length=3.9, height=1.48, belt=0.88, lower=(-0.49, 0.24), upper=(-0.42, 0.06)),
    _Model(length=4.5, height=1.45, belt=0.9, lower=(-0.36, 0.22), upper=(-0.22, 0.06)),
    _Model(length=4.4, height=1.72, belt=1.02, lower=(-0.5, 0.25), upper=(-0.45, 0.1)),
    _Model(length=4.9, height=2.15, belt=1.15, lower=(-0.5, 0.4), upper=(-0.49, 0.28)),
)


def draw_car(stage: Stage, rng: np.random.Generator, place: Place) -> None:
    """Draw a car as a body and a cabin with wheels, glass and lamps, over its shadow."""
    model = _MODELS[rng.choice(4, p=(0.36, 0.3, 0.2, 0.14))]
    colour, half = paint(rng), rng.uniform(0.84, 0.93)
    if not stage.sees(place.x, place.z, model.length):
        return
    ends = (-model.length / 2, model.length / 2)
    shadow = _box(ends, ends, (half * 1.1, half * 1.1), (0.0, 0.0))[:4]
    stage.darken(stage.camera.project(_placed(place, shadow)), 0.45)
    _draw_wheels(stage, place, model, half, far_side=True)
    shoulder = (ends[0] + 0.06, ends[1] - 0.08)
    body = _placed(place, _box(ends, shoulder, (half, half), (0.28, model.belt)))
    _draw_box(stage, place, body, colour)
    if place.z < _NEAR:
        _draw_ends(stage, rng, place, body)
    _draw_wheels(stage, place, model, half, far_side=False)
    lower = (model.lower[0] * model.length + 0.04, model.lower[1] * model.length)
    upper = (model.upper[0] * model.length, model.upper[1] * model.length)
    cabin = _placed(place, _box(lower, upper, (half * 0.97, half * 0.82), (model.belt, model.height)))
    visible = _draw_box(stage, place, cabin, colour)
    glass = stage.light.shade(rgb(45, 52, 60) * rng.uniform(0.6, 2.2), place.z)
    for face in visible:
        if face in (_LEFT, _RIGHT):
            _fill(stage, cabin[_FACES[face]], ((0.06, 0.48, 0.14, 0.9), (0.54, 0.94, 0.14, 0.9)), (glass, glass))
        elif face != _TOP:
            _fill(stage, cabin[_FACES[face]], ((0.08, 0.92, 0.14, 0.9),), (glass,))


def _box(lower: Pair, upper: Pair, half_widths: Pair, heights: Pair) -> Points:
    """Eight corners, as (right, up, ahead) of the car's own, of a box with these ends along the car below and above."""
    levels = zip((lower, upper), half_widths, heights, strict=True)
    corners = [(x * half, y, ends[z]) for ends, half, y in levels for x, z in ((-1, 0), (1, 0), (1, 1), (-1, 1))]
    return np.array(corners, np.float32)


def _placed(place: Place, local: Points) -> Points:
    cosine, sine = np.cos(place.heading), np.sin(place.heading)
    x = place.x + cosine * local[:, 0] + sine * local[:, 2]
    z = place.z - sine * local[:, 0] + cosine * local[:, 2]
    return np.stack([x, local[:, 1], z], axis=1).astype(np.float32)


def _draw_box(stage: Stage, place: Place, corners: Points, colour: Colour) -> list[int]:
    """Fill the visible faces of a box and return which they are."""
    faces = corners[_FACES]
    centres = faces.mean(axis=1)
    a, b = faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0]
    normals = a[:, (1, 2, 0)] * b[:, (2, 0, 1)] - a[:, (2, 0, 1)] * b[:, (1, 2, 0)]
    normals *= np.sign(np.einsum("fc,fc->f", normals, centres - corners.mean(axis=0)))[:, None]
    eye = np.array([0, stage.camera.height, 0], np.float32)
    visible = np.flatnonzero(np.einsum("fc,fc->f", normals, eye - centres) > 0).tolist()
    pixels = stage.camera.project(corners)
    for face in visible:
        toward_sun = float(normals[face, 0]) * stage.light.side / (math.hypot(*normals[face]) + 1e-6)
        brightness = 1.15 if face == _TOP else 0.85 + 0.25 * stage.light.sun * toward_sun
        stage.polygon(pixels[_FACES[face]], stage.light.shade(colour, place.z, brightness), None)
    stage.claim(pixels, place.owner)
    return visible


def _fill(stage: Stage, face: Points, parts: Sequence[Part], colours: Sequence[Colour]) -> None:
    """Paint parts of a face, given as (left, right, top, bottom) from 0 to 1; its corners start with the upper edge."""
    spans = np.array(parts, np.float32)
    across, down = spans[:, (0, 1, 1, 0)].reshape(-1, 1), spans[:, (2, 2, 3, 3)].reshape(-1, 1)
    upper, lower = face[0] + (face[1] - face[0]) * across, face[3] + (face[2] - face[3]) * across
    quads = stage.camera.project(upper + (lower - upper) * down).reshape(-1, 4, 2)
    for quad, colour in zip(quads, colours, strict=True):
        stage.polygon(quad, colour, None)


def _draw_ends(stage: Stage, rng: np.random.Generator, place: Place, body: Points) -> None:
    """Bumper, lamps and number plate of whichever end of the car is seen."""
    centre = body.mean(axis=0)
    for face, lamp in ((_FRONT, rgb(240, 238, 215)), (_BACK, rgb(190, 25, 25))):
        corners = body[_FACES[face]]
        outward = corners.mean(axis=0) - centre
        if outward[0] * -corners[:, 0].mean() + outward[2] * -corners[:, 2].mean() <= 0:
            continue
        dark, plate = stage.light.shade(rgb(35, 35, 38), place.z), stage.light.shade(rgb(225, 225, 215), place.z)
        bright = stage.light.shade(lamp, place.z, rng.uniform(0.8, 1.2))
        bumper, number = (0.0, 1.0, 0.74, 1.0), (0.36, 0.64, 0.5, 0.72)
        lamps = ((0.03, 0.21, 0.18, 0.5), (0.79, 0.97, 0.18, 0.5))
        _fill(stage, corners, (bumper, number, *lamps), (dark, plate, bright, bright))


def _draw_wheels(stage: Stage, place: Place, model: _Model, half: float, *, far_side: bool) -> None:
    """Two wheels of the side that faces away from the camera, or toward it."""
    across = np.cos(place.heading) * place.x - np.sin(place.heading) * place.z
    side = (1 if across < 0 else -1) * (-1 if far_side else 1)
    tyre, hub = stage.light.shade(rgb(24, 24, 26), place.z), stage.light.shade(rgb(150, 150, 155), place.z)
    rings = np.empty((4, len(_CIRCLE), 3), np.float32)  # two tyres, then their hubs
    rings[..., 0] = side * half * (0.8 if far_side else 1.0)
    radius = np.array([0.34, 0.34, 0.19, 0.19], np.float32)[:, None]
    rings[..., 1] = 0.34 + radius * _CIRCLE[:, 1]
    rings[..., 2] = np.array([[-0.31], [0.31], [-0.31], [0.31]]) * model.length + radius * _CIRCLE[:, 0]
    pixels = stage.camera.project(_placed(place, rings.reshape(-1, 3))).reshape(4, -1, 2)
    for ring in pixels[:2]:
        stage.polygon(ring, tyre, place.owner)
    for ring in pixels[2:] if not far_side else ():
        stage.polygon(ring, hub, None)


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """Draws flat shapes given in metres to the right of and above a foot point."""

    stage: Stage
    place: Place
    mirror: float

    @property
    def scale(self) -> float:
        return self.stage.camera.focal / self.place.z

    def pixels(self, points: Sequence[Pair]) -> Float32[np.ndarray, "points 2"]:
        local = np.array([(self.place.x + self.mirror * x, y, self.place.z) for x, y in points], np.float32)
        return self.stage.camera.project(local)

    def limb(self, points: Sequence[Pair], width: float, colour: Colour) -> None:
        thickness = max(self.stage.thin * 0.6, width * self.scale)
        self.stage.stroke(self.pixels(points), thickness, self.lit(colour), self.place.owner)

    def shape(self, points: Sequence[Pair], colour: Colour) -> None:
        self.stage.polygon(self.pixels(points), self.lit(colour), self.place.owner)

    def ball(self, centre: Pair, radius: float, colour: Colour) -> None:
        self.stage.disc(self.pixels([centre])[0].tolist(), radius * self.scale, self.lit(colour), self.place.owner)

    def lit(self, colour: Colour) -> Colour:
        return self.stage.light.shade(colour, self.place.z)


def _skin(rng: np.random.Generator) -> Colour:
    return (rgb(225, 180, 150) * rng.uniform(0.35, 1.05)).astype(np.float32)


def draw_pedestrian(stage: Stage, rng: np.random.Generator, place: Place) -> None:
    """Draw a person on foot: legs in mid-step, coat or trousers, arms, head, and perhaps a bag."""
    figure = _Figure(stage=stage, place=place, mirror=float(rng.choice((-1, 1))))
    tall, stride, broad = rng.uniform(0.88, 1.06), rng.uniform(0.05, 0.3), rng.uniform(0.19, 0.26)
    top, legs, skin, hair = paint(rng), paint(rng) * 0.75, _skin(rng), _skin(rng) * 0.35
    feet = figure.pixels([(-0.35, 0.0), (0.35, 0.0)])
    thick = np.array([0, 0.055 * figure.scale], np.float32)
    stage.darken(np.concatenate([feet - thick, feet[::-1] + thick]), 0.6)
    for way in (-1, 1):
        knee = (way * stride * 0.7 + 0.04, 0.48 * tall)
        figure.limb([(way * 0.07, 0.9 * tall), knee, (way * stride, 0.07 * tall)], 0.16, legs)
        figure.limb([(way * stride, 0.05), (way * stride + 0.1, 0.04)], 0.1, rgb(30, 28, 28))
    figure.limb([(-broad, 1.36 * tall), (-broad - 0.08, 1.08 * tall), (stride - broad, 0.85 * tall)], 0.11, top * 0.85)
    hem = rng.choice((0.86, 0.86, 0.6)) * tall
    waist = broad * (0.85 if hem > 0.7 * tall else 1.1)
    figure.shape([(-broad, 1.44 * tall), (broad, 1.44 * tall), (waist, hem), (-waist, hem)], top)
    figure.limb([(broad, 1.36 * tall), (broad + 0.07, 1.08 * tall), (broad - stride, 0.86 * tall)], 0.11, top * 0.9)
    if rng.random() < 0.35:
        figure.shape([(0.2, 0.95), (0.48, 0.95), (0.45, 0.6), (0.22, 0.6)], paint(rng))
    figure.limb([(0.0, 1.42 * tall), (0.01, 1.56 * tall)], 0.1, skin)
    figure.ball((0.01, 1.63 * tall), 0.125, hair)
    if rng.random() < 0.6:
        figure.ball((0.03, 1.605 * tall), 0.1, skin)


def draw_cyclist(stage: Stage, rng: np.random.Generator, place: Place) -> None:
    """Draw a rider on a bicycle; the heading shortens the bicycle as seen from ahead or behind."""
    figure = _Figure(stage=stage, place=place, mirror=float(rng.choice((-1, 1))))
    long = 0.25 + 0.75 * abs(np.sin(place.heading))
    top, legs, frame, skin = paint(rng), paint(rng) * 0.7, paint(rng), _skin(rng)
    helmet = paint(rng) if rng.random() < 0.6 else skin * 0.35
    back, front, hip, chest = -0.52 * long, 0.52 * long, (-0.2 * long, 0.98), (0.12 * long, 1.46)
    ground = figure.pixels([(back - 0.3 * long, 0.04), (front + 0.3 * long, 0.04), (front, -0.08), (back, -0.08)])
    stage.darken(ground, 0.6)
    for hub in (back, front):
        ring = [(hub + 0.35 * max(long, 0.2) * x, 0.35 + 0.35 * y) for x, y in _CIRCLE.tolist()]
        stage.claim(figure.pixels(ring), place.owner)
        figure.limb([*ring, ring[0]], 0.055, rgb(28, 28, 30))
    pedal, saddle, bar = (0.0, 0.33), (-0.2 * long, 0.9), (0.4 * long, 1.0)
    figure.limb([(back, 0.35), pedal, saddle, (back, 0.35)], 0.05, frame)
    figure.limb([saddle, (0.36 * long, 0.82), pedal], 0.05, frame)
    figure.limb([(front, 0.35), bar], 0.05, frame)
    for knee, foot in (
        ((0.2 * long, 0.72), (0.1 * long, 0.36)),
        ((0.1 * long + 0.06, 0.62), (-0.08 * long + 0.05, 0.24)),
    ):
        figure.limb([hip, knee, foot], 0.15, legs)
    broad = 0.2 - 0.06 * long
    left, right = (chest[0] - broad, chest[1]), (chest[0] + broad, chest[1] - 0.03)
    figure.shape([left, right, (hip[0] + broad, hip[1] - 0.08), (hip[0] - broad, hip[1] - 0.04)], top)
    figure.limb([(chest[0], 1.38), (chest[0] + 0.16 * long + 0.05, 1.12), bar], 0.1, top * 0.85)
    figure.limb([chest, (chest[0] + 0.04, 1.58)], 0.1, skin)
    figure.ball((chest[0] + 0.06 * long, 1.66), 0.13, helmet)
    figure.ball((chest[0] + 0.09 * long, 1.62), 0.085, skin)
