"""Training and evaluation by several processes beside one: equal losses, each clip once, a kill.

    python benchmarks/many_processes.py --output benchmarks/results/many_processes.yaml

The processes are the real command's on one machine (gloo): two and four by --devices, two by
torchrun, two agents of torchrun as two nodes, and two tasks in SLURM's environment. Losses are
compared with those of one process with as many clips a step, batch norms synchronised. How far
rounding alone takes them apart is that process with two threads instead of one.
"""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gtdnet.bench.result import envelope, save
from gtdnet.data.synthetic import write_dataset
from gtdnet.train.config import TrainConfig

GTDNET = (sys.executable, "-m", "gtdnet")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
MODULE = ("-m", "gtdnet")
CLIPS = 4  # a step
# A rate at which rounding is not what decides: batches of four make batch norms' steps wild.
OPTIONS: dict[str, Any] = {
    "model": "gtdnet_resnet18",
    "model_options": {"width": 0.125},
    "num_segments": 4,
    "short_side": 36,
    "crop_size": 32,
    "epochs": 2,
    "num_workers": 0,
    "lr": 0.0005,
    "lr_batch": 0,
    "device": "cpu",
    "precision": "fp32",
    "report": False,
    "logger": "none",
    "sync_batchnorm": True,
}
Commands = list[tuple[Sequence[str], Mapping[str, str]]]  # started at once: words, environment


class Laboratory:
    """A folder with a small dataset, configs and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "easy"
        write_dataset(
            self.data, format="folder", edition="easy", train=13, validation=7, size=36, workers=1
        )

    def train(self, name: str, processes: int, **options: Any) -> list[str]:
        """The words of a run with ``CLIPS`` clips a step."""
        path = self.folder / f"{name}.yaml"
        TrainConfig(
            **{**OPTIONS, **options},
            data=str(self.data),
            output=str(self.folder),
            name=name,
            batch_size=CLIPS // processes,
        ).save(path)
        return ["train", "--config", str(path)]

    def evaluate(self, name: str) -> list[str]:
        """The words of an evaluation of the first run's model, clip by clip."""
        words = ["evaluate", str(self.folder / "one"), "--data", str(self.data)]
        words += ["--output", str(self.folder / f"eval-{name}"), "--device", "cpu"]
        return [*words, "--batch_size", "1", "--num_workers", "0"]

    def run(self, commands: Commands) -> None:
        """Run commands at once; their messages are shown where one fails."""
        running = [self.start(words, more) for words, more in commands]
        ends = [(process.communicate(timeout=600)[1], process.returncode) for process in running]
        if any(code for _, code in ends):
            sys.exit("\n".join(message for message, _ in ends))

    def start(self, words: Sequence[str], more: Mapping[str, str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
        return subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.folder,
        )

    def losses(self, name: str) -> list[float]:
        with (self.folder / name / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [float(row[key]) for row in rows for key in ("train_loss", "val_loss")]

    def scores(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"eval-{name}" / "scores.npz") as file:
            return {key: file[key] for key in ("ids", "scores", "labels")}

    def difference(self, name: str) -> float:
        pairs = zip(self.losses(name), self.losses("one"), strict=True)
        return max(abs(a - b) for a, b in pairs)


# ---------------------------------------------------------------------------- ways to start them


def by_devices(number: int, words: Sequence[str]) -> Commands:
    return [((*GTDNET, *words, "--devices", str(number)), {})]


def by_torchrun(words: Sequence[str]) -> Commands:
    return [((*TORCHRUN, "--nproc_per_node", "2", *MODULE, *words), {})]


def by_two_agents(words: Sequence[str]) -> Commands:
    port = str(free_port())
    rendezvous = ("--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1")
    return [
        ((*TORCHRUN, *rendezvous, "--master_port", port, "--node_rank", rank, *MODULE, *words), {})
        for rank in ("0", "1")
    ]


def by_hand(words: Sequence[str]) -> Commands:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        ((*GTDNET, *words, "--num_nodes", "2"), {**where, "NODE_RANK": rank}) for rank in ("0", "1")
    ]


def by_slurm(words: Sequence[str]) -> Commands:
    step = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_STEP_NODELIST": "localhost,other",
        "SLURM_LOCALID": "0",
        "SLURM_JOB_ID": "1",
        "MASTER_PORT": str(free_port()),
    }
    return [((*GTDNET, *words), {**step, "SLURM_PROCID": rank}) for rank in ("0", "1")]


def free_port() -> int:
    """One that is free now, and that the system gives nobody who asks for any."""
    for port in _PORTS:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError("no port is free")


_PORTS = iter(range(21000, 22000))


WAYS = {
    "2 by --devices": (2, lambda words: by_devices(2, words)),
    "4 by --devices": (4, lambda words: by_devices(4, words)),
    "2 by torchrun": (2, by_torchrun),
    "2 nodes, two agents of torchrun": (2, by_two_agents),
    "2 nodes, --num_nodes by hand": (2, by_hand),
    "2 tasks in SLURM's environment": (2, by_slurm),
}


