"""Exported models: ONNX and OpenVINO files with gtdnet's header inside.

The header is that of a model file (:mod:`gtdnet.models.model_file`), as JSON, with the precision
the graph was made for; it lies in ONNX's metadata_props and OpenVINO's rt_info under "gtdnet". So
an exported file says by itself what its input is and what it answers. Files come from anywhere:
reading one unpickles nothing and opens no other file than an OpenVINO model's own ``.bin``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import sha256
from gtdnet.models.model_file import FORMAT_VERSION, METADATA_KEY, ModelFile, load_model
from gtdnet.weights.hub import find_file

ENGINE_OF: Mapping[str, str] = MappingProxyType({".onnx": "onnx", ".xml": "openvino"})
"""The engine that runs a file, by its suffix."""

PRECISIONS = ("fp32", "bf16", "int8")


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
        engine: "onnx" or "openvino".
        precision: that the graph was made for and checked in.
        model, spec, provenance, metrics: as of a :class:`ModelFile`.
    """

    path: str
    engine: str
    precision: str
    model: ExportedModel
    spec: ClipSpec
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


def make_header(model_file: ModelFile, precision: str, provenance: Mapping[str, Any]) -> str:
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
    }
    return json.dumps(header)  # in ASCII: what stores it need not care for anything else


def is_exported(path: str | Path) -> bool:
    """Whether it is the name of an exported file."""
    return Path(path).suffix.lower() in ENGINE_OF


def open_model(path: str | Path, *, num_segments: int | None = None) -> ModelFile | ExportedFile:
    """Read a model file (``*.safetensors``), or an exported one (``*.onnx``, ``*.xml``).

    Args:
        path: the file, or hf://user/name[@revision][/file].
        num_segments: frames per clip; an exported model has the number it was exported with.

    Raises:
        ValueError: no such file, not one of gtdnet's, or a package that reads it is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".bin", ".pt2"):
        why = (
            "it holds only weights; give the .xml file beside it"
            if suffix == ".bin"
            else "gtdnet does not read torch.export programs, which can carry pickled code; give "
            "the .onnx or .xml file, or the model file it was made from"
        )
        raise InputError(f"{path}: {why}")
    if suffix not in ENGINE_OF:
        return load_model(path, num_segments=num_segments)
    found = find_file(path)
    if not found.is_file():
        raise InputError(f"{path}: no such file; gtdnet export makes one of a model file")
    if suffix == ".onnx":
        from gtdnet.engines.onnx import read_header
    else:
        from gtdnet.engines.openvino import read_header

        find_file(f"{str(path)[: -len(suffix)]}.bin")  # the hub gives one file at a time
    exported = _parse(found, ENGINE_OF[suffix], read_header(found))
    if num_segments not in (None, exported.spec.num_segments):
        raise InputError(
            f"{path}: was exported for num_segments={exported.spec.num_segments}; export the model "
            f"again with --num_segments {num_segments}"
        )
    return exported


def digest(path: str | Path) -> str:
    """SHA-256 of a model file or exported file: of an .xml, which holds that of its ``.bin``."""
    return sha256(Path(path))


def check_graph(path: str, spec: ClipSpec, clips: list[Any], logits: list[Any]) -> None:
    """Raise InputError unless a graph's input and output (shapes, None: any) are the spec's."""
    size = spec.crop_size
    if clips != [None, spec.frames_per_clip, 3, size, size] or logits != [None, spec.num_classes]:
        raise InputError(
            f"{path}: its graph maps clips {clips} to logits {logits}, which is not what its spec "
            f"says ({spec.describe()}, {spec.num_classes} classes); export the model for it with "
            f"--num_segments and --crop_size"
        )


def _parse(path: Path, engine: str, text: str | None) -> ExportedFile:
    if text is None:
        raise InputError(
            f"{path}: holds no gtdnet header (classes, sampling), so another program wrote it; "
            f"give a file of gtdnet export"
        )
    try:
        header = json.loads(text)
        if header["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"has format {header['format_version']}, this version of gtdnet reads "
                f"{FORMAT_VERSION}; update gtdnet"
            )
        spec = ClipSpec.from_dict(header["spec"])
        model = ExportedModel(str(header["model"]["name"]), dict(header["model"]["options"]))
        if header["precision"] not in PRECISIONS or header["fingerprint"] != spec.fingerprint:
            raise InputError("the header contradicts itself; the file was changed by hand")
        provenance, metrics = dict(header["provenance"]), dict(header["metrics"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the {METADATA_KEY} header cannot be read ({error})") from error
    return ExportedFile(str(path), engine, header["precision"], model, spec, provenance, metrics)
