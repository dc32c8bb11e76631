"""The block against plain Python loops over its formulas, and what follows from the formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.models import VideoClassifier, create_model, load_model, model_options, save_model
from gtdnet.nn import (
    AGGREGATIONS,
    AverageAggregation,
    GlobalTemporalDifference,
    LSTMAggregation,
    MTAggregation,
    TemporalShift,
    channel_attention,
    temporal_convs,
)
from gtdnet.nn.gtd import pooled_cells

Vector = list[float]

each_aggregation = pytest.mark.parametrize("aggregation", list(AGGREGATIONS))


def make_block(
    aggregation: str,
    channels: int = 12,
    num_segments: int = 4,
    reduction: int = 4,
    alpha: int = 2,
    **variant: Any,
) -> GlobalTemporalDifference:
    """A float64 block with weights large enough to move every gate well away from 1/2."""
    torch.manual_seed(0)
    block = GlobalTemporalDifference(
        channels, num_segments, reduction, aggregation, alpha=alpha, **variant
    )
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.7)
    return block.double()


def make_clips(clips: int = 2, frames: int = 4, channels: int = 12, size: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (clips * frames, channels, size, size + 1)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.5


# ------------------------------------------------------------------- the formulas, written as loops


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def weights_of(module: nn.Module) -> dict[str, list]:
    return {k: v.detach().double().tolist() for k, v in module.state_dict().items()}


def linear(weights: dict[str, list], name: str, x: Sequence[float]) -> Vector:
    matrix, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return [
        b + sum(w * value for w, value in zip(row, x, strict=True))
        for row, b in zip(matrix, bias, strict=True)
    ]


def lstm_last_hidden(weights: dict[str, list], z: Sequence[Vector], suffix: str) -> Vector:
    """Hochreiter's cell with PyTorch's gate order: input, forget, cell, output."""
    d = len(z[0])
    from_x, from_h, bias_x, bias_h = (
        weights[f"aggregation.lstm.{name}_l0{suffix}"]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden, cell = [0.0] * d, [0.0] * d
    for x in z:
        before = [
            bias_x[row]
            + bias_h[row]
            + sum(from_x[row][j] * x[j] for j in range(d))
            + sum(from_h[row][j] * hidden[j] for j in range(d))
            for row in range(4 * d)
        ]
        for c in range(d):
            take, forget, output = (sigmoid(before[gate * d + c]) for gate in (0, 1, 3))
            cell[c] = forget * cell[c] + take * math.tanh(before[2 * d + c])
            hidden[c] = output * math.tanh(cell[c])
    return hidden


def aggregate(aggregation: str, weights: dict[str, list], z: Sequence[Vector]) -> Vector:
    t, d = len(z), len(z[0])
    if aggregation == "avg":
        return [sum(z[i][c] for i in range(t)) / t for c in range(d)]
    if aggregation == "mta":
        z_m = []
        for c in range(d):
            hidden = linear(weights, "aggregation.spread", [z[i][c] for i in range(t)])
            z_m += linear(weights, "aggregation.collect", [max(0.0, h) for h in hidden])
        return z_m
    forward = lstm_last_hidden(weights, z, "")
    if aggregation == "lstm":
        return forward
    backward = lstm_last_hidden(weights, z[::-1], "_reverse")
    return [(f + b) / 2 for f, b in zip(forward, backward, strict=True)]


def attend(q: Vector, k: Vector, v: Vector) -> Vector:
    out = []
    for q_i in q:
        most = max(q_i * k_j for k_j in k)
        row = [math.exp(q_i * k_j - most) for k_j in k]
        out.append(sum(a * v_j for a, v_j in zip(row, v, strict=True)) / sum(row))
    return out


def parts(image: np.ndarray, cells: int) -> list[np.ndarray]:
    """Parts of an image row by row, as PyTorch's adaptive pooling cuts them."""
    ends = [
        [(math.floor(i * side / cells), math.ceil((i + 1) * side / cells)) for i in range(cells)]
        for side in image.shape
    ]
    return [image[top:bottom, left:right] for top, bottom in ends[0] for left, right in ends[1]]


