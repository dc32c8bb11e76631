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
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from gtdnet.data.synthetic import motions
from gtdnet.data.synthetic.scene import Array, Scene, Stage
from gtdnet.errors import InputError, suggestion

VERSION = 1  # raise it when the same arguments give other clips


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
class _Group:
    """Classes that show the same frames in another order; a class's order is its place here."""

    templates: tuple[str, ...]
    course: motions.Course
    pose: motions.Pose


_UP, _RIGHT = -math.pi / 2, 0.0
_GROUPS = (
    _Group(
        ("Moving [something] from left to right", "Moving [something] from right to left"),
        motions.pass_once,
        partial(motions.slide, angle=_RIGHT),
    ),
    _Group(
        ("Moving [something] up", "Moving [something] down"),
        motions.pass_once,
        partial(motions.slide, angle=_UP),
    ),
    _Group(
        ("Moving [something] towards the camera", "Moving [something] away from the camera"),
        motions.pass_once,
        motions.approach,
    ),
    _Group(
        ("Moving [something] fast then slow", "Moving [something] slow then fast"),
        motions.change_speed,
        motions.slide,
    ),
    _Group(
        (
            "Moving [something] to the right and then back",
            "Moving [something] to the left and then back",
        ),
        motions.go_and_return,
        partial(motions.slide, angle=_RIGHT),
    ),
    _Group(
        ("Moving [something] up and then back", "Moving [something] down and then back"),
        motions.go_and_return,
        partial(motions.slide, angle=_UP),
    ),
    _Group(
        ("Turning [something] clockwise", "Turning [something] counterclockwise"),
        motions.pass_once,
        motions.turn,
    ),
    _Group(
        ("[Something] falling over", "Standing [something] up"), motions.pass_once, motions.fall
    ),
    _Group(
        (
            "Moving [something] and [something] closer to each other",
            "Moving [something] and [something] away from each other",
        ),
        motions.pass_once,
        motions.meet,
    ),
    _Group(
        (
            "Putting [something] behind [something]",
            "Putting [something] in front of [something]",
            "Pretending to put [something] behind [something]",
            "Pretending to put [something] in front of [something]",
        ),
        motions.hide,
        motions.occlude,
    ),
)


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


TEMPLATES = {_plain(t): t for group in _GROUPS for t in group.templates}
_PLACES = {_plain(t): (g, o) for g in _GROUPS for o, t in enumerate(g.templates)}
_ALL_NAMES = tuple(TEMPLATES)

# Learned from random weights within minutes on a laptop.
_EASY = Edition(
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
)
_FULL = Edition(
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
)
# For the laboratory: longer training, or starting from another edition's weights.
_HARD = replace(
    _FULL,
    name="hard",
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
)
EDITIONS: Mapping[str, Edition] = MappingProxyType({e.name: e for e in (_EASY, _FULL, _HARD)})


def find_edition(name: str) -> Edition:
    """The edition of that name; InputError if there is none."""
    if name not in EDITIONS:
        raise InputError(
            f"edition {name!r} is unknown{suggestion(name, EDITIONS)}; choose one of "
            f"{', '.join(EDITIONS)}"
        )
    return EDITIONS[name]


def class_names(edition: str) -> tuple[str, ...]:
    """The edition's class names in the order of its labels."""
    return find_edition(edition).class_names


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
    spec = find_edition(edition)
    if not 0 <= label < len(spec.class_names):
        raise InputError(
            f"label {label} is not in edition {edition!r}, which has the labels 0 to "
            f"{len(spec.class_names) - 1}"
        )
    if seed < 0 or index < 0:
        raise InputError(f"seed {seed} and index {index} must both be 0 or more")
    name = spec.class_names[label]
    group, order = _PLACES[name]
    rng = np.random.default_rng((VERSION, list(EDITIONS).index(edition), seed, index))
    num_frames = 2 * int(rng.integers(spec.frames[0] // 2, spec.frames[1] // 2 + 1))
    ground = _ground(spec, rng)
    short = min(spec.height, spec.width)
    stage = Stage(
        spec.width / short,
        spec.height / short,
        num_frames,
        spec.radius,
        spec.travel,
        ground[0][0, 0],
        rng,
    )
    course = group.course(num_frames, order, spec.pause, rng)
    things = group.pose(course, stage)
    distractors = []
    for _ in range(int(rng.integers(spec.distractors[0], spec.distractors[1] + 1))):
        radius = 0.5 * stage.radius()
        path = _smooth_path(num_frames, 2, rng) * 0.06
        x, y = rng.uniform(0, (stage.width, stage.height))[:, None] + path.T
        # Behind everything that has a meaning.
        distractors.append(stage.thing(radius, x=x, y=y, depth=-2.0))
    gain = 1 + spec.gain * rng.uniform(-1, 1)
    drift = spec.drift * rng.uniform(-1, 1) * np.linspace(-0.5, 0.5, num_frames)
    return Scene(
        template=TEMPLATES[name],
        things=(*things, *distractors),
        num_named=TEMPLATES[name].lower().count("[something]"),
        ground=ground,
        shake=_smooth_path(num_frames, 2, rng) * np.float32(spec.shake),
        brightness=(gain * (1 + drift)).astype(np.float32),
        crf=int(rng.integers(spec.crf[0], spec.crf[1] + 1)),
    )
