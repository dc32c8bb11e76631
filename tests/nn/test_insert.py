"""Insertion on this package's networks and on foreign ones: keys, sites, identity start."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gtdnet.models.backbones.resnet import DEPTHS, ResNet
from gtdnet.nn import (
    GlobalTemporalDifference,
    TemporalConv2d,
    TemporalEnhancementInteraction,
    TemporalShift,
    insert_temporal,
    set_num_segments,
    temporal_convs,
)

T = 2


def gtd(channels: int) -> nn.Module:
    return GlobalTemporalDifference(channels, T)


def shift(channels: int) -> nn.Module:
    return TemporalShift(T, fold_div=4)


class ForeignBlock(nn.Module):
    """torchvision's BasicBlock: its names, its forward."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + identity)


class ForeignResNet(nn.Module):
    """A root with the stem's conv1 (and a conv2 beside it, as in ResNet-D's relatives)."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(ForeignBlock(8, 8, bias=bias), ForeignBlock(8, 8, bias=bias))
        self.layer2 = nn.Sequential(ForeignBlock(8, 16, 2, bias=bias))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv2(self.conv1(x))))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


class ConvNormAct(nn.Module):
    """timm's wrapped convolution."""

    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class WrappedBlock(nn.Module):
    """timm's RegNet block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 1)
        self.conv2 = ConvNormAct(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(self.conv1(x)))


class WrappedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, 3)
        self.s1 = nn.Sequential(WrappedBlock(8), WrappedBlock(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.s1(self.stem(x))


def randomise(model: nn.Module) -> nn.Module:
    """The same random weights and norm statistics at every call, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(std=0.3, generator=generator)
    return model.eval()


def frames(clips: int = 2, size: int = 32) -> Tensor:
    return torch.randn(clips * T, 3, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("depth", list(DEPTHS))
def test_every_block_of_every_depth(depth: int) -> None:
    backbone = ResNet(depth, width=0.125)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    names = insert_temporal(backbone, gtd)
    blocks = DEPTHS[depth][1]
    assert names == [f"layer{s + 1}.{b}.conv1" for s in range(4) for b in range(blocks[s])]
    assert [name for name, _ in temporal_convs(backbone)] == names
    after = backbone.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    new = set(after) - set(before)
    assert {key.partition(".temporal.")[0] for key in new} == set(names)
    assert all(isinstance(backbone.get_submodule(name), nn.Conv2d) for name in names)


def test_torchvision_style_network() -> None:
    backbone = ForeignResNet().train()
    assert insert_temporal(backbone, gtd) == ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"]
    assert type(backbone.conv1) is nn.Conv2d  # the root's is the stem, not a block
    opening = backbone.get_submodule("layer2.0.conv1")
    assert isinstance(opening, TemporalConv2d)
    assert isinstance(opening.temporal, GlobalTemporalDifference)
    assert opening.temporal.reduce.in_features == 8  # what comes into the convolution
    assert "temporal" in repr(backbone)
    backbone(frames()).sum().backward()
    gradient = opening.temporal.reduce.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_timm_style_wrapped_convolution() -> None:
    backbone = WrappedNet()
    assert insert_temporal(backbone, gtd) == ["s1.0.conv1.conv", "s1.1.conv1.conv"]
    assert "s1.0.conv1.conv.temporal.reduce.weight" in backbone.state_dict()
    assert backbone(frames(size=8)).shape == (4, 8, 8, 8)


def test_the_module_comes_before_the_convolution() -> None:
    backbone = randomise(ForeignResNet())
    block = copy.deepcopy(backbone.get_submodule("layer1.0"))
    insert_temporal(backbone, shift, "layer1.0.conv1")
    changed = backbone.get_submodule("layer1.0")
    x = torch.randn(2 * T, 8, 6, 6)
    residual = block.get_submodule("conv1")(TemporalShift(T, 4)(x))
    for name in ("bn1", "relu", "conv2", "bn2"):
        residual = block.get_submodule(name)(residual)
    torch.testing.assert_close(changed(x), torch.relu(residual + x))  # the shortcut sees no shift


@pytest.mark.parametrize(
    ("sites", "names"),
    [
        ("layer2.*.conv1", ["layer2.0.conv1"]),
        ("layer?.0.conv2", ["layer1.0.conv2", "layer2.0.conv2"]),
        (["layer2.0.conv1", "layer1.1.conv1"], ["layer1.1.conv1", "layer2.0.conv1"]),
        (
            lambda name, conv: conv.stride == (2, 2) and conv.kernel_size == (3, 3),
            ["conv1", "layer2.0.conv1"],
        ),
    ],
)
def test_sites(sites: object, names: list[str]) -> None:
    backbone = ForeignResNet()
    assert insert_temporal(backbone, shift, sites) == names  # type: ignore[arg-type]
    assert [name for name, _ in temporal_convs(backbone)] == names


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (
            "stage*.conv1",
            r"'stage\*.conv1' matches no layer of ForeignResNet.*layer1.0.conv1",
        ),
        (["layer1.*.conv1", "nothing"], "'nothing' matches no layer"),
        ([], "matches no layer"),
        (lambda name, conv: False, "matches no layer"),
    ],
)
def test_no_match_is_an_error(sites: object, message: str) -> None:
    backbone = ForeignResNet()
    with pytest.raises(ValueError, match=message):
        insert_temporal(backbone, shift, sites)  # type: ignore[arg-type]
    assert temporal_convs(backbone) == []


