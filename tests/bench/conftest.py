"""Turns of milliseconds, so that a bench of tiny networks takes a second, however busy the machine.

``six_rounds``: as many as an interval takes, whatever their time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from gtdnet.bench import cases, data
from gtdnet.measure import timing


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(timing, "_TURN_SECONDS", 0.01)
    monkeypatch.setattr(timing, "_WARM_SECONDS", 0.01)
    monkeypatch.setattr(timing, "_SETTLE_SECONDS", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def six_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds(
        turns: Mapping[Any, Callable[[], Any]], *_: object, **__: object
    ) -> list[dict[Any, Any]]:
        return timing.interleave(turns, 600, lambda rounds: len(rounds) == 6)

    monkeypatch.setattr(cases, "interleave", rounds)
    monkeypatch.setattr(data, "interleave", rounds)
