"""Folders of classes: train/{class}/{clip}, val/{class}/{clip}; {class}/{clip} is training alone.

Clips lie at any depth below their class. The classes are sorted by name, from the train folder.
"""

from __future__ import annotations

import os
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
from gtdnet.data.formats.lookup import is_picture, is_video, split_folders, subfolders
from gtdnet.errors import InputError


@register_format
class Folder(WritableFormat):
    name = "folder"
    signs = "a folder per class with videos"

    def recognises(self, root: Path) -> float:
        if not root.is_dir():
            return False
        return MAYBE * (bool(split_folders(root)) or any(map(_has_clips, subfolders(root))))

    def splits(self, root: Path) -> Iterable[str]:
        return split_folders(root) or ("train",)

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        if not root.is_dir():
            raise InputError(f"{root} is not a folder, which the format 'folder' needs.")
        folders = split_folders(root)
        if not folders and split == "train":
            folders = {"train": root}
        if split not in folders:
            names = ", ".join(sorted(folder.name for folder in folders.values()))
            raise InputError(
                f"{root} has no {split} split (it has {names or 'folders of classes'}); make a "
                f"folder {root / ALIASES[split][0]} with one folder per class in it."
            )
        mine = folders[split]
        classes = [folder.name for folder in subfolders(folders.get("train", mine))]
        index = {name: number for number, name in enumerate(classes)}
        for folder in subfolders(mine):
            if folder.name not in index:
                raise InputError(
                    f"The class {folder.name!r} in {mine} is not among the training classes in "
                    f"{folders['train']}; rename or move it."
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
                    yield VideoRecord(clip.as_posix(), str(path), index[folder.name]), True

        return classes, rows()

    def clip_path(self, clip: NewClip) -> Path:
        return Path(ALIASES[clip.split][0], clip.class_name, f"{clip.number}.mp4")

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        return  # the folders say it all


def _has_clips(folder: str | Path) -> bool:
    with os.scandir(folder) as entries:
        return any(
            is_video(e.name) or is_picture(e.name) or (e.is_dir() and _has_clips(e.path))
            for e in entries
            if e.name[0] != "."
        )


def _clips(folder: Path) -> Iterator[Path]:
    """Video files and folders of frames below a folder, sorted."""
    with os.scandir(folder) as scan:
        entries = sorted((e for e in scan if e.name[0] != "."), key=lambda entry: entry.name)
    if any(is_picture(entry.name) for entry in entries):
        yield folder
        return
    for entry in entries:
        if entry.is_dir():
            yield from _clips(Path(entry.path))
        elif is_video(entry.name):
            yield Path(entry.path)
