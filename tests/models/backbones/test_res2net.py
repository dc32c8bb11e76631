"""Res2Net: published keys and sizes, its block by itself, and TEA's official logits."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gtdnet.models import ResNet, create_model
from gtdnet.models.backbones.res2net import Res2Net, Res2NetBlock, insert_tea
from gtdnet.nn import TemporalExcitationAggregation

CHECKPOINTS = Path(__file__).resolve().parents[3] / ".." / "shared" / "checkpoints"

# Millions of parameters of the published 26w 4s ImageNet networks, their classifier included.
PUBLISHED = {50: 25.70, 101: 45.21}


@pytest.mark.parametrize("depth", [50, 101])
def test_keys_and_sizes_are_the_published_ones(depth: int) -> None:
    with torch.device("meta"):
        backbone = Res2Net(depth)
    parameters = sum(p.numel() for p in backbone.parameters()) + 1000 * 2049
    assert round(parameters / 1e6, 2) == PUBLISHED[depth]
    assert backbone.num_features == 2048
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    inside = {key.split(".", 2)[2]: shape for key, shape in shapes.items() if "layer1.0." in key}
    norm = ("weight", "bias", "running_mean", "running_var")
    wanted = {
        "conv1.weight": (104, 64, 1, 1),
        **{f"convs.{i}.weight": (26, 26, 3, 3) for i in range(3)},
        "conv3.weight": (256, 104, 1, 1),
        "downsample.0.weight": (256, 64, 1, 1),
        **{f"bn1.{part}": (104,) for part in norm},
        **{f"bns.{i}.{part}": (26,) for i in range(3) for part in norm},
        **{f"bn3.{part}": (256,) for part in norm},
        **{f"downsample.1.{part}": (256,) for part in norm},
        **{
            f"{name}.num_batches_tracked": ()
            for name in ("bn1", "bns.0", "bns.1", "bns.2", "bn3", "downsample.1")
        },
    }
    assert inside == wanted
    assert shapes["layer4.2.convs.2.weight"] == (208, 208, 3, 3)
    stem = {key for key in shapes if not key.startswith("layer")}
    assert stem == {key for key in ResNet(18, 0.125).state_dict() if not key.startswith("layer")}


def test_refused_depth() -> None:
    with pytest.raises(ValueError, match=r"no Res2Net of depth 18: choose one of \[50, 101, 152\]"):
        Res2Net(18)


@pytest.mark.parametrize("width", [0.01, 0.125, 0.3])
def test_small_widths(width: float) -> None:
    model = create_model("tea_resnet50", 3, 2, width=width).eval()
    assert model(torch.randn(1, 2, 3, 64, 96)).shape == (1, 3)
    assert model.backbone(torch.randn(2, 3, 64, 96)).shape[2:] == (2, 3)


# ------------------------------------------------------------------------------------ one block


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(std=0.4, generator=generator)


def over_time(weight: Tensor, x: Tensor, t: int) -> Tensor:
    out = torch.zeros_like(x)
    for i in range(len(x)):
        for k, j in enumerate((i - 1, i, i + 1)):
            if 0 <= j < len(x) and j // t == i // t:
                out[i] += weight[:, 0, k, None, None] * x[j]
    return out


def expected(block: Res2NetBlock, x: Tensor, t: int, stride: int, opens_stage: bool) -> Tensor:
    """The block written out, with TEA's parts where it has them."""

    def over_time_of(i: int, split: Tensor) -> Tensor:
        if block.temporal is None:
            return split
        return over_time(block.temporal.get_parameter(f"aggregation.{i}.weight"), split, t)

    y = F.relu(block.bn1(block.conv1(x)))
    if block.temporal is not None:
        y = y * (1 + block.temporal.excitation.gate(y))
    size = y.shape[1] // 4
    y1, y2, y3, y4 = (y[:, i * size : (i + 1) * size] for i in range(4))

    def k(i: int, split: Tensor) -> Tensor:
        weight = block.get_parameter(f"convs.{i}.weight")
        out = F.conv2d(over_time_of(i, split), weight, stride=stride, padding=1)
        return F.relu(block.bns[i](out))

    o1 = k(0, y1)
    o2 = k(1, y2 if opens_stage else y2 + o1)
    o3 = k(2, y3 if opens_stage else y3 + o2)
    o4 = over_time_of(3, y4)
    if opens_stage:
        # Zeros around the image count in the mean.
        o4 = F.pad(o4, (1, 1, 1, 1)).unfold(2, 3, stride).unfold(3, 3, stride).mean(dim=(4, 5))
    out = block.bn3(block.conv3(torch.cat([o1, o2, o3, o4], dim=1)))
    return F.relu(out + (block.downsample(x) if block.downsample is not None else x))