def over_time(weights: dict[str, list], z: Sequence[Vector], frame: int, width: int) -> Vector:
    out = list(weights["order.bias"])
    for c, of_channel in enumerate(weights["order.weight"]):  # [D, D, width]
        for j in range(width):
            at = frame + j - width // 2
            if 0 <= at < len(z):
                out[c] += sum(of_channel[d][j] * z[at][d] for d in range(len(z[at])))
    return out


def expected_gates(
    block: GlobalTemporalDifference,
    aggregation: str,
    x: Tensor,
    *,
    attention: bool = True,
    gate: bool = True,
    difference: str = "global",
    order: int = 0,
    cells: int = 1,
) -> np.ndarray:
    """s_t of every frame, [N*T, C]."""
    weights = weights_of(block)
    frames, t = x.double().numpy(), block.num_segments
    gates = []
    for clip in range(len(frames) // t):
        u = [
            [part.mean() for c in range(frames.shape[1]) for part in parts(frames[i, c], cells)]
            for i in range(clip * t, clip * t + t)
        ]
        z = [linear(weights, "reduce", u_t) for u_t in u]
        if order:
            z = [
                [a + b for a, b in zip(z_t, over_time(weights, z, i, order), strict=True)]
                for i, z_t in enumerate(z)
            ]
        if gate and difference == "global":
            others = [aggregate(aggregation, weights, z)] * t
        else:
            others = [*z[1:], z[-1]]
        for z_t, other in zip(z, others, strict=True):
            z_prime = z_t
            if gate:
                apart = [m - value for m, value in zip(other, z_t, strict=True)]
                gains = [sigmoid(value) for value in linear(weights, "difference", apart)]
                z_prime = [value * gain for value, gain in zip(z_t, gains, strict=True)]
            z_second = z_prime
            if attention:
                q, k, v = (linear(weights, name, z_prime) for name in ("query", "key", "value"))
                z_second = attend(q, k, v)
            total = [a + value for a, value in zip(z_second, z_t, strict=True)]
            gates.append([sigmoid(value) for value in linear(weights, "expand", total)])
    return np.array(gates)


@each_aggregation
@pytest.mark.parametrize(
    ("channels", "num_segments", "reduction"), [(12, 4, 4), (6, 3, 1), (10, 2, 4), (3, 1, 8)]
)
def test_block_equals_the_formulas(
    aggregation: str, channels: int, num_segments: int, reduction: int
) -> None:
    block = make_block(aggregation, channels, num_segments, reduction)
    x = make_clips(2, num_segments, channels)
    gates = expected_gates(block, aggregation, x)
    wanted = x.numpy() + x.numpy() * gates[:, :, None, None]
    assert gates.std() > 0.05  # the gates do differ, else the comparison would say little

    np.testing.assert_allclose(block.gate(x).detach().numpy(), gates, rtol=0, atol=1e-12)
    np.testing.assert_allclose(block(x).detach().numpy(), wanted, rtol=0, atol=1e-12)
    single = block.float()(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_alpha_widens_mta() -> None:
    block = make_block("mta", alpha=3)
    assert block.state_dict()["aggregation.spread.weight"].shape == (12, 4)
    x = make_clips()
    np.testing.assert_allclose(
        block.gate(x).detach().numpy(), expected_gates(block, "mta", x), rtol=0, atol=1e-12
    )


@each_aggregation
def test_gradients_of_input_and_weights(aggregation: str) -> None:
    block = make_block(aggregation, channels=4, num_segments=2, reduction=2)
    names = [name for name, _ in block.named_parameters()]
    values = [p.detach().requires_grad_() for p in block.parameters()]
    x = make_clips(2, 2, 4, size=1).requires_grad_()

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


@each_aggregation
@pytest.mark.parametrize("order", [0, 3])
def test_a_causal_block_is_the_block_on_the_last_frames(aggregation: str, order: int) -> None:
    """Frame t of it: the last frame of a clip of the T frames up to t, the first for those missing.

    ``order`` within such a clip would see other missing frames than within the stream; there the
    kernel's last tap alone, which looks at no other frame.
    """
    plain = make_block(aggregation, num_segments=3, order=order)
    causal = make_block(aggregation, num_segments=3, order=order, causal=True)
    state = plain.state_dict()
    if order:
        now = state["order.weight"][:, :, 1]
        for block, tap in ((plain, 1), (causal, 2)):
            weight = torch.zeros_like(block.order.weight)
            weight[:, :, tap] = now
            block.load_state_dict({**state, "order.weight": weight})
    else:
        causal.load_state_dict(state)
    causal.num_segments = 7  # a longer clip, as many frames of it for each z_m
    x = make_clips(clips=2, frames=7)
    for clip, gates in zip(x.split(7), causal.gate(x).split(7), strict=True):
        for t in range(7):
            last = clip[[max(0, t - 2), max(0, t - 1), t]]
            torch.testing.assert_close(gates[t], plain.gate(last)[-1], rtol=0, atol=1e-12)


def test_causal_order_looks_back() -> None:
    """Taps [two before, one before, now] over z = x of one channel, the first for those missing."""
    block = make_block("avg", 1, 4, 1, order=3, causal=True)
    taps = torch.tensor([[[100.0, 10.0, 1.0]]])
    block.order.load_state_dict({"weight": taps, "bias": torch.zeros(1)})
    z = torch.tensor([[1.0], [2.0], [3.0], [4.0]]).double()
    assert block.ordered(block, z).tolist() == [[112.0], [114.0], [126.0], [238.0]]


# ------------------------------------------------------------------------ what follows from them


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)))
def test_avg_permutes_with_the_frames(order: list[int]) -> None:
    block, x = make_block("avg", num_segments=5), make_clips(1, 5)
    torch.testing.assert_close(block(x[order]), block(x)[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("aggregation", ["mta", "lstm", "bilstm"])
def test_learned_aggregations_see_the_order(aggregation: str) -> None:
    block, x = make_block(aggregation), make_clips(1)
    assert (block(x.flip(0)).flip(0) - block(x)).abs().max() > 1e-3


@each_aggregation
def test_every_frame_depends_on_every_frame_of_its_clip_only(aggregation: str) -> None:
    block, x = make_block(aggregation), make_clips(clips=3)
    before = block.gate(x)
    for j in range(4, 8):  # the frames of the second of three clips
        changed = x.clone()
        changed[j] += 0.5
        moved = (block.gate(changed) - before).abs().amax(1) > 1e-9
        assert moved.tolist() == [False] * 4 + [True] * 4 + [False] * 4


@each_aggregation
def test_clips_of_a_batch_do_not_see_each_other(aggregation: str) -> None:
    block, x = make_block(aggregation), make_clips(clips=3)
    alone = torch.cat([block(clip) for clip in x.split(4)])
    torch.testing.assert_close(block(x), alone, rtol=0, atol=1e-12)


@each_aggregation
def test_enhancement_is_one_factor_per_channel_between_one_and_two(aggregation: str) -> None:
    block = make_block(aggregation)
    x = make_clips()
    x = torch.where(x.abs() < 0.1, 0.1, x)  # no division by nearly zero
    factor = block(x) / x  # 1 + s_t
    torch.testing.assert_close(factor, factor[:, :, :1, :1].expand_as(x), rtol=0, atol=1e-12)
    assert (factor > 1).all()
    assert (factor < 2).all()


@each_aggregation
def test_input_is_not_changed_and_memory_format_does_not_matter(aggregation: str) -> None:
    block, x = make_block(aggregation), make_clips()
    kept = x.clone()
    plain = block(x)
    assert torch.equal(x, kept)
    channels_last = block(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, plain, rtol=0, atol=1e-12)


# --------------------------------------------------------------------------- attention, aggregators


def test_attention_by_hand() -> None:
    # Row 1 weighs the channels e^(ln 3) : e^0 = 3 : 1, row 2 evenly.
    q = torch.tensor([[math.log(3), 0.0]])
    k, v = torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 8.0]])
    torch.testing.assert_close(channel_attention(q, k, v), torch.tensor([[5.0, 6.0]]))


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(1, 5),
    channels=st.integers(1, 33),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 2**31),
)
def test_attention_equals_the_explicit_matrix(
    frames: int, channels: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, frames, channels, generator=generator, dtype=torch.float64) * scale
    matrix = torch.softmax(q[:, :, None] * k[:, None, :], dim=-1)  # [frames, D, D]
    wanted = (matrix @ v[:, :, None])[:, :, 0]
    torch.testing.assert_close(channel_attention(q, k, v), wanted, rtol=1e-10, atol=1e-12)


