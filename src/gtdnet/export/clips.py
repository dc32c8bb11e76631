"""Real clips to check and to calibrate with: the user's, or the built-in dataset's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gtdnet.data.dataset import EvalClips, Failure
from gtdnet.data.formats import Annotations, VideoRecord
from gtdnet.data.labels import Label
from gtdnet.data.sampling import eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import EDITIONS, FPS, render_clip
from gtdnet.data.transforms import eval_views
from gtdnet.errors import InputError
from gtdnet.infer.find import find_videos
from gtdnet.text import progress_bar, say

EDITION = "easy"
"""Of the built-in dataset."""

CHECKED = 32
"""Clips of the user's to compare on, at most."""


def clips_to_compare(
    folder: str | None, annotations: Annotations | None, data: str | None, spec: ClipSpec
) -> tuple[Tensor, str]:
    """The clips to compare on, uint8 [N, T*f, 3, crop, crop], and what they are.

    Those of a folder (or file) of videos go before ``annotations``, the validation split of the
    dataset at ``data``, and that before built-in clips. InputError if none can be decoded.
    """
    if folder:
        records = [VideoRecord(str(p), str(p), None) for p in find_videos([folder])]
        return read_clips(spaced(records, CHECKED), spec, "clips"), folder
    if annotations:
        records = spaced(annotations.records, CHECKED)
        return read_clips(records, spec, "clips"), f"the validation split of {data}"
    return built_in_clips(spec), f"the built-in {EDITION} edition"


def read_clips(records: Sequence[VideoRecord], spec: ClipSpec, what: str) -> Tensor:
    """The centre view of one clip of each record: uint8 [N, T*f, 3, crop, crop].

    Those that cannot be decoded are named and left out; InputError if that is all of them.
    """
    views, failures = [], []
    dataset = EvalClips(records, spec)
    with progress_bar(f"reading {what}", len(records)) as advance:
        for index in range(len(records)):
            sample = dataset[index]
            if isinstance(sample, Failure):
                failures.append(sample)
                say(f"left out: {sample.path}: {sample.reason}")
            else:
                views.append(sample.views[0])
            advance(1)
    if not views:
        first = failures[0]
        raise InputError(f"none of the {len(records)} clips can be read, such as {first.path}")
    return torch.stack(views)


def built_in_clips(spec: ClipSpec) -> Tensor:
    """A clip of each class of the built-in dataset: uint8 [N, T*f, 3, crop, crop]."""
    clips = []
    for label in range(len(EDITIONS[EDITION].class_names)):
        frames = torch.from_numpy(render_clip(EDITION, label, 0, 0)).permute(0, 3, 1, 2)
        times = np.arange(len(frames) + 1) / FPS
        indices = eval_indices(spec, len(frames), 1, times).reshape(-1)
        clips.append(eval_views(frames[torch.from_numpy(indices)], spec)[0])
    return torch.stack(clips)


def at_least(clips: Tensor, count: int) -> Tensor:
    """The clips [N, T*f, 3, H, W], made up to ``count`` by variants of them where they are fewer.

    Repeated clips would hide a graph that confuses the clips of a batch, so the variants differ
    from their clips even in the eyes of networks that know no order of frames.
    """
    changes = (lambda c: c // 2 + 64, lambda c: c.flip(-1), lambda c: c.roll(c.shape[-1] // 3, -1))
    added = range(max(0, count - len(clips)))
    variants = [changes[i % len(changes)](clips[i % len(clips)]) for i in added]
    return torch.cat([clips, *(variant[None] for variant in variants)])


def spaced(records: Sequence[VideoRecord], count: int) -> list[VideoRecord]:
    """At most ``count`` of the records, evenly spaced."""
    chosen = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int)
    return [records[i] for i in chosen]


def balanced(records: Sequence[VideoRecord], count: int, seed: int) -> list[VideoRecord]:
    """At most ``count`` records, of every label as many as there are or as of any other.

    A pure function of its arguments; in the order of the records.
    """
    rng = np.random.default_rng(seed)
    of_class: dict[Label, list[int]] = {}
    for i in rng.permutation(len(records)).tolist():
        of_class.setdefault(records[i].label, []).append(i)
    rounds = ((turn, i) for indices in of_class.values() for turn, i in enumerate(indices))
    order = [i for _, i in sorted(rounds, key=lambda pair: pair[0])]  # one of each, then a second
    return [records[i] for i in sorted(order[:count])]
