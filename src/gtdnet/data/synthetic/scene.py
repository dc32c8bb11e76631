"""What a clip shows, before it is drawn: things of a shape, a colour and a way, and their ground.

Lengths are in units of the picture's shorter side, x to the right and y down, angles in radians,
positive as the viewer sees a clock's hand turn.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

_CLEAR = 140.0  # distance in RGB from which two colours are told apart at a glance


@dataclass(frozen=True)
class Thing:
    """A textured shape and where it is in each of T frames.

    ``parts`` are convex polygons whose union is the shape, each [K, 3]: a point (u, v) lies inside
    where ``u * n_x + v * n_y <= offset`` for all K rows (n_x, n_y, offset). ``x``, ``y``,
    ``angle``, ``scale`` and ``depth`` are [T]; the larger depth is drawn over the smaller.
    """

    name: str
    parts: tuple[Array, ...]
    extent: float  # no point of the shape is farther from its origin
    colors: Array  # [2, 3], in grey levels; the first is the one the name tells
    wave: Array  # [3]: wave vector and phase of the texture
    x: Array
    y: Array
    angle: Array
    scale: Array
    depth: Array


@dataclass(frozen=True)
class Scene:
    """All that one clip shows. ``things`` begins with those the label names."""

    template: str
    things: tuple[Thing, ...]
    num_named: int
    ground: tuple[Array, ...]  # noise grids [cells, cells, 3], their sum is the background
    shake: Array  # [T, 2]: the camera's offset (x, y)
    brightness: Array  # [T]: factor on all pixels
    crf: int

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Names of what is moved, in the order of the template's blanks, as "a red ball"."""
        names = [thing.name for thing in self.things[: self.num_named]]
        return tuple(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)


def polygon(points: Sequence[tuple[float, float]]) -> Array:
    """[K, 3] half planes of a convex polygon given by its corners, clockwise as the viewer sees."""
    corners = np.asarray(points, np.float32)
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate([normals, (normals * corners).sum(1, keepdims=True)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Array:
    """[4, 3] half planes of a rectangle."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def _round(corners: int, squeeze: float = 1.0) -> Array:
    angles = np.arange(corners) * (2 * math.pi / corners)
    return polygon([(math.cos(a), squeeze * math.sin(a)) for a in angles])


Shapes = Mapping[str, tuple[Array, ...]]

# Within the unit disc; placed, turned and scaled by the thing that has the shape.
SHAPES: Shapes = MappingProxyType(
    {
        "ball": (_round(20),),
        "egg": (_round(20, 0.7),),
        "nut": (_round(6),),
        "wedge": (_round(3),),
        "block": (box(-0.7, -0.7, 0.7, 0.7),),
        "brick": (box(-0.88, -0.44, 0.88, 0.44),),
    }
)
# Not symmetric under any turn, so that a turn is seen.
TURNED_SHAPES: Shapes = MappingProxyType(
    {
        "hook": (box(-0.55, -0.8, -0.1, 0.8), box(-0.55, 0.35, 0.6, 0.8)),
        "hammer": (box(-0.18, -0.5, 0.18, 0.95), box(-0.58, -0.8, 0.58, -0.4)),
        "arrow": (box(-0.9, -0.2, 0.2, 0.2), polygon([(0.1, -0.65), (0.95, 0), (0.1, 0.65)])),
        "flag": (box(-0.35, -0.9, -0.15, 0.9), polygon([(-0.2, -0.9), (0.8, -0.45), (-0.2, 0)])),
    }
)
_COLORS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {  # hue, saturation, value
        "red": (0.0, 0.85, 0.9),
        "orange": (0.08, 0.9, 1.0),
        "yellow": (0.15, 0.85, 1.0),
        "green": (0.33, 0.8, 0.7),
        "blue": (0.62, 0.8, 0.85),
        "purple": (0.77, 0.7, 0.65),
        "pink": (0.91, 0.5, 1.0),
        "white": (0.0, 0.0, 0.97),
        "black": (0.0, 0.0, 0.08),
    }
)


def _rgb(color: str) -> Array:
    return np.asarray(colorsys.hsv_to_rgb(*_COLORS[color]), np.float32) * 255


@dataclass(frozen=True)
class Stage:
    """What things are made for: a picture of ``width`` by ``height``, T frames, a ground's colour.

    ``radii`` and ``travels`` are the (smallest, largest) thing and way. All that is random comes
    from ``rng``, so the order of calls is part of what a clip shows.
    """

    width: float
    height: float
    num_frames: int
    radii: tuple[float, float]
    travels: tuple[float, float]
    color: Array
    rng: np.random.Generator

    def radius(self) -> float:
        return float(self.rng.uniform(*self.radii))

    def turn(self) -> float:
        """Any angle."""
        return self.rng.uniform(0, 2 * math.pi)

    def start(self, span_x: float, span_y: float) -> tuple[float, float]:
        """A random corner of a box ``span_x`` by ``span_y`` that lies within the picture."""
        return (
            float(self.rng.uniform(0, max(self.width - span_x, 0))),
            float(self.rng.uniform(0, max(self.height - span_y, 0))),
        )

    def thing(
        self,
        radius: float,
        *,
        x: Array | float,
        y: Array | float,
        angle: Array | float = 0.0,
        scale: Array | float = 1.0,
        depth: Array | float = 0.0,
        shapes: Shapes = SHAPES,
        beside: Sequence[Thing] = (),
    ) -> Thing:
        """One of the shapes, in a colour that stands out from the ground and the things beside it.

        Where it is, is one number or [T].
        """
        rng = self.rng
        shape = list(shapes)[int(rng.integers(len(shapes)))]
        avoid = (self.color, *(thing.colors[0] for thing in beside))
        candidates = rng.permutation(list(_COLORS))
        distances = [min(np.linalg.norm(_rgb(c) - a) for a in avoid) for c in candidates]
        clear = np.flatnonzero(np.asarray(distances) > _CLEAR)
        color = str(candidates[clear[0] if len(clear) else np.argmax(distances)])
        first = _rgb(color)
        second = first + rng.uniform(0.25, 0.5) * (rng.uniform(0, 255, 3) - first)
        direction, waves = rng.uniform(0, math.pi), rng.uniform(2.0, 7.0)
        x_waves, y_waves = waves * math.cos(direction), waves * math.sin(direction)
        return Thing(
            f"{color} {shape}",
            tuple(part * np.array([1, 1, radius], np.float32) for part in shapes[shape]),
            radius,
            np.stack([first, second]).astype(np.float32),
            np.asarray([x_waves / radius, y_waves / radius, self.turn()], np.float32),
            *(
                np.broadcast_to(value, self.num_frames).astype(np.float32)
                for value in (x, y, angle, scale, depth)
            ),
        )
