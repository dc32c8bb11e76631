"""Weights read from files, and made to fit: what networks start from. Nothing is unpickled."""

from __future__ import annotations

import re
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

    GTDNet's "mta" and TANet's kernels learn T frames (``spread``) -> hidden units, in TANet with a
    batch norm (``norm``) -> one or several numbers (``collect``). The weights over the frames are
    interpolated linearly, as is done with position embeddings; each old frame's weight is shared
    out among the new frames near it, so that the sum over a constant clip stays as it was. The
    hidden units have no order to interpolate along: they are repeated evenly, with their norms,
    and the copies of a unit share its weight in the sums that follow. With at least as many hidden
    units as before, the answer to a constant clip is unchanged.
    """
    resized = dict(tensors)
    for key, new in model.state_dict().items():
        old = tensors.get(key)
        if old is None or old.shape == new.shape:
            continue
        layer, _, name = key.rpartition(".")
        block, dot, part = layer.rpartition(".")  # "layer1.0...", "norm"
        if f"{block}{dot}spread.weight" not in tensors:
            continue
        if part == "collect" and name == "weight":  # [K, hidden]
            units = _copied_units(old.shape[1], new.shape[1])
            resized[key] = old[:, units] / torch.bincount(units)[units].to(old.dtype)
        elif part in ("spread", "norm"):  # [hidden, T] or [hidden]
            if old.ndim == 2:
                old = (old.float() @ _shares(old.shape[1], new.shape[1])).to(old.dtype)
            resized[key] = old[_copied_units(len(old), len(new))]
    return resized


def _shares(old: int, new: int) -> Tensor:
    """[old T, T]: how the weight of each old frame is shared out; every row sums to 1."""
    shares = F.interpolate(torch.eye(old)[None, None], (old, new), mode="bilinear", antialias=True)
    return shares[0, 0] / shares[0, 0].sum(1, keepdim=True)


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


_WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict")


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
    except Exception as error:  # torch.load raises many kinds for files that are no checkpoints
        raise InputError(f"{path}: {_why_not_loaded(path, error)}") from error
    for key in _WRAPPERS:
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


def load_all(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    label: str,
    *,
    called: Mapping[str, str] | None = None,
    most: int = 3,
) -> None:
    """Load every tensor or raise InputError, changing nothing.

    Args:
        called: what messages call a key, where that is not the key itself.
        most: keys of each kind of misfit that a message names.
    """
    called = called or {}
    wanted = module.state_dict()
    # Checkpoints from before PyTorch 0.4.1 lack the counters, which nothing here reads.
    missing = sorted(k for k in set(wanted) - set(tensors) if not k.endswith("num_batches_tracked"))
    unexpected = sorted(called.get(k, k) for k in set(tensors) - set(wanted))
    shapes = [
        f"{called.get(k, k)} {list(tensors[k].shape)} for {list(wanted[k].shape)}"
        for k in sorted(set(wanted) & set(tensors))
        if tensors[k].shape != wanted[k].shape
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:most])}{', ...' if len(found) > most else ''})"
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


_RESAVE = (
    "python -c \"import torch; c = torch.load('{path}', map_location='cpu', weights_only=False); "
    "c = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c.get('model', c)); "
    "torch.save(c, 'weights-only.pth')\""
)


def _why_not_loaded(path: Path, error: Exception) -> str:
    """Why torch.load(weights_only=True) failed, and the safe way out where there is one."""
    message = str(error)
    if unknown := re.search(r"(?:GLOBAL|class) ([\w.]+)", message):
        reason = f"holds Python objects besides tensors ({unknown[1]})"
    elif "legacy .tar" in message:
        reason = "is written in the format of PyTorch before 0.2"
    elif "TorchScript" in message:
        reason = "is a TorchScript archive"
    elif "weights_only" in message:  # the advice that torch gives on any other pickle
        return "not a PyTorch checkpoint (nothing that torch.save writes)"
    else:
        return f"not a PyTorch checkpoint ({_first_line(error)})"
    return (
        f"{reason}; loading that can run any code, so it is refused; if you trust where the file "
        f"comes from, save its tensors alone with {_RESAVE.format(path=path.name)} and take that"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
