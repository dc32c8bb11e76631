"""A built-in dataset that needs time to be understood: short clips of things that are moved.

Every class belongs to a group whose members show the *same frames in another order*: they share
one drawn course (how far the motion has got in each frame), and a class is a permutation of it.
So no frame, and no bag of frames out of order, tells the classes of a group apart.

====================================  ===========================  ================================
group                                 the other class is           what tells them apart
====================================  ===========================  ================================
left to right / right to left         the course reversed          neighbouring frames
up / down                             the course reversed          neighbouring frames
towards / away from the camera        the course reversed          neighbouring frames
clockwise / counterclockwise          the course reversed          neighbouring frames
falling over / standing up            the course reversed          neighbouring frames
closer to / away from each other      the course reversed          neighbouring frames
fast then slow / slow then fast       the course reversed, in a    the whole clip: both hold fast
                                      random direction             and slow steps in any direction
to the left / right and then back     the cycle begun half a       the whole clip: both hold as many
                                      period later                 steps to the left as to the right
up / down and then back               the cycle begun half a       the whole clip, likewise
                                      period later
behind / in front of, and pretending  In front, Beside, Behind:    the whole clip: which state comes
(four classes)                        F S B, B S F, F S B S F,     first, which last; all four spend
                                      B S F S B                    equal time in F, in S and in B
====================================  ===========================  ================================

Lengths are in units of the picture's shorter side, x to the right and y down, angles in radians,
positive as the viewer sees a clock's hand turn.
"""

from __future__ import annotations

import colorsys
import io
import json
import math
import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from gtdnet.data.formats import NewClip, written_formats
from gtdnet.errors import InputError
from gtdnet.files import write_text
from gtdnet.workers import num_cores

FORMATS = written_formats()

Array = NDArray[np.floating[Any]]

_FPS = 12  # Something-Something's frame rate
_MARKER = ".gtdnet-synth.json"
_VERSION = 1  # raise it when the same arguments give other clips
_SPLITS = ("train", "validation", "test")
_MIN_SIZE = 32
_CLEAR = 140.0  # distance in RGB from which two colours are told apart at a glance
_CHUNK = 16  # clips that a worker writes before it reports


@dataclass(frozen=True)
class Edition:
    """How one edition looks and how hard it is.

    ``frames`` is the (lowest, highest) number of frames of a clip, both even. ``octaves`` are the
    (coarsest, finest) numbers of cells across the noise that makes up a background, ``contrast``
    its amplitude in grey levels of 255 and ``saturation`` how far its colours part (0 to 1).
    ``shake`` is the camera's standard deviation in shorter sides, ``gain`` the largest relative
    change of brightness from clip to clip and ``drift`` the largest within one. ``travel`` is the
    (shortest, longest) way of a motion, ``radius`` the (smallest, largest) thing, ``pause`` the
    longest rest at either end as a share of the clip, ``distractors`` the (fewest, most) things
    that wander about without meaning and ``crf`` the range of encoder quality (libx264's scale).
    """

    name: str
    class_names: tuple[str, ...]
    height: int
    width: int
    frames: tuple[int, int]
    octaves: tuple[int, int]
    contrast: float
    saturation: float
    shake: float
    gain: float
    drift: float
    travel: tuple[float, float]
    radius: tuple[float, float]
    pause: float
    distractors: tuple[int, int]
    crf: tuple[int, int]


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
    """All that one clip shows, before it is drawn. ``things`` begins with those the label names."""

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
        return tuple(_with_article(thing.name) for thing in self.things[: self.num_named])


