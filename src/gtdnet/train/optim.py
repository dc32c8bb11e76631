"""What learns, and how fast: freezing, parameter groups, learning rates and schedules.

The groups are those of the TSN family (Wang et al., ECCV 2016; Lin et al., TSM, ICCV 2019): the
classifier learns faster, biases learn twice as fast, neither biases nor norms decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.optim import SGD, AdamW, Optimizer

from gtdnet.errors import InputError
from gtdnet.models.backbones import Backbone
from gtdnet.models.classifier import VideoClassifier
from gtdnet.train.config import OptimOptions
from gtdnet.weights.fit import is_temporal

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def freeze(model: VideoClassifier, what: str, stages: int = 0) -> None:
    """Keep from learning: "none", "norms" (the 2D network's batch norms) or "backbone".

    A frozen batch norm keeps its statistics too.

    Args:
        stages: the backbone up to this stage does not learn either.

    Raises:
        ValueError: the backbone has no such stage, or does not say what its stages are; or there
            are no batch norms to freeze.
    """
    backbone = model.backbone
    if what == "norms":
        _batch_norms(model, "freeze=norms")
    if what == "backbone":
        backbone.requires_grad_(False)
    early = set(_up_to(backbone, stages)) if stages else set()
    for name, module in backbone.named_modules():
        if name in early:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        if isinstance(module, _BatchNorm) and (
            # Those of temporal modules may be new, with no statistics yet to keep.
            what == "backbone" or name in early or (what == "norms" and not is_temporal(name))
        ):
            # Lightning leaves each module in the mode it finds it in.
            module.requires_grad_(False).eval()


def set_norm_momentum(model: VideoClassifier, momentum: float) -> None:
    """Share of each batch in the running statistics of the 2D network's batch norms.

    Raises:
        ValueError: it has none.
    """
    for norm in _batch_norms(model, f"norm_momentum={momentum:g}"):
        norm.momentum = momentum


def _batch_norms(model: VideoClassifier, option: str) -> list[_BatchNorm]:
    """Those of the 2D network; InputError about the option if there are none."""
    modules = model.backbone.named_modules()
    norms = [m for n, m in modules if isinstance(m, _BatchNorm) and not is_temporal(n)]
    if not norms:
        raise InputError(
            f"{option}: {model.name or type(model.backbone).__name__} has no batch norms, and its "
            f"layer norms keep no statistics; leave the option out"
        )
    return norms


def _up_to(backbone: nn.Module, stage: int) -> Iterator[str]:
    """The modules that come before those of the next stage; InputError if there is no such one."""
    if not isinstance(backbone, Backbone):
        kind = type(backbone).__name__
        raise InputError(f"frozen_stages={stage}: {kind} does not say what its stages are; give 0")
    if stage > (last := backbone.stages[-1]):
        raise InputError(f"frozen_stages={stage}: the stages are 1 (the stem) to {last}")
    return backbone.modules_up_to(stage)


def parameter_groups(
    model: VideoClassifier,
    lr: float,
    weight_decay: float,
    classifier_lr: float = 5.0,
    bias_lr: float = 2.0,
    temporal_lr: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for a PyTorch optimizer: weights, biases, norms, classifier weight and bias.

    Where ``temporal_lr`` is not 1, the first three come once more, for the temporal modules. With
    the 2D network's norms go its factors of channels (layer scale) and what it holds beside its
    layers (class token, positions): none of them decays.
    Parameters that do not require a gradient are left out, and so are empty groups.
    """
    head = {id(p) for p in model.classifier.parameters()}
    norms = {
        id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)
    }
    norms |= {id(p) for p in _beside_layers(model.backbone)}
    recipe = {  # name: (factor on lr, whether it decays)
        "weights": (1.0, True),
        "biases": (bias_lr, False),
        "norms": (1.0, False),
        "temporal weights": (temporal_lr, True),
        "temporal biases": (temporal_lr * bias_lr, False),
        "temporal norms": (temporal_lr, False),
        "classifier weights": (classifier_lr, True),
        "classifier biases": (classifier_lr * bias_lr, False),
    }
    members: dict[str, list[nn.Parameter]] = {name: [] for name in recipe}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias = "bias" in name.rpartition(".")[2]  # LSTMs call theirs bias_ih_l0
        group = "norms" if id(parameter) in norms else "biases" if is_bias else "weights"
        if id(parameter) in head and group != "norms":
            group = f"classifier {group}"
        elif temporal_lr != 1 and is_temporal(name):
            group = f"temporal {group}"
        members[group].append(parameter)
    return [
        {
            "name": name,
            "params": members[name],
            "lr": lr * factor,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for name, (factor, decays) in recipe.items()
        if members[name]
    ]


def _beside_layers(backbone: nn.Module) -> Iterator[nn.Parameter]:
    """Factors of channels, and what belongs to the backbone itself."""
    yield from backbone.parameters(recurse=False)
    for name, module in backbone.named_modules():
        if not (is_temporal(name) or isinstance(module, (_ConvNd, nn.Linear))):
            for key, parameter in module.named_parameters(recurse=False):
                if "bias" not in key and sum(n > 1 for n in parameter.shape) <= 1:
                    yield parameter


def scaled_lr(lr: float, lr_batch: int, total_batch: int) -> float:
    """The learning rate for ``total_batch`` clips a step, given that for ``lr_batch`` (0: as is).

    Goyal et al., "Accurate, Large Minibatch SGD", 2017: proportional to the batch.
    """
    return lr * total_batch / lr_batch if lr_batch else lr


def build_optimizer(options: OptimOptions, model: VideoClassifier, lr: float) -> Optimizer:
    """SGD with momentum or AdamW over :func:`parameter_groups`."""
    factors = options.classifier_lr, options.bias_lr, options.temporal_lr
    groups = parameter_groups(model, lr, options.weight_decay, *factors)
    return AdamW(groups) if options.optimizer == "adamw" else SGD(groups, momentum=options.momentum)


def lr_factor(
    schedule: str,
    total_steps: int,
    warmup_steps: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> Callable[[int], float]:
    """Step number -> factor on the learning rate.

    "cosine" falls to 0 at ``total_steps``; "step" is multiplied by ``gamma`` at each milestone (in
    steps); "onecycle" rises from 1/25 along a cosine during the warm-up and falls along another to
    1/25,000 (Smith, "Super-convergence", 2018); all others rise linearly during theirs.
    """

    def cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2

    def factor(step: int) -> float:
        if step < warmup_steps:
            if schedule == "onecycle":
                return cosine(1 / 25, 1.0, step / warmup_steps)
            return (step + 1) / (warmup_steps + 1)
        share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        if schedule == "cosine":
            return cosine(1.0, 0.0, share)
        if schedule == "onecycle":
            return cosine(1.0, 1 / 25000, share)
        if schedule == "step":
            return gamma ** sum(step >= m for m in milestones)
        return 1.0

    return factor
