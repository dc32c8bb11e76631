"""From what a user types to videos: files, folders and patterns."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gtdnet.data.decode import NUMBERED_IMAGE, VIDEO_SUFFIXES
from gtdnet.data.pack.index import INDEX, find_clips
from gtdnet.errors import InputError
from gtdnet.files import walk
from gtdnet.places import is_url, shown


def find_videos(patterns: Sequence[str | Path]) -> list[Path]:
    """The videos that files, folders and patterns (``*``, ``?``, ``[ab]``, ``**``) name, once each.

    A file that is named counts whatever its suffix; in folders, at any depth, and in what a pattern
    finds, videos are known by their suffix, and a folder of numbered pictures is one video. Packed
    datasets, their shards and the folders and clips in them are like folders and videos. In the
    order of ``patterns``, for each of them sorted as people count: clip2 before clip10.

    Raises:
        ValueError: nothing is found for one of them, a folder cannot be listed, or a link leads
            back to a folder that it lies in.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        if is_url(str(pattern)):
            raise InputError(
                f"{shown(str(pattern))}: is a URL, and files here are asked for; gtdnet bulk takes "
                f"clips by URL, and --data packed datasets"
            )
        path = Path(pattern).expanduser()
        if packed := find_clips(path):
            videos = packed
        elif path.is_dir():
            videos = list(_videos_below(path))
        elif path.exists() or path.is_symlink():  # where a link leads nowhere, reading it says so
            videos = [path]
        else:
            # Path.glob takes no absolute patterns.
            matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
            videos = [v for m in matches for v in _videos_at(m)]
        if not videos:
            what = "holds no videos" if path.is_dir() else "is no file, folder or pattern of videos"
            raise InputError(f"{pattern} {what}; check the path")
        for video in sorted(videos, key=_natural):
            found.setdefault(video.resolve(), video)
    return list(found.values())


def _videos_at(path: Path) -> Iterable[Path]:
    packed = find_clips(path)
    if packed is None:
        return _videos_below(path) if path.is_dir() else _known(path)
    return packed


def _videos_below(root: Path) -> Iterator[Path]:
    for folder, folders, files in walk(root):
        if INDEX in files and (packed := find_clips(Path(folder))) is not None:
            folders.clear()
            yield from packed
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        videos = [v for name in files for v in _known(Path(folder, name))]
        if not videos and any(NUMBERED_IMAGE.fullmatch(name) for name in files):
            yield Path(folder)
        yield from videos


def _known(path: Path) -> list[Path]:
    is_video = path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    return [path] if is_video else []


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", str(path).lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