@pytest.mark.parametrize("tea", [False, True])
@pytest.mark.parametrize(
    ("channels", "stride", "opens_stage"), [(16, 1, True), (16, 2, True), (64, 1, False)]
)
def test_block_equals_the_formulas(
    channels: int, stride: int, opens_stage: bool, tea: bool
) -> None:
    block = Res2NetBlock(channels, 16, stride)
    if tea:
        block.temporal = TemporalExcitationAggregation(24, 3)
    block = block.double().eval()
    randomise(block)
    x = torch.randn(6, channels, 5, 6, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), expected(block, x, 3, stride, opens_stage))


# ------------------------------------------------------------------------------------ TEA in it


def test_tea_is_in_every_block_of_its_stages() -> None:
    model = create_model("tea_resnet50", 3, 4, width=0.125, stages=(3, 5), every=2, reduction=4)
    blocks = [(n, m) for n, m in model.backbone.named_modules() if isinstance(m, Res2NetBlock)]
    assert len(blocks) == 16
    with_tea = [name for name, block in blocks if block.temporal is not None]
    assert with_tea == ["layer2.0", "layer2.2", "layer4.0", "layer4.2"]


def test_2d_weights_load_and_tea_starts_the_same_whatever_they_are() -> None:
    torch.manual_seed(0)
    source = Res2Net(50, 0.125).state_dict()
    imagenet = {**source, "fc.weight": torch.zeros(1000, 256), "fc.bias": torch.zeros(1000)}
    model = create_model("tea_resnet50", 3, 4, width=0.125, pretrained=imagenet)
    state = model.backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in source.items())
    new = {key for key in state if key not in source}
    assert all(".temporal." in key for key in new)
    assert torch.equal(
        state["layer1.0.temporal.aggregation.3.weight"][:, 0],
        torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),  # the third of three channels stays
    )
    assert state["layer1.0.temporal.excitation.bn3.weight"].all()


def test_clips_of_a_batch_do_not_mix() -> None:
    model = create_model("tea_resnet50", 3, 4, width=0.125).double().eval()
    randomise(model)
    x = torch.randn(3, 4, 3, 32, 32, dtype=torch.float64)
    other = x.clone()
    other[1, 2] += 1
    with torch.inference_mode():
        before, after = model(x), model(other)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], rtol=1e-12, atol=0)
    assert not torch.allclose(before[1], after[1])


def test_needs_res2net_blocks() -> None:
    network = ResNet(18, 0.125)
    with pytest.raises(ValueError, match=r"layer1\.0 is a BasicBlock, TEA needs a Res2NetBlock"):
        insert_tea(network, network.residual_blocks()[:1], 4, "default")


@pytest.mark.parametrize(("num_segments", "giga"), [(8, 34.46), (16, 68.93)])
def test_cost(num_segments: int, giga: float) -> None:
    with torch.device("meta"):
        model = create_model("tea_resnet50", 174, num_segments).eval()
        clip = torch.empty(1, num_segments, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model(clip)
    assert round(counter.get_total_flops() / 2e9, 2) == giga
    assert sum(p.numel() for p in model.parameters()) == 24_456_280  # of the official network


def load_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("checkpoint_rules", CHECKPOINTS / "rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    not (CHECKPOINTS / "tea_r50_8f.npz").is_file(), reason=f"no reference logits in {CHECKPOINTS}"
)
def test_official_tea_logits() -> None:
    rules = load_rules()
    spec = json.loads((CHECKPOINTS / "tea_r50_8f.json").read_text())
    wanted = np.load(CHECKPOINTS / "tea_r50_8f.npz")["logits"]
    model = create_model("tea_resnet50", 174, 8).eval()
    state = {}
    for key, value in rules.checkpoint(spec)[spec["wrapper"]].items():
        ours = key.removeprefix(spec["prefix"]).replace(".me.", ".temporal.excitation.")
        ours = re.sub(r"\.shifts\.(\d)\.conv\.", r".temporal.aggregation.\1.", ours)
        ours = ours.replace("base_model.", "backbone.").replace("new_fc.", "classifier.")
        state[ours] = value
    model.load_state_dict(state)
    with torch.inference_mode():
        logits = model(rules.input_for(spec).unflatten(0, (2, 8))).numpy()
    assert abs(logits - wanted).max() <= 1e-4 * wanted.std()
