"""The layers that open residual branches are found in networks of every family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import (
    FOUND,
    REFUSED,
    Add,
    C,
    ConvNorm,
    Head,
    PreActivation,
    Swin,
    TokenBlock,
    Windows,
    bottleneck,
    mlp,
)
from torch import Tensor, nn

from gtdnet.nn import (
    GlobalTemporalDifference,
    TemporalShift,
    fast_path,
    insert_temporal,
    temporal_layers,
)
from gtdnet.nn.branches import open_branches

T = 3
families = pytest.mark.parametrize(("build", "sites"), FOUND.values(), ids=FOUND)


def gtd(channels: int) -> nn.Module:
    return GlobalTemporalDifference(channels, T)


def shift(channels: int) -> nn.Module:
    return TemporalShift(T, 4)


def random(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    return network.eval()


def frames(size: int = 32) -> Tensor:
    return torch.randn(2 * T, 3, size, size, generator=torch.Generator().manual_seed(1))


@families
def test_families(build: Callable[[], nn.Module], sites: Sequence[str]) -> None:
    network = build()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert open_branches(network.train()) == sites
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert insert_temporal(network, shift) == sites
    assert open_branches(network) == sites  # the modules in it change nothing
    with pytest.raises(ValueError, match="already has a temporal module"):
        insert_temporal(network, shift)


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_unclear_is_said(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        insert_temporal(build(), shift)


@families
def test_identity_start_is_exact(build: Callable[[], nn.Module], sites: Sequence[str]) -> None:
    network = random(build())
    with torch.no_grad():
        wanted = network(frames())
        insert_temporal(network, gtd, init="identity")
        for is_fast in (False, True):
            with fast_path(is_fast):
                torch.testing.assert_close(network(frames()), wanted, rtol=1e-4, atol=1e-5)


@families
def test_order_of_frames(build: Callable[[], nn.Module], sites: Sequence[str]) -> None:
    """A network of frames alone gives each what it gave; a shift sees who the neighbours are."""
    network = random(build())
    order = torch.tensor([2, 0, 1, 3, 4, 5])  # the first clip shuffled, the second as it was
    x = frames()
    with torch.no_grad():
        torch.testing.assert_close(network(x[order]), network(x)[order], rtol=1e-4, atol=1e-5)
        insert_temporal(network, shift)
        seen, shuffled = network(x), network(x[order])
    torch.testing.assert_close(shuffled[T:], seen[T:], rtol=1e-4, atol=1e-5)
    assert ((shuffled[:T] - seen[order[:T]]).abs().amax(1) > 1e-4).all()


@families
def test_gradients_reach_every_module(build: Callable[[], nn.Module], sites: Sequence[str]) -> None:
    network = random(build())
    insert_temporal(network, gtd)
    network(frames()).square().sum().backward()
    for _, layer in temporal_layers(network):
        gradient = layer.temporal.get_parameter("reduce.weight").grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


MAPS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "bottleneck": (lambda: Add(bottleneck(C)), ["branch.0.0"]),
    "projected": (lambda: Add(bottleneck(C), ConvNorm(C, C), act=True), ["branch.0.0"]),
    "preactivation": (lambda: PreActivation(True), ["conv1"]),
    "plain": (lambda: ConvNorm(C, C, 3), []),
    "pool": (lambda: nn.MaxPool2d(3, 1, 1), []),
    "depthwise": (lambda: Add(ConvNorm(C, C, 3, groups=C)), ["branch.0"]),
}
TOKENS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "window": (lambda: TokenBlock(Windows(False), mlp()), ["norm1", "mlp.0"]),
    "mlp": (lambda: Add(nn.Sequential(nn.LayerNorm(C), mlp())), ["branch.1.0"]),
    "linear": (lambda: nn.Sequential(nn.LayerNorm(C), nn.Linear(C, C)), []),
}


@settings(max_examples=25, deadline=None)
@given(st.booleans(), st.data())
def test_networks_of_any_blocks(is_maps: bool, data: st.DataObject) -> None:
    kinds = MAPS if is_maps else TOKENS
    chosen = data.draw(st.lists(st.sampled_from(sorted(kinds)), max_size=5))
    network = (Head if is_maps else Swin)(*(kinds[kind][0]() for kind in chosen))
    wanted = [f"blocks.{i}.{name}" for i, kind in enumerate(chosen) for name in kinds[kind][1]]
    if not wanted:
        with pytest.raises(ValueError, match="adds no residual branch"):
            open_branches(network)
        return
    assert open_branches(network) == wanted
