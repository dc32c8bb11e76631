"""The fast path: a convolution in one pass with what stands before it.

A temporal module that moves channels along time, or multiplies them by a gate made of pooled
vectors, says so by ``fused_part(channels)`` (:class:`FusedPart`). The plain form of a shift, a
gate and a convolution passes over the feature map once for the pooled vectors, twice for the shift
and twice for the gate, and training keeps all that for the backward pass. None of the arithmetic
needs it:

- pooling and shift commute: GAP(shift(x))_t is made of the GAP(x) of three frames, so the gate
  follows from the pooled vectors of x itself;
- shift and gate are one pass into one buffer: out_t[c] = x_{t'}[c] * (1 + s_t[c]), where t' is
  t + 1, t - 1 or t by channel;
- the buffer follows from x and s_t, so that training keeps neither it nor the shifted features;
- backward, where the convolution's weight gradient frame by frame is about as small as the
  features, the gradient of s_t is made of it, not of a product of two feature maps; and the pooled
  vectors' gradient is added in the pass that shifts back, not as a map of equal values.

The results are those of the plain form up to rounding (tests/nn/test_fast.py), and
:func:`fast_path` switches between them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as torch_modules

from gtdnet.moved import names
from gtdnet.nn.frames import check_folded, pooled

_ENABLED: ContextVar[bool] = ContextVar("gtdnet_fast_path", default=True)


@contextmanager
def fast_path(enabled: bool = True) -> Iterator[None]:
    """Within it, convolutions take the fast path where there is one, or never do.

    The default is to take it. Modules with hooks or with a forward of the instance's own, tracing,
    exporting, compiling and torch.func get the plain form in any case.
    """
    token = _ENABLED.set(enabled)
    try:
        yield
    finally:
        _ENABLED.reset(token)


class FusedPart(NamedTuple):
    """A temporal module that what follows can take into its own pass.

    Attributes:
        num_segments: T.
        fold: so many channels of frame t come from t+1, the next as many from t-1.
        gate: a module whose ``gate_of_pooled`` makes s_t, [N*T, C], of the pooled vectors u_t,
            [N*T, C], with parameters of its own alone; all channels are then multiplied by 1 + s_t.
            None: they are not.
        causal: the first ``fold`` channels come from t-1 instead, and all others stay; the first
            frame has its own.
    """

    num_segments: int
    fold: int = 0
    gate: nn.Module | None = None
    causal: bool = False

    @property
    def shift(self) -> tuple[int, int, bool]:
        """(num_segments, fold, causal)."""
        return self.num_segments, self.fold, self.causal


def fused_part(conv: nn.Conv2d, temporal: nn.Module) -> FusedPart | None:
    """What stands before ``conv`` as one part: a shift, a gate, or a shift, then a gate.

    None where there is anything else, or where somebody looks on or changed something: hooks, a
    forward patched on an instance.
    """
    return _one_part(temporal, conv.in_channels) if is_plain_conv(conv) else None


def is_plain_conv(conv: nn.Conv2d) -> bool:
    """Whether :func:`torch.nn.functional.conv2d` does what it does: zeros around, so many."""
    return not isinstance(conv.padding, str) and conv.padding_mode == "zeros"


def _one_part(temporal: nn.Module, channels: int) -> FusedPart | None:
    parts = []
    for module in temporal if type(temporal) is nn.Sequential else [temporal]:
        said = getattr(module, "fused_part", None)
        if said is None or (part := said(channels)) is None:
            return None
        parts.append(part)
    if any(map(is_watched, temporal.modules())):
        return None
    if len(parts) == 2 and parts[0].gate is None and parts[1].fold == 0:
        shift, gate = parts
        is_same = shift.num_segments == gate.num_segments
        return shift._replace(gate=gate.gate) if is_same else None
    return parts[0] if len(parts) == 1 else None


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_watched(module: nn.Module) -> bool:
    """Whether somebody looks on or changed something: hooks, a forward patched on an instance."""
    own = module.__dict__
    return any(own[hooks] for hooks in _HOOKS) or "forward" in own or "gate" in own


def _is_open(x: Tensor) -> bool:
    """Whether the fast path may be taken: nobody traces, transforms or looks on."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return False
    if not _ENABLED.get() or torch._C._are_functorch_transforms_active():
        return False
    if type(x) is not Tensor or x.is_meta or not x.is_floating_point():  # a tracer's stand-in
        return False
    return not torch_modules._has_any_global_hook()


