"""The model file: what is kept, what is refused, and that no code is ever run."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models import (
    ResNet,
    VideoClassifier,
    create_model,
    load_model,
    model_file,
    save_model,
)
from gtdnet.nn import AGGREGATIONS
from gtdnet.weights.fit import BackboneWeights
from gtdnet.weights.read import read_tensors

SPEC = ClipSpec(
    ("left", "right", "stop"), num_segments=4, short_side=40, crop_size=32, sampling="dense"
)


def small(name: str = "gtdnet_resnet18", **options: Any) -> VideoClassifier:
    torch.manual_seed(0)
    return create_model(name, 3, 4, **{"width": 0.125, **options}).eval()


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    provenance, metrics = {"command": "gtdnet train", "größe": 2}, {"top1": 0.5}
    path = tmp_path / "model.safetensors"
    return save_model(path, small(), SPEC, provenance=provenance, metrics=metrics)


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["gtdnet"])


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    """Change header and tensors of a model file as a stranger's tool might."""
    header = header_of(path)
    tensors = read_tensors(path)
    change(header, tensors)
    save_file(tensors, path, {"gtdnet": json.dumps(header)})


# ------------------------------------------------------------------------------------ what is kept


def test_metadata(model_path: Path) -> None:
    assert header_of(model_path) == {
        "format_version": 1,
        "model": {
            "name": "gtdnet_resnet18",
            "num_classes": 3,
            "num_segments": 4,
            "options": {
                "width": 0.125,
                "dropout": 0.5,
                "stages": [2, 3, 4, 5],
                "every": 1,
                "reduction": 4,
                "aggregation": "mta",
                "alpha": 2,
                "fold_div": 8,
                "attention": True,
                "gate": True,
                "difference": "global",
                "gtd_stages": None,
                "order": 0,
                "cells": 1,
                "causal": False,
            },
        },
        "spec": {
            "class_names": ["left", "right", "stop"],
            "num_segments": 4,
            "sampling": "dense",
            "frame_interval": 8,
            "short_side": 40,
            "crop_size": 32,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "antialias": True,
        },
        "fingerprint": SPEC.fingerprint,
        "provenance": {"command": "gtdnet train", "größe": 2},
        "metrics": {"top1": 0.5},
    }


def test_round_trip(model_path: Path) -> None:
    loaded = load_model(model_path)
    assert loaded.spec == SPEC
    assert loaded.provenance == {"command": "gtdnet train", "größe": 2}
    assert loaded.metrics == {"top1": 0.5}
    assert loaded.path == str(model_path)
    state = loaded.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in small().state_dict().items())
    again = save_model(model_path.with_name("again.safetensors"), loaded.model, loaded.spec)
    assert header_of(again)["model"] == header_of(model_path)["model"]


def test_other_weights_can_be_written_in_place_of_the_models_own(tmp_path: Path) -> None:
    model = small()
    average = {key: value * 0 for key, value in model.state_dict().items()}
    path = save_model(tmp_path / "ema.safetensors", model, SPEC, state_dict=average)
    assert not any(value.any() for value in read_tensors(path).values())
    assert model.classifier.weight.any()


# ---------------------------------------------------------------------------------- saving refuses


def test_failing_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(model_file, "save_file", write_half)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / "model.safetensors", small(), SPEC)
    assert list(tmp_path.iterdir()) == []


def test_failing_save_keeps_the_old_file(model_path: Path) -> None:
    before = model_path.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_model(model_path, small(), SPEC, metrics={"top1": object()})
    assert model_path.read_bytes() == before
    assert [p.name for p in model_path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.ckpt", "model", "model.pth"])
def test_other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"must end in .safetensors, got .*{name}$"):
        save_model(tmp_path / name, small(), SPEC)


def test_network_of_ones_own_is_refused(tmp_path: Path) -> None:
    model = VideoClassifier(nn.Identity(), 3, 3, 4)
    with pytest.raises(InputError, match="only models made by create_model"):
        save_model(tmp_path / "model.safetensors", model, SPEC)


@pytest.mark.parametrize("changes", [{"num_segments": 8}, {"class_names": ("a", "b")}])
def test_disagreeing_spec_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    spec = SPEC.with_options(**changes)
    with pytest.raises(InputError, match="the model has 4 frames and 3 classes, the spec"):
        save_model(tmp_path / "model.safetensors", small(), spec)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------- several frames of each segment

GROUPS = SPEC.with_options(frames_per_segment=5)


