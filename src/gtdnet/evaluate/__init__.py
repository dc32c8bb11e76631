"""Measuring a model file on a dataset, by a stated protocol."""

from gtdnet.evaluate.ensemble import EnsembleOptions, ensemble
from gtdnet.evaluate.protocol import protocol_line
from gtdnet.evaluate.results import Evaluation, FailedClip, Results, read_results
from gtdnet.evaluate.run import EvaluateOptions, evaluate, evaluate_model, evaluate_orders

__all__ = [
    "EnsembleOptions",
    "EvaluateOptions",
    "Evaluation",
    "FailedClip",
    "Results",
    "ensemble",
    "evaluate",
    "evaluate_model",
    "evaluate_orders",
    "protocol_line",
    "read_results",
]
