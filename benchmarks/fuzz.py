#!/usr/bin/env python3
"""Damage files of every kind that gtdnet reads, and see that it reads or refuses them.

Whole files are made here: of every container and codec that FFmpeg writes, folders of pictures,
annotations in every format, model files, exported graphs, scores, packed datasets. A case damages
one of them (`fuzz_mutate.py`) and reads it by the functions that the commands call
(`fuzz_cases.py`), in processes with limits of time and memory. Faults are: a process that dies or
exceeds them, an exception other than InputError, frames that `check` has not seen or that an
independent decode does not give. What became of damaged clips is counted, silent damage too.

Case N is the same in every run with the same seed and the same FFmpeg.

    make fuzz                                                     10,000 cases, some minutes
    python benchmarks/fuzz.py --cases 10000 --output benchmarks/results/fuzz.yaml
    python benchmarks/fuzz.py --cases 100000 --seed 1             others, for longer
    python benchmarks/fuzz.py --case 4711 --keep case4711         one again, and its file

Exit status 1 if there are faults. After Ctrl-C, what was done so far is told; with --folder the
same command goes on from there.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

Result = dict[str, Any]

CPU_SECONDS = 30  # that a case may take
WALL_SECONDS = 300  # likewise, on a machine with other work
MEMORY = 3 << 30  # bytes that a process may take beyond what its imports do
GROWTH = 1 << 30  # bytes that a case may add to a process's memory

# ------------------------------------------------------------------------------- in the processes


def work_on(folder: Path, seed: int) -> None:
    """Do the cases whose numbers come in, a line each; a line of JSON goes out for each."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries write to stdout
    faulthandler.enable()
    import av.logging
    import torch
    from fuzz_cases import run_case

    av.logging.set_level(None)
    torch.set_num_threads(1)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    answers.write("{}\n")
    for line in sys.stdin:
        began, before = time.process_time(), _peak()
        limit = int(began) + 1 + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            result = run_case(int(line), seed, folder)
        except Exception as error:  # of making the file: ours
            result = {"case": int(line), "verdict": "fault", "reason": f"no case: {error!r:.300}"}
        result["seconds"] = round(time.process_time() - began, 3)
        if (grown := _peak() - before) > GROWTH:
            reason = f"took {grown >> 20} MiB ({result['verdict']}: {result.get('reason', '')})"
            result |= {"verdict": "fault", "reason": reason}
        answers.write(json.dumps(result) + "\n")


def _peak() -> int:
    """Bytes that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# -------------------------------------------------------------------------------------- the parent


class Worker:
    """A process that does one case at a time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._command = [sys.executable, __file__, "--worker", "--folder", str(folder)]
        self._command += ["--seed", str(seed)]
        self._log = folder / "worker.log"
        self.case: int | None = None
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdin and self._process.stdout
        self._in, self.out = self._process.stdin, self._process.stdout
        if not self.out.readline():
            raise SystemExit(f"{' '.join(self._command)}: did not start; see {self._log}")

    def give(self, case: int) -> None:
        self._in.write(f"{case}\n")
        self._in.flush()
        self.case, self._until = case, time.monotonic() + WALL_SECONDS

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self._until

    def take(self) -> Result:
        """The result of its case; it is started anew if it has died or was late."""
        case, self.case = self.case, None
        line = "" if self.is_late else self.out.readline()
        if line:
            return json.loads(line)
        is_late = self.is_late
        self._process.kill()
        code = self._process.wait()
        self._start()
        name = "hang" if is_late or code == -signal.SIGXCPU else f"crash, exit status {code}"
        return {"case": case, "verdict": "fault", "reason": name}

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def workers_of(number: int, folder: Path, seed: int) -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    try:
        workers += [Worker(folder, seed) for _ in range(number)]
        yield workers
    finally:
        for worker in workers:
            worker.end()


def run_all(cases: Iterable[int], workers: list[Worker]) -> Iterator[Result]:
    """The results, as they come."""
    waiting = iter(cases)
    for worker in workers:
        if (case := next(waiting, None)) is not None:
            worker.give(case)
    while busy := {worker.out: worker for worker in workers if worker.case is not None}:
        ready: list[IO[str]] = select.select(list(busy), [], [], 1)[0]
        for worker in busy.values():
            if worker.out in ready or worker.is_late:
                yield worker.take()
                if (case := next(waiting, None)) is not None:
                    worker.give(case)


# --------------------------------------------------------------------------------------- a summary


