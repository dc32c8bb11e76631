"""OpenVINO's form of a causal convolution within a stream computes what the convolution does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gtdnet.engines.frame_form import one_frame
from gtdnet.nn import (
    GlobalTemporalDifference,
    TemporalConv2d,
    TemporalShift,
    insert_temporal,
    set_num_segments,
    temporal_convs,
)
from gtdnet.nn.memory import pasts

T, C = 3, 12


def shift(channels: int) -> nn.Module:
    return TemporalShift(T, 4, causal=True)


def both(channels: int, **options: object) -> nn.Module:
    gtd = GlobalTemporalDifference(channels, T, 2, causal=True, **options)  # type: ignore[arg-type]
    return nn.Sequential(shift(channels), gtd)


def conv_behind(
    build: Callable[[int], nn.Module], out: int = 6, **options: object
) -> TemporalConv2d:
    """A convolution C -> out behind a module, everything random."""
    torch.manual_seed(0)
    root = nn.Sequential(nn.Conv2d(C, out, **({"kernel_size": 1} | options)))  # type: ignore[arg-type]
    insert_temporal(root, build, "0")
    ((_, conv),) = temporal_convs(root)
    return conv.double().eval()


def frame_by_frame(conv: nn.Module, clips: Tensor) -> Tensor:
    """[N, T', C, H, W] -> [N, T', C', H', W']."""
    set_num_segments(conv, 1)
    remembered = [past for _, past in pasts(conv)]
    outputs, states, started = [], [None] * len(remembered), torch.zeros(len(clips)).bool()
    for frames in clips.unbind(1):
        for past, kept in zip(remembered, states, strict=True):
            past.recall(kept, started)
        outputs.append(conv(frames))
        states, started = [past.kept for past in remembered], torch.ones_like(started)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("build", [shift, both, lambda c: both(c, order=3, aggregation="lstm")])
@pytest.mark.parametrize(
    "options",
    [{}, {"out": 18}, {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False, "groups": 2}],
)
def test_it_follows_the_convolution_on_whole_clips(
    build: Callable[[int], nn.Module], options: dict[str, object]
) -> None:
    conv = conv_behind(build, **options)  # type: ignore[arg-type]
    clips = torch.randn(2, 7, C, 5, 7, dtype=torch.float64)
    set_num_segments(conv, 7)
    wanted = conv(clips.flatten(0, 1)).unflatten(0, (2, 7))
    form = one_frame(conv)
    assert form is not conv
    assert [name for name, _ in pasts(form)] == [name for name, _ in pasts(conv)]
    torch.testing.assert_close(frame_by_frame(form, clips), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "build",
    [
        lambda c: TemporalShift(T, 4),
        lambda c: TemporalShift(T, 16, causal=True),  # no channel moves
        lambda c: both(c, cells=2),
        lambda c: GlobalTemporalDifference(c, T, 2, causal=True),
        lambda c: nn.Sequential(shift(c), nn.Identity()),
    ],
)
def test_anything_else_stays(build: Callable[[int], nn.Module]) -> None:
    conv = conv_behind(build)
    assert one_frame(conv) is conv


def test_a_module_that_is_watched_stays() -> None:
    conv = conv_behind(both)
    conv.temporal[1].register_forward_hook(lambda *_: None)  # type: ignore[index]
    assert one_frame(conv) is conv


def test_padding_by_reflection_stays() -> None:
    conv = conv_behind(shift, kernel_size=3, padding=1, padding_mode="reflect")
    assert one_frame(conv) is conv
