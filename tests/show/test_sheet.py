"""The contact sheet has a row a class, goes on to more pages, and replaces nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from gtdnet.cli import main
from gtdnet.data.check import check_dataset
from gtdnet.errors import InputError
from gtdnet.show import sheet
from gtdnet.show.sheet import save_sheet, sheet_files

COLOURS = {"赤 <b>$5 to $6": (255, 0, 0), "green": (0, 160, 0)}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two classes of one clip each, of one colour; a third of nothing but a broken one."""
    for name, colour in COLOURS.items():
        folder = tmp_path / "data" / "train" / name.replace("/", "") / "clip"
        folder.mkdir(parents=True)
        for number in range(5):
            imsave(folder / f"{number}.png", np.full((30, 60, 3), colour, np.uint8))
    (tmp_path / "data/train/none").mkdir()
    (tmp_path / "data/train/none/x.mp4").write_text("no video")
    return tmp_path / "data"


def test_a_row_a_class(dataset: Path, tmp_path: Path) -> None:
    report = check_dataset(dataset, workers=0)
    done: list[tuple[int, int]] = []
    save_sheet(report, [tmp_path / "sheet.png"], lambda n, total: done.append((n, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in tmp_path.glob("*.png")] == ["sheet.png"]
    picture = imread(tmp_path / "sheet.png")[..., :3]
    rows = {}
    for name, colour in COLOURS.items():
        ys, xs = np.where(np.abs(picture - np.array(colour) / 255).max(axis=-1) < 0.1)
        rows[name] = ys.mean()
        cells = 3 * sheet.CELL_WIDTH * sheet.CELL_WIDTH / 2 * sheet.DPI**2  # of 60x30 pixels
        assert 0.95 * cells < len(xs) <= 1.05 * cells
    assert rows["green"] < rows["赤 <b>$5 to $6"]  # in the order of the classes


def test_more_classes_than_a_page_holds(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "ROWS", 2)
    files = sheet_files(tmp_path / "s.png", 3)
    assert [file.name for file in files] == ["s.png", "s-2.png"]
    save_sheet(check_dataset(dataset, workers=0), files)
    assert all(file.stat().st_size > 1000 for file in files)


def test_nothing_is_replaced_and_no_other_suffix_taken(tmp_path: Path) -> None:
    (tmp_path / "s-2.png").touch()
    assert len(sheet_files(tmp_path / "s.png", 40)) == 1
    with pytest.raises(InputError, match=r"s-2\.png exists already"):
        sheet_files(tmp_path / "s.png", 41)
    with pytest.raises(InputError, match=r"a sheet is a \.png file"):
        sheet_files(tmp_path / "s.gif", 1)


def test_the_command_says_it_before_it_decodes(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(dataset), "--workers=0", "--sheet", str(tmp_path / "s.png")]
    assert main(words) == 1  # for the broken clip
    assert f"Contact sheet: {tmp_path / 's.png'}" in capsys.readouterr().out
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, "exists already; delete it" in err) == ("", True)
