"""Memory that was freed is taken again; new processes know what this one does, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gtdnet import workers
from gtdnet.measure import memory

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)

PROGRAM = """
import resource
import numpy as np
from gtdnet.workers import keep_freed_memory
print(keep_freed_memory() if {keep} else None)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(24 * 2**20, np.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
faults()  # glibc adapts to the sizes that it sees
print(first, faults())
"""


def run(keep: bool, **environment: str) -> tuple[str, int, int]:
    """What keep_freed_memory said, and the page faults of the first blocks and of later ones."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return out[0], int(out[1]), int(out[2])


@needs_glibc
def test_later_blocks_have_the_pages_of_the_first() -> None:
    # Pages are of 4 KiB, or of 2 MiB where the system joins them.
    said, first, later = run(True)
    assert said == "True"
    assert later < first / 4
    _, first, later = run(False)
    assert later > first / 2


@needs_glibc
def test_settings_of_the_users_own_stay() -> None:
    assert run(True, MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


@needs_glibc
def test_the_command_line_does_so() -> None:
    program = "import gtdnet.workers as a, gtdnet.cli as c; called = []\n"
    program += "c.keep_freed_memory = lambda: called.append(a.keep_freed_memory())\n"
    program += "assert c.main(['models']) == 0 and called == [True]"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


# ----------------------------------------------------------------------------- new processes


def test_new_processes_import_what_this_one_imported_for_what_it_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registers.py").write_text("import sys; sys.registered = __name__\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delattr(sys, "registered", raising=False)
    workers.import_registering("registers")
    told = "getattr(__import__('sys'), 'registered', None)"
    assert list(workers.map_in_processes(eval, [told] * 3, 2)) == ["registers"] * 3
    assert memory.alone(eval, told) == "registers"


def test_jobs_at_hand_have_some_seconds_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SECONDS_AT_HAND", 0.2)
    before = set(multiprocessing.active_children())
    results = workers.map_in_processes(time.sleep, [0, *[600] * 5], 2)
    assert next(results) is None
    began = time.monotonic()
    results.close()
    while set(multiprocessing.active_children()) - before:  # a thread may be at collecting them
        assert time.monotonic() - began < 10
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_are_starting_leave_signals_to_their_parent(number: int) -> None:
    """What comes to the whole group: they neither end nor say anything."""
    program = """
import signal
from gtdnet.workers import map_in_processes

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    print("ready", flush=True)
    assert list(map_in_processes(eval, ["1 + 1"] * 8, 2)) == [2] * 8
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # it ends
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:
            os.killpg(process.pid, number)
            time.sleep(0.02)
        assert (process.returncode, process.communicate()[1]) == (0, "")
