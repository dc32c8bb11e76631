"""``gtdnet export``: one folder with a model in the formats of other runtimes, or no folder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from torch import Tensor

from gtdnet.data.formats import Annotations, VideoRecord, read_annotations
from gtdnet.data.transforms import normalise
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.exported import PRECISIONS, ExportedFile, is_exported, make_header, open_model
from gtdnet.engines.graph import missing
from gtdnet.engines.open import TorchEngine
from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import match_classes
from gtdnet.export.agreement import BATCHES, TOLERANCES, Agreement, compare, in_batches
from gtdnet.export.clips import EDITION, at_least, balanced, built_in_clips, read_clips, spaced
from gtdnet.export.quantisation import MOST_LOST, loses_too_much, measure_loss
from gtdnet.files import atomic_folder, check_free, sha256, write_text
from gtdnet.infer.find import find_videos
from gtdnet.infer.scoring import check_loading
from gtdnet.measure.machine import describe_machine
from gtdnet.measure.provenance import command, now, versions
from gtdnet.models.model_file import METADATA_KEY, ModelFile, load_model
from gtdnet.text import aligned, first_line, say

FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "onnx": ("model.onnx",),
        "openvino": ("model.xml", "model.bin"),
        "torch": ("model.pt2",),
    }
)
"""Files by format; the first is the one to give to a program."""

REPORT = "quantization.yaml"
"""What is known about an int8 model's accuracy."""

_PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "torch": ()}
)
_CHECKED = 32  # of the user's clips
_CALIBRATION_CLIPS = 300
_CPU = torch.device("cpu")


@dataclass
class ExportOptions:
    """Export a model file to ONNX, OpenVINO and torch.export

    Args:
        model: the model file (*.safetensors), or hf://user/name.
        output: folder to write; new or empty.
        formats: onnx, openvino and torch, those that are wanted with commas between; default: all
            whose packages are installed.
        precision: fp32, bf16 (openvino and torch) or int8 (openvino; needs data).
        clips: a video file, or a folder of them, on which both models must agree; default: clips of
            data, or without it of the built-in dataset.
        data: dataset for int8: ranges of values are taken from its train split, the accuracy is
            measured on its validation split.
        format: of data: something-v1, something-v2, kinetics, folder or list; default: recognised.
        calibration_clips: training clips that int8's ranges are taken from, of every class as many;
            default: 300.
        validation_clips: clips that int8's accuracy is measured on, of every class as many;
            default: all.
        num_segments: frames per clip; default: as in training.
        short_side: the shorter side in pixels before the crops; default: as in the model file.
        crop_size: side in pixels of the square the model sees; default: as in the model file.
        num_workers: decoding processes while the accuracy is measured; default: half as many as
            there are cores, at most 8.
        seed: of the choice of clips.
        force: keep an int8 model that loses more than half a point of top-1.
    """

    model: str
    output: str
    formats: str | None = None
    precision: str = "fp32"
    clips: str | None = None
    data: str | None = None
    format: str | None = None
    calibration_clips: int | None = None
    validation_clips: int | None = None
    num_segments: int | None = None
    short_side: int | None = None
    crop_size: int | None = None
    num_workers: int | None = None
    seed: int = 0
    force: bool = False


class ExportFailed(RuntimeError):
    """An exported model that is not what it should be; nothing was written."""


