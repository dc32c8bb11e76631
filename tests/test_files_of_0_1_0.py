"""What version 0.1.0 wrote is read, and answers as it did (tests/files/make_0_1_0.py made it)."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gtdnet
from gtdnet.cli import main
from gtdnet.data.decode import read_frames
from gtdnet.data.formats import read_annotations
from gtdnet.models import load_model

FILES = Path(__file__).parent / "files"
LABELS = (
    "gtdnet", "gtdnet-lstm", "gtdnet-bilstm", "gtdnet-local", "gtdnet-avg",
    "action", "tanet", "tdn", "tea", "teinet", "tsm", "tsn",
)  # fmt: skip


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("0.1.0")
    with tarfile.open(FILES / "version-0.1.0.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(old: Path) -> dict[str, Any]:
    return json.loads((old / "expected.json").read_text(encoding="utf-8"))


def pattern(n: int, frames: int, side: int = 32) -> Tensor:
    """The clips of make_0_1_0.py: uint8 [n, frames, 3, side, side]."""
    i = torch.arange(n * frames * 3 * side * side)
    return (i * 37 % 251 * (i // 1009 % 7) % 256).to(torch.uint8).view(n, frames, 3, side, side)


def logits(path: Path, num_segments: int | None = None) -> Tensor:
    model = load_model(path, num_segments=num_segments).model
    clip = pattern(2, model.num_segments * model.frames_per_segment) / 127.5 - 1
    with torch.no_grad():
        return model(clip)


@pytest.mark.parametrize("label", LABELS)
def test_model_files(label: str, old: Path, expected: dict[str, Any]) -> None:
    path = old / f"models/{label}.safetensors"
    wanted = torch.tensor(expected["logits"][label])
    torch.testing.assert_close(logits(path), wanted, rtol=1e-4, atol=1e-5)
    longer = torch.tensor(expected["logits_at_8"][label])
    torch.testing.assert_close(logits(path, 8), longer, rtol=1e-4, atol=1e-5)


def test_a_finished_run(old: Path, expected: dict[str, Any]) -> None:
    wanted = torch.tensor(expected["logits"]["run"])
    found = logits(old / "run/model.safetensors")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_stopped_run_goes_on(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(old)
    assert main(["train", "--resume", "stopped"]) == 0
    assert "continuing at epoch 2, batch 1" in capsys.readouterr().err
    columns = ("epoch", "step", "train_loss", "val_loss", "val_top1")
    tables = []
    for run in ("run", "stopped"):
        table = np.genfromtxt(f"{run}/metrics.csv", delimiter=",", names=True)
        tables.append(np.stack([table[name] for name in columns]))
    np.testing.assert_allclose(*tables, rtol=1e-4)


def test_packs_manifests_and_evaluations(
    old: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for split, number in (("train", 12), ("validation", 6)):
        original = read_annotations(old / "data", split)
        for other in (old / "pack", old / "data/good.json"):
            found = read_annotations(other, split)
            assert len(found.records) == number
            assert found.class_names == original.class_names
            ids = {record.id: record for record in found.records}
            assert {r.id: r.label for r in original.records} == {
                id: record.label for id, record in ids.items()
            }
        clip, frames = read_frames(found.records[0].path, lambda n: np.arange(4))
        assert clip.shape[:2] == (4, 3) and frames >= 4
    again = tmp_path / "evaluation"
    arguments = (
        f"--data {old}/pack --clips 2 --crops 3 --output {again} --device cpu --num_workers 0"
    )
    assert main(["evaluate", f"{old}/run/model.safetensors", *arguments.split()]) == 0
    metrics = json.loads((again / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["top1"] == expected["evaluation"]["top1"]
    assert main(["ensemble", f"{old}/evaluation", str(again), "--output", f"{tmp_path}/both"]) == 0
    page = tmp_path / "page.html"
    assert main(["report", f"{old}/run", "--output", str(page)]) == 0
    assert "gtdnet_resnet18" in page.read_text(encoding="utf-8")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("file", "package"), [("model.onnx", "onnxruntime"), ("model.xml", "openvino")]
)
def test_exports(file: str, package: str, old: Path) -> None:
    pytest.importorskip(package)
    clips = pattern(2, 4)
    exported = gtdnet.load(old / "exported" / file)
    own = gtdnet.load(old / "run/model.safetensors", device="cpu")
    torch.testing.assert_close(exported.engine(clips), own.engine(clips), rtol=1e-3, atol=1e-4)
