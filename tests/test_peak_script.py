"""benchmarks/peak.py: what the processor does at most, and shares of it in a file of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("peak")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_measured_peak(script: ModuleType, precision: str, clock: str) -> None:
    peak = script.measured_peak(precision, CPU, clock, size=64, repeats=2)
    assert peak is not None
    assert 0.001 < peak < 1e6


def test_the_peak_is_the_faster_of_products_and_convolutions(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([2.0, 3.0, 5.0, 4.0])
    monkeypatch.setattr(script, "_rate", lambda *_: next(rates))
    assert script.measured_peak("fp32", CPU, "cpu", size=16) == 3
    assert script.measured_peak("fp32", CPU, "cpu", size=16) == 5


def test_no_peak_where_int8_is_slow_or_missing(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([1.0, 2.0, 3.0, 2.0, 7.0])  # small ones of int8 and fp32 are compared first
    monkeypatch.setattr(script, "_rate", lambda *_: next(rates))
    assert script.measured_peak("int8", CPU, "cpu", size=16) is None
    assert script.measured_peak("int8", CPU, "cpu", size=16) == 7

    def missing(*_: object) -> float:
        raise RuntimeError("not implemented")

    monkeypatch.setattr(script, "_rate", missing)
    assert script.measured_peak("int8", CPU, "cpu", size=16) is None


def test_shares_are_added_to_a_file(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured: list[tuple[Any, ...]] = []

    def peak(precision: str, device: torch.device, clock: str) -> float | None:
        measured.append((precision, device, clock, torch.get_num_threads()))
        return {"fp32": 50.0, "int8": None}[precision]

    monkeypatch.setattr(script, "measured_peak", peak)
    results = ROOT / "benchmarks" / "results" / "speed_engines.yaml"
    result = yaml.safe_load(results.read_text(encoding="utf-8"))
    del result["peak_gflops"]
    kept = [c for c in result["cases"] if c["precision"] in ("fp32", "int8") and "kinds" in c][:3]
    for case in kept:
        del case["share_of_peak"]
    file = tmp_path / "speed.yaml"
    file.write_text(yaml.safe_dump({**result, "cases": kept}), encoding="utf-8")
    assert script.main([str(file)]) == 0
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {p["precision"]: p["gflops"] for p in told["peak_gflops"]} == {
        p: {"fp32": 50.0, "int8": None}[p] for p in {c["precision"] for c in kept}
    }
    for case in told["cases"]:
        share = case["gflops"] / 50 if case["precision"] == "fp32" else None
        assert case["share_of_peak"] == (share and pytest.approx(share, rel=1e-2))
    assert measured == [(c, CPU, "cpu", 1) for c in dict.fromkeys(c["precision"] for c in kept)]
    assert "of peak" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "bench: data", "[", None])
def test_a_file_of_something_else_is_refused(
    script: ModuleType, tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert script.main([str(file)]) == 2
    assert capsys.readouterr().err == (f"{file}: is no result of gtdnet bench; give its --output\n")
