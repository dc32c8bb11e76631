"""Tensors read from files. Nothing is unpickled; a refusal names the safest way out."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gtdnet.errors import InputError
from gtdnet.text import first_line, first_of

_WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict")


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
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict")
    inner = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
    content = next(inner, content)
    if not any(isinstance(value, Tensor) for value in content.values()):
        keys = f"its keys are {first_of(map(str, content))}" if content else "it is an empty dict"
        raise InputError(
            f"{path}: holds no tensors where they are looked for, at the top or under "
            f"{', '.join(_WRAPPERS[:-1])} or {_WRAPPERS[-1]}; {keys}"
        )
    odd = [f"{k} ({type(v).__name__})" for k, v in content.items() if not isinstance(v, Tensor)]
    if odd:
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
