"""Official checkpoints made into model files: what is recognised, renamed, kept and refused.

The key rules of the official files are written down here once more, the other way round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gtdnet import load_model
from gtdnet.cli import main
from gtdnet.data.labels import read_labels
from gtdnet.errors import InputError
from gtdnet.files import sha256
from gtdnet.models.backbones.base import Backbone
from gtdnet.models.backbones.res2net import Res2Net
from gtdnet.models.backbones.resnet import ResNet
from gtdnet.models.build import create_model
from gtdnet.weights.convert import ConvertOptions, convert, recognise
from gtdnet.weights.read import read_tensors

Shapes = dict[str, tuple[int, ...]]
GOLDEN = Path(__file__).resolve().parents[3] / ".." / "shared" / "checkpoints"
BLOCK = re.compile(r"(layer\d)\.(\d+)\.")

# ---------------------------------------------------------------------- keys of the official files


def plain(depth: int, backbone: Callable[[int], Backbone] = ResNet) -> Shapes:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in backbone(depth).state_dict().items()}


def head(name: str, depth: int, classes: int) -> Shapes:
    return {f"{name}.weight": (classes, 512 if depth < 50 else 2048), f"{name}.bias": (classes,)}


def norm(name: str, channels: int) -> Shapes:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{leaf}": (channels,) for leaf in leaves}, f"{name}.num_batches_tracked": ()}


def image(depth: int, classes: int = 7, fc: str = "fc") -> Shapes:
    return {**plain(depth), **head(fc, depth, classes)}


def tsn(depth: int, classes: int = 7, fc: str = "new_fc") -> Shapes:
    below = {f"base_model.{key}": shape for key, shape in plain(depth).items()}
    return {**below, **head(fc, depth, classes)}


def tsm(depth: int, classes: int = 7, fc: str = "new_fc", every: int = 1) -> Shapes:
    def wrapped(key: str) -> str:
        place = BLOCK.search(key)
        if place and int(place[2]) % every == 0:
            return key.replace(".conv1.weight", ".conv1.net.weight")
        return key

    return {wrapped(key): shape for key, shape in tsn(depth, classes, fc).items()}


def action(depth: int, classes: int = 7, fc: str = "new_fc", every: int = 1) -> Shapes:
    keys = tsm(depth, classes, fc, every)
    for key, (_, c, *_) in [(k, s) for k, s in keys.items() if k.endswith(".net.weight")]:
        conv1, r = key.removesuffix(".net.weight"), c // 16
        keys |= {
            f"{conv1}.action_shift.weight": (c, 1, 3),
            f"{conv1}.action_p1_conv1.weight": (1, 1, 3, 3, 3),
            f"{conv1}.action_p2_squeeze.weight": (r, c, 1, 1),
            f"{conv1}.action_p2_conv1.weight": (r, r, 3),
            f"{conv1}.action_p2_expand.weight": (c, r, 1, 1),
            f"{conv1}.action_p3_squeeze.weight": (r, c, 1, 1),
            **norm(f"{conv1}.action_p3_bn1", r),
            f"{conv1}.action_p3_conv1.weight": (r, 1, 3, 3),
            f"{conv1}.action_p3_expand.weight": (c, r, 1, 1),
        }
    return keys


def tea(depth: int, classes: int = 7, fc: str = "new_fc") -> Shapes:
    keys: Shapes = {}
    for key, shape in plain(depth, Res2Net).items():
        keys[f"base_model.{key}"] = shape
        if BLOCK.search(key) and key.endswith(".conv1.weight"):
            block, c = f"base_model.{key.removesuffix('.conv1.weight')}", shape[0]
            keys |= {
                f"{block}.me.conv1.weight": (c // 16, c, 1, 1),
                **norm(f"{block}.me.bn1", c // 16),
                f"{block}.me.conv2.weight": (c // 16, 1, 3, 3),
                f"{block}.me.conv3.weight": (c, c // 16, 1, 1),
                **norm(f"{block}.me.bn3", c),
                **{f"{block}.shifts.{i}.conv.weight": (c // 4, 1, 3) for i in range(4)},
            }
    return {**keys, **head(fc, depth, classes)}


def tdn(depth: int, classes: int = 7, fc: str = "new_fc") -> Shapes:
    keys: Shapes = {}

    def put(key: str, shape: tuple[int, ...]) -> None:
        keys[f"base_model.{key}"] = shape
        if len(shape) == 4:
            keys[f"base_model.{key.removesuffix('weight')}bias"] = shape[:1]

    for key, shape in plain(depth).items():
        put(re.sub(r"^(layer\d)\.", r"\1_bak.", key), shape)
        if key.startswith("layer1."):
            put(key.replace("layer1", "resnext_layer1"), shape)
        if re.match(r"layer[234]\.\d+\.conv2\.weight", key):
            block = "base_model." + re.sub(r"\.(\d+)\.conv2.weight", r"_bak.\1", key)
            c, r = shape[1], shape[1] // 16
            keys |= {
                f"{block}.mse.conv1.weight": (r, c, 1, 1),
                **norm(f"{block}.mse.bn1", r),
                f"{block}.mse.conv2.weight": (r, 1, 3, 3),
                f"{block}.mse.conv3.weight": (c, r, 1, 1),
                **norm(f"{block}.mse.bn3", c),
                f"{block}.mse.conv3_smallscale2.weight": (r, r, 3, 3),
                **norm(f"{block}.mse.bn3_smallscale2", r),
                f"{block}.mse.conv3_smallscale4.weight": (r, r, 3, 3),
                **norm(f"{block}.mse.bn3_smallscale4", r),
                f"{block}.shift.conv.weight": (c, 1, 3),
            }
    put("conv1_temp.weight", (64, 3, 7, 7))
    keys |= {"base_model.conv1_5.0.weight": (64, 12, 7, 7), **norm("base_model.conv1_5.1", 64)}
    return {**keys, **head(fc, depth, classes)}


def mmaction(depth: int, classes: int = 7) -> Shapes:
    def named(key: str) -> str:
        key = re.sub(r"bn(\d)\.", r"conv\1.bn.", re.sub(r"conv(\d)\.", r"conv\1.conv.", key))
        return key.replace("downsample.0", "downsample.conv").replace(
            "downsample.1", "downsample.bn"
        )

    below = {f"backbone.{named(key)}": shape for key, shape in plain(depth).items()}
    return {**below, **head("cls_head.fc_cls", depth, classes)}


def mmaction_tsm(depth: int, classes: int = 7, every: int = 1) -> Shapes:
    def wrapped(key: str) -> str:
        place = BLOCK.search(key)
        if place and int(place[2]) % every == 0:
            return key.replace(".conv1.conv.weight", ".conv1.conv.net.weight")
        return key

    return {wrapped(key): shape for key, shape in mmaction(depth, classes).items()}


def tanet(depth: int, classes: int = 7, t: int = 8) -> Shapes:
    keys: Shapes = {}
    for key, shape in mmaction(depth, classes).items():
        keys[BLOCK.sub(r"\1.\2.block.", key)] = shape
        if BLOCK.search(key) and key.endswith(".conv2.conv.weight"):
            tam, c = key.replace(".conv2.conv.weight", ".tam"), shape[1]
            keys |= {
                f"{tam}.G.0.weight": (2 * t, t),
                **norm(f"{tam}.G.1", 2 * t),
                f"{tam}.G.3.weight": (3, 2 * t),
                f"{tam}.L.0.weight": (c // 4, c, 3),
                **norm(f"{tam}.L.1", c // 4),
                f"{tam}.L.3.weight": (c, c // 4, 1),
            }
    return keys


def tanet_own(depth: int, classes: int = 7, t: int = 8) -> Shapes:
    """As the authors' own code names it."""

    def named(key: str) -> str:
        key = re.sub(r"conv(\d)\.conv\.", r"conv\1.", re.sub(r"conv(\d)\.bn\.", r"bn\1.", key))
        key = key.replace("downsample.conv", "downsample.0").replace(
            "downsample.bn", "downsample.1"
        )
        return key.replace(".block.", ".net.").replace("backbone.", "base_model.")

    keys = {named(key): shape for key, shape in tanet(depth, classes, t).items()}
    return {key.replace("cls_head.fc_cls", "new_fc"): shape for key, shape in keys.items()}


