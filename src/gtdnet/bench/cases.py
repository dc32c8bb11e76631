"""One bench for models and for training steps: cases are made, take turns, and are told."""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch

from gtdnet import moved
from gtdnet.bench.networks import Network, find_networks
from gtdnet.bench.options import Choice, MeasureOptions, numbers
from gtdnet.bench.profile import CALLS, Profiler, kinds, operators, quiet_mean
from gtdnet.device import resolve_device
from gtdnet.engines.profile import Node
from gtdnet.errors import InputError, check_at_least
from gtdnet.measure.machine import LoadWatch
from gtdnet.measure.memory import alone, resident_mib, taken_mib
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
CPU = torch.device("cpu")


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
        """The network by its label, and the setting; JSON-ready."""
        setting = {key: value for key, value in vars(self).items() if key != "network"}
        return {"model": str(self.network), **setting}

    @abstractmethod
    def make(self, device: torch.device, profiled: bool) -> Made:
        """Ready to be called, with a profiler if asked; InputError if it cannot be run here."""

    @abstractmethod
    def activations(self) -> int:
        """Bytes of a clip's activations, counted from the architecture."""

    def work(self, seconds: float) -> dict[str, Any]:
        """What a call computes, and how fast if it takes so long; JSON-ready."""
        return {}

    def resident_mib(self) -> dict[str, int] | None:
        """:func:`gtdnet.measure.memory.resident_mib` of it alone on the CPU.

        None for what is compiled: compiler and model share a process.
        """
        return alone(_resident_mib, self)


def _resident_mib(case: Case) -> dict[str, int]:
    return resident_mib(lambda: case.make(CPU, profiled=False).call)


@dataclass
class Made:
    """A case that can be called."""

    case: Any  # as it turned out, without "auto"
    call: Callable[[], object]  # what is timed
    profiler: Profiler | None = None  # None: it is not profiled
    # A call replays a CUDA graph, whose memory was taken when it was recorded.
    replayed: bool = False
    memory: dict[str, Any] = field(default_factory=dict)  # that was measured, by kind


def asked(
    choice: Choice, threads: Sequence[int]
) -> tuple[list[Network], list[tuple[int, int, int, int]]]:
    """Networks, and for each of them batch, threads, frames and side of the clips."""
    check_at_least(1, num_classes=choice.num_classes)
    networks = find_networks(choice.models, choice.model_options, choice.num_classes)
    frames, own_side = networks[0].own_size
    side = own_side if choice.crop_size is None else choice.crop_size
    check_at_least(32, crop_size=side)
    batches = numbers("batch_sizes", choice.batch_sizes)
    segments = numbers("num_segments", choice.num_segments or str(frames))
    return networks, list(itertools.product(batches, threads, segments, [side]))


def measure(
    options: MeasureOptions, planned: Sequence[C], ratios: Mapping[str, Callable[[C], tuple[C, C]]]
) -> dict[str, Any]:
    """Let the cases take turns until the ratios are known or the time is spent; JSON-ready.

    ``ratios``: by its name in the results, of a case: whose time as a multiple of whose.

    Raises:
        InputError: a device or clock that is not here, or none of the cases can be run.
        RuntimeError: none of them can be run, and one failed.
    """
    device = resolve_device(options.device)
    clock = resolve_clock(options.clock, device)
    with own_settings():
        made, turns, left_out = _make_all(planned, device, options.profile > 0)
        pairs = [pair(case) for case in made for pair in ratios.values()]
        known: list[tuple[C, C]] = [(a, b) for a, b in pairs if a != b and a in made and b in made]
        enough = narrow(known, clock, options.tolerance)
        watch = LoadWatch()
        with progress_counter("measuring (seconds)") as progress:
            rounds = interleave(turns, options.seconds, enough, progress=progress)
        load = watch.to_dict()
        nodes = _profiled(made, options.seconds)
    if options.memory and device.type == "cpu":
        _add_memory(made)

    def told(case: C) -> dict[str, Any]:
        floor, memory = case.floor(), made[case].memory
        timed = times(rounds, case, case.batch_size)
        ms = timed["latency_ms"]["median"] if clock == "wall" else timed[f"{clock}_ms"]
        own, its_floor = (taken_mib(made[c].memory) if c in made else None for c in (case, floor))
        found = {
            **case.to_dict(),
            **timed,
            "memory": memory,
            "memory_vs_floor": rounded(own / its_floor) if own and its_floor else None,
            **{name: compared(rounds, *pair(case), clock) for name, pair in ratios.items()},
            **case.work(ms / 1e3),
        }
        if case in nodes:
            base = nodes.get(floor) if case != floor else None
            found["operators"] = operators(nodes[case], options.profile)
            found["kinds"] = kinds(nodes[case], base, options.profile)
        return found

    cases = [told(case) for case in made]
    more = {"clock": clock, "rounds": len(rounds), "load": load}
    return {**more, "cases": cases, "left_out": left_out}


