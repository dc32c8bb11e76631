"""The fast path of a convolution behind a temporal shift, a GTD block, or both.

The plain form (:mod:`gtdnet.nn.shift`, :mod:`gtdnet.nn.gtd`) passes over the feature map once for
the pooled vectors, twice for the shift and twice for the enhancement, and training keeps all that
for the backward pass. None of the arithmetic needs it:

- pooling and shift commute: GAP(shift(x))_t is made of the GAP(x) of three frames, so the gate
  follows from the pooled vectors of x itself;
- shift and enhancement are one pass into one buffer: out_t[c] = x_{t'}[c] * (1 + s_t[c]), where
  t' is t + 1, t - 1 or t by channel;
- the buffer follows from x and s_t, so that training keeps neither it nor the shifted features.

The results are those of the plain form up to rounding (tests/nn/test_fast.py), and
:func:`fast_path` switches between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gtdnet.nn.gtd import GlobalTemporalDifference
from gtdnet.nn.shift import TemporalShift, check_folded

if TYPE_CHECKING:
    from gtdnet.nn.insert import TemporalConv2d

_ENABLED: ContextVar[bool] = ContextVar("gtdnet_fast_path", default=True)


@contextmanager
def fast_path(enabled: bool = True) -> Iterator[None]:
    """Within it, convolutions take the fast path where there is one, or never do.

    The default is to take it. Hooks on the temporal modules, tracing, exporting, compiling and
    torch.func get the plain form in any case.
    """
    token = _ENABLED.set(enabled)
    try:
        yield
    finally:
        _ENABLED.reset(token)


class Parts(NamedTuple):
    """What stands before the convolution; T and the channels that move each way."""

    gtd: GlobalTemporalDifference | None
    num_segments: int
    fold: int


def fast_forward(conv: TemporalConv2d, x: Tensor) -> Tensor | None:
    """``conv(x)`` by the fast path; None where there is none."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return None
    if not _ENABLED.get() or torch._C._are_functorch_transforms_active():
        return None
    if type(x) is not Tensor or x.is_meta or not x.is_floating_point():  # a tracer's stand-in
        return None
    parts = parts_of(conv)
    if parts is None:
        return None
    check_folded(x, parts.num_segments)
    gain = None
    if parts.gtd is not None:
        u = shift_scaled(_pooled(x), None, parts.num_segments, parts.fold)
        gain = 1 + parts.gtd.gate_of_pooled(u)
    weight = conv.weight
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    if gain is not None:
        gain = gain.to(x.dtype)
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        if torch.is_grad_enabled():
            y = _ShiftedConv.apply(x, gain, weight, conv, parts.num_segments, parts.fold)
            return y if bias is None else y + bias[:, None, None]
        moved = shift_scaled(x, gain, parts.num_segments, parts.fold)
        return conv._conv_forward(moved, weight, bias)


def shift_scaled(x: Tensor, gain: Tensor | None, num_segments: int, fold: int) -> Tensor:
    """gain * shift(x) in one pass, into a new tensor: [N*T, C, ...] -> [N*T, C, ...].

    Args:
        x: the first ``fold`` channels of frame t come from t+1, the next ``fold`` from t-1.
        gain: [N*T, C], or None for 1.
    """
    if not fold:
        return x if gain is None else x * _over(gain, x)
    out = torch.empty_like(x)
    source, target = (m.unflatten(0, (-1, num_segments)) for m in (x, out))
    gains = None if gain is None else _over(gain, x).unflatten(0, (-1, num_segments))
    ahead, behind, still = slice(fold), slice(fold, 2 * fold), slice(2 * fold, None)
    later, earlier, all_frames = slice(1, None), slice(None, -1), slice(None)
    for channels, to, come_from in (
        (ahead, earlier, later),
        (behind, later, earlier),
        (still, all_frames, all_frames),
    ):
        part, place = source[:, come_from, channels], target[:, to, channels]
        if gains is None:
            place.copy_(part)
        else:
            torch.mul(part, gains[:, to, channels], out=place)
    target[:, -1, ahead].zero_()
    target[:, 0, behind].zero_()
    return out


