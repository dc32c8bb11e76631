"""Named models, each a few numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.models.backbones.res2net import Res2Net, insert_tea
from gtdnet.models.backbones.resnet import DEPTHS, ResNet
from gtdnet.models.backbones.tdn import insert_tdn
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn import (
    Action,
    GlobalTemporalDifference,
    TemporalAdaptiveModule,
    TemporalEnhancementInteraction,
    TemporalShift,
    insert_temporal,
)
from gtdnet.weights.find import find_weights
from gtdnet.weights.tensors import BackboneWeights

STAGES = (2, 3, 4, 5)  # the papers' numbers of the four residual stages


def gtd_module(
    channels: int,
    num_segments: int,
    *,
    reduction: int = 4,
    aggregation: str = "mta",
    alpha: int = 2,
    fold_div: int = 8,
    **variant: Any,
) -> nn.Module:
    """Temporal shift, then the global temporal difference block: what opens a GTDNet branch.

    ``fold_div`` 0 leaves the shift out; ``variant`` are further options of the block.
    """
    gtd = GlobalTemporalDifference(
        channels, num_segments, reduction, aggregation, alpha=alpha, **variant
    )
    if fold_div == 0:
        return nn.Sequential(OrderedDict(gtd=gtd))
    return nn.Sequential(OrderedDict(shift=TemporalShift(num_segments, fold_div), gtd=gtd))


def shift_module(channels: int, num_segments: int, *, fold_div: int = 8) -> nn.Module:
    """Temporal shift alone: what opens a TSM branch."""
    return TemporalShift(num_segments, fold_div)


class Insert(Protocol):
    """Makes a method's network of a 2D one, in place, its weights already loaded.

    ``blocks`` are the names of the residual blocks that take part ("layer2.0").
    """

    def __call__(
        self,
        backbone: nn.Module,
        blocks: Sequence[str],
        num_segments: int,
        init: str,
        **options: Any,
    ) -> None: ...


def before(conv: str, build: Callable[..., nn.Module]) -> Insert:
    """Put ``build(channels, num_segments, **options)`` before one convolution of every block."""

    def insert(
        backbone: nn.Module,
        blocks: Sequence[str],
        num_segments: int,
        init: str,
        **options: Any,
    ) -> None:
        insert_temporal(
            backbone,
            lambda channels: build(channels, num_segments, **options),
            sites=[f"{block}.{conv}" for block in blocks],
            init=init,
        )

    return insert


def insert_gtdnet(
    backbone: nn.Module,
    blocks: Sequence[str],
    num_segments: int,
    init: str,
    *,
    gtd_stages: Sequence[int] | None,
    **options: Any,
) -> None:
    """Put a GTDNet branch's opening into every block, outside ``gtd_stages`` its shift alone."""
    stages = STAGES if gtd_stages is None else _check_stages(gtd_stages, "gtd_stages")
    with_gtd = [b for b in blocks if _stage(b) in stages]
    if not with_gtd:
        raise InputError(
            f"gtd_stages={list(stages)}: none of them is among the stages of the network's "
            f"temporal modules"
        )
    before("conv1", gtd_module)(backbone, with_gtd, num_segments, init, **options)
    shift_alone = [b for b in blocks if b not in with_gtd]
    if shift_alone and options["fold_div"]:
        insert_shift = before("conv1", shift_module)
        insert_shift(backbone, shift_alone, num_segments, init, fold_div=options["fold_div"])


@dataclass(frozen=True)
class Method:
    """A temporal method: a 2D network, and what is put into it.

    Attributes:
        title: one line for lists.
        insert: puts the temporal modules in; None for a plain 2D network.
        options: the options ``insert`` takes, with their defaults.
        backbone: (depth, width) -> the 2D network.
        depths: those it comes in.
        stages: which of the stages 2 to 5 get the module unless told otherwise.
        frames_per_segment: neighbouring frames that make one segment of its input.
        identity: whether it can start at exactly what the network without its learned modules
            computes.
    """

    title: str
    insert: Insert | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    backbone: Callable[[int, float], ResNet] = ResNet
    depths: tuple[int, ...] = tuple(DEPTHS)
    stages: tuple[int, ...] = STAGES
    frames_per_segment: int = 1
    identity: bool = False