OFFICIAL: dict[str, Callable[..., Shapes]] = {
    "image": image,
    "tsn": tsn,
    "tsm": tsm,
    "action": action,
    "tea": tea,
    "tdn": tdn,
    "mmaction_tsn": mmaction,
    "mmaction_tsm": mmaction_tsm,
    "tanet": tanet,
    "tanet_own": tanet_own,
}


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Every tensor full of a number of its own; no memory is used."""
    return {
        key: torch.tensor(1 + i / 1024).expand(shape)
        if not key.endswith("num_batches_tracked")
        else torch.tensor(i)
        for i, (key, shape) in enumerate(shapes.items())
    }


# --------------------------------------------------------------------------------- what is in there


@pytest.mark.parametrize(
    ("official", "depth", "options", "name", "every"),
    [
        *[("image", depth, {}, "tsn", 1) for depth in (18, 34, 50, 101, 152)],
        ("tsn", 18, {}, "tsn", 1),
        ("tsn", 50, {"fc": "base_model.fc"}, "tsn", 1),
        ("tsm", 18, {}, "tsm", 1),
        ("tsm", 50, {"fc": "base_model.fc"}, "tsm", 1),
        ("tsm", 101, {"every": 2}, "tsm", 2),
        ("tsm", 50, {"every": 2}, "tsm", 2),
        ("action", 18, {"fc": "base_model.fc"}, "action", 1),
        ("action", 50, {}, "action", 1),
        ("action", 101, {"every": 2}, "action", 2),
        ("tea", 50, {}, "tea", 1),
        ("tdn", 50, {}, "tdn", 1),
        ("tdn", 101, {"fc": "base_model.fc"}, "tdn", 1),
        ("mmaction_tsn", 18, {}, "tsn", 1),
        ("mmaction_tsn", 101, {}, "tsn", 1),
        ("mmaction_tsm", 34, {}, "tsm", 1),
        ("mmaction_tsm", 101, {"every": 2}, "tsm", 2),
        ("tanet", 50, {"t": 16}, "tanet", 1),
        ("tanet", 101, {"t": 8}, "tanet", 1),
        ("tanet_own", 50, {"t": 16}, "tanet", 1),
    ],
)
def test_every_key_finds_its_place(
    official: str, depth: int, options: dict[str, Any], name: str, every: int
) -> None:
    given = {f"module.{k}": v for k, v in filled(OFFICIAL[official](depth, **options)).items()}
    found = recognise(given, "x.pth")
    assert (found.source.method, found.depth, found.every) == (name, depth, every)
    assert found.num_classes == 7
    assert found.num_segments == options.get("t")
    assert set(found.called.values()) | set(found.dropped) | set(found.folded) == set(given)
    with torch.device("meta"):
        model = create_model(f"{name}_resnet{depth}", 7, found.num_segments or 8, every=every)
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in found.tensors.items()} == wanted


@pytest.mark.parametrize(
    ("official", "pairs"),
    [
        ("image", {"layer1.0.conv1.weight": "backbone.layer1.0.conv1.weight",
                   "fc.bias": "classifier.bias"}),
        ("tsm", {"base_model.layer4.2.conv1.net.weight": "backbone.layer4.2.conv1.weight",
                 "base_model.layer1.0.downsample.1.running_var":
                     "backbone.layer1.0.downsample.1.running_var",
                 "new_fc.weight": "classifier.weight"}),
        ("action", {"base_model.layer2.1.conv1.net.weight": "backbone.layer2.1.conv1.weight",
                    "base_model.layer2.1.conv1.action_shift.weight":
                        "backbone.layer2.1.conv1.temporal.shift.weight",
                    "base_model.layer2.1.conv1.action_p1_conv1.weight":
                        "backbone.layer2.1.conv1.temporal.spatio_temporal.conv.weight",
                    "base_model.layer2.1.conv1.action_p2_squeeze.weight":
                        "backbone.layer2.1.conv1.temporal.channel.squeeze.weight",
                    "base_model.layer2.1.conv1.action_p2_conv1.weight":
                        "backbone.layer2.1.conv1.temporal.channel.conv.weight",
                    "base_model.layer2.1.conv1.action_p3_bn1.bias":
                        "backbone.layer2.1.conv1.temporal.motion.bn.bias",
                    "base_model.layer2.1.conv1.action_p3_conv1.weight":
                        "backbone.layer2.1.conv1.temporal.motion.conv.weight",
                    "base_model.layer2.1.conv1.action_p3_expand.weight":
                        "backbone.layer2.1.conv1.temporal.motion.expand.weight"}),
        ("tea", {"base_model.layer3.5.me.bn3.weight":
                     "backbone.layer3.5.temporal.excitation.bn3.weight",
                 "base_model.layer3.5.shifts.3.conv.weight":
                     "backbone.layer3.5.temporal.aggregation.3.weight",
                 "base_model.layer3.5.convs.2.weight": "backbone.layer3.5.convs.2.weight"}),
        ("tdn", {"base_model.layer1_bak.0.conv3.weight": "backbone.layer1.0.conv3.weight",
                 "base_model.layer4_bak.2.conv2.weight": "backbone.layer4.2.conv2.weight",
                 "base_model.layer4_bak.2.mse.conv3_smallscale4.weight":
                     "backbone.layer4.2.conv2.temporal.difference.conv3_smallscale4.weight",
                 "base_model.layer4_bak.2.shift.conv.weight":
                     "backbone.layer4.2.conv2.temporal.shift.weight",
                 "base_model.conv1_5.1.running_mean": "backbone.temporal.bn.running_mean",
                 "base_model.resnext_layer1.2.bn1.weight":
                     "backbone.temporal.layer1.2.bn1.weight"}),
        ("mmaction_tsm", {"backbone.conv1.bn.bias": "backbone.bn1.bias",
                          "backbone.layer2.0.conv1.conv.net.weight":
                              "backbone.layer2.0.conv1.weight",
                          "backbone.layer2.0.conv3.bn.weight": "backbone.layer2.0.bn3.weight",
                          "backbone.layer2.0.downsample.conv.weight":
                              "backbone.layer2.0.downsample.0.weight",
                          "cls_head.fc_cls.weight": "classifier.weight"}),
        ("tanet", {"backbone.layer2.0.block.conv2.conv.weight": "backbone.layer2.0.conv2.weight",
                   "backbone.layer2.0.block.downsample.bn.running_var":
                       "backbone.layer2.0.downsample.1.running_var",
                   "backbone.layer2.0.tam.G.1.running_mean":
                       "backbone.layer2.0.conv2.temporal.adaptive.norm.running_mean",
                   "backbone.layer2.0.tam.G.3.weight":
                       "backbone.layer2.0.conv2.temporal.adaptive.collect.weight",
                   "backbone.layer2.0.tam.L.3.weight":
                       "backbone.layer2.0.conv2.temporal.local.expand.weight"}),
    ],
)  # fmt: skip
def test_tensors_go_where_they_belong(official: str, pairs: Mapping[str, str]) -> None:
    given = filled(OFFICIAL[official](50))
    found = recognise(given, "x.pth")
    for old, new in pairs.items():
        assert torch.equal(found.tensors[new], given[old]), old


def test_biases_before_norms_are_folded_and_unused_keys_dropped() -> None:
    given = filled(tdn(50))
    found = recognise({f"module.{key}": value for key, value in given.items()}, "x.pth")
    assert set(found.dropped) == {
        "module.base_model.conv1_temp.weight",
        "module.base_model.conv1_temp.bias",
    }
    assert len(found.folded) == 1 + 52 + 10  # stem, blocks, the second layer1
    for conv, bn, new in (
        ("conv1", "bn1", "bn1"),
        ("layer3_bak.1.conv2", "layer3_bak.1.bn2", "layer3.1.bn2"),
        ("layer1_bak.0.downsample.0", "layer1_bak.0.downsample.1", "layer1.0.downsample.1"),
        ("resnext_layer1.0.conv3", "resnext_layer1.0.bn3", "temporal.layer1.0.bn3"),
    ):
        torch.testing.assert_close(
            found.tensors[f"backbone.{new}.running_mean"],
            given[f"base_model.{bn}.running_mean"] - given[f"base_model.{conv}.bias"],
        )


# ------------------------------------------------------------------------------------- model files


def written(folder: Path, shapes: Shapes, wrapper: str | None = None, name: str = "x.pth") -> str:
    tensors = filled(shapes)
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, folder / name)
    return str(folder / name)


def to(folder: Path) -> str:
    return str(folder / "out" / "model.safetensors")


def test_tsm_file(tmp_path: Path) -> None:
    shapes = {f"module.{key}": shape for key, shape in tsm(18, 174).items()}
    checkpoint = written(tmp_path, shapes, "state_dict", "ckpt.best.pth.tar")
    result = convert(
        ConvertOptions(
            checkpoint, to(tmp_path), num_segments=16, classes="something-v2", fold_div=4
        )
    )
    assert result.to_dict() == {
        "path": to(tmp_path),
        "model": "tsm_resnet18",
        "source": "temporal-shift-module",
        "depth": 18,
        "num_classes": 174,
        "num_segments": 16,
        "notes": ["clips: 16 frames (segment), short side 256, crop 224"],
    }
    file = load_model(to(tmp_path))
    assert file.model.options["fold_div"] == 4
    assert file.spec.class_names == read_labels("something-v2")
    assert (file.spec.num_segments, file.spec.frame_interval) == (16, 4)
    assert (file.spec.interpolation, file.spec.antialias) == ("bilinear", True)
    assert file.provenance["converted_from"] == "temporal-shift-module"
    assert file.provenance["checkpoint"] == "ckpt.best.pth.tar"
    assert file.provenance["sha256"] == sha256(Path(checkpoint))
    given, state = filled(shapes), file.model.state_dict()
    wanted = given["module.base_model.layer4.1.conv1.net.weight"]
    assert torch.equal(state["backbone.layer4.1.conv1.weight"], wanted)
    assert torch.equal(state["classifier.bias"], given["module.new_fc.bias"])


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    shapes = {k: s for k, s in mmaction_tsm(18, 400).items() if "num_batches" not in k}
    result = convert(ConvertOptions(written(tmp_path, shapes, "state_dict"), to(tmp_path)))
    notes = "\n".join(result.notes)
    for said in (
        "does not tell the number of frames: num_segments 8",
        "fold_div 8",
        "num_batches_tracked",
        "class 0 to class 399; --classes kinetics400 has 400 names",
        "trained on dense clips of Kinetics add --sampling dense-tsm, as its project tests them",
    ):
        assert said in notes
    file = load_model(to(tmp_path))
    assert file.spec.class_names[399] == "class 399"
    assert not file.spec.antialias  # OpenCV
    assert file.provenance["dropped"] == []


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (3,)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_normalisation_that_the_file_tells(
    tmp_path: Path, shape: tuple[int, ...], prefix: str
) -> None:
    tensors = filled(mmaction(18))
    tensors["data_preprocessor.mean"] = torch.tensor([127.5, 51.0, 102.0]).reshape(shape)
    tensors["data_preprocessor.std"] = torch.tensor([51.0, 25.5, 127.5]).reshape(shape)
    torch.save({prefix + key: value for key, value in tensors.items()}, tmp_path / "x.pth")
    result = convert(ConvertOptions(str(tmp_path / "x.pth"), to(tmp_path)))
    spec = load_model(to(tmp_path)).spec
    assert spec.mean == pytest.approx((0.5, 0.2, 0.4))
    assert spec.std == pytest.approx((0.2, 0.1, 0.5))
    assert any("mean 0.5 0.2 0.4, std 0.2 0.1 0.5" in note for note in result.notes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": torch.ones(3, 1, 1)}, "has data_preprocessor.mean but not the other"),
        (
            {"mean": torch.ones(3), "std": torch.ones(1, 3)},
            r"has shape \[1, 3\]; expected three",
        ),
        ({"mean": torch.ones(3), "std": torch.zeros(3)}, "std is .*which no pixels have"),
        ({"mean": torch.full((3,), torch.nan), "std": torch.ones(3)}, "mean is .*no pixels"),
        (
            {"mean": torch.ones(3), "std": torch.ones(3), "pad": torch.ones(1)},
            r"1 key unexpected \(data_preprocessor.pad\)",
        ),
    ],
)
def test_normalisation_that_cannot_be_meant(
    tmp_path: Path, given: Mapping[str, Tensor], message: str
) -> None:
    more = {f"data_preprocessor.{name}": value for name, value in given.items()}
    torch.save({**filled(mmaction(18)), **more}, tmp_path / "x.pth")
    reason = refused(tmp_path, tmp_path / "x.pth")
    assert re.search(message, reason), reason


def test_counts_of_one(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, tanet(50, classes=1, t=1))
    notes = "\n".join(convert(ConvertOptions(checkpoint, to(tmp_path))).notes)
    assert "no names in the file: class 0; name them by" in notes
    assert "are for 1 frame, so" in refused(tmp_path / "out", checkpoint, num_segments=8)
    with pytest.raises(InputError, match=r"; give the list it was trained with$") as error:
        convert(ConvertOptions(checkpoint, str(tmp_path / "b.safetensors"), classes="jester"))
    assert "has 27 class names, but" in str(error.value)
    assert "has 1 class;" in str(error.value)


def test_lists_that_differ_in_order_are_not_guessed_between(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, tsm(18, 174))
    result = convert(ConvertOptions(checkpoint, to(tmp_path)))
    assert any(
        "--classes something-v1 or --classes something-v2" in n and "different orders" in n
        for n in result.notes
    )
    assert load_model(to(tmp_path)).spec.class_names[:2] == ("class 0", "class 1")


def test_image_classifier_in_safetensors(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in filled(image(18, 5)).items()}, checkpoint)
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcde"))
    options: dict[str, Any] = {
        "classes": str(names),
        "short_side": 235,
        "crop_size": 230,
        "interpolation": "bicubic",
        "antialias": False,
    }
    result = convert(ConvertOptions(str(checkpoint), to(tmp_path), **options))
    assert (result.model, result.num_segments) == ("tsn_resnet18", 1)
    spec = load_model(to(tmp_path)).spec
    assert spec.class_names == tuple("abcde")
    assert (spec.short_side, spec.crop_size) == (235, 230)
    assert (spec.interpolation, spec.antialias) == ("bicubic", False)
    more = ConvertOptions(
        str(checkpoint), to(tmp_path), num_segments=4, sampling="dense", overwrite=True
    )
    assert convert(more).num_segments == 4
    spec = load_model(to(tmp_path)).spec
    assert (spec.sampling, spec.frame_interval, spec.interpolation) == ("dense", 16, "bilinear")


@pytest.mark.parametrize("wrapper", ["model", "model_state"])
def test_wrappers(tmp_path: Path, wrapper: str) -> None:
    checkpoint = written(tmp_path, mmaction(18), wrapper)
    assert convert(ConvertOptions(checkpoint, to(tmp_path))).model == "tsn_resnet18"


def test_segments_of_five_frames(tmp_path: Path) -> None:
    convert(ConvertOptions(written(tmp_path, tdn(50)), to(tmp_path)))
    file = load_model(to(tmp_path))
    assert (file.spec.num_segments, file.spec.frames_per_segment) == (8, 5)
    assert len(file.provenance["folded"]) == 63


def test_frames_that_the_file_tells(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, tanet(50, t=4))
    assert convert(ConvertOptions(checkpoint, to(tmp_path))).num_segments == 4
    with pytest.raises(InputError, match="are for 4 frames, so num_segments cannot be 8"):
        convert(ConvertOptions(checkpoint, str(tmp_path / "b.safetensors"), num_segments=8))


# ---------------------------------------------------------------------------------------- refusals


def refused(folder: Path, checkpoint: str | Path, **options: Any) -> str:
    """Why the conversion fails; nothing is written."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as error:
        convert(ConvertOptions(str(checkpoint), to(folder), **options))
    assert sorted(folder.rglob("*")) == before
    return str(error.value)


