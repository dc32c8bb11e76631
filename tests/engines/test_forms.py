"""The engines' forms of a convolution behind shift and GTD compute what it computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gtdnet.engines.forms import for_openvino, one_pass, two_convs, whole_frames
from gtdnet.nn import (
    GlobalTemporalDifference,
    TemporalConv2d,
    TemporalShift,
    fast_path,
    insert_temporal,
    temporal_convs,
)

T, C = 4, 12
forms = pytest.mark.parametrize("form", [one_pass, two_convs, whole_frames])


def conv_behind(build: Callable[[int], nn.Module], **options: object) -> TemporalConv2d:
    """A convolution C -> 6 behind a module, everything random."""
    torch.manual_seed(0)
    root = nn.Sequential(nn.Conv2d(C, 6, **({"kernel_size": 1} | options)))  # type: ignore[arg-type]
    insert_temporal(root, build, "0")
    ((_, conv),) = temporal_convs(root)
    return conv.double().eval()


def gtd(channels: int) -> nn.Module:
    return GlobalTemporalDifference(channels, T, 2)


def shift(channels: int) -> nn.Module:
    return TemporalShift(T, 4)


def both(channels: int) -> nn.Module:
    return nn.Sequential(shift(channels), gtd(channels))


def features(clips: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(clips * T, C, 5, 7, dtype=torch.float64, generator=generator)


@forms
@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("build", [gtd, shift, both])
@pytest.mark.parametrize(
    "options",
    [{}, {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False}],
    ids=["1x1", "3x3"],
)
def test_equal_to_the_plain_form(
    form: Callable[[TemporalConv2d], nn.Module],
    clips: int,
    build: Callable[[int], nn.Module],
    options: dict[str, object],
) -> None:
    conv = conv_behind(build, **options)
    x = features(clips)
    with torch.no_grad(), fast_path(False):
        wanted = conv(x)
        formed = form(conv).double()
        assert formed is not conv
        # Pooling may be in single precision.
        torch.testing.assert_close(formed(x), wanted, rtol=0, atol=1e-6)


@forms
def test_the_last_frame_gets_nothing_from_the_next_clip(
    form: Callable[[TemporalConv2d], nn.Module],
) -> None:
    formed = form(conv_behind(shift)).double()
    x = features(2)
    with torch.no_grad():
        together = formed(x)
        alone = torch.cat([formed(x[:T]), formed(x[T:])])
    torch.testing.assert_close(together, alone)


@forms
def test_another_module_or_a_hook_is_left_alone(
    form: Callable[[TemporalConv2d], nn.Module],
) -> None:
    other = conv_behind(lambda channels: nn.Conv2d(channels, channels, 1))
    assert form(other) is other
    watched = conv_behind(gtd)
    watched.temporal.register_forward_hook(lambda *_: None)
    assert form(watched) is watched


@forms
def test_causal_modules_are_left_alone(form: Callable[[TemporalConv2d], nn.Module]) -> None:
    conv = conv_behind(lambda _: TemporalShift(T, 4, causal=True))
    assert form(conv) is conv


def test_grouped_convolutions_are_not_parted() -> None:
    conv = conv_behind(both, groups=2)
    assert two_convs(conv) is conv
    x = features(2)
    for form in (one_pass, whole_frames):
        with torch.no_grad(), fast_path(False):
            torch.testing.assert_close(form(conv).double()(x), conv(x), rtol=0, atol=1e-6)


def test_openvinos_form_is_that_with_the_shorter_passes() -> None:
    """A convolution that widens must not have its output written twice."""
    narrows, widens = conv_behind(both), conv_behind(both)
    widens.out_channels = 6 * C
    assert type(for_openvino(narrows)) is type(two_convs(narrows))
    for conv in (widens, conv_behind(both, groups=2)):
        assert type(for_openvino(conv)) is type(whole_frames(conv))
