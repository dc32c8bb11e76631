from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gtdnet.train.choice import MANY, Situation, choose, fill_in, may_choose, situation
from gtdnet.train.config import TrainConfig
from gtdnet.weights.published import is_installed

LITE, R18, R50 = "gtdnet_efficientnet_lite0", "gtdnet_resnet18", "gtdnet_resnet50"


@pytest.mark.parametrize(
    ("clips", "gpu", "lite", "chosen"),
    [
        # model, crop size, optimiser, rate, epochs, frozen stages, norm momentum
        (100, False, True, (LITE, 160, "adamw", 1e-3, 30, 3, 0.1)),
        (600, False, True, (LITE, 160, "adamw", 1e-3, 10, 3, 0.1)),
        (50_000, False, True, (LITE, 160, "adamw", 1e-3, 6, 3, 0.1)),
        (None, False, True, (LITE, 160, "adamw", 1e-3, 10, 3, 0.1)),
        (100, False, False, (R18, 160, "adamw", 3e-4, 30, 3, 0.1)),
        (100, True, True, (R50, 224, "adamw", 3e-4, 50, 3, 0.1)),
        (1000, True, False, (R50, 224, "adamw", 3e-4, 20, 3, 0.1)),
        (MANY - 1, True, True, (R50, 224, "adamw", 3e-4, 10, 3, 0.1)),
        (MANY, True, True, (R50, 224, "sgd", 0.01, 50, 0, None)),
        (None, True, True, (R50, 224, "adamw", 3e-4, 20, 3, 0.1)),
    ],
)
def test_choice(clips: int | None, gpu: bool, lite: bool, chosen: tuple[Any, ...]) -> None:
    config, line = fill_in(TrainConfig(data="x"), {"data"}, Situation(clips, gpu, lite))
    assert chosen == (
        *(config.model, config.crop_size, config.optimizer, config.lr, config.epochs),
        *(config.frozen_stages, config.norm_momentum),
    )
    assert config.pretrained == "imagenet"
    assert config.model in line
    assert f"{config.epochs} epochs" in line
    assert ("GPU" if gpu else "CPU") in line
    assert (f"{clips:,} training clips" if clips else "an unknown number of clips") in line
    assert ("gtdnet[lite]" in line) == (not gpu and not lite)


@pytest.mark.parametrize(
    ("gpu", "amx", "precision"),
    [(False, False, "fp32"), (False, True, "auto"), (True, False, "auto")],
)
def test_precision(gpu: bool, amx: bool, precision: str) -> None:
    values, _ = choose(Situation(100, gpu, lite=True, amx=amx))
    assert TrainConfig(**values).precision == precision


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epochs": 3, "lr": 0.02}, {"epochs": 3, "lr": 0.02, "optimizer": "adamw"}),
        # The rate and its factors are the optimiser's.
        ({"optimizer": "sgd"}, {"lr": 0.01, "lr_batch": 64, "classifier_lr": 5.0, "bias_lr": 2.0}),
        ({"optimizer": "adamw"}, {"lr": 0.001, "lr_batch": 8}),
        ({"crop_size": 112}, {"crop_size": 112, "short_side": 128}),
        ({"short_side": 128}, {"crop_size": 112, "short_side": 128}),
        ({"short_side": 300, "crop_size": 100}, {"crop_size": 100, "short_side": 300}),
        ({"validate_every": 40}, {"validate_every": 40, "epochs": 40}),
        ({"precision": "bf16"}, {"precision": "bf16"}),
    ],
)
def test_what_is_given_wins(given: dict[str, Any], expected: dict[str, Any]) -> None:
    config, line = fill_in(TrainConfig(**given), given.keys(), Situation(200, False, True))
    assert {name: getattr(config, name) for name in expected} == expected
    assert f"for {config.epochs} epochs" in line


@pytest.mark.parametrize(
    ("given", "pretrained", "may"),
    [
        ({"data", "epochs", "norm_momentum", "init"}, None, True),
        ({"pretrained"}, "imagenet", True),
        ({"pretrained"}, "dinov2", False),
        ({"pretrained"}, "mine.pth", False),
        ({"model"}, None, False),
        ({"model_options"}, None, False),
        ({"init_from"}, None, False),
    ],
)
def test_what_leaves_the_network_open(given: set[str], pretrained: str | None, may: bool) -> None:
    assert may_choose(given, pretrained) == may


@pytest.mark.parametrize(
    ("options", "clips"),
    [({}, 8), ({"val": 0.25}, 6), ({"group": r"/(\d)$", "val_groups": "0,1,2"}, 2)],
)
def test_situation(options: dict[str, Any], clips: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.mp4").touch()
    found = situation(TrainConfig(data=str(tmp_path), device="cpu", **options))
    assert (found.clips, found.gpu) == (clips, False)
    assert found.lite == is_installed("efficientnet_lite0")


def test_the_package_of_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "efficientnet_lite9_pytorch_model").mkdir()
    assert not is_installed("efficientnet_lite9")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("efficientnet_lite9")
