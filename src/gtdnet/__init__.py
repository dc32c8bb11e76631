"""gtdnet: video action recognition with the Global Temporal Difference Network."""

from gtdnet import nn
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError, InputError
from gtdnet.models.zoo import create_model, list_models

__version__ = "0.1.0"
__all__ = [
    "ClipSpec",
    "DecodeError",
    "InputError",
    "create_model",
    "list_models",
    "nn",
]
