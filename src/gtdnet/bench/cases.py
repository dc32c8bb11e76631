"""One bench for models and for training steps: cases are made, take turns, and are told."""

from __future__ import annotations

import contextlib
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from gtdnet.bench.networks import Network, find_networks, own_size
from gtdnet.bench.options import Choice, MeasureOptions, check_sizes, numbers
from gtdnet.bench.profile import CALLS, Profiler, kinds, operators, quiet_mean
from gtdnet.bench.result import envelope
from gtdnet.device import resolve_device
from gtdnet.engines import Node
from gtdnet.errors import InputError
from gtdnet.measure.machine import LoadWatch
from gtdnet.measure.memory import alone, resident_mib, taken_mib
from gtdnet.measure.provenance import command
from gtdnet.measure.timing import (
    Turn,
    compared,
    interleave,
    narrow,
    resolve_clock,
    rounded,
    times,
    turns_of,
)
from gtdnet.text import one_line, progress_bar, progress_counter

C = TypeVar("C", bound="Case")


@dataclass(frozen=True)
class Case(ABC):
    """One network in one setting, which subclasses add to."""

    network: Network
    batch_size: int
    threads: int
    num_segments: int
    crop_size: int

    def floor(self: C) -> C:
        """The plain network in the same setting."""
        return replace(self, network=self.network.floor())

    def to_dict(self) -> dict[str, Any]:
        """The network by its label, and the setting; for people, JSON-ready."""
        setting = {key: value for key, value in vars(self).items() if key != "network"}
        return {"model": str(self.network), **setting}

    @abstractmethod
    def make(self: C, device: torch.device, profiled: bool) -> Made[C]:
        """The case, ready to be called; with a profiler if that is wanted.

        Raises:
            ValueError: it cannot be run here.
        """

    @abstractmethod
    def activations(self) -> int:
        """Bytes of a clip's activations, counted from the architecture."""

    @property
    @abstractmethod
    def compiled(self) -> bool:
        """Whether a compiler works in the process, whose memory cannot be told apart."""

    def resident_mib(self) -> dict[str, int] | None:
        """:func:`gtdnet.measure.memory.resident_mib` of it alone on the CPU; None if compiled."""
        return None if self.compiled else alone(_resident_mib, self)


def _resident_mib(case: Case) -> dict[str, int]:
    return resident_mib(lambda: case.make(torch.device("cpu"), profiled=False).call)


@dataclass(frozen=True)
class Made(Generic[C]):
    """A case that can be called.

    Attributes:
        case: as it turned out, without "auto".
        call: what is timed.
        profiler: None: it is not profiled.
        replayed: a call replays a CUDA graph, whose memory was taken when it was recorded.
    """

    case: C
    call: Callable[[], object]
    profiler: Profiler | None = None
    replayed: bool = False


def asked(
    choice: Choice, threads: Sequence[int]
) -> tuple[list[Network], list[tuple[int, int, int, int]]]:
    """Networks, and for each of them batch, threads, frames and side of the clips.

    Raises:
        ValueError: an option out of range.
    """
    frames, side, classes = own_size(choice.models)
    side = side if choice.crop_size is None else choice.crop_size
    classes = classes if choice.num_classes is None else choice.num_classes
    check_sizes(crop_size=(side, 32), num_classes=(classes, 1))
    networks = find_networks(choice.models, choice.model_options, classes)
    batches = numbers("batch_sizes", choice.batch_sizes)
    segments = numbers("num_segments", choice.num_segments or str(frames))
    return networks, list(itertools.product(batches, threads, segments, [side]))


