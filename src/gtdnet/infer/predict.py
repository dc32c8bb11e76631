"""Classes of many videos, or of every window of long ones; a broken video doesn't stop the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gtdnet.data.decode import count_frames
from gtdnet.data.formats import VideoRecord
from gtdnet.engines import is_exported
from gtdnet.errors import InputError, check_at_least, check_positive
from gtdnet.files import sha256
from gtdnet.infer.ahead import Read, Scored, score_ahead
from gtdnet.infer.answers import (
    SHOWN,
    THRESHOLD,
    Report,
    Segment,
    VideoPrediction,
    Window,
    check_threshold,
    merge_windows,
)
from gtdnet.infer.features import Features, check_features_file, features_of, save_features
from gtdnet.infer.find import find_videos
from gtdnet.infer.options import PredictOptions
from gtdnet.infer.output import open_results
from gtdnet.infer.recognizer import Recognizer, check_average, check_views, load
from gtdnet.infer.scoring import check_loading, score_batches
from gtdnet.infer.timeline import read_one, read_windows
from gtdnet.text import counted, progress_bar, say
from gtdnet.workers import default_workers

__all__ = [
    "PredictOptions",
    "Report",
    "Segment",
    "VideoPrediction",
    "Window",
    "merge_windows",
    "predict",
]

_TOPK = 5
_WINDOW = 2.0  # seconds, where pictures are asked for and no window is
_WORTHWHILE = 40
"""Views from which OpenVINO's speed makes up for its preparation (a ResNet-50 on one core)."""


def predict(options: PredictOptions) -> Report:
    """Classify videos; the reasons of those that cannot be read stand in the report.

    Raises:
        ValueError: bad options, nothing found for one of the videos, no model file, or files in the
            way.
        KeyboardInterrupt: it was interrupted; says what the output file keeps.
    """
    window, stride = _check(options)
    paths = find_videos(options.videos)
    pictures = {
        video: files
        for video, files in zip(paths, _picture_files(options, paths), strict=True)
        if files
    }
    written = [file for files in pictures.values() for file in files]
    written += [Path(options.features)] if options.features else []
    for file in written:
        if file.exists() and not options.overwrite:
            raise InputError(f"{file} exists; add --overwrite to replace it")
    few = not window and len(paths) * options.clips * options.crops < _WORTHWHILE
    plain = options.features or (few and not is_exported(options.model))
    recognizer = load(
        options.model,
        options.device,
        engine="torch" if plain and options.engine == "auto" else options.engine,
        precision=options.precision,
        num_segments=options.num_segments,
        average=options.average,
    )
    if options.engine == "auto" and recognizer.engine.name != "torch":
        say(f"engine {recognizer.engine.name}, {recognizer.precision}, on {recognizer.device}")
    limits = _limits(recognizer, options)
    run = _identity(recognizer, options, limits, window, stride) if options.output else {}
    videos: dict[Path, VideoPrediction] = {}
    rows: list[tuple[str, Features]] = []
    with open_results(
        options.output, run, whole=window is None, overwrite=options.overwrite
    ) as results:
        done = results.done if results else {}
        num_before, failed_before = len(done), sum(done.values())
        todo = [path for path in paths if str(path) not in done]
        if (options.features or pictures) and num_before:
            raise InputError(
                f"{options.output} has answers already, of which there would be no features or "
                f"pictures; give another --output, or --overwrite"
            )
        if num_before:
            say(f"{options.output} has {counted(num_before, 'answer')} already")
        with progress_bar("videos", len(paths), len(paths) - len(todo)) as advance:
            for path, video, found in _answers(
                recognizer, todo, options, limits.topk, window, stride
            ):
                video = _draw(video, path, pictures.get(path, ()), options)
                video = video.best(limits.topk, limits.threshold or 0.0)
                video = replace(video, multi_label=recognizer.spec.multi_label)
                videos[path] = video
                rows += [(str(path), row) for row in found]
                if results:
                    results.add(video)
                advance(1)
    if options.features:
        save_features(options.features, [name for name, _ in rows], [row for _, row in rows])
    files = [*written, *([Path(options.output)] if options.output else [])]
    return Report(
        options.model,
        recognizer.spec.views(options.crops, options.clips),
        window,
        stride,
        tuple(videos[path] for path in todo),
        options.average,
        tuple(str(file) for file in files if file.exists()),
        num_before,
        failed_before,
        limits.threshold,
    )


class _Limits(NamedTuple):
    """Most classes to give, and the probability that they must reach, if any."""

    topk: int
    threshold: float | None


def _limits(recognizer: Recognizer, options: PredictOptions) -> _Limits:
    several = recognizer.spec.multi_label
    topk = recognizer.spec.num_classes if several else _TOPK
    threshold = THRESHOLD if several else None
    return _Limits(
        topk if options.topk is None else options.topk,
        threshold if options.threshold is None else options.threshold,
    )


def _check(options: PredictOptions) -> tuple[float | None, float | None]:
    """Window and stride in seconds; InputError for options that make no sense."""
    check_at_least(1, topk=1 if options.topk is None else options.topk)
    check_threshold(options.threshold)
    check_views(options.clips, options.crops)
    check_average(options.average)
    check_loading(options.batch_size, options.num_workers)
    check_features_file(options.features)
    window = options.window
    if window is None and (options.timeline or options.draw):
        window = _WINDOW
    stride = window if options.stride is None else options.stride
    check_positive(window=window, stride=stride, fps=options.fps)
    return window, stride if window else None


