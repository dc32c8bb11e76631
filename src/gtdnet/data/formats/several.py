"""Several packed datasets as one: NAME.packs, a text file with the path or URL of one a line.

Paths are relative to the file; what follows a # is a remark. A split has the clips of all that have
it, in the order of the lines. Classes are matched by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import Format, Row, Rows, register_format
from gtdnet.data.formats.packed import Packed
from gtdnet.data.labels import Label
from gtdnet.data.pack.index import is_packed, read_index
from gtdnet.data.pack.remote import is_remote
from gtdnet.errors import InputError
from gtdnet.places import is_url, local, shown
from gtdnet.text import first_of, in_nfc

_SUFFIX = ".packs"


@register_format
class Several(Format):
    name = "packs"
    signs = f"a {_SUFFIX} file"
    is_derived = True

    def recognises(self, root: Path) -> bool:
        return root.suffix == _SUFFIX and root.is_file()

    def splits(self, root: Path) -> Iterable[str]:
        return {split for pack in packs_of(root) for split in Packed().splits(pack)}

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        packs = packs_of(root)
        having = [pack for pack in packs if split in Packed().splits(pack)]
        if not having:
            raise InputError(f"None of the packed datasets in {root} has a {split} split.")
        # The order of the classes is the first one's in every split.
        first = packs[0]
        names = [in_nfc(name) for name in read_index(first)["class_names"]]
        rows: list[Row] = []
        for pack in having:
            its, clips = Packed().read(pack, split)
            its = [in_nfc(name) for name in its]
            if set(its) != set(names):
                raise InputError(_differing(root, first, names, pack, its))
            number = [names.index(name) for name in its]
            rows += ((replace(r, label=_moved(r.label, number)), there) for r, there in clips)
        return names, rows


def packs_of(root: Path | str) -> list[Path | str]:
    """The packed datasets that a .packs file names; of any other dataset itself.

    Raises:
        InputError: the file names none, or one twice, or what is no packed dataset.
    """
    if is_remote(root) or Path(root).suffix != _SUFFIX or not Path(root).is_file():
        return [root if is_remote(root) else Path(root)]
    root = Path(root)
    found: list[Path | str] = []
    for line in lookup.read_lines(root):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        here = local(word) if is_url(word) else Path(word)
        pack = word.rstrip("/") if here is None else root.parent / here
        if pack in found:
            raise InputError(f"{root} names {shown(word)} twice; keep one line.")
        if isinstance(pack, Path) and not is_packed(pack):
            raise InputError(f"{root} names {pack}, which is no packed dataset; check the path.")
        found.append(pack)
    if not found:
        raise InputError(f"{root} names no packed datasets; write the path or URL of one a line.")
    return found


def _moved(label: Label, number: Sequence[int]) -> Label:
    """A label by the numbers that its classes have in the whole."""
    if isinstance(label, tuple):
        return tuple(sorted(number[k] for k in label))
    return None if label is None else number[label]


def _differing(
    root: Path, first: Path | str, names: Sequence[str], other: Path | str, its: Sequence[str]
) -> str:
    only = [
        (first, [n for n in names if n not in its]),
        (other, [n for n in its if n not in names]),
    ]
    told = "; ".join(f"only {pack} has {first_of(some)}" for pack, some in only if some)
    return (
        f"The packed datasets in {root} have different classes: {first} has {first_of(names)}, "
        f"{other} has {first_of(its)} ({told}); list datasets of the same classes."
    )
