"""open_live: any model on streams, by windows or frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gtdnet import StreamingRecognizer
from gtdnet.data.sampling import eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.infer import LiveModel, Recognizer, load, open_live
from gtdnet.infer.live import Pace
from gtdnet.infer.ring import Ring
from gtdnet.models import ModelFile, create_model, save_model

SPEC = ClipSpec(tuple("abcde"), num_segments=4, frame_interval=3, short_side=36, crop_size=32)


def video(frames: int, seed: int = 0) -> NDArray[np.uint8]:
    """Each frame has colours of its own."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 200, (frames, 1, 1, 3))
    return (colours + rng.integers(0, 56, (frames, 40, 52, 3))).astype(np.uint8)


def model_file(*, causal: bool = False, **changes: Any) -> ModelFile:
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 5, 4, width=0.0625, causal=causal).eval()
    nn.init.normal_(model.classifier.weight, std=0.5)
    return ModelFile(model, SPEC.with_options(**changes))


def show(live: LiveModel, frames: NDArray[np.uint8], fps: float) -> list[torch.Tensor]:
    """Probabilities after each frame of stream 0."""
    return [live.scores([f], streams=[0], times=[i / fps])[0] for i, f in enumerate(frames)]


def of_clip(recognizer: Recognizer, frames: NDArray[np.uint8]) -> torch.Tensor:
    """What a recognizer says of a video of these frames."""
    return recognizer.scores(recognizer.views(frames)[None])[0]


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


# --------------------------------------------------------------------------------- the window


def test_a_window_says_what_the_recognizer_says_of_its_frames(tmp_path: Path) -> None:
    """25 frames/s, windows of 0.8 s: the last 20 frames, every fifth one answered."""
    path = save_model(tmp_path / "model.safetensors", model_file().model, SPEC)
    recognizer, frames = load(path, "cpu"), video(43)
    live = open_live(path, device="cpu", window=0.8, every=0.2)
    assert all(live.due(0, i / 25) for i in range(5))
    found = show(live, frames, 25)
    for last in (20, 25, 30, 35, 40):
        close(found[last], of_clip(recognizer, frames[last - 19 : last + 1]))
        close(found[last + 2], found[last])  # it stands until the next
    assert not torch.allclose(found[20], found[25], atol=0.01)


@pytest.mark.parametrize(
    ("sampling", "frames"), [("dense", 10), ("dense-tsm", 12)], ids=["dense", "dense-tsm"]
)
def test_dense_sampling_looks_back_as_far_as_a_clip_goes(sampling: str, frames: int) -> None:
    """T = 4, interval 3, at whatever rate frames come."""
    file, pictures = model_file(sampling=sampling), video(16)
    live = open_live(file, device="cpu", every=0.001)
    found = show(live, pictures, 30)
    close(found[15], of_clip(Recognizer(file, "cpu"), pictures[16 - frames :]))
    assert f"the last {frames} frames" in live.describe()


def test_the_first_frame_stands_for_those_that_have_not_come() -> None:
    """At 10 frames/s a window of 0.8 s is 8 frames: after three, the first stands six times."""
    file, pictures = model_file(), video(8)
    found = show(open_live(file, device="cpu", window=0.8, every=0.1), pictures, 10)
    recognizer = Recognizer(file, "cpu")
    for count, padded in ((1, [0] * 8), (3, [0] * 6 + [1, 2]), (8, list(range(8)))):
        close(found[count - 1], of_clip(recognizer, pictures[padded]))


def test_streams_go_by_their_own_times() -> None:
    file, videos = model_file(), [video(12, seed) for seed in range(3)]
    live = open_live(file, streams=3, device="cpu", window=0.8, every=0.1)
    alone = [show(open_live(file, device="cpu", window=0.8, every=0.1), v, 10) for v in videos]
    for at in range(12):
        order = [2, 0] if at % 2 else [0, 2]
        found = live.scores(
            [videos[s][at] for s in order], streams=order, times=[100 * s + at / 10 for s in order]
        )
        for s, of_stream in zip(order, found, strict=True):
            close(of_stream, alone[s][at])
    close(live.scores([videos[1][0]], streams=[1], times=[7.0])[0], alone[1][0])


def test_streams_that_are_due_share_one_pass() -> None:
    file, pictures, passes = model_file(), video(6), []
    file.model.register_forward_hook(lambda model, clips, out: passes.append(len(clips[0])))
    live = open_live(file, streams=3, device="cpu", window=0.8, every=0.2)
    for at in range(6):  # at 0, .2, .4; stream 2 comes at .1, and again at .3, .5
        of = [0, 1, 2] if at else [0, 1]
        live.scores([pictures[at]] * len(of), streams=of, times=[at / 10] * len(of))
    assert passes == [2, 1, 2, 1, 2, 1]


def test_a_clip_of_groups_of_frames() -> None:
    """Two groups of three of the last ten frames: those of a video of ten."""
    spec = SPEC.with_options(num_segments=2, frames_per_segment=3)
    ring = Ring(spec, 1.0)
    for number in range(14):
        ring.add(torch.full((3, 32, 32), number, dtype=torch.uint8), number / 10)
    chosen = eval_indices(spec, 10)[0]
    assert ring.clip()[:, 0, 0, 0].tolist() == (4 + chosen).tolist()
    assert len(chosen) == 6


