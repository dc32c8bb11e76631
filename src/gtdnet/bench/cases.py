"""What the benches of models and of training steps have in common."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from gtdnet.bench.machine import LoadWatch
from gtdnet.bench.memory import process_mib, taken_mib
from gtdnet.bench.options import MeasureOptions
from gtdnet.bench.timing import Turn, interleave, narrow, rounded, turns_of, waited
from gtdnet.errors import InputError
from gtdnet.progress import progress_bar, progress_counter


class Case(Hashable, Protocol):
    """One thing in one setting."""

    @property
    def threads(self) -> int: ...

    def to_dict(self) -> dict[str, Any]:
        """For people; JSON-ready."""
        ...


C = TypeVar("C", bound=Case)


@dataclass
class Run:
    """A case that is ready and warmed up, and what was found out about it on the way."""

    turn: Callable[[], Turn]
    memory: dict[str, Any]
    operators: list[dict[str, Any]] = field(default_factory=list)


def make_all(
    planned: Sequence[C],
    make: Callable[[C, Mapping[C, Run]], tuple[C, Run] | None],
    deadline: float | None,
) -> tuple[dict[C, Run], list[dict[str, Any]]]:
    """The cases that can be run here, and those that cannot with the reason.

    Args:
        planned: in this order.
        make: of a case and those that are there already: the case as it turned out, and its run;
            None where it is one of those. What it raises is the reason.
        deadline: as of ``time.monotonic()``: later than that nothing more is made.

    Raises:
        ValueError: there is none that can be run.
    """
    made: dict[C, Run] = {}
    left_out: list[dict[str, Any]] = []
    with progress_bar("preparing", len(planned)) as advance:
        for case in planned:
            reason = None
            if deadline is not None and time.monotonic() > deadline:
                reason = "no time was left"
            else:
                try:
                    found = make(case, made)
                    made |= dict([found]) if found else {}
                except InputError as error:
                    reason = _one_line(error)
                except Exception as error:  # one that fails must not take the others with it
                    reason = f"failed: {type(error).__name__}: {_one_line(error)}"
            if reason is not None:
                left_out.append({**case.to_dict(), "reason": reason})
            advance(1)
    if not made:
        raise InputError(f"nothing can be timed here: {left_out[0]['reason']}")
    return made, left_out


def ready(
    call: Callable[[], object],
    counted: int,
    threads: int,
    device: torch.device,
    gpu_before: int,
    profile: int,
    replayed: bool = False,
) -> Run:
    """Warm a call up and look at its memory and, for that many rows, at its operators.

    Args:
        call: what is timed.
        counted: bytes of its activations, from the architecture.
        threads: PyTorch's.
        device: where it computes.
        gpu_before: of :func:`gpu_bytes`, before the call was made.
        profile: rows of operators; 0: none.
        replayed: the call replays a CUDA graph, whose memory was counted when it was recorded.
    """
    turn = turns_of(call, device, threads)
    memory = {"activations_mib": round(counted / 2**20)}
    if device.type == "cuda":
        if not replayed:  # what making it took at times is not what it takes
            torch.cuda.reset_peak_memory_stats(device)
            call()
        peak = torch.cuda.max_memory_allocated(device)
        memory["gpu_peak_mib"] = round((peak - gpu_before) / 2**20)
    return Run(turn, memory, top_operators(call, device, profile) if profile else [])


def gpu_bytes(device: torch.device) -> int:
    """What is allocated on a GPU now, and the most from now on counts; 0 for another device."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


@dataclass(frozen=True)
class Measured:
    """Rounds of all cases, and what else the machine did meanwhile."""

    rounds: list[dict[Any, Turn]]
    load: dict[str, Any]


def measure(
    made: Mapping[C, Run],
    pairs: Iterable[tuple[C, C]],
    options: MeasureOptions,
    device: torch.device,
    clock: str,
) -> Measured:
    """Take turns until the ratios of the pairs are known well enough or the time is spent."""
    known = [(case, base) for case, base in pairs if case in made and base in made]
    enough = narrow([(a, b) for a, b in known if a != b], clock, options.tolerance)
    turns = {case: run.turn for case, run in made.items()}
    with progress_counter("measuring (seconds)") as progress, LoadWatch() as watch:
        rounds = interleave(turns, options.seconds, enough, progress=progress)
    single = [case for case in made if case.threads == 1 and device.type == "cpu"]
    return Measured(rounds, watch.to_dict(waited(rounds, single)))


def add_process_memory(
    made: Mapping[C, Run], function: str, arguments: Callable[[C], Mapping[str, Any]]
) -> None:
    """Measure each case's memory in a process of its own, which calls ``function(**arguments)``."""
    with progress_bar("memory", len(made)) as advance:
        for case, run in made.items():
            run.memory |= process_mib(function, arguments(case))
            advance(1)


def memory_ratio(made: Mapping[C, Run], case: C, base: C) -> float | None:
    """What a case takes of memory as a multiple of what another one takes, both as measured."""
    if base not in made:
        return None
    own, other = taken_mib(made[case].memory), taken_mib(made[base].memory)
    return rounded(own / other) if own and other else None


def top_operators(call: Callable[[], Any], device: torch.device, rows: int) -> list[dict[str, Any]]:
    """The operators with the most time of their own in three calls, by PyTorch's profiler.

    Each with its name, times called, ms and share of the time of all, per call; JSON-ready. Time is
    the GPU's if that is the device.
    """
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells stderr when it starts
    on_gpu = device.type == "cuda"
    calls = 3
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        for _ in range(calls):
            call()
        if on_gpu:
            torch.cuda.synchronize(device)
    kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = [e for e in found.key_averages() if getattr(e, kind) > 0]
    total = sum(getattr(event, kind) for event in events)
    events.sort(key=lambda event: getattr(event, kind), reverse=True)
    return [
        {
            "name": event.key[:80],
            "calls": round(event.count / calls),
            "ms": float(f"{getattr(event, kind) / calls / 1e3:.4g}"),
            "share": float(f"{getattr(event, kind) / total:.3g}"),
        }
        for event in events[:rows]
    ]


@contextlib.contextmanager
def own_threads() -> Iterator[None]:
    """PyTorch's number of threads is afterwards what it was before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Within it PyTorch can be set for the cases; afterwards it is as before.

    Many networks of one class are compiled side by side, each for its own size of clips, where a
    usual process has one: torch.compile would stop compiling, or compile for sizes that vary.
    """
    import torch._dynamo  # takes seconds: not for those who only ask what can be done here

    benchmark = torch.backends.cudnn.benchmark
    compiling = {"recompile_limit": 256, "automatic_dynamic_shapes": False}
    try:
        with own_threads(), torch._dynamo.config.patch(compiling):
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
