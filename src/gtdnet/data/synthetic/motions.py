"""How things move: courses (how far a motion has got in each frame) and poses (what that means)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from gtdnet.data.synthetic.scene import TURNED_SHAPES, Array, Stage, Thing, box

Course: TypeAlias = Callable[[int, int, float, np.random.Generator], Array]
"""(number of frames, order, longest pause, rng) -> [T]; the orders are permutations of one."""
Pose: TypeAlias = Callable[[Array, Stage], tuple[Thing, ...]]

_TOWER_WIDTH, _TOWER_HEIGHT = 0.32, 0.94


def pass_once(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
    """Rest at 0, go to 1 at one speed, rest; ``order`` 1 is the reverse."""
    before, after = (int(pause * num_frames * share) for share in rng.random(2))
    moving = np.linspace(0.0, 1.0, num_frames - before - after)
    course = np.concatenate([np.zeros(before), moving, np.ones(after)])
    return course[::-1] if order else course


def change_speed(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
    """Four fifths of the way fast, the rest slowly; ``order`` 1 is the reverse.

    The reversed course also goes the other way. As the direction is random, so is the reverse's.
    """
    before, after = (int(pause * num_frames * share) for share in rng.random(2))
    knee = rng.uniform(0.33, 0.48)
    moving = np.interp(
        np.linspace(0.0, 1.0, num_frames - before - after), [0.0, knee, 1.0], [0.0, 0.8, 1.0]
    )
    course = np.concatenate([np.zeros(before), moving, np.ones(after)])
    return course[::-1] if order else course


def go_and_return(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
    """From 0 to 1 and back; ``order`` 1 begins the same cycle half a period later, at 1."""
    half = num_frames // 2
    rest = 2 * int(rng.uniform(0.3, 1.0) * pause * num_frames / 2) + 2
    way = (np.arange(half - rest) + 0.5) / (half - rest)
    cycle = np.concatenate([np.zeros(rest), way, np.ones(rest), way[::-1]])
    # Any start inside a rest will do: how the rest splits into first and last frames is random.
    start = int(rng.integers(1, rest))
    return np.roll(cycle, -start - order * half)


def hide(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
    """Between 0 (in front), 1 (beside) and 2 (behind), in one of four orders.

    Orders 0 and 1 go through once, 2 and 3 twice and twice as fast, on every other position. The
    rests belong to what the classes mean: ``pause`` has no part in them.
    """
    rest = max(1, round(num_frames * rng.uniform(0.09, 0.14)))
    way = np.linspace(0.0, 2.0, num_frames - 4 * rest + 2)[1:-1]
    front, behind = np.zeros(rest), np.full(rest, 2.0)
    there, back = way[0::2], way[1::2][::-1]
    parts = {
        0: (front, front, way, behind, behind),
        1: (behind, behind, way[::-1], front, front),
        2: (front, there, behind, behind, back, front),
        3: (behind, back, front, front, there, behind),
    }
    return np.concatenate(parts[order])


def slide(course: Array, stage: Stage, *, angle: float | None = None) -> tuple[Thing, ...]:
    """One thing goes a straight way: at ``angle`` and a little aslant, or in any direction."""
    radius, travel = stage.radius(), stage.rng.uniform(*stage.travels)
    aslant = stage.rng.uniform(-0.15, 0.15)
    direction = stage.turn() if angle is None else angle + aslant
    step_x, step_y = travel * math.cos(direction), travel * math.sin(direction)
    left, top = stage.start(abs(step_x) + 2 * radius, abs(step_y) + 2 * radius)
    middle = (left + radius + abs(step_x) / 2, top + radius + abs(step_y) / 2)
    thing = stage.thing(
        radius,
        x=middle[0] + (course - 0.5) * step_x,
        y=middle[1] + (course - 0.5) * step_y,
        angle=stage.turn(),
    )
    return (thing,)


def approach(course: Array, stage: Stage) -> tuple[Thing, ...]:
    """One thing grows from small to about three times as large."""
    near = 1.6 * stage.radius()
    ratio = stage.rng.uniform(2.6, 3.4)
    left, top = stage.start(2 * near, 2 * near)
    scale = ratio ** (course - 1)
    return (stage.thing(near, x=left + near, y=top + near, angle=stage.turn(), scale=scale),)


def turn(course: Array, stage: Stage) -> tuple[Thing, ...]:
    """One thing turns by a third to three quarters of a turn about its middle."""
    radius = 1.5 * stage.radius()
    left, top = stage.start(2 * radius, 2 * radius)
    angle = course * stage.rng.uniform(2 * math.pi / 3, 3 * math.pi / 2)
    angle = stage.turn() + angle
    thing = stage.thing(radius, x=left + radius, y=top + radius, angle=angle, shapes=TURNED_SHAPES)
    return (thing,)


def fall(course: Array, stage: Stage) -> tuple[Thing, ...]:
    """A tower tips over its base corner to the left or to the right, faster and faster."""
    length = stage.rng.uniform(0.42, 0.55)
    side = float(stage.rng.choice([-1.0, 1.0]))
    edges = (-_TOWER_WIDTH, 0.0) if side > 0 else (0.0, _TOWER_WIDTH)
    left, top = stage.start(length * (_TOWER_WIDTH + 1), length)
    thing = stage.thing(
        length,
        # It stands on its base corner, the origin of the shape.
        x=left + length * (_TOWER_WIDTH if side > 0 else 1.0),
        y=top + length,
        angle=side * math.pi / 2 * course**1.5,
        shapes={"tower": (box(edges[0], -_TOWER_HEIGHT, edges[1], 0.0),)},
    )
    return (thing,)


def meet(course: Array, stage: Stage) -> tuple[Thing, ...]:
    """Two things at a distance that goes from far to touching."""
    first, second = (0.8 * stage.radius() for _ in range(2))
    direction = stage.turn()
    ways = np.array([math.cos(direction), math.sin(direction)])
    touching, far = first + second, min(stage.width, stage.height) - first - second
    distance = far + course * (touching - far)
    reach = np.abs(ways) * far + 2 * max(first, second)
    middle = np.array(stage.start(reach[0], reach[1])) + reach / 2
    things: list[Thing] = []
    for radius, sign in ((first, -1.0), (second, 1.0)):
        x, y = middle[:, None] + sign * ways[:, None] * distance / 2
        things.append(stage.thing(radius, x=x, y=y, angle=stage.turn(), beside=things))
    return tuple(things)


def occlude(course: Array, stage: Stage) -> tuple[Thing, ...]:
    """A small thing in front of, beside, or mostly hidden behind a screen twice as large."""
    small, large = 0.11, stage.rng.uniform(0.19, 0.22)  # the screen's is half its width
    way = large + small + 0.03
    side = float(stage.rng.choice([-1.0, 1.0]))
    left, top = stage.start(large + way + small, 2 * large + small)
    center = left + (large if side > 0 else way + small)
    screen = stage.thing(
        large / 0.7,
        x=center,
        y=top + small + large,
        shapes={"box": (box(-0.7, -0.7, 0.7, 0.7),)},
    )
    thing = stage.thing(
        small,
        x=center + side * way * (1 - np.abs(1 - course)),
        # It peeks out over the upper edge a little.
        y=top + small + stage.rng.uniform(0.4, 0.7) * small,
        angle=stage.turn(),
        depth=np.where(course <= 1, 1.0, -1.0),
        beside=[screen],
    )
    return thing, screen