METHODS: dict[str, Method] = {
    "gtdnet": Method(
        "Global Temporal Difference Network (Xie et al., TMM 2022)",
        insert_gtdnet,
        {
            "reduction": 4,
            "aggregation": "mta",
            "alpha": 2,
            "fold_div": 8,
            # For ablations; docs/ablation.md.
            "attention": True,
            "gate": True,
            "difference": "global",
            "gtd_stages": None,
        },
        identity=True,
    ),
    "action": Method(
        "ACTION-Net (Wang et al., CVPR 2021)",
        before("conv1", Action),
        {"reduction": 16, "fold_div": 8},
    ),
    "tanet": Method(
        # The paper's are bottlenecks (50 and deeper); in 18 and 34 the module has the same place.
        "Temporal Adaptive Network (Liu et al., ICCV 2021)",
        before("conv2", TemporalAdaptiveModule),
        {"alpha": 2, "beta": 4},
    ),
    "tdn": Method(
        "Temporal Difference Networks (Wang et al., CVPR 2021)",
        # No start is the 2D network's function: half of stage 2 comes from the differences.
        lambda backbone, blocks, num_segments, init, **options: insert_tdn(
            backbone, blocks, num_segments, **options
        ),
        {"appearance": None, "reduction": 16, "fold_div": 8},
        stages=(3, 4, 5),
        frames_per_segment=5,
    ),
    "tea": Method(
        "Temporal Excitation and Aggregation (Li et al., CVPR 2020)",
        insert_tea,
        {"reduction": 16},
        backbone=Res2Net,
        depths=(50, 101),
    ),
    "teinet": Method(
        "Temporal Enhancement-and-Interaction Network (Liu et al., AAAI 2020)",
        before("conv1", TemporalEnhancementInteraction),
        {"reduction": 8, "fold_div": 8},
    ),
    "tsm": Method(
        "Temporal Shift Module (Lin et al., ICCV 2019)",
        before("conv1", shift_module),
        {"fold_div": 8},
        identity=True,
    ),
    "tsn": Method("Temporal Segment Networks (Wang et al., ECCV 2016)", identity=True),
}

COMMON_OPTIONS: Mapping[str, Any] = {"width": 1.0, "dropout": 0.5, "stages": STAGES, "every": 1}


def list_models() -> list[str]:
    """Names that :func:`create_model` knows, by method and depth."""
    return [f"{name}_resnet{depth}" for name, method in METHODS.items() for depth in method.depths]


def model_options(name: str) -> dict[str, Any]:
    """The options of a named model with their defaults.

    Raises:
        ValueError: no model of that name.
    """
    method, _ = parse_name(name)
    return {**COMMON_OPTIONS, "stages": method.stages, **method.options}


def frames_per_segment(name: str) -> int:
    """Neighbouring frames that make one segment of a named model's input.

    Raises:
        ValueError: no model of that name.
    """
    return parse_name(name)[0].frames_per_segment


