"""Small pictures of a clip's frames, as data URIs that a page carries inside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gtdnet.data.decode import read_frames
from gtdnet.data.formats import FORMATS, read_annotations
from gtdnet.data.pack.remote import is_remote
from gtdnet.data.sampling import Indices, Times, eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import resize_frames
from gtdnet.errors import InputError
from gtdnet.pages import jpeg_uri
from gtdnet.report.reading import mapping

MOST_FRAMES = 8
_SHORT_SIDE = 112  # pixels: sharp at the size at which eight stand side by side


class Picture(NamedTuple):
    """Frame ``number`` of a clip (the first is 0) as a JPEG data URI, and its size in pixels."""

    number: int
    uri: str
    width: int
    height: int


def find_clips(metrics: Mapping[str, Any], data: str | None, folder: Path) -> dict[str, str]:
    """Path of every clip, by id, of the dataset that an evaluation was made on.

    ``data`` is where the dataset is now, if it is not where metrics.json says. Without it a dataset
    is also found that has moved together with ``folder``, the evaluation's.

    Raises:
        ValueError: it is not there.
    """
    recorded, protocol = mapping(metrics, "data"), mapping(metrics, "protocol")
    path = data or recorded.get("path")
    if not isinstance(path, str) or not protocol:
        raise InputError("metrics.json does not say what data it was made on")
    if data is None and (path := _moved(path, folder)) is None:
        raise InputError(
            f"the dataset is no longer at {recorded['path']}; say where it is with --data"
        )
    format = recorded.get("format")
    annotations = read_annotations(
        path, str(protocol.get("split")), format if format in FORMATS else None
    )
    return {record.id: record.path for record in annotations.records}


def _moved(path: str, folder: Path) -> str | None:
    """Where a dataset is that was at ``path``: there, or at the same place seen from the folder.

    Of an absolute path at least the last two names must be the same.
    """
    if is_remote(path) or Path(path).exists():
        return path
    names = Path(path).parts
    tails = [names] if not Path(path).is_absolute() else []
    tails += [names[i:] for i in range(1, len(names) - 1)]
    for tail in tails:
        for above in folder.resolve().parents:
            if (there := above.joinpath(*tail)).exists():
                return str(there)
    return None


def clip_pictures(path: str, spec: ClipSpec) -> list[Picture]:
    """The frames that the model saw of a clip's first view, whole, at most ``MOST_FRAMES``.

    Of neighbouring frames that are taken together the middle one stands for all.

    Raises:
        DecodeError: the clip cannot be read.
    """
    numbers: list[int] = []

    def choose(num_frames: int, times: Times | None = None) -> Indices:
        chosen = _chosen(spec, num_frames, times)
        numbers[:] = chosen.tolist()
        return chosen

    frames, _ = read_frames(path, choose, by_time=spec.by_time)
    height, width = frames.shape[-2:]
    scale = _SHORT_SIDE / min(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = resize_frames(frames, size).permute(0, 2, 3, 1).contiguous().numpy()
    return [
        Picture(number, jpeg_uri(frame), size[1], size[0])
        for number, frame in zip(numbers, small, strict=True)
    ]


def _chosen(spec: ClipSpec, num_frames: int, times: Times | None) -> Indices:
    groups = eval_indices(spec, num_frames, times=times)[0].reshape(spec.num_segments, -1)  # [T, f]
    frames = groups[:, groups.shape[1] // 2]
    if len(frames) > MOST_FRAMES:
        frames = frames[np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(np.int64)]
    return frames
