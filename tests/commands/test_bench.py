from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gtdnet.bench.data import DataBenchOptions
from gtdnet.bench.models import ModelBenchOptions
from gtdnet.bench.train import TrainBenchOptions
from gtdnet.cli import main

TINY = [
    "gtdnet_resnet18", "--model_options.width", "0.125", "--num-segments", "4", "--crop-size=32",
    "--device=cpu", "--threads", "1", "--seconds", "0.1", "--memory", "false",
]  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that reach each bench, in its place."""
    found: dict[str, Any] = {}
    for name in ("models", "data", "train"):

        def note(options: object, name: str = name) -> dict[str, Any]:
            found[name] = options
            return {}

        monkeypatch.setattr(f"gtdnet.bench.{name}.bench_{name}", note)
    monkeypatch.setattr("gtdnet.bench.result.text", lambda result: "told")
    return found


def test_defaults_on_the_command_line_are_those_of_the_options(seen: dict[str, Any]) -> None:
    assert main(["bench"]) == 0
    assert main(["bench", "train"]) == 0
    assert main(["bench", "data", "one"]) == 0
    assert seen == {
        "models": ModelBenchOptions(),
        "train": TrainBenchOptions(),
        "data": DataBenchOptions(data=["one"]),
    }


def test_options_on_the_command_line(seen: dict[str, Any]) -> None:
    words = "bench gtdnet_resnet18 tsm_resnet18 --engines torch,openvino --threads 1,2"
    assert main([*words.split(), "--model_options.width", "0.5", "--overwrite"]) == 0
    assert seen["models"] == ModelBenchOptions(
        models=["gtdnet_resnet18", "tsm_resnet18"],
        engines="torch,openvino",
        threads="1,2",
        model_options={"width": 0.5},
        overwrite=True,
    )
    assert main(["bench", "--engines", "torch", "--memory", "false", "tsm_resnet18"]) == 0
    assert seen["models"] == ModelBenchOptions(["tsm_resnet18"], engines="torch", memory=False)
    assert main(["bench", "data", "--views", "train", "one", "two", "--num-workers", "2"]) == 0
    assert seen["data"] == DataBenchOptions(data=["one", "two"], views="train", num_workers=2)
    assert (
        main(["bench", "train", "tsm_resnet18", "--settings", "compile", "--batch_sizes", "2,4"])
        == 0
    )
    assert seen["train"] == TrainBenchOptions(
        ["tsm_resnet18"], settings="compile", batch_sizes="2,4"
    )


@pytest.mark.parametrize(
    ("words", "who", "message"),
    [
        ("bench resnet50", "gtdnet bench", "unknown model 'resnet50'"),
        (
            "bench --engines cuda",
            "gtdnet bench",
            "--engines: unknown 'cuda'; choose of auto, torch",
        ),
        ("bench --seconds soon", "gtdnet bench", "--seconds: expected a number, got 'soon'"),
        ("bench --fast", "gtdnet bench", "--fast"),
        ("bench data", "gtdnet bench data", "the following arguments are required: data"),
        ("bench data no/such", "gtdnet bench data", "The dataset no/such does not exist"),
        ("bench train --settings all", "gtdnet bench train", "--settings: unknown 'all'"),
        ("bench train --output x.csv", "gtdnet bench train", "give a name that ends in .yaml"),
    ],
)
def test_bad_options_are_one_sentence(
    words: str, who: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{who}: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_bench_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "speed.yaml"
    words = ["bench", *TINY, "--engines", "eager", "--precisions", "fp32", "--output", str(output)]
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["bench"] == "models"
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith("The same for all: engine eager, fp32, nchw, batch 1")
