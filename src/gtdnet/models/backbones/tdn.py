"""TDN's backbone: a ResNet whose first two stages take in the differences within a segment.

Wang, Tong, Ji, Wu: "TDN: Temporal Difference Networks for Efficient Action Recognition",
CVPR 2021; the modules themselves are in :mod:`gtdnet.nn.tdn`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.models.backbones.base import Block
from gtdnet.models.backbones.resnet import ResNet
from gtdnet.nn.insert import insert_temporal
from gtdnet.nn.shift import TemporalConv1d
from gtdnet.nn.tdn import FRAMES, LongTermDifference, ShortTermDifference, published_appearance


class TDNResNet(ResNet):
    """Segments of five frames to one feature map each.

    [N*T*5, 3, H, W] -> [N*T, num_features, H/32, W/32]; made from a ResNet by :func:`insert_tdn`.

    Raises:
        ValueError: an input that is not whole segments.
    """

    temporal: ShortTermDifference

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] % FRAMES:
            raise InputError(
                f"expected segments of {FRAMES} frames side by side ([N*T*{FRAMES}, 3, H, W]), "
                f"got {x.shape[0]} frames"
            )
        segments = x.unflatten(0, (-1, FRAMES))  # [N*T, 5, 3, H, W]
        h_1, h_2 = self.temporal(segments)
        x = self.maxpool(self.relu(self.bn1(self.conv1(segments[:, FRAMES // 2]))))
        first, *later = (self.get_submodule(name) for name in self.layers)
        x = self.temporal.fuse(x, h_1)
        x = self.temporal.fuse(first(x), h_2)
        for stage in later:
            x = stage(x)
        return x


def insert_tdn(
    backbone: nn.Module,
    blocks: Sequence[Block],
    num_segments: int,
    init: str = "default",
    *,
    appearance: float | None = None,
    reduction: int = 16,
    fold_div: int = 8,
) -> None:
    """Make a TDN of a ResNet, in place.

    Args:
        backbone: the ResNet; the short-term difference starts from copies of its first weights.
        blocks: the residual blocks whose second convolution gets the long-term difference and the
            learned temporal shift.
        num_segments: T.
        init: no start is the 2D network's function, for half of stage 2 comes from differences.
        appearance: alpha of the fusion, which is no weight: starting from a TDN's weights, give
            theirs. None: the published one for this T
            (:func:`gtdnet.nn.tdn.published_appearance`).
        reduction: r of the long-term difference.
        fold_div: what the learned temporal shift starts from.

    Raises:
        ValueError: not a ResNet of this package, or an option out of range.
    """
    if type(backbone) is not ResNet:
        raise InputError(
            f"a TDN is made of a gtdnet.models.ResNet, not of a {type(backbone).__name__}"
        )
    if appearance is not None and not isinstance(appearance, (int, float)):
        raise InputError(f"appearance must be a number, got {appearance!r}")
    alpha = published_appearance(num_segments) if appearance is None else appearance
    short_term = ShortTermDifference(backbone.conv1, backbone.get_submodule("layer1"), alpha)
    insert_temporal(
        backbone,
        lambda channels: nn.Sequential(
            OrderedDict(
                difference=LongTermDifference(channels, num_segments, reduction),
                shift=TemporalConv1d(channels, num_segments, fold_div),
            )
        ),
        sites=[block.branch[1] for block in blocks],
    )
    backbone.__class__ = TDNResNet
    backbone.temporal = short_term
