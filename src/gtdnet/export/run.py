"""``gtdnet export``: one folder with a model in the formats of other runtimes, or no folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from gtdnet import moved
from gtdnet.device import Precision
from gtdnet.engines import ENGINES, Source
from gtdnet.engines.header import make_header
from gtdnet.errors import InputError
from gtdnet.export.agreement import BATCHES, TOLERANCES, Agreement, ExportFailed, Reference
from gtdnet.export.clips import at_least, clips_to_compare, read_clips
from gtdnet.export.options import ExportOptions, check_options, choose_formats
from gtdnet.export.quantisation import Dataset, describe_loss, report_loss
from gtdnet.export.stream import write_stream
from gtdnet.files import atomic_folder, sha256, write_text
from gtdnet.measure.provenance import now, versions
from gtdnet.models.model_file import ModelFile, load_model
from gtdnet.models.stream import check_streams
from gtdnet.text import aligned, say
from gtdnet.threads import say_threads

__all__ = ["ExportFailed", "ExportOptions", "export", "summary"]

REPORT = "quantization.yaml"
"""What is known about an int8 model's accuracy."""


def export(options: ExportOptions) -> dict[str, Any]:
    """Write a model in other formats, each read again from disk and compared before it is kept.

    Returns, JSON-ready: ``output``, ``model``, ``precision``, ``stream`` (whether it is the step of
    a stream), ``clips`` (what was compared: ``source``, ``number`` and ``variants``, those that had
    to be made of them),
    ``formats`` (of each ``format``, ``files``, ``megabytes`` and the agreement), ``left_out``
    (reasons by format) and ``quantization`` (what :data:`REPORT` holds, or None).

    Raises:
        ValueError: bad options, or a model, clips or dataset that cannot be read.
        ExportFailed: logits that do not agree, or more than half a point of top-1 lost to int8.
    """
    precision = check_options(options)
    formats, left_out = choose_formats(options.formats, precision)
    model_file = load_model(options.model, num_segments=options.num_segments)
    spec = model_file.spec.with_options(short_side=options.short_side, crop_size=options.crop_size)
    model_file = replace(model_file, spec=spec)
    dataset = Dataset.read(options, spec) if options.data else None
    validation = dataset.validation if dataset else None
    if options.stream:
        check_streams(model_file.model)
    given, what = clips_to_compare(options.clips, validation, options.data, spec)
    clips = at_least(given, sum(BATCHES))  # each of BATCHES once
    reference = Reference.of(model_file, clips)
    if not reference.logits.isfinite().all():
        raise InputError(
            f"{options.model}: its logits are not finite: it has diverged in training; nothing can "
            f"be compared with it"
        )
    calibration = None
    if dataset:
        calibration = read_clips(dataset.calibration, spec, "calibration clips")
    source = Source(model_file.model, spec, calibration)
    quantization = None
    say_threads()
    with atomic_folder(options.output) as folder:
        if options.stream:
            rows = [_write_stream(name, folder, reference, calibration) for name in formats]
        else:
            rows = [_write(name, folder, source, reference, precision) for name in formats]
        if dataset:
            files = [ENGINES[row["format"]].read(folder / row["files"][0]) for row in rows]
            losses = [report_loss(options, model_file, file, dataset) for file in files]
            quantization = max(losses, key=lambda loss: loss["top1_lost"])
            write_text(folder / REPORT, yaml.safe_dump(quantization, sort_keys=False))
    return {
        "output": options.output,
        "model": {"path": options.model, "name": model_file.model.name},
        "precision": precision,
        "stream": options.stream,
        "clips": {"source": what, "number": len(given), "variants": len(clips) - len(given)},
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
        lines.append(f"{describe_loss(quantization)}: {Path(result['output'], REPORT)}")
    usable = [row for row in result["formats"] if ENGINES[row["format"]].opens_files()]
    if result["stream"]:
        lines.append(f"use it frame by frame: gtdnet.open_live({result['output']!r})")
    elif usable:
        path = Path(result["output"], usable[-1]["files"][0])
        lines.append(f"use it with: gtdnet predict {path} VIDEO")
    return "\n".join(lines)


def _write(
    name: str, folder: Path, source: Source, reference: Reference, precision: Precision
) -> dict[str, Any]:
    """Write one format and check it in each way that it is run; JSON-ready."""
    say(f"exporting to {name}")
    kind = ENGINES[name]
    files = [folder / f"model{suffix}" for suffix in kind.suffixes]
    header = make_header(
        reference.model_file, precision, _provenance(reference.model_file, kind.packages)
    )
    checks = kind.save(source, files[0], precision, header)
    found = [(check.precision, reference.check(check, files[0].name)) for check in checks]
    worst = max((a for of, a in found if of == precision), key=lambda a: a.difference)
    return _row(name, files, worst, precision)


def _write_stream(
    name: str, folder: Path, reference: Reference, calibration: Tensor | None
) -> dict[str, Any]:
    """Write the step of one format and check it; JSON-ready. Calibration clips make it int8."""
    say(f"exporting the step of a stream to {name}")
    kind, model_file = ENGINES[name], reference.model_file
    precision: Precision = "fp32" if calibration is None else "int8"
    files = [folder / f"stream{suffix}" for suffix in kind.suffixes]
    header = make_header(model_file, precision, _provenance(model_file, kind.packages), stream=True)
    found = write_stream(name, files[0], reference, header, calibration)
    return _row(name, files, found, precision)


def _row(
    name: str, files: Sequence[Path], worst: Agreement, precision: Precision
) -> dict[str, Any]:
    return {
        "format": name,
        "files": [file.name for file in files],
        "megabytes": sum(file.stat().st_size for file in files) / 1e6,
        "largest_difference": worst.difference,
        "spread": worst.spread,
        "relative_difference": worst.relative(precision),
        "tolerance": TOLERANCES[precision],
        "top1_agreement": worst.top1,
    }


def _provenance(model_file: ModelFile, packages: tuple[str, ...]) -> dict[str, Any]:
    return {
        "exported": now(),
        "exported_from": Path(model_file.path).name,
        "exported_sha256": sha256(Path(model_file.path)),
        "exported_with": versions(packages),
    }


__getattr__ = moved.names(__name__)
