"""Temporal shift: part of the channels looks one frame ahead, part one frame back.

Lin, Gan, Han: "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019.
No parameters, no arithmetic. Its learned form, a temporal convolution of every channel by itself,
is what several later methods are built from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet import moved
from gtdnet.errors import check_at_least
from gtdnet.nn.fast import FusedPart
from gtdnet.nn.frames import check_folded, check_num_segments
from gtdnet.nn.memory import Past, check_causal


def temporal_shift(
    x: Tensor, num_segments: int, fold_div: int = 8, *, channels_last: bool = False
) -> Tensor:
    """Shift the first ``C // fold_div`` channels back and the next as many forward in time.

    The first fold of frame t comes from frame t+1, the second from frame t-1, the rest stays;
    where there is no such frame the values are zero (the paper's section 3, bidirectional shift).

    Args:
        x: [N*T, C, H, W], the T frames of a clip side by side.
        num_segments: T.
        fold_div: 1/fold_div of the channels moves in each direction.
        channels_last: x is tokens, [N*T, ..., C].

    Returns:
        A new tensor of x's shape; x is not changed.
    """
    clips = x.reshape(-1, num_segments, *x.shape[1:])  # [N, T, ...]
    axis = -1 if channels_last else 2
    c = x.shape[axis if channels_last else 1]
    fold = c // fold_div
    ahead, behind, still = clips.split([fold, fold, c - 2 * fold], dim=axis)
    ahead = torch.cat([ahead[:, 1:], torch.zeros_like(ahead[:, :1])], dim=1)
    behind = torch.cat([torch.zeros_like(behind[:, :1]), behind[:, :-1]], dim=1)
    return torch.cat([ahead, behind, still], dim=axis).reshape(x.shape)


class TemporalShift(nn.Module):
    """The temporal shift as a module on [N*T, C, H, W] (see :func:`temporal_shift`).

    Attributes:
        channels_last: whether it is given tokens, [N*T, ..., C]; insertion sets it.

    Args:
        num_segments: T, frames per clip.
        fold_div: 1/fold_div of the channels moves in each direction; 8 in the paper.
        causal: only the first fold moves, from frame t-1 to t (the paper's section 4.4, for online
            recognition); the first frame has its own, where the paper has zeros: so it sees what
            the network without a shift sees.

    Raises:
        ValueError: num_segments < 1, fold_div < 2, or an input whose first axis is not a
            multiple of num_segments.
    """

    identity_gain = 1.0  # it has nothing to learn: what was trained behind it expects it

    def __init__(self, num_segments: int, fold_div: int = 8, *, causal: bool = False) -> None:
        super().__init__()
        check_num_segments(num_segments)
        check_at_least(2, fold_div=fold_div)  # both folds must fit
        check_causal(causal)
        self.num_segments = num_segments
        self.fold_div = fold_div
        self.causal = causal
        self.channels_last = False
        if causal:
            self.past = Past(1)

    def forward(self, x: Tensor) -> Tensor:
        last = self.channels_last
        check_folded(x, self.num_segments, last)
        if self.causal:
            return self._from_past(x)
        return temporal_shift(x, self.num_segments, self.fold_div, channels_last=last)

    def _from_past(self, x: Tensor) -> Tensor:
        axis = -1 if self.channels_last else 1
        fold = x.shape[axis] // self.fold_div
        if not fold:
            return x
        moved, still = x.split([fold, x.shape[axis] - fold], dim=axis)
        moved = self.past.before(moved.unflatten(0, (-1, self.num_segments)))  # [N, T, ...]
        return torch.cat([moved.flatten(0, 1), still], dim=axis)

    def fused_part(self, channels: int) -> FusedPart | None:
        """What :mod:`gtdnet.nn.fast` needs to shift in one pass with what follows."""
        if type(self) is not TemporalShift or (self.causal and self.past.in_stream):
            return None
        return FusedPart(self.num_segments, channels // self.fold_div, causal=self.causal)

    def extra_repr(self) -> str:
        causal = ", causal=True" if self.causal else ""
        return f"num_segments={self.num_segments}, fold_div={self.fold_div}{causal}"


class TemporalConv1d(nn.Module):
    """A convolution over time of every channel by itself, kernel 3, zero beyond the clip's ends.

    [N*T, C, H, W] -> [N*T, C, H, W]: y_t = w_0 x_{t-1} + w_1 x_t + w_2 x_{t+1}. Used by TEA, TDN,
    TEINet and ACTION-Net, whose papers start it at the temporal shift.

    Args:
        channels: C.
        num_segments: T, frames per clip.
        fold_div: at the start the layer equals :func:`temporal_shift` with this fold_div; None: it
            leaves its input as it is.

    Attributes:
        weight: [C, 1, 3].

    Raises:
        ValueError: channels or num_segments < 1, fold_div < 2, or an input whose first axis is
            not a multiple of num_segments.
    """

    def __init__(self, channels: int, num_segments: int, fold_div: int | None = None) -> None:
        super().__init__()
        check_num_segments(num_segments)
        check_at_least(1, channels=channels)
        check_at_least(2, fold_div=fold_div)
        self.num_segments = num_segments
        weight = torch.zeros(channels, 1, 3)
        fold = 0 if fold_div is None else channels // fold_div
        weight[:fold, 0, 2] = 1  # from the next frame
        weight[fold : 2 * fold, 0, 0] = 1  # from the one before
        weight[2 * fold :, 0, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments)
        clips = x.unflatten(0, (-1, self.num_segments))  # [N, T, C, H, W]
        clips = F.pad(clips, (0, 0, 0, 0, 0, 0, 1, 1))  # [N, T+2, C, H, W]
        before, now, after = self.weight[:, 0].unbind(1)  # [C] each
        return (
            clips[:, :-2] * before[:, None, None]
            + clips[:, 1:-1] * now[:, None, None]
            + clips[:, 2:] * after[:, None, None]
        ).flatten(0, 1)

    def extra_macs(self, out: Tensor) -> int:
        """Multiply-accumulates of a forward pass that gave ``out``."""
        return 3 * out.numel()

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, num_segments={self.num_segments}"


__getattr__ = moved.names(__name__)
