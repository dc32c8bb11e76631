from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gtdnet.data.formats import read_annotations
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.models.backbones import BACKBONES
from gtdnet.models.build import list_models
from gtdnet.models.model_file import load_model
from gtdnet.train.config import GROUPS, TrainConfig, find_recipe, list_recipes
from gtdnet.train.run import train

FORMATS = {
    "ssv1": "something-v1",
    "ssv2": "something-v2",
    "k400": "kinetics",
    "easy": "folder",
    "full": "something-v2",
    "clips": "folder",
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": float("nan")}, "lr must be positive, got nan"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number, got 2.5"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must not be negative, got -1"),
        ({"flip": 1.5}, "flip must be between 0 and 1, got 1.5"),
        ({"ema": -0.1}, "ema must be between 0 and 1, got -0.1"),
        ({"mixup": -1.0}, "mixup must not be negative, got -1.0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': choose one of sgd, adamw"),
        ({"schedule": "poly"}, "unknown schedule 'poly': choose one of cosine, step, onecycle"),
        ({"init": "zero"}, "unknown init 'zero': choose one of auto, default, identity"),
        ({"freeze": "all"}, "unknown freeze 'all': choose one of none, norms, backbone"),
        ({"freeze": "backbone"}, "freeze=backbone would keep random weights; give pretrained or"),
        (
            {"pretrained": "a.pth", "init_from": "b.safetensors"},
            "pretrained=a.pth and init_from=b.safetensors are two starts; leave one of them out",
        ),
        ({"milestones": ["a"]}, "milestones must be whole numbers, got ['a']"),
        ({"model_options": 3}, "model_options must be a mapping of names to values, got 3"),
        ({"multiscale": 1}, "multiscale must be true or false, got 1"),
        ({"name": 5}, "name must be text, got 5"),
        ({"data": None}, "data must be text, got None"),
        ({"epochs": 3, "validate_every": 4}, "validate_every=4 is more than epochs=3"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        TrainConfig(**options)


def test_groups_hold_every_option_once() -> None:
    names = [f.name for group in GROUPS for f in fields(group)]
    assert sorted(names) == sorted(f.name for f in fields(TrainConfig))
    for group in GROUPS:
        documented = set(re.findall(r"^        (\w+): ", group.__doc__ or "", re.MULTILINE))
        assert documented == {f.name for f in fields(group)}


def test_saved_config_is_read_back(tmp_path: Path) -> None:
    config = TrainConfig(
        data="dätä",
        lr=1e-5,
        milestones=[1, 2],
        model_options={"reduction": 8, "stages": [2, 3]},
        num_workers=None,
    )
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml") == config


def test_a_part_of_the_options_will_do(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("lr: 1e-3\nepochs: 7\n")  # YAML 1.1 takes 1e-3 for text
    assert TrainConfig.load(tmp_path / "part.yaml") == TrainConfig(lr=0.001, epochs=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: fast", "lr must be a number, got 'fast'"),
        ("lrate: 0.1", "unknown option 'lrate' (did you mean rate?); see gtdnet train --help"),
        ("lr: [", "is not YAML"),
        ("just text", "is not a training config"),
        ("epochs: 0", "epochs must be at least 1, got 0"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        TrainConfig.load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: cannot be read \(No such file"):
        TrainConfig.load(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match=r"no recipe 'nothing': .* one of .*gtdnet_r50_8f_ssv2"):
        find_recipe("nothing")


def test_recipes_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("epochs: 3")
    assert find_recipe(str(own)) == own
    assert find_recipe("synth_easy").name == "synth_easy.yaml"
    views, data = ("8f", "16f"), ("ssv1", "ssv2", "k400")
    published = {f"gtdnet_r50_{view}_{name}" for view in views for name in data}
    others = {"finetune_cpu", "finetune_gpu", "synth_easy", "synth_full"}
    assert set(list_recipes()) == published | others


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_say_what_their_name_says(name: str) -> None:
    config = TrainConfig.load(find_recipe(name))
    assert config.model in list_models()
    if name.startswith("gtdnet_r50"):
        assert config.model == "gtdnet_resnet50"
        assert config.num_segments == (16 if "_16f_" in name else 8)
        # The window of dense sampling is 64 frames at either length.
        dense = name.endswith("k400")
        assert config.sampling == ("dense" if dense else "segment")
        assert not dense or config.num_segments * config.frame_interval == 64


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_train_on_their_dataset_and_are_evaluated(name: str, tmp_path: Path) -> None:
    """One step, end to end, of a thin network on the built-in clips in the dataset's format.

    Then the paper's larger protocol: 3 crops of 2 clips, of 10 on Kinetics.
    """
    data = tmp_path / "data"
    format = FORMATS.get(name.rpartition("_")[2], "folder")
    clips = 12 if format == "folder" else 2  # a folder knows the classes that it has clips of
    write_dataset(
        data, format=format, edition="easy", train=clips, validation=1, size=36, workers=1
    )
    config = TrainConfig.load(find_recipe(name))
    config = replace(
        config,
        data=str(data),
        output=str(tmp_path),
        name="run",
        model_options={"width": 0.0625} if "resnet" in config.model else {},
        pretrained=None,
        frozen_stages=0,
        short_side=36,
        crop_size=32,
        epochs=1,
        batch_size=clips,
        num_workers=0,
        device="cpu",
        precision="fp32",
    )
    result = train(config, console=Console(quiet=True))
    assert result.model is not None
    spec = load_model(result.model).spec
    assert spec.class_names == read_annotations(data, "train").class_names
    assert (spec.num_segments, spec.sampling) == (config.num_segments, config.sampling)
    assert result.best["step"] == 1
    num_clips = 10 if name.endswith("k400") else 2
    metrics = evaluate(
        EvaluateOptions(str(result.model), str(data), clips=num_clips, crops=3, num_workers=0)
    )
    assert metrics["protocol"]["views"] == f"{config.num_segments}x3x{num_clips}"
    assert (metrics["num_evaluated"], metrics["num_failed"]) == (1, 0)
    assert metrics["data"]["classes"] == "identical"


Make = Callable[..., TrainConfig]


def test_clip_spec(tiny: Make, tmp_path: Path) -> None:
    spec = tiny(tmp_path, sampling="dense", frame_interval=2).clip_spec(("a", "b"))
    assert (spec.class_names, spec.num_segments, spec.sampling) == (("a", "b"), 4, "dense")
    assert (spec.frame_interval, spec.short_side, spec.crop_size) == (2, 36, 32)
    assert spec.frames_per_segment == 1


def test_frames_per_segment_are_the_models(tiny: Make, tmp_path: Path) -> None:
    spec = tiny(tmp_path, model="tdn_resnet18").clip_spec(("a", "b"))
    assert (spec.num_segments, spec.frames_per_segment) == (4, 5)
    with pytest.raises(InputError, match="unknown model 'tdn_resnet7'"):
        tiny(tmp_path, model="tdn_resnet7").clip_spec(("a", "b"))


def test_mean_and_std_are_the_backbones(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setattr(BACKBONES["resnet18"].network, "spec", own)
    spec = tiny(tmp_path, model="tsm_resnet18").clip_spec(("a", "b"))
    assert {"mean": spec.mean, "std": spec.std} == own
