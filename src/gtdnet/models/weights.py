"""Weights read from files, and made to fit: what networks start from. Nothing is unpickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gtdnet.errors import InputError


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
            {k: v for k, v in kept.items() if not is_temporal(k)},
            {k: v for k, v in kept.items() if is_temporal(k)},
            str(source) if is_file else "the state dict",
        )

    def load_plain(self, backbone: nn.Module) -> None:
        """Load the 2D weights into a backbone without temporal modules.

        Raises:
            ValueError: not its weights; the first missing, unexpected and ill-shaped keys are told.
        """
        load_all(backbone, self.plain, self.label)

    def load_temporal(self, backbone: nn.Module) -> None:
        """Load the temporal modules' weights; a network whose modules have none stays as it is.

        Raises:
            ValueError: the network's modules are others.
        """
        learned = any(is_temporal(key) for key in backbone.state_dict())
        if self.temporal and learned:
            tensors = {**backbone.state_dict(), **self.plain, **self.temporal}
            load_all(backbone, resize_segments(tensors, backbone), self.label)


def is_temporal(key: str) -> bool:
    """Whether a backbone's tensor belongs to a temporal module rather than to the 2D network."""
    return "temporal" in key.split(".")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or PyTorch file; pickled code is never run.

    Raises:
        ValueError: no such file, or a file that holds anything but tensors and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)[1]
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


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file; ValueError if it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a model file (*.safetensors expected; {_first_line(error)})"
        ) from error


def load_all(module: nn.Module, tensors: Mapping[str, Tensor], label: str) -> None:
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
