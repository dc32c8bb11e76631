"""The portable model file, out and in.

``*.safetensors``: the tensors, and under the metadata key "gtdnet" one JSON object with
format_version, model (name, num_classes, num_segments, options), spec (ClipSpec), fingerprint (of
the class order), provenance and metrics. Reading one never unpickles anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gtdnet.data.calibration import Calibration
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path
from gtdnet.models.build import create_model, model_options, parts_of
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn.frames import check_num_segments
from gtdnet.text import first_line
from gtdnet.weights.fit import load_all, resize_segments
from gtdnet.weights.hub import find_file, no_model_file
from gtdnet.weights.read import read_safetensors

# Stays when a field comes that only some files need: older versions refuse just those files.
FORMAT_VERSION = 1
METADATA_KEY = "gtdnet"
MODEL_NAME = "model.safetensors"
"""Of the best model in a run folder."""

# What anything but the expected numbers, texts and lists in a header leads to: it may come from a
# stranger, and its values go deep into constructors.
HEADER_ERRORS = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass
class ModelFile:
    """A model as a model file holds it.

    Attributes:
        model: in eval mode, on the CPU.
        spec: how its input is made and what its classes are called.
        provenance: where it comes from (version, command, data, date), JSON-ready.
        metrics: what was measured when it was written, JSON-ready.
        path: where it was read.
    """

    model: VideoClassifier
    spec: ClipSpec
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    path: str = ""


def save_model(
    path: str | Path,
    model: VideoClassifier,
    spec: ClipSpec,
    *,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the portable model file, atomically.

    Args:
        state_dict: weights to write in place of the model's own (an average of them, say).

    Raises:
        ValueError: the model is not one of create_model's, the path does not end in
            ``.safetensors``, or model and spec disagree.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"a model file must end in .safetensors, got {path}")
    if not model.name:
        raise InputError(
            "only models made by create_model can be written as a model file; "
            "save a network of your own with torch.save(model.state_dict(), ...)"
        )
    if (model.num_segments, model.num_classes) != (spec.num_segments, spec.num_classes):
        raise InputError(
            f"model and spec disagree: the model has {model.num_segments} frames and "
            f"{model.num_classes} classes, the spec {spec.num_segments} and {spec.num_classes}"
        )
    if model.frames_per_segment != spec.frames_per_segment:
        raise InputError(
            f"model and spec disagree: the model takes {model.frames_per_segment} frames per "
            f"segment, the spec {spec.frames_per_segment}; give the spec "
            f"frames_per_segment={model.frames_per_segment}"
        )
    header = {
        "format_version": FORMAT_VERSION,
        "model": {
            "name": model.name,
            "num_classes": model.num_classes,
            "num_segments": model.num_segments,
            "options": model.options,
            **({"packages": packages} if (packages := _packages(model.name)) else {}),
        },
        "spec": spec.to_dict(),
        "fingerprint": spec.fingerprint,
        "provenance": dict(provenance or {}),
        "metrics": dict(metrics or {}),
    }
    weights = model.state_dict() if state_dict is None else state_dict
    tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(header, ensure_ascii=False)})
    return path


def save_calibrated(
    source: str | Path,
    path: str | Path,
    calibration: Calibration,
    measured: Mapping[str, Any],
) -> Path:
    """Write a model file anew, atomically, with what was learned of its probabilities.

    Nothing else changes: the weights are the same bits, of whatever type they are stored in.

    Args:
        source: the model file; it may be ``path`` itself.
        measured: goes into its metrics as "calibration", JSON-ready.

    Raises:
        ValueError: ``source`` is no model file, or ``path`` does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"a model file must end in .safetensors, got {path}")
    header, tensors = _read_model_file(Path(source))
    spec = replace(ClipSpec.from_dict(header["spec"]), calibration=calibration)
    header["spec"] = spec.to_dict()
    header["metrics"] = {**header.get("metrics", {}), "calibration": dict(measured)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(header, ensure_ascii=False)})
    return path


class Facts(NamedTuple):
    """What a model file says of itself before its weights are read: name, spec, and metrics."""

    name: str
    spec: ClipSpec
    metrics: dict[str, Any]


