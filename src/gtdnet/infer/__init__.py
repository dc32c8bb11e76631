"""Recognising actions in videos with a model file."""

from gtdnet.infer.recognizer import ClassScore, Recognizer, load

__all__ = ["ClassScore", "Recognizer", "load"]