def changed(shapes: Shapes, *gone: str, **new: tuple[int, ...]) -> Shapes:
    more = {key.replace("__", "."): shape for key, shape in new.items()}
    return {**{k: s for k, s in shapes.items() if k not in gone}, **more}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            lambda: changed(tsm(18), "base_model.layer2.1.bn2.weight"),
            r"1 key missing \(base_model.layer2.1.bn2.weight\)$",
        ),
        (
            lambda: changed(tsm(18), "base_model.layer2.1.conv1.net.weight"),
            r"1 key missing \(base_model.layer2.1.conv1.net.weight\)$",
        ),
        (
            lambda: changed(tsm(50, every=2), "base_model.layer2.1.conv1.weight"),
            r"1 key missing \(base_model.layer2.1.conv1.weight\)$",
        ),
        (
            lambda: changed(tsm(18), "base_model.conv1.weight"),
            r"1 key missing \(backbone.conv1.weight as named here\)$",
        ),
        (
            lambda: changed(tsm(18), "base_model.layer1.0.conv1.net.weight"),
            r"1 key missing \(base_model.layer1.0.conv1.net.weight\)$",
        ),
        (
            lambda: changed(tsn(50), "base_model.layer1.0.conv1.weight"),
            r"1 key missing \(base_model.layer1.0.conv1.weight\)$",
        ),
        (
            lambda: changed(image(34), "layer1.0.conv1.weight"),
            r"1 key missing \(layer1.0.conv1.weight\)$",
        ),
        (
            lambda: changed(image(50), "layer1.0.conv3.weight"),
            r"1 key missing \(layer1.0.conv3.weight\)$",
        ),
        (lambda: changed(tsm(18), "new_fc.weight"), r"1 key missing \(new_fc.weight\)$"),
        (
            lambda: changed(mmaction(18), "cls_head.fc_cls.weight"),
            r"1 key missing \(cls_head.fc_cls.weight\)$",
        ),
        (
            lambda: changed(mmaction_tsm(18), "backbone.layer3.0.conv2.bn.running_var"),
            r"1 key missing \(backbone.layer3.0.conv2.bn.running_var\)$",
        ),
        (
            lambda: changed(tea(50), "base_model.layer1.1.me.conv1.weight"),
            r"1 key missing \(base_model.layer1.1.me.conv1.weight\)$",
        ),
        (
            lambda: changed(tanet(50), "backbone.layer1.0.tam.G.0.weight"),
            r"1 key missing \(backbone.layer1.0.tam.G.0.weight\)$",
        ),
        (
            lambda: changed(tdn(50), "base_model.layer3_bak.1.mse.conv2.weight"),
            r"1 key missing \(base_model.layer3_bak.1.mse.conv2.weight\)$",
        ),
        (lambda: tsm(18, classes=0), "its classifier has no classes"),
        (
            lambda: changed(mmaction(18), other__weight=(3,)),
            r"1 key unexpected \(other.weight\)",
        ),
        (
            lambda: changed(action(18), "base_model.layer1.0.conv1.action_p2_conv1.weight"),
            r"1 key missing \(base_model.layer1.0.conv1.action_p2_conv1.weight\)$",
        ),
        (
            lambda: changed(tsm(18), base_model__bn1__bias=(65,)),
            r"1 of another shape \(base_model.bn1.bias \[65\] for \[64\]\)",
        ),
        (
            lambda: changed(tdn(50), base_model__layer3_bak__1__conv2__bias=(5,)),
            r"1 key unexpected \(base_model.layer3_bak.1.conv2.bias\)",
        ),
        (
            lambda: changed(tsm(18), base_model__layer1__0__conv1__weight=(64, 64, 3, 3)),
            "both stand for backbone.layer1.0.conv1.weight",
        ),
        (
            lambda: changed(
                tsm(18),
                "base_model.layer2.0.conv1.net.weight",
                base_model__layer2__0__conv1__weight=(128, 64, 3, 3),
            ),
            "no temporal module in layer2.0; with modules in neither all blocks nor every second",
        ),
        (
            lambda: {k: s for k, s in tsm(50).items() if ".layer4.2." not in k},
            "its four stages have 3, 4, 6, 2 Bottleneck blocks",
        ),
        (lambda: changed(image(18), "fc.weight", "fc.bias"), "without a classifier.*--pretrained"),
        (lambda: changed(tsm(18), base_model__layer2__0__nl__g__weight=(1,)), "non-local blocks"),
        (
            lambda: changed(mmaction_tsm(50), backbone__layer2__0__non_local_block__g__weight=(1,)),
            "non-local blocks",
        ),
        (lambda: {"base_model.features.0.0.weight": (32, 3, 3, 3)}, "a MobileNet"),
        (lambda: {"backbone.layer1.0.conv.0.conv.weight": (32, 32, 3, 3)}, "a MobileNet"),
        (lambda: {"base_model.inception_3a_1x1.weight": (64, 192, 1, 1)}, "a BN-Inception"),
        (lambda: {"base_model.layer1.0.net.conv1.weight": (64, 64, 1, 1)}, "place 'block'"),
        (lambda: {"backbone.layer2.net.0.conv1.conv.net.weight": (1, 1)}, "pools over time"),
        (lambda: changed(image(50), conv1__0__weight=(32, 3, 3, 3)), r"deep stem \(as resnet50d\)"),
        (lambda: changed(image(50), layer1__0__se__fc1__weight=(1,)), "channel attention"),
        (
            lambda: changed(tsm(18), base_model__conv1__weight=(64, 10, 7, 7)),
            "input of 10 channels",
        ),
        (
            lambda: changed(mmaction(18), backbone__conv1__conv__weight=(64, 3, 1, 7, 7)),
            "a 3D network",
        ),
        (lambda: changed(image(50), layer1__0__conv2__weight=(128, 4, 3, 3)), "a ResNeXt"),
        (lambda: changed(image(50), layer1__0__conv2__weight=(128, 128, 3, 3)), "a wide ResNet"),
        (lambda: {**plain(50, Res2Net), **head("fc", 50, 7)}, "Res2Net without temporal modules"),
        (lambda: {"backbone.conv1.weight": (64, 3, 7, 7)}, "of this package.*needs no conversion"),
        (
            lambda: {"model.backbone.conv1.weight": (64, 3, 7, 7)},
            "of this package.*needs no conversion",
        ),
        (lambda: {"encoder.weight": (3, 3)}, r"its keys are encoder.weight, .*known are ResNets"),
        (lambda: {"cls_head.fc_cls.weight": (3, 3)}, "no network of a known kind"),
    ],
)
def test_what_cannot_be_exact_is_refused(
    tmp_path: Path, shapes: Callable[[], Shapes], message: str
) -> None:
    reason = refused(tmp_path, written(tmp_path, shapes()))
    assert re.search(message, reason), reason
    assert "x.pth: " in reason


