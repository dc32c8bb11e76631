"""From a video in a file to its answer: the decoder's views through the model, window by window."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gtdnet.errors import InputError
from gtdnet.infer.answers import THRESHOLD, Decider, VideoPrediction, Window, best_of
from gtdnet.serve import picture
from gtdnet.serve.decoders import Decoders, Found, Until, VideoJob, Views
from gtdnet.serve.models import Served
from gtdnet.serve.refusal import Refusal

_BATCH = 8  # views that go through the model at a time
MOST_SCORES = 30_000
"""Of windows, in an answer: 5 of each of the most windows, and room."""

FORMS = ("json", "png", "timeline")


@dataclass(frozen=True)
class Query:
    """What is asked of a video.

    Attributes:
        topk: classes to name, of the video and of each window.
        window, stride: seconds, or None for the whole video; ``auto``: windows if it is long.
        clips, crops: test views.
        wants_picture: figure 7's picture beside the answer.
        form: "json", or as a PNG figure 7's picture ("png") or the "timeline".
    """

    topk: int = 5
    window: float | None = None
    stride: float | None = None
    auto: bool = False
    clips: int = 1
    crops: int = 1
    wants_picture: bool = False
    form: str = "json"


@dataclass
class Spent:
    """Seconds that an answer took."""

    decoding: float = 0.0
    inference: float = 0.0


@dataclass(frozen=True)
class _Row:
    clip: Views
    scores: Tensor  # [K]


def answer(
    served: Served, decoders: Decoders, path: str, query: Query, until: Until, spent: Spent
) -> dict[str, Any] | bytes:
    """The answer, JSON-ready, or a PNG.

    Raises:
        Refusal: the video cannot be read, is beyond a limit, or the model gives no numbers.
        Stopped: see :class:`gtdnet.serve.decoders.Until`.
    """
    job = VideoJob(
        path, served.spec, query.window, query.stride, query.auto, query.clips, query.crops
    )
    windows: list[Window] = []
    total, surest = torch.zeros(served.spec.num_classes), None
    found = Found(None, 0, 0.0)
    with decoders.one(until) as decoder:
        for item in _scored(served, decoder.video(job, until), until, spent):
            if isinstance(item, Found):
                found = item
                spent.decoding = item.decoding
                continue
            total += item.scores
            if len(windows) * min(query.topk, len(total)) > MOST_SCORES:
                raise _too_many_scores()
            best = best_of(item.scores, served.spec, max(query.topk, 6))
            windows.append(Window(item.clip.start or 0.0, item.clip.end or 0.0, tuple(best)))
            if surest is None or item.scores.max() > surest.scores.max():
                surest = item
    if surest is None:
        raise Refusal(422, "undecodable", "The video was not read: it has no frames.")
    until.check()
    is_long = query.window is not None and not (query.auto and len(windows) == 1)
    mean = total / len(windows)
    if query.form == "timeline":
        if not is_long:
            raise Refusal(422, "no_windows", "A timeline is made of windows; give window=2.")
        return picture.timeline_png(f"{found.seconds or 0:.1f} s", windows)
    wants = query.wants_picture or query.form == "png"
    views, note = _picture(served, surest, found, spent) if wants else (None, None)
    if query.form == "png":
        if views is None:
            raise Refusal(422, "no_picture", note or "There is no picture.")
        return picture.to_png(views)
    result = {
        "model": served.name,
        "seconds": None if found.seconds is None else round(found.seconds, 3),
        "frames": found.frames,
        "views": served.spec.views(query.crops, query.clips),
        **_named(served, mean, windows if is_long else [], query),
    }
    if wants:
        part = None if not is_long else [surest.clip.start, surest.clip.end]
        result["picture"] = views and {"of": part, **picture.to_json(views, surest.clip.times)}
        result["picture_note"] = note
    result["took"] = {
        "decoding": round(spent.decoding, 4), "inference": round(spent.inference, 4)
    }  # fmt: skip
    return result


def _too_many_scores() -> Refusal:
    return Refusal(
        422,
        "too_many_scores",
        f"The answer would have more than {MOST_SCORES} scores; ask for fewer classes (topk), or "
        f"a longer stride.",
    )


def _named(served: Served, mean: Tensor, windows: list[Window], query: Query) -> dict[str, Any]:
    """Classes of the whole and of its windows; whether what is known of the model doubts them."""
    spec = served.spec
    best = best_of(mean, spec, query.topk)
    decider = Decider.of(spec)
    video = VideoPrediction(
        "", windows=tuple(windows), multi_label=spec.multi_label, decider=decider
    )
    if decider is None and spec.multi_label:  # as gtdnet predict
        video = video.best(spec.num_classes, THRESHOLD)
    found: dict[str, Any] = {
        "scores": [score._asdict() for score in best],
        "is_sure": decider is None or bool(decider.named(best)),
        "doubt": None if decider is None or decider.named(best) else decider.why_none(best),
        "calibrated": spec.calibration is not None,
        "multi_label": spec.multi_label,
    }
    if windows:
        found["scores_of"] = "mean over the windows"
        found["window"], found["stride"] = query.window, query.stride
        found["windows"] = [
            {**w._asdict(), "scores": [s._asdict() for s in w.scores[: query.topk]]}
            for w in windows
        ]
        found["segments"] = [segment._asdict() for segment in video.segments]
    return found


def _picture(served: Served, row: _Row, found: Found, spent: Spent) -> Any:
    """What the model sees of the surest window, and None; or None, and why there is none."""
    if served.why_not:
        return None, served.why_not
    started = time.monotonic()
    with served.lock:
        views = picture.look(served, row.clip.views[0], "video", found.frames)
    spent.inference += time.monotonic() - started
    return views, None


def _scored(
    served: Served, items: Iterable[Views | Found], until: Until, spent: Spent
) -> Iterator[_Row | Found]:
    """Each window with its probabilities [K], a few at a time through the model."""
    waiting: list[Views] = []

    def run() -> Iterator[_Row]:
        if not waiting:
            return
        until.check()
        started = time.monotonic()
        views = torch.stack([clip.views for clip in waiting])
        try:
            with served.lock:
                scores = served.recognizer.scores(views, _BATCH)
        except InputError as error:
            raise Refusal(500, "no_numbers", f"The model gave no answer: {error}.") from error
        spent.inference += time.monotonic() - started
        yield from map(_Row, waiting, scores)
        waiting.clear()

    for item in items:
        if isinstance(item, Found):
            yield from run()
            yield item
            continue
        waiting.append(item)
        if len(waiting) * len(item.views) >= _BATCH:
            yield from run()
