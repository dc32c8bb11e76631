"""Pictures for loggers: training clips as the network sees them, and the confusion matrix."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MOST_CLIPS, MOST_FRAMES, SIDE = 8, 8, 112
_GAP = 2  # pixels between frames
_MOST_NAMES = 40  # classes whose names can still be read


def clip_grid(clips: Tensor) -> NDArray[np.uint8]:
    """The first few of some clips, a row each, a few of their frames side by side.

    uint8 [N, T, 3, H, W] -> uint8 [H', W', 3]
    """
    chosen = torch.linspace(0, clips.shape[1] - 1, min(MOST_FRAMES, clips.shape[1])).round().long()
    few = clips[:MOST_CLIPS, chosen.to(clips.device)].cpu()  # [n, t, 3, H, W]
    n, t = few.shape[:2]
    flat = few.flatten(0, 1)
    if max(flat.shape[-2:]) > SIDE:
        size = tuple(max(1, round(s * SIDE / max(flat.shape[-2:]))) for s in flat.shape[-2:])
        flat = F.interpolate(flat.float(), size, mode="area").round().to(torch.uint8)
    flat = F.pad(flat, (0, _GAP, 0, _GAP), value=255)
    grid = flat.unflatten(0, (n, t)).permute(0, 3, 1, 4, 2)  # [n, H, t, W, 3]
    return grid.flatten(2, 3).flatten(0, 1).contiguous().numpy()


def confusion_picture(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], names: tuple[str, ...]
) -> NDArray[np.uint8]:
    """True classes as rows, predicted ones as columns; dark is a large share of a row's clips.

    [N], [N] -> uint8 [H, W, 3]; names stand beside it where they can be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    k = len(names)
    counts = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = k <= _MOST_NAMES
    side = max(4.0, 0.22 * k + 2.5) if named else 8.0  # inches
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if named:
        short = [_plain(name) for name in names]
        axes.set_xticks(range(k), short, rotation=90, fontsize=7)
        axes.set_yticks(range(k), short, fontsize=7)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _plain(name: str) -> str:
    """A class name as matplotlib shows it: short, and a dollar sign begins no formula."""
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")
