"""2D ResNets without their classifier, under torchvision's state-dict keys.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016. As in torchvision
and in every temporal model built on it, the stride of a bottleneck is in its 3x3 convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from gtdnet.errors import InputError, check_positive
from gtdnet.models.backbones.base import Backbone, Block, register_backbone


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: [N, C, H, W] -> [N, width, H/stride, W/stride]."""

    expansion: ClassVar[int] = 1
    branch: ClassVar[tuple[str, ...]] = ("conv1", "conv2")

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions: [N, C, H, W] -> [N, 4*width, H/stride, W/stride]."""

    expansion: ClassVar[int] = 4
    branch: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "conv3")

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)


def _projection(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class BlockKind(Protocol):
    """A kind of residual block: its output has ``expansion`` times its width.

    ``branch``: the layers of its residual branch in their order.
    """

    expansion: int
    branch: tuple[str, ...]

    def __call__(self, channels: int, width: int, stride: int = 1) -> nn.Module: ...


Layout = tuple[BlockKind, tuple[int, int, int, int]]
"""Kind of block, and blocks per stage."""

DEPTHS: dict[int, Layout] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
"""By depth (table 1 of the paper)."""


class StagedNetwork(Backbone):
    """A stem and four stages of residual blocks: [N, 3, H, W] -> [N, num_features, H/32, W/32].

    Args:
        depth: one of ``layouts``.
        width: multiplies every channel number; 1 is the published network.

    Attributes:
        num_features: channels of the output.
        layers: names of the four residual stages, which the papers call stages 2 to 5.
        layout: of this depth.
        layouts: the depths there are.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"width": 1.0})
    layers = ("layer1", "layer2", "layer3", "layer4")
    layouts: ClassVar[Mapping[int, Layout]]

    def __init__(self, depth: int, width: float = 1.0) -> None:
        super().__init__()
        if depth not in self.layouts:
            kind = type(self).__name__
            raise InputError(f"no {kind} of depth {depth}: choose one of {sorted(self.layouts)}")
        check_positive(width=width)
        self.layout = block, counts = self.layouts[depth]
        base = max(8, round(64 * width))
        self.conv1 = nn.Conv2d(3, base, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = base
        for i, (name, count) in enumerate(zip(self.layers, counts, strict=True)):
            stage = []
            for j in range(count):
                stage.append(block(channels, base * 2**i, stride=2 if i > 0 and j == 0 else 1))
                channels = base * 2**i * block.expansion
            self.add_module(name, nn.Sequential(*stage))
        self.num_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.layers:
            x = self.get_submodule(name)(x)
        return x

    def residual_blocks(self) -> list[Block]:
        kind, counts = self.layout
        return [
            Block(f"{layer}.{i}", stage, tuple(f"{layer}.{i}.{name}" for name in kind.branch))
            for stage, layer, count in zip(self.stages, self.layers, counts, strict=True)
            for i in range(count)
        ]


class ResNet(StagedNetwork):
    """The convolutional part of a ResNet-18, 34, 50, 101 or 152: see :class:`StagedNetwork`."""

    layouts: ClassVar[Mapping[int, Layout]] = DEPTHS


for _depth in DEPTHS:
    register_backbone(f"resnet{_depth}", ResNet, _depth)
