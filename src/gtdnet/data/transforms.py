"""Frames to views: resize, crops, flip, brightness, normalise, on uint8 [T, 3, H, W].

Every random choice comes from the generator that is passed in and is the same for all frames of a
clip. ``resize_frames`` is the only resize of the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError

CROP_SCALES = (1.0, 0.875, 0.75, 0.66)  # multi-scale cropping of Wang et al., TSN, ECCV 2016


def resize_frames(
    frames: Tensor,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """Resize uint8 [T, 3, H, W] to (height, width), rounding back to uint8."""
    if tuple(frames.shape[-2:]) == size:
        return frames
    if size[0] < 1 or size[1] < 1:
        raise InputError(f"frames cannot be resized to {size[1]}x{size[0]} pixels")
    return F.interpolate(frames, size, mode=interpolation, align_corners=False, antialias=antialias)


def resize_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same for one picture, uint8 [H, W, 3]."""
    frames = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
    return resize_frames(frames, size)[0].permute(1, 2, 0).contiguous().numpy()


def resize_short_side(frames: Tensor, spec: ClipSpec) -> Tensor:
    """Resize so that the shorter side has ``spec.short_side`` pixels, keeping the aspect ratio."""
    h, w = frames.shape[-2:]
    short = min(h, w)
    size = (round(h * spec.short_side / short), round(w * spec.short_side / short))
    return resize_frames(frames, size, spec.interpolation, spec.antialias)


def spatial_crops(frames: Tensor, crop_size: int, num_crops: int = 1) -> list[Tensor]:
    """Square crops: the centre (1), or three along the longer side: first end, centre, last end."""
    h, w = frames.shape[-2:]
    if num_crops not in (1, 3):
        raise InputError(f"num_crops must be 1 or 3, got {num_crops}")
    if crop_size > min(h, w):
        raise InputError(f"crop_size={crop_size} does not fit into frames of {w}x{h} pixels")
    top, left = (h - crop_size) // 2, (w - crop_size) // 2
    if num_crops == 1:
        corners = [(top, left)]
    elif w >= h:
        corners = [(top, 0), (top, left), (top, w - crop_size)]
    else:
        corners = [(0, left), (top, left), (h - crop_size, left)]
    return [frames[..., y : y + crop_size, x : x + crop_size] for y, x in corners]


def random_multiscale_crop(
    frames: Tensor,
    spec: ClipSpec,
    rng: np.random.Generator,
    scales: Sequence[float] = CROP_SCALES,
) -> Tensor:
    """Crop a random window and resize it to ``crop_size``: [T, 3, crop_size, crop_size].

    Width and height are drawn from ``scales`` of the short side, at most one step of the list
    apart; the position is drawn evenly.
    """
    h, w = frames.shape[-2:]
    sides = [max(1, int(min(h, w) * s)) for s in scales]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    height, width = pairs[rng.integers(len(pairs))]
    window = _random_window(frames, height, width, rng)
    size = (spec.crop_size, spec.crop_size)
    return resize_frames(window, size, spec.interpolation, spec.antialias)


def random_crop(frames: Tensor, spec: ClipSpec, rng: np.random.Generator) -> Tensor:
    """Resize as for the test crops, then crop a random square: [T, 3, crop_size, crop_size]."""
    return _random_window(resize_short_side(frames, spec), spec.crop_size, spec.crop_size, rng)


def _random_window(frames: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    y = int(rng.integers(frames.shape[-2] - height + 1))
    x = int(rng.integers(frames.shape[-1] - width + 1))
    return frames[..., y : y + height, x : x + width]


def horizontal_flip(frames: Tensor) -> Tensor:
    """Mirror left and right."""
    return frames.flip(-1)


def jitter_brightness_contrast(frames: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Scale brightness and contrast by factors drawn from [1 - strength, 1 + strength]."""
    brightness, contrast = rng.uniform(1 - strength, 1 + strength, 2)
    # One affine map of the 256 values instead of float arithmetic on every pixel.
    middle = 255 * 0.5
    table = (torch.arange(256) * brightness - middle) * contrast + middle
    return table.round().clamp_(0, 255).to(torch.uint8)[frames.long()]


def eval_views(frames: Tensor, spec: ClipSpec, num_crops: int = 1) -> Tensor:
    """All test views of decoded clips: [num_clips*T*f, 3, H, W] -> [V, T*f, 3, crop, crop].

    V = num_clips * num_crops, clips outermost. Channels last in memory.
    """
    resized = resize_short_side(frames, spec)
    crops = spatial_crops(resized, spec.crop_size, num_crops)
    pictures = [c.movedim(-3, -1).unflatten(0, (-1, spec.frames_per_clip)) for c in crops]
    return torch.stack(pictures, 1).flatten(0, 1).movedim(-1, -3)


def normalise(clip: Tensor, spec: ClipSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [..., 3, H, W] -> the model's input, (value / 255 - mean) / std, on clip's device.

    Contiguous, whatever the clip's layout in memory is.
    """
    mean = torch.tensor(spec.mean, dtype=dtype, device=clip.device).view(3, 1, 1)
    std = torch.tensor(spec.std, dtype=dtype, device=clip.device).view(3, 1, 1)
    values = clip.to(dtype, memory_format=torch.contiguous_format)
    return (values / 255 - mean) / std
