"""The memory of a process that does one thing alone, measured by running such a process.

In a process that takes turns between several models nobody can tell whose memory is whose. So this
module is also a program: it reads from stdin which function to call, calls it, and prints as JSON
what that returns.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def alone(function: str, arguments: Mapping[str, Any]) -> Any:
    """What ``function(**arguments)`` returns in a process of its own.

    Args:
        function: "module:name"; returns something JSON-ready.
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
    return json.loads(done.stdout.splitlines()[-1])


def resident_mib(make: Callable[[], Callable[[], object]]) -> dict[str, int]:
    """Resident memory of this process: now, and the most while it calls what ``make`` makes.

    Everything that is imported for it should be by now; JSON-ready.
    """
    start = _resident("VmRSS")
    call = make()
    for _ in range(2):  # pack weights
        call()
    # Making and converting may take more than computing does.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        call()
    return {"process_start_mib": round(start), "process_peak_mib": round(_resident("VmHWM"))}


def taken_mib(memory: Mapping[str, Any]) -> int | None:
    """Of what was measured: what a case itself takes; None where nothing was."""
    if "gpu_peak_mib" in memory:
        return memory["gpu_peak_mib"]
    if memory.get("process_peak_mib") is not None:
        return memory["process_peak_mib"] - memory["process_start_mib"]
    return None


def _main() -> None:
    request = json.loads(sys.stdin.read())
    module, _, name = request["function"].partition(":")
    found = getattr(importlib.import_module(module), name)(**request["arguments"])
    print(json.dumps(found))


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
