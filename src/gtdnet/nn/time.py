"""Weights over the T frames of a clip fitted to another T: the arithmetic of ``resize_time``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def share_out(weight: Tensor, num_segments: int) -> Tensor:
    """Weights over the frames, [..., old T] -> [..., T], interpolated as position embeddings are.

    The weight of an old frame is shared out among the new frames near it, so that the sum over a
    constant clip stays as it was.

    >>> share_out(torch.tensor([0.0, 8.0]), 4)
    tensor([0., 1., 3., 4.])
    """
    old = weight.shape[-1]
    shares = F.interpolate(
        torch.eye(old)[None, None], (old, num_segments), mode="bilinear", antialias=True
    )[0, 0]
    shares = shares / shares.sum(1, keepdim=True)  # [old T, T]
    return (weight.float() @ shares).to(weight.dtype)


def copied_units(old: int, new: int) -> Tensor:
    """For each of ``new`` hidden units, the one of ``old`` that it copies, spread evenly.

    >>> copied_units(2, 4)
    tensor([0, 0, 1, 1])
    """
    return torch.arange(new) * old // new


def resize_time_layers(
    state: Mapping[str, Tensor], num_segments: int, hidden: int
) -> dict[str, Tensor]:
    """Fit two layers over the time axis: ``spread``, T -> hidden units, and ``collect``, -> K.

    Between them may stand a batch norm, ``norm``. The weights over the frames are shared out. The
    hidden units have no order to interpolate along: they are repeated evenly, with their norms, and
    the copies of a unit share its weight in ``collect``. With at least as many hidden units as
    before, the answer to a constant clip is unchanged.

    Args:
        state: of a module with these layers, at any T. What is no part of them stays as it is.
        num_segments: T of the layers to fit it to.
        hidden: their hidden units.
    """
    resized = dict(state)
    if "spread.weight" not in state:
        return resized
    old_hidden = len(state["spread.weight"])
    units = copied_units(old_hidden, hidden)
    for key, old in state.items():
        if key == "collect.weight" and old.shape[-1] == old_hidden:  # [K, hidden]
            resized[key] = old[:, units] / torch.bincount(units)[units].to(old.dtype)
        elif key == "spread.weight":  # [hidden, T]
            resized[key] = share_out(old, num_segments)[units]
        elif key.startswith(("spread.", "norm.")) and old.shape == (old_hidden,):
            resized[key] = old[units]
    return resized
