"""A packed dataset says and shows what the original does, however packing it went."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.cli import main
from gtdnet.data.dataset import EvalClips, Sample, TrainClips
from gtdnet.data.decode import iter_frames, probe, read_frames
from gtdnet.data.formats import list_splits, read_annotations
from gtdnet.data.pack import PackOptions, in_shards, pack, summary
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import FORMATS, write_dataset
from gtdnet.errors import DecodeError, InputError
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.infer.predict import PredictOptions, predict
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import train

VIDEOS = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "videos"
needs_videos = pytest.mark.skipif(not VIDEOS.is_dir(), reason="the collection of videos is absent")

NUM_FRAMES = 20


def packed(data: Path, output: Path, **options: Any) -> dict[str, Any]:
    return pack(PackOptions(str(data), str(output), **{"workers": 1, **options}))


def encode(path: Path, frames: Iterable[np.ndarray], codec: str = "libx264") -> Path:
    """A video at 10 frames/s whose colours are kept as they are where the codec can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "10"}
        for i, frame in enumerate(frames):
            if i == 0:
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def greys(num_frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frame i is an even grey of 20 + 10 i."""
    return [np.full((height, width, 3), 20 + 10 * i, np.uint8) for i in range(num_frames)]


def outcome(path: str | Path, index: int) -> np.ndarray | str:
    """Frame ``index`` of a clip of 20 frames, or why there is none."""
    try:
        return read_frames(path, lambda n: np.array([min(index, n - 1)]))[0][0].numpy()
    except DecodeError as error:
        return error.reason


# What it gives


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(tmp_path: Path, format: str) -> None:
    data, output = tmp_path / "data", tmp_path / "packed"
    write_dataset(data, format=format, edition="easy", train=12, validation=3, test=2, size=32,
                  workers=1)  # fmt: skip
    if format != "folder":  # where clips are listed, one may not be there
        gone = Path(read_annotations(data, "validation").records[1].path)
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    result = packed(data, output)
    assert result["splits"] == {"train": 12, "validation": 3 - (format != "folder"), "test": 2}
    assert result["missing"] == (format != "folder")
    assert (result["failed"], result["format"], result["shards"]) == ([], format, 1)
    assert list_splits(output) == list_splits(data)
    for split in list_splits(data):
        original, found = read_annotations(data, split), read_annotations(output, split)
        assert found.class_names == original.class_names
        assert found.missing == original.missing
        assert [(r.id, r.label) for r in found.records] == [
            (r.id, r.label) for r in original.records
        ]
        for a, b in zip(original.records, found.records, strict=True):
            was, now = list(iter_frames(a.path)), list(iter_frames(b.path))
            assert len(was) == len(now)
            assert np.abs(np.stack(was).astype(int) - np.stack(now)).mean() < 4
            assert (probe(a.path).fps, probe(a.path).num_frames) == (probe(b.path).fps, len(now))


@pytest.fixture(scope="module")
def grey_clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("greys")
    for clip, num_frames in {"train/a/1": 20, "train/b/2": 7, "val/a/3": 20, "val/b/4": 1}.items():
        encode(root / "data" / f"{clip}.mkv", greys(num_frames))
    packed(root / "data", root / "packed")
    return root / "data", root / "packed"


@pytest.mark.parametrize(
    "options",
    [
        {"num_segments": 4},
        {"num_segments": 30},
        {"num_segments": 5, "sampling": "dense", "frame_interval": 3},
        {"num_segments": 3, "frames_per_segment": 4},
    ],
)
def test_the_same_frames_are_sampled(
    grey_clips: tuple[Path, Path], options: dict[str, Any]
) -> None:
    spec = ClipSpec(("a", "b"), short_side=48, crop_size=48, **options)

    def shown(sample: object) -> list[int]:
        assert isinstance(sample, Sample)
        means = sample.views.double().mean((-3, -2, -1)).flatten()
        assert ((means - means.round(decimals=-1)).abs() < 3).all()
        return ((means.round(decimals=-1) - 20) / 10).int().tolist()

    for index in range(2):
        frames: list[Any] = []
        for root in grey_clips:
            train_clips = TrainClips(read_annotations(root, "train").records, spec, seed=1)
            eval_clips = EvalClips(read_annotations(root, "validation").records, spec, 2, 3)
            frames.append([shown(train_clips[epoch, index]) for epoch in range(3)])
            frames.append(shown(eval_clips[index]))
        assert frames[:2] == frames[2:]


def test_larger_clips_are_reduced_and_smaller_ones_are_not_enlarged(tmp_path: Path) -> None:
    sizes = {"wide": (60, 110), "high": (90, 50), "small": (20, 30), "even": (40, 40)}
    for name, size in sizes.items():
        encode(tmp_path / "data/train/a" / f"{name}.avi", greys(2, *size), "mjpeg")
    packed(tmp_path / "data", tmp_path / "packed", short_side=40)
    found = {r.id: probe(r.path) for r in read_annotations(tmp_path / "packed", "train").records}
    assert {name: (i.height, i.width) for name, i in found.items()} == {
        "a/wide": (40, 73), "a/high": (72, 40), "a/small": (20, 30), "a/even": (40, 40),
    }  # fmt: skip


def test_training_and_evaluating(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "packed"
    write_dataset(data, format="folder", edition="easy", train=13, validation=6, size=36, workers=1)
    packed(data, output, quality=95)
    config = TrainConfig(
        data=str(output), output=str(tmp_path), name="run", model="gtdnet_resnet18",
        model_options={"width": 0.125}, num_segments=4, short_side=36, crop_size=32, epochs=1,
        batch_size=3, num_workers=0, device="cpu", precision="fp32",
    )  # fmt: skip
    result = train(config)
    assert (result.finished, result.failures, result.val_failures) == (True, 0, 0)
    model = str(result.model)
    scores = []
    for root in (data, output):
        options = EvaluateOptions(model, str(root), num_workers=0, device="cpu", precision="fp32")
        metrics = evaluate(replace(options, output=str(tmp_path / f"eval-{root.name}")))
        assert (metrics["num_evaluated"], metrics["data"]["classes"]) == (6, "identical")
        with np.load(Path(metrics["output"]) / "scores.npz") as file:
            scores.append({name: file[name] for name in file.files if name != "about"})
    for name in ("ids", "labels", "class_names", "fingerprint"):
        assert (scores[0][name] == scores[1][name]).all()
    assert np.abs(scores[0]["scores"] - scores[1]["scores"]).max() < 0.02
    for videos in (str(output), str(output / "val")):
        report = predict(PredictOptions(model, [videos], num_workers=0, device="cpu"))
        assert (len(report.videos), report.num_failed) == (19 if videos == str(output) else 6, 0)
    window = predict(PredictOptions(model, [str(output / "val")], window=0.5, device="cpu"))
    assert [v.windows[0].end for v in window.videos] == [0.5] * 6


# Broken clips


def list_data(root: Path, *clips: str) -> Path:
    (root / "classes.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("".join(f"{clip} 1\n" for clip in clips))
    return root


OURS = ("good.avi", "empty.mp4", "text.mp4", "cut.avi", "pictures")


def test_broken_clips_are_named_and_stay_broken_frame_by_frame(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "packed"
    whole = encode(data / "good.avi", greys(NUM_FRAMES), "mjpeg").read_bytes()
    (data / "empty.mp4").touch()
    (data / "text.mp4").write_text("this is no video")
    (data / "cut.avi").write_bytes(whole[: len(whole) // 2])
    pictures = data / "pictures"
    pictures.mkdir()
    for i, grey in enumerate(greys(NUM_FRAMES), 1):
        encode(pictures / "x.mov", [grey], "mjpeg")
        with av.open(str(pictures / "x.mov")) as file:
            packet = next(file.demux(video=0))
            (pictures / f"{i:05d}.jpg").write_bytes(bytes(packet))
        (pictures / "x.mov").unlink()
    (pictures / "00008.jpg").write_bytes((pictures / "00008.jpg").read_bytes()[:-40])
    (pictures / "00016.jpg").write_text("x")
    list_data(data, *OURS)
    result = packed(data, output)
    assert result["frames"] == NUM_FRAMES + NUM_FRAMES - 2
    failed = {Path(clip["path"]).name: clip["reason"] for clip in result["failed"]}
    assert list(failed) == ["empty.mp4", "text.mp4", "cut.avi", "pictures"]
    assert failed["pictures"].startswith("00008.jpg: the picture is cut off")
    assert str(data / "cut.avi") in summary(result)
    assert compare(data, output) == {"good.avi": 0, "empty.mp4": 20, "text.mp4": 20, "cut.avi": 20,
                                     "pictures": 2}  # fmt: skip


@needs_videos
def test_videos_as_they_are_met_in_the_wild(tmp_path: Path) -> None:
    names = [
        "decord__corrupted.mp4", "decord__unordered.mov", "decord__video_90.mov",
        "moviepy__bitmap.mp4", "moviepy__result.webm", "text_named_mp4.mp4",
        "torchcodec__h265_10bits.mp4", "torchcodec__h265_video.mp4", "truncated_no_moov.mp4",
        "truncated_half_faststart.mp4",
    ]  # fmt: skip
    data = list_data(tmp_path, *names)
    for name in names:
        (data / name).symlink_to((VIDEOS / name).resolve())
    packed(data, tmp_path.parent / f"{tmp_path.name}-packed", quality=95)
    broken = compare(data, tmp_path.parent / f"{tmp_path.name}-packed")
    assert {name for name, count in broken.items() if count} == {
        "decord__corrupted.mp4", "moviepy__result.webm", "text_named_mp4.mp4",
        "truncated_no_moov.mp4", "truncated_half_faststart.mp4",
    }  # fmt: skip
    assert broken["decord__corrupted.mp4"] == 2


def compare(data: Path, output: Path) -> dict[str, int]:
    """Every single frame gives the same, or fails with the same reason; how many of each fail."""
    failures: dict[str, int] = {}
    original, found = read_annotations(data, "validation"), read_annotations(output, "validation")
    for a, b in zip(original.records, found.records, strict=True):
        name = Path(a.path).name
        failures[name] = 0
        for index in range(NUM_FRAMES) if name in OURS else (0, 1, 15, 30, 45):
            was, now = outcome(a.path, index), outcome(b.path, index)
            if isinstance(was, str):
                assert isinstance(now, str)
                assert was in now
                assert now.startswith("its original was broken: ")
                failures[name] += 1
            else:
                assert not isinstance(now, str), (name, index, now)
                if was.shape == now.shape:  # not reduced
                    assert np.abs(was.astype(int) - now).mean() < 5, (name, index)
    return failures


def test_where_nothing_can_be_decoded_nothing_is_left(tmp_path: Path) -> None:
    list_data(tmp_path, "a.mp4", "b.mp4")
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("no video")
    output = tmp_path.parent / f"{tmp_path.name}-packed"
    with pytest.raises(InputError, match=r"none of the 2 clips of \S+ can be decoded, the first "):
        packed(tmp_path, output)
    assert not list(output.iterdir())


# How it is written


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(1, 50), st.integers(0, 9), st.data())
def test_shards(sizes: list[int], limit: int, first: int, data: st.DataObject) -> None:
    numbered = list(in_shards(enumerate(sizes), lambda pair: pair[1], limit, first))
    assert [pair for _, pair in numbered] == list(enumerate(sizes))
    shards = [[size for _, (_, size) in g] for _, g in groupby(numbered, key=lambda item: item[0])]
    assert [n for n, _ in groupby(n for n, _ in numbered)] == list(
        range(first, first + len(shards))
    )
    for shard, following in zip_longest(shards, shards[1:]):
        assert sum(shard) <= limit or len([s for s in shard if s]) == 1
        assert following is None or sum(shard) + following[0] > limit  # none was closed too early
    # Going on after any whole shard gives the same shards.
    if shards:
        kept = data.draw(st.integers(0, len(shards) - 1))
        done = sum(map(len, shards[:kept]))
        again = in_shards(list(enumerate(sizes))[done:], lambda pair: pair[1], limit, first + kept)
        assert list(again) == numbered[done:]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of half a megabyte each, packed at quality 100."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("noise") / "data"
    for i in range(10):
        frames = rng.integers(0, 255, (24, 96, 128, 3), dtype=np.uint8)
        encode(root / f"train/{'ab'[i % 2]}/{i}.avi", frames, "mjpeg")
    return root


def content(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.fixture(scope="module")
def noise_packed(noise: Path) -> dict[str, bytes]:
    result = packed(noise, noise.with_name("packed"), quality=100, shard_size=1)
    assert result["shards"] >= 4
    return content(noise.with_name("packed"))


def test_any_number_of_workers_writes_the_same_bytes(
    noise: Path, noise_packed: dict[str, bytes], tmp_path: Path
) -> None:
    packed(noise, tmp_path / "packed", quality=100, shard_size=1, workers=2)
    assert content(tmp_path / "packed") == noise_packed


KILLED = """
import os, signal, sys
from gtdnet.data.pack.write import PackOptions, pack
options = PackOptions(sys.argv[1], sys.argv[2], quality=100, shard_size=1, workers=1)
pack(options, lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 7 else None)
"""


def test_a_killed_run_goes_on(
    noise: Path, noise_packed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "packed"
    killed = subprocess.run([sys.executable, "-c", KILLED, noise, output], check=False)
    assert killed.returncode == -signal.SIGKILL
    there = {path.name: path.stat().st_ino for path in output.glob("*.zip")}
    assert 2 <= len(there) < sum(name.endswith(".zip") for name in noise_packed)
    assert any((output / ".parts").iterdir())
    with pytest.raises(InputError, match="is not packed to its end; give the same gtdnet pack"):
        read_annotations(output, "train")
    with pytest.raises(InputError, match="was packed with other quality, shard_size; give another"):
        packed(noise, output)
    result = packed(noise, output, quality=100, shard_size=1)
    assert 0 < result["written"] < 8
    assert content(output) == noise_packed
    assert {path.name: path.stat().st_ino for path in output.glob("*.zip")}.items() >= there.items()
    again = packed(noise, output, quality=100, shard_size=1)
    assert again["written"] == 0
    assert "nothing was written" in summary(again)
    assert content(output) == noise_packed
    assert capsys.readouterr().err == ""


def test_a_run_that_was_killed_anywhere_goes_on(
    noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = tmp_path / "data", tmp_path / "packed"
    for clip in (f"train/{'ab'[i % 2]}/{i}.avi" for i in range(4)):
        (data / clip).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(noise / clip, data / clip)
    states: list[Path] = []

    def keep(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: Path, *words: Any, **options: Any) -> Any:
            if output.is_dir() and path.is_relative_to(output):
                states.append(tmp_path / f"state-{len(states)}")
                shutil.copytree(output, states[-1])
            return change(path, *words, **options)

        return changed

    with monkeypatch.context() as patch:
        for name in ("mkdir", "open", "replace", "unlink", "write_text"):
            patch.setattr(Path, name, keep(getattr(Path, name)))
        result = packed(data, output, quality=100, shard_size=1)
    assert result["shards"] >= 2
    assert len(states) > 20
    for state in states:
        packed(data, state, quality=100, shard_size=1)
        assert content(state) == content(output), sorted(state.iterdir())


def test_one_run_at_a_time(noise: Path, noise_packed: dict[str, bytes], tmp_path: Path) -> None:
    output = tmp_path / "packed"
    options = PackOptions(str(noise), str(output), quality=100, shard_size=1, workers=1)
    refused: list[subprocess.CompletedProcess[str]] = []

    def meanwhile(done: int, total: int) -> None:
        if done == 5:
            words = ["pack", str(noise), str(output), "--quality", "100", "--shard_size", "1"]
            command = [sys.executable, "-m", "gtdnet", *words]
            refused.append(subprocess.run(command, check=False, capture_output=True, text=True))

    assert pack(options, meanwhile)["written"] == 10
    assert [(done.returncode, done.stdout) for done in refused] == [(2, "")]
    assert f"{output} is being written by another gtdnet pack; wait" in refused[0].stderr
    assert refused[0].stderr.count("\n") == 1
    assert content(output) == noise_packed


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_dataset_of_the_same_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_finished: bool
) -> None:
    data, copy, other = tmp_path / "data", tmp_path / "copy", tmp_path / "other"
    for root, grey in ((data, 5), (other, 90)):
        rng = np.random.default_rng(grey)
        for clip in ("a/1.avi", "a/2.avi"):
            encode(root / "train" / clip, [rng.integers(0, grey, (48, 64, 3), np.uint8)], "mjpeg")
    shutil.copytree(data, copy, copy_function=shutil.copyfile)  # with new times

    def interrupt(done: int, total: int) -> None:
        if done == 1 and not is_finished:
            raise KeyboardInterrupt

    with nullcontext() if is_finished else pytest.raises(KeyboardInterrupt):
        pack(PackOptions(str(data), str(tmp_path / "packed"), workers=1), interrupt)
    with pytest.raises(InputError, match="holds a dataset that was packed with other files; give"):
        packed(other, tmp_path / "packed")
    assert packed(copy, tmp_path / "packed")["written"] == (0 if is_finished else 2)


def test_frame_folders_of_other_pictures_are_other_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, format="something-v1", edition="easy", train=1, validation=1, size=32,
                  workers=1)  # fmt: skip
    packed(data, tmp_path / "packed")
    assert packed(data, tmp_path / "packed")["written"] == 0
    picture = next(data.rglob("00002.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(InputError, match="packed with other files"):
        packed(data, tmp_path / "packed")


def test_interrupted_and_going_on_after_a_damaged_shard(
    noise: Path, noise_packed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "packed"
    options = PackOptions(str(noise), str(output), quality=100, shard_size=1, workers=1)

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(options, interrupt)
    assert "stopped after 7 of 10 clips; the same command goes on" in capsys.readouterr().err
    assert {p.name for p in output.iterdir()} >= {"clips-00001.zip", "pack-unfinished.json"}
    assert not (output / ".parts").exists()
    shard = output / "clips-00001.zip"  # as a crash of the machine may leave it
    shard.write_bytes(shard.read_bytes()[:1000])
    pack(options)
    assert content(output) == noise_packed


def _another_folder(data: Path, output: Path) -> None:
    output.mkdir()
    (output / "notes.txt").touch()


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (None, {"quality": 0}, "quality must be between 1 and 100, got 0"),
        (None, {"short_side": 8}, "short_side must be between 16 and 4096, got 8"),
        (None, {"shard_size": 4000}, "shard_size must be between 1 and 2000, got 4000"),
        (None, {"workers": 0}, "workers must be at least 1, got 0"),
        (None, {"splits": "dev"}, "There is no split 'dev'"),
        (None, {"splits": "train,test"}, "has no test split"),
        (None, {"format": "zip"}, "There is no format 'zip'"),
        (_another_folder, {}, "is not empty; give a new or empty folder"),
        (lambda data, output: output.touch(), {}, "is a file; give a folder to write to"),
        (lambda data, output: shutil.rmtree(data), {}, "does not exist; check the path"),
    ],
)
def test_what_is_refused(
    grey_clips: tuple[Path, Path],
    tmp_path: Path,
    prepare: Callable[[Path, Path], None] | None,
    options: dict[str, Any],
    message: str,
) -> None:
    data, output = tmp_path / "data", tmp_path / "packed"
    shutil.copytree(grey_clips[0], data)
    if prepare:
        prepare(data, output)
    with pytest.raises(InputError, match=message):
        packed(data, output, **options)
    assert not list(tmp_path.glob("packed/*.zip"))


def test_the_output_in_the_dataset_is_refused(grey_clips: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="lies in the dataset"):
        packed(grey_clips[0], grey_clips[0] / "packed")
    assert not (grey_clips[0] / "packed").exists()


def test_names_are_harmless_and_differ(tmp_path: Path) -> None:
    data = tmp_path / "in" / "data"
    clips = ["a:b.avi", "a?b.avi", "dots. /x.avi", "../out.avi", str(tmp_path / "far/out.avi")]
    for clip in clips:
        encode(data / clip, greys(1), "mjpeg")
    (data / "classes.txt").write_text("a\nb\n")
    (data / "train.txt").write_text("".join(f"{clip} 0\n" for clip in [*clips, clips[0]]))
    (data / "val.txt").write_text(f"{clips[0]} 1\n")  # one file in two splits is packed once
    packed(data, tmp_path / "packed")
    found = [record.path for record in read_annotations(tmp_path / "packed", "train").records]
    shard = tmp_path / "packed" / "clips-00000.zip"
    assert [Path(path).relative_to(shard).as_posix() for path in found] == [
        "a_b.avi", "a_b.avi~2", "dots._/x.avi", "_/out.avi", "out.avi",
    ]  # fmt: skip
    assert [r.path for r in read_annotations(tmp_path / "packed", "validation").records] == found[
        :1
    ]
    for path in found:
        read_frames(path, lambda n: np.arange(n))


def test_splits_may_be_told_with_blanks(grey_clips: tuple[Path, Path], tmp_path: Path) -> None:
    packed(grey_clips[0], tmp_path / "packed", splits="train, validation")
    assert list_splits(tmp_path / "packed") == ("train", "validation")


def test_packing_a_packed_dataset_again(grey_clips: tuple[Path, Path], tmp_path: Path) -> None:
    packed(grey_clips[1], tmp_path / "small", short_side=24, splits="validation")
    assert list_splits(tmp_path / "small") == ("validation",)
    for record in read_annotations(tmp_path / "small", "validation").records:
        assert Path(record.path).relative_to(tmp_path / "small").parts[:2] == (
            "clips-00000.zip", "val",
        )  # fmt: skip
        assert probe(record.path).height == 24


def test_command_line(
    grey_clips: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = str(grey_clips[0]), str(tmp_path / "packed")
    for words in (
        [data, output],
        ["--output", output, data],
        ["--output", output, "--data", data],
        ["--data", data, "--short-side", "256", f"--output={output}"],
    ):
        capsys.readouterr()
        assert main(["pack", *words, "--workers", "1", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["output"], result["clips"], result["frames"]) == (output, 4, 48)
    assert main(["pack", data, output]) == 0
    assert capsys.readouterr().out.endswith(f"use it with: --data {output}\n")
    assert main(["check", output, "--splits", "train"]) == 0
    assert main(["pack", data, str(grey_clips[0].parent / "nothing" / "x"), "--quality", "0"]) == 2
