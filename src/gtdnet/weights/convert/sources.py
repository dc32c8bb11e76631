"""The kinds of checkpoint that are recognised: all there is to know of a project stands here.

A kind is one entry of ``KINDS``: what tells it, and the renamings from its keys to this package's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Renaming = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """A kind of checkpoint that can be converted.

    Attributes:
        name: of the project.
        method: what the network is in this package.
        mark: regular expression that some key matches in such a file and in no other. Its group, if
            it has one, names a residual block with a temporal module.
        rename: (regular expression, replacement), one after the other, from its keys to ours.
        backbone: name of its backbones here, before the depth.
        drop: regular expression of the keys that the network does not use.
        fold_biases: whether its convolutions have biases, which ours leave to the batch norms.
        pixels: name before ".mean" and ".std", where the file may tell them, for RGB in [0, 255].
        over_time: regular expression of our keys whose last axis has T entries.
        num_segments: T where the file does not tell.
        untold: options of the model that the file does not tell, and what is taken.
        dense_frames: frames that its dense clips are spread over.
        spec: how its test protocol differs from ClipSpec's defaults.
    """

    name: str
    method: str
    mark: str
    rename: Renaming
    backbone: str = "resnet"
    drop: str = r"(?!)"
    fold_biases: bool = False
    pixels: str = ""
    over_time: str = r"(?!)"
    num_segments: int = 8
    untold: Mapping[str, Any] = field(default_factory=dict)
    dense_frames: int = 64
    spec: Mapping[str, Any] = field(default_factory=dict)

    def our_key(self, key: str) -> str:
        """What this package calls one of the project's keys."""
        for pattern, replacement in self.rename:
            key = re.sub(pattern, replacement, key)
        return key


@dataclass(frozen=True)
class Unsupported:
    """What is recognised, but has no equal here: ``mark`` as of a source, and what it is."""

    mark: str
    what: str
    why: str = "which cannot be converted"


