"""Batches on their way from a worker to the main process, in shared memory that is used again.

PyTorch gives every tensor that a worker sends a shared memory of its own, and sends a handle to it.
New memory is slow, since the system clears each page of it when it is first touched, and so is
sending handles. Here a worker keeps the memory of its batches, and fills it again once no tensor of
the main process lies in it. Only what is new is sent as a handle; after that, its number.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gtdnet.data.dataset import Batch, Failure, Sample, collate
from gtdnet.errors import InputError

_MOST = 8  # memories that a worker keeps: some batches ahead, some in use
_tokens = itertools.count()
_collates: weakref.WeakValueDictionary[int, SharedCollate] = weakref.WeakValueDictionary()


class SharedCollate:
    """:func:`gtdnet.data.dataset.collate` for the workers of one DataLoader.

    Batches arrive as :func:`collate` makes them. Their memory is theirs as long as any tensor in
    the main process, a part of theirs included, refers to it. Who keeps many batches gets each in
    memory of its own, as PyTorch does it. Until the loader ends, each worker has as much shared
    memory as all its batches that were there at one time, on their way or in use.
    """

    def __init__(self, token: int | None = None) -> None:
        self._token = next(_tokens) if token is None else token
        self._own: list[Tensor] = []  # of a worker; the last byte says whether it is lent
        self._known: dict[tuple[int, int], NDArray[np.uint8]] = {}  # of all, in the main process
        _collates[self._token] = self

    def __reduce__(self) -> tuple[Any, ...]:  # to a worker that is not forked
        return _collate_of, (self._token,)

    def __call__(self, samples: Sequence[Sample | Failure]) -> Batch:
        """Put samples side by side; failures are kept apart."""
        views = next((s.views for s in samples if isinstance(s, Sample)), None)
        if views is None or get_worker_info() is None:
            return collate(samples)
        size = len(samples) * views.numel()
        number = next((i for i, own in enumerate(self._own) if not own[-1]), len(self._own))
        if number == _MOST:
            return collate(samples)
        is_new = number == len(self._own) or len(self._own[number]) <= size
        if is_new:
            self._own[number : number + 1] = [_new_memory(size + 1, len(samples))]
        memory = self._own[number]
        memory[-1] = 1
        batch = collate(samples, memory[:-1])
        handle = memory if is_new else None
        return _Lent(**vars(batch), place=(self._token, os.getpid(), number), handle=handle)

    def memory(self, process: int, number: int, handle: Tensor | None) -> NDArray[np.uint8]:
        """In the main process: a worker's memory of this number, which ``handle`` is if given."""
        if handle is not None:
            alive = {child.pid for child in multiprocessing.active_children()}
            self._known = {key: own for key, own in self._known.items() if key[0] in alive}
            self._known[process, number] = handle.numpy()
        return self._known[process, number]


class SharedMemoryFull(InputError):
    """The system's shared memory is full, as containers' of 64 MB soon are."""

    def __init__(self, message: str) -> None:
        super().__init__(from_worker(type(self), message))


def from_worker(kind: type[Exception], message: str) -> str:
    """What an error of a worker said there.

    PyTorch makes the error anew, with the worker's whole traceback for a message; this is its end.
    """
    return message.rpartition(f"{kind.__name__}: ")[2].strip()


def _new_memory(size: int, clips: int) -> Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8).share_memory_()
    except (RuntimeError, OSError) as error:
        if "No space left" not in str(error) and "Cannot allocate memory" not in str(error):
            raise
        info = get_worker_info()
        raise SharedMemoryFull(
            f"/dev/shm is full: a batch of {clips} clips takes {size / 1e6:.1f} MB there, and each "
            f"of {info.num_workers if info else 1} decoding processes has about three under way; "
            f"give it more room (docker run --shm-size 8g), lower --batch_size or --num_workers, "
            f"or decode without other processes (--num_workers 0)"
        ) from error


def _collate_of(token: int) -> SharedCollate:
    return _collates.get(token) or SharedCollate(token)


@dataclass
class _Lent(Batch):
    """A batch in a worker's memory, as long as it is in the worker."""

    # Token of the SharedCollate, worker process, number of the memory there.
    place: tuple[int, int, int]
    handle: Tensor | None  # the memory, if the main process doesn't know it yet

    def __reduce__(self) -> tuple[Any, ...]:
        # Numbers as such: each tensor would be a handle.
        numbers = self.labels.tolist(), self.indices.tolist(), self.failures
        return _arrived, (*self.place, self.handle, tuple(self.views.shape), *numbers)


def _arrived(
    token: int,
    process: int,
    number: int,
    handle: Tensor | None,
    shape: tuple[int, ...],
    labels: list[Any],  # numbers, or rows of them
    indices: list[int],
    failures: list[Failure],
) -> Batch:
    memory = _collates[token].memory(process, number, handle)
    array = memory[: math.prod(shape)]
    # The tensors' storage holds this array; when the last of them is gone, so is the array.
    weakref.finalize(array, _give_back, memory, os.getpid()).atexit = False
    views = torch.from_numpy(array).view(*shape[:-3], *shape[-2:], shape[-3]).movedim(-1, -3)
    labels_, indices_ = (torch.tensor(part, dtype=torch.int64) for part in (labels, indices))
    return Batch(views, labels_, indices_, failures)


def _give_back(memory: NDArray[np.uint8], process: int) -> None:
    if os.getpid() == process:  # a forked child has no say in it
        memory[-1] = 0
