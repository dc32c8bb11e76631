"""What a dataset format is, the formats there are, and reading a split through them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from gtdnet.data.labels import Label
from gtdnet.data.pack.remote import is_remote
from gtdnet.errors import InputError, suggestion
from gtdnet.files import dead_link
from gtdnet.places import is_url, local, shown
from gtdnet.text import in_nfc

ALIASES = {  # of the splits, in names of files and folders; the first is the one to write
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid", "validate"),
    "test": ("test", "testing"),
}
SPLITS = tuple(ALIASES)


@dataclass(frozen=True)
class VideoRecord:
    """One annotated clip.

    ``id`` is unique within its split. ``path`` is a video file or a folder of frames. ``label``
    is an index into the class names, or in a multi-label dataset all that are the clip's, in
    ascending order; None where the annotation has none (test splits). ``columns`` is what else a
    table says of the clip, by name of the column.
    """

    id: str
    path: str
    label: Label
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def classes(self) -> tuple[int, ...]:
        """All classes of the clip: one, or in a multi-label dataset any number."""
        if isinstance(self.label, tuple):
            return self.label
        return () if self.label is None else (self.label,)

    @property
    def further(self) -> dict[str, dict[str, str]]:
        """Its columns as an entry of the JSON files that list it; none where it has none."""
        return {"columns": dict(self.columns)} if self.columns else {}


Row = tuple[VideoRecord, bool]
"""A record, and whether its clip is on disk."""
Rows = Iterable[Row]


@dataclass(frozen=True)
class Annotations:
    """One split: ``records`` are there, ``missing`` are annotated but not on disk."""

    format: str
    split: str
    root: str
    class_names: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    missing: tuple[VideoRecord, ...]

    @property
    def multi_label(self) -> bool:
        """Whether a clip has any number of classes, and not one."""
        return any(isinstance(r.label, tuple) for r in (*self.records, *self.missing))


@dataclass(frozen=True)
class NewClip:
    """A clip to write. ``number`` is its own in the whole dataset, ``key`` also among datasets.

    ``template`` is the class name with its blanks in brackets, ``placeholders`` what fills them.
    """

    number: int
    split: str
    label: int
    class_name: str
    key: str
    template: str
    placeholders: tuple[str, ...] = ()


MAYBE = 0.5
"""Between True and False: a dataset follows a format if it follows no other."""


class Format(ABC):
    """One way in which a dataset lies on disk; `register_format` makes a subclass known.

    Attributes:
        name: what ``--format`` calls it.
        signs: what it is recognised by, in a few words for messages.
        is_derived: GTDNet made such a dataset of one in another format, and reads it as what it
            is even if ``--format`` names that one.
        is_whole: every clip below the root belongs to it, annotated or not.
    """

    name: str
    signs: str
    is_derived = False
    is_whole = False

    @abstractmethod
    def recognises(self, root: Path) -> float:
        """Whether ``root``, a folder or file that is there, follows it: True, False or MAYBE."""

    def objection(self, root: Path) -> str | None:
        """Why what it MAYBE is should not be read unless ``--format`` says so; None: it may."""
        return None

    def nearly(self, root: Path) -> str | None:
        """What a folder that no format recognises lacks to follow it, where it nearly does."""
        return None

    @abstractmethod
    def splits(self, root: Path) -> Iterable[str]:
        """Those of `SPLITS` that have annotations, in any order."""

    @abstractmethod
    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        """Class names in index order, and the clips; InputError for what is absent or wrong."""


class UrlFormat(Format):
    """A format whose root may also be the URL of another place, then given as text."""

    @abstractmethod
    def recognises(self, root: Path | str) -> float: ...

    @abstractmethod
    def splits(self, root: Path | str) -> Iterable[str]: ...

    @abstractmethod
    def read(self, root: Path | str, split: str) -> tuple[Sequence[str], Rows]: ...


class WritableFormat(Format):
    """A format in which `gtdnet synth` writes datasets, too."""

    @abstractmethod
    def clip_path(self, clip: NewClip) -> Path:
        """Where a new clip belongs below the root: .mp4, .webm, or no suffix for pictures."""

    @abstractmethod
    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        """Write the annotations of new clips; the seed is for what the format leaves open."""


FormatClass = TypeVar("FormatClass", bound=Format)
_formats: dict[str, Format] = {}
FORMATS: Mapping[str, Format] = MappingProxyType(_formats)
"""All formats by name, in the order of registration."""


def register_format(format: type[FormatClass]) -> type[FormatClass]:
    """Make a format known under its name; ValueError if the name is taken."""
    if format.name in _formats:
        raise ValueError(f"the format {format.name!r} is registered already; choose another name")
    _formats[format.name] = format()
    return format


def written_formats() -> dict[str, WritableFormat]:
    """Those in which datasets can be written."""
    return {name: f for name, f in _formats.items() if isinstance(f, WritableFormat)}


def formats_line() -> str:
    """The names that ``--format`` takes, for sentences: "a, b or c"."""
    *names, last = (format.name for format in _formats.values() if not format.is_derived)
    return f"{', '.join(names)} or {last}"


def detect_format(root: str | Path) -> str:
    """The one of `FORMATS` that ``root`` follows; InputError if none or several."""
    with _told(root):
        return _opened(root).format.name


def list_splits(root: str | Path, format: str | None = None) -> tuple[str, ...]:
    """The splits that have annotations, in the order of `SPLITS`."""
    with _told(root):
        there = set(_opened(root, format).splits())
    return tuple(split for split in SPLITS if split in there)


def read_annotations(
    root: str | Path,
    split: str = "train",
    format: str | None = None,
    *,
    allow_missing: bool = False,
) -> Annotations:
    """Read one split of a dataset: a folder, or a file that lists its clips.

    Without ``format`` it is recognised from what is there. Raises InputError where an annotation
    is absent or contradicts itself, and where the split has no clips or none of them is there,
    unless ``allow_missing``.
    """
    if split not in SPLITS:
        raise InputError(
            f"There is no split {split!r}{suggestion(split, SPLITS)}; the splits are "
            f"{', '.join(SPLITS)}."
        )
    with _told(root):
        chosen, _, read = _opened(root, format)
        listed_names, listed = read(split)
        names = _distinct(listed_names, root)
        rows = _unique(listed, f"the {split} split of {root}")
    if len({type(record.label) for record, _ in rows if record.label is not None}) > 1:
        raise InputError(
            f"The {split} split of {root} has clips of one label beside clips of a list of labels; "
            f"give all of them lists."
        )
    records = tuple(record for record, is_there in rows if is_there)
    missing = tuple(record for record, is_there in rows if not is_there)
    where = f"{split} split of {root} ({chosen.name})"
    if not rows and not allow_missing:
        raise InputError(f"The {where} is empty; add clips to it.")
    if not records and not allow_missing:
        raise InputError(
            f"None of the {len(missing)} clips in the {where} is there, the first being "
            f"{missing[0].path}; put the videos there or check the path."
        )
    return Annotations(chosen.name, split, str(root), names, records, missing)


@contextmanager
def _told(root: str | Path) -> Iterator[None]:
    """What the system refuses while a dataset is read, as InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"The dataset {root} can't be read: {error.filename or root}: "
            f"{error.strerror or error}; check the path and its permissions."
        ) from None


