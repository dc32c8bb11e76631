"""Something-Something V2: 20bn-something-something-v2/{id}.webm, labels.json, train.json, ...

The tables' names may be those of the download (something-something-v2-train.json). The class order
is in the labels file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import ALIASES, NewClip, Rows, WritableFormat, register_format
from gtdnet.errors import InputError
from gtdnet.files import write_text
from gtdnet.text import in_nfc

_VIDEOS = "20bn-something-something-v2"


@register_format
class SomethingV2(WritableFormat):
    name = "something-v2"
    signs = "labels.json"

    def recognises(self, root: Path) -> bool:
        is_labelled = lookup.find_file(root, ".json", ("labels",)) is not None
        return is_labelled and bool(self.splits(root))

    def splits(self, root: Path) -> Iterable[str]:
        return lookup.split_files(root, ".json")

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        labels_file = lookup.need_file(root, ".json", ("labels",), "labels.json")
        labels = lookup.read_json(labels_file)
        if not isinstance(labels, dict) or not all(map(_is_number, labels.values())):
            raise InputError(f'{labels_file} does not hold {{"template": "index"}} pairs.')
        index = {_plain(template): int(number) for template, number in labels.items()}
        class_names = sorted(index, key=index.__getitem__)
        if [index[name] for name in class_names] != list(range(len(labels))):
            raise InputError(
                f"The indices in {labels_file} are not 0 to {len(labels) - 1}, each once."
            )
        table = lookup.need_file(root, ".json", ALIASES[split], f"{split}.json")
        videos = lookup.ClipFolder(_video_folder(root))

        def rows() -> Rows:
            items = lookup.read_json(table)
            if not isinstance(items, list):
                raise InputError(f"{table} does not hold a list of clips.")
            for item in items:
                known = item if isinstance(item, dict) else {}
                clip, template = known.get("id"), known.get("template")
                if not isinstance(clip, str | int) or isinstance(clip, bool):
                    raise InputError(f"{table} holds an entry without an id: {item!r:.80}.")
                if not isinstance(template, str | None):
                    raise InputError(f"{table} holds a template that is no text: {item!r:.80}.")
                clip, name = str(clip), _plain(template) if template else None
                label = lookup.label_of(name, index, clip, table, split)
                yield videos.row(clip, label, f"{clip}.webm")

        return class_names, rows()

    def clip_path(self, clip: NewClip) -> Path:
        return Path(_VIDEOS, f"{clip.number}.webm")

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        tables: dict[str, Any] = {"labels": {name: str(i) for i, name in enumerate(names)}}
        tables |= {s: [_item(c) for c in mine] for s, mine in lookup.by_split(clips).items()}
        for name, content in tables.items():
            write_text(root / f"labels/{name}.json", json.dumps(content, indent=1) + "\n")


def _is_number(value: object) -> bool:
    """0 or "0"."""
    is_text = isinstance(value, str) and re.fullmatch(r"\d{1,9}", value)
    return bool(is_text) or type(value) is int


def _plain(template: str) -> str:
    """ "Moving [something] up" -> "Moving something up"."""
    return in_nfc(template.replace("[", "").replace("]", ""))


def _video_folder(root: Path) -> Path:
    """The folder of that name, ``videos``, the only one with videos in it, or ``root`` itself."""
    for folder in (root / _VIDEOS, root / "videos"):
        if folder.is_dir():
            return folder
    folders = lookup.subfolders(root)
    holding = [f for f in folders if any(lookup.is_video(p.name) for p in f.iterdir())]
    if len(holding) > 1:
        names = ", ".join(folder.name for folder in holding)
        raise InputError(
            f"{root} has several folders of videos ({names}); name the right one {_VIDEOS}."
        )
    return holding[0] if holding else root


def _item(clip: NewClip) -> dict[str, Any]:
    if clip.split == "test":  # as in the real dataset, without a label
        return {"id": str(clip.number)}
    label = clip.template.replace("[Something]", "[something]")
    for placeholder in clip.placeholders:
        label = label.replace("[something]", placeholder, 1)
    return {
        "id": str(clip.number),
        "label": label,
        "template": clip.template,
        "placeholders": list(clip.placeholders),
    }
