"""Buildings, trees and fences of a procedural street scene."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from smalti.data.scene_stage import BUILDING, FENCE, TREE, Colour, Stage, material, rgb

_STOREY = 3.0  # metres


@dataclass(frozen=True, kw_only=True)
class House:
    """A house beside the street: from `near` to `far` metres ahead, its wall `x` metres beside the street's axis."""

    side: int
    x: float
    near: float
    far: float
    storeys: int
    detached: bool  # False where the nearer neighbour hides the wall across the street

    @property
    def height(self) -> float:
        """Height of the eaves in metres."""
        return self.storeys * _STOREY + 0.6


def draw_house(stage: Stage, rng: np.random.Generator, house: House) -> None:
    """Draw the two visible walls and, for some, the roof of a house."""
    camera, light = stage.camera, stage.light
    near_x, far_x = camera.bend(house.x, house.near), camera.bend(house.x, house.far)
    back_x = near_x + house.side * rng.uniform(7, 11)
    top, wall = house.height, material(rng)
    street_wall = camera.project(
        [[near_x, top, house.near], [far_x, top, house.far], [far_x, 0, house.far], [near_x, 0, house.near]]
    )
    front_wall = camera.project(
        [[near_x, top, house.near], [back_x, top, house.near], [back_x, 0, house.near], [near_x, 0, house.near]]
    )
    sunny = 1 + 0.2 * light.sun
    if rng.random() < 0.45 and house.storeys <= 4:
        _draw_roof(stage, rng, house, (near_x, far_x, back_x))
    look = _Look(rng=rng, stage=stage, wall=wall, depth=(house.near + house.far) / 2)
    bays = max(1, round((house.far - house.near) / rng.uniform(2.2, 3.6)))
    lit = sunny if house.side != light.side else 1 - 0.28 * light.sun
    pixels = float(camera.focal * _STOREY / house.near)
    if stage.window(street_wall):
        stage.drape(street_wall, facade(look, (house.storeys, bays), pixels, lit), BUILDING)
    if house.detached and stage.window(front_wall):
        look = _Look(rng=rng, stage=stage, wall=wall, depth=house.near, windows=rng.random() < 0.7)
        stage.drape(front_wall, facade(look, (house.storeys, 3), pixels, rng.uniform(0.7, 1.1)), BUILDING)


def _draw_roof(stage: Stage, rng: np.random.Generator, house: House, xs: tuple[float, float, float]) -> None:
    near_x, far_x, back_x = xs
    ridge, rise = (near_x + back_x) / 2, house.height + rng.uniform(1.5, 3.5)
    colour = rgb(150, 75, 55) * rng.uniform(0.6, 1.2) if rng.random() < 0.5 else material(rng)
    slope = stage.camera.project(
        [
            [near_x, house.height, house.near],
            [far_x, house.height, house.far],
            [far_x + ridge - near_x, rise, house.far],
            [ridge, rise, house.near],
        ]
    )
    gable = stage.camera.project(
        [[near_x, house.height, house.near], [ridge, rise, house.near], [back_x, house.height, house.near]]
    )
    stage.polygon(slope, stage.light.shade(colour, house.near), BUILDING)
    stage.polygon(gable, stage.light.shade(colour, house.near, 0.75), BUILDING)


@dataclass(frozen=True, kw_only=True)
class _Look:
    rng: np.random.Generator
    stage: Stage
    wall: Colour
    depth: float
    windows: bool = True


