"""What the choice of threads is worth: wall time beside PyTorch's own, idle and beside a load.

    python benchmarks/threads.py --output benchmarks/results/threads.yaml

Training steps and evaluation of a small GTDNet, each turn in a new process, by turns: "before" with
PyTorch's own number of threads, which spin while they wait; "one", a single thread; "now", what the
command gtdnet chooses. The load is of busy processes that this script starts. What else the machine
does stands in the result: an idle machine is one where others do nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

WAYS = ("before", "one", "now")
WORKS = ("training", "evaluation")
SPINS = "300000"  # what libgomp does when nothing is set: some milliseconds on most processors


def environment(way: str) -> dict[str, str]:
    """Of a process that computes in one of the ways."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    if way == "now":
        return kept
    if way == "one":
        return {**kept, "OMP_NUM_THREADS": "1"}
    return {**kept, "GOMP_SPINCOUNT": SPINS}


def turn(way: str, seconds: float) -> dict[str, Any]:
    """Milliseconds a step by the wall clock and of CPU time, for each kind of work; the threads."""
    words = [sys.executable, __file__, "--turn", way, "--seconds", str(seconds)]
    done = subprocess.run(words, env=environment(way), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compute(way: str, seconds: float) -> dict[str, Any]:
    """What :func:`turn` gives, computed in this process."""
    from gtdnet.threads import CoreWatch, choose_threads, let_idle_threads_sleep, use_threads

    if way == "now":  # as the command line does
        let_idle_threads_sleep()
        use_threads(choose_threads(None, CoreWatch()))
    import torch

    from gtdnet import create_model

    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 10, 8, width=0.5)
    clips = torch.randn(4, 8, 3, 96, 96)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def train() -> None:
        torch.nn.functional.cross_entropy(model(clips), torch.arange(4)).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def evaluate() -> None:
        model(clips)

    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    for work, step in (("training", train), ("evaluation", evaluate)):
        model.train(work == "training")
        step()
        step()
        wall, cpu, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < seconds:
            step()
            steps += 1
        result[work] = {
            "wall_ms": 1e3 * (time.perf_counter() - wall) / steps,
            "cpu_ms": 1e3 * (time.process_time() - cpu) / steps,
        }
    return result


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(loads: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    """The result, JSON-ready."""
    import torch

    from gtdnet.bench.result import envelope
    from gtdnet.measure.machine import LoadWatch
    from gtdnet.measure.timing import rounded

    command = f"python benchmarks/threads.py --rounds {rounds} --seconds {seconds:g}"
    result = envelope("threads", "Threads: chosen by the free cores", command, torch.device("cpu"))
    del result["bench"]  # a bench of no kind that gtdnet bench has
    result |= {"rounds": rounds, "seconds_a_turn": seconds, "cases": []}
    for processes in loads:
        watch, own = LoadWatch(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with load(processes):
            turns = [{way: turn(way, seconds) for way in WAYS} for _ in range(rounds)]
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        watch.child_cpu = end.ru_utime + end.ru_stime - own.ru_utime - own.ru_stime
        seen = watch.to_dict()
        for work in WORKS:
            row: dict[str, Any] = {"work": work, "busy_processes": processes}
            for way in WAYS:
                row[f"{way}_ms"] = rounded(
                    statistics.median(t[way][work]["wall_ms"] for t in turns), 3
                )
            for other in ("before", "one"):
                ratios = [t[other][work]["wall_ms"] / t["now"][work]["wall_ms"] for t in turns]
                name = f"{other}_over_now"
                row[name] = rounded(statistics.median(ratios), 3)
                row[f"{name}_from_to"] = [rounded(min(ratios), 3), rounded(max(ratios), 3)]
            row["threads_now"] = sorted({t["now"]["threads"] for t in turns})
            row["cores_others_used"] = seen["cores_used_by_others"]
            result["cases"].append(row)
            print(row, file=sys.stderr)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", help="YAML file for the result")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of work in a turn")
    parser.add_argument("--loads", type=int, nargs="+", help="default: 0, cores, 2 x cores")
    parser.add_argument("--turn", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        print(json.dumps(compute(args.turn, args.seconds)))
        return 0
    from gtdnet.bench.result import save
    from gtdnet.workers import num_cores

    cores = num_cores()
    result = measure(args.loads or [0, cores, 2 * cores], args.rounds, args.seconds)
    save(result, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
