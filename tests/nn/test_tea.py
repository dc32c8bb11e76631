"""Motion excitation against plain loops over its formulas, and how TEA starts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gtdnet.nn import MotionExcitation, TemporalExcitationAggregation, temporal_shift


def make_module(channels: int, num_segments: int, reduction: int) -> MotionExcitation:
    """In float64, with the norms of a trained network and gates well away from 0."""
    torch.manual_seed(0)
    module = MotionExcitation(channels, num_segments, reduction).double().eval()
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(std=0.7)
    return module


def make_clips(clips: int, frames: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(clips * frames, channels, 3, 4, generator=generator, dtype=torch.float64)


def conv_1x1(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[D, C] on [C, H, W] -> [D, H, W]."""
    return np.array([sum(w * plane for w, plane in zip(row, x, strict=True)) for row in weight])


def conv_3x3_each(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[D, 3, 3], one per channel, on [D, H, W], zeros around it."""
    out = np.zeros_like(x)
    channels, height, width = x.shape
    for d in range(channels):
        for i in range(height):
            for j in range(width):
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        if 0 <= i + di < height and 0 <= j + dj < width:
                            out[d, i, j] += weight[d, 1 + di, 1 + dj] * x[d, i + di, j + dj]
    return out


def norm(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """Batch norm in evaluation, channels first."""
    weight, bias, mean, var = (
        weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return np.array(
        [
            (plane - mean[c]) / math.sqrt(var[c] + 1e-5) * weight[c] + bias[c]
            for c, plane in enumerate(x)
        ]
    )


def expected_gates(module: MotionExcitation, x: Tensor) -> np.ndarray:
    """a_t of every frame, [N*T, C]."""
    weights = {k: v.numpy() for k, v in module.state_dict().items()}
    reduce, expand = (weights[f"{name}.weight"][:, :, 0, 0] for name in ("conv1", "conv3"))
    gates = []
    for clip in x.unflatten(0, (-1, module.num_segments)).numpy():
        reduced = [norm(weights, "bn1", conv_1x1(reduce, frame)) for frame in clip]
        for t, now in enumerate(reduced):
            motion = np.zeros_like(now)
            if t + 1 < len(reduced):
                motion = conv_3x3_each(weights["conv2.weight"][:, 0], reduced[t + 1]) - now
            pooled = np.array([plane.sum() / plane.size for plane in motion])
            logits = norm(weights, "bn3", expand @ pooled)
            gates.append([1 / (1 + math.exp(-value)) - 0.5 for value in logits])
    return np.array(gates)


@pytest.mark.parametrize(
    ("channels", "num_segments", "reduction"), [(32, 4, 16), (12, 3, 4), (6, 2, 1), (5, 1, 16)]
)
def test_excitation_equals_the_formulas(channels: int, num_segments: int, reduction: int) -> None:
    module = make_module(channels, num_segments, reduction)
    x = make_clips(2, num_segments, channels)
    gates = torch.from_numpy(expected_gates(module, x))[:, :, None, None]
    assert gates.abs().max() > 0.05
    with torch.inference_mode():
        torch.testing.assert_close(module.gate(x), gates, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(module(x), (1 + gates) * x, rtol=1e-10, atol=1e-12)


def test_gradient() -> None:
    module = make_module(4, 3, 2)
    x = make_clips(1, 3, 4)[:, :, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))


def test_the_last_frame_has_no_motion() -> None:
    module = make_module(8, 3, 2)
    gates = module.gate(make_clips(4, 3, 8)).unflatten(0, (4, 3))
    assert torch.equal(gates[:, 2], gates[:1, 2].expand(4, -1, -1, -1))
    assert (gates[1:, :2] != gates[:1, :2]).all()


@settings(max_examples=20, deadline=None)
@given(clips=st.integers(2, 4), frames=st.integers(1, 4), changed=st.integers(0, 3))
def test_clips_do_not_mix(clips: int, frames: int, changed: int) -> None:
    module = make_module(8, frames, 4)
    x = make_clips(clips, frames, 8)
    other = x.clone()
    other.unflatten(0, (clips, frames))[changed % clips] += 1
    before, after = (module(m).unflatten(0, (clips, frames)) for m in (x, other))
    for i in range(clips):
        assert torch.equal(before[i], after[i]) == (i != changed % clips)


def test_every_weight_learns() -> None:
    module = MotionExcitation(32, 4)
    (module(torch.randn(8, 32, 5, 5)) * torch.randn(8, 32, 5, 5)).sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key


@pytest.mark.parametrize(
    ("channels", "reduced"), [(104, 6), (208, 13), (416, 26), (832, 52), (12, 1)]
)
def test_reduced_channels_are_rounded_down(channels: int, reduced: int) -> None:
    shapes = {
        key: list(value.shape) for key, value in MotionExcitation(channels, 8).state_dict().items()
    }
    assert shapes["conv1.weight"] == [reduced, channels, 1, 1]
    assert shapes["conv2.weight"] == [reduced, 1, 3, 3]
    assert shapes["conv3.weight"] == [channels, reduced, 1, 1]


def test_aggregation_starts_as_nothing_but_in_the_last_split() -> None:
    x = torch.randn(6, 26, 3, 2)
    first, second, third, last = TemporalExcitationAggregation(104, 3).aggregation
    assert torch.equal(last(x), temporal_shift(x, 3, fold_div=2))
    for layer in (first, second, third):
        assert torch.equal(layer(x), x)


def test_keys() -> None:
    state = TemporalExcitationAggregation(104, 8).state_dict()
    assert list(state)[-4:] == [f"aggregation.{i}.weight" for i in range(4)]
    assert all(state[f"aggregation.{i}.weight"].shape == (26, 1, 3) for i in range(4))
    assert {key.split(".")[1] for key in state if key.startswith("excitation.")} == {
        "conv1", "bn1", "conv2", "conv3", "bn3",
    }  # fmt: skip


def test_compiles_whole() -> None:
    module = make_module(8, 3, 4)
    x = make_clips(2, 3, 8)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MotionExcitation(0, 8), "channels must be at least 1, got 0"),
        (lambda: MotionExcitation(8, 0), "num_segments must be .* at least 1, got 0"),
        (lambda: MotionExcitation(8, 8, 0), "reduction must be at least 1, got 0"),
        (lambda: TemporalExcitationAggregation(10, 8), r"divide into splits=4 .* got 10"),
        (lambda: MotionExcitation(8, 4)(torch.zeros(6, 8, 2, 2)), "num_segments=4.* got 6$"),
    ],
)
def test_refuses(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