def summary(results: Iterable[Result]) -> dict[str, Any]:
    """Counts by kind: verdicts, reasons, silent damage and its causes; faults one by one."""
    results = sorted(results, key=lambda result: result["case"])
    kinds: dict[str, Any] = {}
    for kind in dict.fromkeys(r["kind"] for r in results if "kind" in r):
        mine = [r for r in results if r.get("kind") == kind]
        told: dict[str, Any] = {
            "cases": len(mine),
            "subjects": len({r["subject"] for r in mine}),
            "verdicts": counts(r["verdict"] for r in mine),
        }
        if any("plain" in r for r in mine):
            told["against_an_independent_decode"] = counts(r["plain"] for r in mine if "plain" in r)
        if silent := [r for r in mine if "cause" in r]:
            told["silent_damage"] = {
                "by_cause": counts(f"{r['verdict'][14:]}: {r['cause']}" for r in silent),
                "by_codec" if kind == "videos" else "by_form": _shares(silent, mine, -1),
                **({"by_container": _shares(silent, mine, 0)} if kind == "videos" else {}),
            }
        told["reasons"] = counts((r["reason"] for r in mine if r["verdict"] == "refused"), 12)
        kinds[kind] = told
    return {
        "cases": len(results),
        "faults": [r for r in results if r["verdict"] == "fault"],
        "longest_seconds": max((r.get("seconds", 0) for r in results), default=0),
        "cpu_seconds": round(sum(r.get("seconds", 0) for r in results)),
        "kinds": kinds,
    }


def _shares(silent: list[Result], mine: list[Result], part: int) -> dict[str, str]:
    """Silent ones of all cases, by a part of the subject's name."""
    of = [Counter(r["subject"].split("-", 1)[part] for r in rows) for rows in (silent, mine)]
    return {name: f"{count} of {of[1][name]}" for name, count in of[0].most_common()}


def counts(values: Iterable[str], most: int | None = None) -> dict[str, int]:
    """How often each is there, the most frequent first; of many the rest together."""
    found = Counter(values)
    told = dict(found.most_common(most))
    if rest := sum(found.values()) - sum(told.values()):
        told[f"{len(found) - len(told)} others"] = rest
    return told


def unusable(folder: Path) -> dict[str, list[str]]:
    """Subjects that FFmpeg does not write, or whose whole files are not read, by the reason."""
    found: dict[str, list[str]] = {}
    for path in sorted((folder / "base").glob("*/unusable")):
        reason = re.sub(r"[:, ]*(?:'\S*/|\(\S*\{|\").*", "", path.read_text())
        found.setdefault(reason, []).append(path.parent.name.split("-", 1)[1])
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the cases and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--case", type=int, help="this one alone, told in full")
    parser.add_argument("--keep", type=Path, help="with --case: a new folder for its file")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--folder", type=Path, help="for whole files and results; taken up again")
    parser.add_argument("--output", type=Path, help="a YAML file for what was found")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.worker:
        work_on(args.folder, args.seed)
        return 0
    with tempfile.TemporaryDirectory(prefix="gtdnet-fuzz-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if args.case is not None:
            from fuzz_cases import run_case

            result = run_case(args.case, args.seed, folder, args.keep)
            print(json.dumps(result, indent=1))
            return int(result["verdict"] == "fault")
        return _run(args, folder)


def _run(args: argparse.Namespace, folder: Path) -> int:
    file = folder / f"results-{args.seed}.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    done = {result["case"]: result for result in map(json.loads, lines)}
    results = [result for case, result in done.items() if case < args.cases]
    rest = [case for case in range(args.cases) if case not in done]
    try:
        with workers_of(args.workers, folder, args.seed) as workers, file.open("a") as log:
            for result in run_all(rest, workers):
                results.append(result)
                log.write(json.dumps(result) + "\n")
                if result["verdict"] == "fault":
                    print(f"\nfault: {result}", file=sys.stderr)
                if len(results) % 100 == 0:
                    print(f"\r{len(results)} of {args.cases}", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"\nstopped after {len(results)} of {args.cases} cases", file=sys.stderr)
    from gtdnet.files import write_yaml

    found = {**_envelope(args), **summary(results)}
    found["whole_files_not_written_or_not_read"] = unusable(folder)
    if args.output:
        write_yaml(args.output, found)
    print()
    for kind, told in found["kinds"].items():
        print(f"{kind}: {told['cases']} cases, {told['subjects']} subjects")
        for verdict, count in told["verdicts"].items():
            print(f"  {count:5} {verdict}")
    print(f"{found['cases']} cases, {len(found['faults'])} faults")
    return int(bool(found["faults"]) or len(results) < args.cases)


def _envelope(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from gtdnet.bench.result import envelope

    command = f"python benchmarks/fuzz.py --cases {args.cases} --seed {args.seed}"
    title = "Damaged files: read, refused, or silently wrong"
    return envelope("fuzz", title, command, torch.device("cpu"), ("av", "onnxruntime", "openvino"))


if __name__ == "__main__":
    sys.exit(main())
