"""What an engine is, and the list of those that are there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.device import Precision
from gtdnet.engines import BUILT_IN
from gtdnet.engines.header import ExportedFile, parse_header
from gtdnet.engines.profile import Node, OperatorLog
from gtdnet.errors import InputError

if TYPE_CHECKING:
    from gtdnet.engines.steps import Steps
    from gtdnet.engines.stream import Shown, Step, StreamGraph
    from gtdnet.models.classifier import VideoClassifier


@dataclass(frozen=True)
class Source:
    """What an engine or a file is made of.

    Attributes:
        model: normalised clips [N, T*f, 3, H, W] -> logits [N, K].
        spec: says how frames are normalised and how large they are.
        calibration: for int8, clips uint8 [M, T*f, 3, H, W] to take the ranges of all values from.
    """

    model: nn.Module
    spec: ClipSpec
    calibration: Tensor | None = None


@dataclass(frozen=True)
class Choice:
    """An engine and how it is to compute, all resolved but not made yet."""

    name: str
    device: torch.device
    precision: Precision
    threads: int | None = None  # as many as PyTorch uses
    profiled: bool = False


class Check(NamedTuple):
    """One way to run a saved file, whose logits must be the model's within the tolerance."""

    make: Callable[[], Callable[[Tensor], Tensor]]  # clips uint8 [N, T*f, 3, H, W] -> logits [N, K]
    precision: Precision  # whose tolerance
    remark: str = ""  # behind the file's name


