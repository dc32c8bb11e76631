"""Time and memory of training steps: those of ``gtdnet train`` on one device, clips at hand.

Reading clips is not part of a step, for workers do it meanwhile (``gtdnet bench data``); nor is
what a run does once in a while, as validating and saving.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch

from gtdnet import moved
from gtdnet.bench.cases import Case, Made, asked, measure
from gtdnet.bench.options import SETTINGS, TrainBenchOptions, words
from gtdnet.bench.profile import by_pytorch
from gtdnet.bench.result import envelope, save
from gtdnet.device import resolve_device, resolve_precision
from gtdnet.measure.provenance import command
from gtdnet.train.config import TrainConfig
from gtdnet.train.step import TrainStep

BASE = "fp32-nchw"


@dataclass(frozen=True)
class TrainCase(Case):
    """Steps of one network."""

    setting: str

    def base(self) -> TrainCase:
        """The same network in fp32 and NCHW."""
        return replace(self, setting=BASE)

    def make(self, device: torch.device, profiled: bool) -> Made:
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

    def resident_mib(self) -> dict[str, int] | None:
        return None if "compile" in SETTINGS[self.setting] else super().resident_mib()


def plan(options: TrainBenchOptions) -> list[TrainCase]:
    """The cases that the options ask for, with what they are compared with."""
    options.check()
    networks, sizes = asked(options, options.thread_counts())
    settings = dict.fromkeys([*words("settings", options.settings, tuple(SETTINGS)), BASE])
    cases = (
        TrainCase(network, *size, setting)
        for size, setting, network in itertools.product(sizes, settings, networks)
    )
    return list(dict.fromkeys(both for case in cases for both in (case, case.floor())))


def bench_train(options: TrainBenchOptions) -> dict[str, Any]:
    """Time the cases of the options by turns; JSON-ready. InputError if none can be run here."""
    planned, device = plan(options), resolve_device(options.device)
    ratios = {
        "vs_floor": lambda case: (case, case.floor()),
        "vs_fp32_nchw": lambda case: (case.base(), case),
    }
    found = measure(options, planned, ratios)
    line = command("gtdnet bench train", options, "models")
    result = {
        **envelope("train", "Training steps", line, device),
        **found,
        "settings": {c["setting"]: _described(c["setting"], device) for c in found["cases"]},
    }
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


__getattr__ = moved.names(__name__)
