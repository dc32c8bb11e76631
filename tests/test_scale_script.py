"""benchmarks/scale.py: its simulation by hand and by properties, and what it reads."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import scale
import yaml
from scale_cases import case, cases, kills
from scale_inputs import H264, PACKED, Assumptions, read
from scale_simulation import Cluster, Kill, Work, clip_seconds, simulate, thinned

from gtdnet.errors import InputError

CLUSTER = Cluster(machines=10, cores=4, workers=4, worker_start_s=5, repair_s=60)
WORK = Work(clips=100_000, block_size=100, cpu_s=1.0, spread=0.3)


def test_two_processes_by_hand() -> None:
    """Five blocks of 10 s behind a start of 3 s: 3 + 3 x 10 s, the last one alone."""
    out = simulate(Cluster(cores=2, workers=2, worker_start_s=3), Work(50, 10, 1.0))
    assert (out.seconds, out.begun, out.lost, out.busy_s) == (33.0, 5, 0, 50.0)
    assert (out.rows, out.written) == (50, (1, 1))


def test_a_last_block_that_is_not_full() -> None:
    out = simulate(Cluster(), Work(25, 10, 1.0, shard_s=0.5))
    assert (out.seconds, out.begun, out.rows) == (26.5, 3, 25)


def test_a_process_is_killed_by_hand() -> None:
    """Two seconds into the second block; the next process begins it again after 3 s."""
    cluster = Cluster(worker_start_s=3)
    out = simulate(cluster, Work(20, 10, 1.0), kills=[Kill("worker", 1, 2.0)])
    assert out.seconds == 3 + 10 + 2 + 3 + 10
    assert (out.begun, out.lost, out.lost_s, out.worker_deaths) == (3, 1, 2.0, 1)
    assert out.written == (1, 1)


def test_the_driver_is_killed_by_hand() -> None:
    """It reads 20 ids at first, later passes over the ten rows that are done, and one shard."""
    work = Work(20, 10, 1.0, ids_s=0.1, listing_s=0.01, footer_s=0.5, dispatch_s=0.25)
    cluster = Cluster(worker_start_s=3, driver_restart_s=7)
    out = simulate(cluster, work, kills=[Kill("driver", 1, 2.0)])
    first = 20 * 0.1 + 3 + (0.25 + 10 * 0.01) + 10
    again = 7 + 0.5 + 10 * 0.01 + 3 + (0.25 + 10 * 0.01) + 10
    assert out.seconds == pytest.approx(first + 2.0 + again)
    assert (out.driver_deaths, out.lost, out.written, out.rows) == (1, 1, (1, 1), 20)


@pytest.mark.parametrize(
    ("workers", "latency", "mb_per_s", "seconds"),
    [
        (2, 0.0, 1e9, 1.0),  # a core for each
        (3, 0.0, 1e9, 1.5),  # three share two cores
        (2, 0.5, 1e9, 1.5),  # each waits, cores are idle
        (3, 0.5, 1e9, 1.5),  # while one waits the others compute
        (2, 0.0, 2.0, 4.0),  # 2 x 4 MB through 2 MB/s
    ],
)
def test_what_bounds_a_machine(
    workers: int, latency: float, mb_per_s: float, seconds: float
) -> None:
    cluster = Cluster(cores=2, workers=workers, mb_per_s=mb_per_s)
    clip = Work(1, 1, 1.0, latency_s=latency, clip_mb=4.0 if mb_per_s == 2.0 else 0.0)
    assert clip_seconds(cluster, clip) == pytest.approx(seconds)


@pytest.mark.parametrize("seed", range(5))
def test_each_id_once_whatever_dies(seed: int) -> None:
    cluster = replace(
        CLUSTER, mtbf_h=0.5, driver_mtbf_h=0.3, driver_restart_s=60, slow_share=0.3, slow_times=2
    )
    out = simulate(cluster, WORK, seed)
    assert out.machine_deaths > 3 and out.driver_deaths > 0 and out.lost > 20
    assert out.begun == WORK.blocks + out.lost
    assert (out.written, out.rows) == ((1, 1), WORK.clips)
    assert simulate(cluster, WORK, seed) == out


def test_time_falls_with_machines_and_grows_with_what_is_slow() -> None:
    hours = [simulate(replace(CLUSTER, machines=n), WORK).seconds for n in (5, 10, 20, 40)]
    assert all(0.45 < b / a < 0.6 for a, b in pairwise(hours))
    slow = replace(CLUSTER, slow_share=0.5, slow_times=2)
    assert simulate(slow, WORK).seconds > 1.2 * simulate(CLUSTER, WORK).seconds


def test_lost_work_grows_with_blocks_and_with_failures() -> None:
    def lost(block: int, mtbf_h: float) -> float:
        cluster = replace(CLUSTER, mtbf_h=mtbf_h)
        outs = [simulate(cluster, replace(WORK, block_size=block), s) for s in range(10)]
        return sum(out.lost_s for out in outs)

    by_size = [lost(size, 1.0) for size in (10, 100, 500)]
    by_rate = [lost(100, mtbf_h) for mtbf_h in (20.0, 2.0, 0.5)]
    assert by_size == sorted(by_size) and by_size[2] > 10 * by_size[0]
    assert by_rate == sorted(by_rate) and by_rate[2] > 5 * by_rate[0] > 0


def test_a_run_that_would_never_end() -> None:
    with pytest.raises(ValueError, match="take smaller ones"):
        simulate(Cluster(mtbf_h=0.1), Work(100_000, 50_000, 1.0))


def test_a_part_of_the_machines_takes_as_long() -> None:
    cluster = replace(CLUSTER, machines=100, slow_share=0.1, slow_times=1.5)
    work = Work(2_500_000, 1, 1.0, dispatch_s=1e-3)
    few, part, parts = thinned(cluster, work)
    assert (parts, few.machines, part.clips, part.dispatch_s) == (5, 20, 500_000, 5e-3)
    smaller = replace(work, clips=200_000)
    whole = simulate(cluster, smaller).seconds
    fifth = simulate(few, replace(part, clips=40_000)).seconds
    assert fifth == pytest.approx(whole, rel=0.01)


def test_the_measured_cases() -> None:
    """Those that the simulation gives, by name; the others are told to be no such."""
    found = cases(read(), {})
    missed = {c["case"] for c in found if not c["reproduced"]}
    assert missed == {
        "reading, H.264, 10 s, packed: in a loader's process",
        "training: 5 processes on 2 cores",
        "tsn_resnet50, openvino, bf16: by its MACs",
    }
    assert len(found) == 16
    assert case("a", "s", 10.0, 8.0)["reproduced"] is False


def test_the_kills_of_bulk_lose_no_id() -> None:
    for row in kills(read(), 4.0):
        assert row["ids_once_measured"] and row["ids_once_simulated"]
        assert 0 < row["clips_again_simulated"] <= row["clips_again_at_most"]


def test_what_is_read_is_what_the_files_say(tmp_path: Path) -> None:
    measured = read()
    assert measured.networks["gtdnet_resnet50, openvino, bf16"] == 154.9
    assert measured.reading[H264]["test"]["item"] == 77.85
    assert measured.reading[PACKED[H264]]["train"]["loader"] == 4.51
    with pytest.raises(InputError, match=r"speed_engines\.yaml is missing"):
        read(tmp_path)


def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "scale.yaml"
    words = "--clips 2000000 --machines 4 --seeds 1 --price_per_core_hour 0.5 --output"
    assert scale.main([*words.split(), str(output)]) == 0
    assert "NOT REPRODUCED" in capsys.readouterr().out
    found: dict[str, Any] = yaml.safe_load(output.read_text(encoding="utf-8"))
    assert all(row["each_id_once"] for row in found["runs"])
    row = next(r for r in found["clip"] if r["network"] == "gtdnet_resnet50, openvino, bf16")
    hours = (154.9 + 77.85) / 3600 * 1000
    assert row[H264]["core_hours_a_million"] == pytest.approx(hours, rel=1e-3)
    assert row[H264]["price_a_million"] == pytest.approx(hours / 2, rel=1e-3)
    assert "--clips 2000000" in found["command"]


def test_bad_values_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--mtbf_h", "0"]) == 2
    assert capsys.readouterr().err == "benchmarks/scale.py: mtbf_h must be positive, got 0.0\n"


def test_the_page_says_what_was_simulated() -> None:
    root = Path(__file__).resolve().parents[1]
    found = yaml.safe_load((root / "benchmarks/results/scale.yaml").read_text(encoding="utf-8"))
    runs = {row["run"]: row for row in found["runs"]}
    said = (root / "docs" / "scale.md").read_text(encoding="utf-8")
    for label, name in (("**OpenVINO, bf16**", "as assumed"), ("PyTorch, fp32", "eager, fp32")):
        row = runs[name]
        hours, paid = (f"{row[key]:.3g}" for key in ("hours", "core_hours_a_million"))
        assert f"| {label} | {hours} | {paid} |" in said
    assert all(row["each_id_once"] for row in runs.values())
    for row in found["cases"]:
        assert f"| {row['case']} |" in said
    assert said.count("**not reproduced**") == sum(not row["reproduced"] for row in found["cases"])
    assert {row["name"] for row in found["assumed"]} == {f.name for f in fields(Assumptions)}