def fast_features(temporal: nn.Module, x: Tensor, channels_last: bool = False) -> Tensor | None:
    """``temporal(x)`` in one pass, without gradients; None where there is no such way.

    Args:
        channels_last: x is tokens, [N*T, ..., C], not maps.
    """
    if torch.is_grad_enabled() or not _is_open(x):
        return None
    part = _one_part(temporal, x.shape[-1 if channels_last else 1])
    if part is None:
        return None
    check_folded(x, part.num_segments, channels_last)
    maps = x.movedim(-1, 1) if channels_last else x
    gain = None
    if part.gate is not None:
        u = pooled(x, True) if channels_last else _pooled(x)
        gain = _gain(part, shift_scaled(u, None, *part.shift), x)
    moved = shift_scaled(maps, gain, *part.shift)
    return moved.movedim(1, -1) if channels_last else moved


def fast_forward(conv: nn.Conv2d, temporal: nn.Module, x: Tensor) -> Tensor | None:
    """``conv(temporal(x))`` by the fast path; None where there is none."""
    if not _is_open(x):
        return None
    part = fused_part(conv, temporal)
    if part is None:
        return None
    check_folded(x, part.num_segments)
    weight = conv.weight
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        if not torch.is_grad_enabled():
            gain = None if part.gate is None else _gain(part, _shifted_pool(x, part), x)
            return conv._conv_forward(shift_scaled(x, gain, *part.shift), weight, bias)
        learned = () if part.gate is None else tuple(part.gate.parameters())
        y: Any = _Fused.apply(x, weight, conv, part, *learned)
        return y if bias is None else y + bias[:, None, None]


def _gain(part: FusedPart, u: Tensor, x: Tensor) -> Tensor:
    """1 + s_t of the shifted pooled vectors u, [N*T, C], in the precision of x."""
    return (1 + part.gate.gate_of_pooled(u)).to(x.dtype)  # type: ignore[union-attr, operator]


def _shifted_pool(x: Tensor, part: FusedPart) -> Tensor:
    """GAP(shift(x)): [N*T, C, H, W] -> [N*T, C]."""
    return shift_scaled(_pooled(x), None, *part.shift)


# ------------------------------------------------------------------------------------- one pass


def shift_scaled(
    x: Tensor, gain: Tensor | None, num_segments: int, fold: int, causal: bool = False
) -> Tensor:
    """gain * shift(x) in one pass, into a new tensor: [N*T, C, ...] -> [N*T, C, ...].

    Args:
        x: the first ``fold`` channels of frame t come from t+1, the next ``fold`` from t-1; of a
            ``causal`` shift the first ``fold`` come from t-1, those of the first frame stay.
        gain: [N*T, C], or None for 1.
    """
    return _one_pass(x, gain, None, FusedPart(num_segments, fold, causal=causal), back=False)


def _unshift_scaled(
    y: Tensor, gain: Tensor | None, part: FusedPart, plus: Tensor | None = None
) -> Tensor:
    """The adjoint of :func:`shift_scaled` in x: shift back what was multiplied by ``gain``.

    Args:
        plus: [N*T, C], added everywhere in the same pass; only together with ``gain``.
    """
    return _one_pass(y, gain, plus, part, back=True)


def _one_pass(
    x: Tensor, gain: Tensor | None, plus: Tensor | None, part: FusedPart, back: bool
) -> Tensor:
    """gain * shift(x), or ``back``: the inverse shift of gain * x, where it ends plus ``plus``."""
    fold = part.fold
    if not fold:
        if gain is None:
            return x
        by = _over(gain, x)
        return x * by if plus is None else torch.addcmul(_over(plus, x), x, by)
    out = torch.empty_like(x)
    source, target = (m.unflatten(0, (-1, part.num_segments)) for m in (x, out))
    gains, sums = (
        None if m is None else _over(m, x).unflatten(0, (-1, part.num_segments))
        for m in (gain, plus)
    )

    def write(channels: slice, to: slice, come_from: slice) -> None:
        values, place = source[:, come_from, channels], target[:, to, channels]
        if gains is None:
            place.copy_(values)
            return
        by = gains[:, come_from if back else to, channels]
        if sums is None:
            torch.mul(values, by, out=place)
        else:
            torch.addcmul(sums[:, to, channels], values, by, out=place)

    moving = [(slice(fold), not part.causal)]  # channels, whether from the next frame
    if not part.causal:
        moving.append((slice(fold, 2 * fold), False))
    first, all_but_first, all_but_last, every = slice(1), slice(1, None), slice(-1), slice(None)
    for channels, from_next in moving:
        if from_next != back:  # what came from the frame before goes there again
            write(channels, all_but_last, all_but_first)
            end = -1
        else:
            write(channels, all_but_first, all_but_last)
            end = 0
        if part.causal and not back:
            write(channels, first, first)
            continue
        # Nothing comes from beyond the clip.
        target[:, end, channels] = 0 if sums is None else sums[:, end, channels]
        if part.causal:
            own = source[:, 0, channels]
            target[:, 0, channels] += own if gains is None else own * gains[:, 0, channels]
    write(slice(len(moving) * fold, None), every, every)
    return out


