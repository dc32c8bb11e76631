"""The machine that something is measured on: what it is, what else it does, what it could do."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from gtdnet.measure.timing import rounded, turns_of
from gtdnet.workers import num_cores

_FLAGS = (  # instructions that decide how fast products of matrices are
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "amx_fp16", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory, system, and the GPU if that is the device; JSON-ready."""
    info = _read("/proc/cpuinfo")
    name = _field(info, "model name") or platform.processor() or platform.machine()
    present = set((_field(info, "flags") or _field(info, "Features") or "").split())
    machine: dict[str, Any] = {
        "processor": name,
        "cores": num_cores(),
        "flags": " ".join(flag for flag in _FLAGS if flag in present),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine["gpu"] = properties.name
        machine["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        machine["cuda"] = torch.version.cuda
    return machine


class LoadWatch:
    """What other processes do on the machine from now on.

    Attributes:
        child_cpu: CPU seconds of this process's own children; add to it what is known of them.
    """

    def __init__(self) -> None:
        self.child_cpu = 0.0
        self._average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._start = _spent()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready.

        ``load_average``: of the minute before. ``seconds``: how long was watched.
        ``cores_used_by_others``: mean number of cores that other processes kept busy meanwhile;
        null where the system does not tell (Linux does).
        """
        (wall, own, start), (wall_end, own_end, end) = self._start, _spent()
        others = None
        if start is not None and end is not None and wall_end > wall:
            work = end - start - (own_end - own) - self.child_cpu
            others = max(0.0, work / (wall_end - wall))
        return {
            "load_average": rounded(self._average, 3),
            "seconds": rounded(wall_end - wall),
            "cores_used_by_others": rounded(others, 3),
        }


def describe_load(load: dict[str, Any], cores: int) -> str:
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


def measured_peak(
    precision: str, device: torch.device, clock: str, size: int | None = None, repeats: int = 5
) -> float | None:
    """GFLOP/s of the fastest of some products of two square matrices, by the clock.

    On a CPU also of 3x3 convolutions: which of the two is faster depends on the libraries behind
    them. (On a GPU a convolution may be computed with less arithmetic than it counts.) With as many
    threads as PyTorch has now. None where PyTorch has no such product, or int8 ones no faster than
    fp32's. Other than in :func:`gtdnet.measure.timing.ratio` it is the best, not the median: it
    stands for what the processor can do.
    """
    size = size or (8192 if device.type == "cuda" else 2048)
    works = []
    if precision == "int8":
        # Without instructions for it PyTorch falls back on a loop that takes minutes at full size.
        try:
            small = (_product(p, device, size // 8) for p in ("int8", "fp32"))
            int8, fp32 = (_rate(work, device, clock, 3) for work in small)
        except (RuntimeError, AttributeError):
            return None
        if int8 < fp32:
            return None
    elif device.type == "cpu":
        works.append(_convolution(precision, size // 8))
    works.append(_product(precision, device, size))
    return max(_rate(work, device, clock, repeats) for work in works)


class _Work(NamedTuple):
    """Something to compute, and how many floating point operations that is."""

    call: Callable[[], torch.Tensor]
    flops: int


def _product(precision: str, device: torch.device, size: int) -> _Work:
    if precision == "int8":
        a, b = (torch.randint(-9, 9, (size, size), device=device).to(torch.int8) for _ in range(2))
        multiply = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]
    else:
        a, b = (torch.randn(size, size, device=device).to(_DTYPES[precision]) for _ in range(2))
        multiply = torch.mm
    return _Work(lambda: multiply(a, b), 2 * size**3)


def _convolution(precision: str, channels: int, images: int = 8, side: int = 56) -> _Work:
    layout = {"dtype": _DTYPES[precision], "memory_format": torch.channels_last}
    x = torch.randn(images, channels, side, side).to(**layout)
    weight = torch.randn(channels, channels, 3, 3).to(**layout)
    flops = 2 * images * side**2 * 9 * channels**2
    return _Work(lambda: F.conv2d(x, weight, padding=1), flops)


@torch.inference_mode()
def _rate(work: _Work, device: torch.device, clock: str, repeats: int) -> float:
    """GFLOP/s of the fastest of several turns."""
    tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32  # as convolutions
        turn = turns_of(work.call, device)
        best = min(turn().seconds(clock) for _ in range(repeats))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return work.flops / max(best, 1e-9) / 1e9


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


def _field(text: str, name: str) -> str:
    """The value of the first "name : value" line; empty if there is none."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return ""


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
