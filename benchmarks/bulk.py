#!/usr/bin/env python3
"""Kill gtdnet bulk at random: is every clip answered once? And what it costs, what it takes.

    python benchmarks/bulk.py --output benchmarks/results/bulk.yaml
    python benchmarks/bulk.py --runners ray --parts kills --output benchmarks/results/bulk.yaml

Parts: kills (the command, its processes, and of Ray an actor or the node, by turns, each after some
more blocks are done; the files must then be those of an undisturbed run, byte by byte), cost (CPU
seconds beside a plain loop, by turns), memory (of many clips), plan (a listing of a million rows).
Parts that are not asked for stay in the file as they are. Exit status 1 if a clip is missing,
double, or answered otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet  # pyright: ignore[reportMissingImports]
from torch import nn

from gtdnet.bench.result import envelope, save
from gtdnet.bulk.listing import open_listing
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.files import read_yaml
from gtdnet.models import create_model, save_model

BLOCK = 8  # clips
LONGEST = 600.0  # seconds that anything may take
VICTIMS = {  # of each runner: whom the signal goes to, by turns
    "processes": ("the command", "a process of it"),
    "ray": ("the command", "a process of an actor", "an actor", "the node"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["kills", "cost", "memory", "plan"])
    parser.add_argument("--runners", nargs="+", default=["processes", "ray"], help="to be killed")
    parser.add_argument("--kills", type=int, default=20, help="of each runner (default: 20)")
    parser.add_argument("--clips", type=int, default=400, help="that are made (default: 400)")
    parser.add_argument("--many", type=int, default=20_000, help="for memory (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--output", help="a YAML file for what was found")
    args = parser.parse_args()
    line = "python benchmarks/bulk.py --output benchmarks/results/bulk.yaml"
    title = "Many clips at a time, and processes that are killed"
    packages = ["pyarrow", "ray"]
    result = {**envelope("bulk", title, line, torch.device("cpu"), packages)}
    result.pop("bench")  # no bench of gtdnet's own
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, args.clips)
        parts: dict[str, Callable[[], Any]] = {
            "cost": lambda: cost(root),
            "plan": lambda: plan(root),
            "memory": lambda: memory(root, args.many),
        }
        if "kills" in args.parts:
            for runner in args.runners:
                rng = random.Random(f"{args.seed} {runner}")
                found = kills(root, runner, args.kills, rng)
                keep(result, args.output, {"kills": {runner: found}})
        for part in parts:
            if part in args.parts:
                keep(result, args.output, {part: parts[part]()})
    bad = [found["faults"] for found in result.get("kills", {}).values() if found["faults"]]
    return 1 if bad else 0


def keep(result: dict[str, Any], output: str | None, found: dict[str, Any]) -> None:
    """Add what was found to the file; parts that this run does not have stay as they are there."""
    print(found, flush=True)
    before = read_yaml(output) if output and Path(output).exists() else {}
    for part in ("kills", "cost", "plan", "memory"):
        parts = {**result.get(part, {}), **before.get(part, {}), **found.get(part, {})}
        if parts:
            result[part] = parts
    save(result, output)


def make(root: Path, number: int) -> None:
    """A tiny model, so many small clips with one in a hundred broken, and a table of them."""
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 6, 4, width=0.125)
    nn.init.normal_(model.classifier.weight, std=0.5)
    spec = ClipSpec(tuple("abcdef"), num_segments=4, short_side=36, crop_size=32)
    save_model(root / "model.safetensors", model, spec)
    write_dataset(
        root / "clips",
        format="folder",
        edition="easy",
        train=number,
        validation=12,
        size=36,
        workers=1,
    )
    paths = sorted((root / "clips").rglob("*.mp4"))[:number]
    for path in paths[::100]:
        path.write_bytes(b"no video")
    table(root / "clips.csv", paths, number)


def table(file: Path, paths: list[Path], number: int) -> None:
    """A listing of so many rows, which has the paths over and over."""
    rows = (f"{i},{paths[i % len(paths)]}" for i in range(number))
    file.write_text("\n".join(["id,path", *rows]) + "\n")


# ----------------------------------------------------------------------------------------- kills


def kills(root: Path, runner: str, number: int, rng: random.Random) -> dict[str, Any]:
    """Runs of the command with so many kills among them, and what was found to be wrong."""
    whole, out = root / f"{runner}-whole", root / f"{runner}-out"
    start(root, runner, whole).communicate(timeout=LONGEST)
    expected = contents(whole)
    killed, faults, runs = [], [], 0
    process: subprocess.Popen[str] | None = None
    by_victim = dict.fromkeys(VICTIMS[runner], 0)
    while len(killed) < number:
        victim = VICTIMS[runner][len(killed) % len(VICTIMS[runner])]
        process = process or start(root, runner, out)
        there = len(list(out.glob("part-*")))
        wait_for(process, out, there + rng.randint(1, 2))
        time.sleep(rng.uniform(0, 0.2))
        pids = find(runner, victim, process.pid) if process.poll() is None else []
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
            killed.append(victim)
            by_victim[victim] += 1
        if victim in ("the command", "the node") and pids:
            finish(process)
            sweep()
            process = None
        elif process.poll() is not None:  # it was done before
            faults += compare(out, expected, process.returncode)
            runs += 1
            shutil.rmtree(out, ignore_errors=True)
            process = None
    process = process or start(root, runner, out)
    _, messages = process.communicate(timeout=LONGEST)
    faults += compare(out, expected, process.returncode)
    if process.returncode:
        faults.append(messages[-500:])
    rows = parquet.read_table(whole).num_rows
    shutil.rmtree(whole)
    shutil.rmtree(out, ignore_errors=True)
    return {
        "clips": rows,
        "clips_in_a_block": BLOCK,
        "kills": by_victim,
        "runs": runs + 1,
        "faults": faults,
    }


def start(root: Path, runner: str, out: Path, listing: str = "clips.csv") -> subprocess.Popen[str]:
    words = ["bulk", root / "model.safetensors", root / listing, "--to", out, "--runner", runner]
    words += ["--block_size", BLOCK, "--num_workers", 2, "--device", "cpu", "--attempts", 9]
    command = [sys.executable, "-m", "gtdnet", *map(str, words), "--json"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], out: Path, blocks: int) -> None:
    """Until so many blocks are done, or the process has ended."""
    until = time.monotonic() + LONGEST
    while process.poll() is None and len(list(out.glob("part-*"))) < blocks:
        time.sleep(0.02)
        if time.monotonic() > until:
            raise TimeoutError(f"{blocks} blocks in {out} are not done after {LONGEST:.0f} s")


def finish(process: subprocess.Popen[str]) -> None:
    """The end of a command, which must come by itself within minutes."""
    process.communicate(timeout=LONGEST)


def family(pid: int) -> Iterator[tuple[int, str]]:
    """All processes below one, with their command lines."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    waiting = list(parents.get(pid, ()))
    while waiting:
        child = waiting.pop()
        waiting += parents.get(child, ())
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        yield child, words


