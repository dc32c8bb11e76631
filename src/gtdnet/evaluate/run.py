"""Evaluate a model file on one split: every clip once, none replaced, the protocol stated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gtdnet.data.dataset import target
from gtdnet.data.formats import Annotations, VideoRecord
from gtdnet.data.spec import ClipSpec
from gtdnet.device import check_devices
from gtdnet.engines import Choice, ExportedFile, choose_for, open_model
from gtdnet.errors import InputError
from gtdnet.evaluate.clips import find_source, read_clips
from gtdnet.evaluate.diagnose import diagnose
from gtdnet.evaluate.options import EvaluateOptions
from gtdnet.evaluate.partial import PartialScores
from gtdnet.evaluate.protocol import (
    FRAME_ORDERS,
    check_frame_order,
    check_kind,
    has_no_names,
    match_classes,
    order_frames,
)
from gtdnet.evaluate.results import (
    Evaluation,
    FailedClip,
    Thresholds,
    output_folder,
    result_file,
    write_results,
)
from gtdnet.files import NotWritten, sha256
from gtdnet.infer.answers import THRESHOLD, Decider, check_threshold
from gtdnet.infer.recognizer import Recognizer, check_average, check_views
from gtdnet.infer.scoring import ScoredBatch, check_loading, score_batches
from gtdnet.measure.provenance import versions
from gtdnet.models.model_file import ModelFile
from gtdnet.processes import ALONE, Group, current, started, together
from gtdnet.text import progress_bar, say

PARTIAL_FILE = "scores.partial.npz"
_SHOWN_FAILURES = 5


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Evaluate a model file and write the results; an interrupted evaluation goes on.

    Returns what metrics.json holds, JSON-ready: :attr:`Evaluation.metrics` and ``.intervals``,
    ``protocol``, ``model``, ``data``, ``versions`` and ``output``, the folder; and with
    ``diagnose``, under ``diagnosis``, what diagnosis.json holds.

    Raises:
        ValueError: bad options, a model or dataset that cannot be read, classes that do not match,
            no clip that can be decoded, or results that would be overwritten.
        ProcessLost: one of several processes ended.

    With several processes, the first one writes and returns the results; the others return {}.
    """
    devices, num_nodes = started(options.devices, options.num_nodes)
    options = replace(options, devices=devices, num_nodes=num_nodes)
    call = {"function": f"{__name__}:evaluate_from", "arguments": {"values": asdict(options)}}
    with ExitStack() as held:
        # What is wrong is found before others are started, or by all of them together.
        is_only = current() is ALONE and num_nodes == 1
        ready = _make_ready(options, held) if is_only else None
        group = held.enter_context(
            together(**call, devices=devices, num_nodes=num_nodes, minutes=options.timeout)
        )
        group.remedy = "give the same command again"
        with group.alike():
            ready = ready or _make_ready(options, held)
        return _evaluate(ready, group)


def evaluate_from(values: dict[str, Any]) -> None:
    """:func:`evaluate` in one of the further processes."""
    evaluate(EvaluateOptions(**values))


@dataclass(frozen=True)
class _Ready:
    """An evaluation before its first clip; the folder, where this process is to write."""

    options: EvaluateOptions
    model_file: ModelFile | ExportedFile
    choice: Choice
    annotations: Annotations
    described: dict[str, Any]
    threshold: Thresholds
    key: str
    folder: Path | None


