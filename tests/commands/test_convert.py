from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gtdnet.cli import main
from gtdnet.models import create_model


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as TSM's code writes it: ResNet-18, jester's 27 classes."""
    state = create_model("tsm_resnet18", 27).state_dict()
    path = tmp_path_factory.mktemp("official") / "ckpt.best.pth.tar"
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^backbone\.", "base_model.", key.replace("classifier.", "new_fc."))
        key = re.sub(r"(layer\d\.\d)\.conv1\.", r"\1.conv1.net.", key)
        renamed[f"module.{key}"] = value
    torch.save({"epoch": 45, "arch": "resnet18", "state_dict": renamed}, path)
    return path


def test_convert(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "tsm.safetensors"
    words = ["convert", str(official), "--to", str(model), "--classes", "jester"]
    assert main([*words, "--num-segments", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{model}: tsm_resnet18 (from temporal-shift-module), 27 classes, num_")
    assert "fold_div 8" in out
    assert out.endswith(f"use it with: gtdnet predict {model} VIDEO\n")
    clip = str(next(data.glob("val/*/*")))
    assert main(["predict", str(model), clip, "--device=cpu", "--json"]) == 0
    report = capsys.readouterr().out
    assert report.count("\n") == 1
    assert any(name in report for name in ("Swiping", "Thumb", "Hand", "gesture", "Fingers"))
    assert main([*words, "--overwrite", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["model"], result["depth"], result["num_classes"]) == ("tsm_resnet18", 18, 27)
    assert (result["path"], result["num_segments"]) == (str(model), 8)
    assert set(result) == {
        "path", "model", "source", "depth", "num_classes", "num_segments", "notes",
    }  # fmt: skip


def test_convert_refuses(official: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    model = tmp_path / "tsm.safetensors"
    message = fails("convert", official, "--to", model, "--classes", "kinetics400")
    assert message == (
        f"kinetics400: has 400 class names, but the classifier of {official} has 27 classes; "
        f"give the list it was trained with"
    )
    missing = fails("convert", tmp_path / "no.pth", "--to", model)
    assert missing == (
        f"{tmp_path}/no.pth: no such weights file; give the path of a .pth or .safetensors file"
    )
    assert "the following arguments are required: --to" in fails("convert", official)
    assert not any(tmp_path.iterdir())
    model.write_bytes(b"mine")
    assert "exists" in fails("convert", official, "--to", model)
    assert model.read_bytes() == b"mine"
