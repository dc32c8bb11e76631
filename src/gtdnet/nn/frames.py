"""Frames of clips side by side on the batch axis, [N*T, C, H, W]: what every module checks."""

from __future__ import annotations

from numbers import Integral

from torch import Tensor

from gtdnet.errors import InputError, check_at_least


def check_num_segments(num_segments: int) -> None:
    """Raise ValueError unless num_segments is a positive whole number."""
    if not isinstance(num_segments, Integral) or num_segments < 1:
        raise InputError(f"num_segments must be a whole number of at least 1, got {num_segments!r}")


def reduced_channels(channels: int, reduction: int) -> int:
    """D = C/r, rounded down, at least 1. Raises ValueError if one of the two is less than 1."""
    check_at_least(1, channels=channels, reduction=reduction)
    return max(1, channels // reduction)


def check_folded(x: Tensor, num_segments: int) -> None:
    """Raise ValueError unless x is [N*T, C, H, W] with T = num_segments."""
    if x.ndim != 4:
        raise InputError(f"expected frames as [N*T, C, H, W], got a tensor of {x.ndim} axes")
    if x.shape[0] % num_segments:
        raise InputError(
            f"expected a multiple of num_segments={num_segments} frames on the first axis "
            f"([N*T, C, H, W]), got {x.shape[0]}"
        )
