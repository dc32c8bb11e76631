"""Measuring a model file on a dataset, by a stated protocol."""

from gtdnet.evaluate.protocol import protocol_line
from gtdnet.evaluate.results import Evaluation, FailedClip
from gtdnet.evaluate.run import EvaluateOptions, evaluate, evaluate_model

__all__ = [
    "EvaluateOptions",
    "Evaluation",
    "FailedClip",
    "evaluate",
    "evaluate_model",
    "protocol_line",
]
