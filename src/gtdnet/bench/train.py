"""Time and memory of training steps: those of ``gtdnet train`` on one device, clips at hand.

Reading clips is not part of a step, for workers do it meanwhile (``gtdnet bench data``); nor is
what a run does once in a while, as validating and saving.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from gtdnet.bench.cases import (
    Run,
    add_process_memory,
    gpu_bytes,
    make_all,
    measure,
    memory_ratio,
    own_settings,
    ready,
)
from gtdnet.bench.networks import Network, find_networks, own_size
from gtdnet.bench.options import MeasureOptions, check_sizes, command, numbers, words
from gtdnet.bench.result import envelope, save
from gtdnet.bench.timing import compared, resolve_clock, times
from gtdnet.data.dataset import Batch
from gtdnet.device import autocast, resolve_device, resolve_precision, to_channels_last
from gtdnet.nn import fast_path
from gtdnet.train.config import TrainConfig
from gtdnet.train.module import TrainingModule
from gtdnet.train.optim import build_optimizer, scaled_lr
from gtdnet.train.run import build_model

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "fp32-nchw": {"precision": "fp32", "channels_last": False},
    "fp32": {"precision": "fp32"},
    "compile": {"compile": True},
    "plain": {"precision": "fp32", "channels_last": False},
}
"""By name, what differs from gtdnet train's defaults; "plain" is without the fast path too."""

BASE = "fp32-nchw"


@dataclass
class TrainChoice:
    """What is timed

    Args:
        models: names, as gtdnet models lists them, or model files (of which only the architecture
            counts).
        model_options: the models' own options, e.g. --model_options.width 0.5.
        num_classes: classes.
        num_segments: frames of a clip, with commas between; default: 8, or the model file's.
        crop_size: side of the frames in pixels; default: 224, or the model file's.
        batch_sizes: clips of a step, with commas between.
        settings: with commas between: default (what gtdnet train does), fp32-nchw (fp32, without
            channels_last), fp32, compile (default, compiled), plain (fp32-nchw without this
            package's fast path). fp32-nchw is always among them.
        profile: rows of PyTorch's table of the costliest operators, for each case; 0: none.
    """

    models: list[str] = field(default_factory=lambda: ["gtdnet_resnet50"])
    model_options: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 174
    num_segments: str | None = None
    crop_size: int | None = None
    batch_sizes: str = "4"
    settings: str = "default,fp32-nchw"
    profile: int = 0


@dataclass
class TrainBenchOptions(MeasureOptions, TrainChoice):
    """Everything of one bench of training steps."""


@dataclass(frozen=True)
class Case:
    """Steps of one network in one setting."""

    network: Network
    setting: str
    batch_size: int
    threads: int
    num_segments: int
    crop_size: int

    def floor(self) -> Case:
        """The plain network in the same setting."""
        return replace(self, network=self.network.floor())

    def base(self) -> Case:
        """The same network in fp32 and NCHW."""
        return replace(self, setting=BASE)

    def values(self) -> dict[str, Any]:
        """All but the network; JSON-ready."""
        return {key: value for key, value in vars(self).items() if key != "network"}

    def to_dict(self) -> dict[str, Any]:
        """The network by its label, and the values; JSON-ready."""
        return {"model": str(self.network), **self.values()}


class TrainStep:
    """One optimiser step per call, as ``gtdnet train`` takes it on one device.

    Model, loss and optimiser are :mod:`gtdnet.train`'s; the few lines between them are what
    Lightning's trainer does there. Frames and labels are random.

    Args:
        config: its model, clips, precision, layout and optimiser are taken.
        num_classes: K.

    Raises:
        ValueError: a value out of range, or a device or precision that is not here.
    """

    def __init__(self, config: TrainConfig, num_classes: int, *, fast: bool = True) -> None:
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.config = config
        self.fast = fast
        self.steps = 0
        torch.manual_seed(config.seed)
        spec = config.clip_spec(tuple(map(str, range(num_classes))))
        model, spec, _ = build_model(config, spec)
        if config.channels_last:
            to_channels_last(model)
        if config.compile:
            model.compile()
        lr = scaled_lr(config.lr, config.lr_batch, config.batch_size)
        self.module = TrainingModule(model, spec, config, lr).to(self.device).train()
        # Logging is the trainer's, which there is none of here.
        self.module.log = lambda *_, **__: None  # type: ignore[method-assign]
        self.module.on_train_start()
        self.optimizer = build_optimizer(config, model, lr)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")  # type: ignore[attr-defined]
        n, side = config.batch_size, spec.crop_size
        views = torch.randint(
            0, 256, (n, 1, spec.frames_per_clip, 3, side, side), dtype=torch.uint8
        )
        labels = torch.randint(num_classes, (n,))
        self.batch = Batch(views, labels, torch.arange(n), [])
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as gtdnet train
            self.batch = self.batch.pin_memory()

    def __call__(self) -> None:
        with fast_path(self.fast):
            self._step()

    def _step(self) -> None:
        batch = self.module.transfer_batch_to_device(self.batch, self.device, 0)
        self.module.on_train_batch_start(batch, self.steps)
        with autocast(self.device, self.precision):
            loss = self.module.training_step(batch, self.steps)
        if loss is None:
            raise RuntimeError("a training step without a loss")
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.config.clip_gradient:
            self.scaler.unscale_(self.optimizer)
            parameters = self.module.model.parameters()
            torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1


