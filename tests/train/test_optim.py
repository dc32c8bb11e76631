from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW

from gtdnet.errors import InputError
from gtdnet.models.build import create_model
from gtdnet.models.classifier import VideoClassifier
from gtdnet.train.config import TrainConfig
from gtdnet.train.optim import (
    build_optimizer,
    freeze,
    lr_factor,
    parameter_groups,
    scaled_lr,
    set_norm_momentum,
)

GTD = "backbone.layer1.0.conv1.temporal.gtd"

# At lr 0.1, weight decay 0.01 and the default factors: (group, lr, weight decay).
EXPECTED = {
    "backbone.conv1.weight": ("weights", 0.1, 0.01),
    "backbone.bn1.weight": ("norms", 0.1, 0.0),
    "backbone.bn1.bias": ("norms", 0.1, 0.0),
    "backbone.layer1.0.conv1.weight": ("weights", 0.1, 0.01),
    "backbone.layer2.0.downsample.0.weight": ("weights", 0.1, 0.01),
    "backbone.layer2.0.downsample.1.weight": ("norms", 0.1, 0.0),
    f"{GTD}.reduce.weight": ("weights", 0.1, 0.01),
    f"{GTD}.reduce.bias": ("biases", 0.2, 0.0),
    f"{GTD}.expand.bias": ("biases", 0.2, 0.0),
    f"{GTD}.aggregation.lstm.weight_ih_l0": ("weights", 0.1, 0.01),
    f"{GTD}.aggregation.lstm.weight_hh_l0": ("weights", 0.1, 0.01),
    f"{GTD}.aggregation.lstm.bias_ih_l0": ("biases", 0.2, 0.0),
    f"{GTD}.aggregation.lstm.bias_hh_l0": ("biases", 0.2, 0.0),
    f"{GTD}.aggregation.lstm.bias_hh_l0_reverse": ("biases", 0.2, 0.0),
    "classifier.weight": ("classifier weights", 0.5, 0.01),
    "classifier.bias": ("classifier biases", 1.0, 0.0),
}


def small(**options: Any) -> Any:
    return create_model("gtdnet_resnet18", 5, 4, width=0.125, **options)


def test_which_parameter_learns_how_fast_and_decays() -> None:
    model = small(aggregation="bilstm")
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["name"], pytest.approx(group["lr"]), group["weight_decay"])
        for group in parameter_groups(model, 0.1, 0.01)
        for p in group["params"]
    }
    assert {name: found[name] for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize("aggregation", ["avg", "mta", "lstm", "bilstm"])
def test_every_parameter_is_in_exactly_one_group(aggregation: str) -> None:
    model = small(aggregation=aggregation)
    grouped = [id(p) for group in parameter_groups(model, 0.1, 0.01) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_temporal_modules_may_learn_at_a_rate_of_their_own() -> None:
    model = create_model("tea_resnet50", 5, 4, width=0.125)  # its modules have norms
    names = {id(p): name for name, p in model.named_parameters()}
    usual = {
        names[id(p)]: group for group in parameter_groups(model, 0.1, 0.01) for p in group["params"]
    }
    groups = parameter_groups(model, 0.1, 0.01, temporal_lr=3.0)
    assert [group["name"] for group in groups] == [
        *("weights", "norms", "temporal weights", "temporal norms"),
        *("classifier weights", "classifier biases"),
    ]
    for group in groups:
        is_temporal = group["name"].startswith("temporal")
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert ("temporal" in name.split(".")) == is_temporal
            factor = 3 if is_temporal else 1
            assert group["lr"] == pytest.approx(factor * usual[name]["lr"])
            assert group["weight_decay"] == usual[name]["weight_decay"]
    assert sum(len(group["params"]) for group in groups) == len(names)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("tsn_convnext_tiny", {"features.1.0.layer_scale"}),
        (
            "tsn_vit_small14_reg4",
            {"blocks.3.ls1.gamma", "cls_token", "pos_embed", "register_tokens"},
        ),
    ],
)
def test_layer_scale_tokens_and_positions_do_not_decay(name: str, beside: set[str]) -> None:
    model = create_model(name, 1, 4, width=0.125)  # a classifier of one row is no factor
    groups = {group["name"]: group for group in parameter_groups(model, 0.1, 0.01)}
    of = {id(p): name for name, group in groups.items() for p in group["params"]}
    named = dict(model.backbone.named_parameters())
    assert beside <= named.keys()
    for key, parameter in named.items():
        alone = key.rpartition(".")[2] in {b.rpartition(".")[2] for b in beside}
        of_norm = "norm" in key or key.startswith("features.0.1")
        if alone:
            assert of[id(parameter)] == "norms", key
        elif parameter.ndim > 1:
            assert of[id(parameter)] == "weights", key
        elif of_norm:
            assert of[id(parameter)] == "norms", key
    assert groups["norms"]["weight_decay"] == 0
    assert of[id(model.classifier.weight)] == "classifier weights"


