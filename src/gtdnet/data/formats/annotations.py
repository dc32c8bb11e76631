"""Annotations on disk -> `VideoRecord`: Something-Something V1 and V2, Kinetics, folders, lists.

Layouts, all below ``root``; ``val``, ``valid``, ``validate`` and ``validation`` are the same split:

    something-v2  20bn-something-something-v2/{id}.webm and labels.json, train.json, ...: plainly,
                  in labels/, or with the download's names (something-something-v2-train.json)
    something-v1  20bn-something-something-v1/{id}/00001.jpg, something-something-v1-train.csv, ...
    kinetics      train.csv, val.csv, ... and {youtube_id}_{start:06d}_{end:06d}.mp4 anywhere below,
                  though never in another split's folder
    folder        train/{class}/{clip}, val/{class}/{clip}, or {class}/{clip} for training alone
    list          train.txt, val.txt, ...: "path label" or "path num_frames label"; classes.txt

A clip is a video file or a folder of numbered pictures. What `gtdnet check` and `gtdnet pack`
write, a manifest and a packed dataset, are read as well. Splits never mix: no file of one is read
to serve another, except for the class names.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtdnet.data.decode import NUMBERED_IMAGE, VIDEO_SUFFIXES
from gtdnet.data.pack.index import is_packed, list_clips, read_index
from gtdnet.data.pack.shards import packed_clip
from gtdnet.errors import DecodeError, InputError

FORMATS = ("something-v1", "something-v2", "kinetics", "folder", "list")
SPLITS = ("train", "validation", "test")
MANIFEST_VERSION = 1

_ALIASES = {
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid", "validate"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class VideoRecord:
    """One annotated clip.

    ``id`` is unique within its split. ``path`` is a video file or a folder of frames. ``label``
    is an index into the class names, None where the annotation has none (test splits).
    """

    id: str
    path: str
    label: int | None


@dataclass(frozen=True)
class Annotations:
    """One split: ``records`` are there, ``missing`` are annotated but not on disk."""

    format: str
    split: str
    root: str
    class_names: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    missing: tuple[VideoRecord, ...]


def read_annotations(
    root: str | Path,
    split: str = "train",
    format: str | None = None,
    *,
    allow_missing: bool = False,
) -> Annotations:
    """Read one split of a dataset folder, a packed dataset, a list file or a manifest.

    Without ``format`` it is recognised from what is there. Raises InputError where an annotation
    is absent or contradicts itself, and where the split has no clips or none of them is there,
    unless ``allow_missing``.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
    format = _format(root, format)
    class_names, listed = _READERS[format](root, split)
    rows = _unique(listed, f"the {split} split of {root}")
    records = tuple(record for record, exists in rows if exists)
    missing = tuple(record for record, exists in rows if not exists)
    if not rows and not allow_missing:
        raise InputError(f"The {split} split of {root} ({format}) is empty; add clips to it.")
    if not records and not allow_missing:
        raise InputError(
            f"None of the {len(missing)} clips in the {split} split of {root} ({format}) is there, "
            f"the first being {missing[0].path}; put the videos there or check the path."
        )
    return Annotations(format, split, str(root), tuple(class_names), records, missing)


def detect_format(root: str | Path) -> str:
    """The one of `FORMATS`, "manifest" or "packed" that ``root`` follows.

    InputError if none or several.
    """
    root = Path(root)
    if root.is_file():
        formats = {".txt": "list", ".json": "manifest"}
        if root.suffix in formats:
            return formats[root.suffix]
        raise InputError(
            f"{root} is neither a dataset folder, nor a list (.txt), nor a manifest (.json)."
        )
    if not root.is_dir():
        raise InputError(f"The dataset {root} does not exist; check the path.")
    if is_packed(root):
        return "packed"
    places = _places(root)
    found = []
    if _find(places, ".json", ("labels",)) and _split_files(places, ".json"):
        found.append("something-v2")
    tables = _split_files(places, ".csv")
    if _find(places, ".csv", ("labels",)) and tables:
        found.append("something-v1")
    elif any("youtube_id" in _first_line(table) for table in tables):
        found.append("kinetics")
    if _split_files([root], ".txt"):
        found.append("list")
    if len(found) > 1:
        raise InputError(
            f"{root} looks like {' and '.join(found)} at once; say which it is with --format."
        )
    if found:
        return found[0]
    folders = _folders(root)
    if any(_split_folder(root, split) for split in SPLITS) or any(
        next(_clips(folder), None) for folder in folders
    ):
        return "folder"
    raise InputError(
        f"No dataset is recognised in {root}: it has neither Something-Something's labels "
        "(labels.json or *-labels.csv), nor Kinetics tables (train.csv with youtube_id), nor lists "
        "(train.txt), nor a folder per class with videos; check the path or give --format."
    )


