"""Lightning's trainer as a config wants it: on one device, or on those of all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from gtdnet.device import check_devices, resolve_device, resolve_precision
from gtdnet.processes import Group
from gtdnet.processes.place import Place
from gtdnet.train.callbacks import PlainFiles
from gtdnet.train.config import TrainConfig

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def resolve(config: TrainConfig) -> tuple[torch.device, str]:
    """Device and precision, once it is clear that there are as many devices as asked for."""
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    check_devices(config.device, device, config.devices)
    return device, precision


def make_trainer(
    config: TrainConfig,
    device: torch.device,
    precision: str,
    callbacks: Sequence[Callback],
    loggers: Any,
    group: Group,
) -> pl.Trainer:
    """One that trains on the device; in a group, as that one of its processes which this is."""
    several = group.size > 1
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index] if device.index is not None else config.devices,
        num_nodes=config.num_nodes,
        strategy=_strategy(config, group),
        precision=_LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]
        max_epochs=config.epochs,
        gradient_clip_val=config.clip_gradient or None,
        accumulate_grad_batches=config.accumulate,
        check_val_every_n_epoch=config.validate_every,
        callbacks=list(callbacks),
        logger=loggers,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=10,
        benchmark=device.type == "cuda",
        plugins=[PlainFiles(), *([_Started(group.place)] if several else [])],
    )


def _strategy(config: TrainConfig, group: Group) -> Any:
    if group.size == 1:
        return "auto"
    if config.strategy == "ddp":
        return "ddp"
    # FSDP2, which runs on CPUs too. Checkpoints hold the whole, as those of one process.
    return ModelParallelStrategy(
        data_parallel_size=group.size, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


class _Started(ClusterEnvironment):
    """Tells Lightning that all processes are there, and which one this is."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._place.address

    @property
    def main_port(self) -> int:
        return self._place.port

    @staticmethod
    def detect() -> bool:
        return False  # it is given, never looked for

    def world_size(self) -> int:
        return self._place.size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return self._place.node
