"""Every named model, the published numbers of its size and cost, and the identity start."""

from __future__ import annotations

import copy
import json
from fnmatch import filter as fnfilter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models import (
    VideoClassifier,
    create_model,
    list_models,
    load_model,
    model_options,
    save_model,
)
from gtdnet.models.backbones import FAMILIES, Backbone, Family
from gtdnet.models.backbones.resnet import ResNet
from gtdnet.models.build import find_models, floor
from gtdnet.models.methods import METHODS, Method
from gtdnet.nn import GlobalTemporalDifference, TemporalShift, temporal_convs
from gtdnet.weights.read import read_safetensors

T = 4
each_model = pytest.mark.parametrize("name", list_models())


def small(name: str, seed: int = 0, **options: Any) -> VideoClassifier:
    torch.manual_seed(seed)
    return create_model(name, 5, T, **{"width": 0.125, **options})


def clips(n: int = 2, size: int = 32, frames: int = T) -> Tensor:
    return torch.randn(n, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def clips_for(model: VideoClassifier) -> Tensor:
    return clips(frames=model.num_segments * model.frames_per_segment)


def spec_of(model: VideoClassifier) -> ClipSpec:
    names = tuple(f"class {i}" for i in range(model.num_classes))
    return ClipSpec(
        names,
        num_segments=model.num_segments,
        short_side=32,
        crop_size=32,
        frames_per_segment=model.frames_per_segment,
    )


def randomise(model: nn.Module) -> None:
    """Norm statistics and affine maps as of a trained network, a classifier that answers."""
    generator = torch.Generator().manual_seed(3)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith("running_mean"):
            value.normal_(std=0.1, generator=generator)
        elif key.endswith(("gamma", "layer_scale")) or (value.ndim == 1 and key.endswith("weight")):
            value.uniform_(0.5, 1.0, generator=generator)
        elif key.startswith("classifier."):
            value.normal_(std=0.3, generator=generator)


# ------------------------------------------------------------------------------- every named model


def test_names() -> None:
    names = list_models()
    assert len(set(names)) == len(names)
    assert {
        "gtdnet_resnet18",
        "gtdnet_resnet34",
        "gtdnet_resnet50",
        "gtdnet_resnet101",
        "tsm_resnet50",
        "tsn_resnet50",
    } <= set(names)


@each_model
def test_forward_and_backward(name: str) -> None:
    silent = {key for key, _ in small(name).named_parameters()}
    for seed in range(10):  # in networks this narrow, a start may close a path at a ReLU
        model = small(name, seed).train()
        logits = model(clips_for(model))
        assert logits.shape == (2, 5)
        nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            if parameter.grad.any():
                silent.discard(key)
        if not silent:
            break
    assert not silent


@each_model
def test_copies_and_reloaded_files_answer_the_same(name: str, tmp_path: Path) -> None:
    model = small(name).eval()
    randomise(model)
    copied = copy.deepcopy(model)
    path = save_model(tmp_path / "model.safetensors", model, spec_of(model))
    loaded = load_model(path).model
    assert (loaded.name, loaded.options) == (model.name, model.options)
    assert not loaded.training
    with torch.inference_mode():
        wanted = model(clips_for(model))
        assert wanted.std() > 0
        for other in (model, copied, loaded):  # the model itself: evaluation is deterministic
            assert torch.equal(other(clips_for(model)), wanted)


@each_model
def test_options_are_known_and_others_refused(name: str) -> None:
    options = model_options(name)
    assert options["width"] == 1.0
    stages = list(options["stages"])
    assert small(name).options == {**options, "width": 0.125, "stages": stages}
    with pytest.raises(ValueError, match=rf"{name} has no option 'colour'; its options are width"):
        create_model(name, 5, colour=1)


@each_model
def test_wrong_number_of_frames(name: str) -> None:
    with pytest.raises(ValueError, match=r"num_segments=4( of \d)? frames( each)?, got 3"):
        small(name)(torch.zeros(1, 3, 3, 32, 32))


# ------------------------------------------------------------------------- what is put in, where


def test_gtdnet_opens_every_branch_with_shift_then_gtd() -> None:
    model = small("gtdnet_resnet50", reduction=2, aggregation="bilstm", fold_div=4)
    convs = temporal_convs(model)
    assert len(convs) == 16
    for _, conv in convs:
        assert [type(m) for m in conv.temporal.children()] == [
            TemporalShift,
            GlobalTemporalDifference,
        ]
        gtd, shift = conv.temporal.get_submodule("gtd"), conv.temporal.get_submodule("shift")
        assert isinstance(gtd, GlobalTemporalDifference)
        assert gtd.reduce.out_features == conv.in_channels // 2
        assert shift.fold_div == 4


def test_stages() -> None:
    model = small("gtdnet_resnet18", stages=(4, 3))
    assert [name for name, _ in temporal_convs(model)] == [
        "backbone.layer2.0.conv1",
        "backbone.layer2.1.conv1",
        "backbone.layer3.0.conv1",
        "backbone.layer3.1.conv1",
    ]
    assert model.options["stages"] == [3, 4]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("tsm_resnet18", ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ("tsm_resnet50", ["layer1.0", "layer1.2", "layer2.0", "layer2.2", "layer3.0", "layer3.2",
                          "layer3.4", "layer4.0", "layer4.2"]),
    ],
)  # fmt: skip
def test_every_second_block(name: str, blocks: list[str]) -> None:
    convs = temporal_convs(small(name, every=2).backbone)
    assert [conv.removesuffix(".conv1") for conv, _ in convs] == blocks


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tsm_resnet18", {"every": 0}, "every must be at least 1, got 0"),
        ("tsm_resnet18", {"every": True}, "every must be a whole number, got True"),
        ("tsm_resnet18", {"every": 1.5}, "every must be a whole number, got 1.5"),
        ("gtdnet_resnet18", {"reduction": "x"}, "reduction must be a whole number, got 'x'"),
        ("gtdnet_resnet18", {"attention": 1}, "attention must be true or false, got 1"),
        ("gtdnet_resnet18", {"aggregation": 3}, "aggregation must be text, got 3"),
        ("tanet_resnet18", {"alpha": 2.5}, "alpha must be a whole number, got 2.5"),
        ("tdn_resnet18", {"appearance": "x"}, "appearance must be a number, got 'x'"),
        ("tsm_resnet18", {"width": "x"}, "width must be a number, got 'x'"),
        ("tsm_resnet18", {"stages": 3}, None),
    ],
)
def test_options_of_the_wrong_kind(name: str, options: dict[str, Any], message: str | None) -> None:
    if message is None:  # one stage needs no brackets
        assert small(name, **options).options["stages"] == [3]
        return
    with pytest.raises(InputError, match=message):
        small(name, **options)


