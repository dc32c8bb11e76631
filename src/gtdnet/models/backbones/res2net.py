"""2D Res2Nets without their classifier, under the published state-dict keys; TEA is built on them.

Gao, Cheng, Zhao, Zhang, Yang, Torr: "Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021.
The form called 26w 4s: in place of a bottleneck's one 3x3 convolution, four splits of 26/64 of its
width, each but the last with a 3x3 convolution of its own that also sees the split before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.models.backbones.base import Block, register_backbone
from gtdnet.models.backbones.resnet import DEPTHS, Bottleneck, Layout, StagedNetwork
from gtdnet.nn.tea import TemporalExcitationAggregation

SPLITS = 4  # "4s"


class Res2NetBlock(nn.Module):
    """1x1, hierarchical 3x3, 1x1: [N, C, H, W] -> [N, 4*width, H/stride, W/stride].

    The block that opens a stage, the one with a projection, has no hierarchy: its splits pass by
    themselves, the last through an average pool.

    Attributes:
        temporal: what TEA adds, put in by :func:`insert_tea`; None in the 2D network.
    """

    expansion: ClassVar[int] = 4
    branch: ClassVar[tuple[str, ...]] = ("conv1", "convs.0", "convs.1", "convs.2", "conv3")

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        split = max(1, width * 26 // 64)  # "26w"
        self.conv1 = nn.Conv2d(channels, SPLITS * split, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(SPLITS * split)
        self.convs = nn.ModuleList(
            nn.Conv2d(split, split, 3, stride, 1, bias=False) for _ in range(SPLITS - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(split) for _ in range(SPLITS - 1))
        self.conv3 = nn.Conv2d(SPLITS * split, self.expansion * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)
        self.relu = nn.ReLU(inplace=True)
        if stride > 1 or channels != self.expansion * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, self.expansion * width, 1, stride, bias=False),
                nn.BatchNorm2d(self.expansion * width),
            )
            self.pool = nn.AvgPool2d(3, stride, 1)
        else:
            self.downsample = None
            self.pool = nn.Identity()
        self.temporal: TemporalExcitationAggregation | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        if self.temporal is not None:
            out = self.temporal.excitation(out)
        splits = out.chunk(SPLITS, dim=1)
        outs: list[Tensor] = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            hierarchical = i > 0 and self.downsample is None
            split = splits[i] + outs[-1] if hierarchical else splits[i]
            outs.append(self.relu(bn(conv(self._over_time(i, split)))))
        outs.append(self.pool(self._over_time(SPLITS - 1, splits[-1])))
        out = self.bn3(self.conv3(torch.cat(outs, dim=1)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)

    def _over_time(self, i: int, split: Tensor) -> Tensor:
        return split if self.temporal is None else self.temporal.aggregation[i](split)


class Res2Net(StagedNetwork):
    """The convolutional part of a Res2Net 26w 4s of depth 50, 101 or 152.

    See :class:`gtdnet.models.backbones.resnet.StagedNetwork`.
    """

    layouts: ClassVar[Mapping[int, Layout]] = {
        depth: (Res2NetBlock, counts)
        for depth, (block, counts) in DEPTHS.items()
        if block is Bottleneck
    }


for _depth in (50, 101):  # those published with ImageNet weights
    register_backbone(f"res2net{_depth}", Res2Net, _depth)


def insert_tea(
    backbone: nn.Module,
    blocks: Sequence[Block],
    num_segments: int,
    init: str,
    **options: Any,
) -> None:
    """Put TEA into these blocks of a :class:`Res2Net`, in place.

    It starts as the authors' code starts it, whatever ``init``: the excitation's gates are small
    and the last split of every block is shifted in time.

    Raises:
        ValueError: a block of another kind, or an option out of range.
    """
    for place in blocks:
        block = backbone.get_submodule(place.name)
        if not isinstance(block, Res2NetBlock):
            raise InputError(f"{place.name} is a {type(block).__name__}, TEA needs a Res2NetBlock")
        weight = block.conv1.weight
        block.temporal = TemporalExcitationAggregation(
            block.conv1.out_channels, num_segments, splits=SPLITS, **options
        ).to(weight.device, weight.dtype)
        block.temporal.train(block.training)
