from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.errors import InputError
from gtdnet.measure import timing
from gtdnet.measure.timing import (
    Turn,
    compared,
    interleave,
    median_interval,
    narrow,
    p95,
    ratio,
    resolve_clock,
    times,
    turns_of,
)

CPU = torch.device("cpu")


def turn(cpu: float, *wall: float, gpu: float | None = None) -> Turn:
    return Turn(wall or (cpu,), cpu, gpu)


# ------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("n", "ranks"),  # David and Nagaraja's table of distribution-free intervals of the median
    [(1, None), (5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (15, (4, 12)),
     (20, (6, 15)), (25, (8, 18)), (100, (40, 61))],
)  # fmt: skip
def test_median_interval(n: int, ranks: tuple[int, int] | None) -> None:
    values = [float(i) for i in range(1, n + 1)]
    assert median_interval(values[::-1]) == ranks


def test_median_interval_at_other_confidence() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert median_interval(values, 0.9) == (1, 5)
    assert median_interval(values, 0.5) == (2, 4)


@given(st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=40), st.floats(0.5, 2))
def test_median_interval_holds_the_median_and_scales(values: list[float], factor: float) -> None:
    low, high = median_interval(values) or (math.nan, math.nan)
    middle = sorted(values)[len(values) // 2]
    assert low <= middle <= high
    assert median_interval([factor * v for v in values]) == (factor * low, factor * high)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0], 5), ([2.0, 1.0], 2), (list(range(1, 11)), 10), (list(range(20, 0, -1)), 19),
     (list(range(1, 41)), 38)],
)  # fmt: skip
def test_p95(values: list[float], expected: float) -> None:
    assert p95(values) == expected


ROUNDS = [
    {"a": turn(3.0, 4.0, 8.0), "b": turn(2.0, 3.0)},
    {"a": turn(1.0, 1.0), "b": turn(1.0, 4.0)},
    {"a": turn(8.0, 9.0), "b": turn(4.0, 4.5)},
]


def test_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    assert ratio(ROUNDS, "a", "b", "cpu") == (1.5, None, None)  # not 3 / 2 of the medians
    assert ratio(ROUNDS, "a", "b", "wall") == (2.0, None, None)
    assert ratio(ROUNDS * 2, "a", "b", "cpu") == (1.5, 1.0, 2.0)
    assert ratio(ROUNDS, "a", "a", "cpu").median == 1


def test_what_slows_a_whole_round_down_leaves_the_ratio() -> None:
    slowed = [{k: turn(10**i * t.cpu) for k, t in r.items()} for i, r in enumerate(ROUNDS * 2)]
    assert ratio(slowed, "a", "b", "cpu") == pytest.approx(ratio(ROUNDS * 2, "a", "b", "cpu"))


def test_compared() -> None:
    assert compared(ROUNDS * 2, "a", "b", "cpu") == {
        "ratio": 1.5, "low": 1.0, "high": 2.0, "clock": "cpu",
    }  # fmt: skip
    assert compared(ROUNDS, "a", "c", "cpu") is None


def test_times() -> None:
    assert times(ROUNDS, "a", clips=2) == {
        "calls": 4,
        "latency_ms": {"median": 6000, "p95": 9000},  # of 1, 4, 8 and 9 seconds
        "cpu_ms": 3000,
        "gpu_ms": None,
        "clips_per_second": 0.3333,
        "clips_per_cpu_second": 0.6667,
    }
    on_gpu = [{"a": turn(1.0, gpu=0.002)}, {"a": turn(1.0, gpu=0.004)}]
    assert times(on_gpu, "a", clips=1)["gpu_ms"] == 3


def test_a_turn_on_the_cpu_has_no_gpu_time() -> None:
    with pytest.raises(ValueError, match="not timed on a GPU"):
        turn(1.0).seconds("gpu")