def test_a_network_without_batch_norms_has_none_to_set_or_freeze() -> None:
    model = create_model("tsn_convnext_tiny", 5, 4, width=0.125)
    has_none = "tsn_convnext_tiny has no batch norms, and its layer norms keep no statistics"
    with pytest.raises(InputError, match=rf"^norm_momentum=0\.1: {has_none}; leave the option out"):
        set_norm_momentum(model, 0.1)
    with pytest.raises(InputError, match=f"^freeze=norms: {has_none}"):
        freeze(model, "norms")


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    model = create_model("tsn_resnet18", 5, 4, width=0.125)
    model.backbone.requires_grad_(False)
    groups = parameter_groups(model, 0.1, 0.01)
    assert [group["name"] for group in groups] == ["classifier weights", "classifier biases"]
    # Convolutions without biases: nothing but the classifier has any.
    model.backbone.requires_grad_(True)
    names = [group["name"] for group in parameter_groups(model, 0.1, 0.01)]
    assert names == ["weights", "norms", "classifier weights", "classifier biases"]


@pytest.mark.parametrize(
    ("lr", "lr_batch", "total", "expected"),
    [(0.01, 64, 64, 0.01), (0.01, 64, 256, 0.04), (0.02, 128, 8, 0.00125), (0.3, 0, 8, 0.3)],
)
def test_lr_scales_linearly(lr: float, lr_batch: int, total: int, expected: float) -> None:
    assert scaled_lr(lr, lr_batch, total) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("cosine", 4), [1, 0.853553, 0.5, 0.146447]),
        (("cosine", 4, 2), [1 / 3, 2 / 3, 1, 0.5]),
        (("step", 5, 0, [2, 4]), [1, 1, 0.1, 0.1, 0.01]),
        (("step", 4, 1, [2], 0.5), [0.5, 1, 0.5, 0.5]),
        (("onecycle", 6, 2), [0.04, 0.52, 1, 0.853559, 0.50002, 0.146481]),
        (("constant", 3), [1, 1, 1]),
        (("constant", 4, 3), [0.25, 0.5, 0.75, 1]),
    ],
)
def test_schedules(arguments: tuple[Any, ...], expected: list[float]) -> None:
    factor = lr_factor(*arguments)
    assert [factor(i) for i in range(len(expected))] == pytest.approx(expected, abs=1e-6)


def test_schedules_end_where_they_say() -> None:
    assert lr_factor("cosine", 10, 3)(10) == pytest.approx(0)
    assert lr_factor("onecycle", 10, 3)(10) == pytest.approx(1 / 25000)
    assert lr_factor("onecycle", 10, 3)(99) == pytest.approx(1 / 25000)  # and never rises again


def test_optimizers() -> None:
    sgd = build_optimizer(TrainConfig(momentum=0.8, weight_decay=0.03), small(), 0.1)
    assert isinstance(sgd, SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.8}
    assert {group["weight_decay"] for group in sgd.param_groups} == {0.0, 0.03}
    options = TrainConfig(optimizer="adamw", weight_decay=0.03, classifier_lr=1.0, bias_lr=1.0)
    adamw = build_optimizer(options, small(), 0.1)
    assert isinstance(adamw, AdamW)
    assert {group["lr"] for group in adamw.param_groups} == {0.1}
    assert torch.is_tensor(adamw.param_groups[0]["params"][0])


@pytest.mark.parametrize(
    ("name", "stage", "learns", "frozen"),
    [
        ("gtdnet_resnet18", 1, "layer1.0.conv1.weight", "bn1.weight"),
        ("gtdnet_resnet18", 2, "layer2.0.conv1.weight", "layer1.1.bn2.bias"),
        ("gtdnet_resnet18", 4, "layer4.0.conv1.weight", "layer3.1.conv1.temporal.gtd.reduce.bias"),
        ("tsm_efficientnet_lite0", 2, "blocks.1.0.conv_pw.weight", "blocks.0.0.bn2.bias"),
        ("tsm_efficientnet_lite0", 3, "blocks.2.0.conv_pw.weight", "blocks.1.1.conv_pwl.weight"),
        ("tsm_efficientnet_lite0", 7, None, "bn2.weight"),
    ],
)  # fmt: skip
def test_stages_that_do_not_learn(name: str, stage: int, learns: str | None, frozen: str) -> None:
    """What comes before the next stage, and in it no batch norm's statistics move."""
    model = create_model(name, 5, 4, width=0.125).train()
    freeze(model, "none", stage)
    parameters = dict(model.backbone.named_parameters())
    first = next((key for key, value in parameters.items() if value.requires_grad), None)
    assert first == learns
    assert not parameters[frozen].requires_grad
    before = {key: value.clone() for key, value in model.named_buffers()}
    model(torch.randn(2, 4, 3, 64, 64))
    moved = {key for key, value in model.named_buffers() if not torch.equal(value, before[key])}
    for key in moved:
        norm = key.removeprefix("backbone.").rpartition(".")[0]
        assert parameters[f"{norm}.weight"].requires_grad
    assert bool(moved) == (learns is not None)


def test_stages_that_are_not_there() -> None:
    with pytest.raises(InputError, match=r"frozen_stages=6: the stages are 1 \(the stem\) to 5"):
        freeze(small(), "none", 6)
    own = VideoClassifier(torch.nn.Conv2d(3, 8, 3), 8, 5, 4)
    with pytest.raises(InputError, match="Conv2d does not say what its stages are; give 0"):
        freeze(own, "none", 1)


def test_momentum_of_the_2d_networks_norms() -> None:
    model = create_model("tea_resnet50", 5, 4, width=0.125)
    set_norm_momentum(model, 0.03)
    norms = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    of_temporal = [m.momentum for n, m in norms.items() if "temporal" in n]
    assert {m.momentum for n, m in norms.items() if "temporal" not in n} == {0.03}
    assert of_temporal and set(of_temporal) == {0.1}
