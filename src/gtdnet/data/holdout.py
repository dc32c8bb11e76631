"""Holding clips out for validation: by share or by name, never a part of a group.

What is chosen depends on the ids, labels and groups of the annotated clips and on the seed; not on
their order, on the machine, or on which of them are on disk.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from gtdnet.data.formats import Annotations, VideoRecord
from gtdnet.data.formats.held_out import HeldOut
from gtdnet.errors import InputError
from gtdnet.text import counted, first_of

GROUP = "group"
"""The column of a table that groups its clips where nothing else is said."""

_NONE = -1  # what multi-label clips of none of the classes count as
_ROUNDS = 20  # of going through all groups; two or three are enough for most datasets


def hold_out(
    train: Annotations,
    *,
    share: float | None = None,
    names: Sequence[str] = (),
    group: str | None = None,
    seed: int = 0,
) -> HeldOut:
    """Choose validation clips: about a share of those of each class, or the groups of these names.

    ``group`` is a column of the dataset's table, or a regular expression that finds the group in a
    clip's id (its first bracketed part, where it has one); by default the column "group", where
    there is one, else each clip is a group of its own.

    Raises:
        ValueError: groups that are not told, names that are none, or nothing left on a side.
    """
    clips = (*train.records, *train.missing)
    by, group_of = _groups(clips, group, train.root)
    members: defaultdict[str, list[VideoRecord]] = defaultdict(list)
    for clip, name in zip(clips, group_of, strict=True):
        members[name].append(clip)
    if len(members) < 2:
        raise InputError(
            f"{train.root}: there is one group alone by {by}, {next(iter(members))!r:.80}, so that "
            f"nothing can be held out; give another --group, or none"
        )
    if names:
        chosen = _named(names, members, by, train.root)
    else:
        chosen = _share_of(members, share or 0.0, seed)
    if not chosen:
        raise InputError(
            f"{train.root}: every {'group' if by else 'clip'} is the only one of some class, so "
            f"that none can be held out and its class still be learned; add clips, or give another "
            f"--group"
        )
    how = {"val": share, "val_groups": list(names), "group": by, "val_seed": seed}
    ids = sorted(clip.id for name in chosen for clip in members[name])
    how |= {"groups": len(members), "groups_held_out": len(chosen)}
    return HeldOut(train.root, train.format, tuple(ids), how)


def describe(held_out: HeldOut, train: Annotations, validation: Annotations) -> str:
    """In a line: clips and groups of both sides, and classes that a side is without."""
    clips = [len(part.records) for part in (train, validation)]
    how = held_out.chosen
    line = (
        f"held out for validation: {clips[1]} of {counted(sum(clips), 'clip')} "
        f"({100 * clips[1] / max(1, sum(clips)):.1f} %)"
    )
    if how.get("group"):
        line += f", {how['groups_held_out']} of {how['groups']} groups by {how['group']}"
    line += "" if how.get("val_groups") else f", seed {how.get('val_seed')}"
    for part, what in ((validation, "validation"), (train, "training")):
        there = {label for r in part.records for label in r.classes}
        if absent := [n for k, n in enumerate(part.class_names) if k not in there]:
            line += f"; no {what} clips of {counted(len(absent), 'class', 'classes')} "
            line += f"({first_of(absent)})"
    return line


def _groups(
    clips: Sequence[VideoRecord], group: str | None, root: str
) -> tuple[str | None, list[str]]:
    """What groups the clips, and the group of each."""
    columns = list(clips[0].columns) if clips else []
    if group is None and GROUP not in columns:
        return None, [unicodedata.normalize("NFC", clip.id) for clip in clips]
    by = group or GROUP
    if by in columns:
        if empty := next((clip for clip in clips if not clip.columns.get(by)), None):
            raise InputError(f"{root}: the clip {empty.id} has nothing in the column {by}; fill it")
        return by, [clip.columns[by] for clip in clips]
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise InputError(f"--group {by!r} is no regular expression: {error}") from None
    found = [pattern.search(unicodedata.normalize("NFC", clip.id)) for clip in clips]
    if None in found:
        there = f"none of the columns ({', '.join(columns)}), and " if columns else ""
        without = clips[found.index(None)].id
        raise InputError(
            f"{root}: --group {by!r} is {there}not found in the clip {without}; give a column of a "
            f"table, or a regular expression that finds the group in the path of each clip"
        )
    matches = [match for match in found if match]
    return by, [next(filter(None, m.groups()), None) or m.group() for m in matches]


def _named(
    names: Sequence[str], members: Mapping[str, object], by: str | None, root: str
) -> list[str]:
    if by is None:
        raise InputError("--val-groups needs --group: a column, or a regular expression on paths")
    if unknown := [name for name in names if name not in members]:
        raise InputError(
            f"{root}: there is no group {unknown[0]!r} by {by}; the groups are "
            f"{first_of(sorted(members), 10)}"
        )
    if len(set(names)) == len(members):
        raise InputError(f"{root}: --val-groups names all groups, so that none is left to train on")
    return sorted(set(names))


def _share_of(
    members: Mapping[str, Sequence[VideoRecord]], share: float, seed: int
) -> Sequence[str]:
    """Groups that together have about a share of every class.

    Groups change sides, in an order drawn from the seed, as long as that brings the classes' shares
    nearer to the one that is wanted (in squares, every class alike; multi-label clips of none are
    as one more). A class without a validation clip counts as wholly missed; no class loses its last
    training clip.
    """
    of = {
        name: Counter(label for clip in clips for label in clip.classes or (_NONE,))
        for name, clips in members.items()
    }
    total = sum(of.values(), Counter())
    order = sorted(of, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).digest())
    held: Counter[int] = Counter()
    chosen: set[str] = set()

    def miss(label: int, clips: int) -> float:
        return (clips / total[label] - share) ** 2 if clips else 1.0

    def gain(name: str) -> float:
        """How much nearer the shares come if the group changes sides."""
        sign, better = (-1 if name in chosen else 1), 0.0
        for label, clips in of[name].items():
            after = held[label] + sign * clips
            if after == total[label]:
                return -1.0
            better += miss(label, held[label]) - miss(label, after)
        return better

    def change(name: str) -> None:
        held.update(of[name]) if name not in chosen else held.subtract(of[name])
        chosen.symmetric_difference_update((name,))

    for _ in range(_ROUNDS):
        changed = False
        for name in order:
            if gain(name) > 1e-12:
                change(name)
                changed = True
        if not changed:
            break
    return sorted(chosen)