@pytest.mark.parametrize("name", ["tea_resnet50", "tdn_resnet18", "action_resnet18"])
def test_peers_have_no_identity_start(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} cannot start at identity; give init auto"):
        small(name, init="identity")


@each_model
def test_trained_weights_are_taken_over_whole(name: str) -> None:
    trained = small(name)
    randomise(trained)
    state = trained.backbone.state_dict()
    for init in ("auto", "default"):
        model = small(name, pretrained=state, init=init)
        for key, value in model.backbone.state_dict().items():
            assert torch.equal(value, state[key]), key
    temporal = [key for key in state if "temporal" in key.split(".")]
    if temporal:
        missing = temporal[-1]
        cut = {key: value for key, value in state.items() if key != missing}
        if missing.endswith("num_batches_tracked"):
            return
        with pytest.raises(InputError, match=f"1 keys? missing .*{missing}"):
            small(name, pretrained=cut)


def test_tsn_has_no_temporal_module() -> None:
    model = small("tsn_resnet18").eval()
    assert temporal_convs(model) == []
    order = [2, 0, 3, 1]
    torch.testing.assert_close(model(clips()[:, order]), model(clips()))


@pytest.mark.parametrize("name", ["tsm_resnet18", "gtdnet_resnet18"])
def test_temporal_models_see_the_order(name: str) -> None:
    model = small(name).eval()
    randomise(model)
    assert (model(clips().flip(1)) - model(clips())).abs().max() > 1e-4


@pytest.mark.parametrize(
    "name", ["resnet50", "gtdnet_resnet20", "gtdnet_resnet", "gtdnet", "", "x"]
)
def test_unknown_name_lists_the_models(name: str) -> None:
    said = f"unknown model '{name}'.*: choose one of gtdnet_resnet18"
    with pytest.raises(ValueError, match=said):
        create_model(name, 5)
    with pytest.raises(ValueError, match="unknown model"):
        model_options(name)


