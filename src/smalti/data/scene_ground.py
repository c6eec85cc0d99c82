"""Sky, ground and far background of a procedural street scene."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from smalti.data.scene_stage import (
    BUILDING,
    NOISE_SIZE,
    PAVEMENT,
    ROAD,
    TREE,
    Camera,
    Colour,
    Stage,
    material,
    rgb,
)

_SHADOW_STEP = 0.5  # metres per entry of the shadow table
Map = Float32[np.ndarray, "rows columns"]


@dataclass(frozen=True, kw_only=True)
class Street:
    """The cross-section of a street in metres to the right of the camera, and its junction, if any."""

    left: float
    right: float
    left_pavement: float
    right_pavement: float
    junction: tuple[float, float]  # from and to ahead of the camera; (inf, inf) where there is none

    def edge(self, side: int) -> float:
        """The kerb on the left (-1) or on the right (1)."""
        return self.left if side < 0 else self.right

    def building_line(self, side: int) -> float:
        """Where the pavement ends on the left (-1) or on the right (1)."""
        return self.left - self.left_pavement if side < 0 else self.right + self.right_pavement


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The look of a ground: colour, strength of its fine and coarse noise, pitch of its joints (0 = none)."""

    colour: Colour
    fine: float
    coarse: float
    pitch: float
    depth: float


def paint_sky(stage: Stage, rng: np.random.Generator) -> None:
    """Fill the picture with a sky: a gradient from the top to the haze at the horizon, and clouds."""
    height, width = stage.image.shape[0] // 2, stage.image.shape[1] // 2  # a sky is smooth: half the size will do
    zeniths = (rgb(95, 140, 205), rgb(175, 178, 182), rgb(120, 115, 140), rgb(225, 228, 230), rgb(90, 95, 105))
    zenith = zeniths[rng.integers(5)] * rng.uniform(0.8, 1.1)
    zenith = zenith * 0.6 + zenith * stage.light.ambient * 0.4
    ramp = np.clip(np.arange(height, dtype=np.float32) / max(stage.camera.horizon / 2, 1), 0, 1)[:, None]
    row, column = rng.integers(0, 200, 2)
    patch = stage.noise[row : row + 48, column : column + 24]
    clouds = cv2.resize(patch, (width, height), interpolation=cv2.INTER_CUBIC)
    cover = np.clip(clouds * np.float32(rng.uniform(0, 0.7)) + np.float32(rng.uniform(-0.6, 0.2)), 0, 0.85)
    base = (zenith * (1 - ramp) + stage.light.haze * ramp).astype(np.float32)
    white = np.minimum(stage.light.haze * np.float32(1.15), 255)
    sky = base[:, None, :] + (white - base)[:, None, :] * cover[..., None]
    cv2.resize(cv2.convertScaleAbs(sky), stage.image.shape[1::-1], dst=stage.image)


def surface(rng: np.random.Generator, joints: float) -> Surface:
    """A random ground; `joints` is the chance that it is laid of slabs or stones."""
    colour = material(rng)
    if joints < 0.5 and rng.random() < 0.88:  # asphalt: a dull, middle grey
        colour = colour * np.float32(0.2) + np.float32(rng.uniform(60, 105))
    pitch = rng.choice((0.3, 0.5, 0.8, 1.2)) if rng.random() < joints else 0.0
    return Surface(
        colour=colour,
        fine=rng.uniform(0.03, 0.13),
        coarse=rng.uniform(0.02, 0.1),
        pitch=float(pitch),
        depth=rng.uniform(0.12, 0.35),
    )


def paint_ground(
    stage: Stage, rng: np.random.Generator, street: Street, shadow: Float32[np.ndarray, "entries"]
) -> None:
    """Paint road, pavements, kerbs and lane marks below the horizon.

    `shadow` holds the reach in metres of the buildings' shade over the street, from the side of the sun, for each
    half metre ahead.
    """
    rows, x, z = _ground_plane(stage)
    if rows.start >= rows.stop:
        return
    crossing = (z > street.junction[0]) & (z < street.junction[1])
    on_road = ((x > street.left) & (x < street.right)) | crossing
    road, pavement = surface(rng, 0.08), surface(rng, 0.92)
    brightness = np.where(on_road, _relief(stage, road, x, z), _relief(stage, pavement, x, z))
    kerb = (np.minimum(np.abs(x - street.left + 0.1), np.abs(x - street.right - 0.1)) < 0.17) & ~crossing
    marks = _lane_marks(rng, street, x, z) & on_road & (stage.noise[_texel(x, 9), _texel(z, 9)] > -1.2)
    kinds = (~on_road).astype(np.uint8)
    kinds[kerb] = 2
    kinds[marks] = 3
    edge = np.clip(pavement.colour * rng.choice((0.65, 1.35)), 20, 245)
    mark = rgb(225, 222, 215) if rng.random() < 0.8 else rgb(215, 180, 70)
    palette = np.stack([road.colour, pavement.colour, edge, mark * rng.uniform(0.75, 1)]).astype(np.float32)
    reach = shadow[np.minimum((z / _SHADOW_STEP).astype(np.int32), len(shadow) - 1)]
    shaded = stage.light.side * (street.building_line(stage.light.side) - x) < reach
    brightness -= brightness * shaded * np.float32(0.5 * stage.light.sun)
    clear = np.exp(z * np.float32(-stage.light.haze_density))
    brightness *= clear
    lit, haze = (palette * stage.light.ambient).astype(np.float32), stage.light.haze.tolist()
    channels = [lit[:, band].take(kinds) * brightness + (1 - clear) * np.float32(haze[band]) for band in range(3)]
    ground = (z < 400).astype(np.uint8)
    cv2.copyTo(cv2.convertScaleAbs(cv2.merge(channels)), ground, stage.image[rows])
    cv2.copyTo(np.where(on_road, np.int32(ROAD), np.int32(PAVEMENT)), ground, stage.owners[rows])