# Where dropout was 0, TSN's code leaves the classifier where the 2D network has it.
_TSN: Renaming = (
    (r"^(?:new_fc|base_model\.fc)\.", "classifier."),
    (r"^base_model\.", "backbone."),
)
_TSM: Renaming = (*_TSN, (r"\.conv1\.net\.", ".conv1."))
_ACTION: Renaming = (
    *_TSM,
    (r"\.action_shift\.", ".temporal.shift."),
    (r"\.action_p1_conv1\.", ".temporal.spatio_temporal.conv."),
    (r"\.action_p2_(squeeze|expand)\.", r".temporal.channel.\1."),
    (r"\.action_p2_conv1\.", ".temporal.channel.conv."),
    (r"\.action_p3_(squeeze|expand)\.", r".temporal.motion.\1."),
    (r"\.action_p3_(bn|conv)1\.", r".temporal.motion.\1."),
)
_TEA: Renaming = (
    *_TSN,
    (r"\.me\.", ".temporal.excitation."),
    (r"\.shifts\.(\d)\.conv\.", r".temporal.aggregation.\1."),
)
_TDN: Renaming = (
    *_TSN,
    (r"\.(layer\d)_bak\.", r".\1."),
    (r"\.mse\.", ".conv2.temporal.difference."),
    (r"\.shift\.conv\.", ".conv2.temporal.shift."),
    (r"\.conv1_5\.0\.", ".temporal.conv."),
    (r"\.conv1_5\.1\.", ".temporal.bn."),
    (r"\.resnext_layer1\.", ".temporal.layer1."),
)
_TAM: Renaming = (
    (r"\.tam\.G\.0\.", ".conv2.temporal.adaptive.spread."),
    (r"\.tam\.G\.1\.", ".conv2.temporal.adaptive.norm."),
    (r"\.tam\.G\.3\.", ".conv2.temporal.adaptive.collect."),
    (r"\.tam\.L\.0\.", ".conv2.temporal.local.squeeze."),
    (r"\.tam\.L\.1\.", ".conv2.temporal.local.norm."),
    (r"\.tam\.L\.3\.", ".conv2.temporal.local.expand."),
)
_TANET: Renaming = (*_TSN, (r"(layer\d\.\d+)\.net\.", r"\1."), *_TAM)
_MMACTION: Renaming = (
    (r"^cls_head\.fc_cls\.", "classifier."),
    (r"\.block\.", "."),
    *_TAM,
    (r"\.conv1\.conv\.net\.", ".conv1."),
    (r"\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
)
_IMAGE: Renaming = ((r"^fc\.", "classifier."), (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."))

_TAM_OVER_TIME = r"\.temporal\.adaptive\.spread\.weight$"
_TSM_UNTOLD = {"fold_div": 8}
_OPENCV = {"antialias": False}


def _mmaction(method: str, mark: str, **more: Any) -> Source:
    pixels = "data_preprocessor"
    return Source("mmaction2", method, mark, _MMACTION, pixels=pixels, spec=_OPENCV, **more)


KINDS: tuple[Source | Unsupported, ...] = (  # the first whose mark a key matches
    Unsupported(r"\.(?:nl|non_local_block)\.", "a network with non-local blocks"),
    Unsupported(r"(?:^|\.)inception_\w+\.", "a BN-Inception network"),
    Unsupported(r"(?:^|\.)features\.\d|layer\d\.\d+\.conv\.\d", "a MobileNet or a DenseNet"),
    Source(
        "temporal-adaptive-module",
        "tanet",
        r"^base_model\.(layer\d\.\d+)\.tam\.G\.0\.weight$",
        _TANET,
        over_time=_TAM_OVER_TIME,
    ),
    Unsupported(r"layer\d\.\d+\.net\.", "a network that shifts the shortcuts too (place 'block')"),
    Unsupported(r"layer\d\.net\.", "a network that pools over time"),
    Unsupported(r"(?:^|\.)conv1\.\d\.weight$", "a ResNet with a deep stem (as resnet50d)"),
    Unsupported(r"\.(?:se|eca)\.", "a ResNet with channel attention"),
    Source(
        "tea-action-recognition",
        "tea",
        r"(layer\d\.\d+)\.me\.conv1\.weight$",
        _TEA,
        backbone="res2net",
    ),
    Unsupported(r"layer1\.0\.convs\.0\.", "a Res2Net without temporal modules"),
    Source("ACTION-Net", "action", r"(layer\d\.\d+)\.conv1\.action_shift\.weight$", _ACTION),
    Source(
        "TDN",
        "tdn",
        r"\.layer1_bak\.",
        _TDN,
        drop=r"^base_model\.conv1_temp1?\.",
        fold_biases=True,
    ),
    _mmaction("tanet", r"^backbone\.(layer\d\.\d+)\.tam\.G\.0\.weight$", over_time=_TAM_OVER_TIME),
    _mmaction("tsm", r"^backbone\.(layer\d\.\d+)\.conv1\.conv\.net\.weight$", untold=_TSM_UNTOLD),
    _mmaction("tsn", r"^cls_head\.fc_cls\.(?:weight|bias)$"),
    Unsupported(
        r"^(?:model\.)?backbone\.conv1\.weight$",
        "a network of this package",
        "which needs no conversion: the model file is its run's model.safetensors",
    ),
    Source(
        "temporal-shift-module",
        "tsm",
        r"^base_model\.(layer\d\.\d+)\.conv1\.net\.",
        _TSM,
        untold=_TSM_UNTOLD,
    ),
    Source("temporal-shift-module", "tsn", r"^base_model\.layer\d\.\d+\.conv1\.weight$", _TSN),
    Source("torchvision or timm", "tsn", r"^layer\d\.\d+\.conv1\.weight$", _IMAGE, num_segments=1),
)
