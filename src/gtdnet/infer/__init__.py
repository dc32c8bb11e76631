"""Recognising actions in videos with a model file."""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.infer.live import LiveModel, open_live
    from gtdnet.infer.recognizer import ClassScore, Recognizer, load
    from gtdnet.infer.streaming import StreamingRecognizer

__all__ = [
    "ClassScore",
    "LiveModel",
    "Recognizer",
    "StreamingRecognizer",
    "load",
    "open_live",
]

__getattr__ = lazy.names(
    __name__,
    {
        "ClassScore": "recognizer",
        "LiveModel": "live",
        "Recognizer": "recognizer",
        "StreamingRecognizer": "streaming",
        "load": "recognizer",
        "open_live": "live",
    },
)
