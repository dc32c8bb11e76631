"""What a GTDNet gains from starting at a trained TSM: learning curves from three starts.

    gtdnet demo
    python benchmarks/start_points.py --output runs/start_points

Everything is made from the built-in clips, by the commands a user would type:

1. a TSM learns the 12 motions of the easy edition, in one pass from the 2D weights of the demo's
   model: from random weights it was still at chance after 2 passes (the rows "tsm_from_random");
2. a plain 2D network (TSN, one frame) learns to name the shape of the moving thing in the same
   clips: weights that know pictures but no motion, as ImageNet's do;
3. a GTDNet learns the 22 actions of the full edition, with the same clips, steps and settings,
   from (a) the TSM by --init-from, (b) the 2D network by --pretrained, (c) random weights, for
   each of several seeds.

Validation top-1 after every epoch goes to benchmarks/results/start_points.yaml. A run that was
stopped goes on where it was.
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
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

import gtdnet

RESULTS = Path(__file__).parent / "results" / "start_points.yaml"
EASY_CLIPS, FULL_CLIPS, EPOCHS, STILL_EPOCHS = 4000, 1500, 3, 6
STARTS = ("tsm", "stills", "random")


def run(*words: str) -> None:
    """One gtdnet command; its messages are shown, its failure ends everything."""
    print("gtdnet", *words, flush=True)
    subprocess.run([sys.executable, "-m", "gtdnet", *words], check=True)


def train(output: Path, name: str, *words: str) -> list[dict[str, str]]:
    """A training run, resumed or skipped if it is there already; its metrics.csv."""
    folder = output / name
    if not (folder / "model.safetensors").is_file():
        if (folder / "last.ckpt").is_file():
            run("train", "--resume", str(folder))
        else:
            run("train", "--output", str(output), "--name", name, *words)
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curve(rows: list[dict[str, str]]) -> list[float]:
    """Validation top-1 in % after each epoch."""
    return [round(100 * float(row["val_top1"]), 1) for row in rows]


def synth(root: Path, edition: str, train: int, validation: int) -> Path:
    counts = ("--train", str(train), "--validation", str(validation))
    run("synth", str(root), "--edition", edition, "--size", "104", *counts)
    return root


def still_lists(easy: Path, root: Path) -> Path:
    """Lists of the easy edition's clips, labelled by the shape of the thing that moves."""
    root.mkdir(parents=True, exist_ok=True)
    videos = (easy / "20bn-something-something-v2").resolve()
    shapes: set[str] = set()
    for split in ("train", "validation"):
        lines = []
        for item in json.loads((easy / "labels" / f"{split}.json").read_text(encoding="utf-8")):
            shape = item["placeholders"][0].split()[-1]  # of "a red ball"
            shapes.add(shape)
            lines.append(f"{videos / item['id']}.webm {shape}\n")
        (root / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    (root / "classes.txt").write_text("".join(f"{s}\n" for s in sorted(shapes)), encoding="utf-8")
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("runs/start_points"))
    parser.add_argument("--demo", type=Path, default=Path("demo/run/model.safetensors"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    output: Path = args.output
    easy = synth(output / "easy", "easy", EASY_CLIPS, 600)
    full = synth(output / "full", "full", FULL_CLIPS, 440)
    stills = still_lists(easy, output / "stills")

    learn_motions = (
        "--data", str(easy), "--recipe", "synth_easy", "--model", "tsm_resnet18",
        "--short_side", "104",
    )  # fmt: skip
    tsm = train(output, "tsm", *learn_motions, "--pretrained", str(args.demo), "--epochs", "1")
    shapes = train(
        output, "shapes", "--data", str(stills), "--recipe", "synth_easy",
        "--model", "tsn_resnet18", "--short_side", "104", "--num_segments", "1",
        "--epochs", str(STILL_EPOCHS),
    )  # fmt: skip
    options: dict[str, tuple[str, ...]] = {
        "tsm": ("--init_from", str(output / "tsm" / "model.safetensors")),
        "stills": ("--pretrained", str(output / "shapes" / "model.safetensors")),
        "random": (),
    }
    curves: dict[str, list[list[float]]] = {start: [] for start in STARTS}
    steps: list[int] = []
    for seed in args.seeds:
        for start in STARTS:
            rows = train(
                output, f"{start}_{seed}", "--data", str(full), "--recipe", "synth_full",
                "--short_side", "104", "--crop_size", "96", "--epochs", str(EPOCHS),
                "--seed", str(seed), *options[start],
            )  # fmt: skip
            steps = [int(row["step"]) for row in rows]
            curves[start].append(curve(rows))
    tsm_from_random = train(output, "tsm_from_random", *learn_motions)
    result: dict[str, Any] = {
        "command": "python benchmarks/start_points.py --seeds " + " ".join(map(str, args.seeds)),
        "date": date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": {"gtdnet": gtdnet.__version__, "torch": str(torch.__version__)},
        "tsm_from_random_on_easy_top1": curve(tsm_from_random),
        "tsm_on_easy_top1": curve(tsm),
        "shapes_of_stills_top1": curve(shapes),
        "training_clips": FULL_CLIPS,
        "validation_clips": 440,
        "classes": 22,
        "steps": steps,
        "val_top1_by_seed": curves,
        "val_top1_mean": {
            k: [round(statistics.mean(v), 1) for v in zip(*c, strict=True)]
            for k, c in curves.items()
        },
        "val_top1_stdev": {
            k: [round(statistics.stdev(v), 1) for v in zip(*c, strict=True)]
            for k, c in curves.items()
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(yaml.safe_dump(result, sort_keys=False, default_flow_style=None))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
