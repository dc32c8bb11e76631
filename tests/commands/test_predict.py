from __future__ import annotations

import json
from pathlib import Path

import pytest

from gtdnet.cli import main


def test_positional_words_may_be_named(
    data: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, clip = str(run / "model.safetensors"), str(next(data.glob("val/*/*")))
    answers = []
    for words in ([model, clip], ["--model", model, clip], [clip, f"--model={model}"]):
        capsys.readouterr()
        assert main(["predict", *words, "--json", "--num_workers", "0"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2]
    assert main(["check", "--data", str(data), "--workers", "1"]) == 0


def test_video_that_is_text(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    words = ["predict", str(run / "model.safetensors"), str(tmp_path / "text.mp4")]
    words += ["--num_workers", "0"]
    capsys.readouterr()
    assert main(words) == 2  # the only one
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gtdnet predict: {tmp_path}/text.mp4: it is not a readable video")
    assert err.count("\n") == 1

    words.insert(3, str(next(data.glob("val/*/*"))))  # the other one is answered
    assert main(words) == 1
    assert "not a readable video" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["num_failed"] == 1
