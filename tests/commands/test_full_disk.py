"""No room for a file: what was found is shown all the same, and nothing half-written stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIMIT = 200  # bytes that a file may have; more is EFBIG, as a full disk is ENOSPC

PROGRAM = f"""
import resource, signal, sys
from gtdnet.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = ({LIMIT}, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
sys.exit(main(sys.argv[1:]))
"""


def run(*words: object, cwd: Path) -> tuple[int, str, str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    # Pipes have no size.
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def model(tiny_model: Any, tmp_path: Path) -> Path:
    from gtdnet import ClipSpec, save_model

    spec = ClipSpec(tuple("abcde"), num_segments=4, short_side=36, crop_size=32)
    path = tmp_path / "model.safetensors"
    save_model(path, tiny_model("gtdnet_resnet18"), spec)
    return path


def test_results_are_shown_and_nothing_stays(model: Path, dataset: Path, tmp_path: Path) -> None:
    names = sorted(folder.name for folder in (dataset / "train").iterdir())
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    clips = [path for name in names for path in sorted((dataset / "val" / name).glob("*.mp4"))]
    lines = [f"{path} {i % 5}\n" for i, path in enumerate(clips)]
    (data / "val.txt").write_text("".join(lines))
    (data / "train.txt").write_text("".join(lines))
    (data / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    code, said, errors = run(
        "evaluate", model, "--data", data, "--output", out, "--device=cpu", "--num_workers=0",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(said.splitlines()[-1])
    assert (code, result["output"]) == (1, None)
    assert 0 <= result["top1"] <= 1
    assert "could not be written (File too large); make room" in result["not_written"]
    assert result["not_written"] in errors and "Traceback" not in errors
    assert not out.exists() or not [p for p in out.iterdir() if p.stat().st_size]


@pytest.mark.parametrize(
    "words",
    [
        ["pack", "{data}", "{out}", "--num_workers=1"],
        ["predict", "{model}", "{clip}", "--device=cpu", "--features", "{out}.npz"],
        ["predict", "{model}", "{clip}", "--device=cpu", "--window=1", "--draw", "{out}.mp4"],
        ["show", "{model}", "{clip}", "--device=cpu", "--output", "{out}.png"],
    ],
    ids=lambda words: f"{words[0]} {words[-2]}",
)
def test_one_sentence(words: list[str], model: Path, dataset: Path, tmp_path: Path) -> None:
    clip = next((dataset / "val").rglob("*.mp4"))
    out = tmp_path / "new" / "out"
    names = {"data": dataset, "out": out, "model": model, "clip": clip}
    code, _, errors = run(*(word.format(**names) for word in words), cwd=tmp_path)
    assert code in (1, 2), errors
    assert "File too large" in errors and "make room" in errors
    assert "Traceback" not in errors
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != model]
    assert not left
