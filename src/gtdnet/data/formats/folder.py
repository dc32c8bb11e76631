"""Folders of classes: train/{class}/{clip}, val/{class}/{clip}; {class}/{clip} is training alone.

Clips lie at any depth below their class. The classes are sorted by name, from the train folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gtdnet.data.formats.base import (
    ALIASES,
    MAYBE,
    NewClip,
    Rows,
    VideoRecord,
    WritableFormat,
    register_format,
)
from gtdnet.data.formats.lookup import (
    dead_links,
    is_dead_folder,
    is_picture,
    is_shown,
    is_video,
    matching,
    read_first_line,
    split_folders,
    split_of,
    subfolders,
)
from gtdnet.errors import InputError
from gtdnet.files import walk
from gtdnet.text import counted, in_nfc

_TABLES = ("labels", *(name for names in ALIASES.values() for name in names))


@register_format
class Folder(WritableFormat):
    name = "folder"
    signs = "a folder per class with videos"
    is_whole = True

    def recognises(self, root: Path) -> float:
        if not root.is_dir():
            return False
        return MAYBE * (bool(split_folders(root)) or any(map(_has_clips, subfolders(root))))

    def objection(self, root: Path) -> str | None:
        if split_folders(root):
            return None
        tables = [p.name for suffix in (".csv", ".json") for p in matching(root, suffix, _TABLES)]
        if tables:
            csv = [p for p in matching(root, ".csv", _TABLES) if p.is_file()]
            begins = f" (which begins with {read_first_line(csv[0])!r:.60})" if csv else ""
            return (
                f"it has {', '.join(tables)}{begins}, and what belongs to it is missing: the table "
                f"of labels (as something-something-v1-labels.csv or labels.json), that of a split "
                f"(as train.csv or train.json), its column youtube_id, or of a table of clips the "
                f"columns path and label; add it"
            )
        classes = [folder for folder in subfolders(root) if _has_clips(folder)]
        if len(classes) == 1 and (
            classes[0].name.startswith("20bn-") or any(map(_has_clips, subfolders(classes[0])))
        ):
            return (
                f"all clips lie in {classes[0].name}, which would be the only class; add the "
                f"dataset's annotation files, or give {classes[0]} if its folders are the classes"
            )
        if nested := next((folder for folder in classes if split_folders(folder)), None):
            (split, (inside, *_)), *_ = split_folders(nested).items()
            if any(is_video(path.name) for path in inside.iterdir()):
                return (
                    f"{inside} is a split inside of a class; nest them the other way round, as "
                    f"{root / ALIASES[split][0] / nested.name}"
                )
            return f"{nested} has splits of its own; give the folder of one dataset"
        splits = {split: f.name for f in classes if (split := split_of(f.name))}
        if len(splits) > 1:
            return (
                f"{' and '.join(splits.values())} look like splits; name them "
                f"{' and '.join(ALIASES[split][0] for split in splits)}"
            )
        return None

    def nearly(self, root: Path) -> str | None:
        if not root.is_dir():
            return None
        if link := next(dead_links(root), None):
            return _dead(link)
        if loose := sum(is_video(path.name) for path in root.iterdir()):
            return (
                f"it holds {counted(loose, 'video')}, but no folders of classes; put each into the "
                f"folder of its class, as {root / 'CLASS' / 'clip.mp4'}"
            )
        return None

    def splits(self, root: Path) -> Iterable[str]:
        return split_folders(root) or ("train",)

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        if not root.is_dir():
            raise InputError(f"{root} is not a folder, which the format 'folder' needs.")
        folders = split_folders(root)
        if not folders and split == "train":
            folders = {"train": [root]}
        dead = [link for found in folders.values() for f in found for link in dead_links(f)]
        dead += [link for link in dead_links(root) if split_of(link.name)]
        if dead:
            raise InputError(f"A class or split is missing: {_dead(dead[0])}.")
        if split not in folders:
            names = ", ".join(sorted(f.name for found in folders.values() for f in found))
            raise InputError(
                f"{root} has no {split} split (it has {names or 'folders of classes'}); make a "
                f"folder {root / ALIASES[split][0]} with one folder per class in it."
            )
        for found in folders.values():
            if len(found) > 1:
                names = " and ".join(folder.name for folder in found)
                raise InputError(f"{root} has two folders for one split, {names}; keep one.")
        (mine,), (train,) = folders[split], folders.get("train", folders[split])
        classes = sorted({in_nfc(folder.name) for folder in subfolders(train)})
        if not classes:
            loose = sum(is_video(path.name) for path in train.iterdir())
            have = f"{loose} video(s) but no folders" if loose else "no folders"
            raise InputError(
                f"{train} has {have} of classes; put each video into the folder of its class, as "
                f"{train / 'CLASS' / 'clip.mp4'}, or list them in a .csv with the columns path and "
                f"label."
            )
        index = {name: number for number, name in enumerate(classes)}
        for folder in subfolders(mine):
            if in_nfc(folder.name) not in index:
                raise InputError(
                    f"The class {folder.name!r} in {mine} is not among the training classes in "
                    f"{train}; rename or move it."
                )

        def rows() -> Rows:
            for folder in subfolders(mine):
                for path in _clips(folder):
                    if path == folder:
                        raise InputError(
                            f"The class folder {folder} holds pictures itself; put the pictures of "
                            "each clip in a folder of their own."
                        )
                    clip = path.relative_to(mine)
                    clip = clip.with_suffix("") if is_video(path.name) else clip
                    label = index[in_nfc(folder.name)]
                    yield VideoRecord(clip.as_posix(), str(path), label), True

        return classes, rows()

    def clip_path(self, clip: NewClip) -> Path:
        return Path(ALIASES[clip.split][0], clip.class_name, f"{clip.number}.mp4")

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        return  # the folders say it all


def _dead(link: Path) -> str:
    return f"{link} is a link to nowhere ({link.readlink()}); mend or remove it"


def _has_clips(folder: Path) -> bool:
    try:
        return any(
            is_video(name) or is_picture(name)
            for _, _, files in _shown_below(folder)
            for name in files
        )
    except InputError:  # which reading will say
        return False


def _clips(root: Path) -> list[Path]:
    """Video files and folders of frames below a folder, sorted."""
    found: list[Path] = []
    for folder, folders, files in _shown_below(root):
        if any(is_picture(name) for name in files):
            found.append(folder)
            folders.clear()
        else:
            found += [
                folder / name
                for name in files  # where a folder of pictures is gone, reading says so
                if is_video(name) or is_dead_folder(folder / name)
            ]
    return sorted(found)


def _shown_below(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `walk`, without what is hidden."""
    for folder, folders, files in walk(root):
        folders[:] = filter(is_shown, folders)
        yield Path(folder), folders, [name for name in files if name[0] != "."]
