"""Procedural street scenes with CamVid's eleven classes: training data that needs no download.

They are made so that colour and place tell little (walls, paving, fences and poles share their colours, the horizon,
the street and the weather change) while shape, texture and context tell a person at once what is what.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from smalti.data.scene_ground import paint_backdrop, paint_ground, paint_sky
from smalti.data.scene_layout import plan_scene, plan_street
from smalti.data.scene_stage import FIRST_THING, IGNORED, NOISE_SIZE, Camera, Colour, Light, Stage, rgb

SCENES_VERSION = 1  # numbers name it; a changed pixel is a new version

_SMALLEST = (64, 96)
_LEAST_PIXELS = 12  # smaller remains of a thing are nobody's to recognise


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A drawn street scene, RGB; `semantic` holds 0-10 and 255 (ignored), `instance_ids` 1..N, 0 where there is none.

    Only cars, pedestrians and bicyclists are instances, and each of them has at least 12 visible pixels.
    """

    image: UInt8[np.ndarray, "height width 3"]
    semantic: UInt8[np.ndarray, "height width"]
    instance_ids: Int32[np.ndarray, "height width"]


def draw_scene(seed: int, size: tuple[int, int] = (192, 256)) -> Scene:
    """Draw the scene of a seed; the same seed and size (height, width) give the same bytes.

    Raises:
        ValueError: If the size is below 64 x 96 pixels.
    """
    if size[0] < _SMALLEST[0] or size[1] < _SMALLEST[1]:
        raise ValueError(
            f"A street scene needs at least 64 x 96 pixels, got {size[0]} x {size[1]}: ask for a larger one."
        )
    rng = np.random.default_rng(seed)
    light = _light(rng)
    stage = Stage(
        camera=_camera(rng, size),
        light=light,
        noise=_noise(rng),
        image=np.zeros((*size, 3), np.uint8),
        owners=np.zeros(size, np.int32),
    )
    street = plan_street(rng)
    plan = plan_scene(stage, rng, street)
    paint_sky(stage, rng)
    paint_backdrop(stage, rng)
    paint_ground(stage, rng, street, plan.shade)
    for piece in plan.pieces:
        piece.draw(stage, rng)
    semantic, instance_ids = _labels(stage.owners, plan.things)
    return Scene(image=_photograph(rng, stage.image), semantic=semantic, instance_ids=instance_ids)


def _camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    height, width = size
    return Camera(
        focal=width * rng.uniform(0.75, 1.15),
        height=rng.uniform(1.3, 2.3),
        vanishing_x=width * rng.uniform(0.22, 0.78),
        horizon=height * rng.uniform(0.37, 0.56),
        roll=np.radians(rng.uniform(-4, 4)),
        curve=rng.uniform(-0.004, 0.004) if rng.random() < 0.6 else 0.0,
    )


def _light(rng: np.random.Generator) -> Light:
    """Sunny, overcast, dusk or fog."""
    weather = rng.choice(4, p=(0.42, 0.3, 0.15, 0.13))
    ambient: tuple[Colour, ...] = (
        rgb(1.08, 1.04, 0.98),
        rgb(0.86, 0.88, 0.92),
        rgb(0.85, 0.66, 0.6),
        rgb(0.9, 0.9, 0.9),
    )
    haze = (rgb(200, 212, 225), rgb(195, 197, 200), rgb(225, 165, 120), rgb(190, 192, 194))[weather]
    return Light(
        ambient=ambient[weather] * np.float32(rng.uniform(0.85, 1.12)),
        haze=(haze * rng.uniform(0.7, 1.1)).astype(np.float32),
        haze_density=float((0.003, 0.006, 0.006, 0.022)[weather] * rng.uniform(0.4, 1.3)),
        sun=float((rng.uniform(0.5, 1), 0.1, 0.45, 0.0)[weather]),
        side=int(rng.choice((-1, 1))),
    )


def _noise(rng: np.random.Generator) -> np.ndarray:
    """A tile of noise of four octaves with zero mean and unit variance."""
    total = np.zeros((NOISE_SIZE, NOISE_SIZE), np.float32)
    for cells in (16, 48, 128, NOISE_SIZE):
        octave = rng.integers(0, 256, (cells, cells), np.uint8).astype(np.float32)
        total += cv2.resize(octave, (NOISE_SIZE, NOISE_SIZE), interpolation=cv2.INTER_LINEAR)
    total -= total.mean()
    total /= total.std()
    return total


def _labels(owners: np.ndarray, things: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Classes and instance ids of the owners; things of which too little is visible are ignored."""
    counts = np.bincount(owners.ravel(), minlength=FIRST_THING + len(things))[FIRST_THING:]
    seen = counts >= _LEAST_PIXELS
    classes = np.concatenate([np.arange(FIRST_THING), np.where(seen, things, IGNORED)]).astype(np.uint8)
    ids = np.concatenate([np.zeros(FIRST_THING, np.int32), np.where(seen, np.cumsum(seen), 0)]).astype(np.int32)
    return classes[owners], ids[owners]


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What lens, sensor and file do to a picture: blur, colour cast, vignette, noise and JPEG blocks."""
    height, width = image.shape[:2]
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.65) * max(1.0, height / 240))
    levels = np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(rng.uniform(0.8, 1.3))
    cast = rng.uniform(0.88, 1.1, 3).astype(np.float32) * np.float32(255)
    table = np.clip(levels[:, None] * cast + rng.uniform(0, 16), 0, 255)
    photo = cv2.LUT(blurred, table.astype(np.uint8)[None]).astype(np.float32)
    across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    photo *= (1 - np.float32(rng.uniform(0, 0.16)) * (across**2 + down[:, None] ** 2))[..., None]
    grain = rng.integers(0, 256, photo.shape, np.uint8).astype(np.float32) - np.float32(127.5)
    photo += grain * np.float32(rng.uniform(0.005, 0.05))
    final = np.clip(photo, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        _, coded = cv2.imencode(".jpg", final, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 95))])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return final