def _make_all(
    planned: Sequence[C], device: torch.device, profiled: bool
) -> tuple[dict[C, Made], dict[C, Callable[[], Turn]], list[dict[str, Any]]]:
    """The cases that can be run here, their turns, and the others with the reason."""
    made: dict[C, Made] = {}
    turns: dict[C, Callable[[], Turn]] = {}
    left_out: list[dict[str, Any]] = []
    refusal: type[Exception] = InputError
    with progress_bar("preparing", len(planned)) as advance:
        for case in planned:
            try:
                before = _gpu_bytes(device)
                run = case.make(device, profiled)
                if run.case not in made:  # as engine "auto" may be
                    turns[run.case] = _warmed_up(run, device, before)
                    made[run.case] = run
            except Exception as error:  # one that fails must not take the others with it
                reason = one_line(str(error))[:300]
                if not isinstance(error, InputError):
                    reason, refusal = f"failed: {type(error).__name__}: {reason}", RuntimeError
                left_out.append({**case.to_dict(), "reason": reason})
            advance(1)
    if not made:
        raise refusal(f"nothing can be timed here: {left_out[0]['reason']}")
    return made, turns, left_out


def _warmed_up(run: Made, device: torch.device, gpu_before: int) -> Callable[[], Turn]:
    """A turn of what was made, and its memory noted; ``gpu_before``: bytes before it was made."""
    turn = turns_of(run.call, device, run.case.threads)
    counted = run.case.activations() * run.case.batch_size
    run.memory["activations_mib"] = round(counted / 2**20)
    if device.type == "cuda":
        if not run.replayed:  # what making it took at times is not what it takes
            torch.cuda.reset_peak_memory_stats(device)
            run.call()
        peak = torch.cuda.max_memory_allocated(device)
        run.memory["gpu_peak_mib"] = round((peak - gpu_before) / 2**20)
    return turn


def _gpu_bytes(device: torch.device) -> int:
    """What is allocated on a GPU now, and the most from now on counts; 0 for another device."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _add_memory(made: Mapping[C, Made]) -> None:
    with progress_bar("memory", len(made)) as advance:
        for case, run in made.items():
            run.memory |= {"process_start_mib": None, "process_peak_mib": None}
            try:
                run.memory |= case.resident_mib() or {}
            except Exception as error:
                run.memory["process_failed"] = one_line(str(error))[:300]
            advance(1)


def _profiled(made: Mapping[C, Made], seconds: float) -> dict[C, list[Node]]:
    """The nodes of a call of each case that has a profiler; in no more than these seconds."""
    profilers = {case: run.profiler for case, run in made.items() if run.profiler}

    def turn(case: C) -> None:
        torch.set_num_threads(case.threads)
        profilers[case].call()

    if profilers:
        turns = {case: partial(turn, case) for case in profilers}
        with progress_counter("profiling (seconds)") as progress:
            interleave(turns, seconds, lambda rounds: len(rounds) == CALLS, progress=progress)
    return {case: quiet_mean(profiler.nodes()) for case, profiler in profilers.items()}


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Within it PyTorch can be set for the cases; afterwards it is as before.

    Many networks of one class are compiled side by side, each for its own size of clips, where a
    usual process has one: torch.compile would stop compiling, or compile for sizes that vary.
    """
    import torch._dynamo  # takes seconds: not for those who only ask what can be done here

    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    try:
        with torch._dynamo.config.patch(recompile_limit=256, automatic_dynamic_shapes=False):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


__getattr__ = moved.names(__name__)
