"""Ablations: variants of one training run, each with several seeds, on equal data and budget."""

from __future__ import annotations

import csv
import datetime
import platform
import re
import shlex
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from gtdnet.data.formats import Annotations
from gtdnet.device import resolve_device, resolve_precision
from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import check_frame_order
from gtdnet.evaluate.run import evaluate_model
from gtdnet.files import write_text
from gtdnet.models.complexity import measure
from gtdnet.models.model_file import load_model
from gtdnet.text import markdown, say
from gtdnet.train.callbacks import load_weights
from gtdnet.train.config import OptimOptions, TrainConfig, find_recipe
from gtdnet.train.data import read_splits
from gtdnet.train.run import build_model, resume, train
from gtdnet.workers import num_cores

RESULTS_FILE, TABLE_FILE = "ablation.yaml", "ablation.md"

_OWN = ("name", "output", "seed")  # what the ablation itself decides
_SHARED = ("data", "format")
_BUDGET = {option.name for option in fields(OptimOptions)} | {
    "batch_size",
    "balanced",
    "class_weights",
}
_SAME_RUN = ("name", "output", "num_workers")  # may differ when a run is taken up again


@dataclass
class AblateOptions:
    """Train every variant of a grid with every seed

    Args:
        grid: YAML file with base, variants and seeds (docs/ablation.md).
        data: dataset folder, list file or manifest; default: the one in the grid's base.
        output: folder of the runs and the results; default: the grid's name in runs/. Runs that
            are in it are not trained again, those that were stopped go on.
        device: auto, cpu or cuda; default: the one in the grid's base.
        num_workers: decoding processes; default: the number in the grid's base.
    """

    grid: str
    data: str | None = None
    output: str | None = None
    device: str | None = None
    num_workers: int | None = None


@dataclass(frozen=True)
class Grid:
    """What a grid file says.

    Attributes:
        base: training options of all variants.
        variants: by name, the options in which each differs from the base. ``model_options`` are
            added to those of the base.
        seeds: each variant is trained with each of them.
        evaluate: orders of frames in which the last epoch's weights are measured as well.
        allow_budget: whether variants may differ in what decides how much they learn.
    """

    base: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluate: tuple[str, ...] = ()
    allow_budget: bool = False

    @classmethod
    def load(cls, path: str | Path) -> Grid:
        """Read a grid file; ``base`` may be a recipe's name, or have one under ``recipe``.

        Raises:
            ValueError: no such file, not a grid, or a value that does not fit.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not YAML") from error
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
            if not isinstance(name, str) or not _slug(name):
                raise InputError(f"a variant's name must hold letters or digits, got {name!r}")
            if not isinstance(options or {}, dict):
                raise InputError(
                    f"variant {name!r} must be a mapping of options ({{}} for none), got "
                    f"{options!r}"
                )
        slugs = [_slug(name) for name in variants]
        if len(set(slugs)) < len(slugs):
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
            base = {**asdict(TrainConfig.load(find_recipe(str(recipe)))), **base}
            for option in _OWN:
                base.pop(option)
        variants = {name: dict(options or {}) for name, options in variants.items()}
        return cls(base, variants, tuple(seeds), tuple(orders), allow_budget)

    def configs(self, **given: Any) -> dict[str, TrainConfig]:
        """The training config of each variant, without seed and folder.

        Args:
            given: options that win over the base's, where they are not None.

        Raises:
            ValueError: an option that is unknown, out of range or not a variant's to change.
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
            options = {
                **options,
                "model_options": {**common.model_options, **(options.get("model_options") or {})},
            }
            config = _config({**base, **options}, where)
            differing = [k for k in options if getattr(config, k) != getattr(common, k)]
            budget = [k for k in differing if k in _BUDGET]
            if budget and not self.allow_budget:
                raise InputError(
                    f"{where} changes {budget[0]}, so that it would not be trained as the others "
                    f"are; set it in base, or allow_budget: true"
                )
            if config.devices > 1:
                raise InputError(f"{where}: devices={config.devices}, an ablation takes 1")
            configs[name] = config
        return configs


