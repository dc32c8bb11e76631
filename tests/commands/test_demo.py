"""The demo's steps hang together; what it learns is shown by running it (README)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtdnet import load
from gtdnet.commands.demo import DemoOptions, demo, summary
from gtdnet.errors import InputError


def test_demo_runs_all_steps_and_goes_on_where_it_was(tmp_path: Path) -> None:
    options = DemoOptions(str(tmp_path / "demo"), train=48, validation=12, epochs=1, device="cpu")
    result = demo(options)
    assert result["held_out_clips"] == 12
    assert set(result["top1"]) == {"in-order", "shuffled", "repeated"}
    assert all(0 <= value <= 1 for value in result["top1"].values())
    assert load(result["model"], "cpu").spec.num_classes == result["classes"]
    text = summary(result)
    for part in (result["model"], result["run"], result["data"], result["prediction"]["truth"]):
        assert part in text

    again = demo(options)  # everything is there: nothing is made or trained anew
    assert again["top1"] == result["top1"]


def test_demo_refuses_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match=r"data"):
        demo(DemoOptions(str(tmp_path), train=12, validation=12))
    assert (tmp_path / "data" / "precious.txt").read_text() == "mine"
