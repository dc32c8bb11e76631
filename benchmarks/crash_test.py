#!/usr/bin/env python3
"""Kill train, pack, export, evaluate and ablate at random moments, and see what is left.

Each command runs once undisturbed. Then it is begun again and again: at a random moment of its time
a signal comes (SIGKILL, SIGTERM or SIGINT, to the process or to its group), and it is taken up as
its messages say, until it has been stopped so many times and is let finish. Then its files must be
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
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from gtdnet.bench.result import envelope, save
from gtdnet.data.synthetic import write_dataset

SIGNALS = {  # name: number, whether the whole group gets it
    "SIGKILL to the process": (signal.SIGKILL, False),
    "SIGTERM to the process": (signal.SIGTERM, False),
    "SIGTERM to the group": (signal.SIGTERM, True),
    "SIGKILL to the group": (signal.SIGKILL, True),
    "SIGINT to the group": (signal.SIGINT, True),  # Ctrl-C in a terminal
}
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
TIME = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")  # gtdnet.measure.provenance.now
WHEN = {"seconds", "written", "output", "command"}  # keys of what tells when, and in which folder
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
        again: the command line that takes a stopped one up, none if it was done; default: the same.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    again: Callable[[Path], Sequence[object]] | None = None
    moments: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    answered: float = 0.0  # seconds from the latest signal to the end

    def test(self, root: Path, kills: int, rng: random.Random) -> None:
        """Run it undisturbed, then kill it so many times."""
        whole = root / f"{self.name}-whole" / "out"
        began = time.monotonic()
        done = self._run(self.words(whole))
        duration = time.monotonic() - began
        if done != 0:
            self.faults.append(f"the undisturbed run ended with {done}")
            return
        expected = contents(whole)
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
                self.moments.append(
                    f"{name} after {after:.1f} of {duration:.1f} s: {code} in {self.answered:.1f} s"
                )
                number_of, _ = SIGNALS[name]
                # SIGTERM and SIGINT are ours once Python has begun to run the command.
                if code not in (-number_of, STATUS.get(number_of)):
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
        found = contents(out)
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
            sent = time.monotonic()
            try:
                _, messages = process.communicate(timeout=SECONDS)
                self.answered = time.monotonic() - sent
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
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def content(path: Path) -> Any:
    """What a file holds, to be compared: all of it but the time of day and the output folder."""
    if path.suffix == ".ckpt":
        return timeless(torch.load(path, weights_only=True))
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return timeless(list(csv.DictReader(file)))
    if path.suffix == ".yaml":
        return timeless(yaml.safe_load(path.read_text()))
    if path.suffix == ".json":
        return timeless(json.loads(path.read_bytes()))
    if path.suffix == ".md":  # a table with a column of minutes, and the command
        text = path.read_text().splitlines()
        lines = [line.split("|") for line in text if not line.startswith("    gtdnet ")]
        heads = [[cell.strip() for cell in line] for line in lines]
        places = [head.index("minutes") for head in heads if "minutes" in head]
        rows = [[c for i, c in enumerate(line) if i not in places] for line in lines]
        return [TIME.sub(b"", "|".join(row).encode()) for row in rows]
    if path.suffix == ".pt2":  # a zip file
        with zipfile.ZipFile(path) as file:
            names = [name for name in file.namelist() if not name.endswith("serialization_id")]
            return {name: TIME.sub(b"", file.read(name)) for name in names}
    return TIME.sub(b"", path.read_bytes())


def timeless(value: Any) -> Any:
    """Without what :data:`WHEN` lists, through all containers."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in WHEN}
    if isinstance(value, list):
        return [timeless(entry) for entry in value]
    return value


def contents(folder: Path) -> dict[str, Any]:
    """Of all files, by name, but for TensorBoard's: each start adds one."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): content(path)
        for path in paths
        if not path.name.startswith("events.out.")
    }


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
        Subject("train", new_run, resume),
        Subject("pack", lambda out: ["pack", data, out, "--num_workers", 2]),
        Subject("export", export, unless("", export)),
        Subject("evaluate", evaluate, unless("metrics.json", evaluate)),
        Subject(
            "ablate",
            lambda out: ["ablate", grid, "--output", out],
        ),
    ]


def main() -> int:
    """Test the commands and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3, help="of each command (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--only", nargs="*", help="these commands alone")
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time (default: 1)")
    parser.add_argument("--output", help="a YAML file for what was found")
    args = parser.parse_args()
    line = f"python benchmarks/crash_test.py --kills {args.kills} --seed {args.seed}"
    title = "Commands killed at random moments, and what was left"
    result = {**envelope("crash", title, line, torch.device("cpu"), ["lightning"]), "commands": {}}
    result.pop("bench")  # no bench of gtdnet's own
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:

        def test(subject: Subject) -> Subject:
            subject.test(Path(folder), args.kills, random.Random(f"{args.seed} {subject.name}"))
            return subject

        chosen = [s for s in subjects(Path(folder)) if not args.only or s.name in args.only]
        for subject in pool.map(test, chosen):
            print(f"{subject.name}: {len(subject.moments)} kills, {len(subject.faults)} faults")
            for fault in subject.faults:
                print(f"  {fault}")
            sys.stdout.flush()
            found = {"kills": subject.moments, "faults": subject.faults}
            result["commands"][subject.name] = found
            save(result, args.output)
    return 1 if any(found["faults"] for found in result["commands"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
