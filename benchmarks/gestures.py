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

Results go to benchmarks/results/gestures.yaml. A call that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
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
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def read_clips(table: Path) -> dict[str, list[tuple[Path, str]]]:
    """(file, gesture) of the dynamic gestures, by subject."""
    clips: dict[str, list[tuple[Path, str]]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "dynamic":
                path = (table.parent / row["path"]).resolve()
                clips.setdefault(row["subject"], []).append((path, row["label"]))
    return dict(sorted(clips.items()))


def write_fold(root: Path, held_out: str, clips: dict[str, list[tuple[Path, str]]]) -> Path:
    """Lists of one fold: the held-out subject's clips are its validation split."""
    root.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for subject, of_subject in clips.items():
        lines["val" if subject == held_out else "train"] += [f"{p} {g}\n" for p, g in of_subject]
    for split, text in lines.items():
        (root / f"{split}.txt").write_text("".join(text), encoding="utf-8")
    names = sorted({gesture for of_subject in clips.values() for _, gesture in of_subject})
    (root / "classes.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
    return root


def measure(output: Path, name: str, data: Path, model: str, start: Path, seed: int) -> list[float]:
    """Train if it is not there, and the top-1 in each of ORDERS."""
    folder, done = output / name, output / name / "orders.json"
    if not done.is_file():
        if (folder / "last.ckpt").is_file():
            run("train", "--resume", str(folder))
        else:
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
        done.write_text(json.dumps(top1), encoding="utf-8")
    return json.loads(done.read_text(encoding="utf-8"))


def mean_std(values: Sequence[float]) -> dict[str, float]:
    """In %."""
    return {
        "mean": round(100 * statistics.fmean(values), 1),
        "std": round(100 * statistics.stdev(values), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=Path, required=True, help="table of the clips, clips.csv")
    parser.add_argument("--start", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--lists", type=Path, default=Path("data/gestures_cv"))
    parser.add_argument("--output", type=Path, default=Path("runs/gestures"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    clips = read_clips(args.clips)
    folds = {subject: write_fold(args.lists / subject, subject, clips) for subject in clips}
    # top1[method][order] is [seeds, subjects]
    top1: dict[str, dict[str, list[list[float]]]] = {m: {o: [] for o in ORDERS} for m in METHODS}
    for seed in args.seeds:
        for method, slug in METHODS.items():
            start = args.start / f"{slug}-{seed}" / "model.safetensors"
            of_folds = [
                measure(args.output, f"{slug}-{subject}-{seed}", data, MODELS[method], start, seed)
                for subject, data in folds.items()
            ]
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
            "GTDNet_minus_this": less["mean"],
            "sd_of_its_people": less["std"],
        }
    result: dict[str, Any] = {
        "title": "Seven gestures of people the networks have not seen",
        "command": "python benchmarks/gestures.py --clips gestures/clips.csv --seeds "
        + " ".join(map(str, args.seeds)),
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
    RESULTS.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(result, sort_keys=False, width=100)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