def ablate(options: AblateOptions, console: Console | None = None) -> dict[str, Any]:
    """Train what the grid asks for and is not there yet; messages go to stderr.

    A run that fails is recorded with its reason, and the others go on; the same call tries it
    again.

    Returns what ablation.yaml holds, JSON-ready, and the ``output`` folder.

    Raises:
        ValueError: anything wrong with the grid, a variant or the data, found before training
            starts; or an output folder that holds something else.
        InterruptedError: training was stopped with Ctrl-C; the same call goes on.
    """
    console = console or Console(stderr=True)
    grid = Grid.load(options.grid)
    configs = grid.configs(
        data=options.data, device=options.device, num_workers=options.num_workers
    )
    output = Path(options.output or Path("runs", Path(options.grid).stem))
    first = next(iter(configs.values()))
    training, validation = read_splits(first)
    if validation is None:
        raise InputError(f"{training.root}: has no validation split to compare variants on")
    ablation = _Ablation(
        output,
        grid,
        configs,
        _describe(options, output, grid, first, training, validation),
        validation,
        console,
    )
    ablation.take_up()
    say(f"{len(ablation.runs)} runs, {len(configs)} variants; results: {output}", console)
    ablation.measure_sizes(training.class_names)
    return {**ablation.run_all(), "output": str(output)}


@dataclass(frozen=True)
class _Run:
    variant: str
    config: TrainConfig

    @property
    def folder(self) -> Path:
        return Path(self.config.output, str(self.config.name))


@dataclass
class _Ablation:
    """One ablation: its runs, and what came out so far (``records``, by variant and seed)."""

    output: Path
    grid: Grid
    configs: Mapping[str, TrainConfig]
    described: Mapping[str, Any]
    validation: Annotations
    console: Console
    records: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Seed by seed: what is stopped early has all variants, each with some of the seeds.
        self.runs = [
            _Run(
                variant,
                replace(
                    config, seed=seed, output=str(self.output), name=f"{_slug(variant)}-{seed}"
                ),
            )
            for seed in self.grid.seeds
            for variant, config in self.configs.items()
        ]

    def take_up(self) -> None:
        """Read what an earlier call left in the output folder, if it was for these very runs."""
        path = self.output / RESULTS_FILE
        if not path.is_file():
            if self.output.is_dir() and any(self.output.iterdir()):
                raise InputError(
                    f"{self.output}: holds something else than an ablation; give another --output"
                )
            return
        try:
            earlier = yaml.safe_load(path.read_text(encoding="utf-8"))
            data, records = earlier["data"], earlier["runs"]
            self.records = {
                (r["variant"], r["seed"]): r for r in records if r["status"] == "finished"
            }
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read; give another --output") from error
        for key, now in self.described["data"].items():
            if key != "path" and data.get(key) != now:
                raise InputError(
                    f"{path}: was made on data with {key}={data.get(key)}, there is now {now}; "
                    f"give another --output"
                )
        for run in self.runs:
            if (run.folder / "config.yaml").is_file():
                _check_same(run)

    def measure_sizes(self, class_names: tuple[str, ...]) -> None:
        """Parameters and multiply-accumulates of each variant; its start is tried as well."""
        for variant, config in self.configs.items():
            try:
                model, spec, _ = build_model(config, config.clip_spec(class_names))
            except (ValueError, TypeError) as error:
                raise InputError(f"variant {variant!r}: {error}") from error
            frames, size = spec.num_segments * spec.frames_per_segment, spec.crop_size
            clip = torch.empty(1, frames, 3, size, size, device="meta")
            cost = measure(model.to("meta"), clip)
            self.sizes[variant] = {"parameters": cost.parameters, "macs_per_view": cost.macs}

    def run_all(self) -> dict[str, Any]:
        """Train and measure every run that is not finished; what ablation.yaml holds then."""
        trained = 0
        began = time.monotonic()
        for number, run in enumerate(self.runs, start=1):
            key = (run.variant, run.config.seed)
            title = f"run {number} of {len(self.runs)}: {run.variant}, seed {run.config.seed}"
            if self._is_done(key, run):
                say(
                    f"{title}: {100 * self.records[key]['val_top1']:.1f} %, from before",
                    self.console,
                )
                continue
            say(title, self.console)
            self.records[key] = self._record(run, title)
            self._write()
            trained += 1
            waiting = sum(
                not self._is_done((r.variant, r.config.seed), r) for r in self.runs[number:]
            )
            if waiting:
                minutes = (time.monotonic() - began) / trained * waiting / 60
                say(f"to go: {waiting} (about {minutes:.1f} minutes)", self.console)
        return self._write()

    def _write(self) -> dict[str, Any]:
        """Write what there is so far, and return what ablation.yaml holds."""
        runs = [
            self.records[key]
            for variant in self.configs
            for seed in self.grid.seeds
            if (key := (variant, seed)) in self.records
        ]
        now = datetime.datetime.now(datetime.timezone.utc)
        result = {
            "written": now.isoformat(timespec="seconds"),
            **self.described,
            "variants": summarise(runs, list(self.configs), self.sizes),
            "runs": runs,
        }
        text = yaml.safe_dump(result, sort_keys=False, allow_unicode=True)
        write_text(self.output / RESULTS_FILE, text)
        write_text(self.output / TABLE_FILE, report(result))
        return result

    def _is_done(self, key: tuple[str, int], run: _Run) -> bool:
        record = self.records.get(key, {})
        return (
            record.get("status") == "finished"
            and (run.folder / "last.ckpt").is_file()
            and set(self.grid.evaluate) <= set(record["frames"])
        )

    def _record(self, run: _Run, title: str) -> dict[str, Any]:
        record = {
            "variant": run.variant,
            "seed": run.config.seed,
            "folder": run.folder.name,
            "status": "finished",
        }
        self._write()  # so that the folder is known as an ablation's from its first run on
        try:
            if not _train(run, self.console):
                raise InterruptedError(f"stopped in {title}; the same command goes on from there")
            record |= _read_metrics(run.folder)
            record["frames"] = {order: self._top1(run, order) for order in self.grid.evaluate}
        except InterruptedError:
            raise
        except Exception as error:  # one run's failure must not cost the others
            reason = (
                str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            )
            say(f"failed: {reason}", self.console)
            return {**record, "status": "failed", "reason": reason}
        frames = "".join(f", {k} {100 * v:.1f} %" for k, v in record["frames"].items())
        say(f"top-1 after the last epoch {100 * record['val_top1']:.1f} %{frames}", self.console)
        return record

    def _top1(self, run: _Run, order: str) -> float:
        """Of the last epoch's weights, as val_top1 is; the model file holds the best epoch's."""
        model_file = load_model(run.folder / "model.safetensors")
        model_file.model.load_state_dict(load_weights(run.folder / "last.ckpt"))
        evaluation = evaluate_model(
            model_file,
            self.validation,
            frames=order,
            batch_size=run.config.batch_size,
            num_workers=run.config.num_workers,
            device=run.config.device,
            precision=run.config.precision,
        )
        return round(evaluation.metrics["top1"] or 0.0, 6)


