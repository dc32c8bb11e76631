"""gtdnet: video action recognition with the Global Temporal Difference Network."""

from gtdnet import nn
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError, InputError
from gtdnet.hub import from_pretrained, push_to_hub
from gtdnet.infer.recognizer import ClassScore, Recognizer, load
from gtdnet.models.build import create_model, list_models
from gtdnet.models.model_file import load_model, save_model

__version__ = "0.1.0"
__all__ = [
    "ClassScore",
    "ClipSpec",
    "DecodeError",
    "InputError",
    "Recognizer",
    "create_model",
    "from_pretrained",
    "list_models",
    "load",
    "load_model",
    "nn",
    "push_to_hub",
    "save_model",
]
