"""Temporal modules at layers of every kind: subclasses, linear maps, norms; maps and tokens."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.nn import (
    Action,
    GlobalTemporalDifference,
    LongTermDifference,
    MotionExcitation,
    TemporalAdaptiveModule,
    TemporalConv1d,
    TemporalConv2d,
    TemporalEnhancementInteraction,
    TemporalShift,
    fast_path,
    insert_temporal,
    temporal_convs,
    temporal_layers,
    temporal_shift,
)

M = TypeVar("M", bound=nn.Module)
T, C = 4, 8
TOKENS = {"tokens": (2 * T, 5, C), "channels last": (2 * T, 3, 4, C), "vectors": (2 * T, C)}
tokens_of_all_shapes = pytest.mark.parametrize("shape", TOKENS.values(), ids=TOKENS)


def gtd(channels: int) -> nn.Module:
    return GlobalTemporalDifference(channels, T)


def shift(channels: int) -> nn.Module:
    return TemporalShift(T, 4)


def both(channels: int) -> nn.Module:
    return nn.Sequential(shift(channels), gtd(channels))


class SamePad(nn.Conv2d):
    """Pads what is odd behind."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class DoubledLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Standardised(nn.Conv2d):
    """Its weights' size does not matter."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight / self.weight.std()
        return self._conv_forward(input, weight, self.bias)


class Mlp(nn.Module):
    """A transformer's second branch: tokens to tokens."""

    def __init__(self, linear: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(C)
        self.fc1 = linear(C, 2 * C)
        self.fc2 = nn.Linear(2 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.gelu(self.fc1(self.norm(x))))


def random(module: M) -> M:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.2, 0.4, generator=generator)
    return module.eval()


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------------------------- tokens


@tokens_of_all_shapes
def test_shift_of_tokens_is_that_of_their_channels(shape: tuple[int, ...]) -> None:
    x = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    shifted = temporal_shift(x, T, 4, channels_last=True)
    clips, wanted = x.unflatten(0, (-1, T)), torch.zeros_like(x).unflatten(0, (-1, T))
    wanted[:, :-1, ..., :2] = clips[:, 1:, ..., :2]
    wanted[:, 1:, ..., 2:4] = clips[:, :-1, ..., 2:4]
    wanted[..., 4:] = clips[..., 4:]
    assert torch.equal(shifted, wanted.flatten(0, 1))


@tokens_of_all_shapes
@pytest.mark.parametrize(
    "build",
    [
        gtd,
        shift,
        both,
        lambda c: nn.Sequential(both(c), nn.Identity()),  # not all know tokens: seen as maps
        lambda c: TemporalConv1d(c, T, 4),
        lambda c: TemporalEnhancementInteraction(c, T),
        lambda c: TemporalAdaptiveModule(c, T),
    ],
)
@pytest.mark.parametrize("site", ["fc1", "norm"])
def test_tokens_are_maps_of_one_column(
    shape: tuple[int, ...], build: Callable[[int], nn.Module], site: str
) -> None:
    network = Mlp()
    insert_temporal(network, build, site)
    random(network)
    x = features(*shape)
    ((_, layer),) = temporal_layers(network)
    on_maps = build(C).eval()
    on_maps.load_state_dict(layer.temporal.state_dict())
    seen = F.layer_norm(x, (C,), network.norm.weight, network.norm.bias)
    maps = seen.reshape(2 * T, -1, 1, C).permute(0, 3, 1, 2)
    seen = on_maps(maps).permute(0, 2, 3, 1).reshape(shape)
    fc1 = F.linear(seen, network.fc1.weight, network.fc1.bias)
    wanted = x + network.fc2(F.gelu(fc1))
    torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("site", ["fc1", "norm"])
@tokens_of_all_shapes
def test_fast_path_on_tokens(shape: tuple[int, ...], site: str) -> None:
    network = Mlp()
    insert_temporal(network, both, site)
    random(network)
    x = features(*shape)
    with torch.no_grad():
        fast = network(x)
        with fast_path(False):
            torch.testing.assert_close(fast, network(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda c: Action(c, T),
        lambda c: MotionExcitation(c, T),
        lambda c: nn.Sequential(LongTermDifference(c, T), TemporalShift(T)),
    ],
)
def test_modules_with_neighbours_refuse_tokens(build: Callable[[int], nn.Module]) -> None:
    network = Mlp()
    insert_temporal(network, build, "fc1")
    assert network(features(2 * T, 3, 4, C)).shape == (2 * T, 3, 4, C)
    with pytest.raises(ValueError, match=r"neighbours along H and W.*\[8, 5, 8\].*convolution"):
        network(features(2 * T, 5, C))