def summarise(
    runs: Sequence[Mapping[str, Any]],
    variants: Sequence[str],
    sizes: Mapping[str, Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over the seeds of each variant, JSON-ready.

    ``difference`` is to the first variant, over the seeds that both have finished; None is what
    too few runs do not give.
    """
    finished = [run for run in runs if run["status"] == "finished"]
    of = {v: {run["seed"]: run for run in finished if run["variant"] == v} for v in variants}
    reference = of[variants[0]]
    rows = []
    for variant in variants:
        mine = of[variant]
        orders = dict.fromkeys(order for run in mine.values() for order in run["frames"])
        rows.append(
            {
                "name": variant,
                **sizes.get(variant, {}),
                "runs": len(mine),
                "val_top1": _mean_std([run["val_top1"] for run in mine.values()]),
                "best_val_top1": _mean_std([run["best_val_top1"] for run in mine.values()]),
                "frames": {
                    order: _mean_std(
                        [r["frames"][order] for r in mine.values() if order in r["frames"]]
                    )
                    for order in orders
                },
                "difference": None
                if variant == variants[0]
                else _mean_std(
                    [
                        run["val_top1"] - reference[seed]["val_top1"]
                        for seed, run in mine.items()
                        if seed in reference
                    ]
                ),
                "seconds": _mean_std([run["seconds"] for run in mine.values()])["mean"],
            }
        )
    return rows


def table(result: Mapping[str, Any]) -> str:
    """The variants as a Markdown table that also reads well in a terminal."""
    variants = result["variants"]
    orders = list(dict.fromkeys(order for v in variants for order in v["frames"]))
    rows = [
        [
            "variant", "M param.", "GMACs/view", "top-1 %", f"minus {variants[0]['name']}",
            *(f"{order} %" for order in orders), "best epoch %", "minutes", "runs",
        ],
        *(
            [
                v["name"],
                f"{v['parameters'] / 1e6:.2f}" if "parameters" in v else "",
                f"{v['macs_per_view'] / 1e9:.3f}" if "macs_per_view" in v else "",
                _percent(v["val_top1"]),
                _percent(v["difference"], signed=True),
                *(_percent(v["frames"].get(order)) for order in orders),
                _percent(v["best_val_top1"]),
                "" if v["seconds"] is None else f"{v['seconds'] / 60:.1f}",
                str(v["runs"]),
            ]
            for v in variants
        ),
    ]  # fmt: skip
    return markdown(rows)


def report(result: Mapping[str, Any]) -> str:
    """The table, and what its numbers are."""
    data, grid = result["data"], result["grid"]
    lines = [
        "# Ablation",
        "",
        table(result),
        "",
        f"Top-1 on {data['validation_clips']} validation clips of {data['classes']} classes after "
        f"the last of {result['epochs']} epochs of {data['training_clips']} clips: mean ± sample "
        f"standard deviation over the seeds {', '.join(map(str, grid['seeds']))}. Differences are "
        f'taken seed by seed, then averaged. "best epoch" is chosen on the same clips and '
        f"therefore too high.",
        "",
        f"    {result['command']}",
        "",
        f"{result['written']}, gtdnet {result['versions']['gtdnet']}, torch "
        f"{result['versions']['torch']}, {result['machine']['device']}",
    ]
    failed = [run for run in result["runs"] if run["status"] == "failed"]
    lines += ["", "Failed:", ""] if failed else []
    lines += [f"- {run['variant']}, seed {run['seed']}: {run['reason']}" for run in failed]
    return "\n".join(lines) + "\n"


def _config(values: Mapping[str, Any], where: str) -> TrainConfig:
    if own := [name for name in _OWN if name in values]:
        raise InputError(f"{where} has {own[0]}, which the ablation sets itself; leave it out")
    unknown = sorted(set(map(str, values)) - {option.name for option in fields(TrainConfig)})
    if unknown:
        raise InputError(f"{where}: unknown option {unknown[0]!r}; see gtdnet train --help")
    try:
        return TrainConfig(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _slug(name: str) -> str:
    """A variant's name as its folders have it: "GTDNet, no gate" -> "gtdnet-no-gate"."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def _train(run: _Run, console: Console) -> bool:
    """Train a run, or go on with it; False if the user stopped it."""
    folder = run.folder
    if (folder / "last.ckpt").is_file():
        return resume(folder, console=console).finished
    if folder.is_dir():
        # It ended before anything was saved: config.yaml, the first lines for TensorBoard.
        _check_same(run)
        shutil.rmtree(folder)
    return train(run.config, console=console).finished


def _check_same(run: _Run) -> None:
    """Raise InputError unless the run's folder is that of a run with the same options."""
    there = TrainConfig.load(run.folder / "config.yaml")
    for option in fields(TrainConfig):
        old, new = (getattr(config, option.name) for config in (there, run.config))
        if old != new and option.name not in _SAME_RUN:
            raise InputError(
                f"{run.folder}: was trained with {option.name}={old}, the grid now says {new}; "
                f"give another --output, or delete that folder to train it anew"
            )


def _read_metrics(folder: Path) -> dict[str, Any]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    validated = [row for row in rows if row["val_top1"]]
    best = max(validated, key=lambda row: float(row["val_top1"]))
    return {
        "val_top1": float(rows[-1]["val_top1"]),
        "best_val_top1": float(best["val_top1"]),
        "best_epoch": int(best["epoch"]),
        "steps": int(rows[-1]["step"]),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
    }


def _describe(
    options: AblateOptions,
    output: Path,
    grid: Grid,
    config: TrainConfig,
    training: Annotations,
    validation: Annotations,
) -> dict[str, Any]:
    import gtdnet

    device = resolve_device(config.device)
    words = ["gtdnet", "ablate", options.grid, "--data", config.data, "--output", str(output)]
    return {
        "command": shlex.join(words),
        "machine": {
            "system": platform.platform(),
            "cores": num_cores(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{device.type} ({torch.backends.cpu.get_cpu_capability()})",
            "precision": resolve_precision(config.precision, device),
        },
        "versions": {
            "gtdnet": gtdnet.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "data": {
            "path": config.data,
            "training_clips": len(training.records),
            "validation_clips": len(validation.records),
            "classes": len(training.class_names),
            "fingerprint": config.clip_spec(training.class_names).fingerprint,
        },
        "epochs": config.epochs,
        "grid": {
            "base": dict(grid.base),
            "variants": {name: dict(changes) for name, changes in grid.variants.items()},
            "seeds": list(grid.seeds),
            "evaluate": list(grid.evaluate),
            "allow_budget": grid.allow_budget,
        },
    }


def _mean_std(values: Sequence[float]) -> dict[str, float | None]:
    return {
        "mean": round(statistics.fmean(values), 6) if values else None,
        "std": round(statistics.stdev(values), 6) if len(values) > 1 else None,
    }


def _percent(value: Mapping[str, float | None] | None, signed: bool = False) -> str:
    mean, std = (value or {}).get("mean"), (value or {}).get("std")
    if mean is None:
        return ""
    text = f"{100 * mean:+.1f}" if signed else f"{100 * mean:.1f}"
    return text if std is None else f"{text} ± {100 * std:.1f}"
