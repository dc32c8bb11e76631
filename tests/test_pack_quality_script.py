"""benchmarks/pack_quality.py, and the page of what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

import gtdnet
from gtdnet.data.formats import read_annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.models.model_file import save_model


@pytest.fixture(scope="module")
def quality(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("pack_quality")


def test_sizes_and_differences_of_two_qualities(
    quality: ModuleType,
    load_script: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("data"), format="folder", edition="easy", train=3, validation=2, size=40,
                  workers=1)  # fmt: skip
    names = read_annotations("data", "train").class_names
    model = gtdnet.create_model("gtdnet_resnet18", len(names), num_segments=4, width=0.125)
    save_model("model.safetensors", model, ClipSpec(names, 4, short_side=36, crop_size=32))
    words = [str(tmp_path / "data"), "--qualities", "40", "95", "--short_side", "36"]
    words += ["--model", "model.safetensors", "--results", "found/pack_quality.yaml"]
    assert quality.main(words) == 0
    found = yaml.safe_load(Path("found/pack_quality.yaml").read_text())
    assert found["command"] == (
        "python benchmarks/pack_quality.py data --qualities 40 95 --short_side 36 "
        "--model model.safetensors --results found/pack_quality.yaml"
    )
    low, high = found["packed"]
    assert (low["quality"], high["quality"]) == (40, 95)
    assert low["kB_per_frame"] < high["kB_per_frame"]
    assert low["psnr_db"] + 3 < high["psnr_db"] < 60
    assert low["mean_difference"] > high["mean_difference"] > 0
    assert {low["same_top1_percent"], high["same_top1_percent"]} <= {0.0, 33.3, 66.7, 100.0}
    page = load_script("results").page(Path("found"))
    assert "| data | 3 |" in page
    assert str(tmp_path) not in page


def test_differences_are_of_every_frame(
    quality: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = {"a": [np.full((4, 6, 3), v, np.uint8) for v in (10, 20)],
              "b": [np.full((4, 6, 3), v, np.uint8) for v in (13, 16)]}  # fmt: skip
    monkeypatch.setattr(quality, "iter_frames", lambda path: iter(frames[path]))
    record = quality.VideoRecord
    pair = (record("a", "a", 0), record("b", "b", 0))
    assert quality.differences([pair], 4) == (72 * (9 + 16), 72 * (3 + 4), 144)


def test_what_is_refused(
    quality: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"benchmarks/pack_quality.py: The dataset {tmp_path}/none does not exist; check the path.\n"
    )
