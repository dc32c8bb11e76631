"""Several packed datasets as one: clips in the order of the list, classes by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from gtdnet.data.check import check_dataset
from gtdnet.data.decode import read_frames
from gtdnet.data.formats import detect_format, list_splits, read_annotations
from gtdnet.data.pack import PackOptions, pack
from gtdnet.data.pack.index import write_sums
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError
from gtdnet.files import sha256


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PARTS/a has train and validation, PARTS/b only train; of one dataset, half each."""
    root = tmp_path_factory.mktemp("parts")
    data = root / "data"
    write_dataset(data, format="list", edition="easy", train=24, validation=12, size=36, workers=1)
    lines = (data / "train.txt").read_text().splitlines(keepends=True)
    (data / "train.txt").write_text("".join(lines[:14]))
    pack(PackOptions(str(data), str(root / "a"), workers=1))
    (data / "train.txt").write_text("".join(lines[14:]))
    (data / "val.txt").unlink()
    pack(PackOptions(str(data), str(root / "b"), workers=1))
    (data / "train.txt").write_text("".join(lines))
    return root


def listed(folder: Path, *lines: object) -> Path:
    path = folder / "all.packs"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def renamed(pack: Path, to: Path, names: list[str]) -> Path:
    """A copy of a packed dataset with its class names in this order, its labels following."""
    shutil.copytree(pack, to)
    index = json.loads((to / "pack.json").read_text())
    before, index["class_names"] = index["class_names"], names
    for split in index["splits"].values():
        for clip in split["clips"]:
            name = before[clip["label"]]
            clip["label"] = names.index(name) if name in names else 0
    (to / "pack.json").write_text(json.dumps(index))
    write_sums(to, {f.name: sha256(f) for f in to.iterdir() if f.name != "SHA256SUMS"})
    return to


def test_clips_of_all_in_the_order_of_the_list(parts: Path, tmp_path: Path) -> None:
    path = listed(tmp_path, "# two halves", "", parts / "a  # the first", parts / "b")
    assert detect_format(path) == "packs"
    assert list_splits(path) == ("train", "validation")
    whole = read_annotations(path, "train")
    a, b = (read_annotations(parts / name, "train") for name in "ab")
    assert whole.records == (*a.records, *b.records)
    assert whole.class_names == a.class_names == b.class_names
    original = read_annotations(parts / "data", "train")
    assert [(r.id, r.label) for r in whole.records] == [(r.id, r.label) for r in original.records]
    assert read_annotations(path, "validation").records == (
        read_annotations(parts / "a", "validation").records
    )
    with pytest.raises(InputError, match=r"None of the packed datasets in .* has a test split"):
        read_annotations(path, "test")


def test_a_part_may_lie_elsewhere(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("GTDNET_CACHE", str(tmp_path / "cache"))
    for file in (parts / "b").iterdir():
        fsspec.filesystem("memory").pipe_file(f"/parts/b/{file.name}", file.read_bytes())
    whole = read_annotations(listed(tmp_path, parts / "a", "memory://parts/b/"), "train")
    plain = read_annotations(listed(tmp_path, parts / "a", parts / "b"), "train")
    assert [(r.id, r.label) for r in whole.records] == [(r.id, r.label) for r in plain.records]
    first, last = whole.records[0].path, whole.records[-1].path
    assert first.startswith(str(parts / "a")) and last.startswith(
        "memory://parts/b/clips-00000.zip/"
    )
    for mine, its in zip(whole.records[12:16], plain.records[12:16], strict=True):
        frames = [read_frames(r.path, lambda n: np.arange(3))[0] for r in (mine, its)]
        assert frames[0].equal(frames[1])


def test_paths_are_relative_to_the_list(parts: Path) -> None:
    path = listed(parts, "b", "a")
    records = read_annotations(path, "train").records
    assert len(read_frames(records[-1].path, lambda n: np.arange(3))[0]) == 3
    report = check_dataset(path, workers=0)
    assert report.ok and len(report.facts) == 36


def test_classes_are_matched_by_name(parts: Path, tmp_path: Path) -> None:
    names = list(read_annotations(parts / "b", "train").class_names)
    other = renamed(parts / "b", tmp_path / "other", names[::-1])
    whole = read_annotations(listed(tmp_path, parts / "a", other), "train")
    plain = read_annotations(listed(tmp_path, parts / "a", parts / "b"), "train")
    assert whole.class_names == plain.class_names == tuple(names)
    assert [r.label for r in whole.records] == [r.label for r in plain.records]


def test_different_classes_are_refused_with_both_shown(parts: Path, tmp_path: Path) -> None:
    names = list(read_annotations(parts / "b", "train").class_names)
    other = renamed(parts / "b", tmp_path / "other", [*names[:-1], "juggling"])
    told = re.escape(f"only {parts / 'a'} has {names[-1]}; only {other} has juggling")
    with pytest.raises(InputError, match=f"different classes: .*{told}"):
        read_annotations(listed(tmp_path, parts / "a", other), "train")


def test_what_such_a_list_cannot_be(parts: Path, tmp_path: Path) -> None:
    for lines, reason in {
        (): "names no packed datasets",
        ("# none",): "names no packed datasets",
        (parts / "a", parts / "a"): "a twice; keep one line",
        (parts / "data",): "data, which is no packed dataset",
        (tmp_path / "absent",): "absent, which is no packed dataset",
    }.items():
        with pytest.raises(InputError, match=reason):
            read_annotations(listed(tmp_path, *lines), "train")
    with pytest.raises(InputError, match="occurs twice"):  # the same clips in two packs
        copy = shutil.copytree(parts / "a", tmp_path / "copy")
        read_annotations(listed(tmp_path, parts / "a", copy), "train")
