"""The section of docs/results.md about benchmarks/scale.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    datas = list(results["kinetics"]["reading_core_hours"])
    datas += [row["data"] for row in results["readers"] if row["data"] not in datas]
    clips = [
        [row["network"], row["network_ms"]]
        + [
            row[data][what]
            for data in datas
            for what in ("core_hours_a_million", "reading_percent")
        ]
        for row in results["clip"]
    ]
    heads = [head for data in datas for head in (f"{data}: core-hours", "reading, %")]
    runs = [
        [
            row["run"],
            row["hours"],
            row["core_hours_a_million"],
            row["of_them_computing_percent"],
            row["machine_deaths"],
            row["driver_deaths"],
            row["clips_again"],
            row["work_lost_percent"],
            "yes" if row["each_id_once"] else "no",
        ]
        for row in results["runs"]
    ]
    inputs = "; ".join(f"{name} ({told.rstrip(', ')})" for name, told in results["inputs"].items())
    return parts(
        f"""A simulation, not a measurement. What a clip takes is read from these files, with the
        dates and processor flags of their measurements: {inputs}.""",
        """Small cases that were measured, beside the simulation; it reproduces a case where both
        differ by at most {} %:""".format(results["tolerance_percent"]),
        table(
            ["case", "unit", "measured", "simulated", "apart, %", "reproduced"],
            [
                [
                    c["case"],
                    c["unit"],
                    c["measured"],
                    c["simulated"],
                    c["apart_percent"],
                    "yes" if c["reproduced"] else "**no**",
                ]
                for c in results["cases"]
            ],
        ),
        """What is of a block was measured by `--measure` and three videos (mmaction2's demo.mp4,
        moviepy's chaplin.mp4, torchcodec's nasa_13013.mp4), as shares of its CPU time, by turns, on
        a busy machine, before the processes of `gtdnet bulk` kept freed memory.""",
        """The kills of `benchmarks/bulk.py`, by its protocol. How many runs it takes to place them
        depends on how fast blocks followed each other on the clock, which was not recorded: so with
        the CPU time of a clip, and with a multiple. Clips again: of blocks that were begun again,
        and what two processes with a block each can lose at most; not measured.""",
        table(
            [
                "runner",
                "kills",
                "times the CPU time",
                "each id once: measured",
                "simulated",
                "runs: measured",
                "simulated",
                "clips again: simulated",
                "at most",
            ],
            [
                [
                    k["runner"],
                    k["kills"],
                    k["times_the_cpu_time"],
                    "yes" if k["ids_once_measured"] else "no",
                    "yes" if k["ids_once_simulated"] else "no",
                    k["runs_measured"],
                    k["runs_simulated"],
                    k["clips_again_simulated"],
                    k["clips_again_at_most"],
                ]
                for k in results["kills"]
            ],
        ),
        """Core-hours for a million clips (reading by test views and network, nothing else), and the
        share of reading in them:""",
        table(["network", "CPU ms", *heads], clips),
        """Core-hours for a million H.264 clips by networks that were not timed, as if their
        multiply-accumulates went as fast as those of gtdnet_resnet50. An estimate; the other
        methods' own passes come on top:""",
        table(
            ["model", "GMACs", "eager, fp32", "openvino, bf16"],
            [list(row.values()) for row in results["by_macs"]],
        ),
        """The whole of it: gtdnet_resnet50 in OpenVINO and bf16 on H.264 clips, as assumed below,
        and with one thing changed. Core-hours are those that are paid: machines times cores times
        hours, for a million clips.""",
        table(
            [
                "run",
                "hours",
                "core-hours a million",
                "computing, %",
                "machines died",
                "driver died",
                "clips again",
                "work lost, %",
                "each id once",
            ],
            runs,
        ),
        """Minutes of the driver alone, for so many clips as assumed: {ids_minutes} to see that ids
        are unique, {listing_minutes} to read the listing once ({listing_gib} GiB).""".format(
            **results["driver"]
        ),
        table(
            ["clips in a block", "minutes to look at all shards"],
            list(map(list, results["driver"]["shards_minutes"].items())),
        ),
        """Cores that read training clips as fast as a GPU takes them, by the clips a second that it
        is assumed to take:""",
        table(
            ["data", "CPU ms a clip", *map(str, results["readers"][0]["cores_by_clips_a_second"])],
            [
                [r["data"], r["cpu_ms"], *r["cores_by_clips_a_second"].values()]
                for r in results["readers"]
            ],
        ),
        _kinetics(results["kinetics"]),
        "Assumed, not measured:",
        table(["", "value", ""], [[a["name"], a["value"], a["what"]] for a in results["assumed"]]),
    )


def _kinetics(found: Mapping[str, Any]) -> str:
    reading = "; ".join(f"{data}: {hours}" for data, hours in found["reading_core_hours"].items())
    gpu = ", ".join(f"{h} h at {r}/s" for r, h in found["gpu_hours_by_clips_a_second"].items())
    return f"""Training on Kinetics-400, {found["clips"]} clips times {found["epochs"]} epochs:
        core-hours of reading: {reading}; of steps of gtdnet_resnet50 on CPUs, bf16, four clips:
        {found["step_core_hours"]}; a GPU's hours by the clips that it takes: {gpu}. As videos of
        256 lines {found["videos_tb"]} TB, packed {found["packed_tb"]} TB."""