def list_splits(root: str | Path, format: str | None = None) -> tuple[str, ...]:
    """The splits that have annotations, in the order of `SPLITS`."""
    root = Path(root)
    format = _format(root, format)
    if format == "manifest":
        manifest = _read_json(root)
        there = manifest.get("splits", ()) if isinstance(manifest, dict) else ()
        return tuple(split for split in SPLITS if split in there)
    if format == "packed":
        there = read_index(root)["splits"]
        return tuple(split for split in SPLITS if split in there)
    if format == "folder":
        found = tuple(split for split in SPLITS if _split_folder(root, split))
        return found or ("train",)
    if format == "list":
        folder, file = (root.parent, root) if root.is_file() else (root, None)
        return tuple(split for split in SPLITS if _list_of(folder, file, split))
    suffix = ".json" if format == "something-v2" else ".csv"
    return tuple(split for split in SPLITS if _matching(_places(root), suffix, _ALIASES[split]))


def _format(root: Path, format: str | None) -> str:
    """The given format, checked, or the one that is found."""
    if format is not None and format not in FORMATS:
        raise InputError(f"There is no format {format!r}; the formats are {', '.join(FORMATS)}.")
    if not root.exists():
        raise InputError(f"The dataset {root} does not exist; check the path.")
    if format is None or (root.is_file() and root.suffix == ".json") or is_packed(root):
        return detect_format(root)
    return format


Rows = Iterable[tuple[VideoRecord, bool]]
"""Records, each with whether its clip is on disk."""


