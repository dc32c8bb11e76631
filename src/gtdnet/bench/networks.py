"""The networks that a bench is about, and the plain 2D ones that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from gtdnet import moved
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models.build import create_model, floor, model_options, parts_of, spec_values
from gtdnet.models.complexity import Complexity, complexity
from gtdnet.models.model_file import load_model

CLASSES = 174


@dataclass(frozen=True)
class Network:
    """A named model with the options that are given to it, or the one in a model file."""

    name: str  # as ``gtdnet models`` lists it
    options: tuple[tuple[str, Any], ...] = ()  # names and values, sorted
    path: str | None = None  # the model file; None: weights are random, which changes no time
    num_classes: int = CLASSES  # a file's own, or those asked for
    own_size: tuple[int, int] = (8, 224)  # num_segments and crop_size, a file's own or usual ones

    def __str__(self) -> str:
        given = dict(self.options)
        if self.num_classes != CLASSES:
            given["num_classes"] = self.num_classes
        told = ",".join(f"{key}={value}" for key, value in given.items())
        return self.path or (f"{self.name}({told})" if told else self.name)

    def floor(self) -> Network:
        """The plain 2D network on the same backbone: nothing made of it can be faster."""
        name, options = floor(self.name, dict(self.options))
        usual = parts_of(name).backbone.network.options
        given = _sorted((key, value) for key, value in options.items() if value != usual[key])
        return Network(name, given, num_classes=self.num_classes)

    def build(self, num_segments: int, crop_size: int) -> tuple[nn.Module, ClipSpec]:
        """The model, ready for inference, and the spec of its input."""
        if self.path:
            file = load_model(self.path, num_segments=num_segments)
            short_side = max(file.spec.short_side, crop_size)
            return file.model, file.spec.with_options(crop_size=crop_size, short_side=short_side)
        spec = ClipSpec(
            tuple(map(str, range(self.num_classes))),
            num_segments=num_segments,
            short_side=crop_size,
            crop_size=crop_size,
            **spec_values(self.name),
        )
        options = dict(self.options)
        return create_model(self.name, self.num_classes, num_segments, **options).eval(), spec

    @cache  # noqa: B019 -- networks are few and small
    def cost(self, num_segments: int, crop_size: int) -> Complexity:
        """What one clip costs, counted."""
        options = dict(self.options)
        return complexity(self.name, self.num_classes, num_segments, crop_size, **options)


def find_networks(
    models: Sequence[str], options: Mapping[str, Any], num_classes: int | None = None
) -> list[Network]:
    """Names and model files as networks; each named model gets those of the options it knows.

    A file has its own number of classes; None gives the first one's to named models.

    Raises:
        InputError: no models, no such model or file, or an option that none of them knows.
    """
    if not models:
        raise InputError("no model given; name one or more, such as gtdnet_resnet50")
    found: dict[Network, None] = {}
    known: set[str] = set()
    for model in models:
        if _is_file(model):
            file = load_model(model)
            size = file.spec.num_segments, file.spec.crop_size
            given = _sorted(file.model.options.items())
            network = Network(file.model.name, given, model, file.spec.num_classes, size)
        else:
            allowed = model_options(model)
            known |= set(allowed)
            given = _sorted((k, v) for k, v in options.items() if k in allowed)
            network = Network(model, given, num_classes=num_classes or CLASSES)
        found[network] = None
        num_classes = num_classes or network.num_classes
    if unknown := sorted(set(options) - known):
        raise InputError(
            f"none of the models {', '.join(models)} has an option {unknown[0]!r}; "
            f"gtdnet models lists them"
        )
    return list(found)


def backbone_options(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a named model's backbone has; none for a model file.

    Raises:
        InputError: no model of that name.
    """
    return {} if _is_file(model) else floor(model, options)[1]


def _is_file(model: str) -> bool:
    return model.endswith(".safetensors") or model.startswith("hf://")


def _sorted(options: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in options))


__getattr__ = moved.names(__name__)
