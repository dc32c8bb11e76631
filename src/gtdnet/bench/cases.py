"""One bench for models and for training steps: cases are made, take turns, and are told."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import torch

from gtdnet.bench.machine import LoadWatch
from gtdnet.bench.memory import taken_mib
from gtdnet.bench.networks import Network, find_networks, own_size
from gtdnet.bench.options import Choice, MeasureOptions, check_sizes, command, numbers
from gtdnet.bench.profile import CALLS, Profiler, kinds, operators, quiet_mean
from gtdnet.bench.result import envelope, save
from gtdnet.bench.timing import (
    Rounds,
    Turn,
    compared,
    interleave,
    narrow,
    resolve_clock,
    rounded,
    times,
    turns_of,
    waited,
)
from gtdnet.device import resolve_device
from gtdnet.errors import InputError
from gtdnet.infer.graph import Node
from gtdnet.progress import progress_bar, progress_counter

C = TypeVar("C", bound="Case")


@dataclass(frozen=True)
class Case:
    """One network in one setting, which subclasses add to."""

    network: Network
    batch_size: int
    threads: int
    num_segments: int
    crop_size: int

    def floor(self: C) -> C:
        """The plain network in the same setting."""
        return replace(self, network=self.network.floor())

    def values(self) -> dict[str, Any]:
        """All but the network; JSON-ready."""
        return {key: value for key, value in vars(self).items() if key != "network"}

    def to_dict(self) -> dict[str, Any]:
        """The network by its label, and the setting; for people, JSON-ready."""
        return {"model": str(self.network), **self.values()}

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_json` gives the same case back."""
        return {**vars(self), "network": self.network.to_dict()}

    @classmethod
    def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
        """The case that ``to_json`` described."""
        return cls(**{**values, "network": Network.from_dict(values["network"])})


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


@dataclass
class Run:
    """A case that is ready and warmed up, and what was found out about it on the way."""

    turn: Callable[[], Turn]
    memory: dict[str, Any]
    profiler: Profiler | None = None


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
        ValueError: there is none that can be run here.
        RuntimeError: there is none, and one of them failed.
    """
    made: dict[C, Run] = {}
    left_out: list[dict[str, Any]] = []
    refusal: type[Exception] = InputError
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
                    refusal = RuntimeError
            if reason is not None:
                left_out.append({**case.to_dict(), "reason": reason})
            advance(1)
    if not made:
        raise refusal(f"nothing can be timed here: {left_out[0]['reason']}")
    return made, left_out


def ready(
    call: Callable[[], object],
    counted: int,
    threads: int,
    device: torch.device,
    gpu_before: int,
    profiler: Profiler | None,
    replayed: bool = False,
) -> Run:
    """Warm a call up and look at its memory.

    Args:
        call: what is timed.
        counted: bytes of its activations, from the architecture.
        threads: PyTorch's.
        device: where it computes.
        gpu_before: of :func:`gpu_bytes`, before the call was made.
        profiler: of the same case; None: it is not profiled.
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
    return Run(turn, memory, profiler)


