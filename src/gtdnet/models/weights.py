"""Weights in and out: the portable model file, and 2D backbones to start from.

A model file is ``*.safetensors``: the tensors, and under the metadata key "gtdnet" one JSON object
with format_version, model (name, num_classes, num_segments, options), spec (ClipSpec), fingerprint
(of the class order), provenance and metrics. Reading one never unpickles anything.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn.shift import check_num_segments

FORMAT_VERSION = 1
METADATA_KEY = "gtdnet"


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
        ValueError: the model is not one of the zoo's, the path does not end in ``.safetensors``, or
            model and spec disagree.
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
    header = {
        "format_version": FORMAT_VERSION,
        "model": {
            "name": model.name,
            "num_classes": model.num_classes,
            "num_segments": model.num_segments,
            "options": model.options,
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


def load_model(path: str | Path, *, num_segments: int | None = None) -> ModelFile:
    """Read a portable model file.

    Args:
        num_segments: run the model at another number of frames than it was trained with: weights
            over the time axis are fitted to it (:func:`resize_segments`).

    Raises:
        ValueError: no such file, not a model file, or one this version cannot read.
    """
    from gtdnet.models.zoo import create_model, model_options  # which reads weights itself

    path = Path(path)
    header, tensors = _read_model_file(path)
    try:
        arguments, options = header["model"], {**header["model"]["options"]}
        spec = ClipSpec.from_dict(header["spec"])
        trained = arguments["num_segments"]
        wanted = trained if num_segments is None else num_segments
        check_num_segments(wanted)
        unknown = sorted(set(options) - set(model_options(arguments["name"])))
        if unknown:  # among them "pretrained", which would read another file
            raise InputError(f"the model file's header has the unknown option {unknown[0]!r}")
        if options.get("aggregation") == "mta":  # keeps at least the hidden units it has learned
            options["alpha"] = math.ceil(options["alpha"] * trained / wanted)
        model = create_model(arguments["name"], arguments["num_classes"], wanted, **options)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the model file's header is incomplete ({error})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if header.get("fingerprint") != spec.fingerprint:
        raise InputError(
            f"{path}: the class names do not match their fingerprint; the file was changed by hand"
        )
    if wanted != trained:
        tensors = resize_segments(tensors, model)
        spec = spec.with_options(num_segments=wanted)
    _load_all(model, tensors, str(path))
    model.eval()
    return ModelFile(
        model, spec, header.get("provenance", {}), header.get("metrics", {}), str(path)
    )


def is_model_file(path: Path) -> bool:
    """Whether the file is a safetensors file with this package's header."""
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def resize_segments(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Fit weights over the time axis to the number of frames that ``model`` has.

    "mta" learns T frames -> hidden units -> 1. Its weights over the frames are interpolated
    linearly, as is done with position embeddings; each old frame's weight is shared out among the
    new frames near it, so that the sum over a constant clip stays as it was. The hidden units have
    no order to interpolate along: they are repeated evenly, and the copies of a unit share its
    weight in the sum that follows. With at least as many hidden units as before, the answer to a
    constant clip is unchanged.
    """
    resized = dict(tensors)
    for key, new in model.state_dict().items():
        old = tensors.get(key)
        if old is None or old.shape == new.shape:
            continue
        if key.endswith(".spread.weight"):  # [hidden, T]
            hidden, t = new.shape
            t_old = old.shape[1]
            shares = F.interpolate(
                torch.eye(t_old)[None, None], (t_old, t), mode="bilinear", antialias=True
            )[0, 0]
            shares = shares / shares.sum(1, keepdim=True)  # [old T, T], every row sums to 1
            resized[key] = (old.float() @ shares)[_copied_units(len(old), hidden)].to(old.dtype)
        elif key.endswith(".spread.bias"):  # [hidden]
            resized[key] = old[_copied_units(len(old), len(new))]
        elif key.endswith(".collect.weight"):  # [1, hidden]
            units = _copied_units(old.shape[1], new.shape[1])
            resized[key] = old[:, units] / torch.bincount(units)[units].to(old.dtype)
    return resized


def _copied_units(old: int, new: int) -> Tensor:
    """For each of ``new`` hidden units, the one of ``old`` it copies, spread evenly."""
    return torch.arange(new) * old // new


@dataclass(frozen=True)
class BackboneWeights:
    """Weights for a backbone: of the plain 2D network, and of temporal modules, if there are any.

    Attributes:
        plain, temporal: by the backbone's own keys.
        label: what messages call them.
    """

    plain: Mapping[str, Tensor]
    temporal: Mapping[str, Tensor]
    label: str

    @classmethod
    def read(cls, source: str | Path | Mapping[str, Tensor]) -> BackboneWeights:
        """From a state dict, a ``.safetensors`` file or a ``.pth``/``.pt``/``.tar`` file.

        Plain or under "state_dict" or "model" (so that a run's last.ckpt will do); with or without
        the prefixes "module.", "model.", "backbone." and "base_model."; classifier weights (fc.*,
        classifier.*, head.*) are left out.

        Raises:
            ValueError: no such file, or no weights in it.
        """
        is_file = isinstance(source, (str, Path))
        tensors = read_tensors(source) if is_file else dict(source)
        for prefix in ("module.", "model.", "backbone.", "base_model."):
            if any(k.startswith(prefix) for k in tensors):
                tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
        kept = {
            k: v for k, v in tensors.items() if not k.startswith(("fc.", "classifier.", "head."))
        }
        return cls(
            {k: v for k, v in kept.items() if ".temporal." not in k},
            {k: v for k, v in kept.items() if ".temporal." in k},
            str(source) if is_file else "the state dict",
        )

    def load_plain(self, backbone: nn.Module) -> None:
        """Load the 2D weights into a backbone without temporal modules.

        Raises:
            ValueError: not its weights; the first missing, unexpected and ill-shaped keys are told.
        """
        _load_all(backbone, self.plain, self.label)

    def load_temporal(self, backbone: nn.Module) -> None:
        """Load the temporal modules' weights; a network whose modules have none stays as it is.

        Raises:
            ValueError: the network's modules are others.
        """
        learned = any(".temporal." in key for key in backbone.state_dict())
        if self.temporal and learned:
            tensors = {**backbone.state_dict(), **self.plain, **self.temporal}
            _load_all(backbone, resize_segments(tensors, backbone), self.label)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or PyTorch file; pickled code is never run.

    Raises:
        ValueError: no such file, or a file that holds anything but tensors and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)[1]
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: holds Python objects besides tensors, which are not loaded because that runs "
            f"code; save its state dict alone with torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # torch.load raises many kinds for files that are no checkpoints
        raise InputError(f"{path}: not a PyTorch checkpoint ({_first_line(error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict")
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    return tensors


def _read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.exists():
        raise InputError(f"{path}: no such model file; train one with gtdnet train, or gtdnet demo")
    if path.is_dir():
        inner = path / "model.safetensors"
        hint = f"; did you mean {inner}?" if inner.is_file() else ""
        raise InputError(f"{path}: is a folder, not a model file (*.safetensors){hint}")
    metadata, tensors = _read_safetensors(path)
    if METADATA_KEY not in metadata:
        raise InputError(
            f"{path}: holds weights but not gtdnet's header (classes, sampling), so it is not a "
            f"model file; use it as a start with --pretrained"
        )
    try:
        header = json.loads(metadata[METADATA_KEY])
        version = header["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: the model file's header cannot be read ({error})") from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: has model file format {version}, this version of gtdnet reads "
            f"{FORMAT_VERSION}; update gtdnet"
        )
    return header, tensors


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a model file (*.safetensors expected; {_first_line(error)})"
        ) from error


def _load_all(module: nn.Module, tensors: Mapping[str, Tensor], label: str) -> None:
    """Load every tensor or raise InputError, changing nothing."""
    wanted = module.state_dict()
    # Checkpoints from before PyTorch 0.4.1 lack the counters, which nothing here reads.
    missing = sorted(k for k in set(wanted) - set(tensors) if not k.endswith("num_batches_tracked"))
    unexpected = sorted(set(tensors) - set(wanted))
    shapes = [
        f"{k} {list(tensors[k].shape)} for {list(wanted[k].shape)}"
        for k in sorted(set(wanted) & set(tensors))
        if tensors[k].shape != wanted[k].shape
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (
            ("keys missing", missing),
            ("keys unexpected", unexpected),
            ("of another shape", shapes),
        )
        if found
    ]
    if problems:
        raise InputError(f"{label}: the weights do not fit the network: {'; '.join(problems)}")
    module.load_state_dict(dict(tensors), strict=False)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