def plan(options: TrainBenchOptions) -> list[Case]:
    """The cases that the options ask for, with what they are compared with.

    Raises:
        ValueError: an option out of range.
    """
    options.check()
    networks = find_networks(options.models, options.model_options)
    frames, side = own_size(options.models)
    side = side if options.crop_size is None else options.crop_size
    check_sizes(crop_size=(side, 32), num_classes=(options.num_classes, 1))
    check_sizes(profile=(options.profile, 0))
    settings = words("settings", options.settings, tuple(SETTINGS))
    cases: dict[Case, None] = {}
    for batch, threads, num_segments, setting in itertools.product(
        numbers("batch_sizes", options.batch_sizes),
        options.thread_counts(),
        numbers("num_segments", options.num_segments or str(frames)),
        dict.fromkeys([*settings, BASE]),
    ):
        here = [Case(n, setting, batch, threads, num_segments, side) for n in networks]
        for case in here:
            cases |= dict.fromkeys([case, case.floor()])
    return list(cases)


def bench_train(
    options: TrainBenchOptions,
    *,
    deadline: float | None = None,
    title: str = "Training steps",
) -> dict[str, Any]:
    """Time the cases of the options by turns; JSON-ready.

    Args:
        options: what to time.
        deadline: as of ``time.monotonic()``: what has not been made by then is left out, and said.
        title: of the result.

    Raises:
        ValueError: an option out of range, or none of the cases can be run here.
    """
    planned = plan(options)
    device = resolve_device(options.device)
    clock = resolve_clock(options.clock, device)
    with own_settings():
        made, left_out = make_all(planned, partial(_make, options, device), deadline)
        pairs = [(case, other) for case in made for other in (case.floor(), case.base())]
        measured = measure(made, pairs, options, device, clock)
    if options.memory and device.type == "cpu":
        classes = {"num_classes": options.num_classes}
        add_process_memory(made, f"{__name__}:call_of", lambda case: {**_to_json(case), **classes})
    rounds = measured.rounds
    result = {
        **envelope("train", title, command("gtdnet bench train", options, "models"), device),
        "clock": clock,
        "rounds": len(rounds),
        "load": measured.load,
        "settings": {
            name: _described(name, device) for name in dict.fromkeys(c.setting for c in made)
        },
        "cases": [
            {
                **case.to_dict(),
                **times(rounds, case, case.batch_size),
                "memory": run.memory,
                "memory_vs_floor": memory_ratio(made, case, case.floor()),
                "vs_floor": compared(rounds, case, case.floor(), clock),
                "vs_fp32_nchw": compared(rounds, case.base(), case, clock),
                **({"operators": run.operators} if run.operators else {}),
            }
            for case, run in made.items()
        ],
        "left_out": left_out,
    }
    save(result, options.output)
    return result


def call_of(network: Mapping[str, Any], num_classes: int, **values: Any) -> Callable[[], None]:
    """The step of a case on the CPU, for a process of its own (:mod:`gtdnet.bench.memory`)."""
    case = Case(Network.from_dict(network), **values)
    return _step(case, num_classes, torch.device("cpu"))


def _make(
    options: TrainBenchOptions, device: torch.device, case: Case, made: Mapping[Case, Run]
) -> tuple[Case, Run]:
    before = gpu_bytes(device)
    step = _step(case, options.num_classes, device)
    cost = case.network.cost(options.num_classes, case.num_segments, case.crop_size)
    counted = cost.training_bytes * case.batch_size
    return case, ready(step, counted, case.threads, device, before, options.profile)


def _to_json(case: Case) -> dict[str, Any]:
    return {"network": case.network.to_dict(), **case.values()}


def _step(case: Case, num_classes: int, device: torch.device) -> TrainStep:
    torch.set_num_threads(case.threads)
    config = TrainConfig(
        data="random",
        model=case.network.name,
        model_options={k: list(v) if isinstance(v, tuple) else v for k, v in case.network.options},
        batch_size=case.batch_size,
        num_segments=case.num_segments,
        short_side=case.crop_size,
        crop_size=case.crop_size,
        device=str(device),
        **SETTINGS[case.setting],
    )
    return TrainStep(config, num_classes, fast=case.setting != "plain")


def _described(setting: str, device: torch.device) -> str:
    config = TrainConfig(**SETTINGS[setting])
    parts = [
        resolve_precision(config.precision, device),
        "channels_last" if config.channels_last else "NCHW",
        *(["compiled"] if config.compile else []),
        *(["no fast path"] if setting == "plain" else []),
    ]
    return ", ".join(parts)
