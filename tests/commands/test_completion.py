"""The scripts as shells run them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gtdnet.cli import COMMANDS, main

ASK = """
source {script}
COMP_WORDS=({words} "{last}")
COMP_CWORD={number}
_gtdnet
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "gtdnet.bash"
    capture = pytest.MonkeyPatch()
    lines: list[str] = []
    capture.setattr("gtdnet.cli.write", lines.append)
    assert main(["completion", "bash"]) == 0
    capture.undo()
    path.write_text(lines[0] + "\n")
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gtdnet tr", ["train"]),
        ("gtdnet ev", ["evaluate"]),
        ("gtdnet train --sched", ["--schedule"]),
        ("gtdnet train --schedule c", ["cosine", "constant"]),
        ("gtdnet train --init ", ["auto", "default", "identity"]),
        ("gtdnet train --thr", ["--threads"]),
        ("gtdnet evaluate --thr", ["--threshold", "--threads"]),
        ("gtdnet check --thr", [""]),
        ("gtdnet bench --ref", ["--reference"]),
        ("gtdnet bench --num_work", [""]),
        ("gtdnet bench data --num_work", ["--num_workers"]),
        ("gtdnet bench train --sett", ["--settings"]),
        ("gtdnet check Make", ["Makefile"]),  # files
    ],
)
def test_bash(typed: str, expected: list[str], script: Path, tmp_path: Path) -> None:
    (tmp_path / "Makefile").touch()
    words, _, last = typed.rpartition(" ")
    ask = ASK.format(script=script, words=words, last=last, number=len(words.split()))
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.split("\n")[:-1], done.stderr) == (expected, "")


def test_zsh_and_fish_have_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        for name in COMMANDS:
            assert name.split()[-1] in script
        assert "num_segments" in script
        if shutil.which(shell):
            done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
            assert done.stderr == ""


def test_another_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    message = "unknown shell 'bsh' (did you mean bash?): choose one of bash, zsh, fish"
    assert message in capsys.readouterr().err