def gpu_bytes(device: torch.device) -> int:
    """What is allocated on a GPU now, and the most from now on counts; 0 for another device."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


@dataclass(frozen=True)
class Bench(Generic[C]):
    """What was measured: the cases that could be made, their rounds, and what else was going on.

    Attributes:
        nodes: of a call of each case that was profiled.
        ratios: by its name in the results, of a case: whose time as a multiple of whose.
    """

    options: MeasureOptions
    device: torch.device
    clock: str
    made: dict[C, Run]
    left_out: list[dict[str, Any]]
    rounds: Rounds[C]
    load: dict[str, Any]
    nodes: dict[C, list[Node]]
    ratios: Mapping[str, Callable[[C], tuple[C, C]]]

    def result(
        self,
        kind: str,
        title: str,
        program: str,
        packages: Sequence[str] = (),
        about: Mapping[str, Any] = MappingProxyType({}),
        of_case: Callable[[C], Mapping[str, Any]] = lambda case: {},
    ) -> dict[str, Any]:
        """JSON-ready; saved where the options say. ``of_case`` is what else is told of a case."""
        line = command(program, self.options, "models")
        result = {
            **envelope(kind, title, line, self.device, packages),
            "clock": self.clock,
            "rounds": len(self.rounds),
            "load": self.load,
            **about,
            "cases": [
                {
                    **case.to_dict(),
                    **times(self.rounds, case, case.batch_size),
                    **of_case(case),
                    "memory": run.memory,
                    "memory_vs_floor": self._memory_ratio(case, case.floor()),
                    **{
                        name: compared(self.rounds, *pair(case), self.clock)
                        for name, pair in self.ratios.items()
                    },
                    **self._profile(case),
                }
                for case, run in self.made.items()
            ],
            "left_out": self.left_out,
        }
        save(result, self.options.output)
        return result

    def _profile(self, case: C) -> dict[str, Any]:
        if case not in self.nodes:
            return {}
        rows, nodes, floor = self.options.profile, self.nodes[case], case.floor()
        base = None if floor == case else self.nodes.get(floor)
        return {"operators": operators(nodes, rows), "kinds": kinds(nodes, base, rows)}

    def _memory_ratio(self, case: C, base: C) -> float | None:
        if base not in self.made:
            return None
        own, other = taken_mib(self.made[case].memory), taken_mib(self.made[base].memory)
        return rounded(own / other) if own and other else None


def run_bench(
    options: MeasureOptions,
    planned: Sequence[C],
    make: Callable[[C, Mapping[C, Run], torch.device], tuple[C, Run] | None],
    memory_of: Callable[[C], Mapping[str, int] | None],
    ratios: Mapping[str, Callable[[C], tuple[C, C]]],
    deadline: float | None,
) -> Bench[C]:
    """Make the cases and let them take turns until the ratios are known or the time is spent.

    Args:
        options: how to measure.
        planned, deadline: see :func:`make_all`.
        make: the same, and for which device.
        memory_of: of a case on the CPU what :func:`gtdnet.bench.memory.resident_mib` gives; None
            where that would say nothing.
        ratios: see :class:`Bench`.

    Raises:
        ValueError: a device or clock that is not here, or none of the cases can be run.
    """
    device = resolve_device(options.device)
    clock = resolve_clock(options.clock, device)
    with own_settings():
        made, left_out = make_all(planned, lambda c, there: make(c, there, device), deadline)
        pairs = [pair(case) for case in made for pair in ratios.values()]
        known: list[tuple[C, C]] = [(a, b) for a, b in pairs if a != b and a in made and b in made]
        enough = narrow(known, clock, options.tolerance)
        turns = {case: run.turn for case, run in made.items()}
        with progress_counter("measuring (seconds)") as progress, LoadWatch() as watch:
            rounds = interleave(turns, options.seconds, enough, progress=progress)
        nodes = _profiled(made, options.seconds)
    if options.memory and device.type == "cpu":
        _add_memory(made, memory_of)
    single = [case for case in made if case.threads == 1 and device.type == "cpu"]
    load = watch.to_dict(waited(rounds, single))
    return Bench(options, device, clock, made, left_out, rounds, load, nodes, ratios)


def _add_memory(made: Mapping[C, Run], memory_of: Callable[[C], Mapping[str, int] | None]) -> None:
    none = {"process_start_mib": None, "process_peak_mib": None}
    with progress_bar("memory", len(made)) as advance:
        for case, run in made.items():
            try:
                run.memory |= memory_of(case) or none
            except RuntimeError as error:
                run.memory |= {**none, "process_failed": _one_line(error)}
            advance(1)


def _profiled(made: Mapping[C, Run], seconds: float) -> dict[C, list[Node]]:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
