"""Engines: what computes a model's logits from frames, one file each."""

import sys
from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.engines.base import ENGINES, Check, Choice, Engine, Source, register_engine
    from gtdnet.engines.graph import example_clips
    from gtdnet.engines.header import ExportedFile
    from gtdnet.engines.open import (
        build_engine,
        choose,
        choose_for,
        find_model,
        is_exported,
        open_engine,
        open_model,
        open_steps,
        unavailable,
    )
    from gtdnet.engines.profile import Node

BUILT_IN = ("torch", "compile", "onnx", "openvino")
"""Modules of this room, each of which registers the engine of its name."""


def engine_names() -> list[str]:
    """Of all engines; nothing heavy is imported for it."""
    base = sys.modules.get(f"{__name__}.base")  # others have registered theirs by way of it
    return list(base.ENGINES if base else BUILT_IN)


__all__ = [
    "BUILT_IN",
    "ENGINES",
    "Check",
    "Choice",
    "Engine",
    "ExportedFile",
    "Node",
    "Source",
    "build_engine",
    "choose",
    "choose_for",
    "engine_names",
    "example_clips",
    "find_model",
    "is_exported",
    "open_engine",
    "open_model",
    "open_steps",
    "register_engine",
    "unavailable",
]

__getattr__ = lazy.names(
    __name__,
    {
        "Check": "base",
        "Choice": "base",
        "ENGINES": "base",
        "Engine": "base",
        "ExportedFile": "header",
        "Node": "profile",
        "Source": "base",
        "build_engine": "open",
        "choose": "open",
        "choose_for": "open",
        "example_clips": "graph",
        "find_model": "open",
        "is_exported": "open",
        "open_engine": "open",
        "open_model": "open",
        "open_steps": "open",
        "register_engine": "base",
        "unavailable": "open",
    },
)
