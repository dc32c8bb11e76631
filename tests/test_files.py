"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from gtdnet.errors import InputError
from gtdnet.files import atomic_path, read_yaml, write_csv, write_json, write_text, write_yaml


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_appears_on_success_only(tmp_path: Path) -> None:
    final = tmp_path / "report.html"
    with atomic_path(final) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == tmp_path  # a rename, never a copy across file systems
        assert temporary.suffix == ".html"
        assert not final.exists()
    assert final.read_text() == "whole"
    assert names_in(tmp_path) == ["report.html"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_path(tmp_path / "report.html") as temporary:
        temporary.write_text("half")
        raise error
    assert names_in(tmp_path) == []


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "report.html"
    final.write_text("old")
    with pytest.raises(OSError), atomic_path(final) as temporary:
        temporary.write_text("half")
        raise OSError
    assert final.read_text() == "old"
    assert names_in(tmp_path) == ["report.html"]


def test_success_replaces_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "report.html"
    final.write_text("old")
    write_text(final, "new")
    assert final.read_text() == "new"
    assert names_in(tmp_path) == ["report.html"]


def test_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "text")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


@pytest.mark.parametrize("below", ["b.txt", "c/b.txt"])
def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(InputError, match=rf"{below}: cannot be written, for .*a.txt is a file"):
        write_text(tmp_path / "a.txt" / below, "text")
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        write_text(tmp_path / "a", "text")
    assert names_in(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "new.txt", "text")
        assert os.umask(umask) == umask  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == mode


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt", "größe 速\n")
    assert (tmp_path / "text.txt").read_bytes() == "größe 速\n".encode()


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"top1": 0.5, "name": "größe"})
    assert path.read_text(encoding="utf-8") == '{\n  "top1": 0.5,\n  "name": "größe"\n}\n'
    with pytest.raises(TypeError):
        write_json(path, {"top1": object()})
    assert json.loads(path.read_text(encoding="utf-8"))["top1"] == 0.5
    assert names_in(tmp_path) == ["metrics.json"]


def test_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [("class", "clips"), ('say "hi", wave', None), ("größe", 3)])
    lines = (tmp_path / "table.csv").read_bytes().decode().split("\n")
    assert lines == ["class,clips", '"say ""hi"", wave",', "größe,3", ""]


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    value = {"name": "größe", "epochs": 2, "classes": [1, 2]}
    write_yaml(path, value)
    assert path.read_text(encoding="utf-8") == "name: größe\nepochs: 2\nclasses:\n- 1\n- 2\n"
    assert read_yaml(path) == value
    for content in (b"[", b"\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"config\.yaml: is not YAML"):
            read_yaml(path)
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read \(No such file"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    """As Python has file names that are not UTF-8; JSON gives them back."""
    name = os.fsdecode(b"caf\xe9.mp4")
    write_json(tmp_path / "a.json", {"path": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": name}
    write_csv(tmp_path / "a.csv", [("path",), (name,)])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "path\ncaf\\udce9.mp4\n"
