"""Memory that was freed is taken again, not asked for anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
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


def test_later_blocks_have_the_pages_of_the_first() -> None:
    # Pages are of 4 KiB, or of 2 MiB where the system joins them.
    said, first, later = run(True)
    assert said == "True"
    assert later < first / 4
    _, first, later = run(False)
    assert later > first / 2


def test_settings_of_the_users_own_stay() -> None:
    assert run(True, MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


def test_the_command_line_does_so() -> None:
    program = "import gtdnet.workers as a, gtdnet.cli as c; called = []\n"
    program += "c.keep_freed_memory = lambda: called.append(a.keep_freed_memory())\n"
    program += "assert c.main(['models']) == 0 and called == [True]"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
