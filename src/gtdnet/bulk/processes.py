"""Blocks spread over processes of this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import torch

from gtdnet.bulk.crew import BlockCrew, Done
from gtdnet.bulk.listing import Listing
from gtdnet.bulk.options import BulkOptions
from gtdnet.bulk.scorer import Setup
from gtdnet.device import resolve_device
from gtdnet.workers import beginning, default_workers, num_cores, start_worker


def on_processes(
    setup: Setup, listing: Listing, done: Collection[int], num_blocks: int, options: BulkOptions
) -> Iterator[Done]:
    """Answer the blocks of a listing that are not done, ``num_blocks``, as `BlockCrew.run`."""
    number = options.num_workers
    if number is None:
        device = resolve_device(setup.device)
        gpus = max(1, torch.cuda.device_count())
        number = num_cores() if device.type == "cpu" else gpus * default_workers(device, gpus)
    with BlockCrew(
        setup,
        beginning(start_worker),
        min(number, num_blocks),
        attempts=options.attempts,
        timeout=options.timeout,
        folder=str(Path.cwd()),
    ) as crew:
        yield from crew.run(listing.blocks(options.block_size, done))
