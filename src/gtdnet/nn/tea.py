"""Temporal excitation and aggregation, in the order of the formulas.

Li, Ji, Shi, Zhang, Kang, Wang: "TEA: Temporal Excitation and Aggregation for Action Recognition",
CVPR 2020. What it adds to a Res2Net block whose 3x3 convolutions are K_1 .. K_3, for the frames x_t
that the block's first convolution gives, t = 1..T, r the reduction:

    x'_t = W_reduce x_t                              1x1 convolution, then batch norm    [C/r, H, W]
    m_t  = GAP(K x'_{t+1} - x'_t), m_T = 0           motion; K is 3x3, one per channel   [C/r]
    a_t  = sigmoid(W_expand m_t) - 1/2               batch norm before the sigmoid       [C]
    y_t  = x_t + a_t * x_t                           MOTION EXCITATION

    y^1 .. y^4 = y split over the channels           MULTIPLE TEMPORAL AGGREGATION
    o^1  = K_1 S_1 y^1
    o^i  = K_i S_i (y^i + o^{i-1}), i = 2, 3         each has seen a longer stretch of time
    o^4  = S_4 y^4

S_i is a convolution over time of every channel by itself. The paper's equation 4 has
a = 2 sigmoid(.) - 1; the authors' code, and with it every published checkpoint, has half of that,
which is what is done here. The batch norms and the start of the S_i are the code's as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.nn.frames import check_folded, check_num_segments, reduced_channels
from gtdnet.nn.shift import TemporalConv1d


class MotionExcitation(nn.Module):
    """Weighs the channels of each frame by how they change towards the next one.

    N clips of T frames side by side: [N*T, C, H, W] -> [N*T, C, H, W].

    Args:
        channels: C.
        num_segments: T, frames per clip.
        reduction: r; the motion is formed on C/r channels (rounded down, at least 1).

    Attributes:
        conv1, bn1: W_reduce and its norm.
        conv2: K.
        conv3, bn3: W_expand and its norm.

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    needs_maps = True

    def __init__(self, channels: int, num_segments: int, reduction: int = 16) -> None:
        super().__init__()
        check_num_segments(num_segments)
        self.num_segments = num_segments
        reduced = reduced_channels(channels, reduction)  # D = C/r
        self.conv1 = nn.Conv2d(channels, reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.conv2 = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.conv3 = nn.Conv2d(reduced, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def gate(self, x: Tensor) -> Tensor:
        """a_t of the formulas: [N*T, C, H, W] -> [N*T, C, 1, 1], every value in (-1/2, 1/2)."""
        reduced = self.bn1(self.conv1(x))  # [N*T, D, H, W]
        # The mean of a difference is the difference of the means, which are small.
        now, moved = (
            m.mean(dim=(2, 3)).unflatten(0, (-1, self.num_segments))  # [N, T, D]
            for m in (reduced, self.conv2(reduced))
        )
        motion = F.pad(moved[:, 1:] - now[:, :-1], (0, 0, 0, 1))  # [N, T, D]
        motion = motion.flatten(0, 1)[:, :, None, None]  # [N*T, D, 1, 1]
        return torch.sigmoid(self.bn3(self.conv3(motion))) - 0.5

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments)
        return x + x * self.gate(x)

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}"


class TemporalExcitationAggregation(nn.Module):
    """What TEA puts into one Res2Net block (:class:`gtdnet.models.backbones.res2net.Res2NetBlock`).

    The block's own convolutions stand between its parts, so that it has no forward of its own: the
    block gives all its channels to ``excitation`` and split i to ``aggregation[i]``.

    Args:
        channels: C, of all splits together.
        num_segments: T, frames per clip.
        reduction: r of the motion excitation; 16 in the paper.
        splits: groups of channels in the block.

    Attributes:
        excitation: :class:`MotionExcitation`.
        aggregation: S_1 .. S_4, each on [N*T, C/splits, H, W]. The last starts as a shift of all
            its channels, half of them each way; the others start as nothing.

    Raises:
        ValueError: an argument out of range, or channels that do not divide into the splits.
    """

    def __init__(
        self, channels: int, num_segments: int, reduction: int = 16, *, splits: int = 4
    ) -> None:
        super().__init__()
        if splits < 2 or channels % splits:
            raise InputError(
                f"channels must divide into splits={splits} (at least 2) of equal size, "
                f"got {channels}"
            )
        self.excitation = MotionExcitation(channels, num_segments, reduction)
        each = channels // splits
        self.aggregation = nn.ModuleList(
            [TemporalConv1d(each, num_segments) for _ in range(splits - 1)]
            + [TemporalConv1d(each, num_segments, fold_div=2)]
        )
