"""gtdnet watch, as its users run it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.cli import main
from gtdnet.data.decode import iter_frames

SCENES = [("-", 0.4), ("red", 0.5), ("-", 0.4), ("blue", 0.4)]

EVENT = {
    "type", "source", "kind", "id", "label", "class", "probability", "peak", "start", "time",
    "start_wall", "wall", "scores",
}  # fmt: skip
SOURCE = {"type", "source", "state", "message", "time", "wall", "pause"}
STATS = {"type", "final", "wall", "seconds", "inference_ms", "sources", "webhook"}
OF_A_SOURCE = {
    "source", "frames", "shown", "dropped", "damaged", "lost", "events", "rate", "decode_ms",
    "end_to_end_ms", "best",
}  # fmt: skip


@pytest.fixture
def video(paint: Callable[..., Path], tmp_path: Path) -> Path:
    return paint(tmp_path / "a.mp4", SCENES)


def run(*words: object) -> int:
    return main(["watch", *map(str, words), "--device", "cpu"])


def test_lines_for_people(
    colour_model: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(colour_model, video, f"second={video}", "--topk", 1) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line for line in lines if "second" in line] == [
        "  0:00.6  second  begin  red  100.0 %",
        "  0:01.0  second  end    red  0.6 s, peak 100.0 %",
        "  0:01.5  second  begin  blue  100.0 %",
        "  0:01.6  second  end    blue  0.3 s, peak 100.0 %",
    ]
    assert len(lines) == 8
    assert max(map(len, lines)) <= 80
    assert "every frame is shown to the model" in err
    assert "named from 55 % on" in err
    table = err[err.index("frames") :].splitlines()
    assert re.match(r"second +34 .* 2 ", table[2])
    assert max(len(line) for line in err.splitlines()[1:]) <= 80


def test_lines_for_programs(
    colour_model: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(colour_model, video, "--json", "--updates", 0.2, "--stats", 0.01) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    keys = {"event": EVENT, "source": SOURCE, "stats": STATS}
    for line in lines:
        assert set(line) == keys[line["type"]]
    assert set(lines[-1]["sources"][0]) == OF_A_SOURCE
    assert [line["final"] for line in lines if line["type"] == "stats"][-2:] == [False, True]
    events = [line for line in lines if line["type"] == "event"]
    kinds = [(line["kind"], line["class"]) for line in events]
    assert kinds == [
        ("begin", "red"), ("update", "red"), ("end", "red"), ("begin", "blue"), ("end", "blue"),
    ]  # fmt: skip
    assert [s["class"] for s in events[0]["scores"]] == ["red", "green", "blue"]


def test_rules_of_the_command_line_go_before_the_models(
    colour_model: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(colour_model, video, "--shortest", 0.45, "--smoothing", 0) == 0
    out = capsys.readouterr().out
    assert "red" in out and "blue" not in out
    assert run(colour_model, video, "--threshold", 0.2, "--smoothing", 0, "--topk", 1) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("begin  red  33.3 %")


def test_raw_frames_on_stdin(colour_model: Path, video: Path) -> None:
    frames = b"".join(frame.tobytes() for frame in iter_frames(video))
    words = [colour_model, "-", "--size", "64x48", "--rate", "20", "--json", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "gtdnet", "watch", *map(str, words)],
        input=frames,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ended = [(line["class"], line["start"]) for line in lines if line.get("kind") == "end"]
    assert ended == [("red", 0.45), ("blue", 1.35)]
    assert lines[-1]["sources"][0]["frames"] == 34


def test_ctrl_c_ends_cleanly(
    colour_model: Path, paint: Callable[..., Path], station: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Open events are ended, the recording is finished, what happened is summed up."""
    server = station(paint(tmp_path / "a.ts", [("red", 9.0)]))
    record = tmp_path / "out.mp4"
    words = [colour_model, f"door={server.url}", "--json", "--record", record, "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gtdnet", "watch", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    lines = []
    while not lines or lines[-1].get("kind") != "begin":
        lines.append(json.loads(process.stdout.readline()))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    lines += [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 130, err
    assert [line.get("kind", line["type"]) for line in lines[-2:]] == ["end", "stats"]
    assert lines[-1]["final"] is True
    assert "interrupted" in err
    assert "secret" not in err and "hidden" not in err
    taken = lines[-1]["sources"][0]["frames"]
    assert len(list(iter_frames(record))) in (taken - 1, taken)  # one may have been on its way


def test_a_kill_leaves_a_recording_that_can_be_played(
    colour_model: Path, paint: Callable[..., Path], tmp_path: Path
) -> None:
    video, record = paint(tmp_path / "a.mp4", [("red", 30.0)], rate=10), tmp_path / "out.mp4"
    words = [colour_model, video, "--realtime", "--record", record, "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "gtdnet", "watch", *map(str, words)])
    until = time.monotonic() + 60  # a busy machine takes its time to begin
    while not record.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    with av.open(str(record)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5


def test_what_cannot_be_read(
    colour_model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(colour_model, tmp_path / "no.mp4") == 2
    assert "no.mp4: failed, there is no such file or folder; check the path" in (
        capsys.readouterr().err
    )
    assert run(colour_model, tmp_path / "no.mp4", video) == 1
    out, err = capsys.readouterr()
    assert "no.mp4: failed, there is no such file" in err
    assert "red" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-"], "raw frames on stdin (-) have no size and rate of their own"),
        (["udp://x"], "unknown protocol 'udp'"),
        (["a.mp4", "--webhook", "ftp://me:secret@h/x"], "unknown protocol of the webhook 'ftp'"),
        (["a.mp4", "--record", "a.avi"], "a.avi: the recording must be a video (*.mp4)"),
        (["a.mp4", "--threshold", "1.5"], "threshold must be above 0, up to 1, got 1.5"),
        (["a.mp4", "--release", "0"], "release must be a number above 0, up to 1, got 0"),
        (["a.mp4", "--topk", "0"], "topk must be at least 1, got 0"),
        (["a.mp4", "--silence", "0"], "silence must be positive, got 0.0"),
        (["a.mp4", "--metrics_port", "99999"], "port 99999 cannot be used for metrics"),
    ],
)
def test_bad_words(
    words: list[str],
    sentence: str,
    colour_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(colour_model, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gtdnet watch: {sentence}")
    assert err.count("\n") == 1
    assert "secret" not in err
    assert not list(tmp_path.iterdir())


def test_a_model_that_sees_windows(
    colour_model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is not causal says the same of windows, and what it costs."""
    from gtdnet.models import create_model, load_model, save_model

    causal = load_model(colour_model)
    model = create_model("gtdnet_resnet18", 3, 2, width=0.0625)
    weights = {k: v for k, v in causal.model.state_dict().items() if k in model.state_dict()}
    model.load_state_dict(weights, strict=False)
    path = save_model(tmp_path / "windows.safetensors", model, causal.spec)
    assert run(path, video, "--window", 0.1, "--every", 0.05, "--topk", 1) == 0
    out, err = capsys.readouterr()
    assert [line.split()[2] for line in out.splitlines() if "begin" in line] == ["red", "blue"]
    assert "a window of the last 0.1 s" in err
    assert np.isfinite(float(re.findall(r"costs ([\d.]+)", err)[0]))


def test_the_program_of_the_page_runs(
    colour_model: Path,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "watch.md").read_text(encoding="utf-8")
    program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    Path("runs/first").mkdir(parents=True)
    shutil.copy(colour_model, "runs/first/model.safetensors")
    video.rename("clip.mp4")
    exec(compile(program, "docs/watch.md", "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["clip.mp4", "red"], ["clip.mp4", "blue"]]


def test_the_keys_of_the_page_are_those_of_the_lines() -> None:
    page = (Path(__file__).parents[2] / "docs" / "watch.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", page, re.MULTILINE))
    for name, keys in (("event", EVENT), ("source", SOURCE), ("stats", STATS | OF_A_SOURCE)):
        said = set(re.findall(r"`(\w+)[`:]", rows[name]))
        assert keys - {"type"} <= said, keys - said
