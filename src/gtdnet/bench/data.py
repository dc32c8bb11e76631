"""Videos per CPU-second and per second on the way from a file to a batch, stage by stage.

Several datasets, such as an original and what ``gtdnet pack`` made of it, are read by turns, the
same videos of each. All files are read once before anything is timed, so they come from the
system's memory: what a disk or a network adds is not measured.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gtdnet.bench.cases import CPU, own_settings
from gtdnet.bench.options import VIEWS, DataBenchOptions, words
from gtdnet.bench.result import envelope, save
from gtdnet.data import dataset
from gtdnet.data.dataset import Augmentation, Batch, EvalClips, Failure, Sample, TrainClips, collate
from gtdnet.data.decode import Chooser, Reduce
from gtdnet.data.formats import Annotations, list_splits, read_annotations
from gtdnet.errors import InputError
from gtdnet.measure.machine import LoadWatch
from gtdnet.measure.provenance import command
from gtdnet.measure.timing import Turn, compared, interleave, narrow, resolve_clock, rounded
from gtdnet.text import progress_bar, progress_counter
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import ClipLoaders

STAGES = ("open", "sample", "decode", "transform", "collate", "item")
"""What a video goes through in one process; the last is all of it."""

_BATCHES_PER_WORKER = 3  # of one pass of a loader: fewer would mostly be its start and end


class Place(NamedTuple):
    """Where time goes: which data, which view, which stage ("loader": the whole, by workers)."""

    data: str
    view: str
    stage: str


def bench_data(options: DataBenchOptions) -> dict[str, Any]:
    """Time the reading of the datasets by turns; JSON-ready. InputError if none can be read."""
    options.check()
    clock, first = resolve_clock(options.clock, CPU), options.data[0]
    views = [view for view in VIEWS if view in words("views", options.views, VIEWS)]
    with own_settings():
        torch.set_num_threads(1)  # as in a worker
        sources, same, notes = _open(options)
        items = [Place(data, view, "item") for data in options.data[1:] for view in views if same]
        enough = narrow(
            [(item, item._replace(data=first)) for item in items], clock, options.tolerance
        )
        turns: dict[Place, Callable[[], dict[Place, Turn]]] = {}
        for source, view in itertools.product(sources, views):
            source.load(view)  # starts the workers
            turns[Place(source.name, view, "item")] = partial(source.stages, view)
            turns[Place(source.name, view, "loader")] = partial(source.load, view)
        before, watch = sum(source.worker_cpu for source in sources), LoadWatch()
        with progress_counter("measuring (seconds)") as progress:
            found = interleave(
                turns, options.seconds, lambda found: enough(_flat(found)), progress=progress
            )
        watch.child_cpu = sum(source.worker_cpu for source in sources) - before
        load = watch.to_dict()
    rounds, stages = _flat(found), []
    for view, stage, data in itertools.product(views, (*STAGES, "loader"), options.data):
        place, base = Place(data, view, stage), Place(first, view, stage)
        of_rounds = [turns[place] for turns in rounds]
        wall, cpu = (
            statistics.median(turn.seconds(clock) for turn in of_rounds)
            for clock in ("wall", "cpu")
        )
        stages.append(
            {
                **place._asdict(),
                "cpu_ms": rounded(1e3 * cpu),
                "wall_ms": rounded(1e3 * wall),
                "videos_per_cpu_second": rounded(1 / cpu) if cpu else None,
                "videos_per_second": rounded(1 / wall) if wall else None,
                "vs_first": compared(rounds, base, place, clock)
                if same and data != first
                else None,
            }
        )
    line = command("gtdnet bench data", options, "data")
    result = {
        **envelope("data", "Reading videos", line, CPU, ("av",)),
        "clock": clock,
        "rounds": len(rounds),
        "load": load,
        "num_workers": options.workers(),
        "batch_size": options.batch_size,
        "spec": sources[0].spec.describe(),
        "data": {source.name: source.about() for source in sources},
        "stages": stages,
        "notes": notes,
    }
    save(result, options.output)
    return result


def _flat(rounds: Sequence[dict[Place, dict[Place, Turn]]]) -> list[dict[Place, Turn]]:
    return [{k: v for turns in each.values() for k, v in turns.items()} for each in rounds]


# ---------------------------------------------------------------------------------- what is read


def _open(options: DataBenchOptions) -> tuple[list[_Source], bool, list[str]]:
    """The datasets, ready to be read; whether they are the same videos; what is to be said of that.

    Raises:
        InputError: no such dataset, no split that all of them have, or no video that can be
            decoded in all of them.
    """
    split = options.split or _shared_split(options)
    found = {data: read_annotations(data, split, options.format) for data in options.data}
    common = set.intersection(*({r.id for r in part.records} for part in found.values()))
    sources = []
    for data, part in found.items():
        records = sorted(
            (r for r in part.records if r.id in common or not common), key=lambda r: r.id
        )
        spread = np.linspace(0, len(records) - 1, min(options.num_videos, len(records)))
        chosen = tuple(records[i] for i in spread.round().astype(int))
        sources.append(_Source(data, replace(part, records=chosen), options))
    good = set.intersection(*(set(source.seen) for source in sources))
    notes = []
    if not common:
        notes.append(
            "The datasets have no ids of videos in common: each is read on its own, and they are "
            "not compared."
        )
    elif not good:
        raise InputError(
            f"no video can be decoded in all of {', '.join(found)}; gtdnet check says what is "
            f"wrong with them"
        )
    elif any(len(source.seen) > len(good) for source in sources):
        notes.append("Videos that cannot be decoded in one of the datasets are left out of all.")
    for source in sources:
        source.start(good if common else source.seen)
    return sources, bool(common), notes


def _shared_split(options: DataBenchOptions) -> str:
    """The first split of the first dataset that all have."""
    splits = {data: list_splits(data, options.format) for data in options.data}
    for split in splits[options.data[0]]:
        if all(split in own for own in splits.values()):
            return split
    told = "; ".join(f"{data}: {', '.join(own) or 'none'}" for data, own in splits.items())
    raise InputError(f"there is no split to read in all of the data ({told}); give other")


class _Source:
    """One dataset, every video of which has been read once."""

    def __init__(self, name: str, annotations: Annotations, options: DataBenchOptions) -> None:
        self.name = name
        self._annotations, self._options = annotations, options
        self._config = TrainConfig(
            data=name,
            batch_size=options.batch_size,
            num_segments=options.num_segments,
            sampling=options.sampling,
            rate=options.rate,
            short_side=options.short_side,
            crop_size=options.crop_size,
        )
        self.spec = self._config.clip_spec(annotations.class_names)
        # Of each video that can be decoded, by id: number of frames, and the picture's size.
        self.seen: dict[str, tuple[int, str]] = {}
        watch = _Stopwatch()
        with watch.on_reading(), progress_bar(name, len(annotations.records)) as advance:
            clips = EvalClips(annotations.records, self.spec)
            for index, record in enumerate(annotations.records):
                if not isinstance(clips[index], Failure):
                    self.seen[record.id] = watch.read
                advance(1)
        if not self.seen:
            raise InputError(
                f"{name}: none of {len(annotations.records)} videos can be decoded; "
                f"gtdnet check says what is wrong with them"
            )

    def start(self, ids: Collection[str]) -> None:
        """Make ready to read these videos in both ways: in this process, and by workers."""
        options, workers = self._options, self._options.workers()
        good = [record for record in self._annotations.records if record.id in ids]
        self._ids = [record.id for record in good]
        self._told: dict[int, float] = {}  # CPU seconds of each worker so far
        self._passes: Counter[str] = Counter()  # the same random crops of all data in a round
        # Each pass of a loader has enough batches for its workers to run at their pace.
        videos = max(1, workers) * _BATCHES_PER_WORKER * options.batch_size
        longer = tuple(good) * max(1, math.ceil(videos / len(good)))
        config = self._config
        augmentation = Augmentation(config.multiscale, config.flip, config.brightness)
        train = TrainClips(longer, self.spec, augmentation, config.seed)
        test = EvalClips(longer, self.spec, options.clips, options.crops)
        both = ClipLoaders(train, test, batch_size=options.batch_size, num_workers=workers)
        self._loaders: dict[str, Any] = {
            "train": both.train_dataloader(),
            "test": both.val_dataloader(),
        }
        for loader in self._loaders.values():
            loader.collate_fn = partial(_and_tell, loader.collate_fn)

    def about(self) -> dict[str, Any]:
        """What is read of it; JSON-ready."""
        frames, pixels = zip(*(self.seen[video] for video in self._ids), strict=True)
        return {
            "format": self._annotations.format,
            "split": self._annotations.split,
            "videos": len(self._ids),
            "failed": len(self._annotations.records) - len(self.seen),
            "median_frames": statistics.median(frames),
            "pixels": statistics.mode(pixels),
        }

    @property
    def worker_cpu(self) -> float:
        """CPU seconds that workers have used so far."""
        return sum(self._told.values())

    def stages(self, view: str) -> dict[Place, Turn]:
        """Every video once in this process."""
        clips = self._loaders[view].dataset
        self._passes[view] += 1
        samples: list[Sample | Failure] = []
        watch = _Stopwatch()
        with watch.on_reading():
            for index in range(len(self._ids)):
                samples.append(clips[(self._passes[view], index) if view == "train" else index])
                watch.lap("transform")
                if len(samples) == self._options.batch_size or index == len(self._ids) - 1:
                    collate(samples)
                    samples = []
                    watch.lap("collate")
        spent = {**watch.spent, "item": sum(watch.spent.values(), np.zeros(2))}
        return {
            Place(self.name, view, stage): _turn(spent[stage] / len(self._ids)) for stage in STAGES
        }

    def load(self, view: str) -> dict[Place, Turn]:
        """One pass of the loader."""
        loader = self._loaders[view]
        self._passes[f"{view} loader"] += 1
        if view == "train":
            loader.batch_sampler.set_epoch(self._passes["train loader"])
        videos, start, before = 0, _now(), self.worker_cpu
        for batch, process, cpu in loader:
            videos += len(batch.labels) + len(batch.failures)
            if process != os.getpid():
                self._told[process] = cpu
        spent = _now() - start
        spent[1] += self.worker_cpu - before
        return {Place(self.name, view, "loader"): _turn(spent / videos)}


class _Stopwatch:
    """Wall and CPU seconds by stage; what passes between two laps counts for the second one."""

    def __init__(self) -> None:
        self.spent = {stage: np.zeros(2) for stage in STAGES if stage != "item"}
        self.read = (0, "")  # number of frames and the picture's size of the last video
        self._last = _now()

    def lap(self, stage: str) -> None:
        now = _now()
        self.spent[stage] += now - self._last
        self._last = now

    @contextmanager
    def on_reading(self) -> Iterator[None]:
        """Within it, the reading of frames in :mod:`gtdnet.data.dataset` makes its laps here."""
        read_frames = dataset.read_frames

        def watched(
            path: str | Path, choose: Chooser, reduce: Reduce, **options: Any
        ) -> tuple[torch.Tensor, int]:
            def choose_and_lap(*known: Any) -> NDArray[np.int64]:
                self.lap("open")
                indices = choose(*known)
                self.lap("sample")
                return indices

            def reduce_and_lap(frame: torch.Tensor) -> torch.Tensor:
                self.lap("decode")
                size = f"{frame.shape[-1]}x{frame.shape[-2]}"
                small = reduce(frame)
                self.lap("transform")
                self.read = 0, size
                return small

            self.lap("transform")  # drawing of random numbers, for what comes later
            frames, num_frames = read_frames(path, choose_and_lap, reduce_and_lap, **options)
            self.lap("decode")
            self.read = num_frames, self.read[1]
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
