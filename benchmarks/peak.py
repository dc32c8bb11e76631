"""What the processor does at most, and which share of that the cases of a bench of models reach.

    gtdnet bench gtdnet_resnet50 --engines openvino --threads 1 --output speed.yaml
    python benchmarks/peak.py speed.yaml      # adds peak_gflops and share_of_peak to the file

The most is that of products of two large matrices and, on a CPU, of 3x3 convolutions, in the
precision of each case, by the clock of the file and with as many threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import yaml

from gtdnet.bench.cases import own_settings
from gtdnet.bench.result import save, text
from gtdnet.device import DTYPES
from gtdnet.measure.timing import rounded, turns_of


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


def add_peaks(result: dict[str, Any], device: torch.device) -> None:
    """Add to a result of a bench of models what its GFLOP/s are a share of, measured now."""
    peaks: dict[tuple[str, int], float | None] = {}
    with own_settings():
        for case in result["cases"]:
            key = case["precision"], case["threads"]
            if key not in peaks:
                torch.set_num_threads(case["threads"])
                peaks[key] = measured_peak(case["precision"], device, result["clock"])
            peak = peaks[key]
            case["share_of_peak"] = rounded(case["gflops"] / peak, 3) if peak else None
    result["peak_gflops"] = [
        {"precision": precision, "threads": threads, "gflops": rounded(peak)}
        for (precision, threads), peak in peaks.items()
    ]


class _Work(NamedTuple):
    """Something to compute, and how many floating point operations that is."""

    call: Callable[[], torch.Tensor]
    flops: int


def _product(precision: str, device: torch.device, size: int) -> _Work:
    if precision == "int8":
        a, b = (torch.randint(-9, 9, (size, size), device=device).to(torch.int8) for _ in range(2))
        multiply = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]
    else:
        a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
        multiply = torch.mm
    return _Work(lambda: multiply(a, b), 2 * size**3)


def _convolution(precision: str, channels: int, images: int = 8, side: int = 56) -> _Work:
    layout = {"dtype": DTYPES[precision], "memory_format": torch.channels_last}
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="what gtdnet bench wrote; is written anew")
    path = parser.parse_args(arguments).file
    try:
        result = yaml.safe_load(path.read_text(encoding="utf-8"))
        if result["bench"] != "models":
            raise KeyError("bench")
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        print(f"{path}: is no result of gtdnet bench; give its --output", file=sys.stderr)
        return 2
    on_gpu = "gpu" in result["machine"]
    if on_gpu and not torch.cuda.is_available():
        print(f"{path}: was measured on a GPU, and there is none here", file=sys.stderr)
        return 2
    add_peaks(result, torch.device("cuda" if on_gpu else "cpu"))
    save(result, str(path))
    print(text(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
