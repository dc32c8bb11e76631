"""The global temporal difference block, in the order of the formulas.

Xie, Chen, Wu, Guo, Hong: "Global Temporal Difference Network for Action Recognition",
IEEE Transactions on Multimedia, 2022. Figure 2 shows the block, figure 3 the four aggregators.

For frames x_t of a clip, t = 1..T, r the reduction:

    u_t  = GAP(x_t)                              global average pool over H and W
    z_t  = W_reduce u_t
    z_m  = Aggregate(z_1 .. z_T)                 global aggregation
    z'_t = z_t * sigmoid(W_diff (z_m - z_t))     global difference
    q_t, k_t, v_t = W_q z'_t, W_k z'_t, W_v z'_t
    z"_t = softmax(q_t k_t^T) v_t                channel-wise self-attention
    s_t  = sigmoid(W_expand (z"_t + z_t))
    x'_t = x_t + x_t * s_t                       enhancement of the local features

For ablations some of these are exchanged: see "parts" below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.errors import InputError, check_at_least, check_choice
from gtdnet.nn.fast import FusedPart
from gtdnet.nn.frames import check_folded, check_num_segments, over, pooled, reduced_channels
from gtdnet.nn.memory import Past, check_causal, pasts
from gtdnet.nn.time import resize_time_layers

# --------------------------------------------------------------------------- global aggregation
# Figure 3 of the paper: each maps the clip's z_1 .. z_T, [N, T, D], to its z_m, [N, D].


class AverageAggregation(nn.Module):
    """z_m is the mean over the frames. No parameters; any T."""

    def forward(self, z: Tensor) -> Tensor:
        return z.mean(dim=1)


class MTAggregation(nn.Module):
    """z_m from two linear layers over the time axis, T -> alpha*T -> 1 (the paper's "MTA").

    The layers are shared by all channels. The figure gives neither the activation between them
    nor alpha: ReLU and 2 are this project's choice (docs/fidelity.md).

    Args:
        num_segments: T.
        alpha: the hidden layer has alpha*T units.
    """

    def __init__(self, num_segments: int, alpha: int = 2) -> None:
        super().__init__()
        check_at_least(1, alpha=alpha)
        self.spread = nn.Linear(num_segments, alpha * num_segments)
        self.collect = nn.Linear(alpha * num_segments, 1)

    def forward(self, z: Tensor) -> Tensor:
        over_time = z.transpose(1, 2)  # [N, D, T]
        return self.collect(F.relu(self.spread(over_time))).squeeze(-1)  # [N, D]

    def resize_time(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of another T, fitted to this one's."""
        return resize_time_layers(state, self.spread.in_features, self.spread.out_features)


class LSTMAggregation(nn.Module):
    """z_m is the last hidden state of a one-layer LSTM. Any T.

    Args:
        channels: D, both input and hidden size.
        bidirectional: z_m is the mean of the last hidden states of the two directions, the
            forward one at frame T and the backward one at frame 1.
    """

    def __init__(self, channels: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, batch_first=True, bidirectional=bidirectional)

    def forward(self, z: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(z)  # hidden [directions, N, D]
        return hidden.mean(dim=0)


AGGREGATIONS: Mapping[str, Callable[[int, int, int], nn.Module]] = MappingProxyType(
    {
        "avg": lambda channels, num_segments, alpha: AverageAggregation(),
        "mta": lambda channels, num_segments, alpha: MTAggregation(num_segments, alpha),
        "lstm": lambda channels, num_segments, alpha: LSTMAggregation(channels),
        "bilstm": lambda channels, num_segments, alpha: LSTMAggregation(channels, True),
    }
)
"""Builders (channels, num_segments, alpha) -> module [N, T, D] -> [N, D], by name."""


# ---------------------------------------------------------------------------------------- parts
# Functions of the block and its z, [N*T, D] -> [N*T, D]: those of the formulas first, then what
# ablations put in their place.


def difference_to_clip(block: GlobalTemporalDifference, z: Tensor) -> Tensor:
    """z_m - z_t."""
    z_clip = z.unflatten(0, (-1, block.num_segments))  # [N, T, D]
    z_m = block.aggregation(z_clip)  # [N, D]
    return (z_m.unsqueeze(1) - z_clip).flatten(0, 1)


def difference_to_last(block: GlobalTemporalDifference, z: Tensor) -> Tensor:
    """z_m - z_t, z_m that of the last frames up to t: Aggregate(z_{t-T+1} .. z_t)."""
    z_clip = z.unflatten(0, (-1, block.num_segments))  # [N, T, D]
    seen, frames = block.past(z_clip), z_clip.shape[1]
    last = [seen[:, i : i + frames] for i in range(block.past.frames + 1)]
    z_m = block.aggregation(torch.stack(last, dim=2).flatten(0, 1))  # of [N*T, T, D]: [N*T, D]
    return z_m - z


def difference_to_next(block: GlobalTemporalDifference, z: Tensor) -> Tensor:
    """z_{t+1} - z_t, and 0 for the last frame: a local difference."""
    z_clip = z.unflatten(0, (-1, block.num_segments))  # [N, T, D]
    return F.pad(z_clip[:, 1:] - z_clip[:, :-1], (0, 0, 0, 1)).flatten(0, 1)


def gated(block: GlobalTemporalDifference, z: Tensor) -> Tensor:
    """z'_t = z_t * sigmoid(W_diff (z_m - z_t))."""
    return z * torch.sigmoid(block.difference(block.compare(block, z)))


def attended(block: GlobalTemporalDifference, z_prime: Tensor) -> Tensor:
    """z"_t = softmax(q_t k_t^T) v_t."""
    q, k, v = block.query(z_prime), block.key(z_prime), block.value(z_prime)
    return channel_attention(q, k, v)


def unchanged(block: GlobalTemporalDifference, z: Tensor) -> Tensor:
    """z'_t = z_t without the difference gate, z"_t = z'_t without attention; z_t by itself."""
    return z


DIFFERENCES: Mapping[str, Callable[[GlobalTemporalDifference, Tensor], Tensor]] = MappingProxyType(
    {"global": difference_to_clip, "local": difference_to_next}
)


def in_order(block: GlobalTemporalDifference, z: Tensor) -> Tensor:
    """z_t + W_order [z_{t-k} .. z_{t+k}], zeros beyond the clip: what the frame lies between."""
    over_time = z.unflatten(0, (-1, block.num_segments))  # [N, T, D]
    if block.causal:
        over_time = block.order_past(over_time)  # W_order [z_{t-2k} .. z_t]
    return z + block.order(over_time.transpose(1, 2)).transpose(1, 2).flatten(0, 1)


def pooled_cells(x: Tensor, cells: int) -> Tensor:
    """Means over cells x cells parts of a map, [N, C, H, W] -> [N, C * cells**2].

    Where a side is no multiple of ``cells``, neighbouring parts share a line, as in PyTorch's
    adaptive pooling; sides shorter than ``cells`` are shared too.
    """
    height, width = x.shape[2:]

    def part(side: int, i: int) -> slice:
        return slice(i * side // cells, -(-(i + 1) * side // cells))

    means = [
        x[:, :, part(height, i), part(width, j)].mean(dim=(2, 3))
        for i in range(cells)
        for j in range(cells)
    ]
    return torch.stack(means, dim=2).flatten(1)


def channel_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v over channels, one [D, D] matrix per frame, no scaling.

    This is attention over D tokens with a head of one dimension, so the library's fused kernel
    computes it without storing the matrix.

    Args:
        q, k, v: [N*T, D].

    Returns:
        [N*T, D].
    """
    # [N*T, heads=1, tokens=D, head dimension=1]
    q, k, v = (m[:, None, :, None] for m in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0, :, 0]


# ------------------------------------------------------------------------------------ the block


class GlobalTemporalDifference(nn.Module):
    """Enhances each frame's features by how the frame differs from the whole clip.

    N clips of T frames side by side: [N*T, C, H, W] -> [N*T, C, H, W].

    Args:
        channels: C.
        num_segments: T, frames per clip.
        reduction: r; the block works on C/r channels (rounded down, at least 1).
        aggregation: how z_m is formed: "avg", "mta", "lstm" or "bilstm" (figure 3).
        alpha: width of the hidden layer of "mta" in multiples of T; the others ignore it.
        attention: whether the channels attend to each other; if not, z"_t = z'_t.
        gate: whether the difference gates z_t; if not, z'_t = z_t.
        difference: "global": z_m - z_t; or "local": z_{t+1} - z_t, 0 for the last frame.
        order: frames that a convolution over time sees before the difference, odd: z_t becomes
            z_t + W_order [z_{t-k} .. z_{t+k}]; 0 for none. Not the paper's; after the temporal
            convolutions of TAdaConv (Huang et al., ICLR 2022).
        cells: u_t is the means over cells x cells parts of the map instead of one; the gate is
            still one for the whole map. Not the paper's; there is no fast path for it.
        causal: no frame sees a later one: z_m of frame t is made of the last T vectors,
            Aggregate(z_{t-T+1} .. z_t), T as the block was built for, and ``order`` looks back
            alone; before so many frames have come, the first stands for those missing. Not the
            paper's; for streams.
        init: "default" is PyTorch's for linear layers. "identity" zeroes W_expand, so that every
            gate is 1/2 and the block is x -> 1.5 x until it is trained; the convolution behind it
            takes the factor back (:func:`gtdnet.nn.insert_temporal`).

    Attributes:
        channels_last: whether it is given tokens, [N*T, ..., C]; insertion sets it.
        reduce, aggregation, difference, query, key, value, expand: the learned maps of the
            formulas, all but ``aggregation`` linear over channels; ``order`` is that of the option.
            Those that a variant does not use are not there.

    Raises:
        ValueError: an argument out of range, or an input whose first axis is not a multiple of T.
    """

    identity_gain = 1.5  # with W_expand zero every gate is 1/2: x + x / 2
    keeps_precision = True  # its vectors are small: lower precision saves nothing
    shows_gate = True

    def __init__(
        self,
        channels: int,
        num_segments: int,
        reduction: int = 4,
        aggregation: str = "mta",
        *,
        alpha: int = 2,
        attention: bool = True,
        gate: bool = True,
        difference: str = "global",
        order: int = 0,
        cells: int = 1,
        causal: bool = False,
        init: str = "default",
    ) -> None:
        super().__init__()
        check_num_segments(num_segments)
        check_choice("aggregation", aggregation, AGGREGATIONS)
        for name, value in (("attention", attention), ("gate", gate)):
            if not isinstance(value, bool):
                raise InputError(f"{name} must be true or false, got {value!r}")
        check_choice("difference", difference, DIFFERENCES)
        check_at_least(0, order=order)
        check_at_least(1, cells=cells)
        check_causal(causal)
        if causal and difference == "local":
            raise InputError(
                "difference='local' looks at the next frame, which a causal block cannot see; "
                "choose difference='global', or leave causal out"
            )
        if order and order % 2 == 0:
            raise InputError(f"order must be 0 or an odd number of frames, got {order}")
        if init not in ("default", "identity"):
            raise InputError(f"unknown init {init!r}: choose 'default' or 'identity'")
        self.num_segments = num_segments
        self.channels_last = False
        reduced = reduced_channels(channels, reduction)  # D = C/r
        self.causal = causal
        self.compare = difference_to_last if causal else DIFFERENCES[difference]
        self.gated = gated if gate else unchanged
        self.attended = attended if attention else unchanged
        self.cells = cells
        self.ordered = in_order if order else unchanged
        self.reduce = nn.Linear(channels * cells**2, reduced)
        if order:
            self.order = nn.Conv1d(reduced, reduced, order, padding=0 if causal else order // 2)
            if causal:
                self.order_past = Past(order - 1)
        if gate:
            if difference == "global":
                self.aggregation = AGGREGATIONS[aggregation](reduced, num_segments, alpha)
                if causal:
                    self.past = Past(num_segments - 1)
            self.difference = nn.Linear(reduced, reduced)
        if attention:
            self.query = nn.Linear(reduced, reduced)
            self.key = nn.Linear(reduced, reduced)
            self.value = nn.Linear(reduced, reduced)
        self.expand = nn.Linear(reduced, channels)
        if init == "identity":
            self.start_at_identity()

    def start_at_identity(self) -> None:
        """Zero W_expand: every gate becomes 1/2 and the block multiplies by ``identity_gain``."""
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_folded(x, self.num_segments, self.channels_last)
        s = over(self.gate(x).to(x.dtype), x, self.channels_last)  # [N*T, C, 1, 1]
        return x + x * s

    def gate(self, x: Tensor) -> Tensor:
        """s_t of the formulas: [N*T, C, H, W] -> [N*T, C], every value in (0, 1)."""
        if self.cells == 1:
            return self.gate_of_pooled(pooled(x, self.channels_last))
        if x.ndim != 4:
            raise InputError(
                f"cells={self.cells} are parts of a map, but this layer is given tokens of "
                f"shape {list(x.shape)}; leave cells at 1"
            )
        x = x.movedim(-1, 1) if self.channels_last else x
        return self.gate_of_pooled(pooled_cells(x, self.cells))

    def gate_of_pooled(self, u: Tensor) -> Tensor:
        """s_t from u_t = GAP(x_t): [N*T, C] -> [N*T, C], in the precision of the weights.

        With ``cells`` u_t is what :func:`pooled_cells` gives.
        """
        with _without_autocast(u):  # which would copy every weight in each call
            z = self.reduce(u.to(self.reduce.weight.dtype))  # [N*T, D]
            z = self.ordered(self, z)
            z_prime = self.gated(self, z)
            z_second = self.attended(self, z_prime)
            return torch.sigmoid(self.expand(z_second + z))  # [N*T, C]

    def fused_part(self, channels: int) -> FusedPart | None:
        """What :mod:`gtdnet.nn.fast` needs to compute the block in one pass with what follows."""
        is_plain = type(self) is GlobalTemporalDifference and self.cells == 1
        is_plain = is_plain and not any(past.in_stream for _, past in pasts(self))
        return FusedPart(self.num_segments, gate=self) if is_plain else None

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}" + (", causal=True" if self.causal else "")


def _without_autocast(u: Tensor) -> AbstractContextManager[object]:
    if u.is_meta or not torch.is_autocast_enabled(u.device.type):
        return nullcontext()
    return torch.autocast(u.device.type, enabled=False)
