"""The same blocks spread over a Ray cluster by Ray Data.

One task reads the listing and gives its blocks one by one; a pool of actors answers them. Each
actor has its clips decoded and answered in a process of its own (:class:`gtdnet.bulk.crew.Crew`),
so a clip that kills costs that process, is tried again there, and becomes a row: Ray itself would
start the actor and the same block for ever. Where an actor or its machine dies, Ray gives the block
to another; the shard is written whole, under the block's name, so it is there once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gtdnet.bulk.crew import Crew, Done
from gtdnet.bulk.listing import Block, Listing, Row
from gtdnet.bulk.options import BulkOptions
from gtdnet.bulk.scorer import Setup
from gtdnet.bulk.shards import Counts
from gtdnet.device import resolve_device
from gtdnet.engines.base import missing
from gtdnet.errors import InputError
from gtdnet.text import first_line, only_errors
from gtdnet.workers import beginning, num_cores, start_worker

_SPARE = 2
"""CPUs, as Ray counts them, beyond those of the actors: with none left Ray Data waits for ever."""

_SECONDS = 10.0  # that a cluster may take to answer
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else its C++ part writes among our messages
    "RAY_worker_niceness": "0",  # as the processes of a crew; with 15 a busy machine starves them
}


def check_ray() -> None:
    """Raise InputError where Ray Data is not installed."""
    if reason := missing("ray", extra="gtdnet[ray]"):
        raise InputError(reason)


def on_ray(
    setup: Setup, listing: Listing, done: Collection[int], num_blocks: int, options: BulkOptions
) -> Iterator[Done]:
    """Answer the blocks of a listing that are not done, as they come.

    Raises:
        InputError: the cluster cannot be reached or is too small, or an actor cannot go on.
    """
    with _cluster(options, num_blocks) as size:
        import ray.data  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # bytes: a row, which is a block of clips, goes by itself
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        folder = str(Path.cwd())
        rows = ray.data.from_items([0], override_num_blocks=1).map_batches(
            partial(
                _blocks,
                listing=listing,
                size=options.block_size,
                done=frozenset(done),
                folder=folder,
            ),
            batch_size=1,
            num_cpus=0,
        )
        has_gpu = resolve_device(setup.device).type == "cuda"
        answered = rows.map_batches(
            _Actor,
            fn_constructor_args=(setup, options, beginning(start_worker), folder),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size),
            num_gpus=1 if has_gpu else None,
        )
        try:
            for row in answered.iter_rows():
                found = json.loads(str(row["done"]))
                if "refused" in found:
                    raise InputError(found["refused"])
                if "failed" in found:
                    raise RuntimeError(found["failed"])
                yield Done(**{**found, "counts": Counts(*found["counts"])})
        except RayError as error:
            raise RuntimeError(f"Ray gave up: {first_line(error)}") from error


@contextmanager
def _cluster(options: BulkOptions, num_blocks: int) -> Iterator[int]:
    """Ray, connected or started, and how many actors it is to have."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray.data  # pyright: ignore[reportMissingImports]

    address = options.ray_address or os.environ.get("RAY_ADDRESS")
    is_ours = not ray.is_initialized()
    if is_ours and address:
        _check_address(address)
    size = options.num_workers or num_cores()
    if is_ours:
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
        try:
            with _signals_kept():
                if address:
                    quiet.pop("include_dashboard")
                    ray.init(address, **quiet)
                else:
                    ray.init("local", num_cpus=min(size, num_blocks) + _SPARE, **quiet)
        except Exception as error:
            raise InputError(
                f"Ray {f'at {address} ' if address else ''}cannot be used: {first_line(error)}"
            ) from error
    try:
        if address or not is_ours:
            cpus = int(ray.cluster_resources().get("CPU", 0))
            size = options.num_workers or cpus - _SPARE
            if size < 1 or size + _SPARE > cpus:
                raise InputError(
                    f"the Ray cluster has {cpus} CPUs, too few for {max(size, 1)} actors and "
                    f"{_SPARE} to spare; lower --num-workers, or start its nodes with a larger "
                    f"--num-cpus: these need not be cores"
                )
        with only_errors("ray", "ray.data"):
            yield min(size, num_blocks)
    finally:
        if is_ours:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Raise InputError where nobody answers: Ray would wait, and then end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdecimal()):  # as "auto", which Ray looks up
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({first_line(error)}); start one with ray start "
            f"--head, or leave out --ray-address for one of this machine"
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray answers SIGTERM by an exit of its own; the command has its way (143)."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _blocks(
    _: Any, listing: Listing, size: int, done: Collection[int], folder: str
) -> Iterator[dict[str, list[str]]]:
    """The blocks of a listing as rows of text, one at a time."""
    os.chdir(folder)
    for block in listing.blocks(size, done):
        yield {"block": [json.dumps([block.number, block.rows])]}


class _Actor:
    """Answers one block at a time in a process of its own."""

    def __init__(
        self, setup: Setup, options: BulkOptions, begin: Callable[[], None], folder: str
    ) -> None:
        self._crew = Crew(
            setup, begin, 1, attempts=options.attempts, timeout=options.timeout, folder=folder
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        number, rows = json.loads(str(batch["block"][0]))
        block = Block(number, tuple(Row(*row) for row in rows))
        try:
            (done,) = self._crew.run([block])
        except InputError as error:
            return {"done": [json.dumps({"refused": str(error)})]}
        except RuntimeError as error:
            return {"done": [json.dumps({"failed": str(error)})]}
        return {"done": [json.dumps(done._asdict())]}
