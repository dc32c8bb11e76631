"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gtdnet.cli import main
from gtdnet.errors import InputError
from gtdnet.files import (
    Occupied,
    alone_in,
    alone_in_first,
    atomic_folder,
    atomic_path,
    check_place,
    is_empty,
    read_yaml,
    write_csv,
    write_json,
    write_text,
    write_yaml,
)


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


# ------------------------------------------------------------------------ killed, and side by side

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX locks")


@contextmanager
def other_process(program: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has said "ready" and now waits; killed at the end."""
    lines = f"import os, sys, time\nfrom gtdnet.files import *\n{program}"
    command = [sys.executable, "-c", lines, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


WAIT = "print('ready', flush=True); time.sleep(60)"


@posix
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".a-notes.txt").touch()
    program = f"with atomic_path(sys.argv[1]) as part: part.write_text('half'); {WAIT}"
    with other_process(program, tmp_path / "a.txt") as process:
        write_text(tmp_path / "a.txt", "new")  # a living one's stays
        assert len(names_in(tmp_path)) == 3
        process.kill()
        process.wait()
        write_text(tmp_path / "b.txt", "another file's")
        assert len(names_in(tmp_path)) == 4
        write_text(tmp_path / "a.txt", "newer")
    assert names_in(tmp_path) == [".a-notes.txt", "a.txt", "b.txt"]
    assert (tmp_path / "a.txt").read_text() == "newer"


@posix
@pytest.mark.parametrize("exists", [False, True])
def test_the_next_folder_removes_what_a_killed_one_left(tmp_path: Path, exists: bool) -> None:
    final = tmp_path / "out"
    if exists:
        final.mkdir()
    program = f"with atomic_folder(sys.argv[1]) as part: (part / 'a').touch(); {WAIT}"
    with other_process(program, final) as process:
        process.kill()
        process.wait()
        with atomic_folder(final) as temporary:
            (temporary / "b").touch()
    assert names_in(tmp_path) == ["out"]
    assert names_in(final) == ["b"]


@posix
def test_a_folder_is_for_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    fork = "pid = os.fork()\n  if pid: print('ready', flush=True)\n  time.sleep(60)"
    program = f"with alone_in(Path(sys.argv[1]), 'x'):\n  {fork}"
    with other_process(program, folder) as process:
        message = rf"a: another gtdnet is at work in it \(process {process.pid}\); wait .* or go"
        with pytest.raises(Occupied, match=message), alone_in(folder, "go"):
            pass
        numbered = (tmp_path / "runs" / name for name in "abc")
        with alone_in_first(numbered, lambda path: path.name == "b", "go") as free:
            assert free.name == "c"
        process.kill()  # its child lives on
        process.wait()
        (folder / ".config-abcdefgh.tmp.yaml").touch()
        assert is_empty(folder)
        with alone_in(folder, "go"):
            assert names_in(folder) == [".lock"]
            with pytest.raises(Occupied, match="by this process already; go"):
                alone_in(folder, "go").__enter__()
    assert names_in(tmp_path / "runs") == ["a"]
    assert names_in(folder) == []  # it was there before


def test_a_new_folder_goes_again_where_nothing_came_into_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone_in(tmp_path / "a", "go"):
        raise RuntimeError
    with alone_in(tmp_path / "b", "go"):
        (tmp_path / "b" / "x").touch()
    assert names_in(tmp_path) == ["b"]
    with pytest.raises(InputError, match="cannot be made"), alone_in(tmp_path / "b" / "x", "go"):
        pass


def test_places_are_looked_at_before_the_work(tmp_path: Path) -> None:
    check_place(None)
    check_place(tmp_path / "new" / "deep" / "file.csv")
    (tmp_path / "file").touch()
    check_place(tmp_path / "file")
    check_place(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(InputError, match=r"file/x: cannot be written \(Not a directory\); choose"):
        check_place(tmp_path / "file" / "x")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    "words",
    [
        "train --data {data} --output /proc/x",
        "evaluate {file} --data {data} --output /proc/x",
        "pack {data} /proc/x",
        "export {file} /proc/x",
        "ablate {file} --output /proc/x",
        "ensemble {data} --output /proc/x",
        "show {file} {file} --output /proc/x",
        "check {data} --manifest /proc/x.json",
        "predict {file} {file} --output /proc/x.csv",
        "predict {file} {file} --draw /proc/x.mp4",
    ],
)
def test_every_command_says_first_where_it_cannot_write(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it reads what is wrong with the model and the clips, too."""
    (tmp_path / "data" / "train" / "walk").mkdir(parents=True)
    (tmp_path / "data" / "train" / "walk" / "clip.mp4").touch()
    (tmp_path / "model.safetensors").touch()
    paths = {"data": tmp_path / "data", "file": tmp_path / "model.safetensors"}
    assert main(words.format(**paths).split()) == 2
    assert re.fullmatch(
        r"gtdnet \w+: /proc/x\S*: cannot be written \(.*\); choose another place\n",
        capsys.readouterr().err,
    )
