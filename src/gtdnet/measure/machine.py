"""The machine that something is measured on: what it is, and what else it does meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gtdnet.measure.timing import rounded
from gtdnet.workers import num_cores

_FLAGS = (  # instructions that decide how fast products of matrices are
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "amx_fp16", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory, system, and the GPU if that is the device; JSON-ready."""
    lines = (line.partition(":") for line in reversed(_read("/proc/cpuinfo").splitlines()))
    info = {key.strip(): value.strip() for key, _, value in lines}  # of the first processor
    present = (info.get("flags") or info.get("Features") or "").split()
    memory = None
    with suppress(AttributeError, ValueError, OSError):  # not every system tells
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine: dict[str, Any] = {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "cores": num_cores(),
        "flags": " ".join(flag for flag in _FLAGS if flag in present),
        "memory_gib": memory and round(memory / 2**30, 1),
        "system": platform.platform(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine["gpu"] = properties.name
        machine["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        machine["cuda"] = torch.version.cuda
    return machine


class LoadWatch:
    """What other processes do on the machine from now on."""

    def __init__(self) -> None:
        self.child_cpu = 0.0  # seconds of this process's own children: add what is known of them
        self._average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._start = _spent()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready.

        ``load_average``: of the minute before. ``seconds``: how long was watched.
        ``cores_used_by_others``: mean number of cores that other processes kept busy meanwhile;
        None where the system does not tell (Linux does).
        """
        (wall, own, every), (wall_end, own_end, every_end) = self._start, _spent()
        others = None
        if every is not None and every_end is not None and wall_end > wall:
            work = every_end - every - (own_end - own) - self.child_cpu
            others = max(0.0, work / (wall_end - wall))
        return {
            "load_average": rounded(self._average, 3),
            "seconds": rounded(wall_end - wall),
            "cores_used_by_others": rounded(others, 3),
        }


def describe_load(load: Mapping[str, Any], cores: int) -> str:
    """What :meth:`LoadWatch.to_dict` gave, in one line."""
    others, average = load["cores_used_by_others"], load["load_average"]
    facts = []
    if others is not None:
        kept = f"{others:.2f} of" if others <= cores else "more than all"  # of a container's host
        facts.append(f"other processes kept {kept} {cores} cores busy")
    if average is not None:
        facts.append(f"load average {average:.2f} before")
    if not facts:
        return "what else the machine did is unknown"
    busy = (average or 0.0) > 0.5 if others is None else others > 0.1
    verdict = "other load: wall times are too long" if busy else "quiet machine"
    return f"{verdict} ({', '.join(facts)})"


def _spent() -> tuple[float, float, float | None]:
    """Wall clock, CPU seconds of this process, and of all processes where the system tells."""
    words = _read("/proc/stat").partition("\n")[0].split()
    every = None
    if len(words) > 7:
        user, nice, system, _, _, interrupt, soft = map(int, words[1:8])
        every = (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), time.process_time(), every


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
