"""Weights read from files, and made to fit: what networks start from. Nothing is unpickled."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.text import first_line, first_of


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
            tensors = {**self.plain, **self.temporal}  # and nothing else: none may stay at random
            load_all(backbone, resize_segments(tensors, backbone), self.label)


_WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict")


def is_temporal(key: str) -> bool:
    """Whether a backbone's tensor belongs to a temporal module rather than to the 2D network."""
    return "temporal" in key.split(".")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or PyTorch file; pickled code is never run.

    Raises:
        ValueError: no such file, or a file that holds anything but tensors and plain containers, or
            anything but tensors under the names of weights.
    """
    path = Path(path)
    _check_start(path)
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
    if not any(isinstance(value, Tensor) for value in content.values()):
        keys = f"its keys are {first_of(map(str, content))}" if content else "it is an empty dict"
        raise InputError(
            f"{path}: holds no tensors where they are looked for, at the top or under "
            f"{', '.join(_WRAPPERS[:-1])} or {_WRAPPERS[-1]}; {keys}"
        )
    if odd := [
        f"{k} ({type(v).__name__})" for k, v in content.items() if not isinstance(v, Tensor)
    ]:
        raise InputError(
            f"{path}: holds other things among its tensors: {first_of(odd)}; save the state dict "
            f"alone"
        )
    if odd := [f"{k!r} ({type(k).__name__})" for k in content if not isinstance(k, str)]:
        raise InputError(
            f"{path}: names tensors by {first_of(odd)}; a state dict's keys are text, such as "
            f"conv1.weight"
        )
    return dict(content)


def _check_start(path: Path) -> None:
    """Refuse what can be told from a path and a file's first bytes."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a weights file; give a file in it")
    if not path.is_file():
        raise InputError(
            f"{path}: no such weights file; give the path of a .pth or .safetensors file"
        )
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not start:
        raise InputError(f"{path}: is empty; download it again")
    if b"\0" in start:  # no text
        return
    for mark, what in ((b"<", "a web page"), (b"version https://git-lfs", "a Git LFS pointer")):
        if start.lstrip().startswith(mark):
            raise InputError(f"{path}: is {what}, not the file itself; download the file")


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file; ValueError if it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a model file (*.safetensors expected; {first_line(error)})"
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
    missing = sorted(
        called.get(k, k)
        for k in set(wanted) - set(tensors)
        if not k.endswith("num_batches_tracked")
    )
    unexpected = sorted(called.get(k, k) for k in set(tensors) - set(wanted))
    shapes = [
        f"{called.get(k, k)} {list(tensors[k].shape)} for {list(wanted[k].shape)}"
        for k in sorted(set(wanted) & set(tensors))
        if tensors[k].shape != wanted[k].shape
    ]
    problems = [
        f"{len(found)} {key if len(found) == 1 else keys}{what} ({first_of(found, most)})"
        for key, keys, what, found in (
            ("key", "keys", " missing", missing),
            ("key", "keys", " unexpected", unexpected),
            ("", "", "of another shape", shapes),
        )
        if found
    ]
    if problems:
        raise InputError(f"{label}: the weights do not fit the network: {'; '.join(problems)}")
    module.load_state_dict(dict(tensors), strict=False)


# Classes whose objects hold data and run nothing: training arguments, NumPy's numbers and arrays.
_HARMLESS = re.compile(
    r"argparse\.Namespace|numpy\.(?:dtype|ndarray|dtypes\.\w+|"
    r"_?core\.multiarray\.(?:scalar|_reconstruct))"
)
# Programs for python -c "...": the first argument is the file, the second where its tensors go.
_ALLOW = (
    "import argparse, sys, numpy as np, torch; "
    "f = [x.__reduce__()[0] for x in (np.float64(0), np.zeros(0))]; "
    "torch.serialization.add_safe_globals([argparse.Namespace, np.dtype, np.ndarray, "
    "*{type(np.dtype(c)) for c in '?bhilqBHILQefd'}, "
    "*[(g, f'numpy.{m}.multiarray.{g.__name__}') for g in f for m in ('core', '_core')]]); "
    "c = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
)
_TRUST = "import sys, torch; c = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
_SAVE = (
    f"c = c if hasattr(c, 'state_dict') else next((c[k] for k in {_WRAPPERS} "
    "if isinstance(c.get(k), (dict, torch.nn.Module))), c); "
    "c = c.state_dict() if hasattr(c, 'state_dict') else c; "
    "torch.save({k: v for k, v in c.items() if torch.is_tensor(v)}, sys.argv[2])"
)


def _why_not_loaded(path: Path, error: Exception) -> str:
    """Why torch.load(weights_only=True) failed, and the safest way out that there is."""
    message = str(error)
    if classes := _classes_in(path, message):
        reason = f"holds Python objects besides tensors ({first_of(classes)})"
    elif "legacy .tar" in message:
        reason = "is written in the format of PyTorch before 0.2"
    elif "TorchScript" in message:
        reason = "is a TorchScript archive"
    elif isinstance(error, MemoryError) or "allocate memory" in message:
        return "does not fit into the memory of this machine"
    elif isinstance(error, EOFError) or "EOF" in message or _is_cut_off(path):
        return "is cut off or damaged; download it again"
    else:
        return "is nothing that torch.save writes; give a .pth or .safetensors file"
    if classes and all(_HARMLESS.fullmatch(name) for name in classes):
        way_out = "so it is refused; these are harmless: save its tensors alone with"
        program = _ALLOW + _SAVE
    else:
        way_out = (
            "and loading that can run any code, so it is refused; if you trust where it comes "
            "from, save its tensors alone with"
        )
        program = _TRUST + _SAVE
    file = shlex.quote(str(path.absolute()))
    return f'{reason}, {way_out} python -c "{program}" {file} weights-only.pth and take that'


def _classes_in(path: Path, message: str) -> list[str]:
    """What a pickle needs beyond tensors and plain containers: all of it, or what torch names."""
    named = re.search(r"(?:GLOBAL|class) ([\w.]+)", message)
    if named is None:
        return []
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)) or [named[1]]
    except Exception:  # reads the zipped format alone
        return [named[1]]


def _is_cut_off(path: Path) -> bool:
    """Whether a file begins like a zip archive, as torch.save writes, and does not end like one."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4" and not zipfile.is_zipfile(path)