def export(options: ExportOptions) -> dict[str, Any]:
    """Write a model in other formats, each read again from disk and compared before it is kept.

    Returns, JSON-ready: ``output``, ``model``, ``precision``, ``clips`` (what was compared:
    ``source``, ``number`` and ``variants``, those that had to be made of them),
    ``formats`` (of each ``format``, ``files``, ``megabytes`` and the agreement), ``left_out``
    (reasons by format) and ``quantization`` (what :data:`REPORT` holds, or None).

    Raises:
        ValueError: bad options, or a model, clips or dataset that cannot be read.
        ExportFailed: logits that do not agree, or more than half a point of top-1 lost to int8.
    """
    _check(options)
    formats, left_out = _formats(options)
    model_file = load_model(options.model, num_segments=options.num_segments)
    spec = model_file.spec.with_options(short_side=options.short_side, crop_size=options.crop_size)
    model_file = replace(model_file, spec=spec)
    dataset = _Dataset.read(options, model_file) if options.data else None
    given, source = _clips(options, model_file, dataset)
    clips = at_least(given, sum(BATCHES))  # each of BATCHES once
    reference = in_batches(TorchEngine(model_file.model, spec, _CPU, "fp32"), clips)
    if not reference.isfinite().all():
        raise InputError(
            f"{options.model}: its logits are not finite: it has diverged in training; nothing can "
            f"be compared with it"
        )
    calibration = quantization = None
    if dataset:
        calibration = read_clips(dataset.calibration, spec, "calibration clips")
    work = _Work(model_file, options.precision, clips, reference, calibration)
    rows: list[dict[str, Any]] = []
    with atomic_folder(options.output) as folder:
        for name in formats:
            say(f"exporting to {name}")
            path = folder / FORMATS[name][0]
            header = make_header(model_file, options.precision, _provenance(model_file, name))
            agreements = _WRITE[name](work, path, header)
            worst = max(agreements, key=lambda agreement: agreement.difference)
            rows.append(_row(name, folder, worst, options.precision))
        if dataset:
            quantization = _quantization(options, model_file, folder, dataset)
            write_text(folder / REPORT, yaml.safe_dump(quantization, sort_keys=False))
    return {
        "output": options.output,
        "model": {"path": options.model, "name": model_file.model.name},
        "precision": options.precision,
        "clips": {
            "source": source,
            "number": len(given),
            "variants": len(clips) - len(given),
        },
        "formats": rows,
        "left_out": left_out,
        "quantization": quantization,
    }


def summary(result: Mapping[str, Any]) -> str:
    """The formats and how they agree, for people."""
    table = [("format", "file", "MB", "largest difference", "allowed", "same top-1")]
    table += [
        (
            row["format"],
            " + ".join(row["files"]),
            f"{row['megabytes']:.1f}",
            f"{row['relative_difference']:.2g}",
            f"{row['tolerance']:g}",
            f"{100 * row['top1_agreement']:.1f} %",
        )
        for row in result["formats"]
    ]
    lines = [aligned(table)]
    clips = result["clips"]
    lines.append(
        f"differences of logits in units of their spread, in {result['precision']}, on "
        f"{clips['number']} clips of {clips['source']}"
        + (f" and {clips['variants']} made of them" if clips["variants"] else "")
    )
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    if quantization := result["quantization"]:
        lines.append(_loss_line(quantization) + f": {Path(result['output'], REPORT)}")
    usable = [row for row in result["formats"] if row["format"] != "torch"]
    if usable:
        path = Path(result["output"], usable[-1]["files"][0])
        lines.append(f"use it with: gtdnet predict {path} VIDEO")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- before writing


