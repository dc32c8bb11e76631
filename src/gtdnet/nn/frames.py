"""Frames of clips side by side on the batch axis: maps [N*T, C, H, W], or tokens, channels last.

Tokens are [N*T, L, C] (transformers) or [N*T, H, W, C] (Swin); one vector a frame is [N*T, C].
"""

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


def check_folded(x: Tensor, num_segments: int, channels_last: bool = False) -> None:
    """Raise ValueError unless x is [N*T, C, H, W], or tokens [N*T, ..., C], of T frames a clip."""
    layout = "[N*T, ..., C]" if channels_last else "[N*T, C, H, W]"
    if x.ndim != 4 and not (channels_last and x.ndim in (2, 3)):
        raise InputError(f"expected frames as {layout}, got a tensor of {x.ndim} axes")
    if x.shape[0] % num_segments:
        raise InputError(
            f"expected a multiple of num_segments={num_segments} frames on the first axis "
            f"({layout}), got {x.shape[0]}"
        )


def as_maps(tokens: Tensor) -> Tensor:
    """A view of tokens as maps: [N*T, L, C] -> [N*T, C, L, 1], [N*T, H, W, C] -> [N*T, C, H, W].

    Raises:
        ValueError: neither, nor [N*T, C].
    """
    if not 2 <= tokens.ndim <= 4:
        raise InputError(
            f"expected tokens as [N*T, L, C] or [N*T, H, W, C], got a tensor of {tokens.ndim} axes"
        )
    maps = tokens.movedim(-1, 1)
    return maps[(...,) + (None,) * (4 - tokens.ndim)]


def as_tokens(maps: Tensor, ndim: int) -> Tensor:
    """The inverse of :func:`as_maps`: tokens of ``ndim`` axes."""
    return (
        maps.squeeze(3).movedim(1, -1)
        if ndim == 3
        else (maps.flatten(1) if ndim == 2 else maps.movedim(1, -1))
    )


def pooled(x: Tensor, channels_last: bool = False) -> Tensor:
    """The mean of every frame, GAP(x): [N*T, C, H, W] or [N*T, ..., C] -> [N*T, C]."""
    if not channels_last:
        return x.mean(dim=(2, 3))
    return x if x.ndim == 2 else x.flatten(1, -2).mean(dim=1)


def over(vectors: Tensor, x: Tensor, channels_last: bool = False) -> Tensor:
    """[N*T, C] to where it multiplies x, [N*T, C, ...] or [N*T, ..., C]."""
    ones = (1,) * (x.ndim - 2)
    frames, channels = vectors.shape
    return (
        vectors.reshape(frames, *ones, channels)
        if channels_last
        else (vectors.reshape(frames, channels, *ones))
    )
