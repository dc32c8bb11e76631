"""A classifier run frame by frame: one frame in, its logits out, and what the next one needs."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn.insert import set_num_segments
from gtdnet.nn.memory import looking_ahead, pasts

State = tuple[Tensor, ...]
"""``started``, bool [S]: whether a stream has had a frame; then what each causal module remembers,
[S, frames, ...], in network order."""


class FrameStep(nn.Module):
    """The step of S streams, each by one frame, as a function of tensors alone.

    (frames [S, 3, H, W], started, *remembered) -> (logits [S, K], started, *remembered): normalised
    frames, and a :data:`State`. The logits are those that
    :meth:`VideoClassifier.forward_frames` has for the last frame of everything that the stream has
    shown. The step costs one frame of the network whatever that was.

    Not to be called by two threads at once.

    Args:
        model: in which no frame sees a later one. Its weights are shared, not copied.
        size: H = W.

    Raises:
        ValueError: a frame of the model sees later ones.
    """

    def __init__(self, model: VideoClassifier, size: int) -> None:
        super().__init__()
        check_streams(model)
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        self.network = copy.deepcopy(model, shared).eval()
        set_num_segments(self.network, 1)
        like = next(self.network.parameters())
        every = dict(pasts(self.network))
        for past in every.values():
            past.recall()
        with torch.no_grad():
            frame = torch.zeros(1, 1, 3, size, size, device=like.device, dtype=like.dtype)
            self.network.forward_frames(frame)
        examples = {name: past.kept for name, past in every.items() if past.kept is not None}
        for past in every.values():
            past.forget()
        self._pasts = [every[name] for name in examples]
        self._examples = [torch.zeros_like(kept) for kept in examples.values()]
        self.names = ("started", *examples)
        """Of the tensors of a state: the modules that remember them."""

    def start(self, streams: int = 1) -> State:
        """The state before the first frame."""
        device = next(self.network.parameters()).device
        started = torch.zeros(streams, dtype=torch.bool, device=device)
        kept = (m.to(device).repeat(streams, *(1,) * (m.ndim - 1)) for m in self._examples)
        return (started, *kept)

    def forward(self, frames: Tensor, started: Tensor, *remembered: Tensor) -> tuple[Tensor, ...]:
        for past, kept in zip(self._pasts, remembered, strict=True):
            past.recall(kept, started)
        try:
            logits = self.network.forward_frames(frames[:, None])[:, 0]
            kept = [past.kept for past in self._pasts]
        finally:
            for past in self._pasts:
                past.forget()
        return (logits, torch.ones_like(started), *(k for k in kept if k is not None))


def check_streams(model: VideoClassifier) -> None:
    """Raise InputError unless the model can be run frame by frame."""
    if reason := why_no_stream(model):
        raise InputError(
            f"{model.name or 'this network'} {reason}; train tsm or gtdnet with model_options "
            f"{{causal: true}}, or see windows of a video by gtdnet predict --window"
        )


def why_no_stream(model: nn.Module) -> str | None:
    """Why a model cannot be run frame by frame; None: it can."""
    if not isinstance(model, VideoClassifier):
        return "is no classifier of frames"
    if model.frames_per_segment > 1:
        return (
            f"takes groups of {model.frames_per_segment} frames, so it cannot be run frame by frame"
        )
    if place := looking_ahead(model.backbone):
        return f"cannot be run frame by frame, for its frames see later ones (in {place})"
    return None


def restarted(state: State, streams: Iterable[int] | None = None) -> State:
    """The state with some streams (None: all) at their beginning; their next frame is a first."""
    started = state[0].clone()
    started[slice(None) if streams is None else list(streams)] = False
    return (started, *state[1:])