def _picture_files(options: PredictOptions, paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Of each video the files of --timeline and --draw."""
    found: list[list[Path]] = [[] for _ in paths]
    kinds = (
        ("timeline", options.timeline, (".png", ".pdf", ".svg")),
        ("draw", options.draw, (".mp4",)),
    )
    for what, given, suffixes in kinds:
        if given is None:
            continue
        is_file = Path(given).suffix.lower() in suffixes and not Path(given).is_dir()
        if is_file and len(paths) > 1:
            raise InputError(f"--{what} {given}: give a folder for {len(paths)} videos")
        if not is_file and (Path(given).is_file() or Path(given).suffix):
            raise InputError(f"--{what} {given}: give a file in {', '.join(suffixes)}, or a folder")
        names = [path.name if path.is_dir() else path.stem for path in paths]
        for path, name, files in zip(paths, names, found, strict=True):
            if not is_file and names.count(name) > 1:  # folders tell them apart
                name = f"{path.parent.name}-{path.name}"
            file = Path(given) if is_file else Path(given) / f"{name}{suffixes[0]}"
            if any(file in others for others in found):
                raise InputError(f"--{what} {given}: two videos are called {file.name}; rename one")
            if file.resolve() == path.resolve():
                raise InputError(f"--{what} {given}: is the video itself; give another file")
            files.append(file)
    return [tuple(files) for files in found]


def _identity(
    recognizer: Recognizer,
    options: PredictOptions,
    limits: _Limits,
    window: float | None,
    stride: float | None,
) -> dict[str, Any]:
    """What answers depend on, JSON-ready."""
    kept = ("clips", "crops", "average", "fps")
    threshold = {} if limits.threshold is None else {"threshold": limits.threshold}
    return {
        "model": sha256(Path(recognizer.path)),
        "spec": recognizer.spec.to_dict(),
        "precision": recognizer.precision,
        "window": window,
        "stride": stride,
        "topk": limits.topk,
        **threshold,
        **{name: getattr(options, name) for name in kept},
    }


def _answers(
    recognizer: Recognizer,
    paths: Sequence[Path],
    options: PredictOptions,
    topk: int,
    window: float | None,
    stride: float | None,
) -> Iterator[tuple[Path, VideoPrediction, list[Features]]]:
    """The answer of each video as soon as it is there, with all classes, and its features."""
    if window is None and not options.features:
        for path, video in _whole_videos(recognizer, paths, options, topk):
            yield path, video, []
        return
    common: dict[str, Any] = {
        "spec": recognizer.spec,
        "clips": options.clips,
        "crops": options.crops,
        "fps": options.fps,
    }
    read: Read = partial(read_one, **common)
    if window and stride:
        read = partial(read_windows, **common, window=window, stride=stride)
    threads = options.num_workers
    classes = recognizer.spec.num_classes if options.timeline else max(topk, SHOWN)
    windows: dict[int, list[Window]] = {}
    rows: dict[int, list[Features]] = {}
    for index, item in score_ahead(
        recognizer,
        paths,
        read,
        num_views=options.clips * options.crops,
        batch_size=options.batch_size,
        num_threads=default_workers(recognizer.device) if threads is None else threads,
        features=options.features is not None,
    ):
        if isinstance(item, Scored):
            windows.setdefault(index, []).append(recognizer.window(item, classes))
            if options.features:
                rows.setdefault(index, []).append(features_of(item, options.crops))
            continue
        path, found = paths[index], tuple(windows.pop(index, ()))
        reason = None if item is None else _reason(str(path), item.path, item.reason)
        if window is None:
            scores = found[0].scores if found else ()
            video = VideoPrediction(str(path), scores, reason=reason)
        else:
            video = VideoPrediction(str(path), windows=found, reason=reason)
        yield path, video, rows.pop(index, [])


def _whole_videos(
    recognizer: Recognizer, paths: Sequence[Path], options: PredictOptions, topk: int
) -> Iterator[tuple[Path, VideoPrediction]]:
    records = [VideoRecord(str(path), str(path), None) for path in paths]
    for batch in score_batches(
        recognizer,
        records,
        clips=options.clips,
        crops=options.crops,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        fps=options.fps,
    ):
        for index, scores in zip(batch.indices.tolist(), batch.scores, strict=True):
            best = tuple(recognizer.top(torch.from_numpy(scores), topk))
            yield paths[index], VideoPrediction(records[index].path, best)
        for failure in batch.failures:
            path = records[failure.index].path
            reason = _reason(path, failure.path, failure.reason)
            yield paths[failure.index], VideoPrediction(path, reason=reason)


def _draw(
    video: VideoPrediction, path: Path, files: Sequence[Path], options: PredictOptions
) -> VideoPrediction:
    """Write the pictures of a video that has windows."""
    for file in files if video.windows else ():
        if file.suffix == ".mp4":
            from gtdnet.infer.draw import draw_video

            with progress_bar(f"drawing {path.name}", count_frames(path)) as advance:
                reason = draw_video(path, file, video.windows, fps=options.fps, advance=advance)
            video = replace(video, reason=video.reason or reason)
        else:
            from gtdnet.infer.picture import save_timeline

            save_timeline(file, path.name, video.windows)
    return video


def _reason(video: str, path: str, reason: str) -> str:
    """Names the picture if it is one of a folder that is broken."""
    return reason if path == video else f"{Path(path).name}: {reason}"
