from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gtdnet.bench.result import text
from gtdnet.bench.train import SETTINGS, TrainBenchOptions, bench_train, plan
from gtdnet.errors import InputError
from gtdnet.train.config import TrainConfig

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
