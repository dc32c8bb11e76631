"""Methods on real video of people, or sources, that they have not seen.

    python benchmarks/real_video.py --clips lips/clips.csv --group speaker --hold_out 2 \
        --where kind=word --grid benchmarks/real_video/lips.yaml

Cross-validation: the clips' groups (speakers, subjects, sources, folds) are held out in turn, as
many at a time as --hold_out says; on the clips of all others each variant of the grid is trained
with the same settings, steps and seed, and the weights of the last step are measured on the
held-out clips with their frames in order, and shuffled. Nothing is chosen by the held-out clips.

The table has a line per clip: path (from its own folder), label, and columns to group and choose
by. The clips are not part of gtdnet.

Each finished run is a small file below benchmarks/results/real_video/, with the answer for every
clip; benchmarks/results/real_NAME.yaml is their summary. A call that was stopped, or one with more
seeds or variants, does what is not there yet. Files of runs that were made of other settings or
clips are named and left alone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from gtdnet.ablate.grid import Grid, slug
from gtdnet.errors import InputError
from gtdnet.evaluate.results import read_results
from gtdnet.evaluate.statistics import mcnemar, paired_difference_interval, wilson_interval
from gtdnet.files import write_text, write_yaml
from gtdnet.measure.machine import describe_machine
from gtdnet.measure.provenance import now, versions
from gtdnet.train.config import TrainConfig

RESULTS = Path(__file__).parent / "results"
ORDERS = ("in-order", "shuffled")
_ELSEWHERE = ("data", "name", "output", "seed", "num_workers", "save_minutes")  # not the variant's


@dataclass(frozen=True)
class Clip:
    """A line of the table."""

    path: str
    label: str
    group: str


@dataclass(frozen=True)
class Run:
    """One variant, trained without some groups, from one seed."""

    variant: str
    config: TrainConfig
    held_out: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return f"{slug(self.variant)}-{'+'.join(self.held_out)}-{self.seed}"

    def made_of(self, clips: Sequence[Clip]) -> str:
        """A digest of all that its answers follow from, but the content of the clips."""
        default = asdict(TrainConfig(data="clips.csv"))
        options = {
            name: value
            for name, value in asdict(self.config).items()
            if value != default[name] and name not in _ELSEWHERE
        }
        of = [options, self.held_out, self.seed, [asdict(clip) for clip in clips]]
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def read_table(args: argparse.Namespace) -> list[Clip]:
    """The clips that were asked for; InputError unless they are of several groups and classes."""
    wanted = dict(choice.split("=", 1) for choice in args.where)
    try:
        with args.clips.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            needed = {"path", "label", args.group, *wanted}
            if lacking := sorted(needed.difference(rows.fieldnames or ())):
                has = ", ".join(rows.fieldnames or ("nothing",))
                raise InputError(
                    f"{args.clips} has no column {lacking[0]}, but {has}; see --group and --where"
                )
            clips = [
                Clip(row["path"], row["label"], row[args.group])
                for row in rows
                if all(row[name] == value for name, value in wanted.items())
                and (not args.classes or row["label"] in args.classes)
            ]
    except OSError as error:
        raise InputError(f"{args.clips} can't be read ({error.strerror}); see --clips") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{args.clips} is no table of comma-separated values") from None
    for what, found in (("group", {c.group for c in clips}), ("class", {c.label for c in clips})):
        if len(found) < 2:
            raise InputError(
                f"{args.clips}: the chosen clips are of {len(found)} {what}; at least 2 are needed"
            )
    return clips


def folds(clips: Sequence[Clip], at_a_time: int) -> list[tuple[str, ...]]:
    """The groups in order of their names, cut into what is held out together."""
    groups = sorted({clip.group for clip in clips})
    return [tuple(groups[i : i + at_a_time]) for i in range(0, len(groups), at_a_time)]


def gtdnet(*words: str) -> dict[str, Any]:
    """One command; what it says in JSON. What it tells people is shown only if it fails."""
    command = [sys.executable, "-m", "gtdnet", *words, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"gtdnet {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def carry_out(run: Run, clips: Sequence[Clip], args: argparse.Namespace, record: Path) -> None:
    """Train, measure in both orders, and write the record."""
    folder = args.output / run.name
    if (folder / "last.ckpt").is_file():
        gtdnet("train", "--resume", str(folder))
    elif not (folder / "model.safetensors").is_file():
        listing = args.output / f"{run.name}.csv"
        base = args.clips.parent.resolve()
        lines = ["path,label,group"]
        lines += [f'"{base / clip.path}",{clip.label},{clip.group}' for clip in clips]
        write_text(listing, "\n".join(lines) + "\n")
        recipe = args.output / f"{run.name}.yaml"
        options = asdict(run.config) | {
            "data": str(listing),
            "group": "group",
            "val_groups": ",".join(run.held_out),
            "output": str(args.output),
            "name": run.name,
            "seed": run.seed,
        }
        write_yaml(recipe, options)
        gtdnet("train", "--config", str(recipe))
    answers: dict[str, dict[str, tuple[int, float]]] = {}  # by order and id
    names: tuple[str, ...] = ()
    for order in ORDERS:
        gtdnet(
            "evaluate", str(folder), "--frames", order,
            "--output", str(folder / order), "--overwrite", "true",
        )  # fmt: skip
        found = read_results(folder / order)
        names = found.class_names
        answers[order] = {
            clip: (int(row.argmax()), float(row[label]))
            for clip, row, label in zip(found.ids, found.scores, found.labels, strict=True)
        }
    with (folder / "metrics.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    held_out = [clip for clip in clips if clip.group in run.held_out]
    base = args.clips.parent.resolve()
    ids = {clip: (base / clip.path).with_suffix("").as_posix() for clip in held_out}
    lines = [
        [
            clip.path, names.index(clip.label),
            *(answers[order][ids[clip]][0] for order in ORDERS),
            round(answers["in-order"][ids[clip]][1], 4),
        ]
        for clip in held_out
    ]  # fmt: skip
    head = {
        "variant": run.variant,
        "held_out": run.held_out,
        "seed": run.seed,
        "made_of": run.made_of(clips),
        "date": now(),
        "machine": describe_machine(torch.device("cpu")),
        "minutes": round(sum(float(row["seconds"]) for row in epochs) / 60, 1),
        "training_top1": float(epochs[-1]["train_top1"]),
        "classes": names,
        "columns": ["clip", "label", *ORDERS, "probability of the label"],
    }
    body = ",\n".join(json.dumps(line) for line in lines)
    write_text(record, f'{json.dumps(head)[:-1]}, "clips": [\n{body}\n]}}\n')


def summary(records: Sequence[Mapping[str, Any]], variants: Sequence[str]) -> dict[str, Any]:
    """What the runs say together, with as many folds and seeds for each variant as all have."""
    by_run = {(r["variant"], tuple(r["held_out"]), r["seed"]): r for r in records}
    places = {(held, seed) for _, held, seed in by_run}
    whole = sorted(
        (seed, held) for held, seed in places if all((v, held, seed) in by_run for v in variants)
    )
    if not whole:
        return {"folds": [], "methods": {}}
    lines = {
        v: np.array(
            [row[1:] for seed, held in whole for row in by_run[v, held, seed]["clips"]],
            dtype=np.float64,
        )
        for v in variants
    }
    right = {v: rows[:, 0] == rows[:, 1] for v, rows in lines.items()}
    rows: dict[str, Any] = {}
    for v in variants:
        of_folds = [_share(by_run[v, held, seed], 1) for seed, held in whole]
        hits, total = int(right[v].sum()), len(right[v])
        rows[v] = {
            "top1": _percent(hits / total),
            "interval": [_percent(x) for x in wilson_interval(hits, total)],
            "sd_of_folds": _percent(stdev(of_folds)) if len(of_folds) > 1 else None,
            "shuffled": _percent(fmean(lines[v][:, 0] == lines[v][:, 2])),
            "training": _percent(fmean(by_run[v, h, s]["training_top1"] for s, h in whole)),
            "minutes_a_run": round(fmean(by_run[v, h, s]["minutes"] for s, h in whole), 1),
        }
    pairs = []
    for first, second in combinations(variants, 2):
        test = mcnemar(right[second], right[first])
        low, high = paired_difference_interval(test.first_only, test.second_only, len(right[first]))
        pairs.append({
            "first": second,
            "second": first,
            "difference": _percent(fmean(right[second]) - fmean(right[first])),
            "interval": [_percent(low), _percent(high)],
            "won": test.first_only,
            "lost": test.second_only,
            "p": float(f"{test.p_value:.2g}"),
        })  # fmt: skip
    return {
        "clips": len(lines[variants[0]]),
        "classes": len(by_run[(variants[0], whole[0][1], whole[0][0])]["classes"]),
        "hours": round(sum(r["minutes"] for r in by_run.values()) / 60, 1),
        "methods": rows,
        "pairs": pairs,
        "folds": [
            {
                "held_out": "+".join(held),
                "seed": seed,
                **{v: _percent(_share(by_run[v, held, seed], 1)) for v in variants},
            }
            for seed, held in whole
        ],
    }


def _share(record: Mapping[str, Any], order: int) -> float:
    """Of clips for which the answer in this order is the label."""
    return fmean(row[1] == row[1 + order] for row in record["clips"])


def _percent(share: float) -> float:
    return round(100 * share, 1)


def wanted_runs(
    grid: Grid, of: Sequence[tuple[str, ...]], args: argparse.Namespace
) -> Iterator[Run]:
    """Seed by seed and fold by fold, so that what is there compares all variants."""
    configs = grid.configs(data="clips.csv")
    for seed in args.seeds:
        for held_out in of if args.folds is None else [of[i] for i in args.folds]:
            for variant, config in configs.items():
                if not args.only or variant in args.only:
                    yield Run(variant, config, held_out, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="table of the clips")
    parser.add_argument("--group", required=True, help="its column of what is held out together")
    parser.add_argument("--hold_out", type=int, default=1, help="groups at a time (default: 1)")
    parser.add_argument(
        "--where", nargs="*", default=[], metavar="COLUMN=VALUE", help="clips that this holds for"
    )
    parser.add_argument("--classes", nargs="*", help="these labels alone")
    parser.add_argument(
        "--grid", type=Path, default=Path(__file__).parent / "real_video" / "lips.yaml",
        help="what is trained and how, as gtdnet ablate takes it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--name", help="of the results (default: the folder of the clips)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", help="these alone, from 0")
    parser.add_argument("--only", nargs="+", help="these variants alone")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/real_video"), help="of the runs' own folders"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    name = args.name or args.clips.resolve().parent.name
    args.output = args.output / name
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        clips, grid = read_table(args), Grid.load(args.grid)
        runs = list(wanted_runs(grid, folds(clips, args.hold_out), args))
        records = args.results / "real_video" / name
        records.mkdir(parents=True, exist_ok=True)
        todo = [run for run in runs if not is_done(run, clips, records)]
        print(f"{len(runs)} runs, {len(runs) - len(todo)} of them done", flush=True)
        words = sys.argv[1:] if arguments is None else arguments
        line = told(words, args)

        def work(run: Run) -> None:
            began = time.monotonic()
            carry_out(run, clips, args, records / f"{run.name}.json")
            took = (time.monotonic() - began) / 60
            right = _share(json.loads((records / f"{run.name}.json").read_text()), 1)
            print(f"{run.name}: {_percent(right)} %, {took:.1f} minutes", flush=True)
            summarise(args, name, records, grid, line)

        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(work, todo))
        summarise(args, name, records, grid, line)
    except InputError as error:
        print(f"benchmarks/real_video.py: {error}", file=sys.stderr)
        return 2
    print((args.results / f"real_{name}.yaml").read_text())
    return 0


def is_done(run: Run, clips: Sequence[Clip], records: Path) -> bool:
    """Whether its record is there; InputError if that was made of something else."""
    path = records / f"{run.name}.json"
    if not path.is_file():
        return False
    if json.loads(path.read_text())["made_of"] != run.made_of(clips):
        raise InputError(
            f"{path} was made with other settings or clips; delete it, or give another --name"
        )
    return True


def told(words: Sequence[str], args: argparse.Namespace) -> str:
    """The command without this machine's folders."""
    here = {str(args.clips): "/".join(args.clips.parts[-2:])}
    skipped = {"--output", "--results", "--jobs"}
    kept: list[str] = []
    for i, word in enumerate(words):
        if word not in skipped and (i == 0 or words[i - 1] not in skipped):
            kept.append(here.get(word, word))
    return shlex.join(["python", "benchmarks/real_video.py", *kept])


def summarise(args: argparse.Namespace, name: str, records: Path, grid: Grid, line: str) -> None:
    """Write what all runs together say, of the variants that are asked for."""
    found = [json.loads(path.read_text()) for path in sorted(records.glob("*.json"))]
    found = [r for r in found if not args.only or r["variant"] in args.only]
    variants = [v for v in grid.variants if any(r["variant"] == v for r in found)]
    result = {
        "title": f"Real video: {name}",
        "command": line,
        "date": now(),
        "versions": versions(["lightning"]),
        "machine": describe_machine(torch.device("cpu")),
        "grid": args.grid.name,
        "group": args.group,
        **summary(found, variants),
    }
    write_yaml(args.results / f"real_{name}.yaml", result)


if __name__ == "__main__":
    sys.exit(main())
