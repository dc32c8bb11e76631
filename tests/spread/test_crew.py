"""What a process of a crew does before it has the model."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import multiprocessing, resource
import numpy as np
from gtdnet.spread.crew import _work

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(24 * 2**20, np.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def begin():
    first = faults()
    faults()  # glibc adapts to the sizes that it sees
    print(first, faults())
    raise EOFError  # as where nobody sends anything

_work(multiprocessing.Pipe()[1], None, begin, ".", 0)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_a_process_keeps_the_memory_that_it_frees(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    first, later = map(int, done.stdout.split())
    assert later < first / 4
