"""A convolution with what stands before it, in the forms that compilers of graphs run fastest.

They compute what :class:`gtdnet.nn.TemporalConv2d` does, up to rounding; docs/performance.md says
how the forms were chosen. Like the fast path of the eager network (:mod:`gtdnet.nn.fast`) they
take the gate from the pooled vectors of the unshifted features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.nn import TemporalConv2d
from gtdnet.nn.fast import FusedPart, fused_part


def one_pass(conv: TemporalConv2d) -> nn.Module:
    """For torch.compile, which writes the shifted and enhanced features in one loop."""
    part = _part(conv)
    return conv if part is None else _OnePass(conv, part)


def for_openvino(conv: TemporalConv2d) -> nn.Module:
    """For OpenVINO, whose loops do not shift, and which copies parts of the channels slowly.

    Where the convolution gives more channels than it takes, or takes each by itself:
    :func:`whole_frames`; else :func:`two_convs`, whose second pass over the output is then short.
    """
    widens = conv.groups != 1 or conv.out_channels > conv.in_channels
    return whole_frames(conv) if widens else two_convs(conv)


def two_convs(conv: TemporalConv2d) -> nn.Module:
    """The channels that stay never pass through a loop that shifts.

    They and those that move have a convolution each; the sum is part of the second one.
    """
    part = _part(conv)
    if part is None or conv.groups != 1:
        return conv
    return _TwoConvs(conv, part)


def whole_frames(conv: TemporalConv2d) -> nn.Module:
    """The frame, the next and the one before it are summed, every channel of one of them alone.

    Whole frames are one block of memory each, and the sum of three products is one loop.
    """
    part = _part(conv)
    return conv if part is None else _WholeFrames(conv, part)


def _part(conv: TemporalConv2d) -> FusedPart | None:
    """What stands before a convolution; None of a causal one, which no form here is for."""
    part = fused_part(conv, conv.temporal)
    return None if part is None or part.causal else part


class _Form(nn.Module):
    """[N*T, C, H, W] -> [N*T, C', H', W'], as ``conv`` does. Clips stay folded into frames.

    A frame takes what moves from its neighbour in memory; what that is of another clip's frame is
    multiplied by 0. (Loops over a clip axis of its own are slower.)
    """

    gate: Any

    def __init__(self, conv: TemporalConv2d, part: FusedPart) -> None:
        super().__init__()
        self.num_segments, self.fold, self.gate = part.num_segments, part.fold, part.gate
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups
        self.bias = conv.bias
        self.shift = _Moves(self.num_segments, conv.in_channels, self.fold)

    def factors(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor | None]:
        """What multiplies the channels that moved, and the others (None: nothing does).

        Args:
            x: the features.
            u: GAP(x), [N*T, C].

        Returns:
            [N*T, 2*fold, 1, 1] and [N*T, C - 2*fold, 1, 1], by the frame that they move to.
        """
        inside = self.shift.inside.view(self.num_segments, -1)[:, : 2 * self.fold]
        moved = inside.repeat(x.shape[0] // self.num_segments, 1)
        still = None
        if self.gate is not None:
            gain = 1 + self.gate.gate_of_pooled(self.shift(u))
            moved = moved * gain[:, : 2 * self.fold]
            still = gain[:, 2 * self.fold :].to(x.dtype)[:, :, None, None]
        return moved.to(x.dtype)[:, :, None, None], still

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _OnePass(_Form):
    def __init__(self, conv: TemporalConv2d, part: FusedPart) -> None:
        super().__init__(conv, part)
        self.weight = conv.weight

    def forward(self, x: Tensor) -> Tensor:
        # Pooling one axis at a time: torch.compile's loop over both is slower.
        moved, still = self.factors(x, x.mean(3, dtype=torch.float32).mean(2))
        f = self.fold
        parts = [x[:, 2 * f :] if still is None else x[:, 2 * f :] * still]
        if f:  # pad: the frames are the third axis before the last
            ahead, behind = x[1:, :f] * moved[:-1, :f], x[:-1, f : 2 * f] * moved[1:, f:]
            parts = [F.pad(ahead, (0,) * 7 + (1,)), F.pad(behind, (0,) * 6 + (1, 0)), *parts]
        return self.conv(torch.cat(parts, 1), self.weight, self.bias)


class _WholeFrames(_Form):
    def __init__(self, conv: TemporalConv2d, part: FusedPart) -> None:
        super().__init__(conv, part)
        self.weight = conv.weight

    def forward(self, x: Tensor) -> Tensor:
        moved, still = self.factors(x, _average(x))
        f, channels = self.fold, self.weight.shape[1] * self.groups
        if still is None:
            still = torch.ones_like(moved[:, :1]).expand(-1, channels - 2 * f, -1, -1)
        y = x * _among(still, 2 * f, channels)
        if f:
            following, former = torch.cat([x[1:], x[:1]]), torch.cat([x[-1:], x[:-1]])
            y = y + following * _among(moved[:, :f], 0, channels)
            y = y + former * _among(moved[:, f:], f, channels)
        return self.conv(y, self.weight, self.bias)


class _TwoConvs(_Form):
    def __init__(self, conv: TemporalConv2d, part: FusedPart) -> None:
        super().__init__(conv, part)
        moved, still = conv.weight.split([2 * self.fold, conv.in_channels - 2 * self.fold], 1)
        self.moved = nn.Parameter(moved.contiguous(), requires_grad=False)
        self.still = nn.Parameter(still.contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        moved, still = self.factors(x, _average(x))
        f = self.fold
        y = self.conv(
            x[:, 2 * f :] if still is None else x[:, 2 * f :] * still, self.still, self.bias
        )
        if not f:
            return y
        ahead = torch.cat([x[1:, :f], x[:1, :f]])
        behind = torch.cat([x[-1:, f : 2 * f], x[:-1, f : 2 * f]])
        return y + self.conv(torch.cat([ahead, behind], 1) * moved, self.moved, None)


def _average(x: Tensor) -> Tensor:
    """GAP(x), [N*T, C, H, W] -> [N*T, C].

    OpenVINO's average pooling takes half as long as its mean; its window is a constant.
    """
    return F.avg_pool2d(x, [int(axis) for axis in x.shape[2:]]).flatten(1)


def _among(factors: Tensor, before: int, channels: int) -> Tensor:
    """[N*T, C', 1, 1] -> [N*T, C, 1, 1], so many channels of 0 before them and the rest behind."""
    return F.pad(factors, (0, 0, 0, 0, before, channels - before - factors.shape[1]))


class _Moves(nn.Module):
    """The temporal shift of vectors by one lookup, [N*T, C] -> [N*T, C]."""

    source: Tensor
    inside: Tensor

    def __init__(self, num_segments: int, channels: int, fold: int) -> None:
        super().__init__()
        frames = torch.arange(num_segments)[:, None].repeat(1, channels)
        frames[:, :fold] += 1
        frames[:, fold : 2 * fold] -= 1
        source = frames % num_segments * channels + torch.arange(channels)
        self.register_buffer("source", source.flatten())
        self.register_buffer("inside", (frames == frames % num_segments).flatten().float())

    def forward(self, u: Tensor) -> Tensor:
        of_clips = u.reshape(-1, len(self.source)).index_select(1, self.source)
        return (of_clips * self.inside.to(u.dtype)).reshape(u.shape)