@pytest.mark.parametrize(
    "stages", [(), (1, 2), (2, 2), (6,), ([2],), "2", [2, "3"], [3.0], [True], {}, None]
)
def test_bad_stages(stages: Any) -> None:
    with pytest.raises(InputError, match="stages must be different numbers out of 2, 3, 4, 5, got"):
        create_model("tsm_resnet18", 5, stages=stages)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tea_convnext_tiny",
            "there is no tea_convnext_tiny: tea was made for another kind of network; its models "
            "are tea_resnet50, tea_resnet101, those on convnext_tiny are gtdnet_convnext_tiny, "
            "tsm_convnext_tiny, tsn_convnext_tiny",
        ),
        ("tanet_vit_small14", "there is no tanet_vit_small14: tanet was made for another kind"),
        ("tsm_convnext_huge", "unknown model 'tsm_convnext_huge'"),
    ],
)
def test_methods_that_do_not_live_on_a_backbone(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        create_model(name, 5)


def test_two_models_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Method("wave", "Two of one name", also_called={"resnet34": "resnet18"})
    monkeypatch.setitem(METHODS, "wave", method)
    with pytest.raises(InputError, match=r"'wave_resnet18': .*'resnet18' and .*'resnet34'"):
        list_models()


@pytest.mark.parametrize("name", ["tsn_resnet18", "tsm_resnet18", "gtdnet_resnet18"])
def test_unknown_init(name: str) -> None:
    with pytest.raises(ValueError, match="unknown init 'zero'"):
        create_model(name, 5, init="zero")


# ----------------------------------------------------------------------------------- identity start


@pytest.mark.parametrize("source", ["tsm", "tsn"])
@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "resnet50",
        "convnext_tiny",
        "vit_small14",
        "vit_base14_reg4",
    ],
)
def test_identity_start_is_the_shift_network_of_the_same_weights(
    source: str, backbone: str
) -> None:
    weights = small(f"{source}_{backbone}")
    randomise(weights)
    state = weights.backbone.state_dict()
    tsm = small(f"tsm_{backbone}", pretrained=state).eval()
    gtdnet = small(f"gtdnet_{backbone}", pretrained=state, init="identity").eval()
    randomise(tsm.classifier)
    gtdnet.classifier.load_state_dict(tsm.classifier.state_dict())
    with torch.inference_mode():
        wanted = tsm(clips(size=64))
        torch.testing.assert_close(
            gtdnet(clips(size=64)), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item()
        )
        still = small(f"tsn_{backbone}", pretrained=state).eval()
        still.classifier.load_state_dict(tsm.classifier.state_dict())
        assert (still(clips(size=64)) - wanted).abs().max() > 0.01 * wanted.std()


def test_identity_start_without_shift_is_the_2d_network() -> None:
    tsn = small("tsn_resnet18").eval()
    randomise(tsn)
    gtdnet = small(
        "gtdnet_resnet18", pretrained=tsn.backbone.state_dict(), init="identity", fold_div=1000
    ).eval()
    gtdnet.classifier.load_state_dict(tsn.classifier.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(gtdnet(clips()), tsn(clips()), rtol=1e-5, atol=1e-5)


def test_2d_weights_arrive_and_start_at_identity_by_themselves() -> None:
    source = small("tsn_resnet18").backbone.state_dict()
    plain = small("gtdnet_resnet18", pretrained=source, init="default").backbone.state_dict()
    assert all(torch.equal(plain[key], value) for key, value in source.items())
    auto = small("gtdnet_resnet18", pretrained=source).backbone.state_dict()
    identity = small("gtdnet_resnet18", pretrained=source, init="identity").backbone.state_dict()
    for key, value in identity.items():
        if "expand" in key or ".temporal." not in key:
            assert torch.equal(auto[key], value), key
    assert not auto["layer1.0.conv1.temporal.gtd.expand.weight"].any()
    fresh = small("gtdnet_resnet18").backbone.state_dict()
    assert fresh["layer1.0.conv1.temporal.gtd.expand.weight"].any()


@pytest.mark.parametrize("aggregation", ["avg", "mta", "lstm", "bilstm"])
def test_trained_temporal_modules_are_taken_over(aggregation: str, tmp_path: Path) -> None:
    trained = small("gtdnet_resnet18", aggregation=aggregation)
    randomise(trained)
    path = save_model(tmp_path / "model.safetensors", trained, spec_of(trained))
    wanted = trained.backbone.state_dict()
    torch.manual_seed(7)
    options = {"width": 0.125, "aggregation": aggregation}
    model = create_model("gtdnet_resnet18", 9, T, pretrained=path, **options)
    state = model.backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in wanted.items())
    assert model.classifier.weight.shape == (9, 64)
    longer = create_model("gtdnet_resnet18", 9, 2 * T, pretrained=path, **options)
    assert longer(torch.randn(1, 2 * T, 3, 32, 32)).shape == (1, 9)


def test_other_temporal_modules_are_not_taken_over() -> None:
    trained = small("gtdnet_resnet18").backbone.state_dict()
    with pytest.raises(InputError, match="the weights do not fit the network"):
        small("gtdnet_resnet18", pretrained=trained, reduction=2)
    tsm = small("tsm_resnet18", pretrained=trained).backbone.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in tsm.items())


# ------------------------------------------------------------------------------- published figures


