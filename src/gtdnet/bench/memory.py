"""The memory of a process that does one thing alone, measured by running such a process.

In a process that takes turns between several models nobody can tell whose memory is whose. So this
module is also a program: it reads from stdin which function makes the call, makes it, calls it, and
prints how much memory the process had.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class ProcessMemory(NamedTuple):
    """Resident memory in MiB: once everything is imported, and the most during later calls."""

    start: float
    peak: float


def process_memory(function: str, arguments: Mapping[str, Any]) -> ProcessMemory:
    """Memory of a new process that calls what ``function(**arguments)`` returns.

    Args:
        function: "module:name".
        arguments: JSON-ready.

    Raises:
        RuntimeError: the process failed; the message is the last line that it printed.
    """
    request = json.dumps({"function": function, "arguments": dict(arguments)})
    done = subprocess.run(
        [sys.executable, "-m", "gtdnet.bench.memory"],
        input=request,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1])
    return ProcessMemory(*json.loads(done.stdout.splitlines()[-1]))


def process_mib(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`process_memory`, JSON-ready; where the process fails, why."""
    try:
        memory = process_memory(function, arguments)
    except RuntimeError as error:
        return {"process_failed": str(error)}
    return {"process_start_mib": round(memory.start), "process_peak_mib": round(memory.peak)}


def taken_mib(memory: Mapping[str, Any]) -> int | None:
    """Of what was measured: what a case itself takes; None where nothing was."""
    if "gpu_peak_mib" in memory:
        return memory["gpu_peak_mib"]
    if "process_peak_mib" in memory:
        return memory["process_peak_mib"] - memory["process_start_mib"]
    return None


def _main() -> None:
    request = json.loads(sys.stdin.read())
    module, _, name = request["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    start = _resident("VmRSS")
    call = function(**request["arguments"])
    for _ in range(2):  # compile, pack weights
        call()
    # Compiling and converting may take more than computing does.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        call()
    print(json.dumps([start, _resident("VmHWM")]))


def _resident(field: str) -> float:
    """MiB by a line of /proc/self/status; where there is none, the most since the start."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 2**10


if __name__ == "__main__":
    _main()
