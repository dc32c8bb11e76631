"""What fully sharded training takes, and that all of its processes compute as many batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gtdnet.data.dataset import EvalClips, TrainClips
from gtdnet.data.formats import VideoRecord
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import ClipLoaders
from gtdnet.train.sharded import check_sharded


@pytest.mark.parametrize(
    ("options", "model", "precision", "reason"),
    [
        ({"devices": 1}, nn.Linear(2, 2), "fp32", "several processes: --devices 2 or more"),
        ({"ema": 0.9}, nn.Linear(2, 2), "fp32", "no --ema"),
        ({"compile": True}, nn.Linear(2, 2), "fp32", "no --compile"),
        ({}, nn.Linear(2, 2), "fp16", "--precision bf16 or fp32"),
        ({}, nn.BatchNorm2d(2), "fp32", "a network without batch norms"),
    ],
)
def test_what_cannot_be_sharded(
    tiny: Callable[..., TrainConfig],
    tmp_path: Path,
    options: dict[str, Any],
    model: nn.Module,
    precision: str,
    reason: str,
) -> None:
    config = tiny(tmp_path, **{"strategy": "fsdp", "devices": 2, **options})
    with pytest.raises(InputError, match=f"^--strategy fsdp takes {reason}"):
        check_sharded(config, model, precision)
    check_sharded(tiny(tmp_path, strategy="fsdp", devices=2), nn.Linear(2, 2), "bf16")


@pytest.mark.parametrize("number", range(1, 10))
def test_all_processes_have_as_many_validation_batches(number: int) -> None:
    spec = ClipSpec(("a",), num_segments=2, short_side=4, crop_size=4)
    clips = tuple(VideoRecord(str(i), "x", 0) for i in range(number))
    batches = []
    for rank in range(2):
        made = ClipLoaders(
            TrainClips(clips, spec), EvalClips(clips, spec), batch_size=2, num_workers=0, even=True
        )
        made.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        loader: Any = made.val_dataloader()
        batches.append(list(loader.batch_sampler))
    assert len(batches[0]) == len(batches[1])
    assert sorted(i for each in batches for batch in each for i in batch) == list(range(number))


def test_a_vision_transformer_takes_no_clips(tiny_model: Callable[..., nn.Module]) -> None:
    """As a process gives it that has none left while others have."""
    assert tiny_model("tsm_vit_small14")(torch.zeros(0, 4, 3, 28, 28)).shape == (0, 5)
