"""Ablations: variants of one training run, each with several seeds, on equal data and budget."""

from __future__ import annotations

import csv
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from gtdnet.ablate.grid import Grid, slug
from gtdnet.ablate.options import AblateOptions
from gtdnet.ablate.summary import report, summarise
from gtdnet.data.formats import Annotations
from gtdnet.device import resolve_device, resolve_precision
from gtdnet.errors import InputError
from gtdnet.evaluate.run import evaluate_model
from gtdnet.files import NotWritten, alone_in, is_empty, read_yaml, write_text, write_yaml
from gtdnet.measure.provenance import command, now, versions
from gtdnet.models.complexity import measure
from gtdnet.models.model_file import load_model
from gtdnet.text import say
from gtdnet.train.config import TrainConfig
from gtdnet.workers import Terminated, num_cores

if TYPE_CHECKING:
    from gtdnet.train.run import TrainResult

RESULTS_FILE, TABLE_FILE = "ablation.yaml", "ablation.md"

_SAME_RUN = ("name", "output", "num_workers")  # may differ when a run is taken up again


def ablate(options: AblateOptions, console: Console | None = None) -> dict[str, Any]:
    """Train what the grid asks for and is not there yet; messages go to stderr.

    A run that fails is recorded with its reason, and the others go on; the same call tries it
    again.

    Returns what ablation.yaml holds, JSON-ready, and the ``output`` folder.

    Raises:
        ValueError: anything wrong with the grid, a variant or the data, found before training
            starts; or an output folder that holds something else.
        InterruptedError: training was stopped with Ctrl-C; the same call goes on.
        Terminated: the same with SIGTERM.
    """
    from gtdnet.train.data import split_clips  # here and below: with it comes Lightning

    grid = Grid.load(options.grid)
    configs = grid.configs(
        data=options.data, device=options.device, num_workers=options.num_workers
    )
    first = next(iter(configs.values()))
    output = Path(options.output or Path("runs", Path(options.grid).stem))
    training, validation, _ = split_clips(first)
    if validation is None:
        raise InputError(f"{training.root}: has no validation split to compare variants on")
    if training.multi_label:
        raise InputError(
            f"{training.root}: its clips have any number of classes (multi-label), but "
            f"variants are compared by top-1; train each with gtdnet train and evaluate it"
        )
    options = replace(options, data=first.data, output=str(output))
    described = _describe(options, grid, first, training, validation)
    console = console or Console(stderr=True)
    ablation = _Ablation(output, grid, configs, described, validation, console)
    with alone_in(output, "give another --output"):
        ablation.take_up()
        say(f"{len(ablation.runs)} runs, {len(configs)} variants; results: {output}", console)
        ablation.measure_sizes(training.class_names)
        return {**ablation.run_all(), "output": str(output)}


