"""What all benches can be told, and lists that are written with commas between."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtdnet import moved
from gtdnet.errors import InputError, check_at_least, check_positive, suggestion
from gtdnet.files import atomic_path
from gtdnet.workers import default_workers

VIEWS = ("train", "test")
MODULES = ("eager", "plain", "eager-graph", "compile-graph")
"""Ways to run the module itself, without an engine that prepares it for inference."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "fp32-nchw": {"precision": "fp32", "channels_last": False},
    "fp32": {"precision": "fp32"},
    "compile": {"compile": True},
    "plain": {"precision": "fp32", "channels_last": False},
}
"""By name, what differs from gtdnet train's defaults; "plain" is without the fast path too."""


@dataclass
class TimingOptions:
    """Timing

    Args:
        clock: of ratios and shares; cpu: CPU time of all threads and processes together; auto: cpu
            on a CPU, gpu on a GPU.
        seconds: the budget of the timing itself, beside making and warming up what is timed.
        tolerance: stop before that once half the 95 % interval of each ratio is at most this share
            of it (0: never).
        output: YAML file for the results.
        overwrite: replace that file if there is one.
    """

    clock: str = "auto"
    seconds: float = 60.0
    tolerance: float = 0.01
    output: str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        check_positive(seconds=self.seconds)
        if not 0 <= self.tolerance < 1:
            raise InputError(
                f"tolerance must be from 0 (measure for all of --seconds) to below 1, got "
                f"{self.tolerance}"
            )
        check_output(self.output, self.overwrite)


@dataclass
class MeasureOptions(TimingOptions):
    """Measuring

    Args:
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        threads: of PyTorch and the engines, with commas between; default: PyTorch's own number.
        memory: measure memory too: on a CPU in a process of its own for each case.
        profile: rows of two tables of each case, taken after the timing: its costliest operators,
            and its time by kind of operation, as the difference to the floor's; by PyTorch's
            profiler, OpenVINO's counters or ONNX Runtime's profile. 0: none.
    """

    device: str = "auto"
    threads: str | None = None
    memory: bool = True
    profile: int = 0

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        check_at_least(0, profile=self.profile)
        super().check()

    def thread_counts(self) -> list[int]:
        """The numbers of threads."""
        if self.threads is None:
            import torch

            return [torch.get_num_threads()]
        counts, cores = numbers("threads", self.threads), os.cpu_count() or 1
        if max(counts) > cores:
            raise InputError(f"--threads {self.threads}: this machine has {cores} cores, no more")
        return counts


@dataclass
class Choice:
    """What is timed

    Args:
        models: names, as gtdnet models lists them, or model files.
        model_options: the models' own options, e.g. --model_options.width 0.5.
        num_classes: classes of named models; default: 174, or the model file's.
        num_segments: frames of a clip, with commas between; default: 8, or the model file's.
        crop_size: side of the frames in pixels; default: 224, or the model file's.
        batch_sizes: clips at a time, with commas between.
    """

    models: list[str] = field(default_factory=lambda: ["gtdnet_resnet50"])
    model_options: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    num_segments: str | None = None
    crop_size: int | None = None
    batch_sizes: str = "1"


@dataclass
class ModelChoice(Choice):
    """What is timed

    Args:
        engines: with commas between. Those that run the module without an engine are eager, plain
            (eager without this package's fast path) and, on a GPU, eager-graph and compile-graph
            (CUDA graphs).
        precisions: with commas between: auto, fp32, bf16, fp16, int8.
        layouts: of engines eager and plain: nchw, channels_last, or both with a comma between.
        reference: a model that is also run plain, in fp32 and NCHW, as most code runs it; it is
            told how many times as fast all others are.
    """

    engines: str = "auto"
    precisions: str = "auto"
    layouts: str = "nchw"
    reference: str | None = None


@dataclass
class ModelBenchOptions(MeasureOptions, ModelChoice):
    """Everything of one bench of models."""


@dataclass
class TrainChoice(Choice):
    """What is timed

    Args:
        models: names, as gtdnet models lists them, or model files (of which only the architecture
            counts).
        batch_sizes: clips of a step, with commas between.
        settings: with commas between: default (what gtdnet train does), fp32-nchw (fp32, without
            channels_last), fp32, compile (default, compiled), plain (fp32-nchw without this
            package's fast path). fp32-nchw is always among them.
    """

    batch_sizes: str = "4"
    settings: str = "default,fp32-nchw"


@dataclass
class TrainBenchOptions(MeasureOptions, TrainChoice):
    """Everything of one bench of training steps."""


@dataclass
class DataBenchOptions(TimingOptions):
    """Time the reading of videos, stage by stage

    Args:
        data: dataset folders, list files or manifests; several are compared with the first.
        format: how the dataset is laid out; default: recognised.
        split: that is read; default: the first that all datasets have.
        views: train (random frames, crops and flips), test, or both with a comma between.
        clips: test clips per video.
        crops: test crops per clip: 1 or 3.
        num_segments: frames per clip.
        sampling: how frames are chosen.
        rate: sampled frames per second, of rate sampling.
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
    rate: float | None = None
    short_side: int = 256
    crop_size: int = 224
    num_videos: int = 16
    batch_size: int = 8
    num_workers: int | None = None
    tolerance: float = 0.02

    def workers(self) -> int:
        """Decoding processes of a loader."""
        import torch

        return (
            default_workers(torch.device("cpu")) if self.num_workers is None else self.num_workers
        )

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        if not self.data:
            raise InputError("no dataset given; name one or more, such as data/mine")
        if len(set(self.data)) < len(self.data):
            raise InputError(f"a dataset is given twice: {', '.join(self.data)}")
        from gtdnet.infer.recognizer import check_views

        words("views", self.views, VIEWS)
        check_views(self.clips, self.crops)
        check_at_least(1, num_videos=self.num_videos, batch_size=self.batch_size)
        check_at_least(0, num_workers=self.num_workers)
        super().check()


def check_output(output: str | None, overwrite: bool) -> None:
    """Raise InputError unless results can go to this file. Its folder is made."""
    if output is None:
        return
    if Path(output).suffix not in (".yaml", ".yml"):
        raise InputError(f"--output {output}: the results are YAML; give a name that ends in .yaml")
    if Path(output).is_file() and not overwrite:
        raise InputError(f"{output}: exists already; give another --output, or --overwrite")
    try:
        with suppress(_Writable), atomic_path(output):
            raise _Writable
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror}); give another --output"
        ) from error


class _Writable(Exception):
    """Ends the writing of a file that could be written, so that there is none."""


def words(option: str, text: str, choices: Sequence[str] = ()) -> list[str]:
    """The different words of "a,b"; InputError for none, or one that is not among the choices."""
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise InputError(f"--{option} is empty; give one or more, with commas between")
    for word in found:
        if choices and word not in choices:
            raise InputError(
                f"--{option}: unknown {word!r}{suggestion(word, choices)}; choose of "
                f"{', '.join(choices)}"
            )
    return found


def numbers(option: str, text: str) -> list[int]:
    """The different whole numbers, 1 or more, of "1,8"; InputError for anything else."""
    found = words(option, text)
    if not all(word.isdecimal() and int(word) for word in found):
        raise InputError(f"--{option}: expected whole numbers such as 1,8, got {text!r}")
    return list(dict.fromkeys(map(int, found)))


__getattr__ = moved.names(__name__)
