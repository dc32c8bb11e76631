"""Engines: what computes a model's logits from frames, one file each."""

from importlib import import_module

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
    unavailable,
)
from gtdnet.engines.profile import Node

for _name in ("torch", "compile", "onnx", "openvino"):  # each registers its own
    import_module(f"{__name__}.{_name}")

__all__ = [
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
    "example_clips",
    "find_model",
    "is_exported",
    "open_engine",
    "open_model",
    "register_engine",
    "unavailable",
]
