"""TDN networks: how they are put together, where they start, and the official one's answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gtdnet.data.spec import ClipSpec
from gtdnet.models import ResNet, VideoClassifier, create_model, load_model, save_model
from gtdnet.models.backbones.tdn import TDNResNet, insert_tdn
from gtdnet.nn import LongTermDifference, TemporalConv1d, temporal_convs

T = 4
CHECKPOINTS = Path(__file__).resolve().parents[3] / ".." / "shared" / "checkpoints"


def small(name: str = "tdn_resnet18", num_segments: int = T, **options: Any) -> VideoClassifier:
    torch.manual_seed(0)
    return create_model(name, 5, num_segments, **{"width": 0.125, **options})


def randomise(model: nn.Module) -> None:
    """Norms as of a trained network, a classifier that answers."""
    generator = torch.Generator().manual_seed(3)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith("running_mean"):
            value.normal_(std=0.1, generator=generator)
        elif key.startswith("classifier."):
            value.normal_(std=0.3, generator=generator)


def clips(n: int = 2, segments: int = T, size: tuple[int, int] = (32, 32)) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, segments * 5, 3, *size, generator=generator)


def backbone_of(model: VideoClassifier) -> TDNResNet:
    assert isinstance(model.backbone, TDNResNet)
    return model.backbone


def saved(model: VideoClassifier, path: Path) -> Path:
    names = tuple(f"class {i}" for i in range(model.num_classes))
    spec = ClipSpec(
        names,
        num_segments=model.num_segments,
        frames_per_segment=5,
        short_side=32,
        crop_size=32,
    )
    return save_model(path, model, spec)


# ----------------------------------------------------------------------------------- how it is made


@pytest.mark.parametrize(("name", "blocks"), [("tdn_resnet18", 6), ("tdn_resnet50", 13)])
def test_modules_stand_before_conv2_of_the_later_stages(name: str, blocks: int) -> None:
    convs = temporal_convs(small(name).backbone)
    assert len(convs) == blocks
    for key, conv in convs:
        assert key.partition(".")[0] in {"layer2", "layer3", "layer4"}
        assert key.endswith(".conv2")
        assert [(k, type(m)) for k, m in conv.temporal.named_children()] == [
            ("difference", LongTermDifference),
            ("shift", TemporalConv1d),
        ]


def test_stage_2_of_the_differences_stays_plain() -> None:
    backbone = small(stages=(2, 3)).backbone
    names = [name for name, _ in temporal_convs(backbone)]
    assert names == [f"layer{s}.{b}.conv2" for s in (1, 2) for b in (0, 1)]


def test_only_our_resnet_becomes_a_tdn() -> None:
    with pytest.raises(ValueError, match=r"made of a gtdnet\.models\.ResNet, not of a Sequential"):
        insert_tdn(nn.Sequential(), [], T)
    backbone = ResNet(18, 0.125)
    blocks = backbone.residual_blocks()
    insert_tdn(backbone, blocks[2:3], T)
    with pytest.raises(ValueError, match="not of a TDNResNet"):
        insert_tdn(backbone, blocks[3:4], T)


# --------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("name", ["tdn_resnet18", "tdn_resnet50"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (100, 64)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    model = small(name).eval()
    features = model.backbone(clips(size=size).flatten(0, 1))
    assert features.shape == (2 * T, model.classifier.in_features, *(-(-s // 32) for s in size))
    assert features.isfinite().all()


def test_fused_where_the_stem_and_stage_2_end() -> None:
    backbone = backbone_of(small(appearance=0.75)).eval()
    frames = clips().flatten(0, 1)
    h_1, h_2 = backbone.temporal(frames.unflatten(0, (-1, 5)))

    def plus(x: Tensor, h: Tensor) -> Tensor:
        assert x.shape[2:] == (8, 8)
        assert h.shape[2:] == (4, 4)
        return 0.75 * x + 0.25 * h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    middle = frames[2::5]  # the third of five
    stem = backbone.maxpool(backbone.bn1(backbone.conv1(middle)).relu())
    first, *later = (backbone.get_submodule(stage) for stage in backbone.layers)
    x = plus(first(plus(stem, h_1)), h_2)
    for stage in later:
        x = stage(x)
    torch.testing.assert_close(backbone(frames), x)


def test_without_differences_the_middle_frame_decides() -> None:
    model = small(appearance=1.0).eval()
    randomise(model)
    clip = clips()
    other = clip.clone()
    for position in (0, 1, 3, 4):
        other[:, position::5] = torch.randn_like(other[:, position::5])
    assert torch.equal(model(other), model(clip))
    other[:, 2::5] = other[:, 1::5]
    assert (model(other) - model(clip)).abs().max() > 1e-3


def test_order_within_segments_and_of_segments_matters() -> None:
    model = small().eval()
    randomise(model)
    clip = clips().unflatten(1, (T, 5))
    wanted = model(clip.flatten(1, 2))
    for dim in (1, 2):
        assert (model(clip.flip(dim).flatten(1, 2)) - wanted).abs().max() > 1e-4


def test_clips_do_not_mix() -> None:
    model = small().eval()
    randomise(model)
    together = model(clips(3))
    for n, alone in enumerate(clips(3)):
        torch.testing.assert_close(model(alone[None])[0], together[n], rtol=1e-4, atol=1e-5)


def test_incomplete_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected segments of 5 frames side by side"):
        small().backbone(torch.zeros(4, 3, 32, 32))


# --------------------------------------------------------------------------- how much of appearance


@pytest.mark.parametrize(("num_segments", "alpha"), [(8, 0.5), (4, 0.75), (16, 0.75)])
def test_appearance_as_published(num_segments: int, alpha: float) -> None:
    assert backbone_of(small(num_segments=num_segments)).temporal.appearance == alpha


def test_appearance_as_trained_stays_at_another_number_of_segments(tmp_path: Path) -> None:
    path = saved(small(num_segments=8), tmp_path / "8.safetensors")
    assert load_model(path).model.options["appearance"] is None
    at_16 = load_model(path, num_segments=16).model
    assert backbone_of(at_16).temporal.appearance == 0.5
    again = load_model(saved(at_16, tmp_path / "16.safetensors")).model
    assert backbone_of(again).temporal.appearance == 0.5


def test_appearance_as_chosen_stays_at_another_number_of_segments(tmp_path: Path) -> None:
    model = small(num_segments=8, appearance=0.6)
    assert backbone_of(model).temporal.appearance == 0.6
    loaded = load_model(saved(model, tmp_path / "model.safetensors"), num_segments=16).model
    assert backbone_of(loaded).temporal.appearance == 0.6
    assert loaded(clips(segments=16)).shape == (2, 5)


# ---------------------------------------------------------------------------------- where it starts


@pytest.mark.parametrize("init", ["auto", "default"])
def test_starts_from_2d_weights(init: str) -> None:
    torch.manual_seed(1)
    plain = create_model("tsn_resnet18", 5, T, width=0.125)
    randomise(plain)
    source = plain.backbone.state_dict()
    state = small(pretrained=source, init=init).backbone.state_dict()
    for key, value in source.items():
        assert torch.equal(state[key], value), key
        if key.startswith("layer1."):
            assert torch.equal(state[f"temporal.{key}"], value), key
    mean = source["conv1.weight"].mean(1, keepdim=True).expand(-1, 12, -1, -1)
    torch.testing.assert_close(state["temporal.conv.weight"], mean)
    assert not (set(state) - set(source)) & {k for k in state if "temporal" not in k.split(".")}


@pytest.mark.parametrize("num_segments", [T, 2 * T])
def test_trained_differences_are_taken_over(num_segments: int, tmp_path: Path) -> None:
    trained = small()
    randomise(trained)
    path = saved(trained, tmp_path / "model.safetensors")
    torch.manual_seed(7)
    model = create_model("tdn_resnet18", 9, num_segments, width=0.125, pretrained=path)
    state = model.backbone.state_dict()
    wanted = trained.backbone.state_dict()
    assert set(state) == set(wanted)
    assert all(torch.equal(state[key], value) for key, value in wanted.items())


# -------------------------------------------------------------------------------- published figures


@pytest.mark.parametrize(("num_segments", "giga"), [(8, 36), (16, 71)])
def test_macs_of_the_published_settings(num_segments: int, giga: int) -> None:
    with torch.device("meta"):
        model = create_model("tdn_resnet50", 174, num_segments).eval()
        clip = torch.empty(1, num_segments * 5, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model(clip)
    assert round(counter.get_total_flops() / 2e9) == giga


def test_parameters() -> None:
    with torch.device("meta"):
        model = create_model("tdn_resnet50", 174)
    stem = 64 * 12 * 49 + 2 * 64
    stage_2 = 215_808  # torchvision's ResNet-50, layer1
    long_term = 0
    for c, blocks in ((128, 4), (256, 6), (512, 3)):
        d = c // 16
        long_term += blocks * (2 * c * d + 9 * d + 2 * 9 * d * d + 3 * 2 * d + 2 * c + 3 * c)
    plain = 23_508_032 + 174 * 2049
    assert sum(p.numel() for p in model.parameters()) == plain + stem + stage_2 + long_term


# --------------------------------------------------------------------------------- the official one

RENAMED = {
    "_bak.": ".",
    ".mse.": ".conv2.temporal.difference.",
    ".shift.conv.": ".conv2.temporal.shift.",
    "conv1_5.0.": "temporal.conv.",
    "conv1_5.1.": "temporal.bn.",
    "resnext_layer1.": "temporal.layer1.",
    "new_fc.": "classifier.",
}


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official state dict under this package's keys; biases go into the norms behind them."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.").replace("base_model.", "backbone.")
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        if ".conv1_temp." not in name:
            tensors[name] = value.clone()
    for key in list(tensors):
        layer, _, leaf = key.rpartition(".")
        if leaf == "bias" and f"{layer}.running_mean" not in tensors and layer != "classifier":
            norm = layer.replace("downsample.0", "downsample.1")
            if norm == layer:
                norm = layer[:-5] + layer[-5:].replace("conv", "bn")
            tensors[f"{norm}.running_mean"] -= tensors.pop(key)
    return tensors


def load_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("checkpoint_rules", CHECKPOINTS / "rules.py")
    assert spec is not None
    assert spec.loader is not None
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    return rules


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="the shared official checkpoints are absent")
def test_official_logits() -> None:
    rules = load_rules()
    spec = json.loads((CHECKPOINTS / "tdn_r50_8f.json").read_text())
    wanted = torch.from_numpy(np.load(CHECKPOINTS / "tdn_r50_8f.npz")["logits"])
    model = create_model("tdn_resnet50", 174, 8).eval()
    model.load_state_dict(from_official(rules.state_dict(spec)))
    with torch.inference_mode():
        logits = model(rules.input_for(spec).unflatten(0, (2, 40)))
    assert (logits - wanted).abs().max() < 1e-4 * wanted.std()
