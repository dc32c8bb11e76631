"""Threads: free cores, quotas and what the user has set; idle ones sleep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gtdnet import threads
from gtdnet.errors import InputError
from gtdnet.threads import CoreWatch, Threads, choose_threads, whole_cores
from gtdnet.workers import cpu_quota, num_cores

# ------------------------------------------------------------------------------------- the number


class Busy(CoreWatch):
    """As if others had kept so many cores busy."""

    def __init__(self, cores: float | None) -> None:
        self.cores = cores

    def busy(self) -> float | None:
        return self.cores


@pytest.mark.parametrize(
    ("allowed", "whole", "quota", "busy", "processes", "expected"),
    [
        (2, 2, None, 0.0, 1, "2 threads (2 cores, all free)"),
        (2, 2, None, 0.09, 1, "2 threads (2 cores, all free)"),
        (2, 2, None, 0.4, 1, "2 threads (2 cores, others keep 0.4 busy)"),
        (2, 2, None, 1.0, 1, "1 thread (2 cores, others keep 1.0 busy)"),
        (2, 2, None, 7.0, 1, "1 thread (2 cores, others keep 2.0 busy)"),
        (1, 1, None, 0.0, 1, "1 thread (1 core, all free)"),
        (2, 2, None, None, 1, "2 threads (2 cores)"),  # nobody knows
        (64, 32, None, 0.0, 1, "32 threads (32 cores, all free)"),  # two hardware threads each
        (64, 32, None, 48.0, 1, "16 threads (32 cores, others keep 48.0 busy)"),
        (64, 32, 4.0, 0.0, 1, "4 threads (32 cores, a quota of 4, all free)"),
        (64, 32, 2.5, 63.0, 1, "1 thread (32 cores, a quota of 2.5, others keep 63.0 busy)"),
        (64, 64, 0.5, 0.0, 1, "1 thread (64 cores, a quota of 0.5, all free)"),
        (2, 2, 4.0, 0.0, 1, "2 threads (2 cores, all free)"),  # a quota above what is there
        (16, 16, None, 0.0, 4, "4 threads (16 cores, all free, 4 processes)"),
        (2, 2, None, 0.0, 4, "1 thread (2 cores, all free, 4 processes)"),
    ],
)
def test_threads_are_as_many_as_free_cores(
    allowed: int,
    whole: int,
    quota: float | None,
    busy: float | None,
    processes: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "allowed_cores", lambda: set(range(allowed)))
    monkeypatch.setattr(threads, "whole_cores", lambda: whole)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert str(choose_threads(None, Busy(busy), processes, {})) == expected


@pytest.mark.parametrize(
    ("asked", "set_by_user", "expected"),
    [
        (1, "7", Threads(1, "--threads")),
        (None, "7", Threads(7, "OMP_NUM_THREADS=7")),
        (None, "4,2", Threads(4, "OMP_NUM_THREADS=4,2")),
    ],
)
def test_what_the_user_says_counts(asked: int | None, set_by_user: str, expected: Threads) -> None:
    environment = {"OMP_NUM_THREADS": set_by_user}
    assert choose_threads(asked, Busy(0.0), 1, environment) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [(0, "threads must be at least 1, got 0"), (10**6, "--threads 1000000: this machine has ")],
)
def test_numbers_that_cannot_be(asked: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_threads(asked, Busy(0.0))


def test_another_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            busy = CoreWatch().busy()
        finally:
            other.kill()
    if not Path("/proc/stat").exists():
        pytest.skip("no /proc/stat")
    assert busy is not None
    assert busy > 0.3


def test_own_work_is_not_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "allowed_cores", lambda: {0, 2})
    monkeypatch.setattr(threads, "_LOOK_SECONDS", 0)
    monkeypatch.setattr("time.monotonic", iter([0.0, 0.0, 10.0]).__next__)
    monkeypatch.setattr("time.process_time", iter([1.0, 4.0]).__next__)
    hertz = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"

    def spend(user: int, idle: int, steal: int) -> None:
        row = f"{user * hertz} 0 0 {idle * hertz} 0 0 0 {steal * hertz} 0 0"
        stat.write_text(f"cpu  9 9 9\ncpu0 {row}\ncpu1 1{row}\ncpu2 {row}\nintr 1 2\n")

    spend(100, 500, 0)
    watch = CoreWatch(stat)
    spend(103, 505, 2)  # on each of two cores 5 seconds of 10, of which 3 together were ours
    assert watch.busy() == pytest.approx(0.7)


def test_without_proc_the_load_average_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LOOK_SECONDS", 0)
    monkeypatch.setattr("os.getloadavg", lambda: (1.25, 0.0, 0.0))
    assert CoreWatch("/no/such/file").busy() == 1.25
    monkeypatch.delattr("os.getloadavg")
    assert CoreWatch("/no/such/file").busy() is None


def test_hardware_threads_of_one_core_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "allowed_cores", lambda: {0, 1, 2})
    assert whole_cores(tmp_path) == 3  # nothing there: another system
    for core, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert whole_cores(tmp_path) == 2


# ------------------------------------------------------------------------------------------ quota

V1 = {"cpu.cfs_quota_us": "{0}", "cpu.cfs_period_us": "{1}"}
V2 = {"cpu.max": "{0} {1}"}


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/", {"": "max 100000"}, None),
        ("0::/", {"": "150000 100000"}, 1.5),
        ("0::/a/b", {"a": "200000 100000", "a/b": "max 100000"}, 2.0),  # of a group above
        ("0::/a/b", {"a": "400000 100000", "a/b": "300000 100000"}, 3.0),
        ("0::/host/only", {"": "50000 100000"}, 0.5),  # the path is the host's
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a": "-1 100000"}, None),
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a": "250000 100000"}, 2.5),
        ("1:cpu:/docker/x\n0::/", {"cpu": "50000 50000"}, 1.0),
        ("3:cpuset:/a\n2:memory:/a", {"cpuset/a": "1 1"}, None),
        ("0::/", {}, None),
        ("0::/", {"": "nonsense"}, None),
        ("", {}, None),
    ],
)
def test_quotas(cgroup: str, files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"{cgroup}\n")
    for group, limit in files.items():
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        if cgroup.startswith("0"):
            (folder / "cpu.max").write_text(f"{limit}\n")
        else:
            quota, period = limit.split()
            (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    assert cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (2.5, 3), (0.5, 1), (20.0, 8)])
def test_workers_are_no_more_than_a_quota_covers(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("gtdnet.workers.cpu_quota", lambda: quota)
    assert num_cores() == expected


# ------------------------------------------------------------------------------- the command line

PROGRAM = """
import os, sys
from gtdnet import cli
from gtdnet.commands import show
import gtdnet.commands.show as command
def run(args):
    import torch
    from gtdnet.threads import say_threads
    say_threads(print)
    say_threads(print)  # once
    return 0, None, f"{torch.get_num_threads()} {os.environ.get('OMP_WAIT_POLICY')}"
command.run = run
sys.exit(cli.main(["show", "model", "video", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ("", {"OMP_NUM_THREADS": "1"}, ["1 thread (OMP_NUM_THREADS=1)", "1 passive"]),
        ("--threads 1", {}, ["1 thread (--threads)", "1 passive"]),
        (
            "--threads=1",
            {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "active"},
            ["1 thread (--threads)", "1 active"],
        ),
        (
            "",
            {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "9"},
            ["1 thread (OMP_NUM_THREADS=1)", "1 None"],
        ),
    ],
)
def test_pytorch_gets_them(words: str, environment: dict[str, str], expected: list[str]) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()],
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


def test_importing_gtdnet_sets_nothing() -> None:
    program = (
        "import os; before = dict(os.environ); import gtdnet.infer; print(before == os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
