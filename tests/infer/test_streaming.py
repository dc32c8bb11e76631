"""StreamingRecognizer: frame by frame what the causal model says of the whole video."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import gtdnet
from gtdnet import StreamingRecognizer
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import eval_views, normalise
from gtdnet.errors import InputError
from gtdnet.models import VideoClassifier, create_model, save_model
from gtdnet.nn import set_num_segments

NAMES = ("up", "down", "left", "right", "still")
SPEC = ClipSpec(NAMES, num_segments=4, short_side=36, crop_size=32, mean=(0.4, 0.5, 0.6))


@pytest.fixture(scope="module")
def model() -> VideoClassifier:
    """Whose answers differ from frame to frame."""
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 5, 4, width=0.0625, causal=True, fold_div=2).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if "temporal" in key or key.startswith("classifier"):
                value.normal_(std=0.5, generator=generator)
    return model


@pytest.fixture(scope="module")
def path(model: VideoClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors", model, SPEC)


@pytest.fixture
def stream(path: Path) -> StreamingRecognizer:
    return StreamingRecognizer(path, device="cpu")


def video(frames: int, seed: int = 0, height: int = 40, width: int = 52) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def whole(model: VideoClassifier, frames: NDArray[np.uint8]) -> Tensor:
    """Probabilities of every frame, [F, K], of a video in one pass, prepared as for predict."""
    spec = SPEC.with_options(num_segments=len(frames))
    views = eval_views(torch.from_numpy(frames).permute(0, 3, 1, 2), spec)  # [1, F, 3, 32, 32]
    longer = copy.deepcopy(model)
    set_num_segments(longer, len(frames))
    with torch.inference_mode():
        return longer.forward_frames(normalise(views, spec))[0].softmax(-1)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_every_frame_says_what_the_model_says_of_the_video(
    stream: StreamingRecognizer, model: VideoClassifier
) -> None:
    frames = video(12)
    wanted = whole(model, frames)
    assert wanted.std(dim=0).max() > 0.05
    found = torch.cat([stream.scores(frame) for frame in frames])
    close(found, wanted)
    best = stream(frames[0], topk=2)
    assert [type(b) for b in best] == [gtdnet.ClassScore] * 2
    assert best[0].name == NAMES[best[0].label]


def test_after_many_frames(path: Path, model: VideoClassifier) -> None:
    """It is where the last frames alone lead, and its memory is what it was."""
    stream = StreamingRecognizer(path, device="cpu")
    frames, every = video(40, height=36, width=36), 150
    before = sum(t.nbytes for t in stream.state)
    found = torch.cat([stream.scores(frames[i % len(frames)]) for i in range(every)])
    last = frames[np.arange(every - 40, every) % len(frames)]
    close(found[-1], whole(model, last)[-1])
    assert sum(t.nbytes for t in stream.state) == before
    assert before < 20_000


def test_streams_in_one_batch_are_streams_alone(path: Path, model: VideoClassifier) -> None:
    videos = [video(9, seed, *size) for seed, size in enumerate([(40, 52), (70, 36), (36, 36)])]
    stream = StreamingRecognizer(path, streams=3, device="cpu")
    found = torch.stack([stream.scores(list(at)) for at in zip(*videos, strict=True)], dim=1)
    for of_stream, frames in zip(found, videos, strict=True):
        close(of_stream, whole(model, frames))
    answers = stream([v[0] for v in videos], topk=1)
    assert [len(answer) for answer in answers] == [1, 1, 1]


def test_one_stream_starts_again_and_others_go_on(path: Path, model: VideoClassifier) -> None:
    first, second = video(8, 0), video(8, 1)
    stream = StreamingRecognizer(path, streams=2, device="cpu")
    for at in range(5):
        stream.scores([first[at], second[at]])
    stream.reset(1)
    found = torch.stack([stream.scores([first[at], second[at]]) for at in range(5, 8)], dim=1)
    close(found[0], whole(model, first)[5:])
    close(found[1], whole(model, second[5:]))
    stream.reset()
    close(stream.scores([second[0], first[0]])[0], whole(model, second[:1])[0])


def test_a_stream_without_a_frame_waits(path: Path, model: VideoClassifier) -> None:
    first, second = video(4, 0), video(2, 1)
    stream = StreamingRecognizer(path, streams=2, device="cpu")
    stream.scores([first[0], second[0]])
    stream.scores([first[1]], streams=[0])
    stream.scores(first[2], streams=[0])
    found = stream.scores([second[1], first[3]], streams=[1, 0])
    close(found[0], whole(model, second)[-1])
    close(found[1], whole(model, first)[-1])


def test_step_is_a_function(stream: StreamingRecognizer, model: VideoClassifier) -> None:
    frames = video(5)
    state, mine = stream.start(), [t.clone() for t in stream.state]
    for frame in frames[:-1]:
        state = stream.step(frame, state)[1]
    logits = stream.step(frames[-1], state)[0]
    close(logits[0].softmax(-1), whole(model, frames)[-1])
    assert torch.equal(stream.step(frames[-1], state)[0], logits)
    assert all(torch.equal(a, b) for a, b in zip(mine, stream.state, strict=True))


def test_the_same_in_bf16_up_to_its_precision(path: Path, model: VideoClassifier) -> None:
    frames = video(6)
    stream = StreamingRecognizer(path, device="cpu", precision="bf16")
    found = torch.cat([stream.scores(torch.from_numpy(frame)) for frame in frames])
    torch.testing.assert_close(found, whole(model, frames), rtol=0, atol=0.05)


def test_the_programs_of_the_page_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    monkeypatch.chdir(tmp_path)
    Path("runs/causal").mkdir(parents=True)
    shutil.copy(path, "runs/causal/model.safetensors")
    with av.open("clip.mp4", "w") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width, track.height = 52, 40
        for picture in video(5):
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(track.encode(None))
    exec(compile(first, "docs/streaming.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "4"]
    assert {line.split()[1] for line in lines} <= set(NAMES)
    names: dict[str, Any] = {}
    exec(compile(second, "docs/streaming.md", "exec"), names)
    assert capsys.readouterr().out.startswith("causal: 2 frames a second are shown")
    assert names["probabilities"].shape == (len(NAMES),)


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("frames", "more", "message"),
    [
        (np.zeros((4, 5), np.uint8), {}, r"uint8 RGB of shape \[H, W, 3\], got torch.uint8 of.*5"),
        (np.zeros((3, 8, 8), np.uint8), {}, r"shape \[H, W, 3\], got .* \[3, 8, 8\]"),
        (np.zeros((8, 8, 3)), {}, r"got torch.float64"),
        (np.zeros((0, 8, 3), np.uint8), {}, r"has no pixels"),
        (video(2), {}, r"there are 1 streams, but 2 frames"),
        ([], {}, r"there are no frames"),
        (video(1), {"streams": [1]}, r"no stream 1; they are numbered from 0 to 0"),
        (video(1)[0], {"topk": 0}, r"topk must be at least 1, got 0"),
    ],
)
def test_bad_frames(
    stream: StreamingRecognizer, frames: Any, more: dict[str, Any], message: str
) -> None:
    before = stream.state
    with pytest.raises(InputError, match=message):
        stream(frames, **more)
    assert stream.state is before  # what was refused is not remembered


def test_a_frame_of_numbers_that_are_none(path: Path) -> None:
    with pytest.raises(InputError, match="no stream -1"):
        StreamingRecognizer(path, device="cpu").reset(-1)
    with pytest.raises(InputError, match="streams must be at least 1, got 0"):
        StreamingRecognizer(path, streams=0, device="cpu")


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    model = create_model("gtdnet_resnet18", 5, 4, width=0.125)
    path = save_model(tmp_path / "model.safetensors", model, SPEC)
    with pytest.raises(InputError, match=r"later ones .*causal: true.*predict --window"):
        StreamingRecognizer(path, device="cpu")
