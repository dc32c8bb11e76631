"""What predict writes: answers that go on, features, a timeline's picture, a drawn video."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from gtdnet.data.decode import frame_times, iter_frames
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer import load
from gtdnet.infer import predict as module
from gtdnet.infer.predict import PredictOptions, predict


@pytest.fixture
def videos(write_video, tmp_path):
    """Two videos of 23 frames at 10 a second, and one that is none between them."""
    write_video(tmp_path / "in/a.mp4", ["red"] * 10 + ["blue"] * 13)
    (tmp_path / "in/b.mp4").write_bytes(b"")
    write_video(tmp_path / "in/c.mp4", ["green"] * 23)
    return tmp_path / "in"


def options(model_path, videos, **more):
    return PredictOptions(str(model_path), [str(videos)], device="cpu", num_workers=0, **more)


def without_numbers(path):
    """Its lines in any order; in other batches probabilities differ in their last digit."""
    return sorted(re.sub(r"\d\.\d{3,}(e-\d+)?", "", line) for line in path.open())


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("window", [None, 1.0])
def test_answers_go_on_where_they_stopped(
    model_path, videos, tmp_path, monkeypatch, suffix, window
):
    """Stopped after one answer; a line that was cut off is written anew; the end is the same."""
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    full = predict(options(model_path, videos, window=window, output=str(whole)))
    assert (len(full.videos), full.num_failed) == (3, 1)

    original, seen = module._answers, []

    def stops(*arguments):
        for answer in original(*arguments):
            if seen:
                raise KeyboardInterrupt
            seen.append(answer)
            yield answer

    with monkeypatch.context() as patch:
        patch.setattr(module, "_answers", stops)
        with pytest.raises(KeyboardInterrupt, match="keeps 1 answer, and the same command goes on"):
            predict(options(model_path, videos, window=window, output=str(parts)))
    with parts.open("ab") as file:
        file.write(b'{"path": "cut o' if suffix == ".jsonl" else b"cut,o")
    rest = predict(options(model_path, videos, window=window, output=str(parts)))
    assert (rest.num_before, len(rest.videos), rest.num_failed) == (1, 2, 1)
    assert without_numbers(parts) == without_numbers(whole)
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in whole.read_text().splitlines()]
        assert {Path(row["path"]).name: row["reason"] is None for row in rows} == {
            "a.mp4": True, "b.mp4": False, "c.mp4": True,
        }  # fmt: skip
    else:
        with whole.open(newline="") as file:
            assert {Path(row["video"]).name for row in csv.DictReader(file)} == {
                "a.mp4", "b.mp4", "c.mp4",
            }  # fmt: skip


def test_answers_of_another_run_are_not_added_to(model_path, videos, tmp_path):
    output = tmp_path / "out.jsonl"
    predict(options(model_path, videos, output=str(output)))
    before = output.read_bytes()
    with pytest.raises(InputError, match="of another model, or with other options"):
        predict(options(model_path, videos, output=str(output), topk=1))
    foreign = tmp_path / "mine.csv"
    foreign.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="something else than answers"):
        predict(options(model_path, videos, output=str(foreign)))
    with pytest.raises(InputError, match=r"give a file in \.jsonl or \.csv"):
        predict(options(model_path, videos, output=str(tmp_path / "out.txt")))
    assert output.read_bytes() == before and foreign.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("window", [None, 1.0])
def test_features_make_the_answers(model_path, videos, tmp_path, window):
    """The classifier on a clip's features gives its logits; names and times are theirs."""
    output = tmp_path / "out.npz"
    report = predict(options(model_path, videos, window=window, features=str(output)))
    recognizer = load(model_path, "cpu")
    with np.load(output, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    each = 1 if window is None else 2
    assert [Path(str(name)).name for name in found["names"]] == each * ["a.mp4"] + each * ["c.mp4"]
    t = recognizer.spec.num_segments
    assert found["frames"].shape[:2] == found["times"].shape == (2 * each, t)
    np.testing.assert_allclose(found["frames"].mean(1), found["clips"], rtol=1e-5, atol=1e-6)
    classifier = recognizer.model.classifier
    with torch.no_grad():
        scores = classifier(torch.from_numpy(found["clips"])).softmax(1).max(1).values
    answers = [
        best.scores[0].probability
        for video in report.videos
        if video.reason is None
        for best in (video.windows or [video])
    ]
    assert scores.tolist() == pytest.approx(answers, abs=1e-5)
    if window:
        assert found["starts"].tolist() == [0, 1, 0, 1]
        assert ((found["times"] >= found["starts"][:, None]).all()) and found["times"].max() < 2.3


def test_pictures(model_path, videos, tmp_path):
    """A timeline and a drawn video for each that can be read; frames and times stay."""
    out = tmp_path / "out"
    wanted = options(model_path, videos, timeline=str(out), draw=str(out))
    report = predict(wanted)
    assert report.window == 2.0
    names = ["a.mp4", "a.png", "c.mp4", "c.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(Path(file).name for file in report.files) == names
    with Image.open(out / "a.png") as picture:
        assert picture.width >= 600
    drawn = list(iter_frames(out / "a.mp4"))
    assert len(drawn) == 23
    times = frame_times(out / "a.mp4")
    assert times is not None
    np.testing.assert_allclose(times[:23], np.arange(23) / 10, atol=1e-3)
    red, blue = drawn[3][drawn[3].shape[0] // 2, -2], drawn[20][drawn[20].shape[0] // 2, -2]
    assert red[0] > 200 > red[2] and blue[2] > 200 > blue[0]
    with av.open(str(out / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    with pytest.raises(InputError, match="exists; add --overwrite"):
        predict(wanted)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"draw": "x.mp4"}, "give a folder for 3 videos"),
        ({"timeline": "x.gif"}, r"give a file in \.png, \.pdf, \.svg, or a folder"),
        ({"features": "x.txt"}, r"give a file in \.npz or \.parquet"),
        ({"stride": 0.0, "window": 1.0}, "stride must be positive"),
    ],
)
def test_names_of_files(model_path, videos, more, message):
    with pytest.raises(InputError, match=message):
        predict(options(model_path, videos, **more))


# ---------------------------------------------------------------------------------- in Python


def test_lists_and_layouts(model_path, videos):
    recognizer = load(model_path, torch.device("cpu"))
    one, two = videos / "a.mp4", videos / "c.mp4"
    frames = np.stack(list(iter_frames(one)))
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)
    expected = recognizer.predict(one)
    for same in (str(one), frames, tensor, tensor.contiguous()):
        assert recognizer(same) == expected
    several = recognizer([one, frames, two], num_threads=2)
    assert [s.label for s in several[0]] == [s.label for s in expected]
    for found, wanted in zip(several, (expected, expected, recognizer(two)), strict=True):
        assert [s.probability for s in found] == pytest.approx(
            [s.probability for s in wanted], abs=1e-5
        )
    with pytest.raises(DecodeError, match="0 bytes"):
        recognizer([one, videos / "b.mp4"])


def test_timeline_and_features_of_a_video(model_path, videos):
    recognizer = load(model_path, "cpu")
    found = recognizer.timeline(videos / "a.mp4", 1.0)
    report = predict(options(model_path, videos, window=1.0))
    assert [w[:2] for w in found] == [w[:2] for w in report.videos[0].windows] == [(0, 1), (1, 2)]
    frames = np.stack(list(iter_frames(videos / "a.mp4")))
    for a, b in zip(found, recognizer.timeline(frames, 1.0, fps=10), strict=True):
        assert a.scores == b.scores
    features, same = recognizer.features(videos / "a.mp4"), recognizer.features(frames, fps=10)
    np.testing.assert_allclose(features.frames, same.frames, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features.times, same.times)


def test_repr(model_path):
    said = repr(load(model_path, "cpu"))
    assert "gtdnet_resnet18" in said and "classes" in said and "engine torch" in said
