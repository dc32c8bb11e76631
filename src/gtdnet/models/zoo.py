"""Named models, each a few numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.resnet import DEPTHS, ResNet
from gtdnet.models.weights import BackboneWeights
from gtdnet.nn import GlobalTemporalDifference, TemporalShift, insert_temporal

STAGES = (2, 3, 4, 5)  # the papers' numbers of the four residual stages


def gtd_module(
    channels: int,
    num_segments: int,
    *,
    reduction: int = 4,
    aggregation: str = "mta",
    alpha: int = 2,
    fold_div: int = 8,
) -> nn.Module:
    """Temporal shift, then the global temporal difference block: what opens a GTDNet branch."""
    return nn.Sequential(
        OrderedDict(
            shift=TemporalShift(num_segments, fold_div),
            gtd=GlobalTemporalDifference(
                channels, num_segments, reduction, aggregation, alpha=alpha
            ),
        )
    )


def shift_module(channels: int, num_segments: int, *, fold_div: int = 8) -> nn.Module:
    """Temporal shift alone: what opens a TSM branch."""
    return TemporalShift(num_segments, fold_div)


@dataclass(frozen=True)
class Method:
    """A temporal method: what is put before each residual branch.

    Attributes:
        title: one line for lists.
        build: (channels, num_segments, **options) -> module, or None for a plain 2D network.
        options: the options it takes, with their defaults.
    """

    title: str
    build: Callable[..., nn.Module] | None
    options: Mapping[str, Any]


METHODS: dict[str, Method] = {
    "gtdnet": Method(
        "Global Temporal Difference Network (Xie et al., TMM 2022)",
        gtd_module,
        {"reduction": 4, "aggregation": "mta", "alpha": 2, "fold_div": 8},
    ),
    "tsm": Method("Temporal Shift Module (Lin et al., ICCV 2019)", shift_module, {"fold_div": 8}),
    "tsn": Method("Temporal Segment Networks (Wang et al., ECCV 2016)", None, {}),
}

COMMON_OPTIONS: Mapping[str, Any] = {"width": 1.0, "dropout": 0.5, "stages": STAGES}


def list_models() -> list[str]:
    """Names that :func:`create_model` knows, by method and depth."""
    return [f"{method}_resnet{depth}" for method in METHODS for depth in DEPTHS]


def model_options(name: str) -> dict[str, Any]:
    """The options of a named model with their defaults.

    Raises:
        ValueError: no model of that name.
    """
    method, _ = _parse(name)
    return {**COMMON_OPTIONS, **METHODS[method].options}


def create_model(
    name: str,
    num_classes: int,
    num_segments: int = 8,
    *,
    pretrained: str | Path | Mapping[str, Tensor] | None = None,
    init: str = "auto",
    **options: Any,
) -> VideoClassifier:
    """Build a named model: normalised clips [N, T, 3, H, W] -> logits [N, K].

    Args:
        name: one of :func:`list_models`.
        num_classes: K.
        num_segments: T.
        pretrained: weights of the backbone to start from: a state dict with torchvision's keys, or
            the path of a ``.safetensors`` or ``.pth`` file that holds one, or a model file of this
            package (loading never unpickles code). Trained temporal modules are taken over where
            this model has the same, interpolated to its T. The classifier stays new.
        init: "identity" makes a GTDNet start as exactly the function of the TSM network with the
            same weights and fold_div: its gates change nothing until they are trained. "default"
            is PyTorch's. "auto": identity if the pretrained weights have no temporal modules.
        options: see :func:`model_options`; of every model: width (channel multiplier), dropout,
            stages (which of the stages 2 to 5 get the temporal module).

    Raises:
        ValueError: unknown name or option, an option out of range, or weights that do not fit.
    """
    method_name, depth = _parse(name)
    method = METHODS[method_name]
    known = model_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known)}")
    chosen = {**known, **options}
    backbone = ResNet(depth, chosen["width"])
    model = VideoClassifier(
        backbone, backbone.num_features, num_classes, num_segments, chosen["dropout"]
    )
    stages = _check_stages(chosen["stages"])
    chosen["stages"] = list(stages)  # as JSON gives it back
    weights = None if pretrained is None else BackboneWeights.read(pretrained)
    if init == "auto":
        init = "identity" if weights and not weights.temporal else "default"
    if weights:
        weights.load_plain(backbone)
    if method.build is not None:
        build, arguments = method.build, {key: chosen[key] for key in method.options}
        insert_temporal(
            backbone,
            lambda channels: build(channels, num_segments, **arguments),
            sites=[f"layer{stage - 1}.*.conv1" for stage in stages],
            init=init,
        )
    elif init not in ("default", "identity"):
        raise InputError(f"unknown init {init!r}: choose 'auto', 'default' or 'identity'")
    if weights and init == "default":
        weights.load_temporal(backbone)
    model.name, model.options = name, chosen
    return model


def _parse(name: str) -> tuple[str, int]:
    method, _, rest = name.partition("_resnet")
    if method in METHODS and rest.isdecimal() and int(rest) in DEPTHS:
        return method, int(rest)
    raise InputError(f"unknown model {name!r}: choose one of {', '.join(list_models())}")


def _check_stages(stages: Any) -> tuple[int, ...]:
    chosen = tuple(stages)
    if not chosen or set(chosen) - set(STAGES) or len(set(chosen)) != len(chosen):
        raise InputError(f"stages must be different numbers out of 2, 3, 4, 5, got {list(chosen)}")
    return tuple(sorted(chosen))