@dataclass(frozen=True)
class _Run:
    variant: str
    config: TrainConfig

    @property
    def key(self) -> tuple[str, int]:
        return self.variant, self.config.seed

    @property
    def folder(self) -> Path:
        return Path(self.config.output, str(self.config.name))

    def train(self, console: Console) -> TrainResult:
        """Train it, or go on with it, until it is done or stopped."""
        from gtdnet.train.run import resume, train

        if (self.folder / "last.ckpt").is_file():
            return resume(self.folder, console=console)
        if self.folder.is_dir() and not is_empty(self.folder):
            # It ended before anything was saved: config.yaml, the first lines for TensorBoard.
            self.check_same()
            shutil.rmtree(self.folder)
        return train(self.config, console=console)

    def check_same(self) -> None:
        """Raise InputError unless the folder is that of a run with the same options."""
        there = TrainConfig.load(self.folder / "config.yaml")
        for option in fields(TrainConfig):
            old, new = (getattr(config, option.name) for config in (there, self.config))
            if old != new and option.name not in _SAME_RUN:
                raise InputError(
                    f"{self.folder}: was trained with {option.name}={old}, the grid now says "
                    f"{new}; give another --output, or delete that folder to train it anew"
                )

    def metrics(self) -> dict[str, Any]:
        """What metrics.csv says, of the last epoch and the best."""
        with (self.folder / "metrics.csv").open(newline="") as file:
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

    def top1(self, order: str, validation: Annotations) -> float:
        """Of the last epoch's weights, as val_top1 is; the model file holds the best epoch's."""
        from gtdnet.train.callbacks import load_weights

        model_file = load_model(self.folder / "model.safetensors")
        model_file.model.load_state_dict(load_weights(self.folder / "last.ckpt"))
        evaluation = evaluate_model(
            model_file,
            validation,
            frames=order,
            batch_size=self.config.batch_size,
            num_workers=self.config.num_workers,
            device=self.config.device,
            precision=self.config.precision,
        )
        return round(evaluation.metrics["top1"] or 0.0, 6)


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
        output = str(self.output)
        # Seed by seed: what is stopped early has all variants, each with some of the seeds.
        self.runs = [
            _Run(v, replace(config, seed=seed, output=output, name=f"{slug(v)}-{seed}"))
            for seed in self.grid.seeds
            for v, config in self.configs.items()
        ]

    def take_up(self) -> None:
        """Read what an earlier call left in the output folder, if it was for these very runs."""
        path = self.output / RESULTS_FILE
        if not path.is_file():
            if not is_empty(self.output):
                raise InputError(
                    f"{self.output}: holds something else than an ablation; give another --output"
                )
            return
        try:
            earlier = read_yaml(path)
            data, records = earlier["data"], earlier["runs"]
            self.records = {
                (r["variant"], r["seed"]): r for r in records if r["status"] == "finished"
            }
        except (InputError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read; give another --output") from error
        for key, value in self.described["data"].items():
            if key != "path" and data.get(key) != value:
                raise InputError(
                    f"{path}: was made on data with {key}={data.get(key)}, there is now {value}; "
                    f"give another --output"
                )
        for run in self.runs:
            if (run.folder / "config.yaml").is_file():
                run.check_same()

    def measure_sizes(self, class_names: tuple[str, ...]) -> None:
        """Parameters and multiply-accumulates of each variant; its start is tried as well."""
        from gtdnet.train.ready import build_model

        for variant, config in self.configs.items():
            try:
                model, spec, _ = build_model(config, config.clip_spec(class_names))
            except (ValueError, TypeError) as error:
                raise InputError(f"variant {variant!r}: {error}") from error
            size = spec.crop_size
            clip = torch.empty(1, spec.frames_per_clip, 3, size, size, device="meta")
            cost = measure(model.to("meta"), clip)
            self.sizes[variant] = {"parameters": cost.parameters, "macs_per_view": cost.macs}

    def run_all(self) -> dict[str, Any]:
        """Train and measure every run that is not finished; what ablation.yaml holds then."""
        trained = 0
        began = time.monotonic()
        for number, run in enumerate(self.runs, start=1):
            title = f"run {number} of {len(self.runs)}: {run.variant}, seed {run.config.seed}"
            if self._is_done(run):
                top1 = 100 * self.records[run.key]["val_top1"]
                say(f"{title}: {top1:.1f} %, from before", self.console)
                continue
            say(title, self.console)
            self.records[run.key] = self._record(run, title)
            self._write()
            trained += 1
            if waiting := sum(not self._is_done(later) for later in self.runs[number:]):
                minutes = (time.monotonic() - began) / trained * waiting / 60
                say(f"to go: {waiting} (about {minutes:.1f} minutes)", self.console)
        return self._write()

    def _write(self) -> dict[str, Any]:
        """Write what there is so far, and return what ablation.yaml holds."""
        keys = [(variant, seed) for variant in self.configs for seed in self.grid.seeds]
        runs = [self.records[key] for key in keys if key in self.records]
        result = {
            "written": now(),
            **self.described,
            "variants": summarise(runs, list(self.configs), self.sizes),
            "runs": runs,
        }
        try:
            write_yaml(self.output / RESULTS_FILE, result)
            write_text(self.output / TABLE_FILE, report(result))
        except NotWritten as error:
            say(str(error), self.console)
            return {**result, "not_written": str(error)}
        return result

    def _is_done(self, run: _Run) -> bool:
        record = self.records.get(run.key, {})
        return (
            record.get("status") == "finished"
            and (run.folder / "last.ckpt").is_file()
            and set(self.grid.evaluate) <= set(record["frames"])
        )

    def _record(self, run: _Run, title: str) -> dict[str, Any]:
        record = {"variant": run.variant, "seed": run.config.seed, "folder": run.folder.name}
        self._write()  # so that the folder is known as an ablation's from its first run on
        try:
            result = run.train(self.console)
            if not result.finished:
                stopped = Terminated if result.terminated else InterruptedError
                raise stopped(f"stopped in {title}; the same command goes on from there")
            frames = {order: run.top1(order, self.validation) for order in self.grid.evaluate}
            record |= {"status": "finished", **run.metrics(), "frames": frames}
        except InterruptedError:
            raise
        except Exception as error:  # one run's failure must not cost the others
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            say(f"failed: {kind}{error}", self.console)
            return {**record, "status": "failed", "reason": f"{kind}{error}"}
        told = "".join(f", {order} {100 * top1:.1f} %" for order, top1 in frames.items())
        say(f"top-1 after the last epoch {100 * record['val_top1']:.1f} %{told}", self.console)
        return record


def _describe(
    options: AblateOptions,
    grid: Grid,
    config: TrainConfig,
    training: Annotations,
    validation: Annotations,
) -> dict[str, Any]:
    device = resolve_device(config.device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "command": command("gtdnet ablate", options, positional="grid"),
        "machine": {
            "system": platform.platform(),
            "cores": num_cores(),
            "threads": torch.get_num_threads(),
            "device": gpu or f"{device.type} ({torch.backends.cpu.get_cpu_capability()})",
            "precision": resolve_precision(config.precision, device),
        },
        "versions": versions(),
        "data": {
            "path": config.data,
            "training_clips": len(training.records),
            "validation_clips": len(validation.records),
            "classes": len(training.class_names),
            "fingerprint": config.clip_spec(training.class_names).fingerprint,
        },
        "epochs": config.epochs,
        "grid": grid.to_dict(),
    }
