"""Measuring a model file on a dataset, by a stated protocol."""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.evaluate.ensemble import ensemble
    from gtdnet.evaluate.options import EnsembleOptions, EvaluateOptions
    from gtdnet.evaluate.protocol import protocol_line
    from gtdnet.evaluate.results import Evaluation, FailedClip, Results, read_results
    from gtdnet.evaluate.run import evaluate, evaluate_model, evaluate_orders

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

__getattr__ = lazy.names(
    __name__,
    {
        "EnsembleOptions": "options",
        "EvaluateOptions": "options",
        "Evaluation": "results",
        "FailedClip": "results",
        "Results": "results",
        "ensemble": "ensemble",
        "evaluate": "run",
        "evaluate_model": "run",
        "evaluate_orders": "run",
        "protocol_line": "protocol",
        "read_results": "results",
    },
)
