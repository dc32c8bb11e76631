"""deployable: no norm is left where it can be folded, and every output stays what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.forms import one_pass, two_convs
from gtdnet.models import VideoClassifier, list_models
from gtdnet.nn import GlobalTemporalDifference, TemporalConv2d, temporal_convs

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TinyModel = Callable[..., VideoClassifier]


def clips_for(model: VideoClassifier, n: int = 2) -> Tensor:
    frames = model.num_segments * model.frames_per_segment
    return torch.randn(n, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def norms(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, NORMS)]


def assert_same(found: Tensor, wanted: Tensor) -> None:
    largest = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * largest)


# Deeper networks are made of the same blocks.
OF_RESNETS = [n for n in list_models() if n.endswith(("18", "50"))]
OF_LITES = [f"gtdnet_efficientnet_lite{n}" for n in range(5)] + ["tsm_efficientnet_lite0"]


@pytest.mark.parametrize("name", [*OF_RESNETS, *OF_LITES])
def test_every_model_keeps_its_outputs_without_norms(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    keys = set(model.state_dict())
    deployed = deployable(model)
    with torch.no_grad():
        assert_same(deployed(clips_for(model)), model(clips_for(model)))
    assert norms(model)
    assert norms(deployed) == []
    assert set(model.state_dict()) == keys
    assert len(temporal_convs(deployed)) == len(temporal_convs(model))
    assert not any(p.requires_grad for p in deployed.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "avg", "fold_div": 0},
        {"aggregation": "lstm", "attention": False},
        {"aggregation": "bilstm", "gtd_stages": [3]},
        {"difference": "local"},
    ],
    ids=str,
)
def test_variants_of_gtdnet(options: dict[str, object], tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18", **options)
    with torch.no_grad():
        assert_same(deployable(model)(clips_for(model)), model(clips_for(model)))


class Branches(nn.Module):
    """A backbone with norms that must stay: what they take is used elsewhere, or by two."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 1)
        self.bn2 = nn.BatchNorm2d(4)
        self.bn3 = nn.BatchNorm2d(4)
        self.alone = nn.Conv2d(4, 4, 1)
        self.bn4 = nn.BatchNorm2d(4, affine=False)
        self.linear = nn.Linear(4, 4)
        self.bn5 = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.read_twice(x)
        x = x + self.bn1(x)
        x = self.bn2(self.shared(x)) + self.bn3(self.shared(2 * x))
        x = self.bn4(self.alone(x)).flatten(2).transpose(1, 2)  # [N*T, H*W, C]
        # Here the norm's channels are not the linear map's.
        x = self.linear(x).transpose(1, 2).contiguous()
        return self.bn5(x).mean(dim=2)


def test_norms_that_cannot_be_folded_stay() -> None:
    torch.manual_seed(0)
    model = VideoClassifier(Branches(), 4, 3, num_segments=2).eval()
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand_like(value) if key.endswith("var") else value + 0.3)
    deployed = deployable(model)
    assert norms(deployed) == [f"backbone.bn{i}" for i in (1, 2, 3, 5)]
    with torch.no_grad():
        assert_same(deployed(clips_for(model)), model(clips_for(model)))


class NormWithActivation(nn.BatchNorm2d):
    """As timm has it: one module, with what comes behind the norm among its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.Hardswish()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class NormTwice(NormWithActivation):
    """One whose modules do not say what it does."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class StandardisedConv(nn.Conv2d):
    """Its weights' size does not matter."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight / self.weight.flatten(1).std(1).view(-1, 1, 1, 1)
        return self._conv_forward(input, weight, self.bias)


class PaddedConv(nn.Conv2d):
    """A forward of its own, but a convolution."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(input, (0, 1, 0, 1)))


class OthersNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 1), NormWithActivation(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1), NormTwice(4)
        self.conv3, self.bn3 = StandardisedConv(4, 4, 3), NormWithActivation(4)
        self.conv4, self.bn4 = PaddedConv(4, 4, 3, groups=2), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return self.bn4(self.conv4(self.bn3(self.conv3(x))))


def test_layers_and_norms_of_other_packages() -> None:
    """What a norm does besides stays; what does not compute as it says is not touched."""
    torch.manual_seed(0)
    model = VideoClassifier(OthersNorms(), 4, 3, num_segments=2).eval()
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand_like(value) if key.endswith("var") else value + 0.3)
    deployed = deployable(model)
    assert norms(deployed) == ["backbone.bn2", "backbone.bn3"]
    with torch.no_grad():
        assert_same(deployed(clips_for(model)), model(clips_for(model)))


def test_the_model_itself_is_not_changed(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    deployed = deployable(model, one_pass)
    assert model.training
    assert not deployed.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_other_networks_are_copied_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    deployed = deployable(model, two_convs)
    assert deployed is not model
    assert norms(deployed) == ["1"]


def test_an_engines_own_form(tiny_model: TinyModel) -> None:
    class Own(nn.Module):
        def __init__(self, conv: TemporalConv2d) -> None:
            super().__init__()
            assert conv.bias is not None  # the norm has been folded into it
            self.conv = conv

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model = tiny_model("gtdnet_resnet18")
    deployed = deployable(model, Own)
    assert sum(isinstance(module, Own) for module in deployed.modules()) == 8
    with torch.no_grad():
        assert_same(deployed(clips_for(model)), model(clips_for(model)))
    assert not any(isinstance(module, Own) for module in deployable(model).modules())


def test_normalisation_in_front(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18")
    spec = ClipSpec(
        tuple("abcde"), num_segments=4, short_side=32, crop_size=32, mean=(0.1, 0.5, 0.9),
        std=(0.3, 0.2, 0.1),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        wanted = model(normalise(clips, spec))
        assert_same(FromFrames(deployable(model), spec)(clips), wanted)
        half = FromFrames(deployable(model), spec, torch.bfloat16)
        logits = half(clips)
    assert logits.dtype == torch.float32
    assert 0 < (logits - wanted).abs().max() < 0.2 * wanted.std()
    kinds = {
        parameter.dtype
        for module in half.modules()
        if isinstance(module, GlobalTemporalDifference)
        for parameter in module.parameters()
    }
    assert kinds == {torch.float32}
    assert half.model.get_submodule("classifier").weight.dtype == torch.bfloat16
