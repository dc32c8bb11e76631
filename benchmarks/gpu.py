"""Speed and memory on a CUDA device, in one command.

    python benchmarks/gpu.py                # everything that gtdnet bench can do on a GPU
    python benchmarks/gpu.py --quick        # in nine minutes: what is left out for time is said

GTDNet-ResNet-50 with 8 and 16 frames beside the plain network and TSM, in inference (batches of 1
and 64; eager, compiled, with CUDA graphs) and in training, all in turns and by CUDA events
(gtdnet.bench says how), and the kernels with the most time. After each part the results so far are
in benchmarks/results/gpu.yaml; benchmarks/results.py makes docs/results.md of them.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from peak import add_peaks

from gtdnet.bench.cases import Case, Made
from gtdnet.bench.models import ModelBenchOptions, ModelCase, bench_models
from gtdnet.bench.options import check_output
from gtdnet.bench.result import envelope, save
from gtdnet.bench.train import TrainBenchOptions, TrainCase, bench_train
from gtdnet.device import resolve_device
from gtdnet.errors import InputError
from gtdnet.text import say

RESULTS = Path(__file__).parent / "results" / "gpu.yaml"
QUICK_MINUTES = 9.0
_MAKING = 0.7  # share of the time after which nothing more is compiled: what runs must end too


@dataclass(frozen=True)
class Part:
    """One bench; ``share`` of the whole time may have passed when its last case is made."""

    title: str
    options: ModelBenchOptions | TrainBenchOptions
    share: float = 1.0


def parts(quick: bool, device: str = "cuda") -> list[Part]:
    """What is measured, the most important first."""
    common: dict[str, Any] = {"device": device, "memory": True, "tolerance": 0.005}
    common["seconds"] = 12.0 if quick else 60.0
    models = ["gtdnet_resnet50", "tsm_resnet50"]
    inference = ModelBenchOptions(
        models=models,
        precisions="bf16",
        engines="eager,compile" if quick else "eager,torch,compile,eager-graph,compile-graph",
        layouts="channels_last" if quick else "nchw,channels_last",
        reference="tsm_resnet50",
        **common,
    )
    training = TrainBenchOptions(
        models=models[:1] if quick else models,
        batch_sizes="32",
        settings="default,fp32-nchw,compile" if quick else "default,fp32,fp32-nchw,compile,plain",
        **common,
    )
    batched = replace(inference, batch_sizes="64")
    longer = replace(inference, num_segments="16")
    single = replace(inference, engines="eager,eager-graph,compile") if quick else inference
    plan = [
        Part("Inference, 8 frames, batch 64", replace(batched, profile=15), 0.3),
        Part("Training, 8 frames, batch 32", replace(training, profile=15), 0.7),
        Part("Inference, 8 frames, batch 1", single, 0.85),
        Part(
            "Inference, 16 frames, batch 64",
            replace(longer, models=training.models, batch_sizes="64", reference=None),
        ),
    ]
    if not quick:
        last = replace(training, num_segments="16", batch_sizes="16")
        plan.append(Part("Inference, 16 frames, batch 1", longer))
        plan.append(Part("Training, 16 frames, batch 16", last))
    return plan


def measure(
    plan: Sequence[Part], output: Path, command: str, minutes: float | None
) -> dict[str, Any]:
    """Run the parts one after the other; the file is written anew after each.

    What cannot be made in its share of the minutes is left out, and that is said in the results.
    """
    device = resolve_device(plan[0].options.device)
    check_output(str(output), overwrite=True)
    result = {**envelope("several", "On a GPU", command, device), "parts": [], "failed": {}}
    start = time.monotonic()
    for part in plan:
        deadline = None if minutes is None else start + _MAKING * 60 * minutes * part.share
        say(f"{part.title} ({(time.monotonic() - start) / 60:.1f} minutes so far)")
        try:
            with made_until(deadline):
                if isinstance(part.options, TrainBenchOptions):
                    found = bench_train(part.options)
                else:
                    found = bench_models(part.options)
                    add_peaks(found, device)
            result["parts"].append({**found, "title": part.title})
        except (InputError, RuntimeError) as error:
            result["failed"][part.title] = str(error)
        save(result, str(output))
        gc.collect()
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return result


@contextmanager
def made_until(deadline: float | None) -> Iterator[None]:
    """Within it no case is made later than that, as of ``time.monotonic()``; None: all are."""

    def in_time(make: Callable[..., Made]) -> Callable[..., Made]:
        def made(case: Case, device: torch.device, profiled: bool) -> Made:
            if deadline is not None and time.monotonic() > deadline:
                raise InputError("no time was left")
            return make(case, device, profiled)

        return made

    kinds = (ModelCase, TrainCase)
    models, steps = (patch.object(kind, "make", in_time(kind.make)) for kind in kinds)
    with models, steps:
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="YAML file; written anew")
    parser.add_argument("--quick", action="store_true", help="less of it, in nine minutes")
    parser.add_argument("--minutes", type=float, help="time to end in; default: 9 if --quick")
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(
            "benchmarks/gpu.py: PyTorch sees no CUDA device here; on a CPU use gtdnet bench",
            file=sys.stderr,
        )
        return 2
    minutes = QUICK_MINUTES if args.quick and args.minutes is None else args.minutes
    words = ["python benchmarks/gpu.py", *(["--quick"] if args.quick else [])]
    words += [f"--minutes {args.minutes:g}"] if args.minutes else []
    try:
        result = measure(parts(args.quick), args.output, " ".join(words), minutes)
    except InputError as error:
        print(f"benchmarks/gpu.py: {error}", file=sys.stderr)
        return 2
    for title, reason in result["failed"].items():
        print(f"{title}: {reason}", file=sys.stderr)
    print(f"{args.output}; next: python benchmarks/results.py")
    return 0 if result["parts"] else 1


if __name__ == "__main__":
    sys.exit(main())