@pytest.fixture
def tdn_path(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tdn.safetensors", small("tdn_resnet18"), GROUPS)


def test_frames_per_segment_travel(tdn_path: Path) -> None:
    assert header_of(tdn_path)["format_version"] == 1
    assert header_of(tdn_path)["spec"]["frames_per_segment"] == 5
    assert load_model(tdn_path).spec == GROUPS
    longer = load_model(tdn_path, num_segments=6)
    assert longer.spec == GROUPS.with_options(num_segments=6)
    assert longer.model(torch.randn(1, 30, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("tdn_resnet18", SPEC, "takes 5 frames per segment, the spec 1; .*frames_per_segment=5$"),
        ("tsn_resnet18", GROUPS, "takes 1 frames per segment, the spec 5; .*=1$"),
    ],
)
def test_disagreeing_frames_per_segment_are_not_written(
    tmp_path: Path, name: str, spec: ClipSpec, message: str
) -> None:
    with pytest.raises(InputError, match=f"model and spec disagree: the model {message}"):
        save_model(tmp_path / "model.safetensors", small(name), spec)
    assert list(tmp_path.iterdir()) == []


def test_disagreeing_frames_per_segment_are_not_read(model_path: Path, tdn_path: Path) -> None:
    rewrite(tdn_path, lambda header, _: header["spec"].pop("frames_per_segment"))
    with pytest.raises(InputError, match=r"tdn.safetensors: tdn_resnet18 takes 5 .* says 1; "):
        load_model(tdn_path)
    rewrite(model_path, lambda header, _: header["spec"].update(frames_per_segment=2))
    with pytest.raises(InputError, match=r"model.safetensors: gtdnet_resnet18 takes 1 .* says 2; "):
        load_model(model_path)


# --------------------------------------------------------------------------------- loading refuses


def _name(header: dict[str, Any], *names: str) -> None:
    """Class names with the fingerprint that they have."""
    header["spec"]["class_names"] = list(names)
    header["fingerprint"] = ClipSpec(names).fingerprint


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.sentinel), "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("writer", ["pickle", "torch.save"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".tar", ".ckpt"])
def test_pickled_code_never_runs(tmp_path: Path, writer: str, suffix: str) -> None:
    sentinel, path = tmp_path / "code-ran", tmp_path / f"trap{suffix}"
    content = {"state_dict": {"conv1.weight": torch.zeros(2)}, "extra": Trap(sentinel)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content["extra"]))
        pickle.loads(path.read_bytes()).close()
        assert sentinel.exists()  # the trap works
        sentinel.unlink()
    else:
        torch.save(content, path)
    for read in (
        load_model,
        read_tensors,
        lambda p: create_model("tsn_resnet18", 3, pretrained=p),
    ):
        with pytest.raises(InputError, match=f"trap{suffix}"):
            read(path)
    assert not sentinel.exists()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.safetensors: no such model file"):
        load_model(tmp_path / "nowhere.safetensors")
    with pytest.raises(InputError, match=r"nowhere.pth: no such weights file"):
        read_tensors(tmp_path / "nowhere.pth")


def test_folder(model_path: Path, tmp_path: Path) -> None:
    assert load_model(model_path.parent).path == str(model_path.parent / "model.safetensors")
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(InputError, match=r"run: the folder holds no model.safetensors; give"):
        load_model(folder)
    (folder / "last.ckpt").touch()
    with pytest.raises(InputError, match=r"run: the run has not ended.*train --resume .*run$"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 100])
def test_not_a_model_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors: not a model file"):
        load_model(path)


def test_truncated_file(model_path: Path) -> None:
    model_path.write_bytes(model_path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a model file"):
        load_model(model_path)


def test_weights_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"not gtdnet's header.*--pretrained"):
        load_model(path)


def test_other_format_version(model_path: Path) -> None:
    rewrite(model_path, lambda header, _: header.update(format_version=2))
    with pytest.raises(InputError, match=r"model file format 2.*reads 1; update gtdnet"):
        load_model(model_path)


