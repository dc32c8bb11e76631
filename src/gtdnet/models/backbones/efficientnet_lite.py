"""EfficientNet-Lite without its classifier, under timm's state-dict keys.

Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; Lite
(Google, 2020) is the form for phones: no squeeze-and-excitation, ReLU6, stem and head of one size.
Its convolutions of stride 2 pad as TensorFlow does: what is odd goes behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.errors import check_positive
from gtdnet.models.backbones.base import Backbone, Block, register_backbone


class Stage(NamedTuple):
    """Blocks of one kind; the first has the stride and changes the channels."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""Of Lite0 (table 1 of the paper)."""

SCALES: Mapping[int, tuple[float, float]] = MappingProxyType(
    {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}
)
"""By number: factors of channels and of repeats. Their images had 224, 240, 260, 280, 300 lines."""

STEM, HEAD = 32, 1280


class SamePadConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's "SAME" does.

    [N, C, H, W] -> [N, C', H/stride, W/stride], rounded up. At stride 1 that is kernel // 2 on all
    sides; at stride 2 it depends on whether a side is odd.
    """

    def forward(self, input: Tensor) -> Tensor:
        pads: list[int] = []
        for axis in (1, 0):  # the last axis of the tensor comes first
            # int: a traced size would hide from OpenVINO that the convolution can pad by itself.
            size = int(input.shape[2 + axis])
            kernel, stride = self.kernel_size[axis], self.stride[axis]
            lacking = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [lacking // 2, lacking - lacking // 2]
        return super().forward(F.pad(input, pads))


class _Block(nn.Module):
    """What both kinds share: a shortcut where input and output are of one size."""

    branch: ClassVar[tuple[str, ...]]
    googles: ClassVar[Mapping[str, str]]  # names of layers in Google's networks, and their own
    has_shortcut: bool


class SeparableBlock(_Block):
    """Depthwise, then 1x1: [N, C, H, W] -> [N, C', H/stride, W/stride]."""

    branch = ("conv_dw", "conv_pw")
    googles: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    )

    def __init__(self, channels: int, out: int, stage: Stage, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(channels, channels, stage.kernel, stride, channels)
        self.bn1 = _norm(channels)
        self.conv_pw = _conv(channels, out)
        self.bn2 = _norm(out)
        self.act = nn.ReLU6(inplace=True)
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
        return out + x if self.has_shortcut else out


class InvertedResidual(_Block):
    """1x1 to more channels, depthwise, 1x1 back: [N, C, H, W] -> [N, C', H/stride, W/stride]."""

    branch = ("conv_pw", "conv_dw", "conv_pwl")
    googles: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
            **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
        }
    )

    def __init__(self, channels: int, out: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = channels * stage.expand
        self.conv_pw = _conv(channels, wide)
        self.bn1 = _norm(wide)
        self.conv_dw = _conv(wide, wide, stage.kernel, stride, wide)
        self.bn2 = _norm(wide)
        self.conv_pwl = _conv(wide, out)
        self.bn3 = _norm(out)
        self.act = nn.ReLU6(inplace=True)
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn2(self.conv_dw(self.act(self.bn1(self.conv_pw(x))))))
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.has_shortcut else out


def _conv(channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SamePadConv2d(channels, out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _rounded(channels: float) -> int:
    """To a multiple of 8, at least 8 and at least nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


class EfficientNetLite(Backbone):
    """Lite0 to Lite4: [N, 3, H, W] -> [N, num_features, H/32, W/32] (rounded up).

    Args:
        number: 0 to 4.
        width: multiplies every channel number further; 1 is the published network.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"width": 1.0})
    stages: ClassVar[tuple[int, ...]] = (3, 4, 5, 6, 7)  # of table 1; others have no shortcut
    spec: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    )

    def __init__(self, number: int, width: float = 1.0) -> None:
        super().__init__()
        check_positive(width=width)
        wider, deeper = SCALES[number]
        stem, self.num_features = (n if width == 1 else _rounded(n * width) for n in (STEM, HEAD))
        self.conv_stem = _conv(3, stem, 3, 2)
        self.bn1 = _norm(stem)
        self.act = nn.ReLU6(inplace=True)
        groups, channels = [], stem
        for place, stage in enumerate(STAGES):
            ends = place in (0, len(STAGES) - 1)
            repeats = stage.repeats if ends else math.ceil(stage.repeats * deeper)
            out = _rounded(stage.channels * wider * width)
            kind = InvertedResidual if stage.expand > 1 else SeparableBlock
            group = []
            for i in range(repeats):
                group.append(kind(channels, out, stage, stage.stride if i == 0 else 1))
                channels = out
            groups.append(nn.Sequential(*group))
        self.blocks = nn.Sequential(*groups)
        self.conv_head = _conv(channels, self.num_features)
        self.bn2 = _norm(self.num_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act(self.bn1(self.conv_stem(x))))
        return self.act(self.bn2(self.conv_head(x)))

    def residual_blocks(self) -> list[Block]:
        return [
            Block(place, stage, tuple(f"{place}.{name}" for name in block.branch))
            for stage, place, block in self._blocks()
            if block.has_shortcut
        ]

    def _blocks(self) -> Iterator[tuple[int, str, Any]]:
        """Stage, name and module of each block."""
        for stage, (name, group) in enumerate(self.blocks.named_children(), start=2):
            for number, block in group.named_children():
                yield stage, f"blocks.{name}.{number}", block

    def own_keys(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From the names that Google's networks have in PyTorch (``_blocks.0._bn1``) to timm's."""
        if "_conv_stem.weight" not in tensors:
            return dict(tensors)
        names = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
        names["_fc"] = "classifier"
        for number, (_, place, block) in enumerate(self._blocks()):
            for theirs, ours in block.googles.items():
                names[f"_blocks.{number}.{theirs}"] = f"{place}.{ours}"
        parts = {key: key.rpartition(".") for key in tensors}
        return {
            f"{names[layer]}.{name}" if layer in names else key: tensors[key]
            for key, (layer, _, name) in parts.items()
        }


for _number in SCALES:
    register_backbone(f"efficientnet_lite{_number}", EfficientNetLite, _number)
