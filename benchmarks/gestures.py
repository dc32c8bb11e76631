"""TSN, TSM and GTDNet on seven real gestures of people they have not seen.

    python benchmarks/ablation_data.py
    gtdnet ablate benchmarks/ablation.yaml
    python benchmarks/gestures.py --clips gestures/clips.csv

Leave-subjects-out cross-validation: for each of the seven people, a network is fine-tuned on the
clips of the six others and measured on that person's. Each method starts from the weights that it
itself, with the same seed, learned on the built-in clips in the ablation; settings are the same
for all and were fixed before the first run. The clips are the dynamic gestures of GESTURE-PROJECT
(github.com/joanjaumeoliver/GESTURE-PROJECT), described by a table with the columns path, label,
kind and subject; they are not part of gtdnet.

Results go to benchmarks/results/gestures.yaml. A call that was stopped goes on where it was: beside
each run NAME there is NAME.json with a digest of what it is made of, and its scores.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

import gtdnet
from gtdnet.errors import InputError
from gtdnet.files import sha256, write_json, write_text

Clips = dict[str, list[tuple[str, str]]]
"""By subject (file as the table names it, gesture) of each clip."""

RESULTS = Path(__file__).parent / "results" / "gestures.yaml"
# Names as the ablation's run directories have them.
METHODS = {"TSN": "tsn", "TSM": "tsm", "GTDNet": "gtdnet-mta"}
MODELS = {"TSN": "tsn_resnet18", "TSM": "tsm_resnet18", "GTDNet": "gtdnet_resnet18"}
ORDERS = ("in-order", "shuffled")
SETTINGS = {
    "recipe": "synth_full",
    "short_side": 72,
    "crop_size": 64,
    "brightness": 0.1,
    "epochs": 30,
    "validate_every": 30,
    "batch_size": 8,
    "lr": 0.0007,
    "lr_batch": 8,
    "classifier_lr": 2,
    "schedule": "cosine",
    "warmup_epochs": 2,
    "label_smoothing": 0.1,
}


def run(*words: str) -> str:
    """One gtdnet command, its messages shown; its failure ends everything. Returns its stdout."""
    print("gtdnet", *words, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "gtdnet", *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def read_clips(table: Path) -> Clips:
    """The dynamic gestures; InputError unless they are of several people."""
    clips: Clips = {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if lacking := {"path", "label", "kind", "subject"}.difference(rows.fieldnames or ()):
                columns = ", ".join(sorted(lacking))
                raise InputError(f"{table} lacks the columns {columns}; add them to its first line")
            for row in rows:
                if row["kind"] == "dynamic":
                    clips.setdefault(row["subject"], []).append((row["path"], row["label"]))
    except OSError as error:
        raise InputError(f"{table} can't be read ({error.strerror}); check --clips") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{table} is no table of comma-separated values; check --clips") from None
    if len(clips) < 2:
        raise InputError(
            f"the dynamic gestures in {table} are of {', '.join(clips) or 'nobody'} alone; give a "
            f"table of two or more subjects, for one is held out at a time"
        )
    return dict(sorted(clips.items()))


def write_fold(root: Path, base: Path, held_out: str, clips: Clips) -> Path:
    """Lists of one fold: the held-out subject's clips, below ``base``, are its validation split."""
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for subject, of_subject in clips.items():
        lines["val" if subject == held_out else "train"] += [
            f"{(base / path).resolve()} {gesture}\n" for path, gesture in of_subject
        ]
    for split, text in lines.items():
        write_text(root / f"{split}.txt", "".join(text))
    names = sorted({gesture for of_subject in clips.values() for _, gesture in of_subject})
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in names))
    return root


