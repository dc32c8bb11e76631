"""What int8 is made and measured with, and what it does to the accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gtdnet.data.formats import Annotations, VideoRecord, read_annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import ENGINES, ExportedFile
from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import match_classes
from gtdnet.evaluate.results import Evaluation
from gtdnet.evaluate.run import evaluate_model
from gtdnet.evaluate.statistics import paired_difference_interval
from gtdnet.export.agreement import ExportFailed
from gtdnet.export.clips import balanced
from gtdnet.export.options import ExportOptions
from gtdnet.export.stream import streamed
from gtdnet.measure.machine import describe_machine
from gtdnet.measure.provenance import command, versions
from gtdnet.models.model_file import ModelFile
from gtdnet.text import say

MOST_LOST = 0.005
"""Top-1, as a fraction, that int8 may lose: half a point."""

CALIBRATION_CLIPS = 300


@dataclass(frozen=True)
class Dataset:
    """Training clips to take the ranges of values from, and what the accuracy is measured on."""

    calibration: list[VideoRecord]
    validation: Annotations

    @classmethod
    def read(cls, options: ExportOptions, spec: ClipSpec) -> Dataset:
        """As the options ask for; InputError if its classes are others, or it has no labels."""
        train = read_annotations(str(options.data), "train", options.format)
        validation = read_annotations(str(options.data), "validation", options.format)
        if spec.multi_label:
            raise InputError(
                f"{options.model}: what int8 costs is measured in top-1, which a model of any "
                f"number of classes a clip has none of; export it with --precision fp32 or bf16"
            )
        match_classes(spec.class_names, validation.class_names)
        if all(record.label is None for record in validation.records):
            raise InputError(
                f"the validation split of {options.data} has no labels to measure int8's accuracy "
                f"with; give a dataset that has them"
            )
        if options.validation_clips is not None:
            chosen = balanced(validation.records, options.validation_clips, options.seed)
            validation = replace(validation, records=tuple(chosen), missing=())
        count = options.calibration_clips or CALIBRATION_CLIPS
        return cls(balanced(train.records, count, options.seed), validation)


def report_loss(
    options: ExportOptions, model_file: ModelFile, quantised: ExportedFile, dataset: Dataset
) -> dict[str, Any]:
    """What int8 costs in accuracy, how it was made and measured; JSON-ready.

    Raises:
        ExportFailed: more than :data:`MOST_LOST` is lost, unless that is forced.
    """
    say("measuring the accuracy")
    loss = measure_loss(model_file, quantised, dataset.validation, options.num_workers)
    too_much = loses_too_much(loss)
    if too_much and not options.force:
        raise ExportFailed(
            f"{describe_loss(loss)}, more than the {100 * MOST_LOST:g} points that are allowed; "
            f"nothing was written; give more --calibration_clips, or more validation clips if the "
            f"interval is wide, take --precision bf16, or keep it all the same with --force"
        )
    return {
        **loss,
        "forced": too_much,
        "model": Path(options.model).name,
        "views": model_file.spec.views(1, 1),
        "data": Path(dataset.validation.root).name,
        "calibration_clips": len(dataset.calibration),
        "machine": describe_machine(torch.device("cpu")),
        "versions": versions((*ENGINES[quantised.engine].packages, "nncf")),
        "command": command("gtdnet export", options),
    }


def measure_loss(
    model_file: ModelFile,
    quantised: ExportedFile,
    annotations: Annotations,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Top-1 on a split before and after, by ``gtdnet evaluate``'s own code; JSON-ready.

    The step of a stream is shown the clips frame by frame.
    """
    recognizer = streamed(quantised, model_file) if quantised.stream else None
    before, after = (
        evaluate_model(file, annotations, device="cpu", num_workers=num_workers, recognizer=by)
        for file, by in ((model_file, None), (quantised, recognizer))
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


def describe_loss(loss: Mapping[str, Any]) -> str:
    """One line of it, for people."""
    low, high = (100 * bound for bound in loss["top1_lost_interval"])
    return (
        f"int8 takes top-1 from {100 * loss['top1_before']:.2f} % to "
        f"{100 * loss['top1_after']:.2f} %, {100 * loss['top1_lost']:.2f} points less "
        f"[{low:.2f}, {high:.2f}; 95 % confidence] on {loss['clips']} clips"
    )