def _make_ready(options: EvaluateOptions, held: ExitStack) -> _Ready:
    source = find_source(options.model, options.data, options.format)
    options = replace(options, model=source.model, data=source.data)
    model_file, choice = _open(options)
    spec = model_file.spec
    annotations = read_clips(source, options.split)
    if options.diagnose and all(record.label is None for record in annotations.records):
        raise InputError(
            f"the {options.split} split of {annotations.root} has no labels, without which there "
            f"is nothing to diagnose; choose another --split"
        )
    check_kind(spec, annotations)
    classes = _say_classes(spec.class_names, annotations.class_names)
    threshold = _threshold(options.threshold, spec)
    packages = versions()
    described = {
        "protocol": {
            "views": spec.views(options.crops, options.clips),
            "average": options.average,
            "split": options.split,
            "frames": options.frames,
            "seed": options.seed if options.frames == "shuffled" else None,
            "engine": choice.name,
            "precision": choice.precision,
            "device": choice.device.type,
            "spec": spec.to_dict(),
            "fingerprint": spec.fingerprint,
            **(
                {"threshold": [*threshold] if isinstance(threshold, tuple) else threshold}
                if spec.multi_label
                else {}
            ),
        },
        "model": {
            "path": options.model,
            "name": model_file.model.name,
            "sha256": sha256(Path(model_file.path)),  # an .xml holds that of its .bin
            **{k: v for k, v in model_file.metrics.items() if k == "calibration"},
        },
        "data": {"path": options.data, "format": annotations.format, "classes": classes},
        "versions": {package: packages[package] for package in ("gtdnet", "torch")},
    }
    records = json.dumps([asdict(record) for record in annotations.records])
    key = json.dumps(
        {
            "orders": [_orders(options), options.seed],
            "protocol": described["protocol"],
            "model": described["model"]["sha256"],
            "versions": described["versions"],
            "batch_size": options.batch_size,  # scores can differ in the last bit with it
            "records": hashlib.sha256(records.encode()).hexdigest(),
        }
    )
    folder = None
    if current().is_first:
        folder = held.enter_context(_output_folder(options, spec.num_segments, key))
    return _Ready(options, model_file, choice, annotations, described, threshold, key, folder)


def _threshold(asked: float | None, spec: ClipSpec) -> Thresholds:
    """Probability from which on a multi-label clip is given a class, or that of each class.

    What is asked for, else what the model was calibrated with, else one half.
    """
    if asked is None and spec.multi_label and (decider := Decider.of(spec)):
        return tuple(None if t > 1 else t for t in decider.thresholds)  # above 1: never
    return THRESHOLD if asked is None else float(asked)


def _orders(options: EvaluateOptions) -> tuple[str, ...]:
    return FRAME_ORDERS if options.diagnose else (options.frames,)


def _evaluate(ready: _Ready, group: Group) -> dict[str, Any]:
    options, choice, folder = ready.options, ready.choice, ready.folder
    partial = PartialScores(folder and folder / PARTIAL_FILE, ready.key)
    on_its_own = group.size > 1 and choice.device.type == "cuda"
    evaluations = evaluate_orders(
        ready.model_file,
        ready.annotations,
        _orders(options),
        clips=options.clips,
        crops=options.crops,
        average=options.average,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        device=f"cuda:{group.place.local_rank}" if on_its_own else str(choice.device),
        engine=choice.name,
        precision=choice.precision,
        seed=options.seed,
        threshold=ready.threshold,
        partial=partial,
        group=group,
    )
    if folder is None:
        return {}
    evaluation = evaluations[options.frames]
    result = {**evaluation.to_dict(), **ready.described, "output": str(folder)}
    diagnosis = {**diagnose(evaluations), "seed": options.seed} if options.diagnose else None
    _say_failures(evaluation.failures, len(evaluation.ids))
    try:
        partial.save()  # what a kill among the results' files leaves is then known as ours
        write_results(folder, evaluation, result, diagnosis)
        partial.remove()
    except NotWritten as error:
        result |= {"output": None, "not_written": str(error)}
        say(str(error))
    return result if diagnosis is None else {**result, "diagnosis": diagnosis}