def test_average_aggregation_by_hand() -> None:
    z = torch.tensor([[[1.0, 10.0], [3.0, 30.0]], [[0.0, 5.0], [0.0, 7.0]]])  # [N=2, T=2, D=2]
    assert AverageAggregation()(z).tolist() == [[2.0, 20.0], [0.0, 6.0]]


def test_mta_by_hand() -> None:
    mta = MTAggregation(num_segments=2, alpha=1)
    with torch.no_grad():
        mta.spread.weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        mta.spread.bias.copy_(torch.tensor([0.0, 1.0]))
        mta.collect.weight.copy_(torch.tensor([[10.0, 1.0]]))
        mta.collect.bias.copy_(torch.tensor([0.5]))
    # Channel 1: (3, 1) -> hidden (2, 7) -> 27.5. Channel 2: (1, 3) -> (-2 -> 0, 3) -> 3.5.
    z = torch.tensor([[[3.0, 1.0], [1.0, 3.0]]])
    assert mta(z).tolist() == [[27.5, 3.5]]


def test_bilstm_is_the_mean_of_both_directions() -> None:
    torch.manual_seed(0)
    both = LSTMAggregation(3, bidirectional=True)
    forward, backward = LSTMAggregation(3), LSTMAggregation(3)
    state = both.state_dict()
    forward.load_state_dict({k: v for k, v in state.items() if "reverse" not in k})
    backward.load_state_dict(
        {k.replace("_reverse", ""): v for k, v in state.items() if "reverse" in k}
    )
    z = torch.randn(2, 5, 3)
    wanted = (forward(z) + backward(z.flip(1))) / 2
    torch.testing.assert_close(both(z), wanted)


