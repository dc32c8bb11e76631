"""Exported files: a graph in another runtime's format with gtdnet's header inside.

The header is that of a model file (:mod:`gtdnet.models.model_file`), as JSON, with the precision
the graph was made for. So an exported file says by itself what its input is and what it answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gtdnet.data.spec import ClipSpec
from gtdnet.device import PRECISIONS, Precision
from gtdnet.errors import InputError
from gtdnet.models.model_file import (
    FORMAT_VERSION,
    HEADER_ERRORS,
    METADATA_KEY,
    ModelFile,
)
from gtdnet.text import first_line

T = TypeVar("T")


@dataclass(frozen=True)
class ExportedModel:
    """The network in an exported file, by the name and options that made it."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class ExportedFile:
    """A file that :func:`gtdnet.export.export` wrote, ready to be run by its engine.

    Attributes:
        path: the file.
        engine: the name of the engine that runs it.
        precision: that the graph was made for and checked in.
        model, spec, provenance, metrics: as of a :class:`ModelFile`.
        stream: it holds the step of a stream, not a network for clips.
    """

    path: str
    engine: str
    precision: Precision
    model: ExportedModel
    spec: ClipSpec
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    stream: bool = False


def make_header(
    model_file: ModelFile, precision: str, provenance: Mapping[str, Any], *, stream: bool = False
) -> str:
    """The header of an exported file; ``provenance`` is added to the model file's own."""
    model, spec = model_file.model, model_file.spec
    header = {
        "format_version": FORMAT_VERSION,
        "model": {"name": model.name, "options": model.options},
        "spec": spec.to_dict(),
        "fingerprint": spec.fingerprint,
        "precision": precision,
        "provenance": {**model_file.provenance, **provenance},
        "metrics": model_file.metrics,
        **({"stream": True} if stream else {}),
    }
    return json.dumps(header)  # in ASCII: what stores it need not care for anything else


def parse_header(path: Path, engine: str, text: str | None) -> ExportedFile:
    """What the header in an engine's file says; ``text`` is None where there is none.

    Raises:
        ValueError: no header, or one that this version cannot read or that contradicts itself.
    """
    if text is None:
        raise InputError(
            f"{path}: holds no gtdnet header (classes, sampling), so another program wrote it; "
            f"give a file of gtdnet export"
        )
    try:
        header = json.loads(text)
        if header["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"has format {header['format_version']!r}, this version of gtdnet reads "
                f"{FORMAT_VERSION}; update gtdnet"
            )
        spec = ClipSpec.from_dict(header["spec"])
        model = ExportedModel(str(header["model"]["name"]), dict(header["model"]["options"]))
        if header["precision"] not in PRECISIONS or header["fingerprint"] != spec.fingerprint:
            raise InputError("the header contradicts itself; the file was changed by hand")
        provenance, metrics = dict(header["provenance"]), dict(header["metrics"])
    except InputError as error:
        raise InputError(f"{path}: {' '.join(str(error).splitlines())}") from error
    except HEADER_ERRORS as error:
        raise InputError(
            f"{path}: the {METADATA_KEY} header cannot be read ({first_line(error)})"
        ) from error
    return ExportedFile(
        str(path),
        engine,
        header["precision"],
        model,
        spec,
        provenance,
        metrics,
        stream=header.get("stream") is True,
    )


def one_port(path: str, kind: str, ports: Sequence[T]) -> T:
    """The only input or output of a graph; InputError if it has none, or several."""
    if len(ports) != 1:
        raise InputError(
            f"{path}: its graph has {len(ports)} {kind}s, where those for clips have one; give a "
            f"file of gtdnet export without --stream"
        )
    return ports[0]


def check_logits(path: str, spec: ClipSpec, num_clips: int, logits: Any) -> None:
    """InputError unless what a graph gave are float32 logits [N, K], as its shapes need not say."""
    shape, kind = list(getattr(logits, "shape", ())), str(getattr(logits, "dtype", type(logits)))
    if shape != [num_clips, spec.num_classes] or kind != "float32":
        raise InputError(
            f"{path}: its graph gave {kind} {shape} for {num_clips} clips of {spec.num_classes} "
            f"classes, which are no logits; give a file of gtdnet export"
        )


def check_types(path: str, clips: str, logits: str, wanted: tuple[str, str]) -> None:
    """Raise InputError unless a graph's input and output are of these types."""
    if (clips, logits) != wanted:
        raise InputError(
            f"{path}: its graph maps {clips} to {logits}, where gtdnet's map {wanted[0]} to "
            f"{wanted[1]}; give a file of gtdnet export"
        )


def check_graph(path: str, spec: ClipSpec, clips: list[Any], logits: list[Any]) -> None:
    """Raise InputError unless a graph's input and output (shapes, None: any) are the spec's."""
    size = spec.crop_size
    if clips != [None, spec.frames_per_clip, 3, size, size] or logits != [None, spec.num_classes]:
        raise InputError(
            f"{path}: its graph maps clips {clips} to logits {logits}, which is not what its spec "
            f"says ({spec.describe()}, {spec.num_classes} classes); export the model for it with "
            f"--num_segments and --crop_size"
        )