def _open(options: EvaluateOptions) -> tuple[ModelFile | ExportedFile, Choice]:
    """The model with the spec that was asked for, and what computes; other options are checked."""
    check_frame_order(options.frames)
    if options.diagnose and options.frames != "in-order":
        raise InputError(
            f"--diagnose measures all orders of frames by itself; leave out --frames "
            f"{options.frames}"
        )
    check_views(options.clips, options.crops)
    check_average(options.average)
    check_loading(options.batch_size, options.num_workers)
    model_file = open_model(options.model, num_segments=options.num_segments)
    choice = choose_for(model_file, options.engine, options.device, options.precision)
    if options.devices > 1:
        check_devices(options.device, choice.device, options.devices)
    spec = model_file.spec.with_options(short_side=options.short_side, crop_size=options.crop_size)
    if isinstance(model_file, ExportedFile) and spec.crop_size != model_file.spec.crop_size:
        raise InputError(
            f"{options.model}: was exported for crop_size={model_file.spec.crop_size}; export the "
            f"model again with --crop_size {spec.crop_size}"
        )
    check_threshold(options.threshold)
    if options.threshold is not None and not spec.multi_label:
        raise InputError(
            f"--threshold {options.threshold:g} is for models of any number of classes a clip; "
            f"{options.model} gives one; leave it out"
        )
    if options.diagnose and spec.multi_label:
        raise InputError(
            f"--diagnose asks which class a clip is given, but {options.model} gives any number; "
            f"evaluate with --frames shuffled, reversed and repeated and compare their mAP"
        )
    if options.diagnose and spec.frames_per_clip == 1:
        raise InputError(
            f"{options.model} takes clips of one frame, which have no order to diagnose; give "
            f"--num_segments, or a model of several frames"
        )
    return replace(model_file, spec=spec), choice


def evaluate_model(
    model_file: ModelFile | ExportedFile,
    annotations: Annotations,
    *,
    frames: str = "in-order",
    **options: Any,
) -> Evaluation:
    """Score every clip of a split with a model at hand, its frames in one order.

    Options and errors are those of :func:`evaluate_orders`.
    """
    return evaluate_orders(model_file, annotations, (frames,), **options)[frames]


def evaluate_orders(
    model_file: ModelFile | ExportedFile,
    annotations: Annotations,
    orders: Sequence[str],
    *,
    clips: int = 1,
    crops: int = 1,
    average: str = "probabilities",
    batch_size: int = 8,
    num_workers: int | None = None,
    device: str = "auto",
    engine: str | None = None,
    precision: str | None = None,
    seed: int = 0,
    threshold: Thresholds = THRESHOLD,
    partial: PartialScores | None = None,
    quiet: bool = False,
    group: Group = ALONE,
    recognizer: Recognizer | None = None,
) -> dict[str, Evaluation]:
    """Score every clip of a split with its frames in several orders, decoding it once.

    Gives one evaluation of the same clips for each of ``orders``. The model is moved to the device
    and set to eval mode. Batches that ``partial`` holds are not computed again; those that are done
    are saved to it every minute and when the evaluation is stopped. ``quiet`` draws no progress
    bar. A ``recognizer`` answers in place of the one that the file is opened by. In a ``group``
    each process scores every so many-th batch, and the first one has them all; the others give {}.
    The others are as in :class:`EvaluateOptions`.

    Raises:
        ValueError: an argument out of range, classes that do not match, or no clip that can be
            decoded.
    """
    for order in orders:
        check_frame_order(order)
    spec, records = model_file.spec, annotations.records
    check_kind(spec, annotations)
    label_map = match_classes(spec.class_names, annotations.class_names)
    recognizer = recognizer or Recognizer(
        model_file, device, engine=engine, precision=precision, average=average
    )
    scored = partial or PartialScores()
    first_batch = group.share(scored.num_batches)
    if scored.num_batches:
        say(f"going on after {scored.num_records} clips that {scored.path} holds")
    f = spec.frames_per_segment

    def arrange(views: Tensor, indices: Tensor) -> Tensor:  # [orders*N, V, T*f, 3, h, w]
        return torch.cat([order_frames(views, indices, order, seed, f) for order in orders])

    batches = score_batches(
        recognizer,
        records,
        clips=clips,
        crops=crops,
        batch_size=batch_size,
        num_workers=num_workers,
        first_batch=first_batch,
        arrange=arrange,
        group=group,
    )
    try:
        with progress_bar("clips", len(records), scored.num_records, quiet) as advance:
            for batch in batches:
                shape = (len(orders), len(batch.indices), batch.scores.shape[1])
                scores = batch.scores.reshape(shape).swapaxes(0, 1)  # [N, orders, K]
                scored.add(ScoredBatch(batch.indices, scores, batch.failures))
                advance(len(batch))
    except BaseException:  # Ctrl-C above all
        if scored.save():
            say(
                f"stopped after {scored.num_records} of {len(records)} clips; "
                f"the same command goes on from there"
            )
        raise
    if not group.is_first:
        return {}

    def label(record: VideoRecord) -> int | tuple[int, ...]:
        known = record.classes
        classes = known if label_map is None else [int(label_map[k]) for k in known]
        return target(classes, spec, record.label is not None)

    def failed(record: VideoRecord, path: str, reason: str) -> FailedClip:
        its = label(record)
        return FailedClip(record.id, its if isinstance(its, int) else -1, path, reason)

    found = scored.together() if scored.batches else None
    failures = [failed(records[f.index], f.path, f.reason) for f in found.failures] if found else []
    reason = "it is annotated but not there; check the dataset"
    failures += [failed(record, record.path, reason) for record in annotations.missing]
    if found is None or not len(found.indices):
        example = f", the first being {failures[0].path}: {failures[0].reason}" if failures else ""
        raise InputError(
            f"none of the {len(failures)} clips in the {annotations.split} split of "
            f"{annotations.root} can be read{example}"
        )
    done = [records[i] for i in found.indices]
    ids = tuple(record.id for record in done)
    labels = np.array([label(record) for record in done], dtype=np.int64)
    return {
        order: Evaluation(
            spec.class_names, ids, scores, labels, tuple(failures), threshold=threshold
        )
        for order, scores in zip(orders, found.scores.swapaxes(0, 1).copy(), strict=True)
    }


