"""Recognising actions in videos with a model file."""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.infer.recognizer import ClassScore, Recognizer, load
    from gtdnet.infer.streaming import StreamingRecognizer

__all__ = ["ClassScore", "Recognizer", "StreamingRecognizer", "load"]

__getattr__ = lazy.names(
    __name__,
    {
        "ClassScore": "recognizer",
        "Recognizer": "recognizer",
        "StreamingRecognizer": "streaming",
        "load": "recognizer",
    },
)
