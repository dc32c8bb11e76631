"""Decoding processes: what goes wrong in them is a sentence, and signals are the parent's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gtdnet.data import sharing
from gtdnet.data.dataset import EvalClips, Sample
from gtdnet.data.formats import VideoRecord
from gtdnet.data.loader import ClipLoader, WorkerError, killed_worker
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError

SPEC = ClipSpec(("a",), num_segments=1, short_side=4, crop_size=4)


class Clips(EvalClips):
    """Clips whose reading is ``do``, by index."""

    def __init__(self, do: dict[int, Any]) -> None:
        super().__init__([VideoRecord(str(i), f"clip{i}.mp4", 0) for i in range(4)], SPEC)
        self.do = do

    def __getitem__(self, index: int) -> Sample:
        if index in self.do:
            self.do[index]()
        return Sample(torch.zeros(1, 1, 3, 4, 4, dtype=torch.uint8), 0, index)


def fail() -> None:
    raise KeyError("no such colour\nof a second line")


def batches(do: dict[int, Any], workers: int = 1) -> Iterator[list[int]]:
    for batch in ClipLoader(Clips(do), num_workers=workers, batch_size=2):
        yield batch.indices.tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_names_its_clip(workers: int) -> None:
    found = batches({2: fail}, workers)
    assert next(found) == [0, 1]
    with pytest.raises(WorkerError, match=r"^clip2\.mp4: KeyError: 'no such colour.n") as error:
        next(found)
    assert "Traceback" not in str(error.value)


def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"process \d+, .* was killed.*; lower --num_w"):
        list(batches({2: lambda: os.kill(os.getpid(), signal.SIGKILL)}))
    assert killed_worker(RuntimeError("another")) is None


def test_full_shared_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: torch.Tensor) -> None:
        raise RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    message = (
        r"^/dev/shm is full: a batch of 2 clips takes 0\.0 MB there, and each of 1 decoding .*"
        r"--shm-size.*--batch_size.*--num_workers 0\)$"
    )
    with pytest.raises(sharing.SharedMemoryFull, match=message):
        list(batches({}))


@pytest.mark.skipif(sys.platform != "linux", reason="sigwaitinfo")
def test_signals_of_others_do_not_end_a_worker() -> None:
    def others() -> None:
        for name in ("TERM", "INT"):
            subprocess.run(["kill", f"-{name}", str(os.getpid())], check=True)

    assert list(batches({1: others})) == [[0, 1], [2, 3]]


@pytest.mark.skipif(sys.platform != "linux", reason="sigwaitinfo")
def test_sigterm_of_the_parent_ends_a_worker() -> None:
    loader = ClipLoader(Clips({}), num_workers=1, batch_size=2, persistent_workers=True)
    assert len(list(loader)) == 2
    (worker,) = loader._iterator._workers  # type: ignore[union-attr]
    worker.terminate()
    worker.join(5)
    assert worker.exitcode == 0
    del loader
