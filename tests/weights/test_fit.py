"""Weights made to fit a network: another number of frames, a 2D network, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models import ResNet, create_model, load_model, save_model
from gtdnet.nn import MTAggregation, TemporalAdaptiveModule, temporal_convs
from gtdnet.nn.tanet import AdaptiveKernel
from gtdnet.weights.fit import BackboneWeights, resize_segments

# ------------------------------------------------------------------------- another number of frames


class Holder(nn.Module):
    def __init__(self, aggregation: nn.Module) -> None:
        super().__init__()
        self.aggregation = aggregation


def resized(old: MTAggregation, num_segments: int, alpha: int) -> MTAggregation:
    new = MTAggregation(num_segments, alpha)
    tensors = resize_segments(Holder(old).state_dict(), Holder(new))
    Holder(new).load_state_dict(tensors)
    return new


@pytest.mark.parametrize(("factor", "alpha"), [(2, 2), (2, 1), (3, 2), (4, 1)])
def test_more_frames_keep_the_sums_over_time(factor: int, alpha: int) -> None:
    torch.manual_seed(0)
    old = MTAggregation(4, alpha=2)
    new = resized(old, 4 * factor, alpha)
    copies = 4 * factor * alpha // 8
    torch.testing.assert_close(
        new.spread.weight.sum(1), old.spread.weight.sum(1).repeat_interleave(copies)
    )
    assert torch.equal(new.spread.bias, old.spread.bias.repeat_interleave(copies))
    torch.testing.assert_close(
        new.collect.weight, old.collect.weight.repeat_interleave(copies, dim=1) / copies
    )
    assert torch.equal(new.collect.bias, old.collect.bias)


@pytest.mark.parametrize("num_segments", [1, 3, 5, 8, 9, 16, 20])
def test_mta_of_a_constant_clip_at_any_number_of_frames(num_segments: int) -> None:
    torch.manual_seed(0)
    old = MTAggregation(8, alpha=2)
    new = resized(old, num_segments, alpha=math.ceil(16 / num_segments))
    z = torch.randn(3, 1, 7)
    torch.testing.assert_close(new(z.expand(3, num_segments, 7)), old(z.expand(3, 8, 7)))


def test_weights_over_time_are_interpolated() -> None:
    old = MTAggregation(2, alpha=1)
    with torch.no_grad():
        old.spread.weight.copy_(torch.tensor([[0.0, 8.0], [4.0, 4.0]]))
    new = resized(old, 4, alpha=1)
    rows = [[0.0, 1.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]]  # half of 0 2 6 8 and of 4 4 4 4
    torch.testing.assert_close(
        new.spread.weight.detach(), torch.tensor([r for r in rows for _ in "ab"])
    )


def trained_kernel(num_segments: int) -> AdaptiveKernel:
    torch.manual_seed(0)
    kernel = AdaptiveKernel(num_segments, alpha=2).eval()
    for key, value in kernel.state_dict().items():
        if key.startswith("norm.") and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return kernel


@pytest.mark.parametrize("num_segments", [1, 3, 5, 8, 9, 16, 20])
def test_tanet_kernels_of_a_constant_clip_at_any_number_of_frames(num_segments: int) -> None:
    old = trained_kernel(8)
    new = AdaptiveKernel(num_segments, alpha=math.ceil(16 / num_segments)).eval()
    new.load_state_dict(resize_segments(old.state_dict(), new))
    phi = torch.randn(3, 7, 1)
    wanted = old(phi.expand(3, 7, 8))
    assert wanted.std(dim=1).max() > 0.01  # the channels' kernels do differ
    torch.testing.assert_close(new(phi.expand(3, 7, num_segments)), wanted)


def test_tanet_units_are_copied_with_their_norms_and_share_their_weight() -> None:
    old, new = trained_kernel(4), AdaptiveKernel(8, alpha=2)
    tensors = resize_segments(old.state_dict(), new)
    for name in ("weight", "bias", "running_mean", "running_var"):
        wanted = old.state_dict()[f"norm.{name}"].repeat_interleave(2)
        assert torch.equal(tensors[f"norm.{name}"], wanted)
    wanted = old.collect.weight.repeat_interleave(2, dim=1) / 2
    assert torch.equal(tensors["collect.weight"], wanted)


@pytest.mark.parametrize("num_segments", [1, 3, 8])
def test_tanet_files_run_at_another_number_of_frames(tmp_path: Path, num_segments: int) -> None:
    torch.manual_seed(0)
    model = create_model("tanet_resnet18", 2, 4, width=0.125).eval()
    path = save_model(tmp_path / "tanet.safetensors", model, ClipSpec(("a", "b"), num_segments=4))
    loaded = load_model(path, num_segments=num_segments).model
    assert loaded(torch.randn(1, num_segments, 3, 32, 32)).shape == (1, 2)
    conv, other = temporal_convs(model)[-1][1], temporal_convs(loaded)[-1][1]
    phi = torch.randn(2, 64, 1)
    torch.testing.assert_close(
        other.temporal.get_submodule("adaptive")(phi.expand(2, 64, num_segments)),
        conv.temporal.get_submodule("adaptive")(phi.expand(2, 64, 4)),
    )
    restart = create_model("tanet_resnet18", 9, 8, width=0.125, pretrained=path)
    assert restart(torch.randn(1, 8, 3, 32, 32)).shape == (1, 9)


def test_norms_of_other_modules_are_not_resized() -> None:
    old, new = TemporalAdaptiveModule(8, 4), TemporalAdaptiveModule(8, 4, beta=2)
    tensors = resize_segments(old.state_dict(), new)
    assert tensors["local.norm.weight"].shape == (2,)  # loading it will say that it does not fit


class Doubled(nn.Module):
    """A module that says itself how its weights go to another T: they are repeated."""

    def __init__(self, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.weight = nn.Parameter(torch.arange(float(num_segments)))

    def resize_time(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {k: v.repeat(self.num_segments // len(v)) for k, v in state.items()}


def test_modules_are_asked_for_their_own_weights() -> None:
    def network(num_segments: int) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 1), Doubled(num_segments), Doubled(num_segments))

    given = {**network(2).state_dict(), "10.weight": torch.ones(2)}
    tensors = resize_segments(given, network(4))
    assert list(tensors) == list(given)
    for name in ("1.weight", "2.weight"):
        assert tensors[name].tolist() == [0, 1, 0, 1]
    for name in ("0.weight", "0.bias", "10.weight"):
        assert tensors[name] is given[name]
    alone = resize_segments(Doubled(2).state_dict(), Doubled(6))
    assert alone["weight"].tolist() == [0, 1, 0, 1, 0, 1]


# -------------------------------------------------------------------------------------- 2D weights


@pytest.fixture(scope="module")
def backbone_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = ResNet(18, width=0.125).state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.normal_()
    return state


def loaded_equals(source: Any, wanted: dict[str, Tensor]) -> bool:
    backbone = ResNet(18, width=0.125)
    BackboneWeights.read(source).load_plain(backbone)
    return all(torch.equal(value, wanted[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "module.backbone.", "model.backbone.", "base_model."]
)
def test_prefixes(backbone_state: dict[str, Tensor], prefix: str) -> None:
    source = {prefix + key: value for key, value in backbone_state.items()}
    assert loaded_equals(source, backbone_state)


@pytest.mark.parametrize("head", ["fc.weight", "classifier.bias", "head.fc.weight"])
def test_classifiers_are_left_out(backbone_state: dict[str, Tensor], head: str) -> None:
    assert loaded_equals({**backbone_state, head: torch.zeros(3)}, backbone_state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".tar"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pytorch_files(
    tmp_path: Path, backbone_state: dict[str, Tensor], suffix: str, wrapper: str | None
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({wrapper: backbone_state, "epoch": 3} if wrapper else backbone_state, path)
    assert loaded_equals(path, backbone_state)


def test_checkpoints_without_counters_load(backbone_state: dict[str, Tensor]) -> None:
    old = {k: v for k, v in backbone_state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) == 100
    assert loaded_equals(old, backbone_state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv1.weight"), r"1 key missing \(conv1.weight\)"),
        (lambda s: s.update({"layer9.bias": torch.zeros(1)}), r"1 key unexpected \(layer9.bias\)"),
        (
            lambda s: s.update({"bn1.bias": torch.zeros(9)}),
            r"another shape \(bn1.bias \[9\] for \[8\]\)",
        ),
        (lambda s: s.clear(), r"100 keys missing \(bn1.bias, .*, ...\)"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    backbone_state: dict[str, Tensor], change: Callable[[dict], object], message: str
) -> None:
    source = dict(backbone_state)
    change(source)
    backbone = ResNet(18, width=0.125)
    before = copy.deepcopy(backbone.state_dict())
    with pytest.raises(InputError, match=f"the state dict: the weights do not fit.*{message}"):
        BackboneWeights.read(source).load_plain(backbone)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