def measure(
    kind: str,
    title: str,
    program: str,
    options: MeasureOptions,
    planned: Sequence[C],
    ratios: Mapping[str, Callable[[C], tuple[C, C]]],
    deadline: float | None,
    packages: Sequence[str] = (),
) -> tuple[dict[str, Any], list[C]]:
    """Make the cases and let them take turns until the ratios are known or the time is spent.

    Args:
        kind, title, packages: see :func:`gtdnet.bench.result.envelope`.
        program: the command without its options.
        options: how to measure.
        planned: made in this order.
        ratios: by its name in the results, of a case: whose time as a multiple of whose.
        deadline: as of ``time.monotonic()``: later than that nothing more is made.

    Returns:
        The result, JSON-ready, and the cases that its "cases" are about.

    Raises:
        ValueError: a device or clock that is not here, or none of the cases can be run.
        RuntimeError: none of them can be run, and one failed.
    """
    device = resolve_device(options.device)
    clock = resolve_clock(options.clock, device)
    with own_settings():
        made, left_out = _make_all(planned, device, options.profile > 0, deadline)
        pairs = [pair(case) for case in made for pair in ratios.values()]
        known: list[tuple[C, C]] = [(a, b) for a, b in pairs if a != b and a in made and b in made]
        enough = narrow(known, clock, options.tolerance)
        turns = {case: run.turn for case, run in made.items()}
        watch = LoadWatch()
        with progress_counter("measuring (seconds)") as progress:
            rounds = interleave(turns, options.seconds, enough, progress=progress)
        load = watch.to_dict()
        nodes = _profiled(made, options.seconds)
    if options.memory and device.type == "cpu":
        _add_memory(made)

    def told(case: C, run: _Run) -> dict[str, Any]:
        floor = made.get(case.floor())
        base = None if case == case.floor() else nodes.get(case.floor())
        found = {
            **case.to_dict(),
            **times(rounds, case, case.batch_size),
            "memory": run.memory,
            "memory_vs_floor": _memory_ratio(run, floor) if floor else None,
            **{name: compared(rounds, *pair(case), clock) for name, pair in ratios.items()},
        }
        if case in nodes:
            found["operators"] = operators(nodes[case], options.profile)
            found["kinds"] = kinds(nodes[case], base, options.profile)
        return found

    line = command(program, options, "models")
    return {
        **envelope(kind, title, line, device, packages),
        "clock": clock,
        "rounds": len(rounds),
        "load": load,
        "cases": [told(case, run) for case, run in made.items()],
        "left_out": left_out,
    }, list(made)


@dataclass
class _Run:
    """A case that is warmed up, and what was found out about its memory on the way."""

    turn: Callable[[], Turn]
    memory: dict[str, Any]
    profiler: Profiler | None


def _make_all(
    planned: Sequence[C], device: torch.device, profiled: bool, deadline: float | None
) -> tuple[dict[C, _Run], list[dict[str, Any]]]:
    """The cases that can be run here, and those that cannot with the reason."""
    made: dict[C, _Run] = {}
    left_out: list[dict[str, Any]] = []
    refusal: type[Exception] = InputError
    with progress_bar("preparing", len(planned)) as advance:
        for case in planned:
            try:
                if deadline is not None and time.monotonic() > deadline:
                    raise InputError("no time was left")
                before = _gpu_bytes(device)
                found = case.make(device, profiled)
                if found.case not in made:  # as engine "auto" may be
                    made[found.case] = _ready(found, device, before)
            except InputError as error:
                left_out.append({**case.to_dict(), "reason": one_line(str(error))[:300]})
            except Exception as error:  # one that fails must not take the others with it
                reason = f"failed: {type(error).__name__}: {one_line(str(error))[:300]}"
                left_out.append({**case.to_dict(), "reason": reason})
                refusal = RuntimeError
            advance(1)
    if not made:
        raise refusal(f"nothing can be timed here: {left_out[0]['reason']}")
    return made, left_out


def _ready(made: Made[Any], device: torch.device, gpu_before: int) -> _Run:
    """Warm a call up and look at its memory; ``gpu_before``: bytes before it was made."""
    turn = turns_of(made.call, device, made.case.threads)
    counted = made.case.activations() * made.case.batch_size
    memory = {"activations_mib": round(counted / 2**20)}
    if device.type == "cuda":
        if not made.replayed:  # what making it took at times is not what it takes
            torch.cuda.reset_peak_memory_stats(device)
            made.call()
        peak = torch.cuda.max_memory_allocated(device)
        memory["gpu_peak_mib"] = round((peak - gpu_before) / 2**20)
    return _Run(turn, memory, made.profiler)


def _gpu_bytes(device: torch.device) -> int:
    """What is allocated on a GPU now, and the most from now on counts; 0 for another device."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _add_memory(made: Mapping[C, _Run]) -> None:
    with progress_bar("memory", len(made)) as advance:
        for case, run in made.items():
            run.memory |= {"process_start_mib": None, "process_peak_mib": None}
            try:
                run.memory |= case.resident_mib() or {}
            except Exception as error:
                run.memory["process_failed"] = one_line(str(error))[:300]
            advance(1)


def _memory_ratio(run: _Run, floor: _Run) -> float | None:
    own, other = taken_mib(run.memory), taken_mib(floor.memory)
    return rounded(own / other) if own and other else None


def _profiled(made: Mapping[C, _Run], seconds: float) -> dict[C, list[Node]]:
    """The nodes of a call of each case that has a profiler; in no more than these seconds."""
    profilers = {case: run.profiler for case, run in made.items() if run.profiler}

    def turn(case: C) -> None:
        torch.set_num_threads(case.threads)
        profilers[case].call()

    if profilers:
        with progress_counter("profiling (seconds)") as progress:
            interleave(
                {case: partial(turn, case) for case in profilers},
                seconds,
                lambda rounds: len(rounds) == CALLS,
                progress=progress,
            )
    return {case: quiet_mean(profiler.nodes()) for case, profiler in profilers.items()}


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
