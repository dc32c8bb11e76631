"""Starting at a trained network's function: equal outputs, options, classes and frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models import VideoClassifier, create_model, load_model, save_model
from gtdnet.models.backbones import BACKBONES, BackboneKind
from gtdnet.models.backbones.resnet import ResNet
from gtdnet.models.start import start_from

NAMES = ("push left", "push right", "stop", "turn", "fall")
WIDTH: dict[str, Any] = {"width": 0.125}


def trained(path: Path, name: str, num_segments: int = 4, **options: Any) -> Path:
    """A model file with norms, gates and a classifier as training leaves them."""
    torch.manual_seed(5)
    model = create_model(name, len(NAMES), num_segments, **WIDTH, **options)
    for key, value in model.state_dict().items():
        if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim < 2:
            value.normal_(std=0.1)
        elif "classifier" in key:
            value.normal_(std=0.3)
    spec = ClipSpec(NAMES, num_segments=num_segments, short_side=40, crop_size=32)
    return save_model(path / f"{name}.safetensors", model, spec)


def logits(model: VideoClassifier, num_segments: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        return model.eval()(torch.randn(2, num_segments, 3, 64, 64, generator=generator))


def assert_equal(value: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 0.01
    torch.testing.assert_close(value, wanted, rtol=0, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("num_segments", [4, 8])
def test_gtdnet_starts_at_the_function_of_tsm(
    depth: int, num_segments: int, tmp_path: Path
) -> None:
    path = trained(tmp_path, f"tsm_resnet{depth}")
    start = start_from(path, f"gtdnet_resnet{depth}", NAMES, num_segments)
    assert start.exact
    assert start.keeps_classifier
    wanted = load_model(path, num_segments=num_segments).model
    assert_equal(logits(start.model, num_segments), logits(wanted, num_segments))


@pytest.mark.parametrize("options", [{"fold_div": 4}, {"stages": [4, 5]}, {"every": 2}])
def test_where_the_shift_is_comes_from_the_file(options: dict[str, Any], tmp_path: Path) -> None:
    path = trained(tmp_path, "tsm_resnet18", **options)
    start = start_from(path, "gtdnet_resnet18", NAMES, 4, reduction=2)
    assert start.exact
    assert {k: start.model.options[k] for k in options} == options
    assert start.model.options["reduction"] == 2
    assert_equal(logits(start.model), logits(load_model(path).model))


@pytest.mark.parametrize("num_segments", [4, 8])
@pytest.mark.parametrize("aggregation", ["avg", "mta", "bilstm"])
def test_the_same_method_goes_on(aggregation: str, num_segments: int, tmp_path: Path) -> None:
    path = trained(tmp_path, "gtdnet_resnet18", aggregation=aggregation, reduction=2)
    start = start_from(path, "gtdnet_resnet18", NAMES, num_segments)
    assert start.exact
    wanted = load_model(path, num_segments=num_segments).model
    assert torch.equal(logits(start.model, num_segments), logits(wanted, num_segments))


def test_where_the_shift_is_stays_whatever_the_gates_start_at(tmp_path: Path) -> None:
    path = trained(tmp_path, "tsm_resnet18", fold_div=4)
    start = start_from(path, "gtdnet_resnet18", NAMES, 4, init="default")
    assert start.model.options["fold_div"] == 4
    assert not start.exact


def test_a_variant_of_the_block_goes_on(tmp_path: Path) -> None:
    variant = {"attention": False, "difference": "local", "gtd_stages": [4, 5]}
    path = trained(tmp_path, "gtdnet_resnet18", **variant)
    start = start_from(path, "gtdnet_resnet18", NAMES, 4)
    assert start.exact
    assert {k: start.model.options[k] for k in variant} == variant
    assert torch.equal(logits(start.model), logits(load_model(path).model))


@pytest.mark.parametrize("method", ["tanet", "tdn", "action", "teinet"])
def test_peers_go_on_too(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(f"{method}_resnet18", 5, 8, **WIDTH)
    torch.nn.init.normal_(model.classifier.weight)
    f = model.frames_per_segment
    spec = ClipSpec(NAMES, short_side=40, crop_size=32, frames_per_segment=f)
    path = save_model(tmp_path / "peer.safetensors", model, spec)
    start = start_from(path, f"{method}_resnet18", NAMES, 16)
    assert start.exact
    assert_equal(
        logits(start.model, 16 * f), logits(load_model(path, num_segments=16).model, 16 * f)
    )


def test_what_cannot_be_exact_is_not_called_so(tmp_path: Path) -> None:
    tsn, tsm = (trained(tmp_path, f"{name}_resnet18") for name in ("tsn", "tsm"))
    assert not start_from(tsn, "gtdnet_resnet18", NAMES, 4).exact
    assert not start_from(tsm, "gtdnet_resnet18", NAMES, 4, init="default").exact
    assert not start_from(tsm, "gtdnet_resnet18", NAMES, 4, fold_div=4).exact
    assert start_from(tsn, "tsn_resnet18", NAMES, 8).exact


def test_another_method_gives_its_2d_weights(tmp_path: Path) -> None:
    path = trained(tmp_path, "teinet_resnet18")
    start = start_from(path, "gtdnet_resnet18", NAMES, 4)
    assert not start.exact
    assert "starting at the 2D weights of teinet_resnet18" in start.describe()
    weight = load_model(path).model.state_dict()["backbone.layer4.1.conv2.weight"]
    assert torch.equal(start.model.state_dict()["backbone.layer4.1.conv2.weight"], weight)


def test_rows_of_the_classifier_follow_the_class_names(tmp_path: Path) -> None:
    path = trained(tmp_path, "tsm_resnet18")
    some = ("turn", "push left")
    start = start_from(path, "gtdnet_resnet18", some, 4)
    assert start.keeps_classifier
    assert_equal(logits(start.model), logits(load_model(path).model)[:, [3, 0]])


def test_other_classes_get_a_new_classifier(tmp_path: Path) -> None:
    path = trained(tmp_path, "tsm_resnet18")
    start = start_from(path, "gtdnet_resnet18", ("turn", "jump"), 4)
    assert not start.keeps_classifier
    assert start.model.classifier.weight.std() < 0.01
    assert start.describe() == (
        f"starting at the function of tsm_resnet18 in {path} (4 frames (segment), short side 40, "
        f"crop 32); new classifier for other classes"
    )


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = trained(tmp_path, "tsm_resnet18")
    with pytest.raises(ValueError, match=r"holds a tsm_resnet18 of width 0\.125, from wh"):
        start_from(path, "gtdnet_resnet34", NAMES, 4)
    with pytest.raises(ValueError, match=r"of width 1\.0 cannot start"):
        start_from(path, "gtdnet_resnet18", NAMES, 4, width=1.0)
    with pytest.raises(ValueError, match=f"{path}: .*gtdnet_resnet18 has no option 'colour'"):
        start_from(path, "gtdnet_resnet18", NAMES, 4, colour=1)
    with pytest.raises(ValueError, match="no such model file"):
        start_from(tmp_path / "none.safetensors", "gtdnet_resnet18", NAMES, 4)


class Grouped(ResNet):
    """A backbone with an option of its own."""

    options: ClassVar[Mapping[str, Any]] = {**ResNet.options, "slope": 0.0}

    def __init__(self, *arguments: Any, slope: float = 0.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.slope = slope


def test_options_of_a_backbone_of_ones_own_are_inherited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = BACKBONES["resnet18"]
    own = BackboneKind("grouped", Grouped, plain.arguments, plain.weights)
    monkeypatch.setitem(BACKBONES, "grouped", own)
    path = trained(tmp_path, "tsm_grouped", slope=0.5)
    start = start_from(path, "gtdnet_grouped", NAMES, 4)
    assert start.exact
    assert {key: start.model.options[key] for key in ("width", "slope")} == {**WIDTH, "slope": 0.5}
    with pytest.raises(InputError, match=r"of width 0\.125 of slope 0\.1 cannot start"):
        start_from(path, "gtdnet_grouped", NAMES, 4, slope=0.1)


def test_names_that_unicode_spells_in_two_ways_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "NAMES", ("e\u0301te\u0301", "b"))
    path = trained(tmp_path, "tsm_resnet18")
    start = start_from(path, "tsm_resnet18", ("b", "\xe9t\xe9"), 4)
    assert start.keeps_classifier
    assert torch.equal(start.model.classifier.weight, start.source.model.classifier.weight[[1, 0]])