def test_narrow_looks_after_10_20_40_rounds_for_a_narrow_interval() -> None:
    def rounds(n: int, spread: float) -> list[dict[str, Turn]]:
        return [{"a": turn(2 + spread * (i % 2)), "b": turn(1.0)} for i in range(n)]

    pair: list[tuple[str, str]] = [("a", "b")]
    enough = narrow(pair, "cpu", 0.01)
    assert [n for n in range(100) if enough(rounds(n, 0))] == [10, 20, 40, 80]
    assert enough(rounds(10, 0.03))
    assert not enough(rounds(10, 0.2))
    assert not narrow(pair, "cpu", 0)(rounds(10, 0))
    assert not narrow([], "cpu", 0.01)(rounds(10, 0))


# ------------------------------------------------------------------------------------ turns


def test_every_round_holds_every_case_once_in_an_order_of_its_own() -> None:
    calls: list[str] = []

    def case(name: str) -> Callable[[], int]:
        return lambda: calls.append(name) or len(calls)

    cases = {name: case(name) for name in "abcd"}
    told: list[tuple[int, int]] = []
    rounds = interleave(
        cases, 60, lambda rounds: len(rounds) == 30, progress=lambda *step: told.append(step)
    )
    assert len(rounds) == 30
    assert all(set(each) == set("abcd") for each in rounds)
    orders = ["".join(calls[i : i + 4]) for i in range(0, len(calls), 4)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 10
    assert {order[0] for order in orders} == set("abcd")  # nobody always goes first
    assert len(told) == 30
    assert told[-1] == (0, 60)
    again, calls[:] = list(calls), []
    interleave(cases, 60, lambda rounds: len(rounds) == 30)
    assert calls == again
    interleave(cases, 60, lambda rounds: len(rounds) == 30, seed=1)
    assert calls[120:] != again


def test_no_round_is_begun_once_the_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(now)))
    assert len(interleave({"a": lambda: None}, 3)) == 3  # begun at 0, 1 and 2 seconds
    assert len(interleave({"a": lambda: None}, 0.5)) == 1


def test_turns_of_repeats_short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_TURN_SECONDS", 0.05)
    monkeypatch.setattr(timing, "_WARM_SECONDS", 0.02)
    seen: list[int] = []

    def call() -> None:
        seen.append(torch.get_num_threads())
        timing.time.sleep(0.002)

    before = torch.get_num_threads()
    try:
        run = turns_of(call, CPU, threads=2)
        torch.set_num_threads(1)
        warm = len(seen)
        found = run()
    finally:
        torch.set_num_threads(before)
    assert warm >= 2
    assert set(seen) == {2}
    assert len(seen) - warm == len(found.wall) + 1 > 3  # one is not timed
    assert min(found.wall) >= 0.002
    assert 0 <= found.cpu < 0.002  # it sleeps
    assert found.gpu is None


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_call_is_timed_until_its_work_is_finished(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(timing, "synchronise", lambda device: seen.append(device.type))
    run = turns_of(lambda: seen.append("call"), torch.device(device))
    seen.clear()
    calls = len(run().wall)
    assert seen == ["call"] * (calls > 1) + [device] + ["call", device] * calls


def test_turns_of_a_long_call_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_TURN_SECONDS", 0.001)
    monkeypatch.setattr(timing, "_WARM_SECONDS", 0.0)
    seen: list[int] = []
    run = turns_of(lambda: (seen.append(1), timing.time.sleep(0.005)), CPU)
    assert len(seen) == 2
    assert len(run().wall) == 1
    assert len(seen) == 3


def test_clocks() -> None:
    assert resolve_clock("auto", CPU) == "cpu"
    assert resolve_clock("auto", torch.device("cuda")) == "gpu"
    assert resolve_clock("wall", CPU) == "wall"
    with pytest.raises(InputError, match="clock 'gpu' needs a CUDA device, not cpu"):
        resolve_clock("gpu", CPU)
    with pytest.raises(InputError, match="clock 'cpu' does not count what cuda computes"):
        resolve_clock("cpu", torch.device("cuda"))
    with pytest.raises(InputError, match="unknown clock 'sun'"):
        resolve_clock("sun", CPU)