class Engine(ABC):
    """Computes a model's logits. What holds for all engines of a kind, their class says.

    A new kind is a subclass with :meth:`build` and :meth:`logits`, made known by
    :func:`register_engine`; one that runs files has those methods too. Several threads may call an
    engine: each gets the answers to its own clips, if need be after another.

    Attributes:
        device: where it computes and where its answers are.
        precision: that it computes in.
    """

    name: ClassVar[str]  # on the command line
    title: ClassVar[str]  # what it is
    packages: ClassVar[tuple[str, ...]] = ()  # must be installed
    extra: ClassVar[str] = "gtdnet[export]"  # what pip is to install for them
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "bf16", "fp16")
    auto_on: ClassVar[tuple[str, ...]] = ()  # devices where "auto" means it, if it is installed
    substitute: ClassVar[str | None] = None  # the engine to take, and say so, if it is unavailable
    # Files that it saves: the first is the one to give to a program, the others hold its weights.
    suffixes: ClassVar[tuple[str, ...]] = ()
    saved_precisions: ClassVar[tuple[Precision, ...]] = ()
    not_opened: ClassVar[str | None] = None  # why it does not open such files itself

    def __init__(self, choice: Choice) -> None:
        self.device = choice.device
        self.precision = choice.precision
        self._log = OperatorLog(choice.device) if choice.profiled else None

    def __call__(self, clips: Tensor) -> Tensor:
        """uint8 RGB [N, T*f, 3, H, W] on any device -> logits float32 [N, K] on ``device``.

        The shape of a clip is that of the spec; N is free.
        """
        with self._log.call() if self._log else nullcontext():
            return self.logits(clips)

    @abstractmethod
    def logits(self, clips: Tensor) -> Tensor:
        """What a call gives."""

    def logits_and_features(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """What a call gives, and the features before the classifier, float32 [N, T, C].

        InputError of an engine that gives none, or where the network has no classifier on top.
        """
        raise InputError(
            f"engine {self.name} computes no features; give a model file (.safetensors) and "
            f"--engine torch"
        )

    def nodes(self) -> list[list[Node]]:
        """Of each call so far what its operations took; empty unless ``profiled``. Ask once.

        By PyTorch's profiler, where the runtime does not count itself.
        """
        return self._log.calls if self._log else []

    @classmethod
    def unavailable(cls, device: torch.device) -> str | None:
        """Why it cannot be used on a device, with the remedy; None: it can."""
        if device.type not in cls.devices:
            what = "computes on the CPU, not" if cls.devices == ("cpu",) else "does not compute"
            return f"engine {cls.name} {what} on {device}; add --device cpu"
        reason = missing(*cls.packages, extra=cls.extra)
        return f"engine {cls.name}: {reason}" if reason else None

    @classmethod
    @abstractmethod
    def build(cls, source: Source, choice: Choice) -> Engine:
        """The engine of a model, as chosen by :func:`gtdnet.engines.choose`."""

    # --------------------------------------------------------------------- those that have files

    @classmethod
    def cannot_save(cls, precision: Precision) -> str | None:
        """Why its files cannot be written here in a precision; None: they can."""
        if precision not in cls.saved_precisions:
            able = [name for name, kind in ENGINES.items() if precision in kind.saved_precisions]
            return f"{precision} is made for {' and '.join(able)} alone"
        return missing(*cls.packages, extra=cls.extra)

    @classmethod
    def save(
        cls, source: Source, path: Path, precision: Precision, header: str = ""
    ) -> list[Check]:
        """Write a model as ``path``, which has the first of the suffixes, and its other files.

        Gives the ways in which they are run. None of them has been tried.
        """
        raise NotImplementedError

    @classmethod
    def stream_graph(cls, model: VideoClassifier, spec: ClipSpec) -> StreamGraph:
        """A causal model's step as this kind runs it fastest."""
        from gtdnet.engines.stream import StreamGraph

        return StreamGraph(model, spec)

    @classmethod
    def save_stream(
        cls, graph: StreamGraph, path: Path, header: str = "", shown: Shown | None = None
    ) -> Step:
        """Write a causal model's step as ``path``, and its other files.

        In fp32; in int8, of an engine that saves that, if there are inputs to take the ranges of
        all values from. Gives what runs them. Inputs and outputs have the graph's names.
        """
        raise NotImplementedError

    @classmethod
    def read_header(cls, path: Path) -> str | None:
        """The header in a file; None if it has none. Unpickles nothing, reads no foreign file.

        Raises:
            ValueError: not a file of this kind, or a damaged one.
        """
        raise NotImplementedError

    @classmethod
    def open(cls, file: ExportedFile, choice: Choice) -> Engine:
        """The engine of a file; InputError if its graph cannot be run, or is not the spec's."""
        raise NotImplementedError

    @classmethod
    def open_stream(cls, file: ExportedFile, choice: Choice, streams: int = 1) -> Steps:
        """What runs the step in a file of :meth:`save_stream`, mostly for so many streams.

        InputError if its graph cannot be run, or is not the spec's.
        """
        raise InputError(f"{file.path}: engine {cls.name} runs no streams")

    @classmethod
    def read(cls, path: Path) -> ExportedFile:
        """What the header in a file says; raises what :meth:`read_header` does."""
        return parse_header(path, cls.name, cls.read_header(path))

    @classmethod
    def opens_files(cls) -> bool:
        """Whether it runs files."""
        return bool(cls.suffixes) and cls.not_opened is None

    @classmethod
    def load_runtime(cls) -> None:
        """Import what runs its files."""
        for package in cls.packages:
            import_module(package)


E = TypeVar("E", bound=type[Engine])

_registered: dict[str, type[Engine]] = {}


class _Engines(Mapping[str, type[Engine]]):
    """The registered ones; this package's own are imported when it is first looked at."""

    _complete = False

    def _all(self) -> Mapping[str, type[Engine]]:
        if not self._complete:
            self._complete = True
            for name in BUILT_IN:
                import_module(f"gtdnet.engines.{name}")
        return _registered

    def __getitem__(self, name: str) -> type[Engine]:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        own = [name for name in BUILT_IN if name in self._all()]  # first, in their order
        return iter(dict.fromkeys([*own, *self._all()]))

    def __len__(self) -> int:
        return len(self._all())


ENGINES: Mapping[str, type[Engine]] = _Engines()
"""By name."""


def register_engine(engine: E) -> E:
    """Make an engine known to all commands, by its name; returns it, so it may be a decorator.

    InputError if another has that name, or files with such a suffix.
    """
    if engine.name in ("auto", *ENGINES):
        raise InputError(f"there is an engine {engine.name!r} already; choose another name")
    for other in ENGINES.values():
        if both := set(engine.suffixes).intersection(other.suffixes):
            raise InputError(
                f"engine {engine.name!r}: {min(both)} is the suffix of engine {other.name}'s files "
                f"already; choose another suffix"
            )
    _registered[engine.name] = engine
    return engine


def missing(*packages: str, extra: str = Engine.extra) -> str | None:
    """The first of them that is not there, with the remedy; None: all are."""
    for package in packages:
        if find_spec(package) is None:
            return f'{package} is not installed; get it with: pip install "{extra}"'
    return None


def check_installed(*packages: str) -> None:
    """Raise InputError for one of our packages that is not there, with the remedy."""
    if reason := missing(*packages):
        raise InputError(reason)
