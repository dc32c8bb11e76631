"""Taking turns, and what the times of the turns tell.

Processors change their clock and share it with others, so two measurements made one after the other
cannot be compared. Here every round holds one turn of every case, in an order drawn anew, and a
ratio is taken between two turns of one round: what slows a whole round down leaves it as it is.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch

from gtdnet.errors import InputError, check_choice

CLOCKS = ("auto", "cpu", "gpu", "wall")

_TURN_SECONDS = 0.25  # short calls are repeated up to this
_WARM_SECONDS = 0.25
_SETTLE_SECONDS = 0.01  # threads that spin for more work after the case before have given up
_FIRST_LOOK = 10  # rounds: an interval of fewer can be narrow by luck

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Turn:
    """Some calls of one case in a row."""

    wall: tuple[float, ...]  # seconds of each call
    cpu: float  # CPU seconds of this process, all threads together, per call
    gpu: float | None = None  # seconds between CUDA events around a call, mean; None without a GPU

    def seconds(self, clock: str) -> float:
        """Per call, by one of the clocks "cpu", "gpu" and "wall"."""
        if clock == "wall":
            return statistics.fmean(self.wall)
        seconds = self.cpu if clock == "cpu" else self.gpu
        if seconds is None:
            raise ValueError("these turns were not timed on a GPU")
        return seconds


Rounds = Sequence[Mapping[K, Turn]]


class Ratio(NamedTuple):
    """Median over rounds and its 95 % interval; None: too few rounds."""

    median: float
    low: float | None
    high: float | None

    @property
    def spread(self) -> float:
        """Half the interval as a share of the median; infinite if there is none."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / 2 / self.median


def resolve_clock(clock: str, device: torch.device) -> str:
    """ "auto": CPU time on a CPU, for that counts others' work least, and GPU time on a GPU.

    Raises:
        InputError: an unknown clock, or one that does not count what the device computes.
    """
    check_choice("clock", clock, CLOCKS)
    if clock == "auto":
        return {"cpu": "cpu", "cuda": "gpu"}.get(device.type, "wall")
    if clock == "gpu" and device.type != "cuda":
        raise InputError(f"clock 'gpu' needs a CUDA device, not {device}; use --clock cpu or wall")
    if clock == "cpu" and device.type != "cpu":
        raise InputError(f"clock 'cpu' does not count what {device} computes; use auto or wall")
    return clock


def turns_of(
    call: Callable[[], object], device: torch.device, threads: int | None = None
) -> Callable[[], Turn]:
    """Warm a call up; calling what comes back gives a turn of it.

    A turn of short calls is as many as fill a quarter of a second, after one that is not timed, so
    that the caches hold the weights. ``threads``: PyTorch's, set again before each turn.
    """
    threads = torch.get_num_threads() if threads is None else threads
    torch.set_num_threads(threads)
    call()  # compiles, packs weights, fills caches of kernels
    start, warmed = time.perf_counter(), 0
    while not warmed or time.perf_counter() - start < _WARM_SECONDS:
        call()
        synchronise(device)
        warmed += 1
    calls = max(1, round(_TURN_SECONDS * warmed / (time.perf_counter() - start)))

    def turn() -> Turn:
        torch.set_num_threads(threads)
        time.sleep(_SETTLE_SECONDS)
        if calls > 1:
            call()
        return _timed(call, calls, device)

    return turn