def test_many_misfits_are_listed_and_counted(tmp_path: Path) -> None:
    shapes = {k: s for k, s in tsm(18).items() if "layer4.1.bn" not in k}
    reason = refused(tmp_path, written(tmp_path, shapes))
    assert "8 keys missing" in reason
    assert reason.count("base_model.layer4.1.bn") == 8


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    tensors = filled(tsm(18))
    tensors["base_model.layer2.1.bn2.running_var"] = torch.full((128,), value)
    torch.save(tensors, tmp_path / "x.pth")
    reason = refused(tmp_path, tmp_path / "x.pth")
    assert "base_model.layer2.1.bn2.running_var has values that are not finite" in reason


def test_unsupported_depth(tmp_path: Path) -> None:
    keys = {k: v for k, v in tea(101).items() if not re.search(r"layer3\.(?:[6-9]|\d\d)\.", k)}
    assert recognise(filled(keys), "x").depth == 50
    deeper = {**tea(101)}
    for key, shape in tea(101).items():
        for stage, last, count in (("layer2", 3, 8), ("layer3", 22, 36)):
            if f"{stage}.{last}." in key:
                deeper |= {
                    key.replace(f"{stage}.{last}.", f"{stage}.{i}."): shape
                    for i in range(last, count)
                }
    reason = refused(tmp_path, written(tmp_path, deeper))
    assert "tea_resnet152, which this package does not have; its tea models have depth 50" in reason


