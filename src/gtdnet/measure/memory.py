"""The memory of a process that does one thing alone, measured by running such a process.

In a process that takes turns between several models nobody can tell whose memory is whose.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gtdnet.workers import keep_freed_memory, new_processes, obey_parent

T = TypeVar("T")


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """What a function of a module returns, or raises, in a new process of its own."""
    with new_processes(1, _prepare) as submit:
        return submit(function, *arguments).result()


def _prepare() -> None:
    """As the command does it; and what libraries say there is not for this terminal."""
    obey_parent()
    keep_freed_memory()
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def resident_mib(make: Callable[[], Callable[[], object]]) -> dict[str, int]:
    """Resident memory of this process: now, and the most while it calls what ``make`` makes.

    Everything that is imported for it should be by now; JSON-ready.
    """
    start = process_mib("VmRSS")
    call = make()
    for _ in range(2):  # pack weights
        call()
    # Making and converting may take more than computing does.
    reset_peak()
    for _ in range(2):
        call()
    return {"process_start_mib": round(start), "process_peak_mib": round(process_mib("VmHWM"))}


def reset_peak() -> None:
    """Let VmHWM be the most from now on, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def taken_mib(memory: Mapping[str, Any]) -> int | None:
    """Of what was measured: what a case itself takes; None where nothing was."""
    if memory.get("process_peak_mib") is not None:
        return memory["process_peak_mib"] - memory["process_start_mib"]
    return memory.get("gpu_peak_mib")


def process_mib(field: str = "VmRSS") -> float:
    """MiB of this process by a line of /proc/self/status: VmRSS is what is resident, VmHWM the most
    that was; where there is no such file, the most since the start."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition(f"\n{field}:")[2].split()[0]) / 2**10
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
