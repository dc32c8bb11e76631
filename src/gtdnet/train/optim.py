"""What learns, and how fast: freezing, parameter groups, learning rates and schedules.

The groups are those of the TSN family (Wang et al., ECCV 2016; Lin et al., TSM, ICCV 2019): the
classifier learns faster, biases learn twice as fast, neither biases nor norms decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.optim import SGD, AdamW, Optimizer

from gtdnet.models.classifier import VideoClassifier
from gtdnet.train.config import OptimOptions
from gtdnet.weights.tensors import is_temporal

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def freeze(model: VideoClassifier, what: str) -> None:
    """Keep from learning: "none", "norms" (the 2D network's batch norms) or "backbone".

    A frozen batch norm keeps its statistics too.
    """
    if what == "none":
        return
    if what == "backbone":
        model.backbone.requires_grad_(False)
    for name, norm in model.backbone.named_modules():
        # Those of temporal modules may be new, with no statistics yet to keep.
        if isinstance(norm, _BatchNorm) and (what == "backbone" or not is_temporal(name)):
            # Lightning leaves each module in the mode it finds it in.
            norm.requires_grad_(False).eval()


def parameter_groups(
    model: VideoClassifier,
    lr: float,
    weight_decay: float,
    classifier_lr: float = 5.0,
    bias_lr: float = 2.0,
    temporal_lr: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for a PyTorch optimizer: weights, biases, norms, classifier weight and bias.

    Where ``temporal_lr`` is not 1, the first three come once more, for the temporal modules.
    Parameters that do not require a gradient are left out, and so are empty groups.
    """
    head = {id(p) for p in model.classifier.parameters()}
    norms = {
        id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)
    }
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


def scaled_lr(lr: float, lr_batch: int, total_batch: int) -> float:
    """The learning rate for ``total_batch`` clips a step, given that for ``lr_batch`` (0: as is).

    Goyal et al., "Accurate, Large Minibatch SGD", 2017: proportional to the batch.
    """
    return lr * total_batch / lr_batch if lr_batch else lr


def build_optimizer(options: OptimOptions, model: VideoClassifier, lr: float) -> Optimizer:
    """SGD with momentum or AdamW over :func:`parameter_groups`."""
    o = options
    groups = parameter_groups(model, lr, o.weight_decay, o.classifier_lr, o.bias_lr, o.temporal_lr)
    return AdamW(groups) if o.optimizer == "adamw" else SGD(groups, momentum=o.momentum)


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
