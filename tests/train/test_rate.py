"""A model whose frames are chosen by time: train, evaluate, predict, export, report, stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gtdnet import ClipSpec, load, open_live
from gtdnet.cli import main
from gtdnet.data.decode import read_frames
from gtdnet.data.sampling import dense_indices
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.evaluate.protocol import summary
from gtdnet.export import ExportOptions, export
from gtdnet.infer.predict import PredictOptions, predict
from gtdnet.report.options import ReportOptions
from gtdnet.report.report import report
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def run(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on videos of 12 frames/s at 6 a second: what dense sampling of interval 2 does."""
    output = tmp_path_factory.mktemp("rate")
    train(tiny(output, sampling="rate", rate=6, epochs=1, model_options={"width": 0.0625}))
    return output / "run"


def test_the_command_trains_it(dataset: Path, tmp_path: Path) -> None:
    words = f"train --data {dataset} --model tsn_resnet18 --sampling rate --rate 8 --epochs 1"
    assert main([*words.split(), "--output", str(tmp_path), "--name", "a", "--print_config"]) == 0


def test_training_and_evaluation_take_frames_by_time(run: Path, dataset: Path) -> None:
    recognizer = load(run, "cpu")
    spec = recognizer.spec
    assert (spec.sampling, spec.rate, spec.num_segments) == ("rate", 6.0, 4)
    result = evaluate(EvaluateOptions(str(run), str(dataset), clips=2, device="cpu", num_workers=0))
    assert result["num_evaluated"] == 5 and result["protocol"]["spec"]["rate"] == 6
    assert "rate/6 sampling" in summary(result)
    with np.load(Path(result["output"]) / "scores.npz") as saved:
        ids, scores = saved["ids"].tolist(), saved["scores"]
    dense = ClipSpec.from_dict(
        {**spec.to_dict(), "sampling": "dense", "frame_interval": 2, "rate": None}
    )
    for path in sorted((dataset / "val").rglob("*.mp4")):
        (row,) = (s for i, s in zip(ids, scores, strict=True) if Path(i).stem == path.stem)
        frames, count = read_frames(path, np.arange)
        recognizer.spec = spec
        by_rate = recognizer.views(frames, 2, fps=12)
        recognizer.spec = dense
        assert torch.equal(by_rate, recognizer.views(frames, 2))
        assert dense_indices(count, 4, 2, 2)[1, -1] == count - 1
        wanted = recognizer.scores(by_rate[None])[0]
        torch.testing.assert_close(torch.from_numpy(row), wanted, rtol=0, atol=1e-5)
    page = report(ReportOptions([str(run)], output=str(run / "page.html"), data=str(dataset)))
    assert "rate, 6 frames a second" in Path(page["output"]).read_text(encoding="utf-8")


def test_prediction_of_videos_windows_and_folders(run: Path, dataset: Path, tmp_path: Path) -> None:
    recognizer, path = load(run, "cpu"), sorted((dataset / "val").rglob("*.mp4"))[0]
    frames, _ = read_frames(path, np.arange)
    options = {"device": "cpu", "topk": 12}
    (video,) = predict(PredictOptions(str(run), [str(path)], window=0.75, **options)).videos
    assert len(video.windows) >= 2
    for window in video.windows:
        part = frames[round(12 * window.start) : round(12 * window.end)]
        wanted = recognizer.scores(recognizer.views(part, fps=12)[None])[0]
        found = torch.tensor([s.probability for s in sorted(window.scores)])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    from PIL import Image

    for number, frame in enumerate(frames.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(frame).save(tmp_path / f"{number:03}.png")
    (unknown,) = predict(PredictOptions(str(run), [str(tmp_path)], **options)).videos
    assert "frame rate is unknown" in str(unknown.reason)
    (folder,) = predict(PredictOptions(str(run), [str(tmp_path)], fps=12, **options)).videos
    (whole,) = predict(PredictOptions(str(run), [str(path)], **options)).videos
    assert [round(s.probability, 5) for s in folder.scores] == [
        round(s.probability, 5) for s in whole.scores
    ]
    assert recognizer(frames, 12, fps=12)[0] == recognizer.predict(path, 12)[0]


def test_what_is_exported_says_so(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(ExportOptions(str(run), str(tmp_path / "out"), formats="onnx"))
    assert load(tmp_path / "out" / "model.onnx").spec == load(run, "cpu").spec


def test_a_stream_is_seen_as_a_video_is(run: Path, dataset: Path) -> None:
    """The window is a clip long: 4/6 s, at 12 frames/s the last 8 frames."""
    recognizer, path = load(run, "cpu"), sorted((dataset / "val").rglob("*.mp4"))[0]
    frames = read_frames(path, np.arange)[0].permute(0, 2, 3, 1).numpy()
    live = open_live(run, device="cpu", every=0.01)
    assert "a window of the last 0.667 s, of which 4 frames (rate/6)" in live.describe()
    found = [
        live.scores([frame], streams=[0], times=[number / 12])
        for number, frame in enumerate(frames[:12])
    ]
    wanted = recognizer.scores(recognizer.views(frames[4:12], fps=12)[None])
    torch.testing.assert_close(found[-1], wanted, rtol=0, atol=1e-5)


def test_a_rate_alone_is_refused(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"train --data {dataset} --model tsn_resnet18 --name never"
    assert main([*words.split(), "--rate", "8"]) == 2
    assert "rate=8 is of sampling rate alone, not of segment" in capsys.readouterr().err
    assert main([*words.split(), "--sampling", "rate"]) == 2
    assert "sampling rate needs a rate" in capsys.readouterr().err
    assert main([*words.split(), "--sampling", "rate", "--rate", "-1"]) == 2
    assert "rate must be positive, got -1" in capsys.readouterr().err
