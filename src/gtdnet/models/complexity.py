"""What a model costs, from its architecture alone: parameters, multiply-accumulates, memory.

Everything is counted on PyTorch's meta device, which has shapes and no values: no weights, no
data, no timing, the same on every machine.

MACs are counted as this field does (its papers print them as "FLOPs"): convolutions, linear maps,
matrix products and attention, and convolutions over time of every channel by itself. Batch norms,
activations, pooling, gates and sums are not.

Memory is that of activations in float32, for one clip, the clip itself included; weights,
optimizer and the work space of the convolution algorithms come on top. It grows in proportion to
the number of clips. It is the plain form's (:mod:`gtdnet.nn.fast` takes less), with the matrices of
GTDNet's attention, which fused kernels do without.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from gtdnet.errors import InputError, check_at_least
from gtdnet.measure.watch import OperationWatch
from gtdnet.models.build import create_model


@dataclass(frozen=True)
class Complexity:
    """What one view (one clip) costs.

    Attributes:
        parameters: numbers that are learned.
        macs: multiply-accumulates of one view.
        inference_bytes: the largest sum of all activations alive at one time in a forward pass
            without gradients.
        training_bytes: what a training step's forward pass keeps for its backward pass.
    """

    parameters: int
    macs: int
    inference_bytes: int
    training_bytes: int


class Views(NamedTuple):
    """A protocol, written frames x crops x clips: "8x3x2"."""

    frames: int
    crops: int
    clips: int

    @classmethod
    def parse(cls, text: str) -> Views:
        """The protocol that is written as ``text``.

        Raises:
            ValueError: not three whole numbers of at least 1.
        """
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text.strip())
        if not found:
            raise InputError(f"views are written frames x crops x clips, as 8x3x2, got {text!r}")
        return cls(*map(int, found.groups()))

    @property
    def per_video(self) -> int:
        """Views of one video that the model sees."""
        return self.crops * self.clips

    def __str__(self) -> str:
        return f"{self.frames}x{self.crops}x{self.clips}"


def complexity(
    name: str, num_classes: int = 174, num_segments: int = 8, crop_size: int = 224, **options: Any
) -> Complexity:
    """What one view of a named model costs.

    Args:
        name, num_classes, num_segments, options: as of :func:`gtdnet.create_model`.
        crop_size: side of the view in pixels.

    Raises:
        ValueError: an argument of create_model's out of range, or a crop_size below 32.
    """
    check_at_least(32, crop_size=crop_size)  # one pixel of the last stage
    with torch.device("meta"):
        model = create_model(name, num_classes, num_segments, **options)
        clip = torch.empty(1, num_segments * model.frames_per_segment, 3, crop_size, crop_size)
    return measure(model, clip)


def measure(model: nn.Module, clip: Tensor) -> Complexity:
    """What a pass of ``clip`` through a model costs; both on one device, best the meta device.

    The model keeps its mode. On another device than meta, batch norms take the clip into their
    statistics.
    """
    training = model.training
    weights = {_key(t) for t in (*model.parameters(), *model.buffers())}
    live = _LiveStorage(weights)
    live.add([clip])
    watch = OperationWatch(lambda taken, given: live.add(given))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _unseen_macs(model.eval()) as unseen, watch, counter:
        model(clip)
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[_key(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(clip)
    model.train(training)
    return Complexity(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=counter.get_total_flops() // 2 + sum(unseen),
        inference_bytes=live.peak,
        training_bytes=sum(s.nbytes() for key, s in saved.items() if key not in weights),
    )


def _key(tensor: Tensor) -> int:
    """What tensors that share their memory have in common, also where there are no addresses."""
    return tensor.untyped_storage()._cdata


class _LiveStorage:
    """Follows the bytes of tensors from when they are added to their end.

    ``peak`` is the most there was at one time. Views of the weights are no memory of their own.
    """

    def __init__(self, weights: Collection[int]) -> None:
        self._weights = weights
        self._alive: dict[int, int] = {}  # bytes by key
        self._now = self.peak = 0

    def add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            key, storage = _key(tensor), tensor.untyped_storage()
            if key in self._weights or key in self._alive:  # a view, or an operation in place
                continue
            self._alive[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self._now -= self._alive.pop(key)


@contextmanager
def _unseen_macs(model: nn.Module) -> Iterator[list[int]]:
    """Yield a list that gets the MACs which modules say they do beside those of layers."""
    macs: list[int] = []

    def count(module: Any, _: Any, out: Tensor) -> None:
        macs.append(module.extra_macs(out))

    modules = (module for module in model.modules() if hasattr(module, "extra_macs"))
    handles = [module.register_forward_hook(count) for module in modules]
    try:
        yield macs
    finally:
        for handle in handles:
            handle.remove()
