"""The fast path of a convolution behind a temporal shift, a GTD block, or both.

The plain form (:mod:`gtdnet.nn.shift`, :mod:`gtdnet.nn.gtd`) passes over the feature map once for
the pooled vectors, twice for the shift and twice for the enhancement, and training keeps all that
for the backward pass. None of the arithmetic needs it:

- pooling and shift commute: GAP(shift(x))_t is made of the GAP(x) of three frames, so the gate
  follows from the pooled vectors of x itself;
- shift and enhancement are one pass into one buffer: out_t[c] = x_{t'}[c] * (1 + s_t[c]), where
  t' is t + 1, t - 1 or t by channel;
- the buffer follows from x and s_t, so that training keeps neither it nor the shifted features;
- backward, where the convolution's weight gradient frame by frame is about as small as the
  features, the gradient of s_t is made of it, not of a product of two feature maps; and the pooled
  vectors' gradient is added in the pass that shifts back, not as a map of equal values.

The results are those of the plain form up to rounding (tests/nn/test_fast.py), and
:func:`fast_path` switches between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
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
    gtd, num_segments, fold = parts
    check_folded(x, num_segments)
    weight = conv.weight
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        gain, exchange = None, _Exchange()
        if gtd is not None:
            u = _ShiftedPool.apply(x, exchange, num_segments, fold)
            gain = (1 + gtd.gate_of_pooled(u)).to(x.dtype)
        if not torch.is_grad_enabled():
            return conv._conv_forward(shift_scaled(x, gain, num_segments, fold), weight, bias)
        y = _ShiftedConv.apply(x, gain, weight, exchange, conv, num_segments, fold)
        return y if bias is None else y + bias[:, None, None]


def shift_scaled(x: Tensor, gain: Tensor | None, num_segments: int, fold: int) -> Tensor:
    """gain * shift(x) in one pass, into a new tensor: [N*T, C, ...] -> [N*T, C, ...].

    Args:
        x: the first ``fold`` channels of frame t come from t+1, the next ``fold`` from t-1.
        gain: [N*T, C], or None for 1.
    """
    return _one_pass(x, gain, None, num_segments, fold, back=False)


def _unshift_scaled(
    y: Tensor, gain: Tensor | None, num_segments: int, fold: int, plus: Tensor | None = None
) -> Tensor:
    """The adjoint of :func:`shift_scaled` in x: shift back what was multiplied by ``gain``.

    Args:
        plus: [N*T, C], added everywhere in the same pass; only together with ``gain``.
    """
    return _one_pass(y, gain, plus, num_segments, fold, back=True)


def _one_pass(
    x: Tensor, gain: Tensor | None, plus: Tensor | None, num_segments: int, fold: int, back: bool
) -> Tensor:
    """gain * shift(x), or ``back``: the inverse shift of gain * x, where it ends plus ``plus``."""
    if not fold:
        if gain is None:
            return x
        by = _over(gain, x)
        return x * by if plus is None else torch.addcmul(_over(plus, x), x, by)
    out = torch.empty_like(x)
    source, target = (m.unflatten(0, (-1, num_segments)) for m in (x, out))
    gains, sums = (
        None if m is None else _over(m, x).unflatten(0, (-1, num_segments)) for m in (gain, plus)
    )
    ahead, behind, still = slice(fold), slice(fold, 2 * fold), slice(2 * fold, None)
    all_but_first, all_but_last, every = slice(1, None), slice(None, -1), slice(None)
    if back:  # what came from the next frame goes there again
        ahead, behind = behind, ahead
    for channels, to, come_from in (
        (ahead, all_but_last, all_but_first),
        (behind, all_but_first, all_but_last),
        (still, every, every),
    ):
        part, place = source[:, come_from, channels], target[:, to, channels]
        if gains is None:
            place.copy_(part)
            continue
        by = gains[:, come_from if back else to, channels]
        if sums is None:
            torch.mul(part, by, out=place)
        else:
            torch.addcmul(sums[:, to, channels], part, by, out=place)
    for frame, channels in ((-1, ahead), (0, behind)):  # nothing comes from beyond the clip
        target[:, frame, channels] = 0 if sums is None else sums[:, frame, channels]
    return out


class _Exchange:
    """What the backward pass of a convolution leaves to that of the pooling before it.

    The pooling's is the later one, as the gate lies between the two. It adds its own gradient of x
    in the pass over the features that the convolution's takes anyway.
    """

    pending: tuple[Tensor, Tensor] | None = None


class _ShiftedPool(torch.autograd.Function):
    """shift(GAP(x)): [N*T, C, H, W] -> [N*T, C]; its backward pass is _ShiftedConv's in x too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, exchange: _Exchange, num_segments: int, fold: int) -> Tensor:
        ctx.exchange, ctx.num_segments, ctx.fold, ctx.shape = exchange, num_segments, fold, x.shape
        return shift_scaled(_pooled(x), None, num_segments, fold)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        num_segments, fold = ctx.num_segments, ctx.fold
        grad_u = _unshift_scaled(grads[0], None, num_segments, fold) / ctx.shape[2:].numel()
        pending, ctx.exchange.pending = ctx.exchange.pending, None
        if pending is None:  # nobody asked for the convolution's
            return grad_u[:, :, None, None].expand(ctx.shape), None, None, None
        grad_moved, gain = pending
        return _unshift_scaled(grad_moved, gain, num_segments, fold, grad_u), None, None, None