def _check(options: ExportOptions) -> None:
    if options.precision not in PRECISIONS:
        raise InputError(
            f"unknown precision {options.precision!r}: choose one of {', '.join(PRECISIONS)}"
        )
    if is_exported(options.model):
        raise InputError(
            f"{options.model}: is exported already; give the model file (.safetensors) that it was "
            f"made from"
        )
    if options.precision == "int8" and not options.data:
        raise InputError(
            "--precision int8 needs --data, a dataset to take the ranges of values from and to "
            "measure the accuracy on"
        )
    if options.data and options.precision != "int8":
        raise InputError(
            f"--data is for --precision int8; leave it out for {options.precision}, or give clips "
            f"to compare on by --clips"
        )
    for name in ("calibration_clips", "validation_clips"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")
        if number is not None and options.precision != "int8":
            raise InputError(
                f"--{name} is for --precision int8; leave it out for {options.precision}"
            )
    check_loading(1, options.num_workers)
    check_free(Path(options.output))


def _formats(options: ExportOptions) -> tuple[list[str], dict[str, str]]:
    """The formats to write, and why others are not."""
    asked = None
    if options.formats is not None:
        asked = [name.strip() for name in options.formats.split(",")]
        for name in asked:
            if name not in FORMATS:
                raise InputError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    reasons = {name: _impossible(name, options.precision) for name in asked or FORMATS}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    if asked and left_out:
        name, reason = next(iter(left_out.items()))
        raise InputError(f"format {name}: {reason}")
    formats = [name for name in FORMATS if name in reasons and name not in left_out]
    if not formats:
        name, reason = next(iter(left_out.items()))
        raise InputError(f"no format can be written: {name}: {reason}")
    return formats, left_out


def _impossible(name: str, precision: str) -> str | None:
    """Why a format cannot be written here in this precision."""
    if precision == "int8" and name != "openvino":
        return "int8 is made for openvino alone"
    if precision == "bf16" and name == "onnx":
        return "ONNX Runtime has no convolutions in bf16 on CPUs"
    return missing(*_PACKAGES[name], *(["nncf"] if precision == "int8" else []))


@dataclass(frozen=True)
class _Dataset:
    """What int8 is made and measured with."""

    calibration: list[VideoRecord]
    validation: Annotations

    @classmethod
    def read(cls, options: ExportOptions, model_file: ModelFile) -> _Dataset:
        train = read_annotations(str(options.data), "train", options.format)
        validation = read_annotations(str(options.data), "validation", options.format)
        match_classes(model_file.spec.class_names, validation.class_names)
        if all(record.label is None for record in validation.records):
            raise InputError(
                f"the validation split of {options.data} has no labels to measure int8's accuracy "
                f"with; give a dataset that has them"
            )
        if options.validation_clips is not None:
            chosen = balanced(validation.records, options.validation_clips, options.seed)
            validation = replace(validation, records=tuple(chosen), missing=())
        count = options.calibration_clips or _CALIBRATION_CLIPS
        calibration = balanced(train.records, count, options.seed)
        return cls(calibration, validation)


def _clips(
    options: ExportOptions, model_file: ModelFile, dataset: _Dataset | None
) -> tuple[Tensor, str]:
    """The clips to compare on, uint8 [N, T*f, 3, H, W], and what they are."""
    if options.clips:
        videos = [VideoRecord(str(p), str(p), None) for p in find_videos([options.clips])]
        return read_clips(spaced(videos, _CHECKED), model_file.spec, "clips"), options.clips
    if dataset:
        records = spaced(dataset.validation.records, _CHECKED)
        source = f"the validation split of {options.data}"
        return read_clips(records, model_file.spec, "clips"), source
    return built_in_clips(model_file.spec), f"the built-in {EDITION} edition"


# ------------------------------------------------------------------------------ writing, comparing


@dataclass(frozen=True)
class _Work:
    """What is exported, and what it must agree with.

    Attributes:
        clips, reference: uint8 [N, T*f, 3, H, W] and the model's logits [N, K].
        calibration: clips to take int8's ranges from.
    """

    model_file: ModelFile
    precision: str
    clips: Tensor
    reference: Tensor
    calibration: Tensor | None

    def check(
        self,
        make: Callable[[], Callable[[Tensor], Tensor]],
        what: str,
        precision: str | None = None,
    ) -> Agreement:
        """How the logits of what ``make`` makes of an exported graph agree with the model's.

        Raises:
            ExportFailed: they do not, or there are none.
        """
        try:
            logits = in_batches(make(), self.clips)
        except Exception as error:  # of whichever runtime
            reason = first_line(error)
            raise ExportFailed(
                f"the exported {what} does not run on {' and '.join(map(str, BATCHES))} clips at a "
                f"time: {reason}; nothing was written"
            ) from error
        agreement = compare(self.reference, logits)
        if reason := agreement.disagrees(precision or self.precision):
            raise ExportFailed(
                f"the exported {what} is not the model: {reason}{self._sensitivity()}; nothing was "
                f"written"
            )
        return agreement

    def _sensitivity(self) -> str:
        """A remark where rounding alone changes the model's logits by much."""
        spec = self.model_file.spec
        network = copy.deepcopy(self.model_file.model).double()

        def exact(clips: Tensor) -> Tensor:
            return network(normalise(clips, spec, torch.float64))

        own = compare(in_batches(exact, self.clips), self.reference).relative
        if own < TOLERANCES["fp32"] / 10:
            return ""
        return (
            f" (PyTorch's own are off by {own:.2g} from those in double precision: this model is "
            f"that sensitive to rounding, as one that has not been trained can be)"
        )


def _write_onnx(work: _Work, path: Path, header: str) -> list[Agreement]:
    from gtdnet.engines.onnx import OnnxEngine, to_onnx

    path.write_bytes(to_onnx(work.model_file.model, work.model_file.spec, header))
    file, threads = _written(path), torch.get_num_threads()
    return [work.check(lambda: OnnxEngine.open(file, _CPU, threads), path.name)]


def _write_openvino(work: _Work, path: Path, header: str) -> list[Agreement]:
    from gtdnet.engines.openvino import (
        OpenVinoEngine,
        quantise,
        save_openvino,
        to_openvino,
    )

    threads = torch.get_num_threads()
    graph = to_openvino(work.model_file.model, work.model_file.spec)
    if work.precision != "fp32":  # finds what rounding would hide

        def exact() -> OpenVinoEngine:
            return OpenVinoEngine(graph.clone(), "fp32", threads, batched=True)

        work.check(exact, f"{path.name}, in fp32,", "fp32")
    kept = graph if work.calibration is None else quantise(graph, work.calibration)
    save_openvino(kept, path, header)
    file = _written(path)
    opened = partial(OpenVinoEngine.open, file, work.precision, threads)
    # One clip at a time, as gtdnet runs it, and several, as others may.
    return [
        work.check(opened, path.name),
        work.check(partial(opened, batched=True), path.name),
    ]


def _write_torch(work: _Work, path: Path, header: str) -> list[Agreement]:
    from gtdnet.engines.graph import to_program

    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    spec = work.model_file.spec
    network = FromFrames(deployable(work.model_file.model, "torch"), spec, dtype)
    program = to_program(network.eval(), spec)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path, extra_files={METADATA_KEY: header})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        read = torch.export.load(path)
    return [work.check(read.module, path.name)]