def check_dataset_is_there(root: str | Path) -> None:
    """Raise InputError where there is nothing at its path."""
    if not str(root):
        raise InputError("no dataset given; say where the clips are with --data PATH")
    if is_remote(root):
        return  # whoever reads it asks
    if not Path(root).exists():
        if link := dead_link(root):
            raise InputError(f"The dataset {root} is not there: {link}; mend the link.")
        raise InputError(f"The dataset {root} does not exist; check the path.")


class _Opened(NamedTuple):
    """A dataset and its format: what gives the splits, and what reads one."""

    format: Format
    splits: Callable[[], Iterable[str]]
    read: Callable[[str], tuple[Sequence[str], Rows]]


def _opened(root: str | Path, name: str | None = None) -> _Opened:
    """A dataset here or elsewhere, in the format that is asked for, or that is recognised."""
    if is_remote(root):
        url = str(root)
        for format in _formats.values():
            if isinstance(format, UrlFormat) and format.recognises(url):
                return _Opened(format, partial(format.splits, url), partial(format.read, url))
        raise InputError(f"No dataset is recognised in {shown(url)}; check the URL.")
    path = local(str(root)) if is_url(str(root)) else Path(root)
    assert path is not None
    format = _format_of(path, name)
    return _Opened(format, partial(format.splits, path), partial(format.read, path))


def _format_of(root: Path, name: str | None = None) -> Format:
    """The format that is asked for, or the one that is recognised."""
    if name is not None and name not in _formats:
        raise InputError(
            f"There is no format {name!r}{suggestion(name, _formats)}; the formats are "
            f"{formats_line()}."
        )
    check_dataset_is_there(root)
    for format in _formats.values():
        if format.is_derived and format.recognises(root):
            return format
    if name is not None:
        return _formats[name]
    matches = {name: format.recognises(root) for name, format in _formats.items()}
    best = max(matches.values())
    found = [name for name, match in matches.items() if match == best]
    if not best:
        nearly = [told for format in _formats.values() if (told := format.nearly(root))]
        if nearly:
            raise InputError(f"No dataset is recognised in {root}: {'; '.join(nearly)}.")
        signs = ", ".join(f"{name}: {format.signs}" for name, format in _formats.items())
        raise InputError(
            f"No dataset is recognised in {root}: what formats are known by is not there "
            f"({signs}); check the path or give --format."
        )
    if len(found) > 1:
        raise InputError(
            f"{root} looks like {' and '.join(found)} at once; say which it is with --format."
        )
    chosen = _formats[found[0]]
    if best is not True and (objection := chosen.objection(root)):
        raise InputError(
            f"{root} could only be read as {chosen.name} ({chosen.signs}), but {objection}, or say "
            f"that it is one with --format {chosen.name}."
        )
    return chosen


def _distinct(listed: Sequence[str], root: str | Path) -> tuple[str, ...]:
    """The names of the classes in NFC; InputError if two are the same."""
    names = tuple(map(in_nfc, listed))
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"{root} has {times} classes of the name {name!r:.80}; rename them.")
    return names


def _unique(rows: Rows, where: str) -> list[Row]:
    """Drop repetitions of a record; raise InputError for one id with two meanings."""
    by_id: dict[str, Row] = {}
    for row in rows:
        new, known = row[0], by_id.setdefault(row[0].id, row)[0]
        if known != new:
            raise InputError(
                f"The id {new.id} occurs twice in {where}, with different files or labels "
                f"({known.path}, {new.path}); keep one."
            )
    return list(by_id.values())