@each_aggregation
def test_aggregation_maps_clips_to_one_vector_each(aggregation: str) -> None:
    assert make_block(aggregation).aggregation(torch.randn(2, 4, 3).double()).shape == (2, 3)


# ------------------------------------------------------------------------- names, start, bad input


@each_aggregation
def test_names_and_shapes_of_the_children(aggregation: str) -> None:
    block = GlobalTemporalDifference(64, 8, aggregation=aggregation)
    children = dict(block.named_children())
    assert list(children) == [
        "reduce",
        "aggregation",
        "difference",
        "query",
        "key",
        "value",
        "expand",
    ]
    state = block.state_dict()
    for name in children:
        if name != "aggregation":
            shape = {"reduce": (16, 64), "expand": (64, 16)}.get(name, (16, 16))
            assert (state[f"{name}.weight"].shape, state[f"{name}.bias"].shape) == (
                shape,
                shape[:1],
            )


@each_aggregation
def test_identity_start_multiplies_by_one_and_a_half(aggregation: str) -> None:
    block = GlobalTemporalDifference(12, 4, aggregation=aggregation, init="identity")
    x = make_clips().float()
    assert torch.equal(block(x), 1.5 * x)
    assert block.identity_gain == 1.5


def test_identity_start_still_learns() -> None:
    block = GlobalTemporalDifference(12, 4, init="identity")
    block(make_clips().float()).square().sum().backward()
    gradient = block.expand.weight.grad
    assert gradient is not None
    assert gradient.abs().min() > 0


@each_aggregation
@pytest.mark.parametrize("frames", [7, 9, 1])
def test_wrong_number_of_frames_names_both_numbers(aggregation: str, frames: int) -> None:
    block = GlobalTemporalDifference(4, 8, aggregation=aggregation)
    with pytest.raises(ValueError, match=rf"num_segments=8\b.* got {frames}$"):
        block(torch.zeros(frames, 4, 2, 2))


