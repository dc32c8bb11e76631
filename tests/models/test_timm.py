"""Networks of timm: all that a backbone of this package can, they can. Without timm, what is said.

Most run where timm can be imported alone: tests/with_timm.sh makes such an environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gtdnet.cli import main
from gtdnet.data.spec import ClipSpec
from gtdnet.engines.deploy import deployable
from gtdnet.errors import InputError
from gtdnet.export import ExportOptions, export
from gtdnet.models import VideoClassifier, create_model, load_model, model_options, save_model
from gtdnet.models.backbones import timm as networks
from gtdnet.models.build import find_models, floor, spec_values
from gtdnet.models.complexity import complexity
from gtdnet.nn import temporal_layers
from gtdnet.train.optim import freeze, parameter_groups

T = 2


def why_not() -> str:
    """Why timm cannot be imported here; "" if it can."""
    try:
        networks._timm()
    except InputError as error:
        return str(error)
    return ""


REASON = why_not()
needs_timm = pytest.mark.skipif(bool(REASON), reason=f"{REASON} (tests/with_timm.sh)")
NAMES = {  # by name: the first layer with a module, how many, channels, maps, side of the frames
    "resnet18": ("layer1.0.conv1", 8, 512, True, 64),
    "regnety_002": ("s1.b1.conv1.conv", 13, 368, True, 64),
    "mobilenetv3_small_050": ("blocks.1.1.conv_pw", 7, 1024, False, 64),
    "tf_efficientnet_lite0": ("blocks.1.1.conv_pw", 9, 1280, True, 64),
    "convnext_atto": ("stages.0.blocks.0.conv_dw", 12, 320, False, 64),
    "efficientformer_l1": ("stages.0.blocks.0.mlp.fc1", 16, 448, False, 224),
    "vit_tiny_patch16_224": ("blocks.0.attn.qkv", 24, 192, False, 64),
}
each_network = pytest.mark.parametrize("name", NAMES)


def options_of(name: str) -> dict[str, Any]:
    """For frames smaller than those of the published weights."""
    return {"image_size": 64} if name.startswith("vit") else {}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A file of timm's keys with numbers as after training, by a network's name."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            network = networks._timm().create_model(name)
            generator = torch.Generator().manual_seed(3)
            for key, value in network.state_dict().items():
                if key.endswith("running_var"):
                    value.uniform_(0.5, 1.5, generator=generator)
                elif value.squeeze().ndim == 1 and not key.endswith(("bias", "mean")):
                    value.uniform_(0.5, 1.0, generator=generator)  # else branches begin at 0
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
        return path

    return make


def clip(size: int) -> Tensor:
    return torch.randn(1, T, 3, size, size, generator=torch.Generator().manual_seed(1))


def made(method: str, name: str, weights: Path | Mapping[str, Tensor]) -> VideoClassifier:
    options = options_of(name)
    return create_model(f"{method}_timm/{name}", 3, T, pretrained=weights, **options).eval()


def spec_of(model: VideoClassifier, size: int) -> ClipSpec:
    return ClipSpec(("a", "b", "c"), T, short_side=size, crop_size=size, **spec_values(model.name))


# ---------------------------------------------------------------------------------- the networks


@needs_timm
@each_network
@torch.no_grad()
def test_it_is_timms_network_with_modules_in_its_branches(
    name: str, weights: Callable[[str], Path], tmp_path: Path
) -> None:
    first, count, channels, has_maps, size = NAMES[name]
    own = networks._timm().create_model(name, **({"img_size": 64} if options_of(name) else {}))
    still = made("tsn", name, weights(name))
    fitted = made("tsn", name, load_file(weights(name))).backbone.state_dict()
    assert all(torch.equal(v, fitted[k]) for k, v in still.backbone.state_dict().items())
    own.load_state_dict({k.removeprefix("network."): v for k, v in fitted.items()}, strict=False)
    x = clip(size)
    wanted = own.eval().forward_head(own.forward_features(x[0]), pre_logits=True)
    assert still.num_classes == 3
    assert still.backbone.num_features == channels == wanted.shape[1]
    assert (still.backbone(x[0]).ndim == 4) == has_maps
    torch.testing.assert_close(still.forward_features(x)[0], wanted)

    shifted, gated = made("tsm", name, weights(name)), made("gtdnet", name, weights(name))
    sites = [site.removeprefix("network.") for site, _ in temporal_layers(gated.backbone)]
    assert (sites[0], len(sites)) == (first, count)
    seen = shifted.forward_features(x)
    torch.testing.assert_close(
        gated.forward_features(x), seen, rtol=1e-4, atol=1e-5 * float(seen.abs().max())
    )
    assert not torch.allclose(seen[0], wanted, rtol=1e-2)  # the shift is there

    path = save_model(tmp_path / "m.safetensors", gated, spec_of(gated, size))
    torch.testing.assert_close(load_model(path).model(x), gated(x))
    torch.testing.assert_close(deployable(gated)(x), gated(x), rtol=1e-4, atol=1e-6)


@needs_timm
def test_positions_of_another_size_are_interpolated() -> None:
    own = networks._timm().create_model("vit_tiny_patch16_224", num_classes=0)
    model = made("tsn", "vit_tiny_patch16_224", own.state_dict())
    assert own.pos_embed.shape == (1, 197, 192)
    assert model.backbone.state_dict()["network.pos_embed"].shape == (1, 17, 192)
    with pytest.raises(InputError, match=r"takes frames of 64x64 pixels, got 96x96; give crop_si"):
        model(clip(96))


@needs_timm
def test_what_timm_says_of_the_pictures_goes_into_the_spec() -> None:
    assert spec_values("tsm_timm/resnet18.tv_in1k") == {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bilinear",
        "frames_per_segment": 1,
    }
    assert spec_values("tsm_timm/mobilenetv3_large_100.miil_in21k")["mean"] == (0.0, 0.0, 0.0)
    assert spec_values("tsm_timm/vit_tiny_patch16_224")["mean"] == (0.5, 0.5, 0.5)
    assert model_options("tsm_timm/vit_small_patch14_dinov2")["image_size"] == 224
    assert "image_size" not in model_options("tsm_timm/resnet18")


@needs_timm
def test_stages(weights: Callable[[str], Path]) -> None:
    """They are counted by the size of the maps, or in four parts where that is one."""
    of_vit = create_model("tsm_timm/vit_tiny_patch16_224", 3, T).backbone
    stages = [block.stage for block in of_vit.residual_blocks()]  # type: ignore[operator]
    assert stages == [2] * 6 + [3] * 6 + [4] * 6 + [5] * 6
    model = create_model("gtdnet_timm/regnety_002", 3, T, stages=[4, 5])
    found = [name.split(".")[1] for name, _ in temporal_layers(model.backbone)]
    assert found == ["s3"] * 4 + ["s4"] * 7
    freeze(model, "none", 2)
    learning = {n.split(".")[1] for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert learning == {"s2", "s3", "s4"}
    freeze(model, "none", 5)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    mobile = create_model("tsm_timm/mobilenetv3_small_050", 3, T)
    freeze(mobile, "none", 3)
    frozen = {n for n, p in mobile.backbone.named_parameters() if not p.requires_grad}
    assert {".".join(n.split(".")[:3]) for n in frozen if ".blocks." in n} == {
        "network.blocks.0", "network.blocks.1",
    }  # fmt: skip
    assert {n.split(".")[1] for n in frozen} == {"conv_stem", "bn1", "blocks"}


@needs_timm
def test_a_network_without_stages_is_not_frozen_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.network_of("resnet18")
    monkeypatch.setattr(network, "ends", {})
    model = create_model("tsm_timm/resnet18", 3, T)
    with pytest.raises(InputError, match=r"^frozen_stages=2: timm does not say what the stages"):
        freeze(model, "none", 2)


@needs_timm
def test_drop_path_is_a_branch_left_out_in_training_alone(weights: Callable[[str], Path]) -> None:
    model = create_model(
        "tsm_timm/resnet18", 3, T, pretrained=weights("resnet18"), drop_path=0.5, dropout=0.0
    )
    x = clip(64)
    with torch.no_grad():
        assert len({float(model.train()(x).sum()) for _ in range(4)}) > 1
        features = model.eval().forward_features(x)
        wanted = made("tsm", "resnet18", weights("resnet18")).forward_features(x)
    assert not torch.equal(features, wanted)  # four training passes have moved the statistics
    fresh = create_model(
        "tsm_timm/resnet18", 3, T, pretrained=weights("resnet18"), drop_path=0.5
    ).eval()
    torch.testing.assert_close(fresh.forward_features(x), wanted)


@needs_timm
def test_other_sites() -> None:
    model = create_model("gtdnet_timm/densenet121", 3, T, sites="*.denselayer1.conv2")
    sites = [name.split(".")[2:4] for name, _ in temporal_layers(model.backbone)]
    assert sites == [[f"denseblock{n}", "denselayer1"] for n in (1, 2, 3, 4)]
    stages = [block.stage for block in model.backbone.residual_blocks()]  # type: ignore[operator]
    assert stages == [2, 3, 4, 5]


@needs_timm
def test_layer_scale_positions_and_norms_do_not_decay() -> None:
    model = create_model("tsm_timm/convnext_atto", 3, T)
    decays = {
        id(p) for g in parameter_groups(model, 1, 0.1) if g["weight_decay"] for p in g["params"]
    }
    names = {n for n, p in model.backbone.named_parameters() if id(p) in decays}
    assert names and all(name.endswith(".weight") and "norm" not in name for name in names)
    assert not any(name.endswith("gamma") for name in names)


@needs_timm
def test_costs() -> None:
    """A ResNet-18 is this package's, whoever made it."""
    own, other = (complexity(f"gtdnet_{name}", 5, 8) for name in ("resnet18", "timm/resnet18"))
    assert (own.parameters, own.macs) == (other.parameters, other.macs)
    assert floor("gtdnet_timm/resnet18", {"reduction": 8, "drop_path": 0.1}) == (
        "tsn_timm/resnet18",
        {"drop_path": 0.1},
    )