def _unshift_scaled(y: Tensor, gain: Tensor | None, num_segments: int, fold: int) -> Tensor:
    """The adjoint of :func:`shift_scaled` in x: shift back what was multiplied by ``gain``."""
    if not fold:
        return y if gain is None else y * _over(gain, y)
    out = torch.empty_like(y)
    source, target = (m.unflatten(0, (-1, num_segments)) for m in (y, out))
    gains = None if gain is None else _over(gain, y).unflatten(0, (-1, num_segments))
    ahead, behind, still = slice(fold), slice(fold, 2 * fold), slice(2 * fold, None)
    later, earlier, all_frames = slice(1, None), slice(None, -1), slice(None)
    for channels, to, come_from in (
        (ahead, later, earlier),
        (behind, earlier, later),
        (still, all_frames, all_frames),
    ):
        part, place = source[:, come_from, channels], target[:, to, channels]
        if gains is None:
            place.copy_(part)
        else:
            torch.mul(part, gains[:, come_from, channels], out=place)
    target[:, 0, ahead].zero_()
    target[:, -1, behind].zero_()
    return out


class _ShiftedConv(torch.autograd.Function):
    """conv(gain * shift(x)), which keeps x and the gain alone for its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | None,
        weight: Tensor,
        conv: nn.Conv2d,
        num_segments: int,
        fold: int,
    ) -> Tensor:
        ctx.save_for_backward(x, gain, weight)
        ctx.conv, ctx.num_segments, ctx.fold = conv, num_segments, fold
        return conv._conv_forward(shift_scaled(x, gain, num_segments, fold), weight, None)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, gain, weight = ctx.saved_tensors
        conv, num_segments, fold = ctx.conv, ctx.num_segments, ctx.fold
        needs_x, needs_gain, needs_weight = ctx.needs_input_grad[:3]
        moved = shift_scaled(x, gain, num_segments, fold)
        grad_moved, grad_weight, _ = torch.ops.aten.convolution_backward(
            grads[0], moved, weight, None, conv.stride, conv.padding, conv.dilation, False, [0, 0],
            conv.groups, [needs_x or needs_gain, needs_weight, False],
        )  # fmt: skip
        grad_x = grad_gain = None
        if needs_gain:
            # moved = gain * shift(x), and every gain is above 1.
            grad_gain = (grad_moved * moved).sum(dim=(2, 3)) / gain
        if needs_x:
            grad_x = _unshift_scaled(grad_moved, gain, num_segments, fold)
        return grad_x, grad_gain, grad_weight, None, None, None


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def parts_of(conv: TemporalConv2d) -> Parts | None:
    """The shift and the block before ``conv``; None if there is anything else, or a hook."""
    temporal = conv.temporal
    modules = list(temporal.children()) if type(temporal) is nn.Sequential else [temporal]
    shift = gtd = None
    for module in modules:
        if type(module) is TemporalShift and shift is None and gtd is None:
            shift = module
        elif type(module) is GlobalTemporalDifference and gtd is None:
            gtd = module
        else:
            return None
    if any(getattr(m, hooks) for m in (temporal, *modules) for hooks in _HOOKS):
        return None
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return None
    fold = 0 if shift is None else conv.in_channels // shift.fold_div
    num_segments = {m.num_segments for m in (shift, gtd) if m is not None}
    return Parts(gtd, num_segments.pop(), fold) if len(num_segments) == 1 else None


def _pooled(x: Tensor) -> Tensor:
    """GAP(x): [N*T, C, H, W] -> [N*T, C]."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and _is_channels_last(x):
        # PyTorch's mean takes three times as long as a product with a vector of ones here.
        nt, c, h, w = x.shape
        sums = x.new_ones(nt, 1, h * w) @ x.permute(0, 2, 3, 1).reshape(nt, h * w, c)
        return sums[:, 0] / (h * w)
    return x.mean(dim=(2, 3))


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _over(gain: Tensor, x: Tensor) -> Tensor:
    """[N*T, C] to where it multiplies x, [N*T, C, ...]."""
    return gain.reshape(*gain.shape, *(1 for _ in x.shape[2:]))
