"""benchmarks/gpu.py as far as it goes without a GPU, and the page of what it writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from gtdnet.bench import models, train
from gtdnet.bench.models import ModelBenchOptions
from gtdnet.bench.train import TrainBenchOptions

TINY: dict[str, Any] = {
    "models": ["gtdnet_resnet18"],
    "model_options": {"width": 0.125},
    "num_segments": "4",
    "crop_size": 32,
    "device": "cpu",
    "threads": "1",
    "seconds": 0.1,
    "memory": False,
}


@pytest.fixture(scope="module")
def gpu(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--quick", "--output", str(tmp_path / "gpu.yaml")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "benchmarks/gpu.py: PyTorch sees no CUDA device here; on a CPU use gtdnet bench\n"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("quick", [True, False])
def test_its_parts_hold_what_was_asked_for(gpu: ModuleType, quick: bool) -> None:
    inference: set[tuple[Any, ...]] = set()
    training: set[tuple[Any, ...]] = set()
    for part in gpu.parts(quick):
        assert 0 < part.share <= 1
        if isinstance(part.options, TrainBenchOptions):
            for case in train.plan(part.options):
                training.add((case.network.name, case.num_segments, case.setting))
        else:
            for case in models.plan(part.options)[0]:
                size = case.num_segments, case.batch_size
                inference.add((case.network.name, *size, case.engine, case.precision))
    for model in ("gtdnet_resnet50", "tsn_resnet50"):
        for frames, batch in ((8, 1), (8, 64), (16, 64)):
            for engine in ("eager", "compile"):
                assert (model, frames, batch, engine, "bf16") in inference
        assert (model, 8, 1, "eager-graph", "bf16") in inference
        assert {(model, 8, s) for s in ("default", "compile", "fp32-nchw")} <= training
    assert ("tsm_resnet50", 8, 64, "compile", "bf16") in inference
    assert quick or ("gtdnet_resnet50", 16, 1, "compile-graph", "bf16") in inference
    assert quick or ("gtdnet_resnet50", 16, "compile") in training


def test_parts_on_the_cpu(
    gpu: ModuleType,
    load_script: Callable[[str], ModuleType],
    tmp_path: Path,
    six_rounds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("peak.measured_peak", lambda precision, device, clock: 50.0)
    output = tmp_path / "results" / "gpu.yaml"
    inference = ModelBenchOptions(**TINY, engines="eager,eager-graph", precisions="fp32", profile=2)
    training = TrainBenchOptions(**TINY, batch_sizes="2", settings="default")
    plan = [
        gpu.Part("Inference", inference),
        gpu.Part("Training", training),
        gpu.Part("Too late", inference, share=0.0),
        gpu.Part("Elsewhere", replace(inference, models=["no_model"])),
    ]
    result = gpu.measure(plan, output, "python benchmarks/gpu.py --quick", minutes=60)
    assert yaml.safe_load(output.read_text(encoding="utf-8")) == result
    assert [part["title"] for part in result["parts"]] == ["Inference", "Training"]
    assert result["failed"]["Too late"] == "nothing can be timed here: no time was left"
    assert "unknown model 'no_model'" in result["failed"]["Elsewhere"]
    for case in result["parts"][0]["cases"]:
        assert case["share_of_peak"] == pytest.approx(case["gflops"] / 50, rel=1e-2)
    assert result["parts"][0]["peak_gflops"] == [{"precision": "fp32", "threads": 1, "gflops": 50}]
    page = load_script("results").page(output.parent)
    assert "The most GFLOP/s seen here, of large products and convolutions: 50 in fp32." in page
    assert "## On a GPU\n\n`python benchmarks/gpu.py --quick` (" in page
    assert re.search(r"^### Inference\n\n`gtdnet bench gtdnet_resnet18 ", page, re.MULTILINE)
    row = r"^\| gtdnet_resnet18\(width=0.125\) \| [\d.]+ .* [\d.]+ \[[\d.]+, [\d.]+\] \|$"
    assert re.search(row, page, re.MULTILINE)
    assert "minus its floor, by kind of operation (" in page.replace("\n", " ")
    assert re.search(r"^\| rest \|(?: *[-\d.]+ \|){3} -?\d+ % \|$", page, re.MULTILINE)
    assert "\n- eager-graph fp32 nchw: eager-graph needs a CUDA device" in page
    assert "\n- Too late: nothing can be timed here" in page
    assert max(map(len, re.findall(r"^(?![|`-]).*$", page, re.MULTILINE))) <= 100
