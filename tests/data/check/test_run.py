"""Each thing that can be wrong with a dataset is found, named and counted, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.data.check import CheckReport, check_dataset, findings, format_report, inspect_clip
from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError


def make_clip(
    path: Path, seed: int, num_frames: int = 10, size: tuple[int, int] = (48, 64)
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        for _ in range(num_frames):
            picture = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(autouse=True)
def few_clips_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "_FEW", 1)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two classes, two training clips and one validation clip each, nothing wrong."""
    root = tmp_path / "data"
    for number, clip in enumerate(["train/down/a", "train/down/b", "train/up/c", "train/up/d"]):
        make_clip(root / f"{clip}.mp4", number)
    make_clip(root / "val/down/e.mp4", 4)
    make_clip(root / "val/up/f.mp4", 5)
    return root


def codes(report: CheckReport) -> dict[str, tuple[str, int]]:
    return {finding.code: (finding.severity, finding.count) for finding in report.findings}


def test_a_good_dataset(dataset: Path) -> None:
    done: list[tuple[int, int]] = []
    report = check_dataset(dataset, progress=lambda i, n: done.append((i, n)))
    assert report.ok
    assert report.findings == ()
    assert done == [(i, 6) for i in range(1, 7)]
    assert (report.format, report.class_names) == ("folder", ("down", "up"))
    train = report.splits["train"]
    assert (train.clips, train.readable, train.missing) == (4, 4, 0)
    assert train.num_frames == (10, 10, 10)
    assert train.seconds == (1.0, 1.0, 1.0)
    assert (train.fps, train.sizes) == ({"10": 4}, {"64x48": 4})
    assert train.class_counts == {"down": 2, "up": 2}
    assert list(report.splits) == ["train", "validation"]
    assert "OK: 0 errors, 0 warnings." in format_report(report)


