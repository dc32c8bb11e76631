"""Every clip once, with the answers of gtdnet predict, whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtdnet import workers
from gtdnet.bulk.run import Summary
from gtdnet.cli import main
from gtdnet.errors import InputError
from gtdnet.infer.options import PredictOptions
from gtdnet.infer.predict import predict

parquet = pytest.importorskip("pyarrow.parquet", reason="bulk writes Parquet: gtdnet[parquet]")

Run = Callable[..., Summary]
REASON = "it is not a readable video"


def rows(out: Path) -> list[dict[str, Any]]:
    """The folder read as one table, as users do."""
    return parquet.read_table(out).to_pylist()


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_answers_are_those_of_predict(
    run: Run, clips: Path, model_path: Path, tmp_path: Path
) -> None:
    options = {"clips": 2, "crops": 1, "topk": 4, "device": "cpu"}
    report = predict(PredictOptions(str(model_path), [str(clips)], num_workers=0, **options))
    summary = run(clips, **options)

    found = [
        {
            "path": row["path"],
            "reason": row["reason"],
            "scores": [
                {"label": label, "name": name, "probability": probability}
                for label, name, probability in zip(
                    row["labels"] or (), row["names"] or (), row["probabilities"] or (), strict=True
                )
            ],
        }
        for row in rows(tmp_path / "out")
    ]
    assert found == json.loads(json.dumps(report.to_json()["videos"]))  # to the last bit
    assert [row["reason"] is None for row in found].count(False) == 1
    assert (summary.rows, summary.failed, summary.blocks, summary.deaths) == (19, 1, 3, 0)
    assert [REASON in reason for reason in summary.reasons] == [True]


def test_ids_are_paths_in_the_folder_and_features_those_of_predict(
    run: Run, clips: Path, model_path: Path, tmp_path: Path
) -> None:
    report = predict(
        PredictOptions(
            str(model_path),
            [str(clips)],
            clips=2,
            crops=3,
            features=str(tmp_path / "features.npz"),
            device="cpu",
        )
    )
    run(clips, features=True, clips=2, crops=3)

    table = parquet.read_table(tmp_path / "out")
    assert table.schema.field("features").type.list_size == 64
    found = table.to_pylist()
    assert [row["id"] for row in found][:5] == [
        "clip0.mp4", "clip1.mp4", "clip2.mp4", "clip3.mp4", "clip3b.mp4",
    ]  # fmt: skip
    assert [row["path"] for row in found] == [video.path for video in report.videos]
    expected = np.load(tmp_path / "features.npz")
    by_path = dict(zip(expected["names"], expected["clips"], strict=True))
    for row in found:
        if row["reason"] is None:
            np.testing.assert_allclose(row["features"], by_path[row["path"]], atol=1e-5)
        else:
            assert (row["features"], row["labels"]) == (None, None)


def test_a_run_goes_on_where_it_was(
    run: Run, clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", contents(undisturbed)
    shutil.copytree(undisturbed, out)
    assert run(clips).blocks == 0  # no process is started for that
    (out / "part-00000001.parquet").unlink()
    (out / "part-00000002.parquet").write_bytes(whole["part-00000002.parquet"][:-9])  # torn
    (out / ".part-00000002-abcd1234.tmp.parquet").write_bytes(b"half")

    summary = run(clips)

    assert (summary.rows, summary.rows_before, summary.blocks, summary.failed) == (19, 8, 2, 1)
    assert contents(out) == whole


def test_failed_clips_are_tried_again_where_that_is_asked_for(
    run: Run, clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "out")
    summary = run(clips, retry_failed=True)
    assert (summary.rows_before, summary.blocks, summary.failed) == (11, 1, 1)
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"topk": 3}, "topk 5, not 3"),
        ({"block_size": 4}, "block_size 8, not 4"),
        ({"features": True}, "features False, not True"),
        ({"num_segments": 8}, "another clip spec"),
        ({"listing": "other.csv"}, "another listing, or it has changed"),
    ],
)
def test_something_else_does_not_go_on(
    run: Run, clips: Path, undisturbed: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    (tmp_path / "other.csv").write_text(f"path\n{clips}/clip0.mp4\n")
    listing = tmp_path / options.pop("listing") if "listing" in options else clips
    with pytest.raises(InputError, match=f"holds answers of another run .*{said}.*another folder"):
        run(listing, **options)
    assert contents(out) == contents(undisturbed)


def test_a_folder_with_other_files_is_left_alone(run: Run, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files, but no run of gtdnet bulk"):
        run(clips)
    assert contents(out) == {"mine.txt": b"mine"}


def test_a_process_that_dies_once_is_forgiven(
    run: Run, clips: Path, undisturbed: Path, tmp_path: Path, deadly: Callable[..., Path]
) -> None:
    deadly({"clip5.mp4": 1})
    summary = run(clips, num_workers=2)
    assert summary.deaths == 1
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_a_clip_that_kills_is_a_row(
    run: Run, clips: Path, undisturbed: Path, tmp_path: Path, deadly: Callable[..., Path]
) -> None:
    log = deadly({"clip5.mp4": 99})
    summary = run(clips, attempts=1)

    assert log.read_text().split() == ["clip5.mp4"] * 3  # with its block, then twice alone
    assert (summary.rows, summary.failed, summary.deaths) == (19, 2, 3)
    found, expected = rows(tmp_path / "out"), rows(undisturbed)
    assert [row["id"] for row in found] == [row["id"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        if row["id"] == "clip5.mp4":
            assert row["reason"] == (
                "its process died each time that it was read (SIGKILL: most likely memory ran out)"
            )
        else:
            assert row["labels"] == other["labels"]
            if other["probabilities"]:  # alone in its batch, so not to the last bit
                np.testing.assert_allclose(row["probabilities"], other["probabilities"], atol=1e-6)
    assert not list((tmp_path / "out").glob(".*"))


def test_a_clip_that_hangs_is_a_row(
    run: Run, clips: Path, tmp_path: Path, deadly: Callable[..., Path]
) -> None:
    table = tmp_path / "clips.csv"
    table.write_text(f"path\n{clips}/clip1.mp4\n")
    deadly({"clip1.mp4": 99}, "time.sleep(99)")
    run(table, attempts=1, timeout=2)
    assert [row["reason"] for row in rows(tmp_path / "out")] == [
        "its process died each time that it was read (no sign of life for 2 s)",
    ]


def test_a_readers_mistake_costs_that_clip_alone(
    run: Run, clips: Path, tmp_path: Path, deadly: Callable[..., Path]
) -> None:
    deadly({"clip1.mp4": 99}, 'raise KeyError("odd")')
    table = tmp_path / "clips.csv"
    table.write_text(f"path\n{clips}/clip0.mp4\n{clips}/clip1.mp4\n")
    run(table)
    assert [row["reason"] for row in rows(tmp_path / "out")] == [None, "KeyError: 'odd'"]


def test_processes_that_never_begin_end_the_run(
    run: Run, clips: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plugins / "dead_plugin.py").write_text("import os; os._exit(3)")
    monkeypatch.setattr(workers, "_registering", ["dead_plugin"])
    with pytest.raises(InputError, match=r"3 processes ended before .* \(exit status 3\)"):
        run(clips)


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(
    clips: Path, model_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["bulk", str(model_path), str(clips), "--to", str(out), "--block_size", "4"]
    words += ["--num_workers", "1", "--device", "cpu", "--json"]
    command = [sys.executable, "-m", "gtdnet", *words]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until = time.monotonic() + 60
        while not (out / "part-00000000.parquet").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 19 clips, and the same command goes on" in messages
    assert sorted(contents(out))[0] == "_run.json" and not list(out.glob(".*"))

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["rows"] == 19 and summary["rows_before"] >= 4
    ids = [row["id"] for row in rows(out)]
    assert len(ids) == len(set(ids)) == 19


def test_all_clips_without_an_answer_is_a_failure(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("path;id\nnone.mp4;a\nnor/this.mp4;b\n")
    words = ["bulk", str(model_path), str(table), "--to", str(tmp_path / "out"), "--json"]
    assert main([*words, "--num_workers", "1"]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["rows"], summary["failed"]) == (2, 2)
    assert [row["id"] for row in rows(tmp_path / "out")] == ["a", "b"]
    assert [row["path"] for row in rows(tmp_path / "out")] == [
        str(tmp_path / "none.mp4"),
        str(tmp_path / "nor/this.mp4"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"runner": "spark"}, "unknown runner 'spark'"),
        ({"runner": "processes", "ray_address": "auto"}, "--ray-address is for --runner ray"),
        ({"to": "ftp://host/out"}, "give a folder of this machine, or a URL of an object store"),
        ({"timeout": 0}, "timeout must be positive"),
    ],
)
def test_bad_options(run: Run, clips: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(clips, **options)
