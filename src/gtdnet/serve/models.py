"""The models that are served, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

from gtdnet.engines import find_model, is_exported
from gtdnet.errors import InputError
from gtdnet.infer.recognizer import Recognizer, load
from gtdnet.serve.options import split
from gtdnet.serve.refusal import Refusal


class Served:
    """A model ready to answer. ``lock`` is held while it computes.

    Attributes:
        source: what names its file, as given.
        why_not: why there is no picture of what it sees, or None.
    """

    def __init__(self, name: str, source: str, recognizer: Recognizer) -> None:
        self.name, self.source, self.recognizer = name, source, recognizer
        self.spec, self.lock = recognizer.spec, Lock()
        self.why_not = None
        if is_exported(source):
            self.why_not = (
                "An exported model does not show what it sees; serve the model file that it was "
                "made from."
            )

    @property
    def network(self) -> str:
        """The name of its network, as gtdnet models lists it; "" if it is not known."""
        return "" if self.why_not else str(getattr(self.recognizer.model, "name", ""))

    @property
    def has_gates(self) -> bool:
        """Whether it has GTD blocks, and so global difference scores."""
        if self.why_not:
            return False
        return any(getattr(m, "shows_gate", False) for m in self.recognizer.model.modules())

    def to_json(self) -> dict[str, Any]:
        """What the page and programs may know of it."""
        return {
            "name": self.name,
            "network": self.network,
            "classes": list(self.spec.class_names),
            "input": self.spec.describe(),
            "multi_label": self.spec.multi_label,
            "has_picture": self.why_not is None,
            "has_scores": self.has_gates,
        }

    def to_kserve(self) -> dict[str, Any]:
        """Model metadata of the Open Inference Protocol (KServe v2)."""
        spec = self.spec
        clip = [-1, spec.frames_per_clip, 3, spec.crop_size, spec.crop_size]
        return {
            "name": self.name,
            "versions": [],
            "platform": f"gtdnet_{self.recognizer.engine.name}",
            "inputs": [{"name": "clips", "datatype": "UINT8", "shape": clip}],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, spec.num_classes]}
            ],
        }


class Models(dict[str, Served]):
    """The models in the order in which they were given."""

    def named(self, name: str | None) -> Served:
        """The model of that name, of several; the first where none is given."""
        if not self:
            raise Refusal(404, "no_model", "This server has no models; it collects clips.")
        if name is None:
            return next(iter(self.values()))
        if name not in self:
            raise Refusal(
                404, "no_model", f"There is no model {name[:100]!r} here; choose {', '.join(self)}."
            )
        return self[name]


def load_models(
    sources: Iterable[str],
    device: str = "auto",
    *,
    engine: str | None = None,
    precision: str | None = None,
) -> Models:
    """Load them all.

    Raises:
        ValueError: one cannot be loaded, or a name is given to two.
    """
    models = Models()
    for source in sources:
        given, path = split(source)
        recognizer = load(path, device, engine=engine, precision=precision)
        name = given or _free(name_of(path), models)
        if name in models:
            raise InputError(f"two models are called {name}; give one another: NAME={path}")
        models[name] = Served(name, path, recognizer)
    return models


def name_of(path: str) -> str:
    """A name for a model from its path: of runs/first/model.safetensors "first"."""
    file = Path(find_model(path).rstrip("/"))
    name = file.parent.name if file.stem == "model" and file.parent.name else file.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with a number behind it if it is taken."""
    taken, number = set(taken), 1
    while (candidate := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return candidate
