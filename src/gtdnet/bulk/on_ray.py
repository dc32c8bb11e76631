"""The same blocks spread over a Ray cluster by Ray Data.

One task reads the listing and gives its blocks one by one; a pool of actors answers them. Each
actor has its clips decoded and answered in a process of its own, so a clip that kills costs that
process, is tried again there, and becomes a row. Where an actor or its machine dies, Ray gives the
block to another; the shard is written whole, under the block's name, so it is there once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from gtdnet.bulk.crew import BlockCrew, Done
from gtdnet.bulk.listing import Block, Listing
from gtdnet.bulk.options import BulkOptions
from gtdnet.bulk.scorer import Setup
from gtdnet.device import resolve_device
from gtdnet.spread.on_ray import cluster, in_actors
from gtdnet.workers import beginning, start_worker


def on_ray(
    setup: Setup, listing: Listing, done: Collection[int], num_blocks: int, options: BulkOptions
) -> Iterator[Done]:
    """Answer the blocks of a listing that are not done, as they come.

    Raises:
        InputError: the cluster cannot be reached or is too small, or an actor cannot go on.
    """
    has_gpu = resolve_device(setup.device).type == "cuda"
    rows = partial(listing.blocks, options.block_size, frozenset(done))
    begin, folder = beginning(start_worker), str(Path.cwd())
    make = partial(_answering, setup, options, begin, folder)
    with cluster(options.ray_address, options.num_workers, num_blocks) as size:
        yield from in_actors(rows, make, size, num_gpus=1 if has_gpu else None)


def _answering(
    setup: Setup, options: BulkOptions, begin: Callable[[], None], folder: str
) -> Callable[[Block], Done]:
    """In an actor: what answers a block."""
    crew = BlockCrew(
        setup, begin, 1, attempts=options.attempts, timeout=options.timeout, folder=folder
    )

    def answer(block: Block) -> Done:
        (done,) = crew.run([block])
        return done

    return answer
