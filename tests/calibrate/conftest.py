"""A model file of few numbers, and held-out clips of its classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtdnet.calibrate.options import CalibrateOptions
from gtdnet.data.spec import ClipSpec
from gtdnet.models import save_model

NAMES = ("dark", "dim", "grey", "light", "bright")


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 clips of 5 classes as folders of 4 pictures; what a clip's class is, is up to chance."""
    root = tmp_path_factory.mktemp("held_out")
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for number in range(30):
        clip = root / f"{number:02}"
        clip.mkdir()
        for frame in range(4):
            pixels = rng.integers(0, 50 * (number % 5) + 40, (36, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(clip / f"{frame}.png")
        lines.append(f"{number:02},{NAMES[number % 5]},val")
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return root / "clips.csv"


@pytest.fixture(scope="session")
def model(tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    spec = ClipSpec(class_names=NAMES, num_segments=4, short_side=36, crop_size=32)
    return save_model(path, tiny_model("gtdnet_resnet18"), spec, metrics={"val_top1": 0.5})


@pytest.fixture
def asked(model: Path, held_out: Path, tmp_path: Path) -> Callable[..., CalibrateOptions]:
    """Options on the held-out clips; keywords change them."""

    def make(**changes: Any) -> CalibrateOptions:
        values = {
            "model": str(model),
            "data": str(held_out),
            "num_workers": 0,
            "device": "cpu",
            "output": str(tmp_path / "calibrated.safetensors"),
        }
        return CalibrateOptions(**{**values, **changes})

    return make
