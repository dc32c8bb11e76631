from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from gtdnet.data.dataset import Batch
from gtdnet.device import to_channels_last
from gtdnet.train.config import TrainConfig
from gtdnet.train.module import TrainingModule
from gtdnet.train.ready import build_model
from gtdnet.train.step import TrainStep


@pytest.mark.filterwarnings("ignore::UserWarning:lightning.*", "ignore::FutureWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_that_of_gtdnet_train(precision: str) -> None:
    """Lightning's trainer, given the same batch, comes to the same weights."""
    config = TrainConfig(
        model="gtdnet_resnet18",
        model_options={"width": 0.125},
        num_segments=4,
        short_side=32,
        crop_size=32,
        batch_size=2,
        lr=0.5,
        clip_gradient=0.5,
        precision=precision,
        device="cpu",
        epochs=1,
    )
    step = TrainStep(config, num_classes=5)
    torch.manual_seed(config.seed)
    model, spec, _ = build_model(config, step.module.spec)
    to_channels_last(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    module = TrainingModule(model, spec, config, step.module.lr)
    loader = DataLoader(_One(step.batch), batch_size=None)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_epochs=1,
        gradient_clip_val=config.clip_gradient,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module.sum_up_training = lambda: None  # type: ignore[method-assign]
    trainer.fit(module, loader)
    step()
    assert step.steps == trainer.global_step == 1
    for name, value in step.module.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-5, atol=1e-6)
    moved = [(value - before[name]).abs().max() for name, value in model.named_parameters()]
    assert max(moved) > 1e-3


class _One(torch.utils.data.IterableDataset[Batch]):
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch])

    def __len__(self) -> int:
        return 1
