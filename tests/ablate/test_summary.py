from __future__ import annotations

from typing import Any

import pytest

from gtdnet.ablate.summary import summarise, table


def record(variant: str, seed: int, top1: float, **more: Any) -> dict[str, Any]:
    return {
        "variant": variant, "seed": seed, "status": "finished", "val_top1": top1,
        "best_val_top1": top1 + 0.01, "seconds": 60.0, "frames": {"shuffled": 0.1}, **more,
    }  # fmt: skip


def test_summary_by_hand() -> None:
    runs = [
        record("A", 0, 0.80), record("A", 1, 0.84), record("A", 2, 0.88),
        record("B", 0, 0.70), record("B", 1, 0.72), {"variant": "B", "seed": 2, "status": "failed"},
        record("C", 2, 0.90),
    ]  # fmt: skip
    a, b, c, d = summarise(runs, ["A", "B", "C", "D"], {"A": {"parameters": 5}})
    assert a["val_top1"] == {"mean": 0.84, "std": 0.04}
    assert a["best_val_top1"] == {"mean": 0.85, "std": 0.04}
    assert (a["runs"], a["parameters"], a["difference"]) == (3, 5, None)
    # Pairs of seeds 0 and 1 alone: -0.10 and -0.12.
    assert b["difference"] == {"mean": -0.11, "std": pytest.approx(0.014142, abs=1e-6)}
    assert (b["runs"], b["seconds"]) == (2, 60.0)
    assert c["val_top1"] == {"mean": 0.9, "std": None}
    assert c["difference"] == {"mean": 0.02, "std": None}
    assert d["val_top1"] == {"mean": None, "std": None}
    assert (d["runs"], d["frames"]) == (0, {})


def test_table_by_hand() -> None:
    runs = [record("A", 0, 0.8), record("A", 1, 0.9), record("Bee", 0, 0.7), record("Bee", 1, 0.7)]
    sizes = {"A": {"parameters": 2_810_000, "macs_per_view": 710_000_000}}
    text = table({"variants": summarise(runs, ["A", "Bee"], sizes)})
    assert text.splitlines() == [
        "| variant | M param. | GMACs/view |    top-1 % |     minus A | shuffled % | best epoch % "
        "| minutes | runs |",
        "|---------|---------:|-----------:|-----------:|------------:|-----------:|-------------:"
        "|--------:|-----:|",
        "| A       |     2.81 |      0.710 | 85.0 ± 7.1 |             | 10.0 ± 0.0 |   86.0 ± 7.1 "
        "|     1.0 |    2 |",
        "| Bee     |          |            | 70.0 ± 0.0 | -15.0 ± 7.1 | 10.0 ± 0.0 |   71.0 ± 0.0 "
        "|     1.0 |    2 |",
    ]