def create_model(
    name: str,
    num_classes: int,
    num_segments: int = 8,
    *,
    pretrained: str | Path | Mapping[str, Tensor] | None = None,
    init: str = "auto",
    **options: Any,
) -> VideoClassifier:
    """Build a named model: normalised clips [N, T*f, 3, H, W] -> logits [N, K].

    f is 1 for all models but those that look at several neighbouring frames of each segment
    (:func:`frames_per_segment`).

    Args:
        name: one of :func:`list_models`.
        num_classes: K.
        num_segments: T.
        pretrained: weights of the backbone to start from: "imagenet" or "imagenet-v2" (published
            ones, downloaded once), hf://user/name (a model or a timm ResNet on the hub), a state
            dict with torchvision's keys, or the path of a ``.safetensors`` or ``.pth`` file that
            holds one, or a model file of this package (loading never unpickles code). Trained
            temporal modules among them are taken over, whatever ``init`` says, fitted to this T;
            they must be this model's (a network without learned ones, as TSM, leaves them out).
            The classifier stays new.
        init: of temporal modules that come with no weights. "identity" makes a GTDNet start as
            exactly the function of the TSM network with the same 2D weights and fold_div: its
            gates change nothing until they are trained; the peers cannot. "default": PyTorch's
            initial values, or those of the method's paper. "auto": identity for 2D weights where
            the method can, else default.
        options: see :func:`model_options`; of every model: width (channel multiplier), dropout,
            stages (which of the stages 2 to 5 get the temporal module), every (1: all their
            blocks; 2: every second one, as the published ResNet-101s of TSM and ACTION-Net).

    Raises:
        ValueError: unknown name or option, an option out of range, or weights that do not fit or
            cannot be downloaded.
    """
    method, depth = parse_name(name)
    known = model_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known)}")
    _check_kinds(name, known, options)
    chosen = {**known, **options}
    if init not in ("auto", "default", "identity"):
        raise InputError(f"unknown init {init!r}: choose 'auto', 'default' or 'identity'")
    if init == "identity" and not method.identity:
        raise InputError(
            f"{name} cannot start at identity; give init auto, for the start of its paper"
        )
    backbone = method.backbone(depth, chosen["width"])
    model = VideoClassifier(
        backbone,
        backbone.num_features,
        num_classes,
        num_segments,
        chosen["dropout"],
        frames_per_segment=method.frames_per_segment,
    )
    stages = _check_stages(chosen["stages"])
    chosen["stages"] = list(stages)  # as JSON gives it back
    blocks = _blocks(backbone, stages, chosen["every"])
    if isinstance(pretrained, (str, Path)):
        network = f"{type(backbone).__name__.lower()}{depth}"  # "resnet50", "res2net101"
        pretrained = find_weights(pretrained, network, chosen["width"])
    weights = None if pretrained is None else BackboneWeights.read(pretrained)
    if init == "auto":
        init = "identity" if weights and method.identity else "default"
    if weights:
        weights.load_plain(backbone)
    if method.insert is not None:
        arguments = {key: chosen[key] for key in method.options}
        method.insert(backbone, blocks, num_segments, init, **arguments)
    if weights:
        weights.load_temporal(backbone)
    model.name, model.options = name, chosen
    return model


_KINDS: dict[type, tuple[tuple[type, ...], str]] = {  # by the default's type: allowed, words
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}


def _check_kinds(name: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option of another type than its default."""
    for key, value in options.items():
        kinds, words = _KINDS.get(type(known[key]), ((object,), ""))
        is_kind = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if words and not is_kind:
            raise InputError(f"{name}: {key} must be {words}, got {value!r}")


def parse_name(name: str) -> tuple[Method, int]:
    """Method and depth of a named model.

    Raises:
        ValueError: no model of that name.
    """
    method, _, depth = name.partition("_resnet")
    if name in list_models():
        return METHODS[method], int(depth)
    raise InputError(f"unknown model {name!r}: choose one of {', '.join(list_models())}")


def _check_stages(stages: Any, option: str = "stages") -> tuple[int, ...]:
    chosen = tuple(stages) if isinstance(stages, (list, tuple)) else (stages,)
    if not chosen or set(chosen) - set(STAGES) or len(set(chosen)) != len(chosen):
        raise InputError(
            f"{option} must be different numbers out of 2, 3, 4, 5, got {list(chosen)}"
        )
    return tuple(sorted(chosen))


def _stage(block: str) -> int:
    """The stage that a block is in: 2 of "layer1.0"."""
    return int(block.partition(".")[0].removeprefix("layer")) + 1


def _blocks(backbone: nn.Module, stages: Sequence[int], every: int) -> list[str]:
    if every < 1:
        raise InputError(f"every must be at least 1, got {every}")
    return [
        f"layer{stage - 1}.{block}"
        for stage in stages
        for block in range(
            0, len(list(backbone.get_submodule(f"layer{stage - 1}").children())), every
        )
    ]
