"""Temporal methods: what each puts into a 2D network, and what it says of itself."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from gtdnet.errors import InputError
from gtdnet.models.backbones.base import Backbone, Block
from gtdnet.models.backbones.res2net import Res2Net, insert_tea
from gtdnet.models.backbones.resnet import ResNet
from gtdnet.models.backbones.tdn import insert_tdn
from gtdnet.nn import (
    Action,
    GlobalTemporalDifference,
    TemporalAdaptiveModule,
    TemporalEnhancementInteraction,
    TemporalShift,
    insert_temporal,
)
from gtdnet.nn.tdn import published_appearance

Options = Mapping[str, Any]


Insert = Callable[..., None]
"""(backbone, blocks, num_segments, init, **options): makes a method's network of a 2D one, in
place, its weights already loaded. ``blocks`` are the residual :class:`Block` s that take part,
``init`` is "default" or "identity"."""


@dataclass(frozen=True)
class Method:
    """A temporal method.

    Attributes:
        name: the first part of the models' names.
        title: one line for lists.
        insert: puts the temporal modules in; None for a plain 2D network.
        options: the options ``insert`` takes, with their defaults.
        lives_on: the class of backbones that it can be put into.
        also_called: by a backbone's name, the name in the model's that the paper gives to this
            method's form of it, where it is another.
        skipped_stages: how many of a backbone's first stages get no module unless told otherwise.
        frames_per_segment: neighbouring frames that make one segment of its input.
        identity: whether it can start at exactly what the network without its learned modules
            computes.
        exact_starts: the methods whose trained networks it can start at exactly, and the options
            that must be the same in both, beside those of the backbone.
        floor: the method whose network on the same backbone is what this one is made of, so that
            nothing can be faster.
        at_time: (options, trained T, wanted T) -> the options with which a network of the wanted T
            takes the weights of a trained one.
    """

    name: str
    title: str
    insert: Insert | None = None
    options: Options = field(default_factory=dict)
    lives_on: type[Backbone] = Backbone
    also_called: Mapping[str, str] = field(default_factory=dict)
    skipped_stages: int = 0
    frames_per_segment: int = 1
    identity: bool = False
    exact_starts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    floor: str = "tsn"
    at_time: Callable[[Options, int, int], Options] = lambda options, trained, wanted: options


METHODS: dict[str, Method] = {}
"""By name, in the order of registration."""


def register_method(method: Method) -> Method:
    """Make a method known: models METHOD_BACKBONE come to be, for the backbones it can live on.

    Raises:
        ValueError: another method has that name.
    """
    if METHODS.setdefault(method.name, method) is not method:
        raise InputError(f"there is a method {method.name!r} already; choose another name")
    return method


def before_layer(index: int, build: Callable[..., nn.Module]) -> Insert:
    """Put ``build(channels, num_segments, **options)`` before one layer of every branch."""

    def insert(
        backbone: nn.Module, blocks: Sequence[Block], num_segments: int, init: str, **options: Any
    ) -> None:
        insert_temporal(
            backbone,
            lambda channels: build(channels, num_segments, **options),
            sites=[block.branch[index] for block in blocks],
            init=init,
        )

    return insert


# ---------------------------------------------------------------------------------------- gtdnet


def gtd_module(
    channels: int,
    num_segments: int,
    *,
    reduction: int = 4,
    aggregation: str = "mta",
    alpha: int = 2,
    fold_div: int = 8,
    causal: bool = False,
    **variant: Any,
) -> nn.Module:
    """Temporal shift, then the global temporal difference block: what opens a GTDNet branch.

    ``fold_div`` 0 leaves the shift out; ``variant`` are further options of the block.
    """
    gtd = GlobalTemporalDifference(
        channels, num_segments, reduction, aggregation, alpha=alpha, causal=causal, **variant
    )
    if fold_div == 0:
        return nn.Sequential(OrderedDict(gtd=gtd))
    shift = shift_module(channels, num_segments, fold_div=fold_div, causal=causal)
    return nn.Sequential(OrderedDict(shift=shift, gtd=gtd))


def shift_module(
    channels: int, num_segments: int, *, fold_div: int = 8, causal: bool = False
) -> nn.Module:
    """Temporal shift alone: what opens a TSM branch."""
    return TemporalShift(num_segments, fold_div, causal=causal)


def insert_gtdnet(
    backbone: Backbone,
    blocks: Sequence[Block],
    num_segments: int,
    init: str,
    *,
    gtd_stages: Any = None,
    **options: Any,
) -> None:
    """Put a GTDNet branch's opening into every block, outside ``gtd_stages`` its shift alone."""
    stages = backbone.stages
    if gtd_stages is not None:
        stages = check_stages(gtd_stages, backbone.stages, "gtd_stages")
    with_gtd = [block for block in blocks if block.stage in stages]
    if not with_gtd:
        raise InputError(
            f"gtd_stages={list(stages)}: none of them is among the stages of the network's "
            f"temporal modules"
        )
    before_layer(0, gtd_module)(backbone, with_gtd, num_segments, init, **options)
    shift_alone = [block for block in blocks if block not in with_gtd]
    if shift_alone and options["fold_div"]:
        insert = before_layer(0, shift_module)
        of_shift = {key: options[key] for key in ("fold_div", "causal")}
        insert(backbone, shift_alone, num_segments, init, **of_shift)


