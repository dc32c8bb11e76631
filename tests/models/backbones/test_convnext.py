"""ConvNeXt against published numbers and a computation of its own, under three sets of names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from gtdnet import create_model
from gtdnet.errors import InputError
from gtdnet.models.backbones.convnext import ConvNeXt
from gtdnet.models.complexity import measure
from gtdnet.nn import TemporalShift, insert_temporal, temporal_convs
from gtdnet.train.optim import freeze
from gtdnet.weights.fit import BackboneWeights


@pytest.mark.parametrize(
    ("size", "parameters", "giga"),
    # torchvision's own counts of its networks, with 1000 classes, at 224x224.
    [("tiny", 28_589_128, 4.456), ("small", 50_223_688, 8.684), ("base", 88_591_464, 15.355)],
)
def test_sizes_of_the_published_networks(size: str, parameters: int, giga: float) -> None:
    with torch.device("meta"):
        model = create_model(f"tsn_convnext_{size}", 1000, 1)
        found = measure(model, torch.empty(1, 1, 3, 224, 224))
    assert found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(giga, abs=5e-4)


# ------------------------------------------------------------- a computation of its own, by hand

DIMS, DEPTHS = (8, 12, 16, 24), (3, 3, 9, 3)  # of tiny's shape, few channels


def authors() -> dict[str, Tensor]:
    """Weights by the names of the authors' code, written down by the paper's table alone."""
    generator, state = torch.Generator().manual_seed(0), {}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.2
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.2

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.2

    layer("downsample_layers.0.0", DIMS[0], 3, 4, 4)
    norm("downsample_layers.0.1", DIMS[0])
    for i in (1, 2, 3):
        norm(f"downsample_layers.{i}.0", DIMS[i - 1])
        layer(f"downsample_layers.{i}.1", DIMS[i], DIMS[i - 1], 2, 2)
    for i, (c, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        for j in range(depth):
            block = f"stages.{i}.{j}"
            layer(f"{block}.dwconv", c, 1, 7, 7)
            norm(f"{block}.norm", c)
            layer(f"{block}.pwconv1", 4 * c, c)
            layer(f"{block}.pwconv2", c, 4 * c)
            state[f"{block}.gamma"] = torch.rand(c, generator=generator) - 0.3
    norm("norm", DIMS[-1])
    layer("head", 1000, DIMS[-1])
    return state


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, C], the sums written out."""

    def of(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:  # over the second axis
        weight, bias = (v.view(-1, *[1] * (x.ndim - 2)) for v in of(name))
        mean = x.mean(1, keepdim=True)
        variance = ((x - mean) ** 2).mean(1, keepdim=True)
        return (x - mean) / (variance + 1e-6).sqrt() * weight + bias

    def pointwise(x: Tensor, name: str) -> Tensor:
        weight, bias = of(name)
        return torch.einsum("nchw,dc->ndhw", x, weight) + bias[:, None, None]

    for i, depth in enumerate(DEPTHS):
        if i == 0:
            x = norm(F.conv2d(x, *of("downsample_layers.0.0"), stride=4), "downsample_layers.0.1")
        else:
            place = f"downsample_layers.{i}"
            x = F.conv2d(norm(x, f"{place}.0"), *of(f"{place}.1"), stride=2)
        for j in range(depth):
            block = f"stages.{i}.{j}"
            out = F.conv2d(x, *of(f"{block}.dwconv"), padding=3, groups=x.shape[1])
            out = pointwise(norm(out, f"{block}.norm"), f"{block}.pwconv1")
            out = out * (1 + torch.erf(out / 2**0.5)) / 2  # GELU, exact
            x = x + state[f"{block}.gamma"][:, None, None] * pointwise(out, f"{block}.pwconv2")
    return norm(x.mean(dim=(2, 3)), "norm")


def timms(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by timm's names, as its file of convnext_tiny has them."""
    names = (
        (r"downsample_layers\.0\.", "stem."),
        (r"downsample_layers\.(\d)\.", r"stages.\1.downsample."),
        (r"stages\.(\d)\.(\d)\.", r"stages.\1.blocks.\2."),
        ("dwconv", "conv_dw"),
        ("pwconv", "mlp.fc"),
        (r"^norm\.", "head.norm."),
        (r"^head\.(weight|bias)", r"head.fc.\1"),
    )
    return _renamed(state, names)


def torchvisions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by torchvision's names."""

    def place(found: re.Match[str]) -> str:
        return f"features.{2 * int(found[1])}."

    renamed = {re.sub(r"^downsample_layers\.(\d)\.", place, k): v for k, v in state.items()}
    renamed = {
        re.sub(r"^stages\.(\d)\.", lambda m: f"features.{2 * int(m[1]) + 1}.", k): v
        for k, v in renamed.items()
    }
    names = (
        (r"^norm\.", "classifier.0."),
        (r"^head\.", "classifier.2."),
        (r"dwconv", "block.0"),
        (r"(\d)\.norm", r"\1.block.2"),
        (r"pwconv1", "block.3"),
        (r"pwconv2", "block.5"),
        (r"gamma", "layer_scale"),
    )
    state = _renamed(renamed, names)
    return {k: v.view(-1, 1, 1) if k.endswith("layer_scale") else v for k, v in state.items()}


def _renamed(state: dict[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    for pattern, new in names:
        state = {re.sub(pattern, new, key): value for key, value in state.items()}
    return state


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> ConvNeXt:
    monkeypatch.setattr(ConvNeXt, "sizes", {"tiny": (DEPTHS, DIMS)})
    return ConvNeXt("tiny").eval()


@pytest.mark.parametrize("names", [authors, timms, torchvisions])
@pytest.mark.parametrize("size", [64, 75])
def test_output_and_names_by_hand(names: object, size: int, network: ConvNeXt) -> None:
    state = authors()
    BackboneWeights.read(state if names is authors else names(state)).load_plain(network)  # type: ignore[operator]
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(state, x), rtol=1e-4, atol=1e-4)


def test_torchvisions_names_are_as_its_file_has_them() -> None:
    keys = torchvisions(authors()).keys()
    assert {
        "features.0.0.weight",
        "features.0.1.bias",
        "features.1.0.block.0.weight",
        "features.1.2.block.2.bias",
        "features.4.0.weight",
        "features.4.1.weight",
        "features.5.8.block.5.weight",
        "features.7.2.layer_scale",
        "classifier.0.weight",
        "classifier.2.bias",
    } <= keys
    assert {k for k in ConvNeXt("tiny", 0.1).state_dict() if not k.startswith("norm.")} == {
        k for k in keys if not k.startswith("classifier.")
    }


def test_linear_maps_that_were_kept_as_convolutions(network: ConvNeXt) -> None:
    state = timms(authors())
    for key, value in state.items():
        if "mlp" in key and value.ndim == 2:
            state[key] = value[:, :, None, None]
    BackboneWeights.read(state).load_plain(network)
    key = "stages.2.blocks.8.mlp.fc1.weight"
    assert torch.equal(network.state_dict()["features.5.8.block.3.weight"], state[key][..., 0, 0])


def test_a_file_is_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConvNeXt, "sizes", {"tiny": (DEPTHS, DIMS)})
    path = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in timms(authors()).items()}, path)
    model = create_model("gtdnet_convnext_tiny", 5, 4, pretrained=path).eval()
    tsm = create_model("tsm_convnext_tiny", 5, 4, pretrained=path).eval()
    tsm.classifier.load_state_dict(model.classifier.state_dict())
    clips = torch.randn(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = tsm.forward_features(clips), model.forward_features(clips)
        still = create_model("tsn_convnext_tiny", 5, 4, pretrained=path).eval()
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
        assert (still.forward_features(clips) - wanted).abs().max() > 0.1  # the shift is there


def test_a_missing_layer_is_named(network: ConvNeXt) -> None:
    state = authors()
    del state["stages.2.4.gamma"]
    with pytest.raises(InputError, match=r"1 key missing \(features\.5\.4\.layer_scale\)"):
        BackboneWeights.read(state).load_plain(network)


# ---------------------------------------------------------------------------------- in its place


def test_modules_open_every_branch() -> None:
    model = create_model("gtdnet_convnext_tiny", 5, width=0.125)
    names = [name for name, _ in temporal_convs(model.backbone)]
    counts = zip((1, 3, 5, 7), DEPTHS, strict=True)
    assert names == [f"features.{part}.{n}.block.0" for part, count in counts for n in range(count)]


def test_its_branches_are_those_that_its_sums_show() -> None:
    network = ConvNeXt("tiny", width=0.125)
    found = insert_temporal(network, lambda channels: TemporalShift(4))
    assert found == [block.branch[0] for block in network.residual_blocks()]


@pytest.mark.parametrize(("stage", "frozen"), [(1, 1), (2, 3), (3, 5), (5, 8)])
def test_frozen_up_to_a_stage(stage: int, frozen: int) -> None:
    """What lowers the resolution between two stages goes with the first of them."""
    model = create_model("tsm_convnext_tiny", 5, 4, width=0.125)
    freeze(model, "none", stage)
    learning = {
        int(name.split(".")[1])
        for name, parameter in model.backbone.named_parameters()
        if name.startswith("features") and parameter.requires_grad
    }
    assert learning == set(range(frozen, 8))