def _ground_plane(stage: Stage) -> tuple[slice, Map, Map]:
    """Rows that may show ground, and for their pixels the metres beside the street's axis and ahead."""
    camera: Camera = stage.camera
    height, width = stage.image.shape[:2]
    first = int(np.clip(camera.horizon - abs(np.tan(camera.roll)) * width, 0, height))
    dx = np.arange(width, dtype=np.float32)[None, :] - np.float32(camera.vanishing_x)
    dy = np.arange(first, height, dtype=np.float32)[:, None] - np.float32(camera.horizon)
    cosine, sine = np.float32(np.cos(camera.roll)), np.float32(np.sin(camera.roll))
    u, v = cosine * dx + sine * dy, cosine * dy - sine * dx
    z = np.minimum(np.float32(camera.focal * camera.height) / np.maximum(v, np.float32(1e-3)), np.float32(400))
    return slice(first, height), u * z / np.float32(camera.focal) - np.float32(camera.curve) * z * z, z


def _texel(metres: Map, per_metre: int) -> np.ndarray:
    return np.bitwise_and((metres * np.float32(per_metre)).astype(np.int32), NOISE_SIZE - 1)


def _wrapped(metres: Map, period: float) -> Map:
    """The remainder of a division; faster than NumPy's own."""
    turns = metres * np.float32(1 / period)
    turns -= np.floor(turns)
    turns *= np.float32(period)
    return turns


def _relief(stage: Stage, ground: Surface, x: Map, z: Map) -> Map:
    fine = stage.noise[_texel(x, 37), _texel(z, 23)] * np.float32(ground.fine)
    relief: Map = 1 + fine + stage.noise[_texel(x, 5), _texel(z, 3)] * np.float32(ground.coarse)
    if ground.pitch:
        width = 0.04 + 0.004 * z
        joint = (_wrapped(x, ground.pitch) < width) | (_wrapped(z, ground.pitch) < width * 1.5)
        relief -= (joint & (z < 22)) * np.float32(ground.depth)
    return relief


def _lane_marks(rng: np.random.Generator, street: Street, x: Map, z: Map) -> np.ndarray:
    middle = (street.left + street.right) / 2 + rng.normal(0, 0.2)
    period, filled = rng.uniform(4, 8), rng.uniform(0.4, 0.7)
    marks = (np.abs(x - middle) < 0.09) & (_wrapped(z + np.float32(rng.uniform(0, 8)), period) < period * filled)
    marks &= bool(rng.random() < 0.75)
    if rng.random() < 0.45:
        inset = rng.uniform(0.3, 0.6)
        marks |= (np.abs(x - street.left - inset) < 0.07) | (np.abs(x - street.right + inset) < 0.07)
    start = street.junction[0] - 4 if np.isfinite(street.junction[0]) else rng.uniform(5, 18)
    if rng.random() < 0.4:
        marks |= (z > start) & (z < start + 3) & (_wrapped(x, 1.0) < 0.5)
    return marks


def paint_backdrop(stage: Stage, rng: np.random.Generator) -> None:
    """Close the horizon with far houses and tree tops."""
    width = stage.image.shape[1]
    unit = stage.camera.focal / 75  # pixels per metre, 75 m away
    x = -0.6 * width
    while x < 1.6 * width:
        step = rng.uniform(5, 16) * unit
        top = rng.uniform(2.5, 15) * unit
        corners = np.array([[x, -top], [x + step, -top * rng.uniform(0.7, 1)], [x + step, 2.5 * unit], [x, 2.5 * unit]])
        slope = np.tan(stage.camera.roll)
        corners[:, 1] += stage.camera.horizon + slope * (corners[:, 0] - stage.camera.vanishing_x)
        tree = rng.random() < 0.4
        colour = rgb(70, 85, 55) * rng.uniform(0.7, 1.2) if tree else material(rng)
        shown = stage.light.shade(colour, 75.0)
        stage.polygon(corners.astype(np.float32), shown, TREE if tree else BUILDING)
        for share in rng.random(5).tolist() if tree else ():  # round tree tops
            crown = corners[0] + (corners[1] - corners[0]) * share
            stage.disc(crown.tolist(), rng.uniform(1.2, 2.4) * unit, shown * np.float32(rng.uniform(0.85, 1)), TREE)
        x += step