@pytest.mark.parametrize("begin", ["reset", "time runs back"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_stream_that_begins_anew_remembers_nothing(begin: str, causal: bool) -> None:
    file, old, new = model_file(causal=causal), video(5, 0), video(5, 1)
    every: dict[str, Any] = {} if causal else {"every": 0.1}
    fresh = show(open_live(file, device="cpu", window=0.8, **every), new, 10)
    live = open_live(file, streams=2, device="cpu", window=0.8, **every)
    other = video(10, 2)
    for at in range(5):
        live.scores([old[at], other[at]], streams=[0, 1], times=[9 + at / 10, at / 10])
    if begin == "reset":
        live.reset(0)
    assert live.due(0, 0.0)
    for at in range(5):
        found = live.scores([new[at], other[at]], streams=[0, 1], times=[at / 10, 0.5 + at / 10])
        close(found[0], fresh[at])


@pytest.mark.parametrize(("fps", "kept"), [(25, 50), (100_000, 2 * 4)])
def test_memory_is_bounded(fps: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if fps > 25:
        monkeypatch.setattr("gtdnet.infer.ring.MOST_BYTES", 0)
    ring, picture = Ring(SPEC, 2.0), torch.zeros(3, 32, 32, dtype=torch.uint8)
    for number in range(3 * fps):
        if fps == 25 or ring.wants(number / fps):
            ring.add(picture, number / fps)
    assert abs(len(ring) - kept) <= (fps > 25)


# ------------------------------------------------------------------------------ causal models


@pytest.mark.parametrize(
    ("changes", "window", "fps", "due"),
    [
        # segment: T = 4 frames in 2 seconds
        ({}, None, 10, [0, 5, 10, 15]),
        ({}, 1.0, 10, [0, 3, 5, 8, 10, 13, 15, 18]),  # at 0, .25, .5, .75, 1 ...
        ({"sampling": "dense"}, None, 10, [0, 3, 6, 9, 12, 15, 18]),
        ({"sampling": "dense"}, None, 100, [0, 3, 6, 9, 12, 15, 18]),
    ],
)
def test_which_frames_a_causal_model_is_shown(
    changes: dict[str, Any], window: float | None, fps: float, due: list[int]
) -> None:
    file = model_file(causal=True, **changes)
    live, frames = open_live(file, device="cpu", window=window), video(20)
    stream = StreamingRecognizer(file, device="cpu")
    found = []
    for i, frame in enumerate(frames):
        assert live.due(0, 5 + i / fps) == live.due(0, 5 + i / fps)
        if live.due(0, 5 + i / fps):
            found.append(i)
            close(live.scores([frame], streams=[0], times=[5 + i / fps]), stream.scores(frame))
    assert found == due


def turns(pace: Pace, times: list[float], lost: Callable[[float], bool]) -> list[float]:
    found = []
    for time in times:
        if pace.due(time) and not lost(time):
            found.append(time)
            pace.shown(time)
    return found


def test_a_frame_that_is_lost_gives_its_turn_to_the_next() -> None:
    times = [float(i) for i in range(12)]
    assert turns(Pace(4), times, lambda t: False) == [0, 4, 8]
    assert turns(Pace(4), times, lambda t: t == 4) == [0, 5, 9]
    assert turns(Pace(1, 4.0), times, lambda t: t == 4) == [0, 5, 8]
    assert turns(Pace(1, 4.0), [0, 1, 30, 31, 32], lambda t: False) == [0, 30, 32]


# ---------------------------------------------------------------------------------- what is said


def test_it_says_what_it_looks_at_and_what_that_costs() -> None:
    assert open_live(model_file(), device="cpu").describe() == (
        "a window of the last 2 s, of which 4 frames (segment) have an answer every 0.5 s; that "
        "costs 8 frames of the 2D network a second"
    )
    assert open_live(model_file(causal=True), device="cpu").describe() == (
        "causal: 2 frames a second are shown to the model; each costs one frame of the 2D network "
        "and has an answer"
    )
    dense = open_live(model_file(causal=True, sampling="dense"), device="cpu")
    assert "causal: one frame of 3 is shown" in dense.describe()


def test_refusals() -> None:
    file, frame = model_file(), video(1)[0]
    bad: list[tuple[dict[str, Any], str]] = [
        ({"streams": 0}, "streams must be at least 1"),
        ({"window": 0.0}, "window must be positive"),
        ({"every": float("nan")}, "every must be positive"),
    ]
    for options, message in bad:
        with pytest.raises(InputError, match=message):
            open_live(file, device="cpu", **options)
    with pytest.raises(InputError, match=r"every=1: .*answers at every frame.*leave it out"):
        open_live(model_file(causal=True), device="cpu", every=1)
    live = open_live(file, streams=2, device="cpu")
    for frames, streams, times, message in (
        ([frame], [2], [0.0], "no stream 2; they are numbered from 0 to 1"),
        ([frame], [0, 1], [0.0], "1 frames of 2 streams at 1 times"),
        ([frame] * 2, [1, 1], [0.0] * 2, "name one twice"),
        ([frame], [0], [float("nan")], "must be a number of seconds, got nan"),
        ([frame[0]], [0], [0.0], "uint8 RGB of shape"),
        ([], [], [], "there are no frames"),
    ):
        with pytest.raises(InputError, match=message):
            live.scores(frames, streams=streams, times=times)
    with pytest.raises(InputError, match="no stream -1"):
        live.due(-1, 0.0)
    with pytest.raises(InputError, match="no stream 2"):
        live.reset([0, 2])