@needs_timm
def test_names() -> None:
    assert find_models("gtdnet_timm/regnety_00?") == [
        f"gtdnet_timm/regnety_00{n}" for n in (2, 4, 6, 8)
    ]
    assert find_models("*_timm/resnet18") == [
        f"{m}_timm/resnet18" for m in ("gtdnet", "tsm", "tsn")
    ]
    assert "tsm_timm/resnet18.tv_in1k" in find_models("tsm_timm/resnet18.*")


# --------------------------------------------------------------------------------------- refusals


@needs_timm
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tsm_timm/resnet19", r"has no network 'resnet19' \(did you mean resnet18\?\)"),
        ("tsm_timm/resnet18.mine", "has no weights 'mine' of resnet18; it has a1_in1k"),
        ("tsm_timm/hf-hub:a/b", "has no network 'hf-hub:a/b'"),
        ("tsm_timm/local-dir:x", "has no network 'local-dir:x'"),
        ("tea_timm/resnet18", "tea was made for another kind .*gtdnet_timm/resnet18, tsm_timm/res"),
        ("gtdnet_timm/densenet121", r"adds no residual branch .*--model_options\.sites"),
        ("gtdnet_timm/repvgg_a0", r"conv_1x1\.conv and .*conv_kxk\.conv, so that no one place is"),
    ],
)
def test_what_cannot_be_is_said(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, 3, T)