def test_everything_that_can_be_wrong(dataset: Path) -> None:
    train = dataset / "train"
    (train / "up/empty.mp4").touch()
    (train / "up/text.mp4").write_text("no video")
    whole = (train / "up/c.mp4").read_bytes()
    (train / "up/cut.mp4").write_bytes(whole[: len(whole) // 2])
    shutil.copy(train / "down/a.mp4", train / "down/copy of a.mp4")
    shutil.copy(train / "down/b.mp4", train / "up/b.mp4")
    shutil.copy(train / "up/c.mp4", dataset / "val/up/c.mp4")
    make_clip(train / "up/short.mp4", 20, num_frames=3)
    make_clip(train / "up/tiny.mp4", 21, size=(16, 64))
    (train / "still").mkdir()
    report = check_dataset(dataset)
    assert codes(report) == {
        "empty": ("error", 1),
        "unreadable": ("error", 2),
        "leakage": ("error", 1),
        "contradiction": ("warning", 1),
        "duplicate": ("warning", 1),
        "shared-id": ("warning", 1),
        "class-without-clips": ("warning", 1),
        "odd-size": ("warning", 1),
        "short": ("info", 1),
    }
    assert not report.ok
    examples = {finding.code: finding.examples for finding in report.findings}
    assert examples["leakage"] == (
        f"{train}/up/c.mp4 (train) = {dataset}/val/up/c.mp4 (validation)",
    )
    assert examples["contradiction"] == (f"{train}/down/b.mp4 (train) = {train}/up/b.mp4 (train)",)
    assert examples["short"] == (f"{train}/up/short.mp4: 3 frames",)
    assert [finding.examples for finding in report.findings if finding.code[:5] == "class"] == [
        ("still",),
        ("still",),
    ]
    text = format_report(report)
    for finding in report.findings:
        assert finding.message in text
        assert finding.fix in text
    assert text.splitlines()[-1] == "Not OK: 3 errors, 6 warnings."
    read_back = json.loads(json.dumps(report.to_dict()))
    assert read_back["ok"] is False
    assert len(read_back["findings"]) == len(report.findings)


def test_missing_clips_and_a_broken_split(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 0)
    (tmp_path / "train.txt").write_text("a.mp4 0\ngone.mp4 1\n")
    (tmp_path / "val.txt").write_text("a.mp4 5\n")
    (tmp_path / "test.txt").write_text("gone too.mp4 1\n")
    report = check_dataset(tmp_path)
    found = [(f.code, f.severity, f.count, f.examples) for f in report.findings]
    assert ("missing", "warning", 1, (f"{tmp_path}/gone.mp4",)) in found
    assert ("missing", "warning", 1, (f"{tmp_path}/gone too.mp4",)) in found
    assert ("no-clips", "error", 1, ()) in found
    assert ("class-without-clips", "warning", 1, ("class 1",)) in found
    (broken,) = (finding for finding in report.findings if finding.code == "annotations")
    assert "val.txt, line 1, has label 5" in broken.message
    assert list(report.splits) == ["train", "test"]
    with pytest.raises(InputError, match="has label 5"):
        check_dataset(tmp_path, splits=["validation"])


def test_processes_change_nothing(dataset: Path) -> None:
    (dataset / "train/up/text.mp4").write_text("no video")
    here, there = (check_dataset(dataset, workers=workers) for workers in (0, 2))
    assert here.findings == there.findings
    assert here.splits == there.splits


def test_imbalance(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(dataset / "train/up/g.mp4", 9)
    monkeypatch.setattr(findings, "_MAX_IMBALANCE", 1.4)
    (finding,) = check_dataset(dataset).findings
    assert (finding.code, finding.severity) == ("imbalance", "info")
    assert finding.examples == ("down: 2", "up: 3")


def test_digest_sees_pictures_not_files(tmp_path: Path) -> None:
    first = make_clip(tmp_path / "a.mp4", 0)
    other = make_clip(tmp_path / "b.mp4", 1)
    with av.open(str(first)) as old, av.open(str(tmp_path / "c.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    digests = [inspect_clip(str(p)).digest for p in (first, other, tmp_path / "c.mkv")]
    assert digests[0] == digests[2] != digests[1]


def test_manifest_holds_the_readable_clips(dataset: Path) -> None:
    (dataset / "train/up/text.mp4").write_text("no video")
    manifest = dataset.parent / "good" / "manifest.json"
    report = check_dataset(dataset, manifest=manifest)
    assert report.manifest == str(manifest)
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.json"]
    for split in ("train", "validation"):
        original, kept = read_annotations(dataset, split), read_annotations(manifest, split)
        assert kept.class_names == original.class_names
        assert kept.records == tuple(r for r in original.records if r.id != "up/text")
    again = check_dataset(manifest)
    assert (again.format, again.ok) == ("manifest", True)
    with pytest.raises(InputError, match=r"manifest\.json exists already"):
        check_dataset(dataset, manifest=manifest)


def test_a_manifest_moves_with_its_data(dataset: Path) -> None:
    check_dataset(dataset, manifest=dataset / "manifest.json")
    moved = dataset.rename(dataset.with_name("moved"))
    found = read_annotations(moved / "manifest.json", "validation")
    assert [r.path for r in found.records] == [
        str(moved / "val/down/e.mp4"),
        str(moved / "val/up/f.mp4"),
    ]


def test_videos_that_are_left_out_are_named(dataset: Path) -> None:
    train = dataset / "train"
    names = ["train/up/raw.MXF", "train/loose.mp4", "extra/down/x.mp4", "top.vob", "top.mkv"]
    for name in (*names, "train/up/.hidden.vob", ".cache/x.mp4", "notes.txt", "train/up/sound.wav"):
        (dataset / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(train / "down/a.mp4", dataset / name)
    report = check_dataset(dataset, workers=0)
    assert codes(report) == {"loose": ("warning", 2), "left-out": ("warning", 3)}
    examples = [example for found in report.findings for example in found.examples]
    assert sorted(examples) == sorted(str(dataset / name) for name in names)
    assert check_dataset(dataset, workers=0, splits=["train"]).findings == ()


def test_lists_leave_out_what_they_do_not_name(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    for number, name in enumerate("abc"):
        make_clip(tmp_path / f"{name}.mp4", number)
    (tmp_path / "d.rmvb").touch()
    report = check_dataset(tmp_path, workers=0)
    found = {found.code: found.examples for found in report.findings}
    assert found == {"no-validation": (), "left-out": (str(tmp_path / "d.rmvb"),)}


@pytest.mark.parametrize(
    ("suffix", "container", "codec"),
    [(".m2ts", "mpegts", "mpeg2video"), (".asf", "asf", "mpeg4"), (".f4v", "mp4", "mpeg4")],
)
def test_camera_and_older_suffixes_are_read(
    dataset: Path, suffix: str, container: str, codec: str
) -> None:
    path = dataset / f"train/up/e{suffix}"
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(10):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    report = check_dataset(dataset, workers=0)
    assert report.findings == ()
    assert report.splits["train"].class_counts["up"] == 3
    assert read_annotations(dataset).records[-1].id == "up/e"
