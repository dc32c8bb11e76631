"""Finding and reading a dataset's files.

An annotation file is found by a word in its name: ``train.json`` and
``something-something-v2-train.json`` are alike. Folders are listed once, not asked for each clip.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from gtdnet.data.decode import NUMBERED_IMAGE, VIDEO_SUFFIXES
from gtdnet.data.formats.base import ALIASES, SPLITS, NewClip, Row, VideoRecord
from gtdnet.data.pack.remote import is_remote
from gtdnet.data.pack.shards import packed_clip
from gtdnet.errors import InputError
from gtdnet.files import walk, write_text
from gtdnet.text import in_nfc

# Suffixes of videos that are not read: check names the files.
OTHER_VIDEOS = frozenset(
    {".264", ".265", ".amv", ".apng", ".av1", ".braw", ".divx", ".dv", ".f4p", ".h264", ".h265"}
    | {".hevc", ".ivf", ".m1v", ".m2p", ".m2v", ".mjpeg", ".mjpg", ".mod", ".mp4v", ".mpe", ".mpv"}
    | {".mve", ".mxf", ".nut", ".ogg", ".ogm", ".ogx", ".ps", ".qt", ".r3d", ".rm", ".rmvb", ".swf"}
    | {".tod", ".tp", ".trp", ".vob", ".wtv", ".xvid", ".y4m", ".webp"}
)
_FILLERS = {"set", "split", "data", "dataset", "video", "videos", "clip", "clips", "frames"}
# What systems make beside files: macOS, Synology, Windows, Linux.
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
PLACES = ("", "labels", "annotations")  # folders of the root, in the order in which they count
HERE = ("",)  # where lists lie: in the root itself
_NAMES = ("classes", "category", "categories", "labels")
_FILE = re.compile(r"\.[a-z][a-z0-9]{1,4}")  # the suffix of a file, not of a class "v1.0"
_MANY = 1000  # classes that a list without names may have beyond ten a clip


def words_of(path: Path) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", path.stem.lower()))


def matching(
    root: Path, suffix: str, words: Sequence[str], places: Sequence[str] = PLACES
) -> list[Path]:
    """Files with one of the words in their name, of the first place that has any."""
    for place in places:
        if (root / place).is_dir():
            files = (p for p in (root / place).iterdir() if p.suffix.lower() == suffix)
            shown = (p for p in files if p.name[0] != "." and not words_of(p).isdisjoint(words))
            if found := sorted(p for p in shown if p.is_file()):
                return found
    return []


def find_file(
    root: Path, suffix: str, words: Sequence[str], places: Sequence[str] = PLACES
) -> Path | None:
    """The one file whose name has one of the words, or is just that word; InputError if several."""
    found = matching(root, suffix, words, places)
    if len(found) > 1:
        found = [path for path in found if path.stem.lower() in words] or found
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(
            f"{found[0].parent} has several files for one purpose ({names}); keep one."
        )
    return found[0] if found else None


def need_file(root: Path, suffix: str, words: Sequence[str], example: str) -> Path:
    """What `find_file` finds; InputError if there is none."""
    if found := find_file(root, suffix, words):
        return found
    there = sorted(p.name for place in PLACES for p in (root / place).glob(f"*{suffix}"))
    raise InputError(
        f"{root} has no {example} or the like (of {suffix} files it has "
        f"{', '.join(there[:6]) or 'none'}); add it, or ask for a split that is there."
    )


def split_files(
    root: Path, suffix: str, places: Sequence[str] = PLACES
) -> Mapping[str, Sequence[Path]]:
    """The files of each split that has any."""
    files = {split: matching(root, suffix, ALIASES[split], places) for split in SPLITS}
    return {split: found for split, found in files.items() if found}


def list_of(root: Path, split: str, suffix: str) -> Path | None:
    """The list of a split: the root itself, or the one beside it that differs in the split.

    A file without a split in its name is a training list, so that it can never serve two splits.
    """
    if not root.is_file():
        return find_file(root, suffix, ALIASES[split], HERE)
    words = words_of(root)
    own = next((s for s in SPLITS if not words.isdisjoint(ALIASES[s])), "train")
    if own == split:
        return root
    for other in matching(root.parent, suffix, ALIASES[split], HERE):
        if words_of(other) - set(ALIASES[split]) == words - set(ALIASES[own]):
            return other
    return None


def listed_classes(folder: Path) -> tuple[Path | None, list[str]]:
    """The file of class names beside a list, and the names in it; None and none without it."""
    file = find_file(folder, ".txt", _NAMES, HERE)
    return file, list(map(in_nfc, read_lines(file))) if file else []


def numbered_classes(labels: Sequence[int | None], train: Path) -> list[str]:
    """Names for classes that a training list knows by number alone: "class 0", "class 1", ..."""
    names_file, known = train.parent / "classes.txt", {n for n in labels if n is not None}
    if known and max(known) >= 10 * len(labels) + _MANY:
        raise InputError(
            f"{train} has {len(labels)} clips, but labels up to {max(known)}, far more than clips; "
            f"correct the labels, or name the classes in {names_file}."
        )
    if len(known) > 1 and known == set(range(1, len(known) + 1)):
        raise InputError(
            f"The labels in {train} count from 1, not from 0; subtract 1 from each, or name the "
            f"classes in {names_file}, that of label 0 first."
        )
    return [f"class {number}" for number in range(max(known, default=-1) + 1)]


def split_folders(root: Path) -> dict[str, list[Path]]:
    """The folders of each split that has any; upper and lower case are one."""
    folders = subfolders(root) if root.is_dir() else []
    there = {s: [f for f in folders if f.name.lower() in ALIASES[s]] for s in SPLITS}
    return {split: found for split, found in there.items() if found}


def split_of(name: str) -> str | None:
    """The split that a name says and nothing beside it: "train", "Val", "test_set", "train videos".

    A class may be called "training a dog".
    """
    words = words_of(Path(name)) - _FILLERS
    found = [s for s, aliases in ALIASES.items() if words and words.issubset(aliases)]
    return found[0] if found else None


def subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if is_shown(path.name) and path.is_dir())


def is_shown(name: str) -> bool:
    """Whether a folder may hold clips, by its name."""
    return name[0] != "." and name not in SYSTEM_FOLDERS


def is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def is_picture(name: str) -> bool:
    return NUMBERED_IMAGE.fullmatch(name) is not None


def is_other_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in OTHER_VIDEOS  # noqa: PTH122


def dead_links(folder: Path) -> Iterator[Path]:
    """Links to nowhere that folders were behind, going by their names."""
    for path in sorted(folder.iterdir()):
        if is_shown(path.name) and is_dead_folder(path):
            yield path


def is_dead_folder(path: Path) -> bool:
    """Whether it is a link to nowhere, and not called as a file is."""
    return not _FILE.fullmatch(path.suffix.lower()) and path.is_symlink() and not path.exists()


def stem_of(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]  # noqa: PTH119, PTH122


class ClipFolder:
    """The clips of one folder by stem: videos, and folders, which hold pictures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, str] = {}
        if folder.is_dir():
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if is_video(e.name) or e.is_dir())
            self._names = {stem_of(name) if is_video(name) else name: name for name in names}

    def row(self, clip: str, label: int | None, expected: str, stem: str = "") -> Row:
        """The record of a clip and whether it is there; ``expected`` is its name if it is not."""
        name = self._names.get(stem or clip)
        return VideoRecord(clip, str(self._folder / (name or expected)), label), name is not None


