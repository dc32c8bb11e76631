"""What a model's classifier sees of videos, and the file that it is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.engines.base import missing
from gtdnet.errors import InputError
from gtdnet.files import atomic_path
from gtdnet.infer.ahead import Scored

SUFFIXES = (".npz", ".parquet")


class Features(NamedTuple):
    """What the classifier sees of a video or window, its test crops averaged; float32, seconds.

    Attributes:
        clip: the mean over all its frames, [C].
        frames: of each sampled frame, [num_clips * T, C].
        times: when these are shown, [num_clips * T]; NaN where the video does not say.
        start, end: of what was looked at.
    """

    clip: NDArray[np.float32]
    frames: NDArray[np.float32]
    times: NDArray[np.float64]
    start: float
    end: float


def features_of(scored: Scored, crops: int) -> Features:
    """The features of one window, whose views are clips x crops."""
    if scored.features is None:
        raise ValueError("no features were asked for")
    frames = scored.features.unflatten(0, (-1, crops)).mean(dim=1).flatten(0, 1)
    clip, times = frames.mean(dim=0).numpy(), scored.clips.times.reshape(-1)
    return Features(clip, frames.numpy(), times, scored.clips.start, scored.clips.end)


def check_features_file(path: str | None) -> None:
    """Raise InputError for a name that features cannot be written to here."""
    if path is None:
        return
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"--features {path}: give a file in {' or '.join(SUFFIXES)}")
    if suffix == ".parquet" and (reason := missing("pyarrow", extra="gtdnet[parquet]")):
        raise InputError(f"--features {path}: {reason}; or give a .npz file")


def save_features(path: str | Path, names: list[str], rows: list[Features]) -> None:
    """Write rows and the names of their videos, atomically.

    ``.npz`` has the arrays names [N], starts [N], ends [N], clips [N, C], frames [N, F, C] and
    times [N, F]; ``.parquet`` a row of name, start, end, clip, frames, times for each.
    """
    with atomic_path(path) as temporary:
        if temporary.suffix.lower() == ".parquet":
            import pyarrow  # pyright: ignore[reportMissingImports]
            import pyarrow.parquet  # pyright: ignore[reportMissingImports]

            numbers, real = pyarrow.list_(pyarrow.float32()), pyarrow.float64()
            columns = {
                "name": (pyarrow.string(), [printable_path(name) for name in names]),
                "start": (real, [row.start for row in rows]),
                "end": (real, [row.end for row in rows]),
                "clip": (numbers, [row.clip for row in rows]),
                "frames": (pyarrow.list_(numbers), [list(row.frames) for row in rows]),
                "times": (pyarrow.list_(real), [row.times for row in rows]),
            }
            table = {k: pyarrow.array(values, kind) for k, (kind, values) in columns.items()}
            pyarrow.parquet.write_table(pyarrow.table(table), temporary)
            return
        np.savez(
            temporary,
            names=np.array(names, np.str_),
            starts=np.array([row.start for row in rows], np.float64),
            ends=np.array([row.end for row in rows], np.float64),
            clips=_stacked([row.clip for row in rows]),
            frames=_stacked([row.frames for row in rows]),
            times=_stacked([row.times for row in rows]),
        )


def printable_path(name: str) -> str:
    """Of a path that is not UTF-8 the bytes are spelled \\udc80 to \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _stacked(rows: list[NDArray]) -> NDArray:
    return np.stack(rows) if rows else np.empty((0,), np.float32)
