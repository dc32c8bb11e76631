"""A pool of actors on a Ray cluster, by Ray Data: rows of work in, what becomes of each out.

One task gives the rows one by one; actors of a pool do them. An actor must not die of its row,
or Ray would start it and the same row for ever: so it has a process of its own for what may kill
(`gtdnet.spread.crew.Crew`). Where an actor or its machine dies, Ray gives its row to another.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gtdnet.errors import InputError
from gtdnet.text import first_line, only_errors
from gtdnet.workers import num_cores

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
    for package in ("ray", "pyarrow"):
        if find_spec(package) is None:
            raise InputError(f'{package} is not installed; get it with: pip install "gtdnet[ray]"')


def in_actors(
    rows: Callable[[], Iterable[Any]],
    make: Callable[[], Callable[[Any], Any]],
    size: int,
    num_gpus: int | None = None,
) -> Iterator[Any]:
    """What ``make()``, called in each of ``size`` actors, gives for each row, in any order.

    Both are called on machines of the cluster that :func:`cluster` connected, in a folder of the
    name of this one.

    Raises:
        InputError, RuntimeError: an actor did, or Ray gave up.
    """
    import ray.data  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # bytes: each row goes by itself
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    folder = str(Path.cwd())
    given = ray.data.from_items([0], override_num_blocks=1).map_batches(
        partial(_give, rows=rows, folder=folder), batch_size=1, num_cpus=0
    )
    done = given.map_batches(
        _Actor,
        fn_constructor_args=(make, folder),
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size),
        num_gpus=num_gpus,
    )
    try:
        for row in done.iter_rows():
            kind, what = pickle.loads(row["row"])  # of our own actors
            if kind == "refused":
                raise InputError(what)
            if kind == "failed":
                raise RuntimeError(what)
            yield what
    except RayError as error:
        raise RuntimeError(f"Ray gave up: {first_line(error)}") from error


def put(value: Any) -> Callable[[], Any]:
    """What gives a value to a task, however large it is: once for each machine."""
    import ray  # pyright: ignore[reportMissingImports]

    return partial(_got, ray.put(value))


def _got(reference: Any) -> Any:
    import ray  # pyright: ignore[reportMissingImports]

    return ray.get(reference)


@contextmanager
def cluster(address: str | None, workers: int | None, most: int) -> Iterator[int]:
    """Ray, connected or started, and how many actors it is to have: at most ``most``.

    Raises:
        InputError: the cluster cannot be reached, or is too small for so many ``workers``.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray.data  # pyright: ignore[reportMissingImports]

    address = address or os.environ.get("RAY_ADDRESS")
    is_ours = not ray.is_initialized()
    if is_ours and address:
        _check_address(address)
    size = workers or num_cores()
    if is_ours:
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
        try:
            with _signals_kept():
                if address:
                    quiet.pop("include_dashboard")
                    ray.init(address, **quiet)
                else:
                    ray.init("local", num_cpus=min(size, most) + _SPARE, **quiet)
        except Exception as error:
            raise InputError(
                f"Ray {f'at {address} ' if address else ''}cannot be used: {first_line(error)}"
            ) from error
    try:
        if address or not is_ours:
            cpus = int(ray.cluster_resources().get("CPU", 0))
            size = workers or cpus - _SPARE
            if size < 1 or size + _SPARE > cpus:
                raise InputError(
                    f"the Ray cluster has {cpus} CPUs, too few for {max(size, 1)} actors and "
                    f"{_SPARE} to spare; lower --num-workers, or start its nodes with a larger "
                    f"--num-cpus: these need not be cores"
                )
        with only_errors("ray", "ray.data"):
            yield min(size, most)
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


def _give(_: Any, rows: Callable[[], Iterable[Any]], folder: str) -> Iterator[dict[str, Any]]:
    """The rows, one at a time."""
    os.chdir(folder)
    for row in rows():
        yield {"row": [pickle.dumps(row)]}


class _Actor:
    """Does one row at a time."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], folder: str) -> None:
        os.chdir(folder)
        self._work = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        try:
            told = "done", self._work(pickle.loads(bytes(batch["row"][0])))
        except InputError as error:
            told = "refused", str(error)
        except RuntimeError as error:
            told = "failed", str(error)
        return {"row": [pickle.dumps(told)]}
