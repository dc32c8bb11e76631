"""Tables and folders of clips, row by row; ids that are unique."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gtdnet.bulk import ids
from gtdnet.bulk.listing import Block, Row, open_listing
from gtdnet.errors import InputError

pyarrow = pytest.importorskip("pyarrow", reason="bulk writes Parquet: gtdnet[parquet]")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv(tmp_path: Path) -> None:
    table = write(tmp_path / "clips.csv", '﻿Path,label\na.mp4,x\n\n"b, c.mp4",y\n/d.mp4,z\n')
    assert list(open_listing(str(table)).rows()) == [
        Row("a.mp4", f"{tmp_path}/a.mp4"),
        Row("b, c.mp4", f"{tmp_path}/b, c.mp4"),
        Row("/d.mp4", "/d.mp4"),
    ]
    other = write(tmp_path / "clips.tsv", "id\tpath\n7\thttps://me:word@host/a.mp4?sign=1\n")
    assert list(open_listing(str(other)).rows()) == [Row("7", "https://me:word@host/a.mp4?sign=1")]


def test_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"n": [1, 2], "id": [10, 11], "path": ["a.mp4", "s3://bucket/b.mp4"]})
    parquet.write_table(table, tmp_path / "clips.parquet")
    assert list(open_listing(str(tmp_path / "clips.parquet")).rows()) == [
        Row("10", f"{tmp_path}/a.mp4"),
        Row("11", "s3://bucket/b.mp4"),
    ]


def test_names_and_passwords_are_no_ids(tmp_path: Path) -> None:
    table = write(tmp_path / "clips.csv", "path\nhttps://me:word@host/a.mp4?sign=1\n")
    assert [row.id for row in open_listing(str(table)).rows()] == ["https://host/a.mp4"]


def test_blocks(tmp_path: Path) -> None:
    table = write(tmp_path / "clips.csv", "path\n" + "".join(f"/{n}\n" for n in range(7)))
    listing = open_listing(str(table))
    assert [block.number for block in listing.blocks(3)] == [0, 1, 2]
    assert list(listing.blocks(3, {0, 1})) == [Block(2, (Row("/6", "/6"),))]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "video,label\nx,y\n", "has no column path; its columns are 'video', 'label'"),
        ("a.csv", "path,id\nx.mp4,\n", "row 1 has no id; give it one"),
        ("a.csv", "path,id\n,x\n", "row 1 has no path; give it one"),
        ("a.csv", "path,id\nx.mp4,1\ny, z.mp4,2\n", "row 2 has 3 cells, but the first line 2"),
        ("a.csv", "path\n", "lists no clips; check it"),
        ("a.csv", "", "has no column path; its columns are none"),
        ("a.csv", "path\na\nb\na\n", "rows 1 and 3 have the same id 'a'; ids must be unique"),
        ("a.csv", "path,id\na,1\nb,2\nc,2\n", "rows 2 and 3 have the same id '2'"),
        ("a.parquet", "PAR1 no", "is no Parquet file that can be read"),
        ("a.txt", "x.mp4\n", r"give a table \(.parquet, .csv, .tsv\) with a column path"),
    ],
)
def test_what_is_no_listing(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_listing(str(write(tmp_path / name, text))).survey()


def test_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path\n\xff.mp4\n")
    with pytest.raises(InputError, match="is no UTF-8 table"):
        open_listing(str(tmp_path / "a.csv")).survey()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("none.csv", "no such file or folder"),
        ("python::https://host/a.csv", "give a path, or a URL of"),
        ("ssh://me:secret@host/a.csv", r"ssh://host/a.csv: give a path, or a URL of"),
    ],
)
def test_no_such_place(place: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        open_listing(place).survey()
    assert "secret" not in str(told.value)


def test_repeated_ids_are_found_in_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_AT_ONCE", 10)
    with ids.unique_ids() as found:
        for number in range(95):
            found.add(str(number))
        assert found.repeated() is None
        found.add("41")
        assert found.repeated() == ids.digest("41")


# Reads a listing of as many rows and prints by how many MiB the memory grew at most.
MEASURE = """
import sys
from gtdnet.bulk.listing import open_listing
from gtdnet.measure.memory import process_mib, reset_peak

def plan(place):
    listing = open_listing(place)
    rows = listing.survey().rows
    return rows, sum(len(block.rows) for block in listing.blocks(256))

plan(sys.argv[1])
reset_peak()  # the most from now on, not of imports
before = process_mib("VmHWM")
print(*plan(sys.argv[2]), round(process_mib("VmHWM") - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_million_rows_are_planned_in_little_memory(tmp_path: Path, kind: str) -> None:
    def make(number: int) -> str:
        path = tmp_path / f"{number}.{kind}"
        names = [f"/data/clips/of/some/length/{i:09}.mp4" for i in range(number)]
        if kind == "csv":
            write(path, "path\n" + "\n".join(names) + "\n")
        else:
            parquet.write_table(pyarrow.table({"path": names}), path, row_group_size=100_000)
        return str(path)

    places = [make(20_000), make(1_000_000)]
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, *places], capture_output=True, text=True, check=True
    )
    rows, planned, growth = map(int, told.stdout.split())
    assert rows == planned == 1_000_000
    assert growth < 30, "MiB; the rows are about 100 MiB as text, more as tuples"
