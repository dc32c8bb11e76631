from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gtdnet.infer.recognizer import ClassScore
from gtdnet.show.views import (
    ClipViews,
    class_activation_maps,
    difference_gain,
    difference_pictures,
    disc_radii,
    enhanced_pictures,
    global_difference_scores,
    global_differences,
    global_image,
    heat_pictures,
    local_differences,
    picture_rows,
)

PIXELS = np.array([10, 250, 40], np.uint8)[:, None, None, None]  # T = 3, 1x1, one colour


def gates(seed: int, t: int, blocks: int = 3) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return [rng.random((t, 4 + block)) for block in range(blocks)]


def test_differences_by_hand() -> None:
    assert global_image(PIXELS).item() == 100
    assert local_differences(PIXELS).ravel().tolist() == [-240, 210]
    assert global_differences(PIXELS).ravel().tolist() == [-90, 150, -60]


@given(seed=st.integers(0, 2**32 - 1), t=st.integers(1, 9))
def test_differences_are_of_the_frame(seed: int, t: int) -> None:
    """Both are the frame minus something, so what is brighter in a frame is brighter in the row."""
    frames = np.random.default_rng(seed).integers(0, 256, (t, 2, 3, 3), np.uint8)
    np.testing.assert_allclose(global_image(frames) + global_differences(frames), frames, atol=1e-3)
    np.testing.assert_array_equal(frames[1:] + local_differences(frames), frames[:-1])


def test_pictures_and_their_words_have_the_frames_sign() -> None:
    frames = np.zeros((2, 2, 2, 3), np.uint8)
    frames[0, 0, 0] = 200  # a light pixel in the first frame, which the second lacks
    views = ClipViews(
        "clip.mp4", "tsn", "2x1x1", 2, np.arange(2), frames, np.zeros((2, 1), np.float32),
        (ClassScore(0, "a", 1.0),), ClassScore(0, "a", 1.0), None, None,
    )  # fmt: skip
    found = {row.key: row for row in picture_rows(views)}
    lit, dark = found["global"].pictures[:, 0, 0, 0].tolist()
    assert lit > 128 > dark
    assert found["local"].pictures[0, 0, 0, 0] > 128
    assert found["global"].hint.startswith("frame − global image")
    assert list(found["global"].alts)[1] == "frame 1 minus the global image"


def test_one_frame_has_no_next_one() -> None:
    assert local_differences(PIXELS[:1]).shape == (0, 1, 1, 1)


def test_grey_is_no_change() -> None:
    differences = np.array([0, 255, -255, 51, 300], np.float32)[:, None, None, None]
    assert difference_pictures(differences, 1).ravel().tolist() == [128, 255, 0, 153, 255]
    assert difference_pictures(differences, 5).ravel().tolist() == [128, 255, 0, 255, 255]


@pytest.mark.parametrize(("most", "gain"), [(0, 5), (10, 5), (51, 5), (85, 3), (255, 1)])
def test_gain_brings_the_largest_difference_to_full_contrast(most: float, gain: float) -> None:
    differences = np.full((2, 3, 3, 3), -most, np.float32)
    assert difference_gain(differences, differences[:0]) == pytest.approx(gain)


def test_enhanced_shows_a_thing_in_its_own_colours() -> None:
    frames = np.zeros((2, 1, 2, 3), np.uint8)
    frames[0, 0, 0] = (200, 0, 0)  # red there in the first frame only; the other pixel is still
    enhanced = enhanced_pictures(frames, global_differences(frames), gain=2)
    assert enhanced[:, 0, 1].tolist() == [[64, 64, 64]] * 2
    assert enhanced[0, 0, 0].tolist() == [255, 64, 64]
    assert enhanced[1, 0, 0].tolist() == [0, 64, 64]


# -------------------------------------------------------------------------------------- scores


def test_scores_by_hand() -> None:
    still = [np.full((3, 1), 0.5)]
    scores = global_difference_scores([np.array([[0.5], [0.5], [0.8]])], still)
    np.testing.assert_allclose(scores, [0.25, 0.25, 0.5], atol=1e-4)  # d = 0.1, 0.1, 0.2


def test_a_block_that_does_little_counts_little() -> None:
    still = [np.full((2, 1), 0.5)] * 2
    strong, weak = np.array([[0.1], [0.1]]), np.array([[0.5], [0.500001]])
    np.testing.assert_allclose(global_difference_scores([strong, weak], still), [0.5, 0.5])


@given(seed=st.integers(0, 10**6), t=st.integers(1, 16))
@settings(max_examples=30, deadline=None)
def test_scores_are_shares(seed: int, t: int) -> None:
    scores = global_difference_scores(gates(seed, t), gates(seed + 1, t))
    assert scores.shape == (t,)
    assert (scores >= 0).all()
    assert scores.sum() == pytest.approx(1)


@given(seed=st.integers(0, 10**6), t=st.integers(2, 16))
@settings(max_examples=30, deadline=None)
def test_what_is_due_to_the_place_does_not_count(seed: int, t: int) -> None:
    still = gates(seed, t)
    same = [s + 0.1 for s in still]
    np.testing.assert_allclose(global_difference_scores(same, still), 1 / t)
    np.testing.assert_allclose(global_difference_scores(still, still), 1 / t)


@given(seed=st.integers(0, 10**6), order=st.permutations(range(6)))
@settings(max_examples=30, deadline=None)
def test_scores_go_with_their_frames(seed: int, order: list[int]) -> None:
    one, still = gates(seed, 6), gates(seed + 1, 6)
    scores = global_difference_scores(one, still)
    moved = global_difference_scores([s[order] for s in one], [s[order] for s in still])
    np.testing.assert_allclose(moved, scores[order])


def test_rounding_noise_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    noise = [0.5 + 1e-8 * rng.random((8, 64))]
    np.testing.assert_allclose(
        global_difference_scores(noise, [np.full((8, 64), 0.5)]), 1 / 8, 1e-3
    )


# --------------------------------------------------------------------------- activation, discs


def test_activation_by_hand() -> None:
    features = np.array([[[[1.0, 0.0]], [[2.0, 3.0]]]])  # T = 1, C = 2, 1x2
    assert class_activation_maps(features, np.array([10.0, -1.0])).tolist() == [[[8.0, -3.0]]]


def test_only_what_speaks_for_the_class_is_coloured() -> None:
    frames = np.full((2, 4, 4, 3), (0, 255, 0), np.uint8)
    maps = np.array([[[-1.0]], [[2.0]]], np.float32)
    against, most = heat_pictures(frames, maps)
    assert (against == round(0.587 * 255)).all()  # the frame in grey
    assert most[0, 0].tolist() == [232, 234, 162]  # a fifth of it, and inferno's last colour


def test_one_scale_for_all_frames() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    low, high = heat_pictures(frames, np.array([[[1.0]], [[8.0]]], np.float32))
    assert low.max() < 40 < high.max()


def test_nothing_speaks_for_the_class() -> None:
    frames = np.full((1, 4, 4, 3), 90, np.uint8)
    assert (heat_pictures(frames, np.full((1, 1, 1), -3, np.float32)) == 90).all()


def test_disc_areas_follow_the_scores() -> None:
    radii = disc_radii(np.array([0.1, 0.4, 0.2, 0.3]))
    np.testing.assert_allclose((radii / radii[0]) ** 2, [1, 4, 2, 3])
    np.testing.assert_allclose(disc_radii(np.full(8, 1 / 8)), 0.32)
    assert disc_radii(np.array([0.97, 0.01, 0.01, 0.01])).max() == pytest.approx(0.47)
