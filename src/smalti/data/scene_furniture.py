"""Poles, signs, traffic lights and litter bins of a procedural street scene."""

import numpy as np

from smalti.data.scene_stage import IGNORED, POLE, SIGN, Colour, Stage, material, rgb

_OCTAGON = np.stack(
    [np.cos(np.arange(8) * np.pi / 4 + np.pi / 8), np.sin(np.arange(8) * np.pi / 4 + np.pi / 8)], axis=1
)
_ROUND = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)
_TRIANGLE = np.array([[0.0, 1.0], [0.95, -0.65], [-0.95, -0.65]])
_RED, _WHITE, _BLUE, _YELLOW, _GREEN = (
    rgb(195, 30, 35),
    rgb(235, 235, 230),
    rgb(30, 75, 165),
    rgb(225, 185, 40),
    rgb(25, 110, 70),
)


def _post(stage: Stage, rng: np.random.Generator, foot: tuple[float, float], height: float, thick: float) -> Colour:
    x, z = foot
    grey = material(rng) if rng.random() < 0.5 else rgb(120, 122, 125) * rng.uniform(0.35, 1.6)
    colour = stage.light.shade(grey, z)
    width = max(stage.thin, thick * stage.camera.focal / z)
    stage.stroke(stage.camera.project([[x, 0, z], [x, height, z]]), width, colour, POLE)
    if width >= 4:  # a round post is brighter along its middle
        stage.stroke(stage.camera.project([[x, 0, z], [x, height, z]]), width / 3, np.minimum(colour * 1.3, 255), None)
    return colour


def draw_lamp_post(stage: Stage, rng: np.random.Generator, foot: tuple[float, float], toward: int) -> None:
    """Draw a street lamp at (x, z) whose arm reaches to the left (-1) or right (1)."""
    x, z = foot
    height, reach = rng.uniform(4.5, 8.5), toward * rng.uniform(0.5, 1.6)
    colour = _post(stage, rng, foot, height, rng.uniform(0.15, 0.24))
    width = max(stage.thin, 0.1 * stage.camera.focal / z)
    arm = stage.camera.project([[x, height, z], [x + reach, height + 0.3, z]])
    stage.stroke(arm, width, colour, POLE)
    head = stage.camera.project([[x + reach * 0.75, height + 0.22, z], [x + reach * 1.3, height + 0.3, z]])
    stage.stroke(head, width * 1.8, stage.light.shade(rgb(200, 200, 190), z), POLE)


def draw_sign(stage: Stage, rng: np.random.Generator, foot: tuple[float, float]) -> None:
    """Draw a road sign on a post at (x, z): round, triangular, octagonal, square, or a wide board."""
    x, z = foot
    kind, radius = int(rng.integers(5)), rng.uniform(0.45, 0.7)
    height = rng.uniform(2.1, 3.0)
    _post(stage, rng, foot, height + (0 if kind == 4 else radius * 0.6), rng.uniform(0.1, 0.16))
    outline = (_ROUND, _TRIANGLE, _OCTAGON, _SIGNS_SQUARE, _SIGNS_SQUARE * (rng.uniform(1.3, 1.9), 0.8))[kind] * radius
    border, field = _sign_colours(rng, kind)
    for size, colour in ((1.0, border), (0.74 if kind < 3 else 0.88, field)):
        points = np.stack([x + outline[:, 0] * size, height + outline[:, 1] * size, np.full(len(outline), z)], axis=1)
        stage.polygon(stage.camera.project(points), stage.light.shade(colour, z), SIGN)
    mark = _WHITE if field.mean() < 130 else rgb(25, 25, 30)
    for _ in range(int(rng.integers(1, 4))):
        level = height + rng.uniform(-0.35, 0.3) * radius
        bar = stage.camera.project([[x - 0.4 * radius, level, z], [x + 0.4 * radius * rng.uniform(0, 1), level, z]])
        stage.stroke(bar, 0.18 * radius * stage.camera.focal / z, stage.light.shade(mark, z), None)


_SIGNS_SQUARE = np.array([[-0.85, 0.85], [0.85, 0.85], [0.85, -0.85], [-0.85, -0.85]])


def _sign_colours(rng: np.random.Generator, kind: int) -> tuple[Colour, Colour]:
    if kind == 0:
        return ((_RED, _WHITE), (_WHITE, _BLUE), (_RED, _BLUE))[rng.integers(3)]
    if kind == 1:
        return (_RED, _WHITE if rng.random() < 0.7 else _YELLOW)
    if kind == 2:
        return (_WHITE, _RED)
    field = (_BLUE, _GREEN, _YELLOW, _WHITE)[rng.integers(4)]
    return (rgb(40, 40, 45) if field is _WHITE else _WHITE, field)


def draw_traffic_light(stage: Stage, rng: np.random.Generator, foot: tuple[float, float]) -> None:
    """Draw a traffic light on a post at (x, z); its box counts as a sign, as in CamVid."""
    x, z = foot
    height, scale = rng.uniform(2.6, 3.4), stage.camera.focal / z
    _post(stage, rng, foot, height, 0.15)
    box = np.array([[x - 0.2, height + 0.5, z], [x + 0.2, height + 0.5, z], [x + 0.2, height - 0.5, z]])
    corners = np.concatenate([box, [[x - 0.2, height - 0.5, z]]])
    stage.polygon(stage.camera.project(corners), stage.light.shade(rgb(28, 30, 30), z), SIGN)
    burning = int(rng.integers(3))
    for place, colour in enumerate((_RED, _YELLOW, rgb(40, 200, 110))):
        centre = stage.camera.project([[x, height + 0.31 - 0.31 * place, z]])[0]
        glow = colour * (1.2 if place == burning else 0.35)
        stage.disc(centre.tolist(), 0.12 * scale, np.clip(glow, 0, 255), None)


def draw_bin(stage: Stage, rng: np.random.Generator, foot: tuple[float, float]) -> None:
    """Draw a litter bin at (x, z): it belongs to no class, so its pixels are ignored."""
    x, z = foot
    body = [[x - 0.26, 0.95, z], [x + 0.26, 0.95, z], [x + 0.22, 0.0, z], [x - 0.22, 0.0, z]]
    lid = [[x - 0.29, 1.05, z], [x + 0.29, 1.05, z], [x + 0.29, 0.92, z], [x - 0.29, 0.92, z]]
    colour = material(rng) * 0.6
    stage.polygon(stage.camera.project(body), stage.light.shade(colour, z), IGNORED)
    stage.polygon(stage.camera.project(lid), stage.light.shade(colour, z, 0.7), IGNORED)
