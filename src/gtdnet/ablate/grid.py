"""What an ablation compares: a grid file, and the training options of each variant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import check_frame_order
from gtdnet.files import read_yaml
from gtdnet.train.config import OptimOptions, TrainConfig, find_recipe

_OWN = ("name", "output", "seed")  # what the ablation itself decides
_SHARED = ("data", "format")
_BUDGET = {
    "batch_size", "balanced", "class_weights", *(option.name for option in fields(OptimOptions)),
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """What a grid file says."""

    base: Mapping[str, Any]  # training options of all variants
    # By name, the options in which each differs from the base. ``model_options`` are added to those
    # of the base.
    variants: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)  # each variant is trained with each of them
    # Orders of frames in which the last epoch's weights are measured as well.
    evaluate: tuple[str, ...] = ()
    allow_budget: bool = False  # whether variants may differ in what decides how much they learn

    @classmethod
    def load(cls, path: str | Path) -> Grid:
        """Read a grid file; ``base`` may be a recipe's name, or have one under ``recipe``.

        Raises:
            ValueError: no such file, not a grid, or a value that does not fit.
        """
        values = read_yaml(path)
        try:
            return cls._checked(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def _checked(cls, values: Any) -> Grid:
        known = [option.name for option in fields(cls)]
        if not isinstance(values, dict) or not {"base", "variants"} <= set(values):
            raise InputError("is not a grid, which has base, variants and seeds")
        if unknown := sorted(set(map(str, values)) - set(known)):
            raise InputError(f"unknown key {unknown[0]!r}; a grid has {', '.join(known)}")
        base, variants = values["base"], values["variants"]
        if isinstance(base, str):
            base = {"recipe": base}
        if not isinstance(base, dict):
            raise InputError(f"base must be a recipe or a mapping of options, got {base!r}")
        if not isinstance(variants, dict) or not variants:
            raise InputError("variants must be a mapping of names to options, with one at least")
        for name, options in variants.items():
            if not isinstance(name, str) or not slug(name):
                raise InputError(f"a variant's name must hold letters or digits, got {name!r}")
            if not isinstance(options or {}, dict):
                raise InputError(
                    f"variant {name!r} must be a mapping of options ({{}} for none), got "
                    f"{options!r}"
                )
        if len({slug(name) for name in variants}) < len(variants):
            raise InputError("two variants have names that give the same folder; rename one")
        seeds, orders = values.get("seeds", list(cls.seeds)), values.get("evaluate") or []
        is_seeds = isinstance(seeds, list) and all(type(s) is int and s >= 0 for s in seeds)
        if not is_seeds or not seeds or len(set(seeds)) < len(seeds):
            raise InputError(f"seeds must be a list of different whole numbers, got {seeds!r}")
        if not isinstance(orders, list):
            raise InputError(f"evaluate must be a list such as [shuffled], got {orders!r}")
        for order in orders:
            check_frame_order(order)
        allow_budget = values.get("allow_budget", False)
        if not isinstance(allow_budget, bool):
            raise InputError(f"allow_budget must be true or false, got {allow_budget!r}")
        base = dict(base)
        if recipe := base.pop("recipe", None):
            of_recipe = asdict(TrainConfig.load(find_recipe(str(recipe))))
            base = {k: v for k, v in of_recipe.items() if k not in _OWN} | base
        variants = {name: dict(options or {}) for name, options in variants.items()}
        return cls(base, variants, tuple(seeds), tuple(orders), allow_budget)

    def configs(self, **given: Any) -> dict[str, TrainConfig]:
        """The training config of each variant, without seed and folder.

        Options that are ``given``, and not None, win over the base's. InputError for one that is
        unknown, out of range or not a variant's to change.
        """
        base = {**self.base, **{k: v for k, v in given.items() if v is not None}}
        common = _config(base, "base")
        if common.epochs % common.validate_every:
            raise InputError(
                f"base: the last epoch is what counts, but with validate_every="
                f"{common.validate_every} the last of {common.epochs} is not validated"
            )
        if common.early_stopping and not self.allow_budget:
            raise InputError(
                "base: early_stopping gives runs different numbers of steps; leave it out, or set "
                "allow_budget: true"
            )
        configs = {}
        for name, options in self.variants.items():
            where = f"variant {name!r}"
            if shared := [k for k in options if k in _SHARED]:
                raise InputError(f"{where} has {shared[0]}, which all variants share: see base")
            model_options = {**common.model_options, **(options.get("model_options") or {})}
            config = _config({**base, **options, "model_options": model_options}, where)
            budget = [
                k for k in options if k in _BUDGET and getattr(config, k) != getattr(common, k)
            ]
            if budget and not self.allow_budget:
                raise InputError(
                    f"{where} changes {budget[0]}, so that it would not be trained as the others "
                    f"are; set it in base, or allow_budget: true"
                )
            if config.devices > 1:
                raise InputError(f"{where}: devices={config.devices}, an ablation takes 1")
            configs[name] = config
        return configs

    def to_dict(self) -> dict[str, Any]:
        """YAML-ready."""
        return {**asdict(self), "seeds": list(self.seeds), "evaluate": list(self.evaluate)}


def slug(name: str) -> str:
    """A variant's name as its folders have it: "GTDNet, no gate" -> "gtdnet-no-gate"."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def _config(values: Mapping[str, Any], where: str) -> TrainConfig:
    if own := [name for name in _OWN if name in values]:
        raise InputError(f"{where} has {own[0]}, which the ablation sets itself; leave it out")
    return TrainConfig.from_dict(values, where)