def test_unfolded_clip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[N\*T, C, H, W\].*5 axes"):
        GlobalTemporalDifference(4, 8)(torch.zeros(1, 8, 4, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"num_segments": 0}, "num_segments must be .* at least 1, got 0"),
        ({"num_segments": 2.5}, "num_segments must be .* got 2.5"),
        ({"reduction": 0}, "reduction must be at least 1, got 0"),
        ({"alpha": 0}, "alpha must be at least 1, got 0"),
        ({"aggregation": "max"}, "unknown aggregation 'max'.*avg, mta, lstm, bilstm"),
        ({"init": "zero"}, "unknown init 'zero'.*'default' or 'identity'"),
        ({"difference": "both"}, "unknown difference 'both': choose one of global, local"),
        ({"attention": "no"}, "attention must be true or false, got 'no'"),
        ({"gate": 1}, "gate must be true or false, got 1"),
        ({"causal": 1}, "causal must be true or false, got 1"),
        ({"causal": True, "difference": "local"}, "difference='local' looks at the next frame"),
        ({"order": 2}, "order must be 0 or an odd number of frames, got 2"),
        ({"order": -1}, "order must be at least 0, got -1"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalTemporalDifference(**{"channels": 8, "num_segments": 4, **arguments})


# --------------------------------------------------------------------------- variants for ablations

VARIANTS = [
    {"attention": attention, "gate": gate, "difference": difference}
    for attention, gate, difference in product((True, False), (True, False), ("global", "local"))
]
VARIANTS += [
    {"order": 3},
    {"order": 5, "difference": "local"},
    {"cells": 2},
    {"cells": 3, "order": 3},
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


@each_variant
@each_aggregation
def test_variants_equal_the_formulas(aggregation: str, variant: dict[str, Any]) -> None:
    block, x = make_block(aggregation, **variant), make_clips()
    gates = expected_gates(block, aggregation, x, **variant)
    assert gates.std() > 0.05
    np.testing.assert_allclose(block.gate(x).detach().numpy(), gates, rtol=0, atol=1e-12)
    wanted = x.numpy() * (1 + gates[:, :, None, None])
    np.testing.assert_allclose(block(x).detach().numpy(), wanted, rtol=0, atol=1e-12)


@each_variant
@each_aggregation
def test_variants_have_no_unused_maps(aggregation: str, variant: dict[str, Any]) -> None:
    block = make_block(aggregation, **variant)
    block(make_clips()).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    has_gate, attends = variant.get("gate", True), variant.get("attention", True)
    maps = {
        "reduce": True,
        "order": bool(variant.get("order")),
        "aggregation": has_gate and variant.get("difference", "global") == "global",
        "difference": has_gate,
        "query": attends,
        "key": attends,
        "value": attends,
        "expand": True,
    }
    assert [n for n, _ in block.named_children()] == [n for n, there in maps.items() if there]


@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (1, 1), (7, 2)])
@pytest.mark.parametrize("cells", [1, 2, 3])
def test_cells_are_those_of_adaptive_pooling(shape: tuple[int, int], cells: int) -> None:
    x = torch.randn(3, 4, *shape, dtype=torch.float64)
    wanted = nn.functional.adaptive_avg_pool2d(x, cells).flatten(1)
    torch.testing.assert_close(pooled_cells(x, cells), wanted, rtol=0, atol=1e-12)


def test_cells_of_tokens() -> None:
    x, block = make_clips(), make_block("avg", cells=2)
    wanted = block(x)
    block.channels_last = True  # as Swin has maps: [N*T, H, W, C]
    torch.testing.assert_close(block(x.movedim(1, -1)), wanted.movedim(1, -1), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"cells=2 are parts of a map.*leave cells at 1"):
        block(x.flatten(2).mT)


def test_the_order_aware_gate_knows_what_comes_next() -> None:
    """With the mean of the clip alone, frames in another order get the same gates."""
    x = make_clips(clips=1)
    order = [2, 0, 3, 1]
    plain, ordered = make_block("avg"), make_block("avg", order=3)
    torch.testing.assert_close(plain.gate(x[order]), plain.gate(x)[order], rtol=0, atol=1e-12)
    assert (ordered.gate(x[order]) - ordered.gate(x)[order]).abs().max() > 1e-4


