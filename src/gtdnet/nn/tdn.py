"""The two temporal difference modules of TDN, in the order of the formulas.

Wang, Tong, Ji, Wu: "TDN: Temporal Difference Networks for Efficient Action Recognition", CVPR 2021
(section 3; https://github.com/MCG-NJU/TDN settles what the paper leaves open). A segment is five
neighbouring frames I_1 .. I_5, of which I_3 goes through the 2D network.

Short-term difference, in the network's first two stages:

    D    = AvgPool_2([I_2 - I_1, I_3 - I_2, I_4 - I_3, I_5 - I_4])    12 channels, half the size
    H_1  = MaxPool(ReLU(BN(Conv_7x7(D))))
    H_2  = Stage_2(H_1)                             the first residual stage, with its own weights
    x_i' = alpha x_i + (1 - alpha) Upsample(H_i)    x_1: the stem's output, x_2: stage 2's

Long-term difference, for the segments x_t, t = 1..T, before the second convolution of a block:

    b_t  = BN(W_reduce x_t)                         C/r channels
    f_t  = K * b_{t+1} - b_t,  0 for t = T          forward; K: a 3x3 filter for each channel
    g_t  = K * b_{t-1} - b_t,  0 for t = 1          backward
    M(d) = sigmoid(BN(W_expand (d + Upsample(S_2(AvgPool_2(d))) + S_4(d)) / 3)) - 1/2
    x_t' = x_t + x_t (M(f_t) + M(g_t)) / 2          S_2, S_4: 3x3 convolution and BN

(The code's first release had S_4(S_4(f_t)) in M(g_t), an error by its issue 6, corrected since.)
"Upsample" takes the nearest pixel. The learned temporal shift that follows x_t' is
:class:`gtdnet.nn.TemporalConv1d`.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.nn.frames import check_folded, check_num_segments, reduced_channels

FRAMES = 5
"""Neighbouring frames that make a segment."""


def published_appearance(num_segments: int) -> float:
    """alpha as the published networks have it: 1/2 at 8 segments, 3/4 at any other number."""
    return 0.5 if num_segments == 8 else 0.75


class ShortTermDifference(nn.Module):
    """What changes within a segment, for the first two stages of the network that it is added to.

    N clips of T segments side by side: [N*T, 5, 3, H, W] -> H_1 [N*T, C, H/8, W/8] and
    H_2 [N*T, C', H/8, W/8].

    Args:
        conv1: the network's first convolution; that of the differences starts, for each of its 12
            channels, as the mean over the channels of this one.
        layer1: its first residual stage; stage 2 of the differences starts as a copy.
        appearance: alpha, the share of the 2D network's own features, from 0 to 1.

    Raises:
        ValueError: appearance out of range, or an input that is not [N*T, 5, 3, H, W].
    """

    def __init__(self, conv1: nn.Conv2d, layer1: nn.Module, appearance: float) -> None:
        super().__init__()
        if not 0 <= appearance <= 1:
            raise InputError(f"appearance must be from 0 to 1, got {appearance}")
        self.appearance = appearance
        weight = conv1.weight.detach().mean(dim=1, keepdim=True)  # [C, 1, 7, 7]
        kept = {"device": weight.device, "dtype": weight.dtype}
        self.conv = nn.Conv2d(3 * (FRAMES - 1), len(weight), 7, 2, 3, bias=False, **kept)
        self.conv.weight.data.copy_(weight.expand_as(self.conv.weight))
        self.bn = nn.BatchNorm2d(len(weight), **kept)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = copy.deepcopy(layer1)

    def forward(self, segments: Tensor) -> tuple[Tensor, Tensor]:
        if segments.ndim != 5 or segments.shape[1:3] != (FRAMES, 3):
            raise InputError(
                f"expected segments of {FRAMES} frames as [N*T, {FRAMES}, 3, H, W], got a tensor "
                f"of shape {list(segments.shape)}"
            )
        differences = (segments[:, 1:] - segments[:, :-1]).flatten(1, 2)  # [N*T, 12, H, W]
        h_1 = self.maxpool(self.relu(self.bn(self.conv(_halve(differences)))))
        return h_1, self.layer1(h_1)

    def fuse(self, x: Tensor, h: Tensor) -> Tensor:
        """alpha x + (1 - alpha) Upsample(h): [N*T, C, H, W] and [N*T, C, h, w] -> x's shape."""
        return self.appearance * x + (1 - self.appearance) * F.interpolate(h, x.shape[2:])

    def extra_repr(self) -> str:
        return f"appearance={self.appearance}"


class LongTermDifference(nn.Module):
    """Enhances each segment's features where they differ from the next and the previous segment's.

    N clips of T segments side by side: [N*T, C, H, W] -> [N*T, C, H, W]. Its k x k convolutions
    start as its authors': normal, mean 0, standard deviation sqrt(2 / (k^2 C_out)).

    Args:
        channels: C.
        num_segments: T.
        reduction: r; differences are taken on C/r channels (rounded down, at least 1).

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    needs_maps = True

    def __init__(self, channels: int, num_segments: int, reduction: int = 16) -> None:
        super().__init__()
        check_num_segments(num_segments)
        self.num_segments = num_segments
        reduced = reduced_channels(channels, reduction)
        # Names as in the published checkpoints: "smallscale4" works at full size all the same.
        self.conv1 = nn.Conv2d(channels, reduced, 1, bias=False)  # W_reduce
        self.bn1 = nn.BatchNorm2d(reduced)
        self.conv2 = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)  # K
        self.conv3_smallscale2 = nn.Conv2d(reduced, reduced, 3, padding=1, bias=False)  # S_2
        self.bn3_smallscale2 = nn.BatchNorm2d(reduced)
        self.conv3_smallscale4 = nn.Conv2d(reduced, reduced, 3, padding=1, bias=False)  # S_4
        self.bn3_smallscale4 = nn.BatchNorm2d(reduced)
        self.conv3 = nn.Conv2d(reduced, channels, 1, bias=False)  # W_expand
        self.bn3 = nn.BatchNorm2d(channels)
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                k_h, k_w = module.kernel_size
                nn.init.normal_(module.weight, std=math.sqrt(2 / (k_h * k_w * module.out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments)
        b = self.bn1(self.conv1(x))  # [N*T, C/r, H, W]
        filtered = self.conv2(b).unflatten(0, (-1, self.num_segments))  # [N, T, C/r, H, W]
        b = b.unflatten(0, (-1, self.num_segments))
        none = torch.zeros_like(b[:, :1])
        f = torch.cat([filtered[:, 1:] - b[:, :-1], none], dim=1).flatten(0, 1)
        g = torch.cat([none, filtered[:, :-1] - b[:, 1:]], dim=1).flatten(0, 1)
        return x + x * (self._gate(f) + self._gate(g)) / 2

    def _gate(self, d: Tensor) -> Tensor:
        """M(d) of the formulas: [N*T, C/r, H, W] -> [N*T, C, H, W], values in (-1/2, 1/2)."""
        s_2 = self.bn3_smallscale2(self.conv3_smallscale2(_halve(d)))
        s_4 = self.bn3_smallscale4(self.conv3_smallscale4(d))
        scales = (d + F.interpolate(s_2, d.shape[2:]) + s_4) / 3
        return torch.sigmoid(self.bn3(self.conv3(scales))) - 0.5

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}"


def _halve(x: Tensor) -> Tensor:
    """Means of 2x2 pixels; an axis of one pixel, which has no two, stays as it is."""
    height, width = (min(2, int(size)) for size in x.shape[2:])  # constants, also when traced
    return F.avg_pool2d(x, (height, width))