# -------------------------------------------------------------------------------- with gradients


class _Fused(torch.autograd.Function):
    """conv(gain * shift(x)), which keeps x and vectors alone for its backward pass.

    The gate's parameters are inputs, so that all gradients leave by one node: whichever of them
    are asked for, none depends on another node having run. The gate's graph ends in leaves of its
    own, so that hooks on its parameters run once. Where saved tensors are watched (checkpointing,
    offloading) there is none to watch: the gate is made anew in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, conv: nn.Conv2d, part: FusedPart, *learned: Tensor
    ) -> Tensor:
        u = gain = ctx.gate = None
        if part.gate is not None:
            u = _shifted_pool(x, part)
            if _saved_tensors_are_watched():
                gain = _gain(part, u, x)
            else:
                ctx.gate = _Gate(part, x, u, learned)
                gain = ctx.gate.gain.detach()
        ctx.save_for_backward(x, weight, u, gain)
        ctx.conv, ctx.part, ctx.learned = conv, part, learned
        moved = shift_scaled(x, gain, *part.shift)
        return conv._conv_forward(moved, weight, None)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight, u, gain = ctx.saved_tensors
        conv, part, learned = ctx.conv, ctx.part, ctx.learned
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        gate, ctx.gate = ctx.gate, None  # its graph serves once
        if gate is None and gain is not None:
            gate = _Gate(part, x, u, learned)
        needs_gain = gate is not None and gate.gain.requires_grad
        moved = shift_scaled(x, gain, *part.shift)

        def convolution(wants_input: bool, wants_weight: bool) -> Any:
            wanted = [wants_input, wants_weight, False]
            return torch.ops.aten.convolution_backward(
                grads[0], moved, weight, None, conv.stride, conv.padding, conv.dilation, False,
                [0, 0], conv.groups, wanted,
            )[:2]  # fmt: skip

        grad_gain = None
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
        grad_u: Tensor | None = None
        grads_learned: list[Tensor | None] = [None] * len(learned)
        if gate is not None and grad_gain is not None:
            grad_u, *grads_learned = gate.gradients(grad_gain / gain)  # every gain is above 1
        grad_x = None
        if needs_x:
            plus = None
            if grad_u is not None:
                plus = _unshift_scaled(grad_u, None, part) / x.shape[2:].numel()
            grad_x = _unshift_scaled(grad_moved, gain, part, plus)
        return grad_x, grad_weight, None, None, *grads_learned


def _saved_tensors_are_watched() -> bool:
    autograd = getattr(torch._C, "_autograd", None)
    top = getattr(autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None


class _Gate:
    """The gain with a graph that ends in leaves of its own."""

    def __init__(self, part: FusedPart, x: Tensor, u: Tensor, learned: Sequence[Tensor]) -> None:
        parameters = [nn.Parameter(p.detach(), p.requires_grad) for p in learned]
        own = {id(p): leaf for p, leaf in zip(learned, parameters, strict=True)}
        kept = {id(buffer): buffer for buffer in part.gate.buffers()}  # type: ignore[union-attr]
        u = u.detach().requires_grad_(x.requires_grad)
        self._leaves = [u, *parameters]
        with torch.enable_grad():
            gate = copy.deepcopy(part.gate, own | kept)  # the modules alone: no weight is copied
            self.gain = _gain(part._replace(gate=gate), u, x)

    def gradients(self, grad_gain: Tensor) -> list[Tensor | None]:
        """Of u and each parameter; None where none is wanted, or the gain does not depend on it."""
        wanted = [leaf for leaf in self._leaves if leaf.requires_grad]
        gradients = iter(torch.autograd.grad(self.gain, wanted, grad_gain, allow_unused=True))
        return [next(gradients) if leaf.requires_grad else None for leaf in self._leaves]


def _is_smaller_by_frames(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a weight gradient for each frame, [N*T, C', C], is about as large as x at most."""
    is_map = conv.kernel_size == (1, 1) == conv.stride and conv.padding == (0, 0)
    return is_map and conv.groups == 1 and conv.out_channels <= 2 * x.shape[2:].numel()


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


__getattr__ = names(__name__)