def _course_pass(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
    """Rest at 0, go to 1 at one speed, rest; ``order`` 1 is the reverse."""
    before, after = (int(pause * num_frames * share) for share in rng.random(2))
    moving = np.linspace(0.0, 1.0, num_frames - before - after)
    course = np.concatenate([np.zeros(before), moving, np.ones(after)])
    return course[::-1] if order else course


def _course_speed(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
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


def _course_return(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
    """From 0 to 1 and back; ``order`` 1 begins the same cycle half a period later, at 1."""
    half = num_frames // 2
    rest = 2 * int(rng.uniform(0.3, 1.0) * pause * num_frames / 2) + 2
    way = (np.arange(half - rest) + 0.5) / (half - rest)
    cycle = np.concatenate([np.zeros(rest), way, np.ones(rest), way[::-1]])
    # Any start inside a rest will do: how the rest splits into first and last frames is random.
    start = int(rng.integers(1, rest))
    return np.roll(cycle, -start - order * half)


def _course_occlusion(num_frames: int, order: int, pause: float, rng: np.random.Generator) -> Array:
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


def _polygon(points: Sequence[tuple[float, float]]) -> Array:
    """[K, 3] half planes of a convex polygon given by its corners, clockwise as the viewer sees."""
    corners = np.asarray(points, np.float32)
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate([normals, (normals * corners).sum(1, keepdims=True)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> Array:
    return _polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def _round(corners: int, squeeze: float = 1.0) -> Array:
    angles = np.arange(corners) * (2 * math.pi / corners)
    return _polygon([(math.cos(a), squeeze * math.sin(a)) for a in angles])


# Within the unit disc; placed, turned and scaled by the thing that has the shape.
_SHAPES: Mapping[str, tuple[Array, ...]] = MappingProxyType(
    {
        "ball": (_round(20),),
        "egg": (_round(20, 0.7),),
        "nut": (_round(6),),
        "wedge": (_round(3),),
        "block": (_box(-0.7, -0.7, 0.7, 0.7),),
        "brick": (_box(-0.88, -0.44, 0.88, 0.44),),
    }
)
# Not symmetric under any turn, so that a turn is seen.
_TURNED_SHAPES: Mapping[str, tuple[Array, ...]] = MappingProxyType(
    {
        "hook": (_box(-0.55, -0.8, -0.1, 0.8), _box(-0.55, 0.35, 0.6, 0.8)),
        "hammer": (_box(-0.18, -0.5, 0.18, 0.95), _box(-0.58, -0.8, 0.58, -0.4)),
        "arrow": (_box(-0.9, -0.2, 0.2, 0.2), _polygon([(0.1, -0.65), (0.95, 0), (0.1, 0.65)])),
        "flag": (_box(-0.35, -0.9, -0.15, 0.9), _polygon([(-0.2, -0.9), (0.8, -0.45), (-0.2, 0)])),
    }
)
# Stands on its base corner, the origin.
_TOWER_WIDTH, _TOWER_HEIGHT = 0.32, 0.94
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


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _make_thing(
    shapes: Mapping[str, tuple[Array, ...]],
    radius: float,
    avoid: Iterable[Array],
    rng: np.random.Generator,
    *,
    x: Array,
    y: Array,
    angle: Array | None = None,
    scale: Array | None = None,
    depth: Array | None = None,
) -> Thing:
    """A thing of a random shape whose colour stands out from every colour in ``avoid``."""
    shape = list(shapes)[int(rng.integers(len(shapes)))]
    candidates = rng.permutation(list(_COLORS))
    distances = [min(np.linalg.norm(_rgb(c) - a) for a in avoid) for c in candidates]
    clear = np.flatnonzero(np.asarray(distances) > _CLEAR)
    color = str(candidates[clear[0] if len(clear) else np.argmax(distances)])
    first = _rgb(color)
    second = first + rng.uniform(0.25, 0.5) * (rng.uniform(0, 255, 3) - first)
    direction, waves = rng.uniform(0, math.pi), rng.uniform(2.0, 7.0)
    wave = [waves * math.cos(direction), waves * math.sin(direction), rng.uniform(0, 2 * math.pi)]
    still = np.zeros_like(x)
    parts = tuple(part * np.array([1, 1, radius], np.float32) for part in shapes[shape])
    return Thing(
        name=f"{color} {shape}",
        parts=parts,
        extent=radius,
        colors=np.stack([first, second]).astype(np.float32),
        wave=np.asarray([wave[0] / radius, wave[1] / radius, wave[2]], np.float32),
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        angle=(still if angle is None else angle).astype(np.float32),
        scale=(still + 1 if scale is None else scale).astype(np.float32),
        depth=(still if depth is None else depth).astype(np.float32),
    )


@dataclass(frozen=True)
class _Stage:
    """What a pose needs: the picture's size in shorter sides, the edition, colours to avoid."""

    width: float
    height: float
    edition: Edition
    avoid: tuple[Array, ...]

    def radius(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(*self.edition.radius))

    def start(self, span_x: float, span_y: float, rng: np.random.Generator) -> tuple[float, float]:
        """A random corner of a box ``span_x`` by ``span_y`` that lies within the picture."""
        return (
            float(rng.uniform(0, max(self.width - span_x, 0))),
            float(rng.uniform(0, max(self.height - span_y, 0))),
        )


Pose = Callable[[Array, _Stage, np.random.Generator], tuple[Thing, ...]]


def _pose_slide(
    course: Array, stage: _Stage, rng: np.random.Generator, *, angle: float | None = None
) -> tuple[Thing, ...]:
    """One thing goes a straight way: at ``angle`` and a little aslant, or in any direction."""
    radius, travel = stage.radius(rng), rng.uniform(*stage.edition.travel)
    aslant = rng.uniform(-0.15, 0.15)
    direction = rng.uniform(0, 2 * math.pi) if angle is None else angle + aslant
    step_x, step_y = travel * math.cos(direction), travel * math.sin(direction)
    left, top = stage.start(abs(step_x) + 2 * radius, abs(step_y) + 2 * radius, rng)
    middle = (left + radius + abs(step_x) / 2, top + radius + abs(step_y) / 2)
    thing = _make_thing(
        _SHAPES,
        radius,
        stage.avoid,
        rng,
        x=middle[0] + (course - 0.5) * step_x,
        y=middle[1] + (course - 0.5) * step_y,
        angle=np.full_like(course, rng.uniform(0, 2 * math.pi)),
    )
    return (thing,)


def _pose_approach(course: Array, stage: _Stage, rng: np.random.Generator) -> tuple[Thing, ...]:
    """One thing grows from small to about three times as large."""
    near = 1.6 * stage.radius(rng)
    ratio = rng.uniform(2.6, 3.4)
    left, top = stage.start(2 * near, 2 * near, rng)
    thing = _make_thing(
        _SHAPES,
        near,
        stage.avoid,
        rng,
        x=np.full_like(course, left + near),
        y=np.full_like(course, top + near),
        angle=np.full_like(course, rng.uniform(0, 2 * math.pi)),
        scale=ratio ** (course - 1),
    )
    return (thing,)


def _pose_turn(course: Array, stage: _Stage, rng: np.random.Generator) -> tuple[Thing, ...]:
    """One thing turns by a third to three quarters of a turn about its middle."""
    radius = 1.5 * stage.radius(rng)
    left, top = stage.start(2 * radius, 2 * radius, rng)
    turn = rng.uniform(2 * math.pi / 3, 3 * math.pi / 2)
    thing = _make_thing(
        _TURNED_SHAPES,
        radius,
        stage.avoid,
        rng,
        x=np.full_like(course, left + radius),
        y=np.full_like(course, top + radius),
        angle=rng.uniform(0, 2 * math.pi) + course * turn,
    )
    return (thing,)


def _pose_fall(course: Array, stage: _Stage, rng: np.random.Generator) -> tuple[Thing, ...]:
    """A tower tips over its base corner to the left or to the right, faster and faster."""
    length = rng.uniform(0.42, 0.55)
    side = float(rng.choice([-1.0, 1.0]))
    edges = (-_TOWER_WIDTH, 0.0) if side > 0 else (0.0, _TOWER_WIDTH)
    tower = _box(edges[0], -_TOWER_HEIGHT, edges[1], 0.0)
    left, top = stage.start(length * (_TOWER_WIDTH + 1), length, rng)
    corner = left + length * (_TOWER_WIDTH if side > 0 else 1.0)
    thing = _make_thing(
        {"tower": (tower,)},
        length,
        stage.avoid,
        rng,
        x=np.full_like(course, corner),
        y=np.full_like(course, top + length),
        angle=side * math.pi / 2 * course**1.5,
    )
    return (thing,)


def _pose_meet(course: Array, stage: _Stage, rng: np.random.Generator) -> tuple[Thing, ...]:
    """Two things at a distance that goes from far to touching."""
    first, second = (0.8 * stage.radius(rng) for _ in range(2))
    direction = rng.uniform(0, 2 * math.pi)
    ways = np.array([math.cos(direction), math.sin(direction)])
    touching, far = first + second, min(stage.width, stage.height) - first - second
    distance = far + course * (touching - far)
    reach = np.abs(ways) * far + 2 * max(first, second)
    left, top = stage.start(reach[0], reach[1], rng)
    middle = np.array([left, top]) + reach / 2
    things: list[Thing] = []
    for radius, sign in ((first, -1.0), (second, 1.0)):
        place = middle[:, None] + sign * ways[:, None] * distance / 2
        taken = tuple(thing.colors[0] for thing in things)
        things.append(
            _make_thing(
                _SHAPES,
                radius,
                stage.avoid + taken,
                rng,
                x=place[0],
                y=place[1],
                angle=np.full_like(course, rng.uniform(0, 2 * math.pi)),
            )
        )
    return tuple(things)


def _pose_occlude(course: Array, stage: _Stage, rng: np.random.Generator) -> tuple[Thing, ...]:
    """A small thing in front of, beside, or mostly hidden behind a screen twice as large."""
    small, large = 0.11, rng.uniform(0.19, 0.22)  # the screen's is half its width
    way = large + small + 0.03
    side = float(rng.choice([-1.0, 1.0]))
    left, top = stage.start(large + way + small, 2 * large + small, rng)
    center = left + (large if side > 0 else way + small)
    beside = 1 - np.abs(1 - course)
    screen = _make_thing(
        {"box": (_box(-0.7, -0.7, 0.7, 0.7),)},
        large / 0.7,
        stage.avoid,
        rng,
        x=np.full_like(course, center),
        y=np.full_like(course, top + small + large),
    )
    thing = _make_thing(
        _SHAPES,
        small,
        (*stage.avoid, screen.colors[0]),
        rng,
        x=center + side * way * beside,
        # It peeks out over the upper edge a little.
        y=np.full_like(course, top + small + rng.uniform(0.4, 0.7) * small),
        angle=np.full_like(course, rng.uniform(0, 2 * math.pi)),
        depth=np.where(course <= 1, 1.0, -1.0),
    )
    return thing, screen


@dataclass(frozen=True)
class _Group:
    """Classes that show the same frames in another order; a class's order is its place here."""

    templates: tuple[str, ...]
    course: Callable[[int, int, float, np.random.Generator], Array]
    pose: Pose


_UP, _RIGHT = -math.pi / 2, 0.0
_GROUPS = (
    _Group(
        ("Moving [something] from left to right", "Moving [something] from right to left"),
        _course_pass,
        partial(_pose_slide, angle=_RIGHT),
    ),
    _Group(
        ("Moving [something] up", "Moving [something] down"),
        _course_pass,
        partial(_pose_slide, angle=_UP),
    ),
    _Group(
        (
            "Moving [something] towards the camera",
            "Moving [something] away from the camera",
        ),
        _course_pass,
        _pose_approach,
    ),
    _Group(
        ("Moving [something] fast then slow", "Moving [something] slow then fast"),
        _course_speed,
        _pose_slide,
    ),
    _Group(
        (
            "Moving [something] to the right and then back",
            "Moving [something] to the left and then back",
        ),
        _course_return,
        partial(_pose_slide, angle=_RIGHT),
    ),
    _Group(
        ("Moving [something] up and then back", "Moving [something] down and then back"),
        _course_return,
        partial(_pose_slide, angle=_UP),
    ),
    _Group(
        ("Turning [something] clockwise", "Turning [something] counterclockwise"),
        _course_pass,
        _pose_turn,
    ),
    _Group(
        ("[Something] falling over", "Standing [something] up"),
        _course_pass,
        _pose_fall,
    ),
    _Group(
        (
            "Moving [something] and [something] closer to each other",
            "Moving [something] and [something] away from each other",
        ),
        _course_pass,
        _pose_meet,
    ),
    _Group(
        (
            "Putting [something] behind [something]",
            "Putting [something] in front of [something]",
            "Pretending to put [something] behind [something]",
            "Pretending to put [something] in front of [something]",
        ),
        _course_occlusion,
        _pose_occlude,
    ),
)


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


_TEMPLATES = {_plain(t): t for group in _GROUPS for t in group.templates}
_PLACES = {_plain(t): (g, o) for g in _GROUPS for o, t in enumerate(g.templates)}
_ALL_NAMES = tuple(_TEMPLATES)

EDITIONS: Mapping[str, Edition] = MappingProxyType(
    {
        edition.name: edition
        for edition in (
            # Learned from random weights within minutes on a laptop.
            Edition(
                name="easy",
                class_names=_ALL_NAMES[:12],
                height=112,
                width=112,
                frames=(12, 24),
                octaves=(2, 4),
                contrast=35.0,
                saturation=0.5,
                shake=0.003,
                gain=0.1,
                drift=0.03,
                travel=(0.4, 0.55),
                radius=(0.12, 0.17),
                pause=0.08,
                distractors=(0, 0),
                crf=(20, 28),
            ),
            Edition(
                name="full",
                class_names=_ALL_NAMES,
                height=120,
                width=160,
                frames=(16, 36),
                octaves=(2, 12),
                contrast=45.0,
                saturation=0.7,
                shake=0.006,
                gain=0.12,
                drift=0.05,
                travel=(0.4, 0.65),
                radius=(0.1, 0.16),
                pause=0.1,
                distractors=(0, 1),
                crf=(20, 32),
            ),
            # For the laboratory: longer training, or starting from another edition's weights.
            Edition(
                name="hard",
                class_names=_ALL_NAMES,
                height=120,
                width=160,
                frames=(16, 36),
                octaves=(2, 32),
                contrast=70.0,
                saturation=1.0,
                shake=0.012,
                gain=0.15,
                drift=0.15,
                travel=(0.35, 0.65),
                radius=(0.08, 0.15),
                pause=0.12,
                distractors=(1, 3),
                crf=(22, 36),
            ),
        )
    }
)


def _edition(name: str) -> Edition:
    if name not in EDITIONS:
        raise InputError(f"edition {name!r} is unknown; choose one of {', '.join(EDITIONS)}")
    return EDITIONS[name]


def class_names(edition: str) -> tuple[str, ...]:
    """The edition's class names in the order of its labels."""
    return _edition(edition).class_names


def class_groups(edition: str) -> tuple[tuple[str, ...], ...]:
    """Names of the classes that show the same frames in another order, by group."""
    there = set(class_names(edition))
    groups = (tuple(map(_plain, group.templates)) for group in _GROUPS)
    return tuple(group for group in groups if there.issuperset(group))


def _smooth_path(num_frames: int, width: int, rng: np.random.Generator) -> Array:
    """[T, width]: smooth random curves of about unit standard deviation."""
    knots = rng.standard_normal((num_frames // 5 + 2, width))
    at = np.linspace(0, len(knots) - 1, num_frames)
    curves = [np.interp(at, np.arange(len(knots)), knot) for knot in knots.T]
    return np.stack(curves, axis=1).astype(np.float32)


def _ground(edition: Edition, rng: np.random.Generator) -> tuple[Array, ...]:
    """Noise grids from coarse to fine, their amplitudes and the common mean."""
    coarsest, finest = edition.octaves
    mean = rng.uniform(70, 185) + edition.saturation * rng.uniform(-45, 45, 3)
    grids = [np.broadcast_to(mean, (2, 2, 3)).astype(np.float32)]
    cells = coarsest
    while cells <= finest:
        grey = rng.standard_normal((cells + 1, cells + 1, 1))
        color = rng.standard_normal((cells + 1, cells + 1, 3))
        amplitude = edition.contrast * rng.uniform(0.2, 1.0) * (coarsest / cells) ** 0.4
        mixed = amplitude * (grey + edition.saturation * (color - color.mean(2, keepdims=True)))
        grids.append(mixed.astype(np.float32))
        cells *= 2
    return tuple(grids)


def compose(edition: str, label: int, seed: int, index: int) -> Scene:
    """What clip ``index`` of class ``label`` shows.

    For one (seed, index) the classes of a group share all but the order of their course.
    """
    spec = _edition(edition)
    if not 0 <= label < len(spec.class_names):
        raise InputError(
            f"label {label} is not in edition {edition!r}, which has the labels 0 to "
            f"{len(spec.class_names) - 1}"
        )
    if seed < 0 or index < 0:
        raise InputError(f"seed {seed} and index {index} must both be 0 or more")
    name = spec.class_names[label]
    group, order = _PLACES[name]
    rng = np.random.default_rng((_VERSION, list(EDITIONS).index(edition), seed, index))
    num_frames = 2 * int(rng.integers(spec.frames[0] // 2, spec.frames[1] // 2 + 1))
    ground = _ground(spec, rng)
    short = min(spec.height, spec.width)
    stage = _Stage(spec.width / short, spec.height / short, spec, (ground[0][0, 0],))
    course = group.course(num_frames, order, spec.pause, rng)
    things = group.pose(course, stage, rng)
    distractors = []
    for _ in range(int(rng.integers(spec.distractors[0], spec.distractors[1] + 1))):
        radius = 0.5 * stage.radius(rng)
        path = _smooth_path(num_frames, 2, rng) * 0.06
        place = rng.uniform(0, (stage.width, stage.height))
        distractors.append(
            _make_thing(
                _SHAPES,
                radius,
                stage.avoid,
                rng,
                x=place[0] + path[:, 0],
                y=place[1] + path[:, 1],
                depth=np.full(num_frames, -2.0),  # behind everything that has a meaning
            )
        )
    gain = 1 + spec.gain * rng.uniform(-1, 1)
    drift = spec.drift * rng.uniform(-1, 1) * np.linspace(-0.5, 0.5, num_frames)
    return Scene(
        template=_TEMPLATES[name],
        things=(*things, *distractors),
        num_named=_TEMPLATES[name].lower().count("[something]"),
        ground=ground,
        shake=_smooth_path(num_frames, 2, rng) * np.float32(spec.shake),
        brightness=(gain * (1 + drift)).astype(np.float32),
        crf=int(rng.integers(spec.crf[0], spec.crf[1] + 1)),
    )


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


def _draw_thing(thing: Thing, shake: Array, unit: float) -> tuple[NDArray[np.intp], Array, Array]:
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
    drawn = [_draw_thing(thing, scene.shake, unit) for thing in scene.things]
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
    spec = _edition(edition)
    return render(compose(edition, label, seed, index), spec.height, spec.width)


@dataclass(frozen=True)
class _Clip:
    """One clip of a dataset: ``number`` counts from 1 over all splits, ``index`` within one."""

    split: str
    index: int
    label: int
    number: int

    @property
    def seed_index(self) -> int:
        return _SPLITS.index(self.split) << 32 | self.index


@dataclass(frozen=True)
class _Plan:
    """What every clip of a dataset has in common; written to the marker file."""

    version: int
    format: str
    edition: str
    train: int
    validation: int
    test: int
    seed: int
    height: int
    width: int

    def clips(self) -> list[_Clip]:
        """Balanced and shuffled: each run of K clips of a split holds each of K classes once."""
        num_classes = len(class_names(self.edition))
        clips: list[_Clip] = []
        for number, split in enumerate(_SPLITS):
            count = getattr(self, split)
            labels: list[int] = []
            for block in range(-(-count // num_classes)):
                rng = np.random.default_rng((_VERSION, self.seed, number, block))
                labels.extend(rng.permutation(num_classes).tolist())
            start = len(clips) + 1
            clips.extend(_Clip(split, i, labels[i], start + i) for i in range(count))
        return clips

    def new_clip(self, clip: _Clip, placeholders: tuple[str, ...] = ()) -> NewClip:
        name = class_names(self.edition)[clip.label]
        key = f"{self.edition} {self.seed} {clip.number}"
        template = _TEMPLATES[name]
        return NewClip(clip.number, clip.split, clip.label, name, key, template, placeholders)

    def path(self, clip: _Clip) -> Path:
        """Where the clip lies below the dataset's root: a file, or a folder of frames."""
        return FORMATS[self.format].clip_path(self.new_clip(clip))


@dataclass(frozen=True)
class _Written:
    """What became of a clip: whether this run wrote it, its size, its label's placeholders."""

    is_new: bool
    num_bytes: int
    placeholders: tuple[str, ...]


def _converted(frames: NDArray[np.uint8], pix_fmt: str) -> Iterator[av.VideoFrame]:
    # One converter with one thread for all frames: left to itself, PyAV makes one with as many
    # threads as there are cores for each, at several times the cost.
    converter = VideoReformatter()
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = converter.reformat(picture, format=pix_fmt, threads=1)
        picture.pts, picture.time_base = number, Fraction(1, _FPS)
        yield picture


def _encode(
    frames: NDArray[np.uint8], container: str, codec: str, options: dict[str, str]
) -> bytes:
    """The video file's bytes; the same for the same arguments."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=_FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in _converted(frames, "yuv420p"):
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return buffer.getvalue()


def _encode_webm(frames: NDArray[np.uint8], crf: int) -> bytes:
    # VP9's scale runs to 63: ten steps more give about the quality of libx264's.
    options = {"deadline": "realtime", "cpu-used": "8", "crf": str(crf + 10), "b": "0"}
    return _encode(frames, "webm", "libvpx-vp9", options)


def _encode_mp4(frames: NDArray[np.uint8], crf: int) -> bytes:
    # With a second thread looking ahead, libx264's output varies from run to run.
    options = {
        "preset": "superfast",
        "crf": str(crf),
        "x264-params": "threads=1:lookahead-threads=1",
    }
    return _encode(frames, "mp4", "libx264", options)


def _encode_jpegs(frames: NDArray[np.uint8], crf: int) -> list[bytes]:
    encoder = av.VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *frames.shape[1:3], "yuvj420p"
    encoder.time_base = Fraction(1, _FPS)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = max(2, (crf - 16) // 2)
    packets = []
    for frame in _converted(frames, "yuvj420p"):
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [bytes(packet) for packet in packets]


def _write_bytes(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_frames(path: Path, images: Sequence[bytes]) -> None:
    """A folder of numbered images, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed run may have left
    try:
        part.mkdir()
        for number, image in enumerate(images, start=1):
            (part / f"{number:05d}.jpg").write_bytes(image)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_clips(root: Path, plan: _Plan, clips: Sequence[_Clip]) -> list[_Written]:
    """What a worker does: write those of ``clips`` that are not there yet."""
    return [_write_clip(root, plan, clip) for clip in clips]


def _write_clip(root: Path, plan: _Plan, clip: _Clip) -> _Written:
    scene = compose(plan.edition, clip.label, plan.seed, clip.seed_index)
    path = root / plan.path(clip)
    is_new = not path.exists()
    if is_new:
        frames = render(scene, plan.height, plan.width)
        if not path.suffix:
            _write_frames(path, _encode_jpegs(frames, scene.crf))
        else:
            encode = _encode_webm if path.suffix == ".webm" else _encode_mp4
            _write_bytes(path, encode(frames, scene.crf))
    files = path.iterdir() if path.is_dir() else [path]
    return _Written(is_new, sum(file.stat().st_size for file in files), scene.placeholders)


def _claim(root: Path, plan: _Plan) -> None:
    """Make ``root`` ours, or recognise it as this very plan's."""
    marker = root / _MARKER
    mine = asdict(plan)
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; give a folder to write the dataset to")
    if marker.is_file():
        try:
            theirs = json.loads(marker.read_text())
        except ValueError:
            theirs = {}
        if theirs != mine:
            differing = ", ".join(k for k in mine if theirs.get(k) != mine[k])
            raise InputError(
                f"{root} holds a synthetic dataset made with another {differing}; give another "
                "folder, or delete that one"
            )
    elif root.is_dir() and any(root.iterdir()):
        raise InputError(f"{root} is not empty; give a new or empty folder, or delete that one")
    write_text(marker, json.dumps(mine, indent=1) + "\n")


def write_dataset(
    root: str | Path,
    *,
    format: str = "something-v2",
    edition: str = "full",
    train: int,
    validation: int,
    test: int = 0,
    seed: int = 0,
    workers: int | None = None,
    size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a dataset of encoded clips and its annotations below ``root``.

    ``train``, ``validation`` and ``test`` count clips, ``size`` is the shorter side in pixels (the
    edition's own if None) and ``progress`` is told (clips done, clips in all). A clip depends on
    the edition, seed, split and index only, so any number of ``workers`` gives the same files. A
    run that was interrupted is resumed: the same call writes what is missing. With the format
    "something-v1" or "something-v2" the test split has no labels, as in the real datasets.

    Returns a summary with the counts, classes, bytes and seconds. Raises InputError for arguments
    out of range and for a ``root`` that holds anything else.
    """
    began = time.perf_counter()
    root = Path(root)
    spec = _edition(edition)
    if format not in FORMATS:
        raise InputError(f"format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    for name, count in (("train", train), ("validation", validation), ("test", test)):
        if count < 0:
            raise InputError(f"{name}={count} clips cannot be written; give 0 or more")
    if train + validation + test == 0:
        raise InputError("train, validation and test are all 0; ask for at least one clip")
    if seed < 0:
        raise InputError(f"seed={seed} is negative; give 0 or more")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers} cannot write anything; give 1 or more")
    if size is not None and size < _MIN_SIZE:
        raise InputError(f"size={size} pixels shows too little; give {_MIN_SIZE} or more")
    short = min(spec.height, spec.width)
    # The encoders halve the colours' resolution: both sides must be even.
    height, width = (
        2 * round(side * (size or short) / short / 2) for side in (spec.height, spec.width)
    )
    plan = _Plan(_VERSION, format, edition, train, validation, test, seed, height, width)
    clips = plan.clips()
    _claim(root, plan)
    for folder in {(root / path).parent for path in map(plan.path, clips)}:
        folder.mkdir(parents=True, exist_ok=True)
    written = _write_all(root, plan, clips, workers, progress or (lambda done, total: None))
    new = [plan.new_clip(c, w.placeholders) for c, w in zip(clips, written, strict=True)]
    FORMATS[format].write(root, spec.class_names, new, seed)
    return {
        "root": str(root),
        "format": format,
        "edition": edition,
        "seed": seed,
        "height": height,
        "width": width,
        "classes": list(spec.class_names),
        "train": train,
        "validation": validation,
        "test": test,
        "written": sum(w.is_new for w in written),
        "kept": sum(not w.is_new for w in written),
        "bytes": sum(w.num_bytes for w in written),
        "seconds": round(time.perf_counter() - began, 3),
    }


def _write_all(
    root: Path,
    plan: _Plan,
    clips: Sequence[_Clip],
    workers: int | None,
    progress: Callable[[int, int], None],
) -> list[_Written]:
    chunks = [clips[i : i + _CHUNK] for i in range(0, len(clips), _CHUNK)]
    # A worker takes seconds to start: a few clips are sooner written without one.
    if workers is None:
        workers = 1 if len(chunks) < 8 else num_cores()
    workers = min(workers, len(chunks))
    results: dict[int, list[_Written]] = {}
    done = 0
    progress(done, len(clips))
    if workers == 1:
        for i, chunk in enumerate(chunks):
            results[i] = _write_clips(root, plan, chunk)
            done += len(chunk)
            progress(done, len(clips))
    else:
        # Forking a process that runs torch's threads may hang, so workers start afresh.
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
        )
        try:
            futures = {pool.submit(_write_clips, root, plan, c): i for i, c in enumerate(chunks)}
            for future in as_completed(futures):
                i = futures[future]
                results[i] = future.result()
                done += len(chunks[i])
                progress(done, len(clips))
        finally:
            pool.shutdown(cancel_futures=True)
    return [written for i in range(len(chunks)) for written in results[i]]


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which lets the clip at hand be finished and stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