_WRITE: Mapping[str, Callable[[_Work, Path, str], list[Agreement]]] = MappingProxyType(
    {"onnx": _write_onnx, "openvino": _write_openvino, "torch": _write_torch}
)
"""Write a format, read it again, and say how it agrees in each way that it is run."""


def _written(path: Path) -> ExportedFile:
    file = open_model(path)
    if isinstance(file, ModelFile):
        raise TypeError(f"{path} is no exported file")
    return file


def _row(name: str, folder: Path, agreement: Agreement, precision: str) -> dict[str, Any]:
    files = FORMATS[name]
    return {
        "format": name,
        "files": list(files),
        "megabytes": sum((folder / file).stat().st_size for file in files) / 1e6,
        "largest_difference": agreement.difference,
        "spread": agreement.spread,
        "relative_difference": agreement.relative,
        "tolerance": TOLERANCES[precision],
        "top1_agreement": agreement.top1,
    }


def _quantization(
    options: ExportOptions, model_file: ModelFile, folder: Path, dataset: _Dataset
) -> dict[str, Any]:
    """What int8 costs in accuracy, how it was made and measured.

    Raises:
        ExportFailed: more than half a point of top-1 is lost, unless that is forced.
    """
    say("measuring the accuracy")
    quantised = _written(folder / FORMATS["openvino"][0])
    loss = measure_loss(model_file, quantised, dataset.validation, options.num_workers)
    too_much = loses_too_much(loss)
    if too_much and not options.force:
        raise ExportFailed(
            f"{_loss_line(loss)}, more than the {100 * MOST_LOST:g} points that are allowed; "
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
        "machine": describe_machine(_CPU),
        "versions": versions(("openvino", "nncf")),
        "command": command("gtdnet export", options),
    }


def _loss_line(loss: Mapping[str, Any]) -> str:
    low, high = (100 * bound for bound in loss["top1_lost_interval"])
    return (
        f"int8 takes top-1 from {100 * loss['top1_before']:.2f} % to "
        f"{100 * loss['top1_after']:.2f} %, {100 * loss['top1_lost']:.2f} points less "
        f"[{low:.2f}, {high:.2f}; 95 % confidence] on {loss['clips']} clips"
    )


def _provenance(model_file: ModelFile, name: str) -> dict[str, Any]:
    return {
        "exported": now(),
        "exported_from": Path(model_file.path).name,
        "exported_sha256": sha256(Path(model_file.path)),
        "exported_with": versions(_PACKAGES[name]),
    }
