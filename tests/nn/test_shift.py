"""Temporal shift: literal tables, its gradient, and that nothing happens in place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gtdnet.nn import TemporalConv1d, TemporalShift, temporal_shift

# Two clips of three frames (rows), four channels (columns), one pixel.
FRAMES = [
    [10, 11, 12, 13],
    [20, 21, 22, 23],
    [30, 31, 32, 33],
    [40, 41, 42, 43],
    [50, 51, 52, 53],
    [60, 61, 62, 63],
]
# Channel 1 comes from the next frame, channel 2 from the one before, zeros at the clip's ends.
SHIFTED = [
    [20, 0, 12, 13],
    [30, 11, 22, 23],
    [0, 21, 32, 33],
    [50, 0, 42, 43],
    [60, 41, 52, 53],
    [0, 51, 62, 63],
]
# The inverse directions: what a gradient that equals FRAMES becomes.
SHIFTED_BACK = [
    [0, 21, 12, 13],
    [10, 31, 22, 23],
    [20, 0, 32, 33],
    [0, 51, 42, 43],
    [40, 61, 52, 53],
    [50, 0, 62, 63],
]


# Causal: channel 0 comes from the frame before, the first frame's from itself.
FROM_PAST = [
    [10, 11, 12, 13],
    [10, 21, 22, 23],
    [20, 31, 32, 33],
    [40, 41, 42, 43],
    [40, 51, 52, 53],
    [50, 61, 62, 63],
]


def one_pixel(table: list[list[int]]) -> Tensor:
    return torch.tensor(table, dtype=torch.float32)[:, :, None, None]


def by_loops(x: Tensor, num_segments: int, fold_div: int) -> Tensor:
    out = torch.zeros_like(x)
    fold = x.shape[1] // fold_div
    for i in range(len(x)):
        for c in range(x.shape[1]):
            source = i + 1 if c < fold else i - 1 if c < 2 * fold else i
            if 0 <= source < len(x) and source // num_segments == i // num_segments:
                out[i, c] = x[source, c]
    return out


def test_table() -> None:
    shifted = TemporalShift(num_segments=3, fold_div=4)(one_pixel(FRAMES))
    assert shifted[:, :, 0, 0].tolist() == SHIFTED


def test_table_of_the_causal_shift() -> None:
    shift = TemporalShift(num_segments=3, fold_div=4, causal=True)
    assert shift(one_pixel(FRAMES))[:, :, 0, 0].tolist() == FROM_PAST
    shift.channels_last = True
    assert shift(torch.tensor(FRAMES)).tolist() == FROM_PAST
    assert shift(torch.tensor(FRAMES)[:, None, :])[:, 0].tolist() == FROM_PAST
    assert TemporalShift(3, 8, causal=True)(one_pixel(FRAMES))[:, :, 0, 0].tolist() == FRAMES
    assert "fold_div=4, causal=True" in str(shift)


def test_gradient_is_shifted_back() -> None:
    x = torch.zeros(6, 4, 1, 1, requires_grad=True)
    temporal_shift(x, 3, 4).backward(one_pixel(FRAMES))
    assert x.grad is not None
    assert x.grad[:, :, 0, 0].tolist() == SHIFTED_BACK


@settings(max_examples=40, deadline=None)
@given(
    clips=st.integers(1, 3),
    frames=st.integers(1, 5),
    channels=st.integers(1, 20),
    fold_div=st.integers(2, 9),
)
def test_equals_loops_and_gradcheck(clips: int, frames: int, channels: int, fold_div: int) -> None:
    x = torch.randn(clips * frames, channels, 2, 1, dtype=torch.float64)
    assert torch.equal(temporal_shift(x, frames, fold_div), by_loops(x, frames, fold_div))
    # A linear map's gradient is its transpose: <S x, y> = <x, S' y>.
    x.requires_grad_()
    y = torch.randn_like(x)
    product = (temporal_shift(x, frames, fold_div) * y).sum()
    (gradient,) = torch.autograd.grad(product, x)
    torch.testing.assert_close((x * gradient).sum(), product)


def test_never_in_place() -> None:
    x = one_pixel(FRAMES)
    shifted = temporal_shift(x, 3, 4)
    shifted.zero_()
    assert x[:, :, 0, 0].tolist() == FRAMES


def test_fewer_channels_than_fold_div_stay() -> None:
    x = torch.randn(6, 7, 2, 2)
    shifted = temporal_shift(x, 3, 8)
    assert torch.equal(shifted, x)
    assert shifted.data_ptr() != x.data_ptr()


def test_a_single_frame_has_no_neighbours() -> None:
    shifted = temporal_shift(one_pixel(FRAMES[:2]), 1, 4)
    assert shifted[:, :, 0, 0].tolist() == [[0, 0, 12, 13], [0, 0, 22, 23]]


def test_channels_last_gives_the_same() -> None:
    x = torch.randn(8, 16, 5, 3)
    wanted = temporal_shift(x, 4)
    assert torch.equal(temporal_shift(x.to(memory_format=torch.channels_last), 4), wanted)


def test_has_no_weights() -> None:
    assert TemporalShift(8).state_dict() == {}
    assert repr(TemporalShift(8)) == "TemporalShift(num_segments=8, fold_div=8)"


@pytest.mark.parametrize("frames", [7, 9, 20])
def test_wrong_number_of_frames_names_both_numbers(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"num_segments=8\b.* got {frames}$"):
        TemporalShift(8)(torch.zeros(frames, 8, 2, 2))


def test_unfolded_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="5 axes"):
        TemporalShift(8)(torch.zeros(1, 8, 8, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_segments must be .* at least 1, got 0"),
        ((-3,), "num_segments must be .* got -3"),
        ((8, 1), "fold_div must be at least 2.* got 1"),
    ],
)
def test_bad_arguments(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemporalShift(*arguments)


class TestTemporalConv1d:
    def test_starts_as_the_temporal_shift(self) -> None:
        x = torch.randn(6, 16, 3, 2)
        layer = TemporalConv1d(16, num_segments=3, fold_div=8)
        assert torch.equal(layer(x), temporal_shift(x, 3, fold_div=8))

    def test_starts_as_nothing_without_fold_div(self) -> None:
        x = torch.randn(6, 5, 3, 2)
        assert torch.equal(TemporalConv1d(5, num_segments=3)(x), x)

    def test_is_the_convolution_over_time_of_every_channel(self) -> None:
        layer = TemporalConv1d(5, num_segments=4).double()
        torch.nn.init.normal_(layer.weight)
        x = torch.randn(8, 5, 3, 2, dtype=torch.float64)
        series = x.unflatten(0, (2, 4)).permute(0, 3, 4, 2, 1).reshape(12, 5, 4)
        expected = torch.nn.functional.conv1d(series, layer.weight, padding=1, groups=5)
        expected = expected.reshape(2, 3, 2, 5, 4).permute(0, 4, 3, 1, 2).flatten(0, 1)
        torch.testing.assert_close(layer(x), expected)

    @pytest.mark.parametrize("arguments", [(4, 0), (4, 8, 1)])
    def test_refuses(self, arguments: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="at least"):
            TemporalConv1d(*arguments)
