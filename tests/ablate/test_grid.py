from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gtdnet.ablate.grid import Grid
from gtdnet.errors import InputError

BASE: dict[str, Any] = {"model": "gtdnet_resnet18", "num_segments": 2, "epochs": 2, "batch_size": 6}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("[", "is not YAML"),
        ("a: 1", "is not a grid, which has base, variants and seeds"),
        ("{base: {}, variants: {A: }, seed: [0]}", "unknown key 'seed'; a grid has base, variants"),
        ("{base: 3, variants: {A: }}", "base must be a recipe or a mapping of options, got 3"),
        ("{base: nothing, variants: {A: }}", "no recipe 'nothing'"),
        ("{base: {}, variants: []}", "variants must be a mapping of names to options"),
        ("{base: {}, variants: {A: 3}}", "variant 'A' must be a mapping of options"),
        ("{base: {}, variants: {1: }}", "name must hold letters or digits, got 1"),
        ("{base: {}, variants: {'!?': }}", r"name must hold letters or digits, got '!\?'"),
        ("{base: {}, variants: {A b: , a-B: }}", "two variants have names that give the same"),
        ("{base: {}, variants: {A: }, seeds: 3}", "seeds must be a list .*, got 3"),
        ("{base: {}, variants: {A: }, seeds: [1, 1]}", r"seeds must be .*, got \[1, 1\]"),
        ("{base: {}, variants: {A: }, evaluate: [sideways]}", "unknown order of frames 'sideways'"),
        ("{base: {}, variants: {A: }, allow_budget: 1}", "allow_budget must be true or false"),
    ],
)  # fmt: skip
def test_bad_grid_files(grid: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(grid)
    with pytest.raises(InputError, match=f"^{path}: .*{message}"):
        Grid.load(path)


def test_grid_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read"):
        Grid.load("nowhere.yaml")


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ({}, {"colour": 1}, "variant 'A': unknown option 'colour'; see gtdnet train --help"),
        ({}, {"num_segments": "x"}, "variant 'A': num_segments must be a whole number"),
        ({}, {"seed": 1}, "variant 'A' has seed, which the ablation sets itself"),
        ({"name": "x"}, {}, "base has name, which the ablation sets itself"),
        ({}, {"data": "other"}, "variant 'A' has data, which all variants share"),
        ({}, {"epochs": 9}, "variant 'A' changes epochs, so that .* or allow_budget: true"),
        ({}, {"batch_size": 9}, "variant 'A' changes batch_size"),
        ({}, {"lr": 0.5}, "variant 'A' changes lr"),
        ({}, {"devices": 2}, "variant 'A': devices=2, an ablation takes 1"),
        ({"early_stopping": 1}, {}, "early_stopping gives runs different numbers of steps"),
        ({"epochs": 3, "validate_every": 2}, {}, "validate_every=2 the last of 3 is not validated"),
    ],
)
def test_variants_that_would_not_compare(
    base: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Grid({**BASE, **base}, {"A": options}).configs()


def test_budget_may_be_stated_again_or_allowed_to_differ() -> None:
    same = Grid(BASE, {"A": {"epochs": 2}, "B": {}}).configs()
    assert same["A"] == same["B"]
    free = Grid(BASE, {"A": {"epochs": 9}, "B": {}}, allow_budget=True).configs()
    assert (free["A"].epochs, free["B"].epochs) == (9, 2)


def test_numbers_as_yaml_has_them() -> None:
    """YAML 1.1 takes 1e-3, without a dot, for text."""
    configs = Grid({**BASE, "lr": "1e-3"}, {"A": {"lr": "2e-3"}}, allow_budget=True).configs()
    assert configs["A"].lr == 0.002


def test_base_from_a_recipe_and_options_that_win(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "{base: {recipe: synth_easy, epochs: 5}, variants: {A: , B: {num_segments: 4}}}"
    )
    configs = Grid.load(path).configs(data="d", device=None, num_workers=3)
    a, b = configs["A"], configs["B"]
    assert (a.epochs, a.lr, a.crop_size, a.model_options) == (5, 0.0015, 96, {"width": 0.5})
    assert (a.data, a.num_workers, a.device) == ("d", 3, "auto")
    assert b == replace(a, num_segments=4)