def test_network_without_residual_blocks() -> None:
    with pytest.raises(ValueError, match=r"Sequential adds no residual branch.*sites="):
        insert_temporal(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), shift)


@pytest.mark.parametrize("sites", [None, "layer1.0.conv1"])
def test_double_insertion_is_an_error(sites: str | None) -> None:
    backbone = ForeignResNet()
    insert_temporal(backbone, shift)
    before = list(backbone.state_dict())
    with pytest.raises(ValueError, match=r"'layer1.0.conv1' already has a temporal module"):
        insert_temporal(backbone, gtd, sites)
    assert list(backbone.state_dict()) == before


def test_failing_build_changes_nothing() -> None:
    def picky(channels: int) -> nn.Module:
        if channels == 16:
            raise RuntimeError("no module for 16 channels")
        return gtd(channels)

    backbone = ForeignResNet()
    before = list(backbone.state_dict())
    with pytest.raises(RuntimeError, match="16 channels"):
        insert_temporal(backbone, picky, "layer*.conv?")
    assert list(backbone.state_dict()) == before
    assert temporal_convs(backbone) == []


def test_unknown_init() -> None:
    with pytest.raises(ValueError, match="unknown init 'zero'"):
        insert_temporal(ForeignResNet(), gtd, init="zero")


def test_module_follows_dtype_and_mode_of_the_convolution() -> None:
    backbone = ForeignResNet().double().eval()
    insert_temporal(backbone, gtd)
    assert {p.dtype for p in backbone.parameters()} == {torch.float64}
    assert not any(m.training for m in backbone.modules())


def test_copies_and_pickles() -> None:
    backbone = randomise(ForeignResNet())
    insert_temporal(backbone, gtd)
    x = frames()
    wanted = backbone(x)
    copied = copy.deepcopy(backbone)
    pickled = pickle.loads(pickle.dumps(backbone))
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    for other in (copied, pickled):
        assert len(temporal_convs(other)) == 3
        assert torch.equal(other(x), wanted)


def test_2d_weights_load_afterwards() -> None:
    source, backbone = randomise(ForeignResNet()), ForeignResNet()
    names = insert_temporal(backbone, gtd)
    report = backbone.load_state_dict(source.state_dict(), strict=False)
    assert report.unexpected_keys == []
    assert {key.partition(".temporal.")[0] for key in report.missing_keys} == set(names)
    assert torch.equal(backbone.conv1.weight, source.get_parameter("conv1.weight"))


@pytest.mark.parametrize("build", [gtd, lambda channels: nn.Sequential(gtd(channels))])
@pytest.mark.parametrize("bias", [False, True])
def test_identity_start_keeps_the_function(build, bias: bool) -> None:
    backbone = randomise(ForeignResNet(bias=bias))
    x = frames()
    wanted = backbone(x)
    insert_temporal(backbone, build, init="identity")
    torch.testing.assert_close(backbone(x), wanted, rtol=1e-5, atol=1e-6)

    untouched = randomise(ForeignResNet(bias=bias))
    insert_temporal(untouched, build)
    assert (untouched(x) - wanted).abs().max() > 1e-2  # "default" does not


def test_identity_start_around_a_shift_keeps_the_shift_network() -> None:
    shifted, both = randomise(ForeignResNet()), randomise(ForeignResNet())
    insert_temporal(shifted, shift)
    insert_temporal(both, lambda c: nn.Sequential(shift(c), gtd(c)), init="identity")
    torch.testing.assert_close(both(frames()), shifted(frames()), rtol=1e-5, atol=1e-6)


def test_identity_start_of_a_shift_alone_leaves_the_weights() -> None:
    backbone = ForeignResNet()
    before = backbone.get_parameter("layer1.0.conv1.weight").clone()
    insert_temporal(backbone, shift, init="identity")
    assert torch.equal(backbone.get_parameter("layer1.0.conv1.weight"), before)


def test_set_num_segments() -> None:
    backbone = ForeignResNet()
    insert_temporal(backbone, shift)
    set_num_segments(backbone, 5)
    assert [conv.temporal.num_segments for _, conv in temporal_convs(backbone)] == [5, 5, 5]
    assert backbone(torch.randn(5, 3, 16, 16)).shape == (5, 5)
    with pytest.raises(ValueError, match="num_segments"):
        set_num_segments(backbone, 0)


@pytest.mark.parametrize(
    "build",
    [
        lambda channels: TemporalEnhancementInteraction(channels, 4),
        lambda channels: nn.Sequential(TemporalShift(4), nn.ReLU()),
        lambda channels: nn.Conv2d(channels, channels, 1),
    ],
)
def test_identity_is_refused_of_modules_that_have_none(build: Callable[[int], nn.Module]) -> None:
    network = ResNet(18, 0.25)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="no start at identity"):
        insert_temporal(network, build, init="identity")
    after = network.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
