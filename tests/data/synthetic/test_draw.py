"""Frames show what the scene says: the right way round, whole, the same at any time."""

from __future__ import annotations

import numpy as np
import pytest

from gtdnet.data.synthetic import (
    EDITIONS,
    Scene,
    Thing,
    class_names,
    compose,
    render,
    render_clip,
)
from gtdnet.data.synthetic.draw import draw_thing
from gtdnet.data.synthetic.scene import box
from gtdnet.errors import InputError


def test_clockwise_on_screen() -> None:
    """A hand that points right must point down after a quarter turn clockwise."""
    hand = Thing(
        name="white hand",
        parts=(box(0.0, -0.05, 0.4, 0.05),),
        extent=0.4,
        colors=np.full((2, 3), 255.0),
        wave=np.zeros(3),
        x=np.array([0.5, 0.5]),
        y=np.array([0.5, 0.5]),
        angle=np.array([0.0, np.pi / 2]),
        scale=np.ones(2),
        depth=np.zeros(2),
    )
    scene = Scene(
        template="Turning [something] clockwise",
        things=(hand,),
        num_named=1,
        ground=(np.zeros((2, 2, 3), np.float32),),
        shake=np.zeros((2, 2)),
        brightness=np.ones(2),
        crf=20,
    )
    before, after = render(scene, 64, 64)
    assert before[32, 50].min() == 255
    assert before[50, 32].max() == 0
    assert after[50, 32].min() == 255
    assert after[32, 50].max() == 0
    assert before.sum() == pytest.approx(64 * 64 * 3 * 255 * 0.4 * 0.1, rel=0.02)


def test_no_shape_is_cut_off() -> None:
    """The box that a thing is drawn in holds all of it, at any angle and scale."""
    for label in range(len(class_names("full"))):
        for index in range(12):
            for thing in compose("full", label, 2, index).things:
                _, cover, _ = draw_thing(thing, np.zeros((len(thing.x), 2)), 100.0)
                rim = (cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1])
                assert max(side.max() for side in rim) == 0, thing.name
                assert cover.max() == 1


@pytest.mark.parametrize("edition", sorted(EDITIONS))
def test_clip_shape_and_determinism(edition: str) -> None:
    spec = EDITIONS[edition]
    clip = render_clip(edition, 3, 7, 11)
    low, high = spec.frames
    assert clip.dtype == np.uint8
    assert clip.shape[1:] == (spec.height, spec.width, 3)
    assert low <= len(clip) <= high
    assert np.array_equal(clip, render_clip(edition, 3, 7, 11))
    assert not np.array_equal(clip[0], render_clip(edition, 3, 7, 12)[0])
    assert not np.array_equal(clip[0], render_clip(edition, 3, 8, 11)[0])
    assert clip.std() > 10


@pytest.mark.parametrize("label", [-1, 12])
def test_unknown_label(label: int) -> None:
    with pytest.raises(InputError, match="labels 0 to 11"):
        render_clip("easy", label, 0, 0)
