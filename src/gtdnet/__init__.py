"""gtdnet: video action recognition with the Global Temporal Difference Network.

What is named here is imported when it is first used, so that ``import gtdnet`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gtdnet import moved

if TYPE_CHECKING:
    from gtdnet import nn
    from gtdnet.data.spec import ClipSpec
    from gtdnet.errors import DecodeError, InputError
    from gtdnet.hub import from_pretrained, push_to_hub
    from gtdnet.infer.live import open_live
    from gtdnet.infer.recognizer import ClassScore, Recognizer, load
    from gtdnet.infer.streaming import StreamingRecognizer
    from gtdnet.models.backbones.base import register_backbone
    from gtdnet.models.build import create_model, list_models
    from gtdnet.models.methods import register_method
    from gtdnet.models.model_file import load_model, save_model

__version__ = "0.1.0"
__all__ = [
    "ClassScore",
    "ClipSpec",
    "DecodeError",
    "InputError",
    "Recognizer",
    "StreamingRecognizer",
    "create_model",
    "from_pretrained",
    "list_models",
    "load",
    "load_model",
    "nn",
    "open_live",
    "push_to_hub",
    "register_backbone",
    "register_method",
    "save_model",
]

_PLACES = {
    "ClassScore": "infer.recognizer",
    "ClipSpec": "data.spec",
    "DecodeError": "errors",
    "InputError": "errors",
    "Recognizer": "infer.recognizer",
    "StreamingRecognizer": "infer.streaming",
    "create_model": "models",
    "from_pretrained": "hub",
    "list_models": "models",
    "load": "infer.recognizer",
    "load_model": "models",
    "open_live": "infer.live",
    "push_to_hub": "hub",
    "register_backbone": "models",
    "register_method": "models",
    "save_model": "models",
}

moved.install()


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"gtdnet.{_PLACES[name]}"), name)
    if not name.startswith("_"):
        from importlib.util import find_spec

        if find_spec(f"gtdnet.{name}"):  # a room, as gtdnet.nn
            return import_module(f"gtdnet.{name}")
    raise AttributeError(f"module 'gtdnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
