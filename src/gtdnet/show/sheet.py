"""A contact sheet of a dataset: a row a class, to see whether clips are what they are called.

Each row has three frames of one clip, to show motion, and the middle frames of a few others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gtdnet.data.check import CheckReport
from gtdnet.data.decode import read_frames
from gtdnet.data.transforms import resize_frames
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import atomic_path
from gtdnet.show.canvas import GREY, INK, Canvas, quiet_fonts
from gtdnet.text import counted, one_line, printable

ROWS = 40  # classes on a page
CLIPS = 5  # of a class
FRAMES = 3  # of the first of them

# Inches, and pixels in an inch.
MARGIN, NAMES, GAP, SPACE, HEAD = 0.25, 2.3, 0.05, 0.14, 0.62
CELL_WIDTH, CELL_HEIGHT = 1.12, 0.84
DPI = 100


def sheet_files(path: str | Path, num_classes: int) -> list[Path]:
    """The files of a sheet: out.png, and out-2.png, ... where one page does not hold all classes.

    Raises:
        ValueError: another suffix than .png, or one of them exists.
    """
    first = Path(path).expanduser()
    if first.suffix.lower() != ".png":
        raise InputError(f"--sheet {path}: a sheet is a .png file; give such a name")
    more = range(2, -(-num_classes // ROWS) + 1)
    files = [first, *(first.with_stem(f"{first.stem}-{number}") for number in more)]
    for file in files:
        if file.exists():
            raise InputError(f"The sheet {file} exists already; delete it or name another one.")
    return files


def save_sheet(
    report: CheckReport, files: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the pages of a checked dataset; ``progress`` gets (classes done, classes in all)."""
    total = len(report.class_names)
    with quiet_fonts():
        for page, file in enumerate(files):
            labels = range(page * ROWS, min((page + 1) * ROWS, total))
            figure = _page(report, labels, f"{page + 1} of {len(files)}", progress)
            with atomic_path(file) as temporary:
                _save(figure, temporary)


def _page(
    report: CheckReport,
    labels: range,
    page: str,
    progress: Callable[[int, int], None] | None,
) -> Figure:
    columns = FRAMES + CLIPS - 1
    frames_end = MARGIN + NAMES + FRAMES * (CELL_WIDTH + GAP)
    width = frames_end + SPACE + (columns - FRAMES) * (CELL_WIDTH + GAP) + MARGIN
    canvas = Canvas(width, DPI)
    classes = counted(len(report.class_names), "class", "classes")
    title = f"{Path(report.root).absolute().name}: {report.format}, {classes}, page {page}"
    canvas.text(MARGIN, MARGIN - 0.08, printable(title), 11, INK, NAMES + 2, bold=True)
    x = MARGIN + NAMES
    canvas.text(x, HEAD - 0.2, f"{FRAMES} frames of one clip", 8, GREY, 3)
    canvas.text(frames_end + SPACE, HEAD - 0.2, "middle frames of others", 8, GREY, 3)
    y = HEAD
    counts = report.understood.counts()
    for label in labels:
        name = printable(one_line(report.class_names[label]))
        end = canvas.text(MARGIN, y, name, 9.5, INK, NAMES - 0.15, bold=True, lines=3)
        numbers = ", ".join(f"{split} {counts[split][label]}" for split in counts)
        canvas.text(MARGIN, end + 0.03, numbers, 8, GREY, NAMES - 0.15, lines=2)
        split, clips = _pictures(report, label)
        if not clips:
            canvas.text(x, y + 0.3, "no clip that can be read", 8, GREY, 3)
        for column, picture in enumerate(clips):
            at = x + column * (CELL_WIDTH + GAP) + (SPACE if column >= FRAMES else 0)
            height, breadth = (side / DPI for side in picture.shape[:2])
            left, top = at + (CELL_WIDTH - breadth) / 2, y + (CELL_HEIGHT - height) / 2
            canvas.picture(picture, left, top, breadth, height)
        if split and split != next(iter(counts)):
            canvas.text(x, y + CELL_HEIGHT - 0.14, f"of {split}", 7, GREY, 1)
        y += CELL_HEIGHT + GAP
        if progress:
            progress(label + 1, len(report.class_names))
    return canvas.finish(y + MARGIN - GAP)


def _pictures(report: CheckReport, label: int) -> tuple[str, list[NDArray[np.uint8]]]:
    """Frames of clips spread evenly over the first split that has any of a class, [h, w, 3]."""
    for split, found in report.understood.read.items():
        paths = [
            record.path
            for record in found.records
            if label in record.classes and not report.facts[record.path].error
        ]
        chosen = [paths[i * len(paths) // CLIPS] for i in range(CLIPS)] if paths else []
        pictures: list[NDArray[np.uint8]] = []
        for path in dict.fromkeys(chosen):
            parts = 1 if pictures else FRAMES
            try:
                frames, _ = read_frames(path, lambda n, parts=parts: _middles(n, parts), _small)
            except DecodeError:  # gone or changed since it was checked
                continue
            pictures.extend(frames.permute(0, 2, 3, 1).contiguous().numpy())
        if pictures:
            return split, pictures
    return "", []


def _middles(num_frames: int, parts: int) -> NDArray[np.int64]:
    """The middle frames of equal parts of a clip."""
    return (2 * np.arange(parts) + 1) * num_frames // (2 * parts)


def _small(frame: Tensor) -> Tensor:
    """A frame that fits into a cell: [1, 3, H, W] to [1, 3, h, w]."""
    height, width = frame.shape[-2:]
    scale = min(CELL_HEIGHT * DPI / height, CELL_WIDTH * DPI / width)
    return resize_frames(frame, (max(1, round(height * scale)), max(1, round(width * scale))))


def _save(figure: Figure, path: Path) -> None:
    """As a PNG of 256 colours, a quarter of the size of one of all."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    picture.quantize(256, method=Image.Quantize.MEDIANCUT).save(path, format="PNG", optimize=True)
