"""The last word of a training run: its best validation as an evaluation, its curve, its classes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gtdnet.data.dataset import target
from gtdnet.device import resolve_device, resolve_precision
from gtdnet.errors import InputError
from gtdnet.evaluate.clips import find_source, read_clips
from gtdnet.evaluate.metrics import confusion_matrix
from gtdnet.evaluate.results import Evaluation, FailedClip, write_results
from gtdnet.files import sha256
from gtdnet.measure.provenance import versions
from gtdnet.models.model_file import read_facts
from gtdnet.ranking import average_precision
from gtdnet.text import aligned, counted
from gtdnet.train.callbacks import load_validated
from gtdnet.train.config import TrainConfig
from gtdnet.train.progress import curve

VALIDATION_FOLDER = "validation"
_MOST_CLASSES = 12  # that are all shown; of more, the worst and the best half of as many


def best_validation(run: Path) -> Evaluation | None:
    """The validation that a finished run's best.ckpt was kept for, as the run measured it.

    None where there was none, or an earlier version trained.

    Raises:
        ValueError: the run's dataset cannot be read, or has other clips now.
    """
    validated = load_validated(run / "best.ckpt")
    if validated is None:
        return None
    numbers, scores = validated
    source = find_source(str(run), None, None)
    split = read_clips(source, "validation")
    records = split.records
    if numbers[-1] >= len(records) or scores.shape[1] != len(split.class_names):
        raise InputError(f"{source.data}: its validation clips are others than in training")
    done, left = [records[i] for i in numbers], set(range(len(records))) - set(numbers.tolist())
    reasons = _reasons(run)
    failures = tuple(
        FailedClip(
            r.id,
            r.label if isinstance(r.label, int) else -1,
            r.path,
            reasons.get(r.path, "it could not be decoded"),
        )
        for r in (records[i] for i in sorted(left))
    )
    spec = read_facts(source.model).spec
    labels = np.array(
        [target(record.classes, spec, record.label is not None) for record in done],
        dtype=np.int64,
    )
    ids = tuple(record.id for record in done)
    return Evaluation(split.class_names, ids, scores, labels, failures)


def write_validation(run: Path, evaluation: Evaluation) -> Path:
    """Write it into ``RUN/validation`` as an evaluation: one view, in the precision of training."""
    folder, source = run / VALIDATION_FOLDER, find_source(str(run), None, None)
    config, packages = TrainConfig.load(run / "config.yaml"), versions()
    model, device = read_facts(source.model), resolve_device(config.device)
    result = {
        **evaluation.to_dict(),
        "protocol": {
            "views": model.spec.views(1, 1),
            "average": "probabilities",
            "split": "validation",
            "frames": "in-order",
            "seed": None,
            "engine": "torch",
            "precision": resolve_precision(config.precision, device),
            "device": device.type,
            "spec": model.spec.to_dict(),
            "fingerprint": model.spec.fingerprint,
        },
        "model": {
            "path": source.model,
            "name": model.name,
            "sha256": sha256(Path(source.model)),
        },
        "data": {"path": source.data, "format": source.format, "classes": "identical"},
        "versions": {package: packages[package] for package in ("gtdnet", "torch")},
        "output": str(folder),
    }
    folder.mkdir(exist_ok=True)
    write_results(folder, evaluation, result)
    return folder


def _reasons(run: Path) -> dict[str, str]:
    """Of each clip that the run could not decode, by path."""
    path = run / "failures.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


# ------------------------------------------------------------------------------------- for people


def summary(run: Path, evaluation: Evaluation | None, width: int | None) -> str:
    """A curve of the run's epochs and its classes, in lines of ``width`` letters (None: any)."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column, title = "train_loss", "training loss by epoch"
    for name, figure in (("val_top1", "top-1"), ("val_map", "mAP")):
        if any(row.get(name) for row in rows):
            column, title = name, f"validation {figure} by epoch"
    values = [float(row[column]) if row[column] else None for row in rows]
    show = (lambda v: f"{100 * v:.1f} %") if column != "train_loss" else (lambda v: f"{v:.3f}")
    parts = []
    if lines := curve(values, show):
        parts.append("\n".join([title, *lines]))
    if evaluation is not None and evaluation.known.any():
        lines = class_lines if evaluation.labels.ndim == 1 else precision_lines
        parts.append("\n".join(lines(evaluation, width)))
    return "\n\n".join(parts)


def class_lines(evaluation: Evaluation, width: int | None) -> list[str]:
    """Of a few classes all, of many the worst and the best ones: accuracy, hits, worst mistake."""
    known = evaluation.labels >= 0
    names = evaluation.class_names
    confusion = confusion_matrix(evaluation.scores[known], evaluation.labels[known])
    clips, right = confusion.sum(axis=1), confusion.diagonal()
    there = np.flatnonzero(clips)
    share = right[there] / clips[there]

    def row(i: int) -> tuple[str, ...]:
        wrong = confusion[i].copy()
        wrong[i] = 0
        most = int(wrong.argmax())
        mistaken = f"{names[most]} ({wrong[most]})" if wrong[most] else ""
        return names[i], str(clips[i]), f"{100 * right[i] / clips[i]:.1f} %", mistaken

    head = (
        f"{counted(len(there), 'class', 'classes')}, {counted(int(clips.sum()), 'validation clip')}"
        f", mean class accuracy {100 * share.mean():.1f} %"
    )
    order = there[np.argsort(share, kind="stable")].tolist()
    return [head, *_worst_and_best(order, ("clips", "right", "mistaken for"), row, width)]


def precision_lines(evaluation: Evaluation, width: int | None) -> list[str]:
    """The same where clips have any number of classes: average precision."""
    known, names = evaluation.known, evaluation.class_names
    labels = evaluation.labels[known]
    clips, precision = labels.sum(axis=0), average_precision(evaluation.scores[known], labels)
    there = np.flatnonzero(clips)

    def row(i: int) -> tuple[str, ...]:
        return names[i], str(clips[i]), f"{100 * precision[i]:.1f} %", ""

    order = there[np.argsort(precision[there], kind="stable")].tolist()
    mean = f", mAP {100 * precision[there].mean():.1f} %" if len(there) else ""
    head = f"{counted(len(there), 'class', 'classes')}, {counted(len(labels), 'validation clip')}"
    return [head + mean, *_worst_and_best(order, ("clips", "precision", ""), row, width)]


def _worst_and_best(
    order: Sequence[int],
    heads: tuple[str, str, str],
    row: Callable[[int], tuple[str, ...]],
    width: int | None,
) -> list[str]:
    """Tables of the classes, the worst first: all of a few, of many both ends."""
    half = _MOST_CLASSES // 2
    parts = {"the worst": order[:half], "the best": order[-half:]}
    if len(order) <= _MOST_CLASSES:
        parts = {"from the worst": order}
    return [
        line
        for title, part in parts.items()
        for line in aligned(_fitted([(title, *heads), *map(row, part)], width)).splitlines()
    ]


def _fitted(rows: Sequence[tuple[str, ...]], width: int | None) -> Sequence[tuple[str, ...]]:
    """The rows with names cut so that lines of four columns have at most ``width`` letters."""
    if width is None:
        return rows
    fixed = 6 + max(len(row[1]) for row in rows) + max(len(row[2]) for row in rows)
    room = max(20, width - fixed)
    longest = [max(len(row[column]) for row in rows) for column in (0, 3)]
    first = min(longest[0], room - min(longest[1], 20))  # names of rows above all
    return [(_cut(a, first), b, c, _cut(d, room - first)) for a, b, c, d in rows]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
