"""Resize, crops, flip, brightness, normalise: literal numbers on small numbered images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gtdnet.data import transforms
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import (
    eval_views,
    horizontal_flip,
    jitter_brightness_contrast,
    normalise,
    random_multiscale_crop,
    resize_frames,
    resize_short_side,
    spatial_crops,
)
from gtdnet.errors import InputError


def spec(**changes: Any) -> ClipSpec:
    return ClipSpec(("a",), **changes)


def numbered(height: int, width: int, frames: int = 1) -> Tensor:
    """uint8 [T, 3, H, W] with the value 10*y + x at row y, column x."""
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    return (10 * y + x).to(torch.uint8).expand(frames, 3, height, width)


def noise(frames: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (frames, 3, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def row(values: list[int]) -> Tensor:
    """One frame of one row."""
    return torch.tensor(values, dtype=torch.uint8).expand(1, 3, 1, -1)


# ------------------------------------------------------------------------------------------- resize


def test_resize_to_the_same_size_is_the_very_same() -> None:
    frames = noise(2, 5, 7)
    assert resize_frames(frames, (5, 7)) is frames


@pytest.mark.parametrize(
    ("values", "antialias", "wanted"),
    [
        # Twice as wide: centres at -1/4, 1/4, 3/4, 5/4 of a pixel.
        ([0, 100], False, [0, 25, 75, 100]),
        ([0, 100], True, [0, 25, 75, 100]),
        # Half as wide: the mean of two pixels, or a triangle four pixels wide (weights 3 3 1 of 7).
        ([0, 0, 70, 0], False, [0, 35]),
        ([0, 0, 70, 0], True, [10, 30]),
    ],
)
def test_bilinear_by_hand(values: list[int], antialias: bool, wanted: list[int]) -> None:
    resized = resize_frames(row(values), (1, len(wanted)), "bilinear", antialias)
    assert resized.dtype == torch.uint8
    assert resized[0].tolist() == [[wanted]] * 3


@pytest.mark.parametrize("antialias", [False, True])
def test_bicubic_overshoot_is_cut_off(antialias: bool) -> None:
    resized = resize_frames(row([0, 0, 255, 255]), (1, 8), "bicubic", antialias)[0, 0, 0].tolist()
    assert resized[:3] == [0, 0, 0]
    assert resized[5:] == [255, 255, 255]
    assert 0 < resized[3] < 128 < resized[4] < 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resize_rounds_what_floats_give(interpolation: str, antialias: bool) -> None:
    frames = noise(2, 37, 23) // 4 + 96  # bicubic overshoot stays within 0 to 255
    resized = resize_frames(frames, (16, 30), interpolation, antialias).double()
    exact = torch.nn.functional.interpolate(
        frames.double(), (16, 30), mode=interpolation, antialias=antialias
    )
    assert (resized - exact).abs().max() <= 1.1  # rows and columns are rounded one after the other
    assert (resized - exact).mean().abs() < 0.05  # no darkening


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_constant_frames_stay_constant(interpolation: str, antialias: bool) -> None:
    frames = torch.full((2, 3, 30, 40), 200, dtype=torch.uint8)
    assert (resize_frames(frames, (17, 53), interpolation, antialias) == 200).all()


def test_memory_format_does_not_matter() -> None:
    frames = noise(2, 20, 30)
    pixels_last = frames.to(memory_format=torch.channels_last)  # as decoders give them
    assert torch.equal(resize_frames(pixels_last, (10, 13)), resize_frames(frames, (10, 13)))


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_resize_to_nothing_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="cannot be resized to"):
        resize_frames(noise(1, 4, 4), size)


@pytest.mark.parametrize(
    ("height", "width", "short_side", "wanted"),
    [
        (30, 40, 15, (15, 20)),
        (40, 30, 15, (20, 15)),
        (30, 30, 8, (8, 8)),
        (31, 47, 16, (16, 24)),
        (240, 427, 256, (256, 455)),
        (100, 132, 256, (256, 338)),
    ],
)
def test_short_side(height: int, width: int, short_side: int, wanted: tuple[int, int]) -> None:
    frames = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    resized = resize_short_side(frames, spec(short_side=short_side, crop_size=8))
    assert tuple(resized.shape) == (2, 3, *wanted)


def test_resize_follows_the_spec() -> None:
    frames = noise(1, 40, 40)
    for interpolation in ("bilinear", "bicubic"):
        for antialias in (False, True):
            chosen = spec(
                short_side=16, crop_size=16, interpolation=interpolation, antialias=antialias
            )
            wanted = resize_frames(frames, (16, 16), interpolation, antialias)
            assert torch.equal(resize_short_side(frames, chosen), wanted)


# -------------------------------------------------------------------------------------------- crops


def values_of(crops: list[Tensor]) -> list[list[list[int]]]:
    return [crop[0, 0].tolist() for crop in crops]


def test_three_crops_of_a_wide_image() -> None:
    crops = spatial_crops(numbered(2, 6), 2, 3)
    assert values_of(crops) == [[[0, 1], [10, 11]], [[2, 3], [12, 13]], [[4, 5], [14, 15]]]


def test_three_crops_of_a_tall_image() -> None:
    crops = spatial_crops(numbered(6, 2), 2, 3)
    assert values_of(crops) == [[[0, 1], [10, 11]], [[20, 21], [30, 31]], [[40, 41], [50, 51]]]


def test_three_crops_lie_in_the_middle_of_the_shorter_side() -> None:
    crops = spatial_crops(numbered(4, 7), 2, 3)
    assert values_of(crops) == [[[10, 11], [20, 21]], [[12, 13], [22, 23]], [[15, 16], [25, 26]]]


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [(4, 4, [[11, 12], [21, 22]]), (2, 5, [[1, 2], [11, 12]]), (5, 2, [[10, 11], [20, 21]])],
)
def test_centre_crop(height: int, width: int, wanted: list[list[int]]) -> None:
    assert values_of(spatial_crops(numbered(height, width), 2)) == [wanted]


def test_three_crops_of_a_square_are_the_same() -> None:
    one, two, three = spatial_crops(noise(2, 8, 8), 8, 3)
    assert torch.equal(one, two)
    assert torch.equal(two, three)


def test_bad_crops() -> None:
    with pytest.raises(InputError, match="num_crops must be 1 or 3, got 2"):
        spatial_crops(numbered(4, 4), 2, 2)
    with pytest.raises(InputError, match="crop_size=5 does not fit into frames of 6x4 pixels"):
        spatial_crops(numbered(4, 6), 5)


def test_order_of_views() -> None:
    # Frame f has the value 20*f + x at column x; two clips of two frames, three crops.
    x = torch.arange(6).to(torch.uint8)
    frames = (20 * torch.arange(4)[:, None, None, None] + x).to(torch.uint8).expand(4, 3, 2, 6)
    views = eval_views(frames, spec(num_segments=2, short_side=2, crop_size=2), num_crops=3)
    assert views.shape == (6, 2, 3, 2, 2)
    assert views.dtype == torch.uint8
    assert views[:, :, 0, 0, 0].tolist() == [
        [0, 20],  # clip 1: left, centre, right
        [2, 22],
        [4, 24],
        [40, 60],  # clip 2
        [42, 62],
        [44, 64],
    ]


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (2, 3), (10, 3), (2, 1)])
def test_views_are_resized_and_cropped(clips: int, crops: int) -> None:
    chosen = spec(num_segments=4, short_side=20, crop_size=16)
    frames = noise(clips * 4, 30, 45)
    views = eval_views(frames, chosen, crops)
    assert views.shape == (clips * crops, 4, 3, 16, 16)
    wanted = spatial_crops(resize_short_side(frames, chosen), 16, crops)
    for clip in range(clips):
        for crop in range(crops):
            one = views[clip * crops + crop]
            assert torch.equal(one, wanted[crop][4 * clip : 4 * clip + 4])
    assert views.movedim(-3, -1).is_contiguous()


def test_a_view_holds_all_frames_of_its_segments() -> None:
    chosen = spec(num_segments=2, frames_per_segment=3, short_side=8, crop_size=8)
    frames = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 8, 8)
    views = eval_views(frames, chosen, num_crops=3)
    assert views.shape == (6, 6, 3, 8, 8)
    assert views[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3, 4, 5]] * 3 + [[6, 7, 8, 9, 10, 11]] * 3


# ----------------------------------------------------------------------------------- random choices


def test_multiscale_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[tuple[int, ...]] = []

    def record(frames: Tensor, size: tuple[int, int], *_: object) -> Tensor:
        windows.append(tuple(frames.shape[-2:]))
        assert size == (224, 224)
        return frames

    monkeypatch.setattr(transforms, "resize_frames", record)
    frames, rng = torch.zeros(1, 3, 256, 340, dtype=torch.uint8), np.random.default_rng(0)
    for _ in range(400):
        random_multiscale_crop(frames, spec(), rng)
    # Height and width at most one step of 256, 224, 192, 168 apart.
    assert set(windows) == {
        (256, 256),
        (256, 224),
        (224, 256),
        (224, 224),
        (224, 192),
        (192, 224),
        (192, 192),
        (192, 168),
        (168, 192),
        (168, 168),
    }


def test_multiscale_reaches_every_position_and_no_other() -> None:
    rng = np.random.default_rng(0)
    chosen = spec(short_side=2, crop_size=2)
    corners = {
        int(random_multiscale_crop(numbered(4, 5), chosen, rng, scales=(0.5,))[0, 0, 0, 0])
        for _ in range(300)
    }
    assert corners == {10 * y + x for y in range(3) for x in range(4)}


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_multiscale_crop_gives_the_crop_size_for_any_picture(
    height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    crop = random_multiscale_crop(noise(2, height, width), spec(short_side=16, crop_size=12), rng)
    assert crop.shape == (2, 3, 12, 12)
    assert crop.dtype == torch.uint8


def test_random_choices_are_the_same_for_all_frames_of_a_clip() -> None:
    frames = noise(1, 40, 50).expand(4, -1, -1, -1)
    rng = np.random.default_rng(0)
    chosen = spec(short_side=32, crop_size=32)
    for clip in (
        random_multiscale_crop(frames, chosen, rng),
        jitter_brightness_contrast(frames, 0.4, rng),
    ):
        assert all(torch.equal(clip[i], clip[0]) for i in range(4))


def test_same_generator_same_clip() -> None:
    frames, chosen = noise(2, 40, 50), spec(short_side=32, crop_size=32)

    def run(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        return jitter_brightness_contrast(random_multiscale_crop(frames, chosen, rng), 0.3, rng)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


class FixedFactors(np.random.Generator):
    """Draws brightness 1.1 and contrast 0.9."""

    def uniform(self, *arguments: Any, **options: Any) -> Any:
        return np.array([1.1, 0.9])


def test_jitter_by_hand() -> None:
    rng = FixedFactors(np.random.PCG64(0))
    # 1.1 v, then 0.9 of the distance to 127.5: 12.75, 111.75, 126.6, and 260.25 cut off.
    jittered = jitter_brightness_contrast(row([0, 100, 115, 250]), 0.1, rng)
    assert jittered.dtype == torch.uint8
    assert jittered[0].tolist() == [[[13, 112, 127, 255]]] * 3


def test_jitter_without_strength_is_the_identity() -> None:
    every_value = row(list(range(256)))
    jittered = jitter_brightness_contrast(every_value, 0.0, np.random.default_rng(0))
    assert torch.equal(jittered, every_value)


@settings(max_examples=30, deadline=None)
@given(strength=st.floats(0, 1), seed=st.integers(0, 1000))
def test_jitter_stays_within_its_strength(strength: float, seed: int) -> None:
    every_value = row(list(range(256)))
    jittered = jitter_brightness_contrast(every_value, strength, np.random.default_rng(seed))
    v = torch.arange(256).double()
    corners = [
        ((v * b - 127.5) * c + 127.5).clamp(0, 255)
        for b in (1 - strength, 1 + strength)
        for c in (1 - strength, 1 + strength)
    ]
    low, high = torch.stack(corners).amin(0), torch.stack(corners).amax(0)
    found = jittered[0, 0, 0].double()
    assert (found >= low - 0.51).all()
    assert (found <= high + 0.51).all()


# ------------------------------------------------------------------------------- flip and normalise


def test_flip_mirrors_left_and_right() -> None:
    frames = numbered(2, 3)
    assert horizontal_flip(frames)[0, 0].tolist() == [[2, 1, 0], [12, 11, 10]]
    assert torch.equal(horizontal_flip(horizontal_flip(frames)), frames)


def test_normalise_by_hand() -> None:
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    wanted = [[[-2.1179, 2.2489]], [[-2.0357, 2.4286]], [[-1.8044, 2.6400]]]
    found = normalise(black_and_white, spec())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], torch.tensor(wanted), rtol=0, atol=5e-5)


def test_normalise_makes_one_layout_of_any() -> None:
    planar = noise(4, 5, 6)
    channels_last = planar.contiguous(memory_format=torch.channels_last)
    found = normalise(channels_last.unflatten(0, (2, 2)), spec())
    assert found.is_contiguous()
    assert torch.equal(found, normalise(planar.unflatten(0, (2, 2)), spec()))


@pytest.mark.parametrize("shape", [(3, 2, 2), (4, 3, 2, 2), (5, 4, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_normalise_takes_any_leading_axes_and_floats(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    clip = torch.full(shape, 51, dtype=torch.uint8)
    chosen = spec(mean=(0.2, 0.1, 0.0), std=(1.0, 0.5, 0.1))
    found = normalise(clip, chosen, dtype)
    assert (found.shape, found.dtype) == (shape, dtype)
    colours = found.movedim(-3, -1).reshape(-1, 3).float()
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(
        colours, torch.tensor([0.0, 0.2, 2.0]).expand_as(colours), rtol=tolerance, atol=tolerance
    )
