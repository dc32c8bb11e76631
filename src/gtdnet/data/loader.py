"""Clips from decoding processes: signals are left to the parent, errors are one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from gtdnet.data.dataset import EvalClips, Failure, Sample, TrainClips
from gtdnet.data.sharing import SharedCollate, from_worker
from gtdnet.errors import InputError
from gtdnet.workers import signals_held, start_worker

_KILLED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited)"
)


class WorkerError(RuntimeError):
    """What went wrong with one clip, as a sentence that names it."""

    def __init__(self, message: str) -> None:
        super().__init__(from_worker(type(self), message))


class ClipLoader(DataLoader[Any]):
    """Batches of clips as :class:`SharedCollate` makes them.

    Raises:
        WorkerError: while it is iterated; anything but a clip that cannot be decoded.
        InputError: a worker was killed, or shared memory is full.
    """

    def __init__(self, clips: TrainClips | EvalClips, *, num_workers: int, **options: Any) -> None:
        super().__init__(
            _Named(clips),
            collate_fn=SharedCollate(),
            num_workers=num_workers,
            worker_init_fn=start_worker,
            **options,
        )

    def __iter__(self) -> Any:
        with signals_held():
            batches = super().__iter__()
        return self._told(batches)

    @staticmethod
    def _told(batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if (killed := killed_worker(error)) is None:
                    raise
                raise killed from error
            yield batch


class _Named(Dataset[Sample | Failure]):
    """Clips whose errors name them."""

    def __init__(self, clips: TrainClips | EvalClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Any) -> Sample | Failure:
        try:
            return self.clips[key]
        except Exception as error:
            record = self.clips.records[key[1] if isinstance(key, tuple) else key]
            raise WorkerError(f"{record.path}: {type(error).__name__}: {error}") from error


def killed_worker(error: RuntimeError) -> InputError | None:
    """PyTorch's error of a worker that was killed as a sentence; None of any other error.

    PyTorch raises it wherever the parent is at that moment.
    """
    match = _KILLED.search(str(error))
    if not match:
        return None
    how = f" ({match[2]})" if match[2] else ""
    return InputError(
        f"process {match[1]}, which decoded clips, was killed{how}, most likely because memory ran "
        f"out; lower --num_workers or --batch_size"
    )