@needs_timm
def test_weights_that_do_not_fit(weights: Callable[[str], Path]) -> None:
    state = load_file(weights("resnet18"))
    with pytest.raises(InputError, match=r"do not fit timm's resnet18: Missing key.*conv1\.weight"):
        made("tsn", "resnet18", {k: v for k, v in state.items() if k != "conv1.weight"})
    with pytest.raises(InputError, match="there are none"):
        made("tsn", "resnet18", {k: v for k, v in state.items() if k.startswith("fc.")})


@needs_timm
@pytest.mark.parametrize(
    ("name", "source", "wanted"),
    [
        ("regnety_008", "imagenet", "hf://timm/regnety_008.pycls_in1k"),
        ("resnet18.tv_in1k", "imagenet", "hf://timm/resnet18.tv_in1k"),
        ("vit_small_patch14_dinov2", "timm", "hf://timm/vit_small_patch14_dinov2.lvd142m"),
        ("resnet18", "mine.safetensors", "mine.safetensors"),
    ],
)
def test_where_weights_lie(name: str, source: str, wanted: str) -> None:
    assert networks.network_of(name).published(source) == wanted


@needs_timm
def test_weights_that_are_not_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.network_of("vit_small_patch14_dinov2")
    with pytest.raises(InputError, match="are called lvd142m, not ImageNet's; --pretrained timm"):
        network.published("imagenet")
    pickled = {"tag": "in1k", "url": "https://x.org/a.pth", "hf_hub_id": None}
    for cfg, message in (
        (pickled, r"only as a pickled file, .* get https://x\.org/a\.pth yourself and give"),
        ({**pickled, "url": None}, "timm has no weights of timm/vit_small_patch14_dinov2; give a"),
    ):
        monkeypatch.setattr(networks, "_cfg", lambda name, cfg=cfg: cfg)
        with pytest.raises(InputError, match=message):
            network.published("imagenet")