def _something_v2(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    places = _places(root)
    labels_file = _need(places, ".json", ("labels",), "labels.json", root)
    labels = _read_json(labels_file)
    try:
        index = {_plain(template): int(number) for template, number in labels.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(f'{labels_file} does not hold {{"template": "index"}} pairs.') from None
    class_names = sorted(index, key=index.__getitem__)
    if [index[name] for name in class_names] != list(range(len(labels))):
        raise InputError(f"The indices in {labels_file} are not 0 to {len(labels) - 1}, each once.")
    table = _need(places, ".json", _ALIASES[split], f"{split}.json", root)
    files = _video_folder(root, "20bn-something-something-v2")

    def rows() -> Iterator[tuple[VideoRecord, bool]]:
        for item in _read_json(table):
            try:
                clip, template = str(item["id"]), item.get("template")
            except (AttributeError, KeyError, TypeError):
                raise InputError(f"{table} holds an entry without an id: {item!r:.80}.") from None
            label = _label(template and _plain(template), index, clip, table, split)
            path = files.get(clip)
            yield VideoRecord(clip, path or files.expected(f"{clip}.webm"), label), path is not None

    return class_names, rows()


def _something_v1(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    places = _places(root)
    labels_file = _need(places, ".csv", ("labels",), "something-something-v1-labels.csv", root)
    # TSM and those after it sort the names; the file's own order is another one.
    class_names = sorted({line.strip() for line in _read_lines(labels_file)})
    index = {name: number for number, name in enumerate(class_names)}
    table = _need(places, ".csv", _ALIASES[split], f"something-something-v1-{split}.csv", root)
    named = root / "20bn-something-something-v1"
    frames = named if named.is_dir() else root
    folders = _Listings()

    def rows() -> Iterator[tuple[VideoRecord, bool]]:
        for line in _read_lines(table):
            clip, _, template = (part.strip() for part in line.partition(";"))
            label = _label(template or None, index, clip, table, split)
            path = str(frames / clip)
            yield VideoRecord(clip, path, label), folders.hold(path)

    return class_names, rows()


def _kinetics(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    places = _places(root)
    table = _need(places, ".csv", _ALIASES[split], f"{split}.csv", root)
    names: set[str] = set()
    for labelled in ("train", "validation"):
        if file := _find(places, ".csv", _ALIASES[labelled]):
            names.update(row["label"] for row in _kinetics_table(file) if row.get("label"))
    index = {name: number for number, name in enumerate(sorted(names))}
    own = _split_folder(root, split)
    others = [folder for s in SPLITS if s != split and (folder := _split_folder(root, s))]
    files: dict[str, list[str]] = {}
    for path in _videos_below(root, skip=others):
        files.setdefault(_stem(path), []).append(path)

    def rows() -> Iterator[tuple[VideoRecord, bool]]:
        for row in _kinetics_table(table):
            try:
                start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            except ValueError:
                raise InputError(
                    f"{table} has a time that is not a number: {row!r:.120}."
                ) from None
            clip = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            name = row.get("label") or None
            paths = files.get(clip, [])
            path = (
                min(paths, key=lambda p: (_folder_name(p) != _underscored(name or ""), p))
                if paths
                else None
            )
            expected = str((own or root) / (name or "") / f"{clip}.mp4")
            label = _label(name, index, clip, table, split)
            yield VideoRecord(clip, path or expected, label), path is not None

    return sorted(names), rows()


def _folder(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder, which the format 'folder' needs.")
    folders = {s: folder for s in SPLITS if (folder := _split_folder(root, s))}
    if not folders and split == "train":
        folders = {"train": root}
    if split not in folders:
        there = (
            ", ".join(sorted(folder.name for folder in folders.values())) or "folders of classes"
        )
        raise InputError(
            f"{root} has no {split} split (it has {there}); make a folder "
            f"{root / _ALIASES[split][0]} with one folder per class in it."
        )
    mine = folders[split]
    classes = [folder.name for folder in _folders(folders.get("train", mine))]
    index = {name: number for number, name in enumerate(classes)}
    for folder in _folders(mine):
        if folder.name not in index:
            raise InputError(
                f"The class {folder.name!r} in {mine} is not among the training classes in "
                f"{folders['train']}; rename or move it."
            )

    def rows() -> Iterator[tuple[VideoRecord, bool]]:
        for folder in _folders(mine):
            for path in _clips(folder):
                if Path(path) == folder:
                    raise InputError(
                        f"The class folder {folder} holds pictures itself; put the pictures of "
                        "each clip in a folder of their own."
                    )
                clip = Path(path).relative_to(mine)
                is_video = clip.suffix.lower() in VIDEO_SUFFIXES
                clip_id = (clip.with_suffix("") if is_video else clip).as_posix()
                yield VideoRecord(clip_id, path, index[folder.name]), True

    return classes, rows()


def _list(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    folder, file = (root.parent, root) if root.is_file() else (root, None)
    table = _list_of(folder, file, split)
    if table is None:
        there = [path.name for path in _split_files([folder], ".txt")] or ["no list"]
        raise InputError(
            f"There is no list for the {split} split of {root} (there is {', '.join(there)}); "
            f"write {folder / _ALIASES[split][0]}.txt."
        )
    names_file = _find([folder], ".txt", ("classes", "category", "categories", "labels"))
    names = _read_lines(names_file) if names_file else []
    entries = list(_list_entries(table, names, split))
    if not names_file:
        train = _list_of(folder, file, "train") or table
        labels = [
            label for _, label, _ in _list_entries(train, names, "train") if label is not None
        ]
        names = [f"class {number}" for number in range(max(labels, default=-1) + 1)]
    folders = _Listings()

    def rows() -> Iterator[tuple[VideoRecord, bool]]:
        for name, label, where in entries:
            if label is not None and not 0 <= label < len(names):
                source = names_file or "the training list"
                raise InputError(
                    f"{where} has label {label}, but {source} knows {len(names)} classes."
                )
            path = folder / name
            is_video = path.suffix.lower() in VIDEO_SUFFIXES
            clip_id = (Path(name).with_suffix("") if is_video else Path(name)).as_posix()
            yield VideoRecord(clip_id, str(path), label), folders.hold(str(path))

    return names, rows()


def _list_of(folder: Path, file: Path | None, split: str) -> Path | None:
    """The list of a split: the named file itself, or the one beside it that differs in the split.

    A file without a split in its name is a training list, so that it can never serve two splits.
    """
    if file is None:
        return _find([folder], ".txt", _ALIASES[split])
    own = next((s for s in SPLITS if _has_word(file, _ALIASES[s])), "train")
    if own == split:
        return file
    rest = set(_words(file)) - set(_ALIASES[own])
    for other in _matching([folder], ".txt", _ALIASES[split]):
        if set(_words(other)) - set(_ALIASES[split]) == rest:
            return other
    return None


def _list_entries(
    table: Path, names: Sequence[str], split: str
) -> Iterator[tuple[str, int | None, str]]:
    """(path, label, "file, line n") of each line, taken from the right as paths may hold spaces.

    Whether the number before the label counts frames or ends the path is decided once a file, by
    which reading finds more of the first 100 paths on disk; if neither does, it counts frames.
    """
    number_of = {name: number for number, name in enumerate(names)}
    by_length = sorted(names, key=len, reverse=True)
    parsed: list[tuple[str, int | None, str]] = []
    for number, line in enumerate(_read_lines(table, keep_blank=True), 1):
        if not line:
            continue
        where = f"{table}, line {number},"
        path, _, last = line.rpartition(" ") if " " in line else line.rpartition("\t")
        if path and last.lstrip("-").isdigit():
            parsed.append((path.strip(), int(last), where))
        elif name := next((n for n in by_length if line.endswith((f" {n}", f"\t{n}"))), None):
            parsed.append((line[: -len(name)].strip(), number_of[name], where))
        elif split == "test":
            parsed.append((line, None, where))
        else:
            raise InputError(
                f'{where} is neither "path label" nor "path num_frames label": {line!r:.80}.'
            )
    counted = [path.rpartition(" ") for path, _, _ in parsed]
    if parsed and all(path and count.isdigit() for path, _, count in counted):
        folders = _Listings()
        plain = sum(folders.hold(str(table.parent / path)) for path, _, _ in parsed[:100])
        short = sum(folders.hold(str(table.parent / path)) for path, _, _ in counted[:100])
        if short >= plain:
            parsed = [
                (path.strip(), label, where)
                for (path, _, _), (_, label, where) in zip(counted, parsed, strict=True)
            ]
    yield from parsed


def _manifest(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    manifest = _read_json(root)
    if not isinstance(manifest, dict) or "gtdnet_manifest" not in manifest:
        raise InputError(f"{root} is not a manifest; write one with gtdnet check --manifest.")
    if manifest["gtdnet_manifest"] != MANIFEST_VERSION:
        raise InputError(
            f"{root} is a manifest of version {manifest['gtdnet_manifest']!r}, not "
            f"{MANIFEST_VERSION}; write it again with gtdnet check --manifest."
        )
    try:
        names, splits = manifest["class_names"], manifest["splits"]
        if split not in splits:
            there = ", ".join(splits) or "none"
            raise InputError(f"The manifest {root} has no {split} split (it has {there}).")
        folders = _Listings()
        rows = []
        for item in splits[split]:
            path = str(root.parent / item["path"])
            label = item["label"]
            if label is not None and not 0 <= label < len(names):
                raise InputError(f"The clip {item['id']} in {root} has no valid label: {label!r}.")
            rows.append((VideoRecord(item["id"], path, label), folders.hold(path)))
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"The manifest {root} is damaged; write it again.") from None
    return names, rows


def _packed(root: Path, split: str) -> tuple[Sequence[str], Rows]:
    class_names, rows = list_clips(root, read_index(root), split)
    return class_names, [(VideoRecord(id, path, label), there) for id, path, label, there in rows]


_READERS: dict[str, Callable[[Path, str], tuple[Sequence[str], Rows]]] = {
    "something-v1": _something_v1,
    "something-v2": _something_v2,
    "kinetics": _kinetics,
    "folder": _folder,
    "list": _list,
    "manifest": _manifest,
    "packed": _packed,
}


def _label(
    name: str | None, index: dict[str, int], clip: str, table: Path, split: str
) -> int | None:
    if name is None:
        if split == "test":
            return None
        raise InputError(f"The clip {clip} in {table} has no label, which {split} clips need.")
    if name not in index:
        raise InputError(f"The clip {clip} in {table} has an unknown label: {name!r}.")
    return index[name]


def _unique(rows: Rows, where: str) -> list[tuple[VideoRecord, bool]]:
    """Drop repetitions of a record; raise InputError for one id with two meanings."""
    by_id: dict[str, tuple[VideoRecord, bool]] = {}
    for record, exists in rows:
        known, _ = by_id.setdefault(record.id, (record, exists))
        if known != record:
            raise InputError(
                f"The id {record.id} occurs twice in {where}, with different files or labels "
                f"({known.path}, {record.path}); keep one."
            )
    return list(by_id.values())


# Finding files


def _places(root: Path) -> list[Path]:
    """Where a dataset's annotation files may lie."""
    return [root, root / "labels", root / "annotations"]


def _words(path: Path) -> list[str]:
    return re.split(r"[^a-z0-9]+", path.stem.lower())


def _has_word(path: Path, words: Sequence[str]) -> bool:
    return not set(words).isdisjoint(_words(path))


def _matching(places: Sequence[Path], suffix: str, words: Sequence[str]) -> list[Path]:
    """Files with one of the words in their name, of the first place that has any."""
    for place in places:
        if place.is_dir():
            files = (p for p in place.iterdir() if p.suffix.lower() == suffix and p.name[0] != ".")
            if found := sorted(p for p in files if _has_word(p, words) and p.is_file()):
                return found
    return []


def _find(places: Sequence[Path], suffix: str, words: Sequence[str]) -> Path | None:
    """The one file whose name has one of the words, or is just that word; InputError if several."""
    found = _matching(places, suffix, words)
    if len(found) > 1:
        found = [path for path in found if path.stem.lower() in words] or found
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(
            f"{found[0].parent} has several files for one purpose ({names}); keep one."
        )
    return found[0] if found else None


def _need(
    places: Sequence[Path], suffix: str, words: Sequence[str], example: str, root: Path
) -> Path:
    if found := _find(places, suffix, words):
        return found
    there = sorted(p.name for place in places if place.is_dir() for p in place.glob(f"*{suffix}"))
    raise InputError(
        f"{root} has no {example} or the like (of {suffix} files it has "
        f"{', '.join(there[:6]) or 'none'}); add it, or ask for a split that is there."
    )


def _split_files(places: Sequence[Path], suffix: str) -> list[Path]:
    return [file for s in SPLITS for file in _matching(places, suffix, _ALIASES[s])]


def _split_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in _ALIASES[split] if (root / name).is_dir()), None)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.name[0] != "." and path.is_dir())


def _clips(folder: Path) -> Iterator[str]:
    """Video files and folders of frames below a folder, sorted."""
    with os.scandir(folder) as scan:
        entries = sorted((e for e in scan if e.name[0] != "."), key=lambda entry: entry.name)
    if any(NUMBERED_IMAGE.fullmatch(entry.name) for entry in entries):
        yield str(folder)
        return
    for entry in entries:
        if entry.is_dir():
            yield from _clips(Path(entry.path))
        elif _suffix(entry.name) in VIDEO_SUFFIXES:
            yield entry.path


def _videos_below(root: Path, skip: Sequence[Path]) -> Iterator[str]:
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [f for f in folders if f[0] != "." and Path(folder, f) not in skip]
        for name in files:
            if name[0] != "." and _suffix(name) in VIDEO_SUFFIXES:
                yield os.path.join(folder, name)  # noqa: PTH118  (hundreds of thousands of files)


class _VideoFolder:
    """The videos of one folder by stem."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, str] = {}
        if folder.is_dir():
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if _suffix(e.name) in VIDEO_SUFFIXES)
            self._names = {_stem(name): name for name in names}

    def get(self, stem: str) -> str | None:
        return self.expected(self._names[stem]) if stem in self._names else None

    def expected(self, name: str) -> str:
        return str(self._folder / name)


def _video_folder(root: Path, name: str) -> _VideoFolder:
    """The folder of that name, ``videos``, the only one with videos in it, or ``root`` itself."""
    for folder in (root / name, root / "videos"):
        if folder.is_dir():
            return _VideoFolder(folder)
    holding = [
        f for f in _folders(root) if any(_suffix(p.name) in VIDEO_SUFFIXES for p in f.iterdir())
    ]
    if len(holding) > 1:
        names = ", ".join(folder.name for folder in holding)
        raise InputError(
            f"{root} has several folders of videos ({names}); name the right one {name}."
        )
    return _VideoFolder(holding[0] if holding else root)


class _Listings:
    """Tells whether paths exist by listing each parent folder once, not by one call per path."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def hold(self, path: str) -> bool:
        if ".zip" in path:
            try:
                if packed_clip(Path(path)):
                    return True
            except DecodeError:
                return False
        parent, name = os.path.split(path)
        if parent not in self._names:
            try:
                self._names[parent] = frozenset(os.listdir(parent or "."))  # noqa: PTH208
            except OSError:
                self._names[parent] = frozenset()
        return name in self._names[parent]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]  # noqa: PTH119, PTH122


def _folder_name(path: str) -> str:
    return _underscored(os.path.basename(os.path.dirname(path)))  # noqa: PTH119, PTH120


def _underscored(name: str) -> str:
    return name.replace(" ", "_")


# Reading files


def _plain(template: str) -> str:
    """ "Moving [something] up" -> "Moving something up"."""
    return template.replace("[", "").replace("]", "")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The annotation file {path} can't be read: {error}.") from None


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline()


def _read_lines(path: Path, keep_blank: bool = False) -> list[str]:
    lines = [line.strip() for line in _read_text(path).splitlines()]
    return lines if keep_blank else [line for line in lines if line]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from None


def _kinetics_table(path: Path) -> Iterator[dict[str, str]]:
    rows = csv.DictReader(_read_text(path).splitlines())
    lacking = {"youtube_id", "time_start", "time_end"} - set(rows.fieldnames or ())
    if lacking:
        raise InputError(f"{path} has no column {' and '.join(sorted(lacking))} in its first line.")
    for row in rows:
        if None in row.values():
            raise InputError(
                f"{path}, line {rows.line_num}, has fewer columns than the first line."
            )
        yield row