def _output_folder(
    options: EvaluateOptions, num_segments: int, key: str
) -> AbstractContextManager[Path]:
    """A folder to have alone, without results or with those that may be replaced."""
    suffix = "" if options.frames == "in-order" else f"-{options.frames}"
    views = f"{num_segments}x{options.crops}x{options.clips}"
    beside = Path(options.model).parent
    if options.model.startswith("hf://"):
        beside = Path("runs", options.model.removeprefix("hf://").replace("/", "--"))
    return output_folder(
        beside / f"eval-{options.split}-{views}{suffix}",
        options.output,
        options.overwrite,
        lambda folder: _of_another(folder, key),
    )


def _of_another(folder: Path, key: str) -> str | None:
    """A file of another evaluation that is in the folder, done or stopped."""
    path = folder / PARTIAL_FILE
    if path.exists():
        return None if PartialScores(path, key).batches else PARTIAL_FILE
    return result_file(folder)


def _say_classes(model_names: Sequence[str], data_names: Sequence[str]) -> str:
    """How the data's classes were matched to the model's; says so if they are not the same."""
    if match_classes(model_names, data_names) is not None:
        say("the data has the model's classes in another order; they are matched by name")
        return "matched by name"
    if tuple(model_names) != tuple(data_names) and has_no_names(data_names):
        say(
            f"the data has no class names: its labels 0 to {len(data_names) - 1} are taken for the "
            f"model's ({model_names[0]!r}, ...)"
        )
        return "without names"
    return "identical"


def _say_failures(failures: Sequence[FailedClip], num_scored: int) -> None:
    if not failures:
        return
    say(
        f"{len(failures)} of {num_scored + len(failures)} clips could not be read and are not part "
        f"of the accuracies:"
    )
    for clip in failures[:_SHOWN_FAILURES]:
        say(f"  {clip.path}: {clip.reason}")
    if len(failures) > _SHOWN_FAILURES:
        say(f"  ... and {len(failures) - _SHOWN_FAILURES} more, all in failures.csv")
