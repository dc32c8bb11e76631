"""Weights over T frames made to fit another T."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gtdnet.nn.time import copied_units, resize_time_layers, share_out


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([3.0], [3.0]),
        ([6.0], [3.0, 3.0]),
        ([0.0, 8.0], [0.0, 1.0, 3.0, 4.0]),
        ([4.0, 4.0], [2.0, 2.0, 2.0, 2.0]),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0, 4.0], [10.0]),
        ([8.0, 8.0, 0.0, 0.0], [14.0, 2.0]),
    ],
)
def test_weights_are_shared_out(old: list[float], new: list[float]) -> None:
    torch.testing.assert_close(share_out(torch.tensor(old), len(new)), torch.tensor(new))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("old", [1, 3, 8, 16])
@pytest.mark.parametrize("new", [1, 2, 5, 8, 20])
def test_shares_keep_the_sum_and_the_type(old: int, new: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.rand(4, old).to(dtype)
    shared = share_out(weight, new)
    assert (shared.shape, shared.dtype) == ((4, new), dtype)
    torch.testing.assert_close(shared.sum(1), weight.sum(1), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("old", "new", "units"),
    [
        (1, 3, [0, 0, 0]),
        (2, 4, [0, 0, 1, 1]),
        (3, 5, [0, 0, 1, 1, 2]),
        (4, 4, [0, 1, 2, 3]),
        (4, 2, [0, 2]),
        (5, 3, [0, 1, 3]),
    ],
)
def test_units_are_copied_evenly(old: int, new: int, units: list[int]) -> None:
    assert copied_units(old, new).tolist() == units


def layers(num_segments: int, hidden: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    module = nn.ModuleDict(
        {
            "spread": nn.Linear(num_segments, hidden),
            "norm": nn.BatchNorm1d(hidden),
            "collect": nn.Linear(hidden, 3),
        }
    )
    return module.state_dict()


def test_layers_of_another_number_of_frames() -> None:
    old, wanted = layers(4, 8), layers(8, 16)
    new = resize_time_layers(old, 8, 16)
    assert {k: v.shape for k, v in new.items()} == {k: v.shape for k, v in wanted.items()}
    clip = torch.rand(5, 1)
    for state, t in ((old, 4), (new, 8)):
        state["hidden"] = clip.expand(5, t) @ state["spread.weight"].T + state["spread.bias"]
    torch.testing.assert_close(new["hidden"], old["hidden"].repeat_interleave(2, dim=1))
    torch.testing.assert_close(
        new["hidden"] @ new["collect.weight"].T, old["hidden"] @ old["collect.weight"].T
    )


def test_what_fits_or_is_none_of_these_layers_stays() -> None:
    old = {**layers(4, 8), "other.weight": torch.ones(8, 4), "norm.mask": torch.ones(3)}
    same = resize_time_layers(old, 4, 8)
    assert all(torch.equal(same[key], value) for key, value in old.items())
    new = resize_time_layers(old, 8, 16)
    for key in ("collect.bias", "norm.num_batches_tracked", "norm.mask", "other.weight"):
        assert new[key] is old[key]
    without = {key: value for key, value in old.items() if key != "spread.weight"}
    assert resize_time_layers(without, 8, 16) == without
    assert resize_time_layers({}, 8, 16) == {}
