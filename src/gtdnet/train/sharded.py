"""Fully sharded training (FSDP): each process holds a part of weights and optimizer states.

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023. A
block's weights are fetched when it computes, and given up again. All processes must therefore
compute the same number of batches, be they of no clips.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gtdnet.errors import InputError
from gtdnet.train.config import TrainConfig


def check_sharded(config: TrainConfig, model: nn.Module, precision: str) -> None:
    """Raise InputError where the network or an option cannot be had with ``strategy=fsdp``."""
    reasons = {
        "several processes: --devices 2 or more, or torchrun": config.processes < 2,
        "no --ema: the mean of the weights would be whole in every process": config.ema,
        "no --compile": config.compile,
        "--precision bf16 or fp32": precision == "fp16",
        f"a network without batch norms, as the vision transformers; {config.model} has them": any(
            isinstance(module, _BatchNorm) for module in model.modules()
        ),
    }
    if reason := next((reason for reason, is_so in reasons.items() if is_so), None):
        raise InputError(f"--strategy fsdp takes {reason}; or leave it out, for ddp")


def shard(model: Any, mesh: Any) -> None:
    """Let each process of the mesh hold a part of a `VideoClassifier`, branch by branch."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(model, FSDPModule):
        return
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # those in channels_last cannot be cut
    for block in model.backbone.residual_blocks():
        fully_shard(model.backbone.get_submodule(block.name), mesh=mesh)
    fully_shard(model, mesh=mesh)
