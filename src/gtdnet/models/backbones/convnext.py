"""ConvNeXt without its classifier, under torchvision's state-dict keys.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: "A ConvNet for the 2020s", CVPR 2022. Its classifier sees
the pooled features through a layer norm, which belongs to this part: it comes with the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gtdnet.errors import check_positive
from gtdnet.models.backbones.base import Backbone, Block, register_backbone


class Size(NamedTuple):
    """Blocks and channels of the four stages."""

    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size((3, 3, 9, 3), (96, 192, 384, 768)),
        "small": Size((3, 3, 27, 3), (96, 192, 384, 768)),
        "base": Size((3, 3, 27, 3), (128, 256, 512, 1024)),
    }
)
"""By name (section 3 of the paper)."""

EPS = 1e-6  # of every layer norm
LAYER_SCALE = 1e-6  # what every branch is multiplied by at first


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every place: [N, C, H, W] -> [N, C, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """The axes in another order."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.axes))


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise, then 1x1 to four times the channels and back: [N, C, H, W] -> the same.

    The 1x1 convolutions are linear maps over the last axis of [N, H, W, C].
    """

    branch: ClassVar[tuple[str, ...]] = ("block.0", "block.3", "block.5")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=EPS),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * self.block(x)


class ConvNeXt(Backbone):
    """Tiny, small or base: [N, 3, H, W] -> pooled and normalised features [N, num_features].

    Args:
        size: one of ``sizes``.
        width: multiplies every channel number; 1 is the published network.

    Attributes:
        sizes: those there are.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"width": 1.0})
    sizes: ClassVar[Mapping[str, Size]] = SIZES

    def __init__(self, size: str, width: float = 1.0) -> None:
        super().__init__()
        check_positive(width=width)
        counts, published = self.sizes[size]
        channels = [max(8, round(c * width)) for c in published]
        self.num_features = channels[-1]
        # By turns a layer that lowers the resolution and a stage of blocks.
        parts = [_lowering(nn.Conv2d(3, channels[0], 4, stride=4))]
        for i, count in enumerate(counts):
            if i > 0:
                lower = nn.Conv2d(channels[i - 1], channels[i], 2, stride=2)
                parts.append(_lowering(lower, norm_first=True))
            parts.append(nn.Sequential(*(ConvNeXtBlock(channels[i]) for _ in range(count))))
        self.features = nn.Sequential(*parts)
        self.norm = nn.LayerNorm(self.num_features, eps=EPS)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.features(x).mean(dim=(2, 3)))

    def residual_blocks(self) -> list[Block]:
        return [
            Block(place, stage, tuple(f"{place}.{name}" for name in ConvNeXtBlock.branch))
            for part, stage in zip((1, 3, 5, 7), self.stages, strict=True)
            for place in (
                f"features.{part}.{number}" for number, _ in self.features[part].named_children()
            )
        ]

    def own_keys(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From the names of timm and of the authors' code to torchvision's."""
        own = {}
        for key, value in tensors.items():
            if key.startswith(("classifier.0.", "head.norm.")):
                key = "norm." + key.rpartition(".")[2]
            elif found := _BLOCK.fullmatch(key):
                stage, number, layer, rest = found.groups()
                key = f"features.{2 * int(stage) + 1}.{number}.{_OURS[layer]}{rest}"
                if layer == "gamma":
                    value = value.reshape(-1, 1, 1)
                elif value.ndim == 4 and layer not in _DEPTHWISE:  # linear maps as convolutions
                    value = value.flatten(1)
            elif found := _LOWERING.fullmatch(key):
                key = f"features.{2 * int(found[1] or found[2] or 0)}.{found[3]}"
            own[key] = value
        return own


def _lowering(conv: nn.Conv2d, norm_first: bool = False) -> nn.Sequential:
    """A convolution that lowers the resolution, and a norm on one side of it."""
    if norm_first:
        return nn.Sequential(ChannelNorm(conv.in_channels, eps=EPS), conv)
    return nn.Sequential(conv, ChannelNorm(conv.out_channels, eps=EPS))


_DEPTHWISE = ("conv_dw", "dwconv")
_OURS = {
    **{"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"},  # timm
    **{"dwconv": "block.0", "pwconv1": "block.3", "pwconv2": "block.5", "gamma": "layer_scale"},
}
_BLOCK = re.compile(
    rf"stages\.(\d+)\.(?:blocks\.)?(\d+)\.({'|'.join(map(re.escape, _OURS))})(\.\w+|)"
)
_LOWERING = re.compile(r"(?:stem|stages\.(\d+)\.downsample|downsample_layers\.(\d+))\.(.+)")

for _size in SIZES:
    register_backbone(f"convnext_{_size}", ConvNeXt, _size)
