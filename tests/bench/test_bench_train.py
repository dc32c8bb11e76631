from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from gtdnet.bench.result import text
from gtdnet.bench.train import SETTINGS, TrainBenchOptions, TrainStep, bench_train, plan
from gtdnet.data.dataset import Batch
from gtdnet.device import to_channels_last
from gtdnet.errors import InputError
from gtdnet.train.config import TrainConfig
from gtdnet.train.module import TrainingModule
from gtdnet.train.run import build_model

TINY: dict[str, Any] = {
    "models": ["gtdnet_resnet18"],
    "model_options": {"width": 0.125},
    "num_segments": "4",
    "crop_size": 32,
    "batch_sizes": "2",
    "device": "cpu",
    "threads": "1",
    "seconds": 0.3,
    "memory": False,
}


def tiny(**options: Any) -> TrainBenchOptions:
    return TrainBenchOptions(**{**TINY, **options})


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


def test_fp32_nchw_and_the_floor_are_always_there() -> None:
    cases = plan(tiny(settings="default"))
    assert [(str(c.network).partition("(")[0], c.setting) for c in cases] == [
        ("gtdnet_resnet18", "default"), ("tsn_resnet18", "default"),
        ("gtdnet_resnet18", "fp32-nchw"), ("tsn_resnet18", "fp32-nchw"),
    ]  # fmt: skip
    assert {c.base() for c in cases} | {c.floor() for c in cases} <= set(cases)


def test_settings_are_options_of_training() -> None:
    for changes in SETTINGS.values():
        TrainConfig(**changes)
    assert SETTINGS["default"] == {}


def test_a_bench_of_training_steps(tmp_path: Path, six_rounds: None) -> None:
    output = tmp_path / "train.yaml"
    result = bench_train(tiny(settings="default,plain", output=str(output), num_classes=7))
    assert yaml.safe_load(output.read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert result["bench"] == "train"
    assert result["command"].startswith("gtdnet bench train gtdnet_resnet18 ")
    assert result["settings"]["fp32-nchw"] == "fp32, NCHW"
    assert result["settings"]["plain"] == "fp32, NCHW, no fast path"
    assert len(result["cases"]) == 6
    for case in result["cases"]:
        own = case["setting"] == "fp32-nchw"
        assert (case["vs_fp32_nchw"]["ratio"] == 1) >= own
        assert (case["vs_floor"]["ratio"] == 1) >= case["model"].startswith("tsn")
        assert case["clips_per_second"] == pytest.approx(
            2000 / case["latency_ms"]["median"], rel=1e-2
        )
        assert case["memory"]["activations_mib"] > 0
    told = text(result)
    assert told.startswith(
        "The same for all: batch 2, 1 thread, 4 frames, 32x32 pixels. ms a step, p95 and clips/s "
        "are wall\ntime, / floor and x fp32-nchw CPU time.\n\nmodel "
    )
    assert "x fp32-nchw" in told
    assert "plain: fp32, NCHW, no fast path" in told.replace("\n", " ")


def test_a_setting_that_fails_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    result = bench_train(tiny(settings="compile", seconds=0.05))
    assert {c["setting"] for c in result["cases"]} == {"fp32-nchw"}
    assert {c["reason"] for c in result["left_out"]} == {"failed: RuntimeError: no compiler"}
    assert "- compile: failed: RuntimeError: no compiler" in text(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["tsn"]}, "unknown model 'tsn'"),
        ({"settings": "fast"}, "--settings: unknown 'fast'; choose of default, fp32-nchw"),
        ({"batch_sizes": "many"}, "--batch_sizes: expected whole numbers"),
        ({"crop_size": 16}, "crop_size must be at least 32, got 16"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"seconds": -1}, "seconds must be positive, got -1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        bench_train(tiny(**options))
    assert message in str(error.value)
