"""Figure 7's picture of a clip, for the page: rows of pictures, and the scores as discs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gtdnet.pages import jpeg_uri
from gtdnet.serve.models import Served
from gtdnet.show.run import explain_clip
from gtdnet.show.views import ClipViews, Discs, rows


def look(served: Served, clip: Tensor, name: str, frames: int) -> ClipViews:
    """What the model sees of a clip, uint8 [T*f, 3, crop, crop], of a video of so many frames."""
    order = np.arange(served.spec.num_segments)
    return explain_clip(served.recognizer, clip, name, frames, order)


def to_json(views: ClipViews, times: Sequence[float | None]) -> dict[str, Any]:
    """The rows that the page draws; ``times`` are the seconds of the frames.

    Of each row ``title``, ``hint``, ``pictures`` (JPEG data URIs) and ``alts`` (what each is, in
    words), and ``captions``, which may be empty; ``scores`` are the global difference scores, with
    the radii of their discs in parts of a picture, or None.
    """
    names = [
        f"frame {i + 1}" if time is None else f"the frame at {time:.2f} s"
        for i, time in enumerate(times)
    ]
    found: list[dict[str, Any]] = []
    scores: dict[str, Any] | None = None
    for row in rows(views):
        if isinstance(row, Discs):
            scores = {
                "title": row.title,
                "values": [round(float(x), 4) for x in row.scores],
                "radii": [round(float(x), 4) for x in row.radii],
                "ring": round(float(row.ring), 4),
            }
            continue
        found.append(
            {
                "key": row.key,
                "title": row.title,
                "hint": "" if row.key == "frames" else row.hint,
                "pictures": [jpeg_uri(picture) for picture in row.pictures],
                "alts": [f"{row.title}: {name}" for name in names[: len(row.pictures)]],
                "captions": list(row.captions),
            }
        )
    return {
        "times": [None if time is None else round(time, 3) for time in times],
        "rows": found,
        "scores": scores,
        "global_image": jpeg_uri(views.global_image.round().astype(np.uint8)),
        "notes": list(views.notes),
    }


def to_png(views: ClipViews) -> bytes:
    """The figure of ``gtdnet show`` as a PNG."""
    from gtdnet.show.canvas import quiet_fonts
    from gtdnet.show.figure import draw

    with quiet_fonts():
        figure, buffer = draw(views), io.BytesIO()
        figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": "gtdnet"})
    return buffer.getvalue()


def timeline_png(name: str, windows: Sequence[Any]) -> bytes:
    """The picture of ``gtdnet predict --timeline`` as a PNG."""
    from gtdnet.infer.picture import draw
    from gtdnet.show.canvas import quiet_fonts

    buffer = io.BytesIO()
    with quiet_fonts():
        draw(Path(name).name, windows).savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
