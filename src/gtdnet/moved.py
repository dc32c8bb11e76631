"""Where modules of earlier versions went: their old names still import, with a warning.

A module that is not there any more stands for those that have its parts now.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES: dict[str, tuple[str, ...]] = {
    "allocator": ("workers",),
    "bench.machine": ("measure.machine", "measure.provenance"),
    "bench.memory": ("measure.memory",),
    "bench.timing": ("measure.timing",),
    "data.annotations": ("data.formats",),
    "data.packed": ("data.pack.index",),
    "data.shards": ("data.pack.shards",),
    "demo": ("commands.demo",),
    "infer.engine": (
        "engines.open",
        "engines.base",
        "engines.torch",
        "engines.compile",
        "device",
    ),
    "infer.exported": ("engines.header", "engines.open", "engines.base"),
    "infer.graph": ("engines.graph", "engines.profile", "engines.base"),
    "infer.onnx_engine": ("engines.onnx",),
    "infer.openvino_engine": ("engines.openvino",),
    "models.convert": (
        "weights.convert.run",
        "weights.convert.recognition",
        "weights.convert.sources",
    ),
    "models.deploy": ("engines.deploy",),
    "models.forms": ("engines.forms",),
    "models.pretrained": ("weights.published", "weights.hub"),
    "models.res2net": ("models.backbones.res2net",),
    "models.resnet": ("models.backbones.resnet",),
    "models.tdn": ("models.backbones.tdn",),
    "models.watch": ("measure.watch",),
    "models.weights": ("weights.fit", "weights.read"),
    "models.zoo": ("models.build", "models.methods"),
    "progress": ("text",),
    "report.show": ("show.run",),
    "report.show_figure": ("show.figure", "show.canvas"),
    "report.show_page": ("show.page",),
    "report.views": ("show.views",),
    "train.ablate": ("ablate.run", "ablate.grid", "ablate.summary"),
}
"""Old name to new ones, all below gtdnet."""


NAMES: dict[str, dict[str, str]] = {
    "bench.models": {"ModelChoice": "bench.options"},
    "bench.train": {"TrainChoice": "bench.options"},
    "bench.options": {"command": "measure.provenance"},
    "device": {"default_workers": "workers", "num_cores": "workers"},
    "nn.shift": {"reduced_channels": "nn.frames"},
    "train.callbacks": {"ProgressLines": "train.progress"},
    "train.run": {"build_model": "train.ready"},
    "report.reading": {"Comparison": "report.compare", "compare_runs": "report.compare"},
}
"""By module that is still there: what moved out of it, and where to."""

RENAMED: dict[str, str] = {
    "bench.cases.own_threads": "bench.cases.own_settings",
    "bench.engines.FILES": "engines.ENGINES, whose engines have suffixes",
    "bench.engines.load_runtime": "Engine.load_runtime of engines",
    "bench.engines.open_file": "Engine.open of engines",
    "bench.engines.save_file": "Engine.save of engines",
    "bench.machine.measured_peak": "in benchmarks/peak.py of the repository",
    "bench.networks.own_size": "bench.networks.Network.own_size",
    "bench.options.check_sizes": "errors.check_at_least",
    "bench.result.Result": "any mapping",
    "bench.result.Table": "a list of rows of text, the heads first",
    "evaluate.partial.Scored": "evaluate.partial.PartialScores",
    "train.run.is_first_process": "processes.current().is_first",
    "train.callbacks.METRICS": "columns of train.objective.Objective",
    "export.run.FORMATS": "export.options.writers()",
    "infer.exported.ENGINE_OF": "engines.ENGINES, whose engines have suffixes",
    "infer.exported.digest": "files.sha256",
    "infer.onnx_engine.read_header": "engines.onnx.OnnxEngine.read_header",
    "infer.openvino_engine.read_header": "engines.openvino.OpenVinoEngine.read_header",
    "infer.openvino_engine.save_openvino": "engines.openvino.OpenVinoEngine.save",
    "nn.fast.Parts": "nn.fast.FusedPart",
    "nn.fast.parts_of": "nn.fast.fused_part",
    "report.show.FIGURES": "show.run.SUFFIXES",
    "infer.recognizer.check_topk": "errors.check_at_least",
    "models.deploy.FORMS": "engines.forms, named by each engine",
    "models.zoo.STAGES": "Backbone.stages of models.backbones.base",
    "models.zoo.before": "models.methods.before_layer",
    "models.zoo.parse_name": "models.build.parts_of",
}
"""What has another name or form now, and which."""


def install() -> None:
    """Let old names be found, after all others."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that names moved out of."""

    def find(name: str) -> Any:
        old = module.removeprefix("gtdnet.")
        place = NAMES.get(old, {}).get(name)
        if place is None:
            _refuse_renamed(module, name)
            raise AttributeError(f"{module} has no {name!r}")
        warnings.warn(
            f"{module}.{name} has moved to gtdnet.{place}", DeprecationWarning, stacklevel=2
        )
        return getattr(import_module(f"gtdnet.{place}"), name)

    return find


def _refuse_renamed(module: str, name: str) -> None:
    """Say what a name is now, by ImportError: "from module import name" hides what others say."""
    if now := RENAMED.get(f"{module.removeprefix('gtdnet.')}.{name}"):
        raise ImportError(f"{module}.{name} is now {now}", name=module)


class _Finder:  # of importlib.abc, whose import takes longer than all of this
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix("gtdnet.") in MODULES:
            return ModuleSpec(fullname, _Loader())  # pyright: ignore[reportArgumentType]
        return None


class _Loader:
    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        places = [f"gtdnet.{place}" for place in MODULES[name.removeprefix("gtdnet.")]]
        warnings.warn(
            f"{name} has moved to {' and '.join(places)}", DeprecationWarning, stacklevel=2
        )

        def find(attribute: str) -> Any:
            if attribute == "__all__":
                return list(dict.fromkeys(n for place in places for n in _public_names(place)))
            for place in places:
                if hasattr(found := import_module(place), attribute):
                    return getattr(found, attribute)
            _refuse_renamed(name, attribute)
            raise AttributeError(
                f"{name} has moved to {' and '.join(places)}, where there is no {attribute!r}"
            )

        module.__getattr__ = find  # type: ignore[method-assign]


def _public_names(place: str) -> list[str]:
    """What "from place import *" imports."""
    module = import_module(place)
    return getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
