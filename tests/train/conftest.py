"""A dataset of a dozen small clips and the smallest run that trains on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gtdnet.data.synthetic import write_dataset
from gtdnet.train.config import TrainConfig


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 training clips (four batches of 3, one clip over) and 5 validation clips."""
    root = tmp_path_factory.mktemp("data") / "easy"
    write_dataset(root, format="folder", edition="easy", train=13, validation=5, size=36, workers=1)
    return root


@pytest.fixture(scope="session")
def tiny(dataset: Path) -> Callable[..., TrainConfig]:
    """A config of 2 epochs of 4 steps on the dataset; keywords change options."""

    def make(output: Path, **options: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "data": str(dataset),
            "output": str(output),
            "name": "run",
            "seed": 3,
            "model": "gtdnet_resnet18",
            "model_options": {"width": 0.125},
            "num_segments": 4,
            "short_side": 36,
            "crop_size": 32,
            "brightness": 0.1,
            "epochs": 2,
            "batch_size": 3,
            "num_workers": 0,
            "lr": 0.02,
            "lr_batch": 0,
            "warmup_epochs": 0.5,
            "device": "cpu",
            "precision": "fp32",
        }
        return TrainConfig(**{**values, **options})

    return make
