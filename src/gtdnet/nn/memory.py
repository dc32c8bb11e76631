"""What causal modules look back at: the frames before those that they are given.

A causal module sees its own and earlier frames alone, so a video can be run through it frame by
frame: what it must know of the past is kept between calls (:class:`Past`). Before as many frames
have come as it looks back at, the first one stands for those missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gtdnet.errors import InputError


class Past(nn.Module):
    """Puts the frames before in front of those given: [N, T, ...] -> [N, frames + T, ...].

    Of a clip by itself they are its first frame again. Within a stream (:meth:`recall`) they are
    the last ones of the call before.

    Args:
        frames: how many.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.in_stream = False
        self.kept: Tensor | None = None
        self._started: Tensor | None = None

    def recall(self, kept: Tensor | None = None, started: Tensor | None = None) -> None:
        """Be in a stream from now on: the next call goes on where another ended.

        ``kept`` of that call afterwards is what the one after it needs.

        Args:
            kept: [N, frames, ...] of the call before; None: there was none.
            started: bool [N]; false of a stream whose next frame is its first.
        """
        self.in_stream, self.kept, self._started = True, kept, started

    def forget(self) -> None:
        """Be in no stream any more."""
        self.in_stream, self.kept, self._started = False, None, None

    def forward(self, clips: Tensor) -> Tensor:
        if not self.frames:
            return clips
        seen = torch.cat([self._kept_or_first(clips), clips], dim=1)
        if self.in_stream:
            self.kept = seen[:, clips.shape[1] :]
        return seen

    def before(self, clips: Tensor) -> Tensor:
        """What was ``frames`` earlier than those given, in their places: [N, T, ...].

        The first T frames of :meth:`forward`, which are taken without joining where T = ``frames``.
        """
        if not self.frames or clips.shape[1] != self.frames:
            return self(clips)[:, : clips.shape[1]]
        before = self._kept_or_first(clips)
        if self.in_stream:
            self.kept = clips.clone()  # not a view that keeps all channels in memory
        return before

    def _kept_or_first(self, clips: Tensor) -> Tensor:
        first = clips[:, :1].expand(-1, self.frames, *clips.shape[2:])
        if self.kept is None or self._started is None:
            return first
        return torch.where(self._started.reshape(-1, *(1,) * (clips.ndim - 1)), self.kept, first)

    def extra_repr(self) -> str:
        return f"frames={self.frames}"


def check_causal(causal: object) -> None:
    """Raise InputError unless it is true or false."""
    if not isinstance(causal, bool):
        raise InputError(f"causal must be true or false, got {causal!r}")


def pasts(model: nn.Module) -> Sequence[tuple[str, Past]]:
    """What a network's causal modules look back at, with names, in network order."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, Past)]


def looking_ahead(model: nn.Module) -> str | None:
    """What of a network lets a frame see later ones; None: nothing, it can be run frame by frame.

    The first module that knows the number of frames (``num_segments``) and is not ``causal``.
    """
    for name, module in model.named_modules():
        if hasattr(module, "num_segments") and not getattr(module, "causal", False):
            return f"{name} ({type(module).__name__})"
    return None