def test_tokens_of_other_axes_are_refused() -> None:
    network = Mlp()
    insert_temporal(network, gtd, "fc1")
    with pytest.raises(ValueError, match="tensor of 5 axes"):
        network(features(2, T, 3, 4, C))
    with pytest.raises(ValueError, match=r"multiple of num_segments=4.*got 7"):
        network(features(7, 5, C))


# -------------------------------------------------------------------------------- identity, copies


@pytest.mark.parametrize("site", ["fc1", "fc2", "norm"])
@pytest.mark.parametrize("linear", [nn.Linear, DoubledLinear])
def test_identity_start_on_tokens(site: str, linear: type[nn.Linear]) -> None:
    network = random(Mlp(linear))
    x = features(2 * T, 5, C)
    wanted = network(x)
    insert_temporal(network, gtd, site, init="identity")
    torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-6)


def test_identity_start_of_a_convolution_with_a_forward_of_its_own() -> None:
    network = random(nn.Sequential(SamePad(C, C, 2)))
    before = dict(network.state_dict())
    x = features(2 * T, C, 5, 6)
    wanted = network(x)
    insert_temporal(network, gtd, "0", init="identity")
    assert type(network[0]).__name__ == "TemporalSamePad"
    assert isinstance(network[0], SamePad)
    assert temporal_convs(network) == []  # the engines' forms are those of plain convolutions
    assert set(before) < set(network.state_dict())
    torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Standardised(C, C, 1), "Standardised.*does not scale with its weights.*init='default'"),
        (nn.LayerNorm(C, elementwise_affine=False), "LayerNorm.*has no weights"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(C, C)), "does not scale"),
    ],
)
def test_no_identity_start_without_weights_that_scale(layer: nn.Module, message: str) -> None:
    network = nn.Sequential(nn.Conv2d(C, C, 1), layer)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        insert_temporal(network, gtd, ["0", "1"], init="identity")
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert insert_temporal(network, gtd, ["0", "1"]) == ["0", "1"]


def test_copies_and_pickles_of_subclasses() -> None:
    network = nn.Sequential(SamePad(C, C, 2), nn.Conv2d(C, C, 1))
    insert_temporal(network, both, ["0", "1"])
    random(network)
    x = features(2 * T, C, 5, 6)
    wanted = network(x)
    others = (copy.deepcopy(network), pickle.loads(pickle.dumps(network)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    for other in others:
        assert type(other[0]) is type(network[0])
        assert isinstance(other[1], TemporalConv2d)
        assert torch.equal(other(x), wanted)


class NormOfMaps(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class OwnNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).to(input.dtype)


def test_a_norm_of_maps_is_refused() -> None:
    network = nn.Sequential(OwnNorm(C), NormOfMaps(C))
    assert insert_temporal(network, shift, "0", init="identity") == ["0"]
    with pytest.raises(ValueError, match=r"'1' is a NormOfMaps, a norm of maps.*behind it"):
        insert_temporal(network, shift, "1")


def test_sites_speak_of_convolutions_then_linear_maps_then_norms() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleDict({"conv": nn.Conv2d(C, C, 1), "fc": nn.Linear(C, C)})
            self.b = nn.ModuleDict({"fc": nn.Linear(C, C), "norm": nn.LayerNorm(C)})
            self.c = nn.ModuleDict({"norm": nn.LayerNorm(C), "act": nn.ReLU()})

    names = insert_temporal(Both(), shift, ["a.*", "b.*", "c.*"])
    assert names == ["a.conv", "b.fc", "c.norm"]
    assert insert_temporal(Both(), shift, lambda name, _: name[0] in "bc") == ["b.fc"]
    with pytest.raises(ValueError, match=r"'c\.act' matches no layer"):
        insert_temporal(Both(), shift, "c.act")


# ------------------------------------------------------------------------------------------ graphs


@pytest.mark.parametrize("site", ["fc1", "norm"])
def test_export_and_compile(site: str) -> None:
    network = Mlp()
    insert_temporal(network, both, site)
    random(network)
    x = features(2 * T, 5, C)
    wanted = network(x)
    batch = torch.export.Dim("batch")
    shapes = ({0: T * batch},)
    for strict in (False, True):
        program = torch.export.export(network, (x,), dynamic_shapes=shapes, strict=strict)
        torch.testing.assert_close(program.module()(x), wanted)
        torch.testing.assert_close(program.module()(x.repeat(2, 1, 1)), wanted.repeat(2, 1, 1))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), wanted)