def find(runner: str, victim: str, pid: int) -> list[int]:
    """The processes that a kill may take."""
    if victim == "the command":
        return [pid]
    sign = {
        "a process of it": "spawn_main",
        "a process of an actor": "spawn_main",
        "an actor": "ray::MapWorker(MapBatches(_Actor))",
        "the node": "/raylet/raylet",
    }[victim]
    return [child for child, words in family(pid) if sign in words]


def sweep() -> None:
    """Wait until what a killed cluster left has ended by itself."""
    time.sleep(1.0)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def compare(out: Path, expected: dict[str, bytes], code: int) -> list[str]:
    """What differs from the undisturbed run, first of all clips that are missing or double."""
    faults = [] if code == 0 else [f"exit status {code}"]
    ids = parquet.read_table(out, columns=["id"]).column("id").to_pylist()
    if sorted(map(int, ids)) != list(range(len(ids))) or len(ids) != len(set(ids)):
        faults.append(f"{len(ids)} rows, {len(set(ids))} ids")
    found = contents(out)
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    return faults + [f"{name} differs" for name in names]


# ------------------------------------------------------------------------- cost, memory, planning


def cost(root: Path, rounds: int = 12) -> dict[str, Any]:
    """CPU seconds of blocks, beside a loop over Recognizer.predict, by turns in this process."""
    from gtdnet.bulk.options import BulkOptions
    from gtdnet.bulk.run import _setup
    from gtdnet.bulk.scorer import Scorer
    from gtdnet.bulk.shards import open_shards
    from gtdnet.infer import load

    torch.set_num_threads(1)
    model, listing = root / "model.safetensors", open_listing(str(root / "clips.csv"))
    blocks = list(listing.blocks(64))[:2]
    blocks = [b._replace(rows=tuple(r for r in b.rows if int(r.id) % 100)) for b in blocks]
    options = BulkOptions(str(model), listing.place, str(root / "cost"), device="cpu")
    setup, _ = _setup(options, open_shards(options.to))
    scorer, recognizer = Scorer(setup), load(model, "cpu")

    def plain() -> None:
        for block in blocks:
            for row in block.rows:
                recognizer.predict(row.path)

    def ours() -> None:
        for block in blocks:
            scorer.write(block, lambda: None)

    def seconds(run: Callable[[], None]) -> float:
        began = time.process_time()
        run()
        return time.process_time() - began

    turns = [(seconds(plain), seconds(ours)) for _ in range(rounds + 1)][1:]
    ratios = sorted(loop / block for loop, block in turns)
    clips = sum(len(block.rows) for block in blocks)
    return {
        "rounds": rounds,
        "times_as_fast_as_a_plain_loop": {
            "median": round(statistics.median(ratios), 3),
            "lowest": round(ratios[0], 3),
            "highest": round(ratios[-1], 3),
        },
        "cpu_ms_a_clip": round(1000 * statistics.median(b for _, b in turns) / clips, 3),
    }


