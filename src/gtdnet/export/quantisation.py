"""What int8 does to the accuracy: the same clips by the model and by its int8 form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gtdnet.data.formats import Annotations
from gtdnet.engines.exported import ExportedFile
from gtdnet.evaluate.results import Evaluation
from gtdnet.evaluate.run import evaluate_model
from gtdnet.evaluate.statistics import paired_difference_interval
from gtdnet.models.model_file import ModelFile

MOST_LOST = 0.005
"""Top-1, as a fraction, that int8 may lose: half a point."""


def measure_loss(
    model_file: ModelFile,
    quantised: ExportedFile,
    annotations: Annotations,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Top-1 on a split before and after, by ``gtdnet evaluate``'s own code; JSON-ready.

    Raises:
        ValueError: classes that do not match, or no clip that can be decoded.
    """
    before, after = (
        evaluate_model(file, annotations, device="cpu", num_workers=num_workers)
        for file in (model_file, quantised)
    )
    return compare_top1(before, after)


def compare_top1(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Top-1 of two evaluations of the same clips, and the 95 % interval of what is lost."""
    known = before.labels >= 0
    total = int(known.sum())
    was, now = before.correct[known], after.correct[known]
    interval = paired_difference_interval(int((was & ~now).sum()), int((now & ~was).sum()), total)
    return {
        "top1_before": float(was.mean()),
        "top1_after": float(now.mean()),
        "top1_lost": float(was.mean() - now.mean()),
        "top1_lost_interval": [float(bound) for bound in interval],
        "clips": total,
        "failed_clips": len(before.failures),
    }


def loses_too_much(loss: Mapping[str, Any]) -> bool:
    """Whether more than :data:`MOST_LOST`, in whole clips: exactly as much is not more."""
    return round(loss["top1_lost"] * loss["clips"]) > MOST_LOST * loss["clips"]
