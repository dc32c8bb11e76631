#!/usr/bin/env python3
"""Kill train, pack, export, evaluate and ablate at random moments, and see what is left.

Each command runs once undisturbed. Then it is begun again and again: at a random moment of its time
a signal comes (SIGKILL or SIGTERM, to the process or to its group), and it is taken up as its
messages say, until it has been stopped so many times and is let finish. Then its files must be
those of the undisturbed run, to the bit where no time of day is in them, and nothing else may be
there: no temporary file, no process. Exit status 1 if anything is otherwise.

    make crash-test                                     3 kills of each command, some minutes
    python benchmarks/crash_test.py --kills 20 --output benchmarks/results/crash_test.yaml
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from gtdnet.data.synthetic import write_dataset
from gtdnet.measure.machine import describe_machine

SIGNALS = {  # name: number, whether the whole group gets it
    "SIGKILL to the process": (signal.SIGKILL, False),
    "SIGTERM to the process": (signal.SIGTERM, False),
    "SIGTERM to the group": (signal.SIGTERM, True),
    "SIGKILL to the group": (signal.SIGKILL, True),
}
SECONDS = 300.0  # the longest that a command, or its end, may take
TINY: dict[str, Any] = {
    "model": "gtdnet_resnet18", "model_options": {"width": 0.125}, "num_segments": 4,
    "short_side": 36, "crop_size": 32, "epochs": 4, "batch_size": 4, "num_workers": 2, "lr": 0.02,
    "lr_batch": 0, "device": "cpu", "precision": "fp32", "save_minutes": 0.0,
}  # fmt: skip


@dataclass
class Subject:
    """A command under test.

    Attributes:
        words: the command line for an output folder.
        files: what it wrote there, by name, in a form that can be compared.
        again: the command line that takes a stopped one up, none if it was done; default: the same.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    files: Callable[[Path], dict[str, Any]]
    again: Callable[[Path], Sequence[object]] | None = None
    moments: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def test(self, root: Path, kills: int, rng: random.Random) -> None:
        """Run it undisturbed, then kill it so many times."""
        whole = root / f"{self.name}-whole" / "out"
        began = time.monotonic()
        done = self._run(self.words(whole))
        duration = time.monotonic() - began
        if done != 0:
            self.faults.append(f"the undisturbed run ended with {done}")
            return
        expected = self.files(whole)
        killed, number = 0, 0
        while killed < kills:
            number += 1
            out = root / f"{self.name}-{number}" / "out"
            words = self.words(out)
            code = 0
            while killed < kills:
                name = list(SIGNALS)[killed % len(SIGNALS)]
                after = rng.uniform(0, duration)
                code = self._run(words, after, *SIGNALS[name])
                if code == 0:  # it was done before
                    break
                killed += 1
                self.moments.append(f"{name} after {after:.1f} of {duration:.1f} s: {code}")
                number_of, _ = SIGNALS[name]
                # SIGTERM is ours once Python has begun to run the command.
                if code not in ((-number_of, 143) if number_of == signal.SIGTERM else (-9,)):
                    self.faults.append(f"{self.moments[-1]}: another exit status was due")
                words = self.again(out) if self.again else self.words(out)
                if not words:
                    code = 0
                    break
            code = 0 if code == 0 else self._run(words)
            if code != 0:
                self.faults.append(f"after {self.moments[-1]}: taken up, it ended with {code}")
                continue
            self._compare(out, expected)
        for folder in root.glob(f"{self.name}-*"):
            shutil.rmtree(folder)

    def _compare(self, out: Path, expected: dict[str, Any]) -> None:
        found = self.files(out)
        last = self.moments[-1] if self.moments else "no kill"
        for name in sorted({*expected, *found}):
            if name not in expected or name not in found:
                self.faults.append(f"{last}: {name} is {'new' if name in found else 'missing'}")
            elif not same(expected[name], found[name]):
                self.faults.append(f"{last}: {name} differs")
        left = list(out.parent.rglob(".*"))
        if left:
            self.faults.append(f"{last}: left behind: {', '.join(map(str, left))}")

    def _run(
        self,
        words: Sequence[object],
        after: float | None = None,
        number: int = 0,
        group: bool = False,
    ) -> int:
        """Run a command, with a signal after some seconds; its exit status."""
        command = [sys.executable, "-m", "gtdnet", *map(str, words)]
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                process.wait(SECONDS if after is None else after)
            except subprocess.TimeoutExpired:
                (os.killpg if group else os.kill)(process.pid, number)
            until = time.monotonic() + SECONDS
            try:
                _, messages = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                self.faults.append(f"{' '.join(command)}: still runs after {SECONDS:.0f} s")
                os.killpg(process.pid, signal.SIGKILL)
                return -99
        if "Traceback" in messages or process.returncode in (1, 2):
            self.faults.append(f"{' '.join(command)}: {messages[-2000:]}")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return process.returncode
            time.sleep(0.05)
        self.faults.append(f"{' '.join(command)}: its processes live on")
        os.killpg(process.pid, signal.SIGKILL)
        return process.returncode


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, through all containers."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def run_files(folder: Path) -> dict[str, Any]:
    """Of a training run: weights and optimizer; the table without its seconds."""
    found: dict[str, Any] = {}
    for path in folder.iterdir():
        if path.suffix == ".ckpt":
            content = torch.load(path, weights_only=True)
            parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
            found[path.name] = [content[part] for part in parts]
        elif path.name == "metrics.csv":
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            found[path.name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        elif path.suffix == ".safetensors":
            found[path.name] = path.stat().st_size  # it tells when it was made; weights: best.ckpt
        elif not path.name.startswith("events."):
            found[path.name] = None
    return found


def ablation_files(folder: Path) -> dict[str, Any]:
    """Of an ablation: its runs' files, and their results without seconds."""
    found = {}
    for run in filter(Path.is_dir, folder.iterdir()):
        found |= {f"{run.name}/{name}": content for name, content in run_files(run).items()}
    runs = yaml.safe_load((folder / "ablation.yaml").read_text())["runs"]
    found["ablation.yaml"] = [{k: v for k, v in run.items() if k != "seconds"} for run in runs]
    return found


def bytes_of(folder: Path) -> dict[str, Any]:
    """All files, byte by byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sizes_of(folder: Path) -> dict[str, Any]:
    """All files' sizes: they hold the time of day."""
    return {name: len(content) for name, content in bytes_of(folder).items()}


def evaluation_files(folder: Path) -> dict[str, Any]:
    """All files, the metrics without their place."""
    found = bytes_of(folder)
    found["metrics.json"] = {**json.loads(found["metrics.json"]), "output": None}
    return found


def subjects(root: Path) -> list[Subject]:
    """The commands, with what they need."""
    data, recipe, model = root / "data", root / "tiny.yaml", root / "model" / "model.safetensors"
    write_dataset(
        data, format="folder", edition="easy", train=40, validation=12, size=48, workers=1
    )
    recipe.write_text(yaml.safe_dump({**TINY, "data": str(data)}))
    train = ["train", "--recipe", recipe, "--output"]
    subprocess.run(
        [sys.executable, "-m", "gtdnet", *map(str, [*train, root, "--name", "model"])],
        check=True, capture_output=True,
    )  # fmt: skip
    grid = root / "grid.yaml"
    base = {**TINY, "data": str(data), "epochs": 2}
    variants = {"avg": {"model_options": {"width": 0.125, "aggregation": "avg"}}, "mta": {}}
    grid.write_text(yaml.safe_dump({"base": base, "variants": variants, "seeds": [1]}))

    def new_run(out: Path) -> list[object]:
        return [*train, out.parent, "--name", out.name]

    def resume(out: Path) -> list[object]:
        if (out / "last.ckpt").is_file():
            return ["train", "--resume", out]
        shutil.rmtree(out, ignore_errors=True)  # as its message says
        return new_run(out)

    def unless(file: str, words: Callable[[Path], Sequence[object]]) -> Any:
        return lambda out: [] if (out / file).exists() else words(out)  # written last

    def export(out: Path) -> list[object]:
        return ["export", model, "--output", out]

    def evaluate(out: Path) -> list[object]:
        views = ["--clips", 4, "--crops", 3, "--device", "cpu"]
        return ["evaluate", model, "--data", data, *views, "--output", out]

    return [
        Subject("train", new_run, run_files, resume),
        Subject("pack", lambda out: ["pack", data, out, "--num_workers", 2], bytes_of),
        Subject("export", export, sizes_of, unless("", export)),
        Subject("evaluate", evaluate, evaluation_files, unless("metrics.json", evaluate)),
        Subject("ablate", lambda out: ["ablate", grid, "--output", out], ablation_files),
    ]


def main() -> int:
    """Test the commands and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3, help="of each command (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--only", nargs="*", help="these commands alone")
    parser.add_argument("--output", type=Path, help="a YAML file for what was found")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "machine": describe_machine(torch.device("cpu")),
        "seed": args.seed,
        "commands": {},
    }
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(Path(folder)):
            if args.only and subject.name not in args.only:
                continue
            subject.test(Path(folder), args.kills, random.Random(f"{args.seed} {subject.name}"))
            faults += len(subject.faults)
            print(f"{subject.name}: {len(subject.moments)} kills, {len(subject.faults)} faults")
            for fault in subject.faults:
                print(f"  {fault}")
            result["commands"][subject.name] = {
                "kills": subject.moments, "faults": subject.faults,
            }  # fmt: skip
    if args.output:
        args.output.write_text(yaml.safe_dump(result, sort_keys=False))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
