"""benchmarks/load.py: what it looks at, and how it reads an answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("load")


def test_processes_and_their_memory(script: ModuleType) -> None:
    program = "import time; held = b'1' * (100 << 20); print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"1\n"
        assert set(script.family(os.getpid())) >= {os.getpid(), child.pid}
        assert 100 < script.memory([child.pid]) < 140
    finally:
        child.kill()
        child.wait()
    assert child.pid not in script.family(os.getpid())
    assert script.memory([child.pid]) == 0


def test_files_without_names_are_seen(script: ModuleType, tmp_path: Path) -> None:
    before, nothing = script.open_files(os.getpid(), tmp_path)
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(b"0" * 2_000_000)
        file.flush()
        number, megabytes = script.open_files(os.getpid(), tmp_path)
    assert (nothing, number) == (0, before + 1)
    assert megabytes == pytest.approx(2, abs=0.1)


def test_an_answer_is_read_to_its_end(script: ModuleType) -> None:
    head = b"HTTP/1.1 413 X\r\nContent-Length: 4\r\n\r\n"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(head + b"{}")
        answer = script.Load._read(ours, b"")
        assert answer == head + b"{}"
        theirs.sendall(b"  ")
        answer += script.Load._read(ours, answer)
        assert script.Load._read(ours, answer) is None
        theirs.close()
        with pytest.raises(ConnectionError, match="it ended after 3 bytes"):
            script.Load._read(ours, b"HTT")
