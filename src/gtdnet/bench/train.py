"""Time and memory of training steps: those of ``gtdnet train`` on one device, clips at hand.

Reading clips is not part of a step, for workers do it meanwhile (``gtdnet bench data``); nor is
what a run does once in a while, as validating and saving.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from gtdnet.bench.cases import Case, Made, asked, measure
from gtdnet.bench.options import Choice, MeasureOptions, words
from gtdnet.bench.profile import by_pytorch
from gtdnet.bench.result import save
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


@dataclass(frozen=True)
class TrainCase(Case):
    """Steps of one network."""

    setting: str

    def base(self) -> TrainCase:
        """The same network in fp32 and NCHW."""
        return replace(self, setting=BASE)

    def make(self, device: torch.device, profiled: bool) -> Made[TrainCase]:
        torch.set_num_threads(self.threads)
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in self.network.options}
        config = TrainConfig(
            data="random",
            model=self.network.name,
            model_options=options,
            batch_size=self.batch_size,
            num_segments=self.num_segments,
            short_side=self.crop_size,
            crop_size=self.crop_size,
            device=str(device),
            **SETTINGS[self.setting],
        )
        step = TrainStep(config, self.network.num_classes, fast=self.setting != "plain")
        return Made(self, step, by_pytorch(step, device) if profiled else None)

    def activations(self) -> int:
        return self.network.cost(self.num_segments, self.crop_size).training_bytes

    @property
    def compiled(self) -> bool:
        return "compile" in SETTINGS[self.setting]


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
        module = TrainingModule(model, spec, config, lr, seed=config.seed)
        self.module = module.to(self.device).train()
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


def plan(options: TrainBenchOptions) -> list[TrainCase]:
    """The cases that the options ask for, with what they are compared with.

    Raises:
        ValueError: an option out of range.
    """
    options.check()
    networks, sizes = asked(options, options.thread_counts())
    settings = dict.fromkeys([*words("settings", options.settings, tuple(SETTINGS)), BASE])
    cases = (
        TrainCase(network, *size, setting)
        for size, setting, network in itertools.product(sizes, settings, networks)
    )
    return list(dict.fromkeys(both for case in cases for both in (case, case.floor())))


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

    ratios = {
        "vs_floor": lambda case: (case, case.floor()),
        "vs_fp32_nchw": lambda case: (case.base(), case),
    }
    program, planned = "gtdnet bench train", plan(options)
    result, cases = measure("train", title, program, options, planned, ratios, deadline)
    device = resolve_device(options.device)
    result["settings"] = {case.setting: _described(case.setting, device) for case in cases}
    save(result, options.output)
    return result


def _described(setting: str, device: torch.device) -> str:
    config = TrainConfig(**SETTINGS[setting])
    parts = [
        resolve_precision(config.precision, device),
        "channels_last" if config.channels_last else "NCHW",
        *(["compiled"] if config.compile else []),
        *(["no fast path"] if setting == "plain" else []),
    ]
    return ", ".join(parts)
