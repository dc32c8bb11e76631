"""docs/reproduce.md: its commands are commands, and its estimates what its code prints."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gtdnet.cli import main
from gtdnet.models.complexity import complexity
from gtdnet.train.config import list_recipes
from gtdnet.train.run import TrainResult

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(c) for c in re.findall(r"^    (gtdnet .*)$", PAGE, re.MULTILINE)]


class Stop(Exception):
    """Raised where a command would begin its work; carries its options."""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that commands would have worked with, instead of their work."""
    seen: list[Any] = []

    def note(options: Any) -> TrainResult:
        seen.append(options)
        raise Stop

    monkeypatch.setattr("gtdnet.train.run.train", note)
    monkeypatch.setattr("gtdnet.evaluate.run.evaluate", note)
    ensembles = import_module("gtdnet.evaluate.ensemble")  # the room has a function of that name
    monkeypatch.setattr(ensembles, "ensemble", note)
    for name in ("train.check_dataset_is_there", "evaluate.check_dataset_is_there"):
        monkeypatch.setattr(f"gtdnet.commands.{name}", lambda root: None)
    monkeypatch.setattr("gtdnet.commands.evaluate.check_is_there", lambda source: None)
    return seen


def options(words: list[str], stopped: list[Any]) -> Any:
    with pytest.raises(Stop):
        main([*words[1:], "--debug"])
    return stopped.pop()


def test_every_recipe_is_trained_and_every_training_evaluated(stopped: list[Any]) -> None:
    trained = [options(words, stopped) for words in COMMANDS if words[1] == "train"]
    recipes = [words[words.index("--recipe") + 1] for words in COMMANDS if words[1] == "train"]
    assert sorted(recipes) == [name for name in list_recipes() if name.startswith("gtdnet_r50")]
    for config, recipe in zip(trained, recipes, strict=True):
        _, _, frames, data = recipe.split("_")
        assert (config.name, config.data) == (f"{data}_{frames}", f"data/{data}")
        assert (config.num_segments, config.pretrained) == (int(frames[:-1]), "imagenet")
        assert config.batch_size * config.devices == 64


def test_every_row_has_its_command(stopped: list[Any]) -> None:
    """Each row's folder is what one of the commands writes."""
    written: set[str] = set()
    for words in COMMANDS:
        if words[1] == "evaluate":
            given = options(words, stopped)
            run = Path(given.model).parent
            frames = re.search(r"_(\d+)f$", run.name)
            assert frames and given.data == f"data/{run.name.partition('_')[0]}"
            written.add(f"{run}/eval-validation-{frames[1]}x{given.crops}x{given.clips}")
        if words[1] == "ensemble":
            members = options(words, stopped).members
            assert set(members) <= written
            frames, views = zip(*(m.rpartition("-")[2].split("x", 1) for m in members), strict=True)
            assert frames == ("8", "16") and len(set(views)) == 1
            folder = Path(members[0]).with_name(f"ensemble-validation-8+16x{views[0]}")
            written.add(str(folder))
    rows = re.findall(r"^\| (\S+) \| `(runs/\S+)` \| [\d.]+ / [\d.]+ \|$", PAGE, re.MULTILINE)
    assert len(rows) == 16  # the numbers of the paper's table
    assert {folder for _, folder in rows} <= written
    for row, folder in rows:
        assert folder.endswith(row.replace("(", "").replace(")", ""))


def test_estimates_are_what_the_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code
    exec(code[1], {})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 6
    assert printed in PAGE


def test_cost_of_a_view_by_its_size() -> None:
    for size in (224, 256):
        gmacs = complexity("gtdnet_resnet50", crop_size=size).macs / 1e9
        assert re.search(rf"{size}x{size}\W*( costs)? \(?{gmacs:.1f} G", PAGE), gmacs
