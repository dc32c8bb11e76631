"""docs/architecture.md is true: its five examples are added and used as it says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gtdnet import cli
from gtdnet.cli import main
from gtdnet.data.formats import base as formats
from gtdnet.engines import base as engines
from gtdnet.models import methods
from gtdnet.models.backbones import base as backbones

PAGE = (Path(__file__).parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python file=mine/(\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
LINES = re.findall(r"^    gtdnet (.+)$", PAGE.partition("### All of them at once")[2], re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package ``mine``; what it registers is gone afterwards."""
    registries = [
        methods.METHODS,
        backbones.BACKBONES,
        formats._formats,
        engines._registered,
        cli.COMMANDS,
        cli._MODULES,
    ]
    before = [dict(registry) for registry in registries]
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name, code in EXAMPLES.items():
        (tmp_path / f"mine/{name}.py").write_text(code, encoding="utf-8")
    yield tmp_path
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_each_example_is_one_file_and_one_line_that_registers_it() -> None:
    assert set(EXAMPLES) == {"centre", "tiny", "table", "double", "classes"}
    for code in EXAMPLES.values():
        assert len(re.findall(r"^@?register_\w+", code, re.MULTILINE)) == 1


def test_the_lines_of_the_page_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for line in LINES:
        if line.startswith("train"):
            _write_table(folder)
        code = main([*shlex.split(line), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, f"{line}: {err}"
        found[line.split()[0]] = json.loads(out.splitlines()[-1])
    assert list(found) == [
        "synth", "models", "train", "evaluate", "predict", "export", "report", "classes",
    ]  # fmt: skip
    assert "centre_tiny" in [model["name"] for model in found["models"]["models"]]
    assert len(found["predict"]["videos"]) == 12
    assert {row["format"] for row in found["export"]["formats"]} >= {"torch"}
    assert found["classes"]["classes"] == sorted(found["synth"]["classes"])[:5]
    assert "centre_tiny" in (folder / "mine.html").read_text(encoding="utf-8")


def test_help_lists_what_was_added(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imports = [f"--import=mine.{name}" for name in EXAMPLES]
    assert main(["--help", *imports]) == 0
    assert "list the classes of a model file" in capsys.readouterr().out
    for command, wanted in (("check", "table"), ("predict", "double"), ("bench", "double")):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help", *imports])
        assert wanted in capsys.readouterr().out


def test_a_model_file_of_something_that_is_not_there_says_what_to_import(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gtdnet
    from gtdnet.data.spec import ClipSpec

    assert main(["models", "centre_tiny", "--import=mine.centre", "--import=mine.tiny"]) == 0
    model = gtdnet.create_model("centre_tiny", 2, 4)
    spec = ClipSpec(("a", "b"), num_segments=4, short_side=32, crop_size=32)
    gtdnet.save_model("model.safetensors", model, spec)
    del methods.METHODS["centre"]
    with pytest.raises(gtdnet.InputError, match=r"unknown model 'centre_tiny'.*--import PACKAGE"):
        gtdnet.load("model.safetensors")


def _write_table(folder: Path) -> None:
    (folder / "tabled").mkdir()
    lines = [
        f"{split}\t{clip.parent.name}\t../{clip.relative_to(folder).as_posix()}"
        for split, name in (("train", "train"), ("validation", "val"))
        for clip in sorted((folder / "clips" / name).rglob("*.mp4"))
    ]
    (folder / "tabled/clips.tsv").write_text("\n".join(lines), encoding="utf-8")