def read_facts(path: str | Path) -> Facts:
    """Without its weights, and without a network to put them into.

    Raises:
        ValueError: it is no model file, or cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[METADATA_KEY])
            spec = ClipSpec.from_dict(header["spec"])
            return Facts(str(header["model"]["name"]), spec, dict(header.get("metrics", {})))
    except (OSError, SafetensorError, *HEADER_ERRORS) as error:
        raise InputError(f"{path}: its header cannot be read ({first_line(error)})") from error


def read_metrics(path: str | Path) -> dict[str, Any]:
    """What was measured when a model file was written (:func:`read_facts`)."""
    return read_facts(path).metrics


def load_model(path: str | Path, *, num_segments: int | None = None) -> ModelFile:
    """Read a portable model file.

    Args:
        path: the file, a run folder, or ``hf://user/name[@revision][/file]`` for one on the hub.
        num_segments: run the model at another number of frames than it was trained with: weights
            over the time axis are fitted to it (:func:`resize_segments`).

    Raises:
        ValueError: no such file, not a model file, or one this version cannot read.
    """
    path = find_file(path)
    path = path / MODEL_NAME if path.is_dir() else path
    header, tensors = _read_model_file(path)
    try:
        arguments, options = header["model"], {**header["model"]["options"]}
        name = arguments["name"]
        if not isinstance(name, str):
            raise TypeError(f"name is {name!r}")
        spec = ClipSpec.from_dict(header["spec"])
        trained = arguments["num_segments"]
        wanted = trained if num_segments is None else num_segments
        check_num_segments(wanted)
        _check_counts(arguments, spec)
        provenance, metrics = dict(header.get("provenance", {})), dict(header.get("metrics", {}))
        unknown = sorted(set(options) - set(model_options(name)))
        if unknown:  # among them "pretrained", which would read another file
            raise InputError(f"the model file's header has the unknown option {unknown[0]!r}")
        method, options = parts_of(name).method, {**model_options(name), **options}
        _check_size(name, arguments, options, tensors)
        options = dict(method.at_time(options, trained, wanted))
        model = create_model(name, arguments["num_classes"], wanted, **options)
        if model.frames_per_segment != spec.frames_per_segment:
            raise InputError(
                f"{model.name} takes {model.frames_per_segment} frames per segment, but the model "
                f"file's spec says {spec.frames_per_segment}; the file was changed by hand"
            )
    except InputError as error:
        raise InputError(f"{path}: {' '.join(str(error).splitlines())}") from error
    except HEADER_ERRORS as error:
        raise InputError(
            f"{path}: the model file's header is incomplete or makes no sense "
            f"({first_line(error)}); the file was changed by hand"
        ) from error
    if header.get("fingerprint") != spec.fingerprint:
        raise InputError(
            f"{path}: the class names do not match their fingerprint; the file was changed by hand"
        )
    if wanted != trained:
        tensors = resize_segments(tensors, model)
        spec = spec.with_options(num_segments=wanted)
    try:
        load_all(model, tensors, str(path))
    except InputError as error:
        raise InputError(f"{error}{_other_versions(name, arguments.get('packages'))}") from error
    model.eval()
    return ModelFile(model, spec, provenance, metrics, str(path))


def _packages(name: str) -> dict[str, str]:
    """Versions of the other packages whose code a named model is."""
    return dict(parts_of(name).backbone.network.packages)


def _other_versions(name: str, made: Any) -> str:
    """What a message adds where a file was made with other versions of them; "" where not."""
    made = made if isinstance(made, dict) else {}
    pairs = [(package, made.get(package), now) for package, now in _packages(name).items()]
    return "".join(
        f"; it was made with {package} {then}, here is {now}: pip install {package}=={then}"
        for package, then, now in pairs
        if isinstance(then, str) and then != now
    )


def _check_counts(arguments: Mapping[str, Any], spec: ClipSpec) -> None:
    """What model and spec both say must be the same; InputError if it is not."""
    for key, what in (("num_classes", "class names"), ("num_segments", "frames per clip")):
        if arguments[key] != getattr(spec, key):
            raise InputError(
                f"the model's {key} is {arguments[key]!r}, but the model file's spec has "
                f"{getattr(spec, key)} {what}; the file was changed by hand"
            )


def _check_size(
    name: str,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """InputError for a network of another size than the weights, before it takes any memory.

    Networks without an unusual number among their options are not large; the others are made of
    shapes alone, which takes a third of a second.
    """
    numbers = [v for k, v in options.items() if isinstance(v, (int, float)) and k != "width"]
    width, num_segments = options.get("width", 1), arguments["num_segments"]
    if all(abs(v) <= 16 for v in numbers) and 0 < width <= 2 and num_segments <= 256:
        return
    with torch.device("meta"):
        model = create_model(name, arguments["num_classes"], num_segments, **options)
    wanted, there = (
        sum(t.numel() for t in state.values()) for state in (model.state_dict(), tensors)
    )
    if wanted > 2 * there:
        raise InputError(
            f"the header describes a network of {wanted} numbers, but the file holds {there}; the "
            f"file was changed by hand"
        )


def _read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.exists():
        if path.name == MODEL_NAME and (path.parent / "last.ckpt").is_file():
            raise InputError(
                f"{path.parent}: the run has not ended, so it holds no {MODEL_NAME} yet; end it "
                f"with gtdnet train --resume {path.parent}"
            )
        if path.name == MODEL_NAME and path.parent.is_dir():
            raise InputError(
                f"{path.parent}: the folder holds no {MODEL_NAME}; give a run folder that does, or "
                f"a model file"
            )
        raise no_model_file(path)
    metadata, tensors = read_safetensors(path)
    if METADATA_KEY not in metadata:
        raise InputError(
            f"{path}: holds weights but not gtdnet's header (classes, sampling), so it is not a "
            f"model file; use it as a start with --pretrained"
        )
    try:
        header = json.loads(metadata[METADATA_KEY])
        version = header["format_version"]
    except HEADER_ERRORS as error:
        raise InputError(
            f"{path}: the model file's header cannot be read ({first_line(error)})"
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: has model file format {version!r}, this version of gtdnet reads "
            f"{FORMAT_VERSION}; update gtdnet"
        )
    return header, tensors
