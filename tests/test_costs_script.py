"""benchmarks/costs.py: parts that are kept as they come, and how they are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    script = load_script("costs")
    monkeypatch.setattr(script, "YARDSTICK", ("tsn_resnet18", "eager", "fp32"))
    return script


SMALL = ["--engines", "eager", "--num_segments", "2", "--crop_size", "32", "--seconds", "0.1"]


def test_parts_are_kept_and_not_measured_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.yaml"
    words = [*SMALL, "--output", str(path), "--backbones", "efficientnet_lite0"]
    assert script.main(words) == 0
    result = yaml.safe_load(path.read_text())
    part = result["parts"]["efficientnet_lite0, eager"]
    assert list(part["rows"]) == ["tsn fp32", "tsm fp32", "gtdnet fp32"]
    assert {row["vs_floor"]["ratio"] > 0 for row in part["rows"].values()} == {True}
    assert part["rows"]["tsn fp32"]["vs_floor"]["ratio"] == 1
    assert part["rows"]["gtdnet fp32"]["vs_yardstick"]["clock"] == "cpu"
    assert "cores_used_by_others" in part["load"]

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "part", interrupted)
    assert script.main(words) == 0  # nothing left to do
    with pytest.raises(KeyboardInterrupt):
        script.main([*words, "resnet18"])
    assert list(yaml.safe_load(path.read_text())["parts"]) == list(result["parts"])
    assert script.main([*words, "--crop_size", "64"]) == 2


def test_the_section(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    def row(ms: float, ratio: float) -> dict[str, Any]:
        interval = {"ratio": ratio, "low": ratio - 0.01, "high": ratio + 0.01, "clock": "cpu"}
        return {"cpu_ms": ms, "vs_floor": interval, "vs_yardstick": {**interval, "low": None}}

    load = {"load_average": 9.0, "seconds": 1.0, "cores_used_by_others": 1.5}
    kinds = [{"kind": "Slice", "ms": 1.5, "floor_ms": 0.5, "more_ms": 1.0}]
    rows = {"tsn bf16": row(40, 1), "tsm bf16": row(42, 1.05), "gtdnet bf16": row(44, 1.1)}
    rows["gtdnet bf16"]["kinds"] = kinds
    size = {"m_parameters": 4.5, "gmacs": 3.07}
    results = {
        "command": "python benchmarks/costs.py",
        "date": "2026-11-29",
        "machine": {"cores": 2},
        "clip": {"num_segments": 8, "crop_size": 224},
        "yardstick": "tsn_resnet18 openvino bf16",
        "numbers": {"efficientnet_lite0": dict.fromkeys(("tsn", "tsm", "gtdnet"), size)},
        "parts": {"efficientnet_lite0, openvino": {"load": load, "rows": rows}},
    }
    (tmp_path / "costs.yaml").write_text(yaml.safe_dump(results))
    page = load_script("results").page(tmp_path)
    assert "## What the backbones cost, by engine" in page
    assert "| efficientnet_lite0 | 4.5 | 4.5 | 4.5 | 3.07 | 3.07 | 3.07 |" in page
    row_of_times = (
        "| openvino | bf16 | 40 | 42 | 44 | 1.05 [1.04, 1.06] | 1.10 [1.09, 1.11] | 1.00 |"
    )
    assert row_of_times in page
    assert "| Slice | 1.5 | 0.5 | 1.0 |" in page
    assert "other processes kept 1.50 of 2 cores busy" in " ".join(page.split())
