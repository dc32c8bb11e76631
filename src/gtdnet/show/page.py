"""The figure of ``gtdnet show`` as one HTML file: pictures inside, nothing loaded from anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from gtdnet import pages
from gtdnet.infer.render import percent
from gtdnet.show.views import HEAT, ClipViews, Discs, rows


def page(views: ClipViews) -> str:
    """The whole page. It follows the reader's light or dark setting; on a narrow screen the frames
    scroll sideways, all rows together, and stay large enough to see."""
    return pages.render(
        "gtdnet.show",
        (percent, pages.jpeg_uri),
        views=views,
        file=Path(views.video).name,
        global_image=views.global_image.round().astype(np.uint8),
        rows=[("discs" if isinstance(row, Discs) else "pictures", row) for row in rows(views)],
        heat=[to_hex(colormaps[HEAT](x)) for x in np.linspace(0, 1, 9)],
    )
