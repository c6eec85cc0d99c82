"""The stage of a procedural street scene: camera, light, and a picture that remembers who owns each pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numpy.typing import ArrayLike, NDArray

Colour = NDArray[np.floating[Any]]

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
IGNORED = 255
FIRST_THING = 256  # owners below are class ids, owners from here on are single things
NOISE_SIZE = 256
_SHIFT = 4  # OpenCV takes sub-pixel coordinates as integers of 1/16 pixel
_FAR_AWAY = 8000.0  # pixels; keeps the fixed-point coordinates of very near corners inside OpenCV's range


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera above a flat street; metres to the right, up and ahead become pixels (x, y)."""

    focal: float
    height: float
    vanishing_x: float
    horizon: float
    roll: float
    curve: float  # the street's sideways offset at distance z is curve * z**2

    def bend(self, x: float, z: float) -> float:
        """Sideways position in metres of a point that lies `x` beside the street's axis, `z` ahead."""
        return x + self.curve * z * z

    def project(self, points: ArrayLike) -> Float32[np.ndarray, "points 2"]:
        """Pixel coordinates of points (right, up, ahead) in metres."""
        world = np.asarray(points, np.float32).reshape(-1, 3)
        scale = self.focal / np.maximum(world[:, 2], 0.6)
        u, v = world[:, 0] * scale, (self.height - world[:, 1]) * scale
        cosine, sine = math.cos(self.roll), math.sin(self.roll)
        pixels = np.empty((len(world), 2), np.float32)
        pixels[:, 0] = self.vanishing_x + cosine * u - sine * v
        pixels[:, 1] = self.horizon + sine * u + cosine * v
        return np.minimum(np.maximum(pixels, -_FAR_AWAY), _FAR_AWAY)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Illumination of a scene; colours are 0 to 255, `sun` 0 (overcast) to 1, `side` -1 (left) or 1."""

    ambient: Colour
    haze: Colour
    haze_density: float
    sun: float
    side: int

    def shade(self, colour: Colour, depth: float, brightness: float = 1.0) -> Colour:
        """Colour (any leading axes) as seen from `depth` metres away."""
        clear = math.exp(-self.haze_density * depth)
        lit: Colour = colour * (self.ambient * np.float32(brightness * clear))
        lit += self.haze * np.float32(1 - clear)
        return np.minimum(lit, np.float32(255))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A picture under construction, painted from far to near; `owners` holds class ids and, from 256, things."""

    camera: Camera
    light: Light
    noise: Float32[np.ndarray, "256 256"]  # zero mean, unit variance, several octaves
    image: UInt8[np.ndarray, "height width 3"]
    owners: Int32[np.ndarray, "height width"]

    @property
    def thin(self) -> float:
        """The least width in pixels of a thin thing: 3 at 192 rows."""
        return float(max(1.6, 3 * self.image.shape[0] / 192))

    def polygon(self, pixels: NDArray[np.floating[Any]], colour: Colour, owner: int | None) -> None:
        """Fill a convex polygon; owner None leaves the owners as they are."""
        fixed = np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(self.image, fixed, colour.tolist(), cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.fillConvexPoly(self.owners, fixed, owner, cv2.LINE_8, _SHIFT)

    def claim(self, pixels: NDArray[np.floating[Any]], owner: int) -> None:
        """Give the convex hull of some points to an owner without painting it."""
        fixed = np.rint(cv2.convexHull(pixels) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(self.owners, fixed, owner, cv2.LINE_8, _SHIFT)

    def stroke(self, pixels: NDArray[np.floating[Any]], width: float, colour: Colour, owner: int | None) -> None:
        """Draw a line through the points, `width` pixels wide and never thinner than one."""
        fixed = [np.rint(pixels * (1 << _SHIFT)).astype(np.int32)]
        thickness = max(1, round(width))
        cv2.polylines(self.image, fixed, False, colour.tolist(), thickness, cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.polylines(self.owners, fixed, False, owner, thickness, cv2.LINE_8, _SHIFT)

    def disc(self, centre: Sequence[float], radius: float, colour: Colour, owner: int | None) -> None:
        """Fill a circle given in pixels."""
        one = 1 << _SHIFT
        fixed = (round(centre[0] * one), round(centre[1] * one))
        cv2.circle(self.image, fixed, round(radius * one), colour.tolist(), -1, cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.circle(self.owners, fixed, round(radius * one), owner, -1, cv2.LINE_8, _SHIFT)

    def darken(self, pixels: NDArray[np.floating[Any]], factor: float) -> None:
        """Multiply a convex polygon by a factor: a shadow on the ground."""
        window = self.window(pixels)
        if window is None:
            return
        rows, columns = window
        mask = np.full((rows.stop - rows.start, columns.stop - columns.start), 255, np.uint8)
        local = np.rint((pixels - (columns.start, rows.start)) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(mask, local, int(255 * factor), cv2.LINE_AA, _SHIFT)
        part = self.image[rows, columns]
        cv2.multiply(part, cv2.merge([mask] * 3), dst=part, scale=1 / 255)

    def drape(self, quad: NDArray[np.floating[Any]], texture: NDArray[np.uint8], owner: int) -> None:
        """Stretch a texture over four pixels (its corners, clockwise from top left); a 4th channel cuts holes.

        The owner gets the whole quadrilateral, holes included, as people label fences.
        """
        window = self.window(quad)
        if window is None:
            return
        rows, columns = window
        size = (columns.stop - columns.start, rows.stop - rows.start)
        height, width = texture.shape[:2]
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        local = (quad - (columns.start, rows.start)).astype(np.float32)
        warped = cv2.warpPerspective(texture, cv2.getPerspectiveTransform(corners, local), size, borderMode=1)
        mask = np.zeros(size[::-1], np.uint8)
        cv2.fillConvexPoly(mask, np.rint(local * (1 << _SHIFT)).astype(np.int32), 255, cv2.LINE_8, _SHIFT)
        self.owners[rows, columns][mask > 0] = owner
        if texture.shape[2] == 4:
            mask &= (warped[..., 3] > 127).astype(np.uint8) * 255
        cv2.copyTo(np.ascontiguousarray(warped[..., :3]), mask, self.image[rows, columns])

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether a thing of some metres' radius at (x, z) may reach into the picture, going by its columns."""
        column = float(self.camera.project([[x, 1, z]])[0, 0])
        reach = radius * self.camera.focal / z + 4
        return bool(-reach < column < self.image.shape[1] + reach)

    def grain(self, row: int, column: int, shape: tuple[int, int]) -> Float32[np.ndarray, "rows columns"]:
        """A piece of the noise, repeated as often as it takes."""
        height, width = row + shape[0], column + shape[1]
        if height > NOISE_SIZE or width > NOISE_SIZE:
            tiled = np.tile(self.noise, (-(-height // NOISE_SIZE), -(-width // NOISE_SIZE)))
            return tiled[row:height, column:width]
        return self.noise[row:height, column:width]

    def window(self, pixels: NDArray[np.floating[Any]]) -> tuple[slice, slice] | None:
        """Rows and columns of the picture that some points span; None when they miss it."""
        height, width = self.image.shape[:2]
        (low_x, low_y), (high_x, high_y) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        left, top = max(math.floor(low_x), 0), max(math.floor(low_y), 0)
        right, bottom = min(math.ceil(high_x) + 1, width), min(math.ceil(high_y) + 1, height)
        return (slice(top, bottom), slice(left, right)) if right - left > 1 and bottom - top > 1 else None


def rgb(red: float | int, green: float | int, blue: float | int) -> Colour:
    """A colour of three numbers from 0 to 255."""
    return np.array([red, green, blue], np.float32)


def material(rng: np.random.Generator) -> Colour:
    """A colour of built things, the same range for walls, paving, fences and poles: it tells little about the class."""
    families = ((128, 128, 128), (150, 90, 70), (190, 170, 135), (120, 130, 145), (215, 205, 190), (95, 80, 65))
    chosen = np.array(families[rng.choice(6, p=(0.34, 0.16, 0.14, 0.14, 0.12, 0.1))], np.float32)
    return np.clip(chosen * rng.uniform(0.55, 1.25) + rng.normal(0, 9, 3), 18, 245).astype(np.float32)


def paint(rng: np.random.Generator) -> Colour:
    """A colour of clothes and cars: greys for the greater part, else anything."""
    if rng.random() < 0.55:
        return np.clip(rng.uniform(20, 235) + rng.normal(0, 7, 3), 10, 245).astype(np.float32)
    return rng.uniform(15, 225, 3).astype(np.float32)