def digest(method: str, held_out: str, clips: Clips, start: Path, seed: int) -> str:
    """Of all that a run's scores follow from, but the content of the clips."""
    if not start.is_file():
        raise InputError(
            f"the start weights {start} are not there; make them by gtdnet ablate "
            f"benchmarks/ablation.yaml, or give the folder of that by --start"
        )
    made_of = [SETTINGS, ORDERS, MODELS[method], seed, held_out, clips, sha256(start)]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def measure(
    output: Path, name: str, data: Path, model: str, start: Path, seed: int, made_of: str
) -> list[float]:
    """Train if it is not there, and the top-1 in each of ORDERS."""
    folder, record = output / name, output / f"{name}.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if known.get("made_of") != made_of and (known or folder.exists()):
        raise InputError(
            f"{folder} was made with other settings, clips or start weights; give another "
            f"--output, or delete it and {record.name}"
        )
    if "top1" not in known:
        write_json(record, {"made_of": made_of})
        if (folder / "last.ckpt").is_file():
            run("train", "--resume", str(folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)  # it was stopped before it saved anything
            settings = [word for k, v in SETTINGS.items() for word in (f"--{k}", str(v))]
            run(
                "train", *settings, "--data", str(data), "--output", str(output), "--name", name,
                "--model", model, "--pretrained", str(start), "--seed", str(seed),
            )  # fmt: skip
        top1 = []
        for order in ORDERS:
            told = run(
                "evaluate", str(folder / "model.safetensors"), "--data", str(data),
                "--frames", order, "--output", str(folder / order), "--overwrite", "true", "--json",
            )  # fmt: skip
            top1.append(json.loads(told.splitlines()[-1])["top1"])
        known = {"made_of": made_of, "top1": top1}
        write_json(record, known)
    return known["top1"]


def training_top1(folder: Path) -> float:
    """Of the last epoch, on its augmented clips, while the weights still changed."""
    with (folder / "metrics.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    return float(last["train_top1"])


def told(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """The command with all options that are not the default, and without this machine's folders."""
    words = ["python benchmarks/gestures.py"]
    for name, value in vars(args).items():
        if value != parser.get_default(name):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(shown(v) if isinstance(v, Path) else str(v) for v in values)]
    return " ".join(words)


def shown(path: Path) -> str:
    """A path as it is below the working folder, or else its last two parts."""
    path, here = path.resolve(), Path.cwd()
    inside = path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[-2:])
    return inside.as_posix()


def mean_std(values: Sequence[float]) -> dict[str, float]:
    """In %."""
    return {
        "mean": round(100 * statistics.fmean(values), 1),
        "std": round(100 * statistics.stdev(values), 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True, help="table of the clips, clips.csv")
    parser.add_argument("--start", type=Path, default=Path("runs/ablation"), help="the ablation")
    parser.add_argument("--lists", type=Path, default=Path("data/gestures_cv"), help="of the folds")
    parser.add_argument("--output", type=Path, default=Path("runs/gestures"), help="of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="YAML file; written anew")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(arguments)
    try:
        result = cross_validate(args, told(args, parser))
        text = yaml.safe_dump(result, sort_keys=False, width=100)
        write_text(args.results, text)
    except InputError as error:
        print(f"benchmarks/gestures.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def cross_validate(args: argparse.Namespace, command: str) -> dict[str, Any]:
    """All runs, and what they say."""
    clips = read_clips(args.clips)
    folds = {s: write_fold(args.lists / s, args.clips.parent, s, clips) for s in clips}
    # top1[method][order] is [seeds, subjects]
    top1: dict[str, dict[str, list[list[float]]]] = {m: {o: [] for o in ORDERS} for m in METHODS}
    for seed in args.seeds:
        for method, slug in METHODS.items():
            start = args.start / f"{slug}-{seed}" / "model.safetensors"
            of_folds = [
                measure(
                    args.output, f"{slug}-{subject}-{seed}", data, MODELS[method], start, seed,
                    digest(method, subject, clips, start, seed),
                )
                for subject, data in folds.items()
            ]  # fmt: skip
            for order, of_order in zip(ORDERS, zip(*of_folds, strict=True), strict=True):
                top1[method][order].append(list(of_order))

    def by_subject(method: str, order: str = "in-order") -> list[float]:
        return [statistics.fmean(column) for column in zip(*top1[method][order], strict=True)]

    num_clips = {subject: len(of_subject) for subject, of_subject in clips.items()}
    rows: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        in_order, shuffled = (mean_std(by_subject(method, order)) for order in ORDERS)
        pairs = zip(by_subject("GTDNet"), by_subject(method), strict=True)
        less = mean_std([a - b for a, b in pairs])
        rows[method] = {
            "top1": in_order["mean"],
            "sd_of_people": in_order["std"],
            "top1_by_seed": [round(100 * statistics.fmean(s), 1) for s in top1[method]["in-order"]],
            "shuffled": shuffled["mean"],
            "training": mean_std(
                [
                    training_top1(args.output / f"{METHODS[method]}-{subject}-{seed}")
                    for subject in clips
                    for seed in args.seeds
                ]
            )["mean"],
            "GTDNet_minus_this": less["mean"],
            "sd_of_its_people": less["std"],
        }
    return {
        "title": "Seven gestures of people the networks have not seen",
        "command": command,
        "date": date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "versions": {"gtdnet": gtdnet.__version__, "torch": str(torch.__version__)},
        "clips": sum(num_clips.values()),
        "classes": len({gesture for of_subject in clips.values() for _, gesture in of_subject}),
        "seeds": args.seeds,
        "epochs": SETTINGS["epochs"],
        "methods": rows,
        "top1_of_people": {
            subject: {
                "clips": num_clips[subject],
                **{m: round(100 * by_subject(m)[i], 1) for m in METHODS},
            }
            for i, subject in enumerate(clips)
        },
    }


if __name__ == "__main__":
    sys.exit(main())