def test_class_lists_of_another_length(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, tsm(18, 101))
    reason = refused(tmp_path, checkpoint, classes="hmdb51")
    assert "hmdb51: has 51 class names, but the classifier of" in reason
    assert reason.endswith("has 101 classes; give the list it was trained with")
    assert "no such file of class names" in refused(tmp_path, checkpoint, classes="ucf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_segments": 0}, "num_segments must be a whole number of at least 1"),
        ({"crop_size": 300}, "crop_size=300 does not fit"),
        ({"sampling": "random"}, "unknown sampling"),
        ({"fold_div": 1}, "fold_div must be at least 2"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    assert message in refused(tmp_path, written(tmp_path, tsm(18)), **options)


def test_fold_div_is_for_tsm(tmp_path: Path) -> None:
    reason = refused(tmp_path, written(tmp_path, mmaction(18)), fold_div=8)
    assert "leave out --fold_div" in reason


def follow(reason: str, folder: Path) -> str:
    """Run the command that a message gives, in an empty folder; its program."""
    command = re.search(r"with (python -c .*) and take that$", reason)
    assert command is not None, reason
    assert not re.search(r"[$`!\\]", command[1].split('"')[1])  # what a shell would replace
    _, _, program, *arguments = shlex.split(command[1])
    folder.mkdir()
    allowed = torch.serialization.get_safe_globals()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["-c", *arguments])
        exec(program, {})
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    return program