def _timed(call: Callable[[], object], calls: int, device: torch.device) -> Turn:
    wall, events = [], []
    synchronise(device)
    cpu = time.process_time()
    for _ in range(calls):
        start = time.perf_counter()
        if device.type == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.current_stream(device)
            first.record(stream)
            call()
            last.record(stream)
            events.append((first, last))
        else:
            call()
        synchronise(device)
        wall.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / calls
    gpu = [first.elapsed_time(last) / 1e3 for first, last in events]
    return Turn(tuple(wall), cpu, statistics.fmean(gpu) if gpu else None)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def interleave(
    turns: Mapping[K, Callable[[], V]],
    seconds: float,
    enough: Callable[[list[dict[K, V]]], bool] = lambda rounds: False,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[K, V]]:
    """Rounds of one turn of every case, in an order drawn anew.

    There is always one; none is begun once they are ``enough`` or the seconds are spent.
    ``progress`` is called with (whole seconds spent, seconds in all).
    """
    rng = random.Random(seed)
    rounds: list[dict[K, V]] = []
    start = time.perf_counter()
    while not rounds or (time.perf_counter() - start < seconds and not enough(rounds)):
        order = list(turns)
        rng.shuffle(order)
        rounds.append({case: turns[case]() for case in order})
        if progress:
            spent = time.perf_counter() - start
            progress(min(math.ceil(seconds), round(spent)), math.ceil(seconds))
    return rounds


def narrow(
    pairs: Iterable[tuple[K, K]], clock: str, tolerance: float
) -> Callable[[Rounds[K]], bool]:
    """Whether half the interval of each pair's ratio is at most this share of the ratio.

    Never with no pairs or a tolerance of 0, and only after 10, 20, 40, 80, ... rounds: who looks
    after each one stops where the interval is narrow by luck.
    """
    pairs = list(pairs) if tolerance else []

    def enough(rounds: Rounds[K]) -> bool:
        times, rest = divmod(len(rounds), _FIRST_LOOK)
        if not pairs or rest or times.bit_count() != 1:
            return False
        return all(ratio(rounds, case, base, clock).spread <= tolerance for case, base in pairs)

    return enough


def ratio(rounds: Rounds[K], case: K, base: K, clock: str) -> Ratio:
    """Time of ``case`` as a multiple of that of ``base``: the median over rounds."""
    values = [turns[case].seconds(clock) / turns[base].seconds(clock) for turns in rounds]
    low, high = median_interval(values) or (None, None)
    return Ratio(statistics.median(values), low, high)


def median_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """The k-th value from below and from above that hold the distribution's median between them.

    k: the largest for which n thrown coins show fewer than k heads with a probability of at most
    half of 1 - confidence (David and Nagaraja, "Order Statistics", 2003, 7.1). None where there are
    too few values: 95 % take six.
    """
    n = len(values)
    tails = accumulate(math.comb(n, heads) / 2**n for heads in range(n + 1))
    k = sum(tail <= (1 - confidence) / 2 for tail in tails)
    ordered = sorted(values)
    return (ordered[k - 1], ordered[n - k]) if k else None


def p95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 % of them do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A number to this many significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")


def times(rounds: Rounds[K], case: K, clips: int) -> dict[str, Any]:
    """Latency by the wall clock over all calls; CPU and GPU time over rounds; JSON-ready."""
    turns = [each[case] for each in rounds]
    calls = [seconds for turn in turns for seconds in turn.wall]
    latency = statistics.median(calls)
    cpu = statistics.median(turn.cpu for turn in turns)
    gpu = [turn.gpu for turn in turns if turn.gpu is not None]
    return {
        "calls": len(calls),
        "latency_ms": {"median": rounded(1e3 * latency), "p95": rounded(1e3 * p95(calls))},
        "cpu_ms": rounded(1e3 * cpu),
        "gpu_ms": rounded(1e3 * statistics.median(gpu)) if gpu else None,
        "clips_per_second": rounded(clips / latency),
        "clips_per_cpu_second": rounded(clips / cpu) if cpu else None,
    }


def compared(rounds: Rounds[K], case: K, base: K, clock: str) -> dict[str, Any] | None:
    """:func:`ratio`, JSON-ready; None where one of the two was not timed."""
    if case not in rounds[0] or base not in rounds[0]:
        return None
    median, low, high = map(rounded, ratio(rounds, case, base, clock))
    return {"ratio": median, "low": low, "high": high, "clock": clock}