def facade(
    look: _Look, cells: tuple[int, int], storey_pixels: float, lit: float
) -> UInt8[np.ndarray, "rows columns 3"]:
    """A wall of (storeys, bays) with windows, ground floor and brick or plaster, near the size it is seen at."""
    rng, storeys, bays = look.rng, *cells
    cell = int(np.clip(storey_pixels * 0.8, 5, min(28, 200 // storeys)))
    height, width = storeys * cell, bays * cell
    row, column = rng.integers(0, 200, 2).tolist()
    relief = 1 + look.stage.grain(row, column, (height, width)) * np.float32(rng.uniform(0.02, 0.1))
    if rng.random() < 0.4 and cell >= 14:
        relief[:: rng.integers(2, 5)] *= 0.86
    if rng.random() < 0.3:
        relief[::cell] *= 0.75
    wall = look.stage.light.shade(look.wall, look.depth, lit)
    texture = cv2.merge([cv2.convertScaleAbs(relief, alpha=channel) for channel in wall.tolist()])
    if look.windows:
        _add_windows(texture, look, cells, cell)
    return texture


def _add_windows(texture: UInt8[np.ndarray, "rows columns 3"], look: _Look, cells: tuple[int, int], cell: int) -> None:
    rng, light = look.rng, look.stage.light
    left, top = rng.uniform(0.1, 0.32), rng.uniform(0.14, 0.3)
    right, bottom = 1 - left, rng.uniform(0.66, 0.86)
    inner = [round(cell * edge) for edge in (top, bottom, left, right)]
    blocks = texture.reshape(cells[0], cell, cells[1], cell, 3)
    glass = rng.choice((35.0, 60.0, 95.0, 150.0)) * rng.uniform(0.8, 1.2)
    tint = np.array([0.92, 1.0, 1.1], np.float32) * np.float32(glass)
    panes = tint * rng.uniform(0.6, 1.4, (cells[0], 1, cells[1], 1, 1)).astype(np.float32)
    glow = rng.random((cells[0], 1, cells[1], 1, 1)) < rng.choice((0.0, 0.04, 0.25), p=(0.5, 0.35, 0.15))
    panes = light.shade(np.where(glow, rgb(250, 215, 140), panes), look.depth).astype(np.uint8)
    frame = light.shade(rgb(1, 1, 1) * float(rng.choice((235.0, 60.0, 160.0))), look.depth).astype(np.uint8)
    if cell >= 9:
        blocks[:, inner[0] - 1 : inner[1] + 1, :, inner[2] - 1 : inner[3] + 1] = frame
    blocks[:, inner[0] : inner[1], :, inner[2] : inner[3]] = panes
    if cell >= 14 and rng.random() < 0.6:
        middle = (inner[2] + inner[3]) // 2
        blocks[:, inner[0] : inner[1], :, middle : middle + 1] = frame
    if rng.random() < 0.45:  # shops: a band of colour above large dark panes
        floor = blocks[-1]
        floor[: cell // 4] = light.shade(rng.uniform(30, 230, 3), look.depth).astype(np.uint8)
        floor[cell // 4 : cell, :, cell // 8 : cell - cell // 8] = panes[-1]
    elif cells[1] > 1:  # a door
        door = blocks[-1, cell // 4 :, rng.integers(cells[1]), cell // 3 : cell - cell // 3]
        door[:] = light.shade(rng.uniform(25, 190, 3), look.depth).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree or bush standing at (x, z) metres; `crown` is the radius of its foliage, 0 < `bare` <= 1 thins it."""

    x: float
    z: float
    height: float
    crown: float
    bare: float = 0.0
    colour: Colour


def draw_tree(stage: Stage, rng: np.random.Generator, tree: Tree) -> None:
    """Draw trunk and crown; a crown is a heap of discs with a ragged edge and clumps of light and shade."""
    if not stage.sees(tree.x, tree.z, tree.crown * 1.4):
        return
    scale = stage.camera.focal / tree.z
    foot, head = stage.camera.project([[tree.x, 0, tree.z], [tree.x + rng.normal(0, 0.15), tree.height, tree.z]])
    bark = stage.light.shade(rgb(95, 80, 65) * rng.uniform(0.5, 1.3), tree.z)
    if tree.height > tree.crown * 1.6:
        stage.stroke(
            np.stack([foot, foot * 0.4 + head * 0.6]), max(stage.thin, scale * tree.height * 0.045), bark, TREE
        )
    radius = tree.crown * scale
    centre = head + (foot - head) * np.float32(min(1.0, 0.8 * tree.crown / tree.height))
    square = np.array([centre - 1.35 * radius, centre + 1.35 * radius], np.float32)
    window = stage.window(square)
    if window is None:
        return
    rows, columns = window
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    clumps = _clumps(stage, rng, shape)
    field = np.zeros(shape, np.float32)
    conifer = rng.random() < 0.15
    middle_x, middle_y = float(centre[0]) - columns.start, float(centre[1]) - rows.start
    for step, (turn, away, share) in enumerate(rng.random((8, 3)).tolist()):
        reach, size = (0.2 + 0.45 * away) * radius, (0.35 + 0.25 * share) * radius
        x, y = middle_x + math.cos(6.28 * turn) * reach, middle_y + math.sin(6.28 * turn) * reach
        if conifer:
            x, y, size = middle_x, middle_y + (step * 0.3 - 1.2) * radius, (0.12 + 0.08 * step) * radius
        cv2.circle(field, (round(x), round(y)), max(1, round(size)), 1.0, -1)
    side = int(radius * 0.3) | 1
    field = cv2.blur(field, (side, side)) + clumps * np.float32(0.16)
    leaves = field > 0.52
    shown = leaves & (clumps > np.float32(-0.9 + tree.bare)) if tree.bare else leaves
    light = np.linspace(1.15, 0.75, shape[0], dtype=np.float32)[:, None] + clumps * np.float32(0.2)
    colour = stage.light.shade(tree.colour, tree.z)
    texture = cv2.merge([cv2.convertScaleAbs(light, alpha=channel) for channel in colour.tolist()])
    cv2.copyTo(texture, shown.astype(np.uint8), stage.image[rows, columns])
    stage.owners[rows, columns][leaves] = TREE


def _clumps(stage: Stage, rng: np.random.Generator, shape: tuple[int, int]) -> Float32[np.ndarray, "rows columns"]:
    row, column = rng.integers(0, 120, 2).tolist()
    wide = cv2.resize(stage.noise[row : row + 24, column : column + 24], shape[::-1], interpolation=cv2.INTER_LINEAR)
    return wide * np.float32(0.8) + stage.grain(row, column, shape) * np.float32(0.5)


@dataclass(frozen=True, kw_only=True)
class Fence:
    """One panel of a fence between two points (x, z) in metres; `kind` 0 boards, 1 pickets, 2 bars, 3 mesh."""

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    kind: int
    colour: Colour


def draw_fence(stage: Stage, rng: np.random.Generator, fence: Fence) -> None:
    """Draw a panel of a fence: its texture with holes, draped between its two posts."""
    (near_x, near), (far_x, far) = fence.start, fence.end
    quad = stage.camera.project(
        [[near_x, fence.height, near], [far_x, fence.height, far], [far_x, 0, far], [near_x, 0, near]]
    )
    if stage.window(quad) is None:
        return
    colour = stage.light.shade(fence.colour * rng.uniform(0.92, 1.08), (near + far) / 2)
    texture = np.zeros((24, 48, 4), np.uint8)
    texture[..., :3] = colour
    opaque = texture[..., 3]
    if fence.kind == 0:
        opaque[:] = 255
        texture[:, ::6, :3] = colour * 0.6
    elif fence.kind == 1:
        opaque[:, np.arange(48) % 6 < 4] = 255
        opaque[[4, 5, 6, 17, 18, 19]] = 255
    elif fence.kind == 2:
        opaque[:, np.arange(48) % 6 < 2] = 255
        opaque[[0, 1, 2, 3, 20, 21, 22]] = 255
    else:
        diagonal = np.add.outer(np.arange(24), np.arange(48)) % 6 < 2
        opaque[diagonal | diagonal[:, ::-1]] = 255
        opaque[:2] = 255
    opaque[:, :3] = 255  # the post
    texture[:, 3, :3] = colour * 0.55
    texture[0, :, :3] = np.minimum(colour * 1.25, 255)
    stage.drape(quad, texture, FENCE)


def foliage(rng: np.random.Generator) -> Colour:
    """A colour of leaves: green for the greater part, else autumn or winter."""
    families = ((75, 95, 50), (95, 115, 60), (55, 70, 50), (165, 110, 50), (120, 105, 85), (135, 65, 50))
    chosen = np.array(families[rng.choice(6, p=(0.34, 0.24, 0.24, 0.08, 0.06, 0.04))], np.float32)
    return np.clip(chosen * rng.uniform(0.6, 1.35) + rng.normal(0, 6, 3), 10, 235).astype(np.float32)