def test_local_difference_looks_at_the_next_frame_of_the_clip_alone() -> None:
    block, x = make_block("mta", difference="local"), make_clips(clips=2)
    before = block.gate(x)
    changed = x.clone()
    changed[2] += 0.5  # the third of the first clip's four frames
    moved = (block.gate(changed) - before).abs().amax(1) > 1e-9
    assert moved.tolist() == [False, True, True, False] + [False] * 4
    changed = x.clone()
    changed[4] += 0.5  # the first frame of the second clip: not the next one of the first clip
    moved = (block.gate(changed) - before).abs().amax(1) > 1e-9
    assert moved.tolist() == [False] * 4 + [True, False, False, False]


def test_without_the_difference_frames_do_not_see_each_other() -> None:
    block, x = make_block("mta", gate=False), make_clips()
    torch.testing.assert_close(block(x.flip(0)).flip(0), block(x), rtol=0, atol=1e-12)


@each_variant
def test_variants_start_at_identity(variant: dict[str, Any]) -> None:
    block = GlobalTemporalDifference(12, 4, init="identity", **variant)
    x = make_clips().float()
    assert torch.equal(block(x), 1.5 * x)


# What a whole network makes of them.


def network(**options: Any) -> VideoClassifier:
    torch.manual_seed(0)
    return create_model("gtdnet_resnet18", 5, 4, width=0.125, **options).eval()


def test_network_without_shift() -> None:
    convs = temporal_convs(network(fold_div=0))
    assert len(convs) == 8
    assert all([*dict(conv.temporal.named_children())] == ["gtd"] for _, conv in convs)
    with pytest.raises(ValueError, match="fold_div must be at least 2"):
        network(fold_div=1)
    with pytest.raises(ValueError, match="fold_div must be at least 2"):
        create_model("tsm_resnet18", 5, 4, fold_div=0)


@pytest.mark.parametrize("fold_div", [8, 0])
def test_network_with_gtd_in_some_stages(fold_div: int) -> None:
    convs = temporal_convs(network(gtd_stages=[4, 5], fold_div=fold_div).backbone)
    with_gtd = [n for n, conv in convs if "gtd" in dict(conv.temporal.named_children())]
    assert with_gtd == [f"layer{s}.{b}.conv1" for s in (3, 4) for b in (0, 1)]
    shifts = [n for n, conv in convs if any(isinstance(m, TemporalShift) for m in conv.modules())]
    assert len(shifts) == (8 if fold_div else 0)
    tsm = create_model("tsm_resnet18", 5, 4, width=0.125, fold_div=fold_div or 10_000).eval()
    weights = tsm.backbone.state_dict()
    identity = network(gtd_stages=[4, 5], fold_div=fold_div, pretrained=weights, init="identity")
    identity.classifier.load_state_dict(tsm.classifier.state_dict())
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(identity(clips), tsm(clips), rtol=1e-4, atol=1e-5)


def test_bad_gtd_stages() -> None:
    with pytest.raises(ValueError, match=r"gtd_stages must be different numbers out of 2, 3, 4, 5"):
        network(gtd_stages=[6])
    with pytest.raises(ValueError, match=r"gtd_stages=\[2\]: none of them is among the stages"):
        network(gtd_stages=[2], stages=[4, 5])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": False},
        {"gate": False},
        {"difference": "local"},
        {"gtd_stages": [5]},
        {"order": 3},
        {"cells": 2},
    ],
    ids=str,
)
def test_variants_travel_in_the_model_file(options: dict[str, Any], tmp_path: Path) -> None:
    model = network(**options)
    if not options:  # as written before the options were there
        for name in ("attention", "gate", "difference", "gtd_stages", "order", "cells"):
            del model.options[name]
    spec = ClipSpec(tuple("abcde"), num_segments=4, short_side=32, crop_size=32)
    loaded = load_model(save_model(tmp_path / "model.safetensors", model, spec)).model
    assert loaded.options == {**model_options("gtdnet_resnet18"), **model.options}
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(clips), model(clips))
