"""Temporal enhancement and interaction, in the order of the formulas.

Liu, Luo, Wang, Wang, Tai, Wang, Li, Huang, Lu: "TEINet: Towards an Efficient Architecture for Video
Recognition", AAAI 2020. For frames x_t of a clip, t = 1..T, r the reduction:

    u_t = GAP(x_t)                                    global average pool over H, W   [C]
    d_t = W_1 u_t - W_2 u_{t+1}, t < T                                               [C/r]
    s_t = sigmoid(W_3 d_t), t < T;  s_T = 1                                          [C]
    y_t = s_t * x_t                                   motion enhanced module          [C, H, W]
    o_t = w_0 * y_{t-1} + w_1 * y_t + w_2 * y_{t+1}   temporal interaction module     [C, H, W]

W_1 to W_3 are linear over channels; w_0 to w_2, one number per channel, start as the temporal
shift; y_0 = y_{T+1} = 0.

There is no official code to compare with. What settles the reading is the size that later papers
print, 30.4 M parameters on a ResNet-50: one module before the first convolution of all 16 blocks,
r = 8 and three maps with biases make 30.36 M at 400 classes (29.89 M at 174; the plain network's
24.3 M in the same tables has 400 as well), with the 33 G multiply-adds at 8 frames printed there.
Two shared maps, or another place in the block, do not. Neither figure tells that the last frame,
which has no next one, passes as it is, nor that an eighth of the channels starts out shifted each
way: these two are choices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.nn.frames import check_folded, check_num_segments, reduced_channels
from gtdnet.nn.shift import TemporalConv1d


class MotionEnhancement(nn.Module):
    """Weighs the channels of each frame by how it differs from the next one.

    N clips of T frames side by side: [N*T, C, H, W] -> [N*T, C, H, W].

    Args:
        channels: C.
        num_segments: T, frames per clip.
        reduction: r; the difference is formed on C/r channels (rounded down, at least 1).

    Attributes:
        reduce, reduce_next, expand: W_1, W_2 and W_3.

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    def __init__(self, channels: int, num_segments: int, reduction: int = 8) -> None:
        super().__init__()
        check_num_segments(num_segments)
        self.num_segments = num_segments
        reduced = reduced_channels(channels, reduction)  # D = C/r
        self.reduce = nn.Linear(channels, reduced)
        self.reduce_next = nn.Linear(channels, reduced)
        self.expand = nn.Linear(reduced, channels)

    def gate(self, x: Tensor) -> Tensor:
        """s_t of the formulas: [N*T, C, H, W] -> [N*T, C], in (0, 1) but for the ones of s_T."""
        u = x.mean(dim=(2, 3)).unflatten(0, (-1, self.num_segments))  # [N, T, C]
        difference = self.reduce(u[:, :-1]) - self.reduce_next(u[:, 1:])  # [N, T-1, D]
        s = torch.sigmoid(self.expand(difference))  # [N, T-1, C]
        return F.pad(s, (0, 0, 0, 1), value=1.0).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments)
        return x * self.gate(x)[:, :, None, None]

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}"


class TemporalEnhancementInteraction(nn.Module):
    """The TEI module: motion enhancement, then a convolution over time of every channel.

    N clips of T frames side by side: [N*T, C, H, W] -> [N*T, C, H, W].

    Args:
        channels: C.
        num_segments: T, frames per clip.
        reduction: r of the motion enhancement.
        fold_div: the convolution starts as the temporal shift of 1/fold_div of the channels in each
            direction.

    Attributes:
        enhancement: :class:`MotionEnhancement`.
        interaction: :class:`gtdnet.nn.TemporalConv1d`, w_0 to w_2.

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    def __init__(
        self, channels: int, num_segments: int, reduction: int = 8, fold_div: int = 8
    ) -> None:
        super().__init__()
        self.enhancement = MotionEnhancement(channels, num_segments, reduction)
        self.interaction = TemporalConv1d(channels, num_segments, fold_div)

    def forward(self, x: Tensor) -> Tensor:
        return self.interaction(self.enhancement(x))
