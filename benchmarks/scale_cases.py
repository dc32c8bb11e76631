"""Small cases that were measured, beside what the simulation gives for them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from scale_inputs import Measured
from scale_simulation import Cluster, Kill, Outcome, Work, simulate

from gtdnet.models.complexity import complexity

TOLERANCE = 0.10
"""By which a simulated figure may differ from the one that was measured."""


def case(name: str, unit: str, measured: float, simulated: float) -> dict[str, Any]:
    apart = simulated / measured - 1
    return {
        "case": name,
        "unit": unit,
        "measured": float(f"{measured:.4g}"),
        "simulated": float(f"{simulated:.4g}"),
        "apart_percent": round(100 * apart, 1),
        "reproduced": abs(apart) <= TOLERANCE,
    }


def cases(measured: Measured, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All of them; ``parts``: what ``--measure`` has found of blocks, may be empty."""
    return [
        *reading(measured),
        *processes(measured),
        timeline(measured),
        *other_methods(measured),
        *blocks(measured, parts),
    ]


def reading(measured: Measured) -> Iterator[dict[str, Any]]:
    """A clip takes the sum of its stages, and as much in a process of its own."""
    for data, views in measured.reading.items():
        ms = views["train"]
        summed = sum(v for stage, v in ms.items() if stage not in ("item", "loader"))
        yield case(f"reading, {data}: sum of the stages", "CPU ms", ms["item"], summed)
        yield case(f"reading, {data}: in a loader's process", "CPU ms", ms["loader"], ms["item"])


def processes(measured: Measured) -> Iterator[dict[str, Any]]:
    """Processes of one thread that share two cores (threads.yaml)."""
    threads = measured.files["threads"]
    cores = threads["machine"]["cores"]
    rows = threads["cases"]
    alone = {r["work"]: r["one_ms"] for r in rows if r["busy_processes"] == 0}
    for row in rows:
        if busy := row["busy_processes"]:
            workers = busy + 1
            cluster = Cluster(cores=cores, workers=workers)
            done = simulate(cluster, Work(50 * workers, 1, alone[row["work"]] / 1000))
            simulated = 1000 * done.seconds / 50
            name = f"{row['work']}: {workers} processes on {cores} cores"
            yield case(name, "ms", row["one_ms"], simulated)


def timeline(measured: Measured) -> dict[str, Any]:
    """predict.yaml: its windows' reading, and a network that is known by its MACs alone."""
    found = measured.files["predict"]
    windows = 10 * 60 / 2
    macs = complexity("gtdnet_resnet18", 4, 8, 112, width=0.25).macs / 1e9
    name = "gtdnet_resnet50"
    ms_a_gmac = measured.networks[f"{name}, eager, fp32"] / measured.gmacs[name]
    seconds = found["parts"]["windows"]["now_cpu_seconds"] + windows * macs * ms_a_gmac / 1000
    told = found["parts"]["predict"]["now_cpu_seconds"]
    return case("gtdnet predict: reading, and the network by its MACs", "CPU s", told, seconds)


def other_methods(measured: Measured) -> Iterator[dict[str, Any]]:
    """What GTDNet's time says of other methods on the same ResNet, by their MACs."""
    for other in ("tsm_resnet50", "tsn_resnet50"):
        for engine in ("eager, fp32", "openvino, bf16"):
            name, timed = f"{other}, {engine}", f"gtdnet_resnet50, {engine}"
            if name in measured.networks:
                ms = (
                    measured.networks[timed]
                    * measured.gmacs[other]
                    / measured.gmacs["gtdnet_resnet50"]
                )
                yield case(f"{name}: by its MACs", "CPU ms", measured.networks[name], ms)


def blocks(measured: Measured, parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A block of gtdnet bulk is reading, network and writing (measured by turns).

    Shares alone are compared: the machine was busy when they were measured.
    """
    for name, found in parts.items():
        summed = sum(found[part]["share"] for part in ("reading", "network", "writing"))
        yield case(f"a block of {found['what']}: sum of its parts", "%", 100, 100 * summed)
        if name != "tiny":
            read = measured.reading["H.264, 10 s"]["test"]["item"]
            net = measured.networks[found["model"]]
            told = f"a block of {found['what']}: reading's share"
            share = 100 * found["reading"]["share"]
            yield case(told, "%", share, 100 * read / (read + net))
            batch = found["network"]["share"] / found["network_one_by_one"]["share"]
            told = f"a block of {found['what']}: a clip in a batch, beside one alone"
            yield case(told, "times", batch, 1.0)


_DRIVERS = ("the command", "the node")  # with either, all of a single machine's processes end


def kills(measured: Measured, slower: float = 1.0, seed: int = 0) -> list[dict[str, Any]]:
    """The kills of bulk.yaml, by benchmarks/bulk.py's protocol: what it found, what comes here.

    ``slower``: how much longer a clip takes than its CPU time, as where others use the cores.
    """
    found = []
    for runner, told in measured.files["bulk"]["kills"].items():
        number = sum(told["kills"].values())
        rng = random.Random(seed)
        victims = ["driver" if name in _DRIVERS else "worker" for name in told["kills"]]
        waiting = [
            Kill(victims[i % len(victims)], rng.randint(1, 2), rng.uniform(0, 0.2))
            for i in range(number)
        ]
        ms = measured.files["bulk"]["cost"]["cpu_ms_a_clip"]
        work = Work(told["clips"], told["clips_in_a_block"], slower * ms / 1000)
        cluster = Cluster(cores=2, workers=2, worker_start_s=5.0)
        runs: list[Outcome] = []
        while waiting or not runs:
            runs.append(simulate(cluster, work, seed + len(runs), waiting))
            waiting = waiting[len(waiting) - runs[-1].kills_left :]
        once = all(run.written == (1, 1) and run.rows == work.clips for run in runs)
        found.append(
            {
                "runner": runner,
                "kills": number,
                "times_the_cpu_time": slower,
                "ids_once_measured": not told["faults"],
                "ids_once_simulated": once,
                "runs_measured": told["runs"],
                "runs_simulated": len(runs),
                "clips_again_simulated": sum(run.lost for run in runs) * work.block_size,
                "clips_again_at_most": work.block_size
                * sum(
                    2 if kill == "driver" else 1
                    for kill in (victims[i % len(victims)] for i in range(number))
                ),
            }
        )
    return found
