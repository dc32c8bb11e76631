"""The figure of ``gtdnet show`` as one picture for papers and slides: PNG, PDF or SVG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from gtdnet.infer.render import percent
from gtdnet.show.canvas import GREY, INK, Canvas, quiet_fonts, save
from gtdnet.show.views import HEAT, ClipViews, Discs, Row, rows

# Inches.
WIDTH, WIDER = 13.0, 16.0  # the latter from 11 columns on
MARGIN = 0.35
LABELS = 2.1  # the column of row titles
GAP = 0.06
MOST_COLUMNS = 16
LARGEST_CELL = 1.75


def save_figure(views: ClipViews, path: Path) -> None:
    """Write the figure to a .png, .pdf or .svg file."""
    with quiet_fonts():
        save(draw(views), path)


def draw(views: ClipViews) -> Figure:
    """The figure: prediction and global image, then the rows; wrapped after 16 frames."""
    total = len(views.frames)
    bands = -(-total // MOST_COLUMNS)
    columns = -(-total // bands)
    room = (WIDTH if columns <= 10 else WIDER) - 2 * MARGIN - LABELS + GAP
    cell = min(LARGEST_CELL, room / columns - GAP)
    width = max(2 * MARGIN + LABELS + columns * (cell + GAP) - GAP, 8.0)
    sheet = Canvas(width, dpi=260 if cell < 1 else 200)
    y = _header(sheet, views, width, cell)
    drawn = rows(views)
    for start in range(0, total, columns):
        y = _band(sheet, views, drawn, slice(start, start + columns), cell, y)
    for note in views.notes:
        y = sheet.text(MARGIN, y + 0.02, note, 8.5, GREY, width - 2 * MARGIN, lines=3)
    return sheet.finish(y + MARGIN - 0.05)


def _header(sheet: Canvas, views: ClipViews, width: float, cell: float) -> float:
    side = min(max(cell, 1.25), 1.4)
    x = width - MARGIN - side
    sheet.picture(views.global_image.round().astype(np.uint8), x, MARGIN, side)
    sheet.text(x - 0.14, MARGIN, "Global image", 9.5, INK, 1.3, bold=True, align="right")
    sheet.text(
        x - 0.14, MARGIN + 0.21, f"mean of the {len(views.frames)} frames", 8, GREY, 1.2,
        align="right", lines=3,
    )  # fmt: skip

    room = x - 1.7 - MARGIN
    best = views.prediction[0]
    y = sheet.text(MARGIN, MARGIN - 0.03, best.name, 17, INK, room, bold=True, lines=2) + 0.1
    bar, number = 1.55, 0.62
    for score in views.prediction:
        sheet.bar(MARGIN, y + 0.045, bar, 0.115, score.probability)
        sheet.text(MARGIN + bar + number, y, percent(score.probability), 9, INK, 1, align="right")
        name_x = MARGIN + bar + number + 0.14
        y = sheet.text(name_x, y, score.name, 9, INK, MARGIN + room - name_x) + 0.04
    y = sheet.text(MARGIN, y + 0.07, views.source, 8, GREY, room, lines=2)
    return max(y, MARGIN + side) + 0.24


def _band(
    sheet: Canvas, views: ClipViews, drawn: list[Row | Discs], part: slice, cell: float, y: float
) -> float:
    """One line of frames with all rows below it; returns where it ends."""
    xs = [MARGIN + LABELS + i * (cell + GAP) for i in range(len(views.indices[part]))]
    for x, index in zip(xs, views.indices[part], strict=True):
        sheet.text(x + cell / 2, y, str(index), 8.5, GREY, cell, align="center")
    y += 0.19
    for row in drawn:
        if isinstance(row, Discs):
            y = _discs(sheet, row, part, xs, cell, y) + GAP
        else:
            y = _pictures(sheet, row, part, xs, cell, y) + GAP
    return y + 0.15


def _pictures(
    sheet: Canvas, row: Row, part: slice, xs: list[float], cell: float, y: float
) -> float:
    bottom = _label(sheet, row.title, row.hint, y)
    for x, picture in zip(xs, row.pictures[part], strict=False):
        sheet.picture(picture, x, y, cell)
    if row.most > 0:
        bottom = _heat_scale(sheet, row.most, bottom + 0.05)
    y = max(y + cell, bottom)
    if row.captions:
        for x, caption in zip(xs, row.captions[part], strict=False):
            sheet.text(x + cell / 2, y + 0.05, caption, 8.5, INK, cell, align="center")
        sheet.text(MARGIN, y + 0.055, row.caption_hint, 8, GREY, LABELS - 0.1)
        y += 0.22
    return y


def _discs(sheet: Canvas, row: Discs, part: slice, xs: list[float], cell: float, y: float) -> float:
    height = max(2 * float(row.radii.max()) * cell, 0.34) + 0.1
    _label(sheet, row.title, row.hint, y + 0.02)
    for x, score, radius in zip(xs, row.scores[part], row.radii[part], strict=True):
        centre = (x + cell / 2, y + height / 2)
        sheet.disc(centre, float(radius) * cell, row.ring * cell)
        sheet.text(centre[0], centre[1] - 0.075, f"{score:.2f}", 8.5, INK, cell, align="center")
    return y + height


def _label(sheet: Canvas, title: str, hint: str, y: float) -> float:
    y = sheet.text(MARGIN, y + 0.03, title, 9.5, INK, LABELS - 0.15, bold=True)
    return sheet.text(MARGIN, y + 0.02, hint, 8, GREY, LABELS - 0.2, lines=5) if hint else y


def _heat_scale(sheet: Canvas, most: float, y: float) -> float:
    colours = (colormaps[HEAT](np.linspace(0, 1, 64))[None, :, :3] * 255).astype(np.uint8)
    sheet.picture(colours, MARGIN, y, 0.7, 0.08)
    sheet.text(MARGIN, y + 0.09, "0", 7, GREY, 0.3)
    return sheet.text(MARGIN + 0.7, y + 0.09, f"{most:.3g}", 7, GREY, 0.5, align="right")