@needs_timm
def test_a_file_of_another_version_says_so(weights: Callable[[str], Path], tmp_path: Path) -> None:
    model = made("tsm", "resnet18", weights("resnet18"))
    path = save_model(tmp_path / "m.safetensors", model, spec_of(model, 64))
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["gtdnet"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    version = networks._timm().__version__
    assert header["model"]["name"] == "tsm_timm/resnet18"
    assert header["model"]["packages"] == {"timm": version}
    header["model"]["packages"]["timm"] = "0.9.0"
    del tensors["backbone.network.conv1.weight"]
    save_file(tensors, path, {"gtdnet": json.dumps(header)})
    said = (
        rf"1 key missing .*; it was made with timm 0\.9\.0, here is {version}: pip install timm=="
    )
    with pytest.raises(InputError, match=said):
        load_model(path)


# --------------------------------------------------------------------------------------- commands


@needs_timm
def test_train_predict_export(
    weights: Callable[[str], Path], dataset: Path, tmp_path: Path
) -> None:
    words = f"""train --model gtdnet_timm/regnety_002 --pretrained {weights("regnety_002")}
        --data {dataset} --output {tmp_path} --num_segments 2 --epochs 1 --batch_size 2
        --short_side 64 --crop_size 64 --num_workers 0 --precision fp32 --device cpu
        --frozen_stages 3 --model_options.drop_path 0.1"""
    assert main(words.split()) == 0
    (run,) = tmp_path.glob("gtdnet_timm-regnety_002-*")
    loaded = load_model(run)
    assert loaded.model.name == "gtdnet_timm/regnety_002"
    assert loaded.spec.interpolation == "bicubic"
    own, new = load_file(weights("regnety_002")), loaded.model.backbone.state_dict()
    key = "s2.b1.conv2.conv.weight"
    assert torch.equal(new[f"network.{key}"], own[key])  # frozen
    assert not torch.equal(new["network.s4.b1.conv2.conv.weight"], own["s4.b1.conv2.conv.weight"])
    video = next(p for p in dataset.rglob("*.*") if p.suffix in (".mp4", ".webm", ".mkv"))
    assert main(["predict", str(run), str(video)]) == 0
    result = export(ExportOptions(model=str(run), output=str(tmp_path / "e"), formats="onnx"))
    assert result["formats"][0]["relative_difference"] < 1e-4


# ------------------------------------------------------------------------------------ without timm


@pytest.fixture
def no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    networks.network_of.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)


SAID = r"made by a package that is not installed \(timm\); pip install 'gtdnet\[timm\]'"


def test_without_timm_its_networks_are_refused(
    no_timm: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=SAID):
        create_model("gtdnet_timm/resnet18", 3, T)
    with pytest.raises(InputError, match=SAID):
        find_models("gtdnet_timm/*")
    header = {
        "format_version": 1,
        "model": {
            "name": "tsm_timm/resnet18", "num_classes": 1, "num_segments": T,
            "options": {}, "packages": {"timm": "1.0.0"},
        },
        "spec": ClipSpec(("a",), T).to_dict(),
    }  # fmt: skip
    path = tmp_path / "m.safetensors"
    save_file({"classifier.bias": torch.zeros(1)}, path, {"gtdnet": json.dumps(header)})
    with pytest.raises(InputError, match=rf"^{path}: .*{SAID}"):
        load_model(path)
    assert main(["models", "tsm_timm/resnet18"]) == 2
    assert "pip install 'gtdnet[timm]'" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"^there is no tdn_timm/x: tdn was made for another kind"):
        create_model("tdn_timm/x", 3)


def test_timm_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So it is with a torchvision of another build."""
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    networks.network_of.cache_clear()
    with pytest.raises(
        InputError, match=r"imported \(operator torchvision::nms\); .* of one build"
    ):
        create_model("gtdnet_timm/resnet18", 3, T)
    networks.network_of.cache_clear()


def test_no_other_network_needs_timm(no_timm: None) -> None:
    assert find_models("tsm_resnet18") == ["tsm_resnet18"]
    assert isinstance(create_model("tsm_resnet18", 3, T, width=0.125).backbone, nn.Module)