def check_stages(stages: Any, known: Sequence[int], option: str = "stages") -> tuple[int, ...]:
    """The stages in order; ValueError unless they are different ones of those known."""
    chosen = tuple(stages) if isinstance(stages, (list, tuple)) else (stages,)
    whole = all(isinstance(stage, int) and not isinstance(stage, bool) for stage in chosen)
    if not (chosen and whole and set(chosen) <= set(known) and len(set(chosen)) == len(chosen)):
        raise InputError(
            f"{option} must be different numbers out of {', '.join(map(str, known))}, "
            f"got {list(chosen)}"
        )
    return tuple(sorted(chosen))


def _keep_hidden_units(options: Options, trained: int, wanted: int) -> Options:
    """A hidden layer of alpha*T units keeps at least those it has learned."""
    return {**options, "alpha": math.ceil(options["alpha"] * trained / wanted)}


def _keep_mta_units(options: Options, trained: int, wanted: int) -> Options:
    learns_time = options["aggregation"] == "mta" and options["gate"]
    if learns_time and options["difference"] == "global":
        return _keep_hidden_units(options, trained, wanted)
    return options


register_method(
    Method(
        "gtdnet",
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
            "order": 0,
            "cells": 1,
            "causal": False,  # docs/streaming.md
        },
        identity=True,
        exact_starts={"tsm": ("stages", "every", "fold_div", "causal")},
        at_time=_keep_mta_units,
    )
)

# ----------------------------------------------------------------------------------------- peers


def _keep_fusion(options: Options, trained: int, wanted: int) -> Options:
    """TDN's weights keep the share of appearance that they were trained with."""
    if options["appearance"] is None and trained != wanted:
        return {**options, "appearance": published_appearance(trained)}
    return options


register_method(
    Method(
        "action",
        "ACTION-Net (Wang et al., CVPR 2021)",
        before_layer(0, Action),
        {"reduction": 16, "fold_div": 8},
        lives_on=ResNet,
    )
)
register_method(
    Method(
        # The paper's are bottlenecks (50 and deeper); in 18 and 34 the module has the same place.
        "tanet",
        "Temporal Adaptive Network (Liu et al., ICCV 2021)",
        before_layer(1, TemporalAdaptiveModule),
        {"alpha": 2, "beta": 4},
        lives_on=ResNet,
        at_time=_keep_hidden_units,
    )
)
register_method(
    Method(
        "tdn",
        "Temporal Difference Networks (Wang et al., CVPR 2021)",
        insert_tdn,
        {"appearance": None, "reduction": 16, "fold_div": 8},
        lives_on=ResNet,
        skipped_stages=1,
        frames_per_segment=5,
        at_time=_keep_fusion,
    )
)
register_method(
    Method(
        "tea",
        "Temporal Excitation and Aggregation (Li et al., CVPR 2020)",
        insert_tea,
        {"reduction": 16},
        lives_on=Res2Net,
        also_called=MappingProxyType({"res2net50": "resnet50", "res2net101": "resnet101"}),
    )
)
register_method(
    Method(
        "teinet",
        "Temporal Enhancement-and-Interaction Network (Liu et al., AAAI 2020)",
        before_layer(0, TemporalEnhancementInteraction),
        {"reduction": 8, "fold_div": 8},
        lives_on=ResNet,
    )
)
register_method(
    Method(
        "tsm",
        "Temporal Shift Module (Lin et al., ICCV 2019)",
        before_layer(0, shift_module),
        {"fold_div": 8, "causal": False},
        identity=True,
    )
)
register_method(Method("tsn", "Temporal Segment Networks (Wang et al., ECCV 2016)", identity=True))
