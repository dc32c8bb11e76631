from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from gtdnet.bench import data as bench
from gtdnet.bench.data import STAGES, DataBenchOptions, bench_data
from gtdnet.bench.result import text
from gtdnet.data import dataset
from gtdnet.data.decode import Chooser, read_frames
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError

SMALL: dict[str, Any] = {
    "num_segments": 4,
    "short_side": 36,
    "crop_size": 32,
    "num_videos": 3,
    "batch_size": 2,
    "num_workers": 0,
    "seconds": 0.2,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "easy"
    write_dataset(root, format="folder", edition="easy", train=6, validation=3, size=36, workers=1)
    return root


def small(*data: Path, **options: Any) -> DataBenchOptions:
    return DataBenchOptions(data=[str(path) for path in data], **{**SMALL, **options})


def test_a_bench_of_two_datasets(clips: Path, tmp_path: Path, six_rounds: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(clips, copy)
    output = tmp_path / "data.yaml"
    result = bench_data(small(clips, copy, num_workers=1, clips=2, crops=3, output=str(output)))
    assert yaml.safe_load(output.read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert (result["bench"], result["clock"], result["rounds"]) == ("data", "cpu", 6)
    assert result["notes"] == []
    assert result["data"][str(clips)] == {
        "format": "folder", "split": "train", "videos": 3, "failed": 0,
        "median_frames": result["data"][str(clips)]["median_frames"], "pixels": "36x36",
    }  # fmt: skip
    stages = {(s["data"], s["view"], s["stage"]): s for s in result["stages"]}
    assert set(stages) == {
        (str(data), view, stage)
        for data in (clips, copy)
        for view in ("train", "test")
        for stage in (*STAGES, "loader")
    }
    for (data, view, stage), found in stages.items():
        assert found["wall_ms"] > 0
        assert (found["vs_first"] is None) == (data == str(clips))
        if data != str(clips):
            assert found["vs_first"]["low"] <= found["vs_first"]["ratio"]
        if stage == "item":
            parts = [stages[data, view, s] for s in STAGES if s != "item"]
            assert max(p["wall_ms"] for p in parts) < found["wall_ms"]
    told = text(result)
    assert told.startswith(result["spec"])
    assert "x first" in told


def test_reading_is_as_it_was_afterwards(clips: Path) -> None:
    result = bench_data(small(clips, views="test", num_videos=1))
    assert dataset.read_frames is read_frames
    assert {s["view"] for s in result["stages"]} == {"test"}
    assert all(s["vs_first"] is None for s in result["stages"])
    assert "x first" not in text(result)


def test_the_same_videos_of_each(clips: Path, tmp_path: Path) -> None:
    """Found by id; where one dataset has fewer, of those that both have."""
    fewer = tmp_path / "fewer"
    shutil.copytree(clips, fewer)
    videos = sorted((fewer / "train").rglob("*.mp4"))
    for video in videos[1:]:
        video.unlink()
    result = bench_data(small(clips, fewer, views="test"))
    assert [about["videos"] for about in result["data"].values()] == [1, 1]
    videos[0].rename(videos[0].with_name("another.mp4"))
    result = bench_data(small(clips, fewer, views="test"))
    assert [about["videos"] for about in result["data"].values()] == [3, 1]
    assert result["notes"][0] in text(result).replace("\n", " ")
    assert all(stage["vs_first"] is None for stage in result["stages"])
    assert "x first" not in text(result)


def test_the_split_is_one_that_all_have(clips: Path, tmp_path: Path) -> None:
    both, other, third = (tmp_path / name for name in ("both", "other", "third"))
    for folder in (both / "train", both / "val", other / "val", third / "train"):
        shutil.copytree(clips / "train", folder)
    result = bench_data(small(both, other, views="test", seconds=0.01))
    assert {about["split"] for about in result["data"].values()} == {"validation"}
    with pytest.raises(InputError, match="there is no split to read in all of the data"):
        bench_data(small(other, third))


def test_a_video_that_one_dataset_cannot_decode_is_left_out_of_all(
    clips: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(clips, broken)
    videos = sorted((broken / "train").rglob("*.mp4"))
    videos[0].write_bytes(b"no video")
    result = bench_data(small(clips, broken, views="test", num_videos=6, seconds=0.01))
    assert [(d["videos"], d["failed"]) for d in result["data"].values()] == [(5, 0), (5, 1)]
    assert result["notes"] == [
        "Videos that cannot be decoded in one of the datasets are left out of all."
    ]
    assert all(s["vs_first"] for s in result["stages"] if s["data"] == str(broken))
    other = tmp_path / "other"
    shutil.copytree(clips, other)
    for video in sorted((other / "train").rglob("*.mp4"))[1:]:
        video.write_bytes(b"no video")
    with pytest.raises(InputError, match="no video can be decoded in all of"):
        bench_data(small(broken, other, num_videos=6))


def test_what_is_counted_is_videos_however_many_views(
    clips: Path, six_rounds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a frame moves on by a second, with ten clips of four frames each."""
    frames_read = 0

    def counting(
        path: str | Path, choose: Chooser, reduce, **options: Any
    ) -> tuple[torch.Tensor, int]:
        nonlocal frames_read
        frames, num_frames = read_frames(path, choose, reduce, **options)
        frames_read += len(frames)
        return frames, num_frames

    monkeypatch.setattr(dataset, "read_frames", counting)
    monkeypatch.setattr(bench, "_now", lambda: np.full(2, float(frames_read)))
    for views in (1, 10):
        result = bench_data(
            small(clips, views="test", num_videos=1, clips=views, crops=3 if views > 1 else 1)
        )
        (item,) = (s for s in result["stages"] if s["stage"] == "item")
        assert item["wall_ms"] == 4000 * views
        assert item["videos_per_second"] == 1 / (4 * views)
        assert "videos/s" in text(result)


def test_videos_that_cannot_be_decoded_are_left_out_and_counted(
    clips: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(clips, broken)
    videos = sorted((broken / "train").rglob("*.mp4"))
    videos[0].write_bytes(b"no video")
    result = bench_data(small(broken, views="test", num_videos=6))
    assert result["data"][str(broken)]["videos"] == 5
    assert result["data"][str(broken)]["failed"] == 1
    assert "1 more undecodable" in text(result)
    for video in videos:
        video.write_bytes(b"no video")
    with pytest.raises(InputError, match="none of 3 videos can be decoded; gtdnet check says"):
        bench_data(small(broken))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "side"}, "--views: unknown 'side'; choose of train, test"),
        ({"split": "test"}, "test"),
        ({"num_videos": 0}, "num_videos must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"crops": 2}, "crops must be 1 or 3, got 2"),
        ({"clock": "gpu"}, "clock 'gpu' needs a CUDA device"),
        ({"crop_size": 64}, "crop_size=64 does not fit into short_side=36"),
        ({"seconds": 0}, "seconds must be positive"),
        ({"output": "x.txt"}, "give a name that ends in .yaml"),
    ],
)
def test_options_out_of_range(clips: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        bench_data(small(clips, **options))
    assert message in str(error.value)


def test_which_datasets(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset given"):
        bench_data(small())
    with pytest.raises(InputError, match="a dataset is given twice"):
        bench_data(small(clips, clips))
    with pytest.raises(InputError, match="does not exist"):
        bench_data(small(tmp_path / "none"))
