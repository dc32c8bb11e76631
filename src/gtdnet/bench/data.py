"""Videos per CPU-second and per second on the way from a file to a batch, stage by stage.

Several datasets, such as an original and what ``gtdnet pack`` made of it, are read by turns, the
same videos of each. All files are read once before anything is timed, so they come from the
system's memory: what a disk or a network adds is not measured.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from gtdnet.bench.cases import own_threads
from gtdnet.bench.machine import LoadWatch
from gtdnet.bench.options import TimingOptions, check_sizes, command, words
from gtdnet.bench.result import envelope, save
from gtdnet.bench.timing import (
    Turn,
    compared,
    interleave,
    narrow,
    resolve_clock,
    rounded,
)
from gtdnet.data import dataset
from gtdnet.data.annotations import Annotations, VideoRecord, list_splits, read_annotations
from gtdnet.data.dataset import (
    Augmentation,
    Batch,
    EvalClips,
    Failure,
    Sample,
    TrainClips,
    collate,
)
from gtdnet.data.decode import Chooser
from gtdnet.data.sharing import SharedCollate
from gtdnet.device import default_workers
from gtdnet.errors import InputError
from gtdnet.export.clips import spaced
from gtdnet.infer.recognizer import check_views
from gtdnet.progress import progress_bar, progress_counter
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import ClipLoaders

VIEWS = ("train", "test")
STAGES = ("open", "sample", "decode", "transform", "collate", "item")
"""What a video goes through in one process; the last is all of it."""

_BATCHES_PER_WORKER = 3  # of one pass of a loader: fewer would mostly be its start and end
_CPU = torch.device("cpu")


@dataclass
class DataBenchOptions(TimingOptions):
    """Time the reading of videos, stage by stage

    Args:
        data: dataset folders, list files or manifests; several are compared with the first.
        format: something-v1, something-v2, kinetics, folder or list; default: recognised.
        split: train, validation or test; default: the first that all datasets have.
        views: train (random frames, crops and flips), test, or both with a comma between.
        clips: test clips per video.
        crops: test crops per clip: 1 or 3.
        num_segments: frames per clip.
        sampling: segment or dense.
        short_side: the shorter side in pixels before test crops.
        crop_size: side of the square the model sees.
        num_videos: how many are read, spread evenly over the split.
        batch_size: videos per batch.
        num_workers: decoding processes of the loader; default: as gtdnet train on a CPU.
        tolerance: stop before the time is spent once half the 95 % interval of each ratio of whole
            items is at most this share of it (0: never).
    """

    data: list[str] = field(default_factory=list)
    format: str | None = None
    split: str | None = None
    views: str = "train,test"
    clips: int = 1
    crops: int = 1
    num_segments: int = 8
    sampling: str = "segment"
    short_side: int = 256
    crop_size: int = 224
    num_videos: int = 16
    batch_size: int = 8
    num_workers: int | None = None
    tolerance: float = 0.02

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        if not self.data:
            raise InputError("no dataset given; name one or more, such as data/mine")
        if len(set(self.data)) < len(self.data):
            raise InputError(f"a dataset is given twice: {', '.join(self.data)}")
        words("views", self.views, VIEWS)
        check_views(self.clips, self.crops)
        check_sizes(num_videos=(self.num_videos, 1), batch_size=(self.batch_size, 1))
        check_sizes(num_workers=(self.num_workers or 0, 0))
        super().check()


@dataclass(frozen=True)
class Place:
    """Where time goes: which data, which view, which stage ("loader": the whole, by workers)."""

    data: str
    view: str
    stage: str


def bench_data(options: DataBenchOptions) -> dict[str, Any]:
    """Time the reading of the datasets by turns; JSON-ready.

    Raises:
        ValueError: an option out of range, no such dataset, or none of its videos can be decoded.
    """
    options.check()
    clock = resolve_clock(options.clock, _CPU)
    workers = default_workers(_CPU) if options.num_workers is None else options.num_workers
    found, same = _choose(options)
    views = words("views", options.views, VIEWS)
    first = options.data[0]
    items = [Place(data, view, "item") for data in options.data[1:] for view in views if same]
    enough = narrow([(i, replace(i, data=first)) for i in items], clock, options.tolerance)
    with own_threads():
        torch.set_num_threads(1)  # as in a worker
        decoded = {name: _Decoded(name, part, options) for name, part in found.items()}
        good, notes = _good(decoded, same)
        sources = [_Source(decoded[name], good[name], options, workers) for name in decoded]
        runs = {(s.name, kind): run for s in sources for kind, run in s.runs(views).items()}
        before = sum(source.worker_cpu for source in sources)
        with progress_counter("measuring (seconds)") as progress, LoadWatch() as watch:
            rounds = interleave(
                runs, options.seconds, lambda rounds: enough(_flat(rounds)), progress=progress
            )
        watch.child_cpu = sum(source.worker_cpu for source in sources) - before
    places = _flat(rounds)
    result = {
        **envelope(
            "data", "Reading videos", command("gtdnet bench data", options, "data"), _CPU, ("av",)
        ),
        "clock": clock,
        "rounds": len(rounds),
        "load": watch.to_dict(),
        "num_workers": workers,
        "batch_size": options.batch_size,
        "spec": sources[0].spec.describe(),
        "data": {source.name: source.about for source in sources},
        "stages": [
            {
                **vars(place),
                **_times(places, place),
                "vs_first": _speedup(places, place, first, clock) if same else None,
            }
            for place in sorted(places[0], key=lambda p: _order(p, options))
        ],
        "notes": notes,
    }
    save(result, options.output)
    return result


def _flat(rounds: Sequence[Mapping[Any, Mapping[Place, Turn]]]) -> list[dict[Place, Turn]]:
    return [{k: v for turns in each.values() for k, v in turns.items()} for each in rounds]


def _order(place: Place, options: DataBenchOptions) -> tuple[int, ...]:
    stages = (*STAGES, "loader")
    view, stage = VIEWS.index(place.view), stages.index(place.stage)
    return view, stage, options.data.index(place.data)


def _times(rounds: Sequence[Mapping[Place, Turn]], place: Place) -> dict[str, Any]:
    """Medians of the rounds, per video; JSON-ready."""
    wall, cpu = (
        statistics.median(turns[place].seconds(clock) for turns in rounds)
        for clock in ("wall", "cpu")
    )
    return {
        "cpu_ms": rounded(1e3 * cpu),
        "wall_ms": rounded(1e3 * wall),
        "videos_per_cpu_second": rounded(1 / cpu) if cpu else None,
        "videos_per_second": rounded(1 / wall) if wall else None,
    }


def _speedup(
    rounds: Sequence[Mapping[Place, Turn]], place: Place, first: str, clock: str
) -> dict[str, Any] | None:
    base = replace(place, data=first)
    return compared(rounds, base, place, clock) if base != place else None


# ---------------------------------------------------------------------------------- what is read


def _choose(options: DataBenchOptions) -> tuple[dict[str, Annotations], bool]:
    """Of each dataset the split with the chosen records alone; whether they are the same videos.

    Raises:
        ValueError: no such dataset, or no split that all of them have.
    """
    split = options.split
    if split is None:
        splits = {data: list_splits(data, options.format) for data in options.data}
        shared = [s for s in splits[options.data[0]] if all(s in own for own in splits.values())]
        if not shared:
            told = "; ".join(f"{data}: {', '.join(own) or 'none'}" for data, own in splits.items())
            raise InputError(f"there is no split to read in all of the data ({told}); give other")
        split = shared[0]
    found = {data: read_annotations(data, split, options.format) for data in options.data}
    common = set.intersection(*({r.id for r in part.records} for part in found.values()))
    for data, part in found.items():
        records = sorted(
            (r for r in part.records if r.id in common or not common), key=lambda r: r.id
        )
        found[data] = replace(part, records=tuple(spaced(records, options.num_videos)))
    return found, bool(common)


class _Decoded:
    """One dataset, every video of which has been read once.

    Attributes:
        frames, pixels: of each video that can be decoded, by its id.
    """

    def __init__(self, name: str, annotations: Annotations, options: DataBenchOptions) -> None:
        self.name = name
        self.annotations = annotations
        self.config = TrainConfig(
            data=name,
            batch_size=options.batch_size,
            num_segments=options.num_segments,
            sampling=options.sampling,
            short_side=options.short_side,
            crop_size=options.crop_size,
        )
        self.spec = self.config.clip_spec(annotations.class_names)
        self.frames: dict[str, int] = {}
        self.pixels: dict[str, str] = {}
        watch = _Stopwatch()
        with watch.on_reading(), progress_bar(name, len(annotations.records)) as advance:
            clips = EvalClips(annotations.records, self.spec)
            for index, record in enumerate(annotations.records):
                if not isinstance(clips[index], Failure):
                    self.frames[record.id] = watch.frames[-1]
                    self.pixels[record.id] = watch.pixels[-1]
                advance(1)
        if not self.frames:
            raise InputError(
                f"{name}: none of {len(annotations.records)} videos can be decoded; "
                f"gtdnet check says what is wrong with them"
            )

    def about(self, good: Sequence[VideoRecord]) -> dict[str, Any]:
        """What is read of it; JSON-ready."""
        return {
            "format": self.annotations.format,
            "split": self.annotations.split,
            "videos": len(good),
            "failed": len(self.annotations.records) - len(self.frames),
            "median_frames": statistics.median(self.frames[record.id] for record in good),
            "pixels": Counter(self.pixels[record.id] for record in good).most_common(1)[0][0],
        }


def _good(
    decoded: Mapping[str, _Decoded], same: bool
) -> tuple[dict[str, list[VideoRecord]], list[str]]:
    """Of each dataset the records that are timed; and what is to be said of that.

    Raises:
        ValueError: there are none that can be decoded in all of the datasets.
    """
    notes = []
    common = set.intersection(*(set(one.frames) for one in decoded.values()))
    if not same:
        notes.append(
            "The datasets have no ids of videos in common: each is read on its own, and they are "
            "not compared."
        )
    elif not common:
        raise InputError(
            f"no video can be decoded in all of {', '.join(decoded)}; gtdnet check says what is "
            f"wrong with them"
        )
    elif any(len(one.frames) > len(common) for one in decoded.values()):
        notes.append("Videos that cannot be decoded in one of the datasets are left out of all.")
    return {
        name: [r for r in one.annotations.records if r.id in (common if same else one.frames)]
        for name, one in decoded.items()
    }, notes


class _Source:
    """One dataset, read in the two ways that are timed: in this process, and by workers."""

    def __init__(
        self,
        decoded: _Decoded,
        good: Sequence[VideoRecord],
        options: DataBenchOptions,
        workers: int,
    ) -> None:
        self.name, self.spec = decoded.name, decoded.spec
        self.about = decoded.about(good)
        self.worker_cpu = 0.0
        self._batch_size = options.batch_size
        self._told: dict[int, float] = {}  # CPU seconds of each worker so far
        self._passes: Counter[Any] = Counter()
        config = decoded.config
        augmentation = Augmentation(config.multiscale, config.flip, config.brightness)
        self._clips = {
            "train": TrainClips(good, self.spec, augmentation, config.seed),
            "test": EvalClips(good, self.spec, options.clips, options.crops),
        }
        # Each pass of a loader has enough batches for its workers to run at their pace.
        times = -(-max(1, workers) * _BATCHES_PER_WORKER * options.batch_size // len(good))
        longer = replace(decoded.annotations, records=tuple(good) * max(1, times))
        test = EvalClips(longer.records, self.spec, options.clips, options.crops)
        self._loaders: dict[str, DataLoader[Any]] = {
            "train": ClipLoaders(config, self.spec, longer, None, workers).train_dataloader(),
            "test": DataLoader(
                test,
                options.batch_size,
                num_workers=workers,
                collate_fn=SharedCollate(),
                persistent_workers=workers > 0,
            ),
        }
        for loader in self._loaders.values():
            loaders_own: Any = loader.collate_fn
            loader.collate_fn = partial(_and_tell, loaders_own)

    def runs(self, views: Sequence[str]) -> dict[tuple[str, str], Callable[[], dict[Place, Turn]]]:
        """What gives turns, by view and by "stages" or "loader"; workers are started."""
        runs: dict[tuple[str, str], Callable[[], dict[Place, Turn]]] = {}
        for view in views:
            runs[view, "stages"] = partial(self._stages, view)
            runs[view, "loader"] = partial(self._load, view)
            self._load(view)
        return runs

    def _stages(self, view: str) -> dict[Place, Turn]:
        """Every video once in this process."""
        clips = self._clips[view]
        self._passes[view] += 1
        samples: list[Sample | Failure] = []
        watch = _Stopwatch()
        with watch.on_reading():
            for index in range(len(clips)):
                key = (self._passes[view], index) if view == "train" else index
                samples.append(clips[key])  # type: ignore[index]
                watch.lap("transform")
                if len(samples) == self._batch_size or index == len(clips) - 1:
                    collate(samples)
                    samples = []
                    watch.lap("collate")
        spent = {**watch.spent, "item": sum(watch.spent.values(), np.zeros(2))}
        return {Place(self.name, view, stage): _turn(spent[stage] / len(clips)) for stage in STAGES}

    def _load(self, view: str) -> dict[Place, Turn]:
        """One pass of the loader."""
        loader = self._loaders[view]
        self._passes[view, "loader"] += 1
        if view == "train":
            loader.batch_sampler.set_epoch(self._passes[view, "loader"])  # type: ignore[union-attr]
        videos, start, before = 0, _now(), sum(self._told.values())
        for batch, process, cpu in loader:
            videos += len(batch.labels) + len(batch.failures)
            if process != os.getpid():
                self._told[process] = cpu
        spent = _now() - start
        by_workers = sum(self._told.values()) - before
        self.worker_cpu += by_workers
        spent[1] += by_workers
        return {Place(self.name, view, "loader"): _turn(spent / videos)}


class _Stopwatch:
    """Wall and CPU seconds by stage; what passes between two laps counts for the second one."""

    def __init__(self) -> None:
        self.spent = {stage: np.zeros(2) for stage in STAGES if stage != "item"}
        self.frames: list[int] = []
        self.pixels: list[str] = []
        self._last = _now()

    def lap(self, stage: str) -> None:
        now = _now()
        self.spent[stage] += now - self._last
        self._last = now

    @contextmanager
    def on_reading(self) -> Iterator[None]:
        """Within it, the reading of frames in :mod:`gtdnet.data.dataset` makes its laps here."""
        read_frames = dataset.read_frames

        def watched(path: str | Path, choose: Chooser) -> tuple[torch.Tensor, int]:
            def choose_and_lap(num_frames: int) -> NDArray[np.int64]:
                self.lap("open")
                indices = choose(num_frames)
                self.lap("sample")
                return indices

            self.lap("transform")  # drawing of random numbers, for what comes later
            frames, num_frames = read_frames(path, choose_and_lap)
            self.lap("decode")
            self.frames.append(num_frames)
            self.pixels.append(f"{frames.shape[-1]}x{frames.shape[-2]}")
            return frames, num_frames

        dataset.read_frames = watched
        try:
            self._last = _now()
            yield
        finally:
            dataset.read_frames = read_frames


def _and_tell(
    collate: Callable[[Sequence[Sample | Failure]], Batch], samples: Sequence[Sample | Failure]
) -> tuple[Batch, int, float]:
    """A batch, the process that made it, and the CPU seconds which that has used so far."""
    return collate(samples), os.getpid(), time.process_time()


def _turn(seconds: NDArray[np.float64]) -> Turn:
    wall, cpu = seconds.tolist()
    return Turn((wall,), cpu)


def _now() -> NDArray[np.float64]:
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])