@pytest.mark.parametrize(
    "extra",
    [argparse.Namespace(lr=0.1), [np.float64(0.5), np.arange(2)]],
    ids=["namespace", "numpy"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_needs_unpickling_is_refused_with_a_way_out(
    tmp_path: Path, extra: object, zipped: bool
) -> None:
    path = tmp_path / "its file's" / "x.pth.tar"
    path.parent.mkdir()
    content = {"state_dict": {**filled(tsm(18))}, "args": extra}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    reason = refused(tmp_path, path)
    assert re.search(r"Python objects besides tensors \((argparse\.Namespace|numpy\.)", reason)
    assert "can run any code" not in reason
    program = follow(reason, tmp_path / "elsewhere")
    assert "weights_only=True" in program and "weights_only=False" not in program
    options = ConvertOptions(str(tmp_path / "elsewhere" / "weights-only.pth"), to(tmp_path))
    assert convert(options).model == "tsm_resnet18"


@pytest.mark.parametrize("wrapped", [True, False])
def test_other_classes_need_trust(tmp_path: Path, wrapped: bool) -> None:
    module = create_model("tsn_resnet18", 2, width=0.125)
    path = tmp_path / "x.pth"
    torch.save({"state_dict": module, "args": argparse.Namespace()} if wrapped else module, path)
    reason = refused(tmp_path, path)
    assert "can run any code, so it is refused; if you trust where it comes from" in reason
    assert "weights_only=False" in follow(reason, tmp_path / "elsewhere")
    found = read_tensors(tmp_path / "elsewhere" / "weights-only.pth")
    assert set(found) == set(module.state_dict())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; download it again"),
        (b"not a checkpoint", "is nothing that torch.save writes; give a .pth"),
        (None, "no such weights file; give the path of"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.pth"
    if content is not None:
        path.write_bytes(content)
    assert message in refused(tmp_path, path)


def test_old_format_without_counters(tmp_path: Path) -> None:
    tensors = {k: v for k, v in filled(tsn(18)).items() if "num_batches" not in k}
    path = tmp_path / "old.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    notes = convert(ConvertOptions(str(path), to(tmp_path))).notes
    assert any("num_batches_tracked" in note for note in notes)


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, tsn(18))
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"model.safetensors: exists; .* --overwrite"):
        convert(ConvertOptions(checkpoint, str(target)))
    broken = written(tmp_path, changed(tsn(18), "new_fc.bias"), name="broken.pth")
    with pytest.raises(InputError, match="missing"):
        convert(ConvertOptions(broken, str(target), overwrite=True))
    assert target.read_bytes() == b"mine"
    assert {p.name for p in tmp_path.iterdir()} == {"x.pth", "broken.pth", "model.safetensors"}
    convert(ConvertOptions(checkpoint, str(target), overwrite=True))
    with pytest.raises(InputError, match="is the checkpoint itself"):
        convert(ConvertOptions(str(target), str(target), overwrite=True))
    with pytest.raises(InputError, match="is a model file of gtdnet already; use it as it is"):
        convert(ConvertOptions(str(target), to(tmp_path)))
    with pytest.raises(InputError, match=r"must end in .safetensors, got model.pth"):
        convert(ConvertOptions(checkpoint, "model.pth"))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match=r"folder.safetensors: is a folder; give the name of a"):
        convert(ConvertOptions(checkpoint, str(tmp_path / "folder.safetensors"), overwrite=True))
    with pytest.raises(InputError, match=r"y.safetensors: cannot be written, for .*x.pth is a"):
        convert(ConvertOptions(checkpoint, f"{checkpoint}/y.safetensors"))


# ------------------------------------------------------------------- logits of the official code


def golden_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rules", GOLDEN / "rules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOLDEN_NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))


@pytest.mark.skipif(not GOLDEN_NAMES, reason="the folder of official logits is not there")
@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_logits_of_the_official_code(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = golden_rules()
    spec = json.loads((GOLDEN / f"{name}.json").read_text())
    torch.save(rules.checkpoint(spec), tmp_path / "x.pth.tar")
    assert main(["convert", str(tmp_path / "x.pth.tar"), "--to", to(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    wanted = torch.from_numpy(np.load(GOLDEN / f"{name}.npz")["logits"])
    assert result["num_classes"] == wanted.shape[1]
    clips = rules.input_for(spec).reshape(len(wanted), -1, 3, *spec["input"]["shape"][-2:])
    model = load_model(to(tmp_path)).model
    with torch.inference_mode():
        logits = model(clips[:1])  # the clips do not depend on each other
    assert (logits - wanted[:1]).abs().max() < 1e-5 * wanted.std()
