"""benchmarks/long_stream.py on a short stream."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("long_stream")


def test_a_short_stream(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "EVERY", 10)
    threads = torch.get_num_threads()
    result = script.measure(60, 3)
    torch.set_num_threads(threads)
    assert result["largest_difference"] <= 1e-4
    assert (result["compared"], result["frames"]) in ((3, 60), (4, 60))
    assert result["resident_mib_at_the_end"] > 50
    assert result["frames_seen_for_each"] == 33


def test_more_frames_than_it_sees_have_an_influence(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or that it sees so many would show nothing: the frame before the last eight still counts."""
    file = script.make_model()
    whole = script.of_the_last(file, 50)
    monkeypatch.setattr(script, "REACH", 9)
    assert (script.of_the_last(file, 50) - whole).abs().max() > 1e-3