def memory(root: Path, number: int) -> dict[str, Any]:
    """Resident memory of the command and its process while many clips go through them."""
    paths = [Path(row.path) for row in open_listing(str(root / "clips.csv")).rows()]
    table(root / "many.csv", paths, number)
    out = root / "many"
    words = ["bulk", root / "model.safetensors", root / "many.csv", "--to", out]
    words += ["--num_workers", 1, "--device", "cpu", "--block_size", 100]
    command = [sys.executable, "-m", "gtdnet", *map(str, words)]
    seen: list[tuple[int, float, float]] = []  # blocks, MiB of the command, of its process
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None:
            time.sleep(0.5)
            workers = find("processes", "a process of it", process.pid)
            blocks = len(list(out.glob("part-*")))
            if workers and blocks:
                seen.append((blocks, resident(process.pid), resident(workers[0])))
    rows = parquet.read_table(out).num_rows
    quarters = np.array_split(np.array(seen), 4)
    return {
        "clips": rows,
        "ended_with": process.returncode,
        "mib_by_quarter": {
            "the command": [round(float(quarter[:, 1].max())) for quarter in quarters],
            "its process": [round(float(quarter[:, 2].max())) for quarter in quarters],
        },
    }


def resident(pid: int) -> float:
    try:
        return (
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 2**20
        )
    except OSError:
        return 0.0


PLAN = """
import sys, time
from gtdnet.bulk.listing import open_listing
from gtdnet.measure.memory import process_mib, reset_peak

open_listing(sys.argv[1]).survey()
reset_peak()  # from now on
before, began = process_mib("VmHWM"), time.process_time()
listing = open_listing(sys.argv[2])
listing.survey()
checked = time.process_time()
rows = sum(len(block.rows) for block in listing.blocks(256))
print(rows, checked - began, time.process_time() - checked, process_mib("VmHWM") - before)
"""


def plan(root: Path) -> dict[str, Any]:
    """A listing of a million rows: CPU seconds to check its ids and to plan it, memory for that."""
    few, many = root / "few.csv", root / "million.csv"
    table(few, [Path("/data/clips/of/some/length.mp4")], 20_000)
    table(many, [Path("/data/clips/of/some/length.mp4")], 1_000_000)
    told = subprocess.run(
        [sys.executable, "-c", PLAN, few, many], capture_output=True, text=True, check=True
    )
    rows, checked, planned, growth = map(float, told.stdout.split())
    return {
        "rows": int(rows),
        "table_mib": round(many.stat().st_size / 2**20),
        "cpu_s_ids": round(checked, 1),
        "cpu_s_blocks": round(planned, 1),
        "memory_mib": round(growth),
    }


if __name__ == "__main__":
    sys.exit(main())
