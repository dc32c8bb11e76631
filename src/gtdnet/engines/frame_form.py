"""The form in which OpenVINO runs a causal convolution one frame at a time fastest.

It computes what the convolution does, up to rounding; docs/performance.md says how it was chosen.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.nn import GlobalTemporalDifference, TemporalConv2d, TemporalShift
from gtdnet.nn.fast import is_plain_conv, is_watched
from gtdnet.nn.layers import parts_of


def one_frame(conv: TemporalConv2d) -> nn.Module:
    """For a stream in OpenVINO, where splitting and joining channels takes longer than arithmetic.

    The channels that move are taken out, and those of the frame before put in their place, by 1x1
    convolutions of zeros and ones; the others are multiplied by 1, those that moved by 0. Where
    that is much beside the convolution itself, a 1x1 one that narrows, the channels of the frame
    before have a convolution of their own instead of being put in place. That what is remembered
    comes out of a convolution has a further use: OpenVINO computes in fp32 whatever lies between an
    output and the convolutions nearest to it, here all sums of the network.

    A convolution behind anything but a causal shift, with or without a causal gate, stays itself.
    """
    parts = list(parts_of(conv.temporal))
    if not is_plain_conv(conv) or any(map(is_watched, conv.temporal.modules())):
        return conv
    if not parts or type(parts[0]) is not TemporalShift or not parts[0].causal:
        return conv
    if len(parts) > 2 or any(type(part) is not GlobalTemporalDifference for part in parts[1:]):
        return conv
    has_cells = any(cast(GlobalTemporalDifference, part).cells > 1 for part in parts[1:])
    return conv if has_cells or not conv.in_channels // parts[0].fold_div else _OneFrame(conv)


class _OneFrame(nn.Module):
    """[S, C, H, W], a frame of each stream -> [S, C', H', W']."""

    place: Tensor
    stays: Tensor

    def __init__(self, conv: TemporalConv2d) -> None:
        super().__init__()
        self.temporal = conv.temporal  # under its own name, as what it remembers is known by it
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups
        is_1x1 = conv.kernel_size == (1, 1) and conv.groups == 1
        self.narrows = is_1x1 and conv.out_channels < conv.in_channels
        shift = next(parts_of(conv.temporal))
        self.fold = conv.in_channels // cast(TemporalShift, shift).fold_div
        place = torch.eye(conv.in_channels, self.fold).to(conv.weight)[:, :, None, None]
        self.register_buffer("place", place)
        self.register_buffer("stays", 1 - place.sum(1))

    def forward(self, x: Tensor) -> Tensor:
        shift, *gates = parts_of(self.temporal)
        moved = F.conv2d(x, self.place.transpose(0, 1))  # [S, fold, H, W]
        before = cast(TemporalShift, shift).past.before(moved[:, None])[:, 0]
        still = self.stays
        for gate in gates:
            u = torch.cat([_pooled(before), _pooled(x)[:, self.fold :]], dim=1)
            s = cast(GlobalTemporalDifference, gate).gate_of_pooled(u).to(x.dtype)
            gain = (1 + s)[:, :, None, None]
            still, before = still * gain, before * gain[:, : self.fold]
        if self.narrows:
            of_before = self._conv(before, self.weight[:, : self.fold], None)
            return self._conv(x * still, self.weight, self.bias) + of_before
        return self._conv(x * still + F.conv2d(before, self.place), self.weight, self.bias)

    def _conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def _pooled(x: Tensor) -> Tensor:
    """Means over a map, [S, C]: average pooling takes OpenVINO half as long as its mean."""
    return F.avg_pool2d(x, [int(side) for side in x.shape[2:]]).flatten(1)
