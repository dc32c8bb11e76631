"""The 2D backbones: torchvision's keys and sizes, and official logits where they are at hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from gtdnet.models import ResNet, create_model
from gtdnet.models.backbones.resnet import DEPTHS, BasicBlock, Bottleneck

CHECKPOINTS = Path(__file__).resolve().parents[3] / ".." / "shared" / "checkpoints"

needs_checkpoints = pytest.mark.skipif(
    not (CHECKPOINTS / "rules.py").is_file(), reason=f"no reference logits in {CHECKPOINTS}"
)

# Per depth: entries of torchvision's state dict, its parameters, and the inputs of its fc layer.
TORCHVISION = {
    18: (122, 11_689_512, 512),
    34: (218, 21_797_672, 512),
    50: (320, 25_557_032, 2048),
    101: (626, 44_549_160, 2048),
    152: (932, 60_192_808, 2048),
}

STEM = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.weight": (64,),
    "bn1.running_mean": (64,),
    "bn1.num_batches_tracked": (),
}
KEYS = {
    18: {
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer1.1.bn2.running_var": (64,),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.bias": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
    },
    34: {
        "layer2.3.conv1.weight": (128, 128, 3, 3),
        "layer3.5.bn1.bias": (256,),
        "layer4.2.conv2.weight": (512, 512, 3, 3),
    },
    50: {
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.conv3.weight": (256, 64, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer3.0.conv1.weight": (256, 512, 1, 1),
        "layer3.5.bn3.running_mean": (1024,),
        "layer4.0.downsample.1.num_batches_tracked": (),
        "layer4.2.conv2.weight": (512, 512, 3, 3),
    },
    101: {"layer3.22.conv3.weight": (1024, 256, 1, 1), "layer4.2.bn3.weight": (2048,)},
    152: {"layer2.7.conv2.weight": (128, 128, 3, 3), "layer3.35.conv1.weight": (256, 1024, 1, 1)},
}


@pytest.mark.parametrize("depth", list(DEPTHS))
def test_keys_and_sizes_are_torchvisions(depth: int) -> None:
    with torch.device("meta"):
        backbone = ResNet(depth)
    state = backbone.state_dict()
    entries, parameters, features = TORCHVISION[depth]
    assert len(state) == entries - 2  # without fc.weight and fc.bias
    assert sum(p.numel() for p in backbone.parameters()) == parameters - 1000 * (features + 1)
    assert backbone.num_features == features
    assert not [key for key in state if key.startswith("fc.")]
    wanted = {**STEM, **KEYS[depth]}
    assert {key: tuple(state[key].shape) for key in wanted} == wanted


@pytest.mark.parametrize("depth", list(DEPTHS))
def test_output_is_a_thirty_second_of_the_input(depth: int) -> None:
    backbone = ResNet(depth, width=0.125)
    channels = 8 * 8 * DEPTHS[depth][0].expansion
    assert backbone.num_features == channels
    assert backbone(torch.randn(1, 3, 64, 96)).shape == (1, channels, 2, 3)


def test_stride_is_in_the_first_convolution_of_basic_and_in_the_3x3_of_bottleneck_blocks() -> None:
    basic, bottleneck = BasicBlock(8, 16, stride=2), Bottleneck(8, 16, stride=2)
    assert (basic.conv1.stride, basic.conv2.stride) == ((2, 2), (1, 1))
    strides = (bottleneck.conv1.stride, bottleneck.conv2.stride, bottleneck.conv3.stride)
    assert strides == ((1, 1), (2, 2), (1, 1))


@pytest.mark.parametrize("block", [BasicBlock(8, 8), Bottleneck(32, 8)])
def test_shortcut_without_projection_passes_the_input(block: BasicBlock | Bottleneck) -> None:
    assert block.downsample is None
    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    nn.init.zeros_(last.weight)
    x = torch.randn(2, block.conv1.in_channels, 4, 4)
    assert torch.equal(block.eval()(x), torch.relu(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((20,), r"no ResNet of depth 20: choose one of \[18, 34, 50, 101, 152\]"),
        ((18, 0.0), "width must be positive, got 0.0"),
        ((18, -1.0), "width must be positive, got -1.0"),
    ],
)
def test_bad_arguments(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(*arguments)


def load_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("checkpoint_rules", CHECKPOINTS / "rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_checkpoints
def test_official_resnet18_logits() -> None:
    rules = load_rules()
    spec = json.loads((CHECKPOINTS / "torchvision_resnet18.json").read_text())
    wanted = np.load(CHECKPOINTS / "torchvision_resnet18.npz")["logits"]
    state = rules.checkpoint(spec)
    weight, bias = state.pop("fc.weight"), state.pop("fc.bias")
    backbone = ResNet(18).eval()
    backbone.load_state_dict(state)
    with torch.inference_mode():
        features = backbone(rules.input_for(spec)).mean(dim=(2, 3))
        logits = nn.functional.linear(features, weight, bias)
    np.testing.assert_allclose(logits.numpy(), wanted, rtol=0, atol=1e-4)  # they reach 14


@needs_checkpoints
def test_official_tsm_resnet50_logits() -> None:
    rules = load_rules()
    spec = json.loads((CHECKPOINTS / "tsm_r50_8f.json").read_text())
    wanted = np.load(CHECKPOINTS / "tsm_r50_8f.npz")["logits"]
    model = create_model("tsm_resnet50", 174, 8).eval()
    state = {}
    for key, value in rules.checkpoint(spec)[spec["wrapper"]].items():
        ours = key.removeprefix(spec["prefix"]).replace(".conv1.net.", ".conv1.")
        ours = ours.replace("base_model.", "backbone.").replace("new_fc.", "classifier.")
        state[ours] = value
    model.load_state_dict(state)
    with torch.inference_mode():
        logits = model(rules.input_for(spec).unflatten(0, (2, 8))[:1])
    np.testing.assert_allclose(logits.numpy(), wanted[:1], rtol=0, atol=1e-4)  # they reach 16
