"""The report of runs on clips of any number of classes: mAP, and every class's precision."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gtdnet.evaluate.options import EvaluateOptions
from gtdnet.evaluate.run import evaluate
from gtdnet.hub import write_repository
from gtdnet.report.options import ReportOptions
from gtdnet.report.report import report
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def run(colours: Path, tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny(tmp_path_factory.mktemp("runs"), data=str(colours), brightness=0.0)
    folder = train(config).folder
    evaluate(EvaluateOptions(str(folder), device="cpu", num_workers=0))
    return folder


def _words(page: Path) -> str:
    text = re.sub(r"<(style|script)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


def test_one_run(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "one.html"
    result = report(ReportOptions([str(run)], output=str(page)))
    [summary] = result["runs"]
    assert summary["map"]["value"] > 0 and "top1" not in summary
    words = _words(page)
    figure = f"{100 * summary['map']['value']:.1f}"
    assert f": mAP {figure} %, 16 clips of validation" in words.replace("\u00a0", " ")
    for text in (
        "Micro F1", "Macro F1", "average precision", "Threshold of the F1 0.5",
        "guessing gives about 45.8", "of best validation mAP: the model kept",
        "The training loss is over augmented clips", "val_map",
        "Confusions, worst clips and the need for order of each class: a clip of any number",
    ):  # fmt: skip
        assert text in words, text
    for text in ("top-1", "Top-1", "Most confused", "--diagnose", "have no labels"):
        assert text not in words, text
    for name in ("blue", "green", "red"):
        assert words.count(f" {name} ") == 1


def test_beside_others(run: Path, tiny: Make, dataset: Path, tmp_path: Path) -> None:
    """Each kind has columns of its own, and is not compared clip by clip."""
    single = train(tiny(tmp_path, epochs=1)).folder
    options: dict[str, Any] = {"device": "cpu", "num_workers": 0}
    evaluate(EvaluateOptions(str(single), **options))
    shutil.copytree(run, tmp_path / "again")
    page = tmp_path / "all.html"
    result = report(
        ReportOptions([str(run), str(single), str(tmp_path / "again")], output=str(page))
    )
    refusals = [pair["refusal"] for pair in result["comparisons"]]
    assert len(refusals) == 3
    assert all("has any number of classes (multi-label)" in text for text in refusals)
    words = _words(page)
    heads = "run mAP 95 % interval micro F1 macro F1 top-1 95 % interval top-5 mean class model"
    assert heads in words


def test_the_model_card(run: Path, tmp_path: Path) -> None:
    write_repository(run, tmp_path / "card", "someone/colours")
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert "Recognises which (any number) of 3 actions" in card
    assert "| data | mAP | micro F1 | macro F1 | protocol |" in card
