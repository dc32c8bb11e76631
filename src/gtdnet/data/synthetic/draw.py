"""Scenes to frames, in numpy alone; lengths become pixels by the picture's shorter side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.synthetic.classes import compose, find_edition
from gtdnet.data.synthetic.scene import Array, Scene, Thing


def _enlarge(grid: Array, height: int, width: int) -> Array:
    """[h, w, 3] to [height, width, 3], smooth between the grid's points."""
    for axis, size in ((0, height), (1, width)):
        at = np.linspace(0, grid.shape[axis] - 1, size, dtype=np.float32)
        low = np.minimum(at.astype(np.intp), grid.shape[axis] - 2)
        part = at - low
        part = (part * part * (3 - 2 * part)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        before = np.take(grid, low, axis)
        grid = before + (np.take(grid, low + 1, axis) - before) * part
    return grid


def draw_thing(thing: Thing, shake: Array, unit: float) -> tuple[NDArray[np.intp], Array, Array]:
    """Corners [T, 2] (row, column), coverage [T, S, S, 1] and colours [T, S, S, 3] in pixels."""
    # A sharp corner's soft edge reaches farther out than half a pixel.
    half = math.ceil(thing.extent * float(thing.scale.max()) * unit) + 2
    center = np.stack([thing.y + shake[:, 1], thing.x + shake[:, 0]], 1) * unit  # [T, 2]
    corner = np.floor(center).astype(np.intp) - half
    grid = np.arange(2 * half + 1, dtype=np.float32) + 0.5
    zoom = (thing.scale * unit)[:, None, None]
    offset = (grid - (center - corner)[..., None]).astype(np.float32)  # [T, 2, S]
    dy, dx = offset[:, 0, :, None] / zoom, offset[:, 1, None, :] / zoom
    cos, sin = np.cos(thing.angle)[:, None, None], np.sin(thing.angle)[:, None, None]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # [T, S, S]: the thing's own coordinates
    outside = np.minimum.reduce([_distance(part, u, v) for part in thing.parts])
    pixels = outside * zoom
    cover = np.clip(0.5 - pixels, 0, 1)[..., None]
    k_x, k_y, phase = thing.wave
    mix = (0.5 + 0.5 * np.sin(k_x * u + k_y * v + phase))[..., None]
    color = thing.colors[0] + (thing.colors[1] - thing.colors[0]) * mix
    return corner, cover, color


def _distance(part: Array, u: Array, v: Array) -> Array:
    """To the farthest half plane: negative within the polygon."""
    # Summed by hand: BLAS would start threads of its own in every worker.
    sides = (n_x * u + (n_y * v - edge) for n_x, n_y, edge in part)
    farthest = next(sides)
    for side in sides:
        np.maximum(farthest, side, out=farthest)
    return farthest


def render(scene: Scene, height: int, width: int) -> NDArray[np.uint8]:
    """The scene's frames, uint8 [T, height, width, 3] in RGB."""
    unit = float(min(height, width))
    num_frames = len(scene.brightness)
    margin = math.ceil(float(np.abs(scene.shake).max()) * unit) + 1
    padded = (height + 2 * margin, width + 2 * margin)
    ground = np.add.reduce([_enlarge(grid, *padded) for grid in scene.ground])
    drawn = [draw_thing(thing, scene.shake, unit) for thing in scene.things]
    depths = np.stack([thing.depth for thing in scene.things])
    clip = np.empty((num_frames, height, width, 3), np.uint8)
    for t in range(num_frames):
        frame = _shifted(ground, scene.shake[t] * unit, margin)
        for i in np.argsort(depths[:, t], kind="stable"):
            corner, cover, color = drawn[i]
            _blend(frame, corner[t], cover[t], color[t])
        frame *= scene.brightness[t]
        clip[t] = np.clip(frame + 0.5, 0, 255, out=frame)
    return clip


def _shifted(ground: Array, shift: Array, margin: int) -> Array:
    """The picture without its margin, its content moved by ``shift`` (x, y) pixels."""
    (col, part_x), (row, part_y) = (
        (math.floor(margin - s), np.float32((margin - s) % 1)) for s in shift.tolist()
    )
    height, width = ground.shape[0] - 2 * margin, ground.shape[1] - 2 * margin
    rows = ground[row : row + height + 1, col : col + width + 1]
    rows = rows[:-1] + (rows[1:] - rows[:-1]) * part_y
    return rows[:, :-1] + (rows[:, 1:] - rows[:, :-1]) * part_x


def _blend(frame: Array, corner: NDArray[np.intp], cover: Array, color: Array) -> None:
    """Draw over ``frame``, in place, what of the box at ``corner`` lies within it."""
    top, left = corner.tolist()
    y, x = max(top, 0), max(left, 0)
    bottom, right = (
        min(top + cover.shape[0], frame.shape[0]),
        min(left + cover.shape[1], frame.shape[1]),
    )
    if y >= bottom or x >= right:
        return
    box = frame[y:bottom, x:right]
    inner = (slice(y - top, bottom - top), slice(x - left, right - left))
    box += (color[inner] - box) * cover[inner]


def render_clip(edition: str, label: int, seed: int, index: int) -> NDArray[np.uint8]:
    """Clip ``index`` of class ``label``, uint8 [T, H, W, 3]: a pure function of its arguments.

    Raises InputError for an unknown edition, a label it does not have, a negative seed or index.
    """
    spec = find_edition(edition)
    return render(compose(edition, label, seed, index), spec.height, spec.width)
