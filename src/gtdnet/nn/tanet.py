"""The temporal adaptive module (TAM): every clip makes its own temporal kernels.

Liu, Wang, Wu, Qian, Lu: "TAM: Temporal Adaptive Module for Video Recognition", ICCV 2021,
section 3. TANet puts it after the first convolution of every bottleneck of a ResNet.

For a clip X, with C channels and T frames:

    Phi         = GAP(X)                                         over H and W             [C, T]
    V           = sigmoid(Conv1d(relu(BN(Conv1d(Phi)))))         local branch: importance [C, T]
    Z           = V * X                                          the same all over a frame
    Theta_c     = softmax(W_2 relu(BN(W_1 Phi_c)))               global branch: a kernel
                                                                 of each channel's own    [C, K]
    Y_{c,t}     = sum over k of Theta_{c,k} Z_{c,t+k}            k = -1, 0, 1; 0 beyond the ends

W_1 maps T frames to alpha*T, W_2 these to K = 3, both shared by all channels; the local branch goes
from C channels by a kernel of 3 frames to C/beta, and by one of 1 frame back to C.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.errors import check_at_least
from gtdnet.nn.frames import check_folded, check_num_segments
from gtdnet.nn.time import resize_time_layers


class LocalBranch(nn.Module):
    """V, the importance of every channel at every moment: [N, C, T] -> [N, C, T] in (0, 1).

    Args:
        channels: C.
        beta: the layer between has C/beta channels (rounded down, at least 1).
    """

    def __init__(self, channels: int, beta: int) -> None:
        super().__init__()
        reduced = max(1, channels // beta)
        self.squeeze = nn.Conv1d(channels, reduced, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(reduced)
        self.expand = nn.Conv1d(reduced, channels, 1, bias=False)

    def forward(self, phi: Tensor) -> Tensor:
        return torch.sigmoid(self.expand(F.relu(self.norm(self.squeeze(phi)))))


class AdaptiveKernel(nn.Module):
    """Theta, a temporal kernel for every channel of every clip: [N, C, T] -> [N, C, 3].

    Each kernel is positive and sums to 1; it weighs the frames t-1, t, t+1, in this order.

    Args:
        num_segments: T.
        alpha: the hidden layer has alpha*T units.
    """

    def __init__(self, num_segments: int, alpha: int) -> None:
        super().__init__()
        self.spread = nn.Linear(num_segments, alpha * num_segments, bias=False)
        self.norm = nn.BatchNorm1d(alpha * num_segments)
        self.collect = nn.Linear(alpha * num_segments, 3, bias=False)

    def forward(self, phi: Tensor) -> Tensor:
        rows = phi.flatten(0, 1)  # every channel by itself: [N*C, T]
        scores = self.collect(F.relu(self.norm(self.spread(rows))))  # [N*C, 3]
        return torch.softmax(scores, dim=-1).unflatten(0, phi.shape[:2])

    def resize_time(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of another T, fitted to this one's."""
        return resize_time_layers(state, self.spread.in_features, self.spread.out_features)


class TemporalAdaptiveModule(nn.Module):
    """Weighs the moments of a clip, then mixes neighbouring frames by the clip's own kernels.

    N clips of T frames side by side: [N*T, C, H, W] -> [N*T, C, H, W].

    Args:
        channels: C.
        num_segments: T, frames per clip; the shapes of the global branch depend on it.
        alpha: width of the global branch's hidden layer in multiples of T; 2 in the paper.
        beta: the local branch works on C/beta channels; 4 in the paper.

    Attributes:
        local, adaptive: the two branches. They start as PyTorch starts linear layers and
            convolutions, as the authors' do.

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    def __init__(self, channels: int, num_segments: int, *, alpha: int = 2, beta: int = 4) -> None:
        super().__init__()
        check_num_segments(num_segments)
        check_at_least(1, channels=channels, alpha=alpha, beta=beta)
        self.num_segments = num_segments
        self.local = LocalBranch(channels, beta)
        self.adaptive = AdaptiveKernel(num_segments, alpha)

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments)
        clips = x.unflatten(0, (-1, self.num_segments))  # [N, T, C, H, W]
        phi = clips.mean(dim=(3, 4)).transpose(1, 2)  # [N, C, T]
        v = self.local(phi).transpose(1, 2)  # [N, T, C]
        z = clips * v[..., None, None]
        z = F.pad(z, (0, 0, 0, 0, 0, 0, 1, 1))  # [N, T+2, C, H, W]
        theta = self.adaptive(phi)[:, None, :, :, None, None]  # [N, 1, C, 3, 1, 1]
        before, now, after = theta.unbind(3)  # [N, 1, C, 1, 1] each
        return (z[:, :-2] * before + z[:, 1:-1] * now + z[:, 2:] * after).flatten(0, 1)

    def extra_macs(self, out: Tensor) -> int:
        """Multiply-accumulates of a forward pass that gave ``out``, beside its convolutions'."""
        return 3 * out.numel()

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}"
