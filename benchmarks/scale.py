#!/usr/bin/env python3
"""A billion clips on a hundred machines, on paper: from what was measured, by a simulation.

    python benchmarks/scale.py --output benchmarks/results/scale.yaml
    python benchmarks/scale.py --machines 20 --cores 64 --block_size 2000 --price_per_core_hour 0.03
    python benchmarks/scale.py --measure VIDEO VIDEO ... --output benchmarks/results/scale.yaml

What a clip takes is read from benchmarks/results (`scale_inputs.py`, which also names what is
assumed); first small cases that were measured are simulated (`scale_cases.py`), then the large one
(`scale_simulation.py`). --measure times the parts of a block anew, by turns in CPU seconds
(`scale_blocks.py`); without it those of the output's file stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from scale_cases import TOLERANCE, cases, kills
from scale_inputs import H264, PACKED, VP9, Assumptions, Measured, read
from scale_simulation import Cluster, Work, simulate, thinned

from gtdnet.bench.result import envelope, save
from gtdnet.errors import InputError
from gtdnet.files import read_yaml
from gtdnet.models.complexity import complexity

NETWORK = "gtdnet_resnet50, openvino, bf16"
EAGER = "gtdnet_resnet50, eager, fp32"
MILLION = 1_000_000
RATES = (100, 400, 1600)
"""Clips a second that a GPU may take: assumed, for none was measured."""
KINETICS = {"clips": 240_000, "epochs": 100, "frames": 300}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for f in fields(Assumptions):
        kind = {"int": int, "float": float}[str(f.type)]
        told = f"{f.metadata['what']} ({f.default})"
        parser.add_argument(f"--{f.name}", type=kind, default=f.default, help=told)
    parser.add_argument("--price_per_core_hour", type=float, help="what you pay, in your currency")
    parser.add_argument("--seeds", type=int, default=3, help="runs that are averaged (3)")
    parser.add_argument("--measure", nargs="*", type=Path, help="videos for the parts of a block")
    parser.add_argument("--rounds", type=int, default=4, help="of --measure (4)")
    parser.add_argument("--output", help="a YAML file for what was found")
    args = parser.parse_args(arguments)
    try:
        assumed = Assumptions(**{f.name: getattr(args, f.name) for f in fields(Assumptions)})
        assumed.check()
        before = read_yaml(args.output) if args.output and Path(args.output).exists() else {}
        parts = before.get("parts", {})
        if args.measure is not None:
            from scale_blocks import measure

            parts = measure(args.measure, args.rounds)
        result = scale(read(), assumed, parts, args.seeds, args.price_per_core_hour)
    except (InputError, ValueError) as error:
        print(f"benchmarks/scale.py: {error}", file=sys.stderr)
        return 2
    other = asdict(assumed).items() - asdict(Assumptions()).items()
    words = [f"--{name} {value}" for name, value in sorted(other)]
    line = " ".join(["python benchmarks/scale.py", *words, "--output", args.output or "FILE"])
    head = envelope("scale", "On paper: a billion clips", line, torch.device("cpu"))
    head.pop("bench")  # no bench of gtdnet's own
    save({**head, **result}, args.output)
    show(result)
    return 0


def scale(
    measured: Measured,
    assumed: Assumptions,
    parts: Mapping[str, Any],
    seeds: int = 3,
    price: float | None = None,
) -> dict[str, Any]:
    """Everything, JSON-ready."""
    return {
        "inputs": {
            name: f"{str(found['date'])[:10]}, {found.get('machine', {}).get('flags', '')}"
            for name, found in measured.files.items()
        },
        "assumed": assumed.told(),
        "tolerance_percent": round(100 * TOLERANCE),
        "parts": dict(parts),
        "cases": cases(measured, parts),
        "kills": [row for slower in (1.0, 4.0) for row in kills(measured, slower)],
        "clip": list(clips(measured, price)),
        "by_macs": list(by_macs(measured)),
        "runs": [run(measured, assumed, *way, seeds, price) for way in ways(assumed)],
        "driver": driver(measured, assumed),
        "readers": list(readers(measured)),
        "kinetics": kinetics(measured),
    }


# --------------------------------------------------------------------------------- cost of a clip


def clip_ms(measured: Measured, network: str, data: str) -> tuple[float, float]:
    """CPU ms of reading a clip as gtdnet bulk does, and of the network."""
    return measured.reading[data]["test"]["item"], measured.networks[network]


def clips(measured: Measured, price: float | None) -> Iterator[dict[str, Any]]:
    """Core-hours for a million clips, and the share of reading in them."""
    for network, ms in sorted(measured.networks.items(), key=lambda row: (row[0][:3], -row[1])):
        row: dict[str, Any] = {"network": network, "network_ms": ms}
        for data in (H264, PACKED[H264], VP9, PACKED[VP9]):
            reading, _ = clip_ms(measured, network, data)
            hours = core_hours(reading + ms)
            row[data] = {
                "core_hours_a_million": short(hours),
                "reading_percent": round(100 * reading / (reading + ms)),
            }
            if price is not None:
                row[data]["price_a_million"] = short(hours * price)
        yield row


def by_macs(measured: Measured) -> Iterator[dict[str, Any]]:
    """Of networks that were not timed: as if their MACs went as fast as those of GTDNet."""
    timed = "gtdnet_resnet50"
    macs = {
        **{name: m[8]["gmacs"] for name, m in measured.files["complexity"]["models"].items()},
        **{name: round(complexity(name).macs / 1e9, 2) for name in _DEPTHS},
    }
    untimed = {name: gmacs for name, gmacs in macs.items() if name not in measured.gmacs}
    for name, gmacs in sorted(untimed.items(), key=lambda row: row[1]):
        row: dict[str, Any] = {"model": name, "gmacs": gmacs}
        for network in (EAGER, NETWORK):
            ms = measured.networks[network] * gmacs / measured.gmacs[timed]
            hours = core_hours(measured.reading[H264]["test"]["item"] + ms)
            row[network.partition(", ")[2]] = short(hours)
        yield row


_DEPTHS = ("gtdnet_resnet18", "gtdnet_resnet34", "gtdnet_resnet101")


def core_hours(ms: float) -> float:
    """Of a million clips that take so long."""
    return ms / 1000 * MILLION / 3600


def short(value: float) -> float:
    return float(f"{value:.4g}")


# ------------------------------------------------------------------------------- the whole thing


def ways(assumed: Assumptions) -> Iterator[tuple[str, str, str, Assumptions, int]]:
    """The run as assumed, and what becomes of it otherwise: name, network, data, processes more."""

    def other(name: str, network: str = NETWORK, data: str = H264, more: int = 0, **changed: Any):
        return name, network, data, replace(assumed, **changed), more

    yield other("as assumed")
    yield other("nothing fails, no machine is slow", mtbf_h=1e9, driver_mtbf_h=1e9, slow_share=0.0)
    for engine in ("eager, fp32", "openvino, fp32", "openvino, int8"):
        yield other(engine, f"gtdnet_resnet50, {engine}")
    yield other("packed", data=PACKED[H264])
    yield other("packed; openvino, int8", "gtdnet_resnet50, openvino, int8", PACKED[H264])
    yield other(VP9, data=VP9)
    for times in (0.5, 2):
        machines = max(1, round(times * assumed.machines))
        yield other(f"{machines} machines", machines=machines)
    for times in (2, 4):
        yield other(f"{times * assumed.cores} cores", cores=times * assumed.cores)
    for size in (256, 1000, 100_000, 1_000_000):
        yield other(f"blocks of {size}", block_size=size)
    yield other("a machine fails every 24 h", mtbf_h=24)
    yield other("the same, blocks of 100000", mtbf_h=24, block_size=100_000)
    yield other("the driver dies every 24 h", driver_mtbf_h=24)
    yield other("the same, blocks of 256", driver_mtbf_h=24, block_size=256)
    yield other("every fifth machine is slow", slow_share=0.2)
    more = -(-assumed.cores // 4)
    yield other(f"{more} processes more than cores", more=more)
    yield other("the store gives 20 MB/s", mb_per_s=20)


def setting(
    measured: Measured, assumed: Assumptions, network: str, data: str, more: int
) -> tuple[Cluster, Work]:
    """What is simulated."""
    plan = measured.files["bulk"]["plan"]
    names = {f.name for f in fields(Cluster)} & {f.name for f in fields(Assumptions)}
    cluster = Cluster(
        workers=assumed.cores + more, **{name: getattr(assumed, name) for name in names}
    )
    names = {f.name for f in fields(Work)} & {f.name for f in fields(Assumptions)}
    work = Work(
        cpu_s=sum(clip_ms(measured, network, data)) / 1000,
        clip_mb=measured.clip_mb[data],
        ids_s=plan["cpu_s_ids"] / plan["rows"],
        listing_s=plan["cpu_s_blocks"] / plan["rows"],
        **{name: getattr(assumed, name) for name in names},
    )
    return cluster, work


def run(
    measured: Measured,
    assumed: Assumptions,
    name: str,
    network: str,
    data: str,
    changed: Assumptions,
    more: int,
    seeds: int,
    price: float | None,
) -> dict[str, Any]:
    cluster, work = setting(measured, changed, network, data, more)
    few, part, times = thinned(cluster, work)
    found = [simulate(few, part, seed) for seed in range(seeds)]
    hours = fmean(out.seconds for out in found) / 3600
    lost = sum(out.lost_s for out in found) / sum(out.busy_s for out in found)
    cores = cluster.machines * cluster.cores
    paid = cores * hours / (work.clips / MILLION)
    row: dict[str, Any] = {
        "run": name,
        "hours": short(hours),
        "core_hours_a_million": short(paid),
        "of_them_computing_percent": round(100 * core_hours(1000 * work.cpu_s) / paid, 1),
        "machine_deaths": round(times * fmean(out.machine_deaths for out in found), 1),
        "driver_deaths": round(fmean(out.driver_deaths for out in found), 1),
        "clips_again": round(times * fmean(out.lost for out in found) * work.block_size),
        "work_lost_percent": short(100 * lost),
        "files": work.blocks,
        "each_id_once": all(o.written == (1, 1) and o.rows == part.clips for o in found),
    }
    if price is not None:
        row["price"] = short(paid * price * work.clips / MILLION)
    return row


def driver(measured: Measured, assumed: Assumptions) -> dict[str, Any]:
    """What one process must do alone, whatever the number of machines."""
    plan = measured.files["bulk"]["plan"]
    rows = assumed.clips / plan["rows"]
    return {
        "ids_minutes": short(plan["cpu_s_ids"] * rows / 60),
        "listing_minutes": short(plan["cpu_s_blocks"] * rows / 60),
        "listing_gib": short(plan["table_mib"] * rows / 1024),
        "shards_minutes": {
            size: short(assumed.clips / size * assumed.footer_s / 60)
            for size in (256, 1000, 10_000, 100_000)
        },
    }


# ------------------------------------------------------------------------------ reading for GPUs


def readers(measured: Measured) -> Iterator[dict[str, Any]]:
    """Cores that read training clips as fast as a GPU takes them."""
    for data, views in measured.reading.items():
        ms = views["train"]["loader"]
        cores = {rate: short(rate * ms / 1000) for rate in RATES}
        yield {"data": data, "cpu_ms": ms, "cores_by_clips_a_second": cores}


def kinetics(measured: Measured) -> dict[str, Any]:
    """Training on Kinetics-400: hours of cores for reading and, without a GPU, for computing."""
    read_clips = KINETICS["clips"] * KINETICS["epochs"]
    steps = measured.files["speed_training_batch4"]["cases"]
    step = next(c for c in steps if c["model"] == "gtdnet_resnet50" and c["setting"] == "default")
    packs = measured.files["pack_quality"]["packed"]
    pack = next(p for p in packs if p["data"] == "data/mmaction2" and p["quality"] == 90)
    hours = {
        data: short(measured.reading[data]["train"]["loader"] / 1000 * read_clips / 3600)
        for data in (H264, PACKED[H264])
    }
    return {
        **KINETICS,
        "reading_core_hours": hours,
        "step_core_hours": short(step["cpu_ms"] / step["batch_size"] / 1000 * read_clips / 3600),
        "packed_tb": short(KINETICS["clips"] * KINETICS["frames"] * pack["kB_per_frame"] / 1e9),
        "videos_tb": short(KINETICS["clips"] * measured.clip_mb[H264] / 1e6),
        "gpu_hours_by_clips_a_second": {rate: short(read_clips / rate / 3600) for rate in RATES},
    }


def show(result: Mapping[str, Any]) -> None:
    """The most of it, a line each."""
    for row in result["cases"]:
        verdict = "" if row["reproduced"] else "  NOT REPRODUCED"
        told = f"{row['measured']:10g} {row['simulated']:10g} {row['unit']:15}"
        print(f"{told} {row['apart_percent']:+6.1f} %  {row['case']}{verdict}")
    for row in result["kills"]:
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ")
    for row in result["runs"]:
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ")


if __name__ == "__main__":
    sys.exit(main())