class _ShiftedConv(torch.autograd.Function):
    """conv(gain * shift(x)), which keeps x and the gain alone for its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | None,
        weight: Tensor,
        exchange: _Exchange,
        conv: nn.Conv2d,
        num_segments: int,
        fold: int,
    ) -> Tensor:
        ctx.save_for_backward(x, gain, weight)
        ctx.exchange, ctx.conv, ctx.num_segments, ctx.fold = exchange, conv, num_segments, fold
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

        def convolution(wants_input: bool, wants_weight: bool) -> Any:
            wanted = [wants_input, wants_weight, False]
            return torch.ops.aten.convolution_backward(
                grads[0], moved, weight, None, conv.stride, conv.padding, conv.dilation, False,
                [0, 0], conv.groups, wanted,
            )[:2]  # fmt: skip

        grad_x = grad_gain = grad_weight = None
        if needs_gain and _is_smaller_by_frames(conv, x):
            # y = W moved and moved = gain * shift(x): the sum over H and W of grad_moved * moved is
            # that over C' of W * grad_W, frame by frame.
            of_frames = grads[0].flatten(2) @ moved.flatten(2).mT  # [N*T, C', C]
            grad_gain = (of_frames * weight[:, :, 0, 0]).sum(1)
            grad_weight = of_frames.sum(0)[:, :, None, None] if needs_weight else None
            grad_moved = convolution(needs_x, False)[0]
        else:
            grad_moved, grad_weight = convolution(needs_x or needs_gain, needs_weight)
            grad_gain = (grad_moved * moved).sum(dim=(2, 3)) if needs_gain else None
        if grad_gain is not None:
            grad_gain = grad_gain / gain  # every gain is above 1
        if needs_x and needs_gain:
            ctx.exchange.pending = grad_moved, gain
        elif needs_x:
            grad_x = _unshift_scaled(grad_moved, gain, num_segments, fold)
        return grad_x, grad_gain, grad_weight, None, None, None, None


def _is_smaller_by_frames(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a weight gradient for each frame, [N*T, C', C], is about as large as x at most."""
    is_map = conv.kernel_size == (1, 1) == conv.stride and conv.padding == (0, 0)
    return is_map and conv.groups == 1 and conv.out_channels <= 2 * x.shape[2:].numel()


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
    if x.device.type == "cpu" and _is_channels_last(x):
        # PyTorch's mean takes up to seven times as long here.
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)
    return x.mean(dim=(2, 3))


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _over(gain: Tensor, x: Tensor) -> Tensor:
    """[N*T, C] to where it multiplies x, [N*T, C, ...]."""
    return gain.reshape(*gain.shape, *(1 for _ in x.shape[2:]))