def test_changed_class_names(model_path: Path) -> None:
    def swap(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        header["spec"]["class_names"] = ["right", "left", "stop"]

    rewrite(model_path, swap)
    with pytest.raises(InputError, match="do not match their fingerprint"):
        load_model(model_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.pop("format_version"), "header cannot be read"),
        (lambda h, t: h.pop("model"), "header is incomplete .*model"),
        (lambda h, t: h.pop("spec"), "header is incomplete .*spec"),
        (lambda h, t: h["model"].pop("options"), "header is incomplete .*options"),
        (lambda h, t: h["model"].update(options="none"), "header is incomplete"),
        (lambda h, t: h["model"].update(name=5), "header is incomplete"),
        (lambda h, t: h["model"].update(name="other_resnet18"), "unknown model 'other_resnet18'"),
        (lambda h, t: h["model"].update(num_classes="3"), "num_classes is '3', but .* has 3 class"),
        (lambda h, t: h["model"].update(num_classes=2), "num_classes is 2, but .* 3 class names"),
        (lambda h, t: _name(h, "a", "b", "c", "d"), "num_classes is 3, but .* 4 class names"),
        (lambda h, t: h["spec"].update(num_segments=8), "num_segments is 4, .* 8 frames per clip"),
        (lambda h, t: h["model"].update(num_segments=8), "num_segments is 8, .* 4 frames per"),
        (lambda h, t: h["model"]["options"].update(width=10**9), "makes no sense|a network of"),
        (lambda h, t: h["model"]["options"].update(width=50), "header describes a network of"),
        (lambda h, t: h["model"]["options"].update(width=math.inf), "makes no sense|width"),
        (lambda h, t: h["model"]["options"].update(width=math.nan), "makes no sense|width"),
        (lambda h, t: h["model"]["options"].update(alpha=10**7), "header describes a network of"),
        (lambda h, t: h.update(metrics=[1]), "makes no sense"),
        (lambda h, t: h.update(provenance="mine"), "makes no sense"),
        (lambda h, t: h["model"].update(num_segments=0), "num_segments must be"),
        (lambda h, t: h["spec"].update(crop_size=1000), "crop_size=1000 does not fit"),
        (lambda h, t: h["spec"].update(speed=2), "unknown field 'speed'"),
        (lambda h, t: h.pop("fingerprint"), "do not match their fingerprint"),
    ],
)
def test_broken_header(
    model_path: Path, change: Callable[[dict, dict], object], message: str
) -> None:
    rewrite(model_path, change)
    with pytest.raises(InputError, match=rf"model.safetensors: .*{message}"):
        load_model(model_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: t.pop("classifier.bias"), r"1 key missing \(classifier.bias\)"),
        (lambda h, t: t.update(fc=torch.zeros(1)), r"1 key unexpected \(fc\)"),
        (
            lambda h, t: t.update({"classifier.bias": torch.zeros(4)}),
            r"1 of another shape \(classifier.bias \[4\] for \[3\]\)",
        ),
        (lambda h, t: h["model"]["options"].update(reduction=8), "of another shape .*, ...\\)"),
    ],
)
def test_weights_that_do_not_fit(
    model_path: Path, change: Callable[[dict, dict], object], message: str
) -> None:
    rewrite(model_path, change)
    with pytest.raises(InputError, match=f"the weights do not fit the network: .*{message}"):
        load_model(model_path)


# ------------------------------------------------------------------------- another number of frames


@pytest.mark.parametrize("aggregation", list(AGGREGATIONS))
@pytest.mark.parametrize("num_segments", [2, 3, 8])
def test_load_at_another_number_of_frames(
    tmp_path: Path, aggregation: str, num_segments: int
) -> None:
    model = small(aggregation=aggregation)
    path = save_model(tmp_path / "model.safetensors", model, SPEC)
    loaded = load_model(path, num_segments=num_segments)
    assert loaded.spec == SPEC.with_options(num_segments=num_segments)
    assert loaded.model.num_segments == num_segments
    assert loaded.model(torch.randn(2, num_segments, 3, 32, 32)).shape == (2, 3)
    # What was loaded can be saved, and is then a model of that many frames.
    again = save_model(tmp_path / "again.safetensors", loaded.model, loaded.spec)
    assert load_model(again).model.num_segments == num_segments


def test_same_number_of_frames_is_exact(model_path: Path) -> None:
    state = load_model(model_path, num_segments=4).model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in small().state_dict().items())


@pytest.mark.parametrize("num_segments", [0, -1])
def test_bad_number_of_frames(model_path: Path, num_segments: int) -> None:
    with pytest.raises(InputError, match=f"num_segments must be .* got {num_segments}"):
        load_model(model_path, num_segments=num_segments)


@pytest.mark.parametrize("num_segments", [2, 3, 5, 8, 12])
def test_constant_clip_keeps_its_answer(tmp_path: Path, num_segments: int) -> None:
    model = small(fold_div=1000)  # a shift makes the first and last frame differ
    nn.init.normal_(model.classifier.weight)
    path = save_model(tmp_path / "model.safetensors", model, SPEC)
    other = load_model(path, num_segments=num_segments).model
    image = torch.randn(2, 1, 3, 32, 32)
    with torch.inference_mode():
        wanted = model(image.expand(2, 4, 3, 32, 32))
        found = other(image.expand(2, num_segments, 3, 32, 32))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------- as a start


def test_model_file_counts_as_2d_weights(model_path: Path) -> None:
    state = small().backbone.state_dict()
    read = BackboneWeights.read(str(model_path))
    found = {**read.plain, **read.temporal}.keys() - {"classifier.weight", "classifier.bias"}
    assert found == state.keys()
    assert read.label == str(model_path)
    backbone = ResNet(18, width=0.125)
    read.load_plain(backbone)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
