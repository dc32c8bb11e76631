"""Which engine, where, and in which numbers; engines of models and of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.device import PRECISIONS, resolve_device, resolve_precision
from gtdnet.engines.base import ENGINES, Choice, Engine, Source, missing
from gtdnet.engines.header import ExportedFile
from gtdnet.engines.steps import ModelSteps, Steps
from gtdnet.errors import InputError, check_choice
from gtdnet.models.model_file import MODEL_NAME, ModelFile, load_model
from gtdnet.text import say
from gtdnet.weights.hub import find_file

# ---------------------------------------------------------------------------------- of a model


def build_engine(
    model: nn.Module,
    spec: ClipSpec,
    engine: str = "auto",
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    calibration: Tensor | None = None,
    profiled: bool = False,
) -> Engine:
    """Make an engine of a model.

    Args:
        model, spec, calibration: see :class:`Source`. "torch" moves the model to the device and
            runs it itself, the others run a copy. Only OpenVINO has int8; what that does to the
            accuracy is measured by :func:`gtdnet.export.export` alone.
        engine: one of :data:`ENGINES`; "auto": OpenVINO on a CPU if it is installed, else torch.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: one of :data:`gtdnet.device.PRECISIONS`; "auto": what is fast there.
        threads: that compute; default: as many as PyTorch uses. For torch and compile this sets
            the number of the whole process.
        profiled: make one that is a little slower and whose :meth:`Engine.nodes` tells what each
            call took, operation by operation.

    Raises:
        ValueError: an unknown engine, or one that cannot be used here; a device or precision that
            it does not have; int8 without ``calibration``.
    """
    choice = replace(choose(engine, device, precision), threads=threads, profiled=profiled)
    return ENGINES[choice.name].build(Source(model, spec, calibration), choice)


def choose(engine: str, device: str, precision: str) -> Choice:
    """Resolve "auto" and see that the engine can be used; see :func:`build_engine`."""
    check_choice("engine", engine, ("auto", *ENGINES))
    check_choice("precision", precision, ("auto", *PRECISIONS))
    where, note = resolve_device(device), None
    if engine == "auto":
        fast = (n for n, kind in ENGINES.items() if where.type in kind.auto_on)
        engine = next((name for name in fast if not unavailable(name, where)), "torch")
    kind = ENGINES[engine]
    reason = kind.unavailable(where)
    if reason and kind.substitute:
        note = f"{reason}; engine {kind.substitute} is used in its place"
        kind, reason = ENGINES[kind.substitute], None
    elif reason and device == "auto" and where.type != "cpu":
        if where.type in kind.devices:
            note = f"engine {engine} computes on the CPU: {reason}"
        where = torch.device("cpu")
        reason = kind.unavailable(where)
    if reason:
        raise InputError(reason)
    if precision != "auto" and precision not in kind.precisions:
        raise InputError(
            f"engine {kind.name} computes in {' or '.join(kind.precisions)}, not in {precision}; "
            f"choose one of these, or another engine"
        )
    if precision != "int8":
        precision = resolve_precision(precision, where)
        precision = precision if precision in kind.precisions else "fp32"
    if note:
        say(note)
    return Choice(kind.name, where, precision)


def unavailable(engine: str, device: torch.device) -> str | None:
    """Why an engine cannot be used on a device, with the remedy; None: it can."""
    return ENGINES[engine].unavailable(device)


# ---------------------------------------------------------------------------------- of a file


def find_model(source: str | Path) -> str:
    """The file that a model is read from, by what names it.

    A file and hf://user/name stand for themselves; a run folder for its model.safetensors; a folder
    that gtdnet export wrote for the file of the fastest engine that is installed here. A folder
    with neither is what :func:`open_model` complains of.
    """
    folder = Path(source)
    if not folder.is_dir():
        return str(source)
    if not (folder / MODEL_NAME).exists():
        kinds = [kind for kind in ENGINES.values() if kind.opens_files()]
        kinds.sort(key=lambda k: (missing(*k.packages) is not None, "cpu" not in k.auto_on))
        for kind in kinds:
            exported = sorted(p for p in folder.iterdir() if p.suffix.lower() == kind.suffixes[0])
            if len(exported) == 1:
                return str(exported[0])
    return str(folder / MODEL_NAME)


def is_exported(path: str | Path) -> bool:
    """Whether it is the name of an exported file, or of a folder with one."""
    path = find_model(path)
    kind = _of_file(path)
    return kind is not None and Path(path).suffix.lower() == kind.suffixes[0]


def open_model(path: str | Path, *, num_segments: int | None = None) -> ModelFile | ExportedFile:
    """Read a model file (``*.safetensors``), or an exported one (``*.onnx``, ``*.xml``).

    Args:
        path: the file, the folder of a run or an export, or ``hf://user/name[@revision][/file]``.
        num_segments: frames per clip; an exported model has the number it was exported with.

    Raises:
        ValueError: no such file, not one of gtdnet's, or a package that reads it is missing.
    """
    path = find_model(path)
    kind = _of_file(path)
    if kind is None:
        return load_model(path, num_segments=num_segments)
    if kind.not_opened:
        raise InputError(f"{path}: {kind.not_opened}")
    (suffix, *beside), given = kind.suffixes, Path(path).suffix
    if given.lower() != suffix:
        raise InputError(f"{path}: it holds only weights; give the {suffix} file beside it")
    found = find_file(path)
    if not found.is_file():
        raise InputError(f"{path}: no such file; gtdnet export makes one of a model file")
    for other in beside:  # the hub gives one file at a time
        find_file(f"{str(path).removesuffix(given)}{other}")
    exported = kind.read(found)
    if num_segments not in (None, exported.spec.num_segments):
        raise InputError(
            f"{path}: was exported for num_segments={exported.spec.num_segments}; export the model "
            f"again with --num_segments {num_segments}"
        )
    return exported


def choose_for(
    file: ModelFile | ExportedFile,
    engine: str | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> Choice:
    """The engine for a file: of a model file any, of an exported one its own.

    None stands for an exported file's own engine and precision; for a model file's torch and fp32.

    Raises:
        ValueError: an engine, device or precision that the file, or this machine, does not have.
    """
    if isinstance(file, ModelFile):
        return choose(engine or "torch", device, precision or "fp32")
    if engine not in (None, "auto", file.engine):
        raise InputError(
            f"{file.path} runs with --engine {file.engine} alone, not {engine}; give the model "
            f"file (.safetensors) that it was exported from"
        )
    if precision == "int8" and file.precision != "int8":
        raise InputError(
            f"{file.path}: is no int8 model; make one with gtdnet export --precision int8"
        )
    if precision in (None, "auto") or file.precision == "int8":
        precision = file.precision
    return choose(file.engine, device, precision)


def open_engine(
    file: ModelFile | ExportedFile, choice: Choice, *, threads: int | None = None
) -> Engine:
    """Make the engine of a file, as :func:`choose_for` chose it; InputError if it cannot be run."""
    kind, choice = ENGINES[choice.name], replace(choice, threads=threads or choice.threads)
    if isinstance(file, ModelFile):
        return kind.build(Source(file.model, file.spec), choice)
    return kind.open(file, choice)


def open_steps(file: ModelFile | ExportedFile, choice: Choice, streams: int = 1) -> Steps:
    """What runs a file's step, mostly for so many streams; InputError if it has none."""
    if isinstance(file, ModelFile):
        return ModelSteps(file.model, file.spec, choice.device, choice.precision)
    return ENGINES[choice.name].open_stream(file, choice, streams)


def _of_file(path: str | Path) -> type[Engine] | None:
    """The engine that writes files with such a name."""
    suffix = Path(path).suffix.lower()
    return next((kind for kind in ENGINES.values() if suffix in kind.suffixes), None)
