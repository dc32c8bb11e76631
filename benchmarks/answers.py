"""How long whole commands take to answer, beside an earlier version: CPU time and wall time.

    git worktree add /tmp/base COMMIT
    python benchmarks/answers.py --base /tmp/base --output benchmarks/results/answers.yaml

Each command runs by turns from the source of both versions, in new processes of this Python;
medians of all turns. Nothing is computed by any of them: help, typos, paths that lead nowhere.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src"
COMMANDS = (
    "--version",
    "--help",
    "trian",
    "train --help",
    "train --nmae first",
    "train --data nowhere",
    "evaluate --help",
    "evaluate nowhere.safetensors --data x",
    "predict --help",
    "predict nowhere.safetensors x.mp4",
    "report --help",
    "bench --help",
    "demo --help",
    "check --help",
    "check nowhere",
    "synth --help",
)


def seconds(source: Path, words: str, folder: str) -> tuple[float, float]:
    """CPU time of a command and all its processes, and its wall time."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "gtdnet", *words.split()],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="a checkout of the version before")
    parser.add_argument("--output", help="YAML file for the result")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    sources = {"before": args.base / "src", "now": SOURCE}
    import torch

    from gtdnet.bench.result import envelope, save
    from gtdnet.measure.machine import LoadWatch
    from gtdnet.measure.timing import rounded

    result = envelope(
        "answers",
        "Answers: seconds until a command says what it has to say",
        "python benchmarks/answers.py --base BASE",
        torch.device("cpu"),
    )
    del result["bench"]  # a bench of no kind that gtdnet bench has
    git = ["git", "-C", str(args.base), "log", "-1", "--format=%h of %cs"]
    base = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    watch, own = LoadWatch(), resource.getrusage(resource.RUSAGE_CHILDREN)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for words in COMMANDS:
            turns = [
                {name: seconds(source, words, folder) for name, source in sources.items()}
                for _ in range(args.turns)
            ]
            rows[f"gtdnet {words}"] = {
                f"{clock}_s_{name}": rounded(statistics.median(t[name][i] for t in turns), 3)
                for i, clock in enumerate(("cpu", "wall"))
                for name in sources
            }
            print(words, rows[f"gtdnet {words}"], file=sys.stderr)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    watch.child_cpu = end.ru_utime + end.ru_stime - own.ru_utime - own.ru_stime
    load = watch.to_dict()["cores_used_by_others"]
    result |= {"before": base, "turns": args.turns, "cores_others_used": load, "commands": rows}
    save(result, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
