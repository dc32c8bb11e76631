"""The TEI module against plain loops over its formulas, and how it starts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gtdnet.models import create_model
from gtdnet.nn import MotionEnhancement, TemporalEnhancementInteraction, temporal_shift


def make_module(
    channels: int, num_segments: int, reduction: int = 2
) -> TemporalEnhancementInteraction:
    """In float64, with weights that move every gate well away from 1/2."""
    torch.manual_seed(0)
    module = TemporalEnhancementInteraction(channels, num_segments, reduction).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    return module


def make_clips(clips: int, frames: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (clips * frames, channels, 3, 4)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.5


def linear(layer: nn.Linear, x: np.ndarray) -> list[float]:
    return [
        float(bias) + sum(float(w) * value for w, value in zip(row, x, strict=True))
        for row, bias in zip(layer.weight.detach(), layer.bias.detach(), strict=True)
    ]


def expected(module: TemporalEnhancementInteraction, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """s_t [N*T, C] and o_t [N*T, C, H, W] of every frame."""
    enhancement = module.enhancement
    before, now, after = module.interaction.weight.detach().numpy()[:, 0].T
    gates, out = [], []
    for clip in x.unflatten(0, (-1, enhancement.num_segments)).numpy():
        u = [np.array([plane.sum() / plane.size for plane in frame]) for frame in clip]
        s = [np.ones(clip.shape[1])] * len(clip)
        for t in range(len(clip) - 1):
            here = linear(enhancement.reduce, u[t])
            there = linear(enhancement.reduce_next, u[t + 1])
            difference = np.array([a - b for a, b in zip(here, there, strict=True)])
            s[t] = np.array(
                [1 / (1 + math.exp(-v)) for v in linear(enhancement.expand, difference)]
            )
        y = [gate[:, None, None] * frame for gate, frame in zip(s, clip, strict=True)]
        nothing = np.zeros_like(y[0])
        y = [nothing, *y, nothing]
        for t in range(1, len(y) - 1):
            out.append(
                before[:, None, None] * y[t - 1]
                + now[:, None, None] * y[t]
                + after[:, None, None] * y[t + 1]
            )
        gates += s
    return np.array(gates), np.array(out)


@pytest.mark.parametrize(
    ("channels", "num_segments", "reduction"), [(16, 4, 8), (6, 3, 2), (5, 2, 1), (3, 1, 8)]
)
def test_module_equals_the_formulas(channels: int, num_segments: int, reduction: int) -> None:
    module = make_module(channels, num_segments, reduction)
    x = make_clips(2, num_segments, channels)
    gates, out = (torch.from_numpy(m) for m in expected(module, x))
    with torch.inference_mode():
        torch.testing.assert_close(module.enhancement.gate(x), gates, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(module(x), out, rtol=1e-10, atol=1e-12)


def test_gradient() -> None:
    module = make_module(4, 3)
    x = make_clips(1, 3, 4)[:, :, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))


def test_starts_as_the_shift_of_the_enhanced_frames() -> None:
    module = TemporalEnhancementInteraction(16, 3)
    x = torch.randn(6, 16, 3, 2)
    assert torch.equal(module(x), temporal_shift(module.enhancement(x), 3, fold_div=8))


def test_the_last_frame_passes() -> None:
    module = make_module(8, 3)
    x = make_clips(2, 3, 8)
    after, before = (m.unflatten(0, (2, 3)) for m in (module.enhancement(x), x))
    assert torch.equal(after[:, 2], before[:, 2])
    assert not torch.isclose(after[:, :2], before[:, :2]).any()


@settings(max_examples=20, deadline=None)
@given(clips=st.integers(2, 4), frames=st.integers(1, 4), changed=st.integers(0, 3))
def test_clips_do_not_mix(clips: int, frames: int, changed: int) -> None:
    module = make_module(8, frames)
    x = make_clips(clips, frames, 8)
    other = x.clone()
    other.unflatten(0, (clips, frames))[changed % clips] += 1
    before, after = (module(m).unflatten(0, (clips, frames)) for m in (x, other))
    for i in range(clips):
        assert torch.equal(before[i], after[i]) == (i != changed % clips)


def test_every_weight_learns() -> None:
    module = TemporalEnhancementInteraction(16, 4)
    (module(torch.randn(8, 16, 5, 5)) * torch.randn(8, 16, 5, 5)).sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key


def test_published_size_and_cost() -> None:
    with torch.device("meta"):
        model = create_model("teinet_resnet50", 400, 8).eval()
        clip = torch.empty(1, 8, 3, 224, 224)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 30.4
    with FlopCounterMode(display=False) as counter:
        model(clip)
    assert round(counter.get_total_flops() / 2e9) == 33


def test_compiles_whole() -> None:
    module = make_module(8, 3)
    x = make_clips(2, 3, 8)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MotionEnhancement(0, 8), "channels must be at least 1, got 0"),
        (lambda: MotionEnhancement(8, 0), "num_segments must be .* at least 1, got 0"),
        (lambda: MotionEnhancement(8, 8, 0), "reduction must be at least 1, got 0"),
        (lambda: TemporalEnhancementInteraction(8, 8, fold_div=1), "fold_div must be .* got 1"),
        (lambda: MotionEnhancement(8, 4)(torch.zeros(6, 8, 2, 2)), "num_segments=4.* got 6$"),
    ],
)
def test_refuses(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