# ------------------------------------------------------------------------------------ measurements


def rounding(laboratory: Laboratory) -> float:
    """One process, and the largest difference of a loss from that with two threads."""
    for name, threads in (("one", "1"), ("threads", "2")):
        words = laboratory.train(name, 1)
        laboratory.run([((*GTDNET, *words), {"OMP_NUM_THREADS": threads})])
    return float(f"{laboratory.difference('threads'):.1e}")


def equality(laboratory: Laboratory) -> list[dict[str, Any]]:
    """Of every way: the largest difference of a loss from one process; the scores."""
    laboratory.run([((*GTDNET, *laboratory.evaluate("one")), {})])
    one, cases = laboratory.scores("one"), []
    for number, (way, (processes, start)) in enumerate(WAYS.items()):
        name = f"way{number}"
        laboratory.run(start(laboratory.train(name, processes)))
        laboratory.run(start(laboratory.evaluate(name)))
        scores = laboratory.scores(name)
        ids = list(scores["ids"])
        case = {
            "processes": way,
            "largest_difference_of_a_loss": float(f"{laboratory.difference(name):.1e}"),
            "clips_evaluated_once": f"{len(set(ids))} of {len(ids)}",
            "same_scores_to_the_bit": all(np.array_equal(scores[k], one[k]) for k in one),
        }
        print(case, file=sys.stderr, flush=True)
        cases.append(case)
    return cases


def kills(laboratory: Laboratory) -> list[dict[str, Any]]:
    """Seconds from the kill of one process to the sentence, and to the end of all."""

    def one(number: int, way: str, rank: int) -> dict[str, Any]:
        name, (processes, start) = f"kill{number}", WAYS[way]
        words = laboratory.train(name, processes, epochs=500)
        case = {"processes": way, "killed": rank, **kill(laboratory, name, start(words), rank)}
        print(case, file=sys.stderr, flush=True)
        return case

    ways = [(way, rank) for way in ("2 by --devices", "2 by torchrun") for rank in (0, 1)]
    return [one(number, way, rank) for number, (way, rank) in enumerate(ways)]


def kill(laboratory: Laboratory, name: str, commands: Commands, rank: int) -> dict[str, Any]:
    ((words, more),) = commands
    process = laboratory.start(words, more)
    assert process.stderr is not None
    while not (laboratory.folder / name / "last.ckpt").exists():
        if process.poll() is not None:
            sys.exit(process.stderr.read())
        time.sleep(0.1)
    # Of the first one, which started the others, the environment says nothing.
    pid = {**{0: process.pid}, **ranks(f"{name}.yaml", process.pid)}[rank]
    os.kill(pid, signal.SIGKILL)
    killed, said, sentence, lines = time.monotonic(), None, "", []
    for line in process.stderr:
        lines.append(line)
        if "continue with: gtdnet train --resume" in line:
            said, sentence = said or time.monotonic() - killed, line.strip()
    code = process.wait()
    if not said:
        print("".join(lines), file=sys.stderr)  # of what went wrong
    return {
        "seconds_to_the_sentence": round(said, 1) if said else None,
        "seconds_to_the_end": round(time.monotonic() - killed, 1),
        "exit_status": code,
        "left_running": len(ranks(f"{name}.yaml", process.pid)),
        "sentence": sentence.replace(str(laboratory.folder), "RUNS") if said else None,
    }


def ranks(name: str, first: int) -> dict[int, int]:
    """Processes by their rank: those that have one, and this run's config among their words."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            known = (folder / "environ").read_text(errors="replace").split("\0")
            words = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        values = {key: value for key, _, value in (entry.partition("=") for entry in known)}
        run = f'"name": "{name.removesuffix(".yaml")}"'
        ours = name in words or run in values.get("GTDNET_CALL", "")
        if ours and values.get("RANK", "").isdecimal() and int(folder.name) != first:
            found[int(values["RANK"])] = int(folder.name)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", help="file of the results (YAML)")
    output = parser.parse_args(arguments).output
    command = shlex.join(["python", "benchmarks/many_processes.py", *(arguments or sys.argv[1:])])
    title = "Several processes beside one"
    result = envelope("processes", title, command, torch.device("cpu"), ["torch", "lightning"])
    result["clips_a_step"] = CLIPS
    result["batch_norms"] = "synchronised"
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder))
        result["largest_difference_by_rounding"] = rounding(laboratory)
        result["equality"] = equality(laboratory)
        result["kills"] = kills(laboratory)
    save(result, output)
    wrong = [
        case
        for case in result["equality"]
        if case["largest_difference_of_a_loss"] > 1e-5 or not case["same_scores_to_the_bit"]
    ]
    for case in result["kills"]:
        expected = (1, -signal.SIGKILL)[case["killed"] == 0 and "--devices" in case["processes"]]
        if not case["sentence"] or case["left_running"] or case["exit_status"] != expected:
            wrong.append(case)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
