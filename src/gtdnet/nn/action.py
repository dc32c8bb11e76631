"""The ACTION module: a learned temporal shift, then three excitations side by side.

Wang, She, Smolic: "ACTION-Net: Multipath Excitation for Action Recognition", CVPR 2021. Section 3
gives the three paths; where it leaves something open, this is what the authors' published models
compute.

For the frames x_t of a clip, t = 1..T, D = C/16, K convolutions, W linear maps over channels (1x1):

    X     = K_shift * x                          over time, every channel by itself; starts as TSM's
  spatio-temporal excitation
    F     = mean of X over its channels
    M^ST  = sigmoid(K_ST * F)                    3x3x3
  channel excitation
    F     = W_squeeze GAP(X)
    M^C   = sigmoid(W_expand relu(K_C * F))      K_C over time, across channels
  motion excitation
    F     = BN(W_squeeze X)
    M^M_t = sigmoid(W_expand GAP(K_M * F_{t+1} - F_t))   K_M 3x3, every channel by itself; at t = T
                                                         the difference is 0
  together
    Y     = (X + X M^ST) + (X + X M^C) + (X + X M^M)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.nn.frames import check_folded, reduced_channels
from gtdnet.nn.shift import TemporalConv1d


class SpatioTemporalExcitation(nn.Module):
    """M^ST, where and when: [N*T, C, H, W] -> [N*T, 1, H, W], one gate for all channels."""

    def __init__(self, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.conv = nn.Conv3d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1).unflatten(0, (-1, self.num_segments))  # [N, T, H, W]
        gate = self.conv(mean.unsqueeze(1)).squeeze(1)  # over T, H, W: [N, T, H, W]
        return torch.sigmoid(gate.flatten(0, 1).unsqueeze(1))


class ChannelExcitation(nn.Module):
    """M^C, which channels and when: [N*T, C, H, W] -> [N*T, C, 1, 1]."""

    def __init__(self, channels: int, num_segments: int, reduced: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.conv = nn.Conv1d(reduced, reduced, 3, padding=1, bias=False)
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x.mean(dim=(2, 3), keepdim=True))  # [N*T, D, 1, 1]
        over_time = squeezed.unflatten(0, (-1, self.num_segments)).flatten(2)  # [N, T, D]
        mixed = F.relu(self.conv(over_time.transpose(1, 2)))  # [N, D, T]
        return torch.sigmoid(self.expand(mixed.transpose(1, 2).reshape_as(squeezed)))


class MotionExcitation(nn.Module):
    """M^M, which channels move to the next frame: [N*T, C, H, W] -> [N*T, C, 1, 1]."""

    def __init__(self, channels: int, num_segments: int, reduced: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.bn = nn.BatchNorm2d(reduced)
        self.conv = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.bn(self.squeeze(x))  # [N*T, D, H, W]
        now = squeezed.unflatten(0, (-1, self.num_segments))[:, :-1]
        following = self.conv(squeezed).unflatten(0, (-1, self.num_segments))[:, 1:]
        motion = (following - now).mean(dim=(3, 4))  # [N, T-1, D]
        motion = F.pad(motion, (0, 0, 0, 1)).flatten(0, 1)  # the last frame's is 0: [N*T, D]
        return torch.sigmoid(self.expand(motion[:, :, None, None]))


class Action(nn.Module):
    """Learned temporal shift, then spatio-temporal, channel and motion excitation.

    N clips of T frames side by side: [N*T, C, H, W] -> [N*T, C, H, W].

    Args:
        channels: C.
        num_segments: T, frames per clip.
        reduction: channel and motion excitation work on D = C/reduction channels (rounded down, at
            least 1); 16 in the paper.
        fold_div: 1/fold_div of the channels starts as moving in each direction of time; 8 in the
            paper.

    Attributes:
        shift, spatio_temporal, channel, motion: the learned parts. The gates start as PyTorch
            starts convolutions, as the authors' do.

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    needs_maps = True

    def __init__(
        self, channels: int, num_segments: int, *, reduction: int = 16, fold_div: int = 8
    ) -> None:
        super().__init__()
        self.num_segments = num_segments
        reduced = reduced_channels(channels, reduction)  # D
        self.shift = TemporalConv1d(channels, num_segments, fold_div)
        self.spatio_temporal = SpatioTemporalExcitation(num_segments)
        self.channel = ChannelExcitation(channels, num_segments, reduced)
        self.motion = MotionExcitation(channels, num_segments, reduced)

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments)
        x = self.shift(x)
        # X + X M three times, summed; the two gates over channels are added while they are small.
        gates = (3 + self.channel(x) + self.motion(x)) + self.spatio_temporal(x)
        return x * gates

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}"