def macs_and_parameters(name: str, num_segments: int, **options: Any) -> tuple[float, int]:
    """Multiply-accumulates for one clip at 224x224, and parameters at 174 classes."""
    with torch.device("meta"):
        model = create_model(name, 174, num_segments, **options).eval()
        clip = torch.empty(1, num_segments, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model(clip)
    return counter.get_total_flops() / 2, sum(p.numel() for p in model.parameters())


RESNET50 = 23_508_032  # torchvision's without its classifier
CLASSIFIER = 174 * 2049
# Inputs of the convolutions that open the 16 blocks of ResNet-50.
BRANCH_CHANNELS = [64, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 2]


@pytest.mark.parametrize(("num_segments", "giga"), [(8, 33), (16, 66)])
def test_macs_of_the_published_settings(num_segments: int, giga: int) -> None:
    tsm, _ = macs_and_parameters("tsm_resnet50", num_segments)
    gtdnet, _ = macs_and_parameters("gtdnet_resnet50", num_segments)
    assert round(gtdnet / 1e9) == giga
    hidden = 2 * num_segments
    of_gtd = 0
    for c in BRANCH_CHANNELS:
        d = c // 4
        per_frame = 2 * c * d + 4 * d * d + 2 * d * d  # reduce, expand; four maps; attention
        of_gtd += num_segments * per_frame + d * (num_segments * hidden + hidden)
    assert gtdnet - tsm == of_gtd


@pytest.mark.parametrize("name", ["tsn_resnet50", "tsm_resnet50"])
def test_parameters_of_the_backbones(name: str) -> None:
    _, parameters = macs_and_parameters(name, 8)
    assert parameters == RESNET50 + CLASSIFIER


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({}, 35.8),
        ({"reduction": 4, "aggregation": "mta"}, 35.8),
        ({"reduction": 8, "aggregation": "bilstm"}, 32.9),
    ],
)
def test_parameters_of_gtdnet(options: dict[str, Any], millions: float) -> None:
    with torch.device("meta"):
        model = create_model("gtdnet_resnet50", 174, 8, **options)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


# ------------------------------------------------------------------------- families of backbones


class _Others(ResNet):
    """A network of another package: a narrow ResNet-18 with one thing to say of its weights."""

    packages = MappingProxyType({"others": "1.2"})

    @classmethod
    def published(cls, source: str | Path) -> str | Path:
        return Path(__file__).with_name("none.pth") if source == "imagenet" else source


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(name: str) -> type[Backbone]:
        if name != "18":
            raise InputError(f"the others have no network {name!r}")
        return _Eighteen

    names = Family("others/", "those of others", network, lambda pattern: fnfilter(["18"], pattern))
    monkeypatch.setitem(FAMILIES, "others/", names)


class _Eighteen(_Others):
    def __init__(self, width: float = 1.0) -> None:
        super().__init__(18, width)


def test_models_on_networks_of_another_package(family: None, tmp_path: Path) -> None:
    model = small("gtdnet_others/18").eval()
    assert isinstance(model.backbone, _Eighteen)
    assert floor("gtdnet_others/18", {"width": 0.5, "reduction": 2}) == (
        "tsn_others/18",
        {"width": 0.5},
    )
    assert find_models("gtdnet_others/*") == ["gtdnet_others/18"]
    assert find_models("t*_others/18") == ["tsm_others/18", "tsn_others/18"]
    assert find_models("*_resnet18") == [n for n in list_models() if n.endswith("_resnet18")]
    assert not any("others/" in name for name in list_models())
    path = save_model(tmp_path / "m.safetensors", model, spec_of(model))
    loaded = load_model(path).model
    with torch.no_grad():
        torch.testing.assert_close(loaded(clips(1)), model(clips(1)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tsm_others/19", "the others have no network '19'"),
        ("tdn_others/18", "there is no tdn_others/18: tdn was made for another kind of network; "),
        (
            "tsm_none/18",
            r"unknown model 'tsm_none/18'.*, METHOD_timm/NAME, METHOD_others/NAME; for",
        ),
    ],
)
def test_models_that_a_family_does_not_have(family: None, name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        create_model(name, 5)


def test_a_family_knows_where_its_weights_lie(family: None) -> None:
    with pytest.raises(InputError, match=r"none\.pth: no such weights file"):
        small("tsm_others/18", pretrained="imagenet")


def test_the_file_says_which_version_made_its_network(family: None, tmp_path: Path) -> None:
    model = small("tsm_others/18")
    path = save_model(tmp_path / "m.safetensors", model, spec_of(model))
    metadata, tensors = read_safetensors(path)
    header = json.loads(metadata["gtdnet"])
    assert header["model"]["packages"] == {"others": "1.2"}
    del tensors["backbone.conv1.weight"]
    for made, said in (("1.2", ""), ("1.0", "; it was made with others 1.0, here is 1.2: pip .*")):
        header["model"]["packages"]["others"] = made
        save_file(tensors, path, {"gtdnet": json.dumps(header)})
        with pytest.raises(InputError, match=rf"\(backbone\.conv1\.weight\){said}$"):
            load_model(path)