def videos_below(root: Path, skip: Sequence[Path]) -> Iterator[str]:
    for folder, folders, files in walk(root):
        folders[:] = [f for f in folders if is_shown(f) and Path(folder, f) not in skip]
        for name in files:
            if name[0] != "." and is_video(name):
                yield os.path.join(folder, name)  # noqa: PTH118  (hundreds of thousands of files)


class Listings:
    """Tells whether paths exist by listing each parent folder once, not by one call per path."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def hold(self, path: str) -> bool:
        if is_remote(path):
            return True  # unless reading it says otherwise
        if ".zip" in path:
            try:
                if packed_clip(Path(path)):
                    return True
            except (OSError, ValueError):
                return False
        parent, name = os.path.split(path)
        if parent not in self._names:
            try:
                self._names[parent] = frozenset(os.listdir(parent or "."))  # noqa: PTH208
            except (OSError, ValueError):  # ValueError: of a path that no system can have
                self._names[parent] = frozenset()
        return name in self._names[parent]


def label_of(
    name: str | None, index: Mapping[str, int], clip: str, table: Path, split: str
) -> int | None:
    """The index of a class name, which only test clips may lack."""
    if name is None:
        if split == "test":
            return None
        raise InputError(f"The clip {clip} in {table} has no label, which {split} clips need.")
    if (name := in_nfc(name)) not in index:
        raise InputError(f"The clip {clip} in {table} has an unknown label: {name!r:.80}.")
    return index[name]


def whole_number(text: str, where: object) -> int:
    """The number that decimal digits say; InputError if they say more than any table can mean."""
    if len(text) > 18:
        raise InputError(f"{where} has a number of {len(text)} digits, {text:.20}...; correct it.")
    return int(text)


_noted: ContextVar[list[Path] | None] = ContextVar("noted", default=None)


@contextmanager
def noting_files() -> Iterator[list[Path]]:
    """Yield a list that gets the annotation files read within it, each once, in their order."""
    token = _noted.set(noted := [])
    try:
        yield noted
    finally:
        _noted.reset(token)


def read_text(path: Path) -> str:
    if (noted := _noted.get()) is not None and path not in noted:
        noted.append(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The annotation file {path} can't be read: {error}.") from None


def read_first_line(path: Path) -> str:
    """What a table begins with, where its columns have names."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return re.split(r"[\r\n]", file.readline(1 << 16), maxsplit=1)[0]


def read_lines(path: Path, keep_blank: bool = False) -> list[str]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    return lines if keep_blank else [line for line in lines if line]


def read_json(path: Path) -> Any:
    """What a JSON file holds; InputError also for a key given twice, which JSON lets through."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, times in Counter(k for k, _ in pairs).items() if times > 1)
            raise InputError(f"{path} has the key {twice!r:.80} twice in one place; keep one.")
        return found

    def refuse(constant: str) -> None:
        raise InputError(f"{path} holds {constant}, which is no number of JSON; correct it.")

    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path} is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:  # also for numbers of thousands of digits
        raise InputError(f"{path} is not valid JSON: {error}.") from None


def by_split(clips: Sequence[NewClip]) -> dict[str, list[NewClip]]:
    """The clips of each split that has any, in the order of `SPLITS`."""
    found = {split: [clip for clip in clips if clip.split == split] for split in SPLITS}
    return {split: mine for split, mine in found.items() if mine}


def write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
