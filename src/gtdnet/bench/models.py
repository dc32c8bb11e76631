"""Time and memory of models by engine, precision, batch and threads, beside the plain network.

What is timed takes uint8 frames on its device to logits: normalisation is part of it, decoding and
copying to a GPU are not (``gtdnet bench data`` measures the former).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gtdnet import engines, moved
from gtdnet.bench.cases import CPU, Case, Made, asked, measure
from gtdnet.bench.engines import GRAPHS, LAYOUTS, make_call, why_not
from gtdnet.bench.networks import Network, backbone_options, find_networks
from gtdnet.bench.options import MODULES, ModelBenchOptions, words
from gtdnet.bench.result import envelope, save
from gtdnet.data.spec import ClipSpec
from gtdnet.device import PRECISIONS, resolve_device
from gtdnet.engines.header import ExportedFile, ExportedModel
from gtdnet.errors import InputError
from gtdnet.measure.memory import alone, resident_mib
from gtdnet.measure.provenance import command
from gtdnet.measure.timing import rounded


@dataclass(frozen=True)
class ModelCase(Case):
    """One network in one engine."""

    engine: str
    precision: Any
    layout: str | None

    def reference(self, network: Network) -> ModelCase:
        """The same clips and threads, run the plain way."""
        return replace(self, network=network, engine="plain", precision="fp32", layout="nchw")

    def make(self, device: torch.device, profiled: bool) -> Made:
        if reason := why_not(self.engine, device):
            raise InputError(reason)
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        model, spec = self.network.build(self.num_segments, self.crop_size)
        names = ("engine", "precision", "layout", "batch_size", "threads")
        how: dict[str, Any] = {name: getattr(self, name) for name in names}
        ready = make_call(model, spec, device=device, profiled=profiled, **how)
        case = replace(self, engine=ready.engine, precision=ready.precision)
        return Made(case, ready.call, ready.profiler, replayed=self.engine in GRAPHS)

    def activations(self) -> int:
        return self.network.cost(self.num_segments, self.crop_size).inference_bytes

    def work(self, seconds: float) -> dict[str, Any]:
        gmacs = self.network.cost(self.num_segments, self.crop_size).macs / 1e9
        rate = 2 * gmacs * self.batch_size / seconds
        return {"gmacs": rounded(gmacs), "gflops": rounded(rate)}

    def resident_mib(self) -> dict[str, int] | None:
        if self.engine == "compile":
            return None
        engine = engines.ENGINES.get(self.engine)
        if engine is None or not engine.opens_files():
            return super().resident_mib()
        with TemporaryDirectory() as folder:  # converting, too, would leave much in the process
            path = Path(folder, f"model{engine.suffixes[0]}")
            model, spec = self.network.build(self.num_segments, self.crop_size)
            source = engines.Source(model, spec, engines.example_clips(spec, self.batch_size))
            engine.save(source, path, self.precision)
            return alone(_resident_mib_of_file, self, path, spec)


def _resident_mib_of_file(case: ModelCase, path: Path, spec: ClipSpec) -> dict[str, int]:
    engine = engines.ENGINES[case.engine]
    engine.load_runtime()
    file = ExportedFile(str(path), case.engine, case.precision, ExportedModel("", {}), spec)
    choice = engines.Choice(case.engine, CPU, case.precision, case.threads)
    clips = engines.example_clips(spec, case.batch_size)
    return resident_mib(lambda: partial(engine.open(file, choice), clips))


def plan(options: ModelBenchOptions) -> tuple[list[ModelCase], Network | None]:
    """The cases that the options ask for, floors among them, and the reference's network."""
    options.check()
    networks, sizes = asked(options, options.thread_counts())
    reference = None
    if options.reference:
        own = backbone_options(options.reference, options.model_options)
        reference = find_networks([options.reference], own, networks[0].num_classes)[0]
    layouts = words("layouts", options.layouts, LAYOUTS)
    cases: dict[ModelCase, None] = {}
    for engine, precision, size in itertools.product(
        words("engines", options.engines, ("auto", *engines.ENGINES, *MODULES)),
        words("precisions", options.precisions, ("auto", *PRECISIONS)),
        sizes,
    ):
        for layout in layouts if engine in MODULES else [None]:
            here = [ModelCase(n, *size, engine, precision, layout) for n in networks]
            for case in here:
                cases |= dict.fromkeys([case, case.floor()])
            if reference:
                cases[here[0].reference(reference)] = None
    return list(cases), reference


def bench_models(options: ModelBenchOptions) -> dict[str, Any]:
    """Time the cases of the options by turns; JSON-ready. InputError if none can be run here."""
    planned, reference = plan(options)
    ratios = {"vs_floor": lambda case: (case, case.floor())}
    if reference:
        ratios["vs_reference"] = lambda case: (case.reference(reference), case)
    packages = [package for e in engines.ENGINES.values() for package in e.packages] + ["nncf"]
    line, device = command("gtdnet bench", options, "models"), resolve_device(options.device)
    result = {
        **envelope("models", "Models", line, device, packages),
        **measure(options, planned, ratios),
        "reference": str(reference) if reference else None,
    }
    save(result, options.output)
    return result


__getattr__ = moved.names(__name__)
