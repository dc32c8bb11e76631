"""How processes that belong together come together: started by a launcher, or by the first one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import Any, NoReturn

from gtdnet.errors import InputError
from gtdnet.processes.group import ALONE, Group, current, distributed, member
from gtdnet.processes.place import CALL, find_place, place_by_hand
from gtdnet.workers import import_registering, registering

_QUIET = ("TORCH_CPP_LOG_LEVEL", "ERROR")
_AT_HAND = 10.0  # seconds in which those that are left notice it and end by themselves


def keep_quiet() -> None:
    """Let a PyTorch that is imported later log no warnings of connections: we say what is wrong."""
    os.environ.setdefault(*_QUIET)


@contextmanager
def joined(minutes: float, on_gpus: bool | None = None) -> Iterator[Group]:
    """Be in the group of those that a launcher started beside this process, if one did.

    Raises:
        ProcessLost: they do not come together within so many minutes.
        InputError: the launcher's environment makes no sense.
    """
    place = find_place()
    if place is None or current() is not ALONE:
        yield current()
        return
    with member(
        place,
        None,
        minutes=minutes,
        backend=_backend(on_gpus),
        seconds_to_end=2 * _AT_HAND,
    ) as group:
        yield group


def started(
    devices: int | None, num_nodes: int | None, if_not: int = 1, nodes_if_not: int = 1
) -> tuple[int, int]:
    """Processes on each machine, and machines: those of a launcher, else those asked for.

    None: nothing was asked for. InputError if a launcher started other numbers than were.
    """
    group = current()
    if group is ALONE:
        return devices or if_not, num_nodes or nodes_if_not
    there = (group.place.local_size, group.place.nodes)
    if (devices or 1) * (num_nodes or 1) > 1 and (devices or 1, num_nodes or 1) != there:
        raise InputError(
            f"devices={devices or 1} and num_nodes={num_nodes or 1} were asked for, but "
            f"{group.place.by or 'the first process'} started {there[0]} processes on each of "
            f"{there[1]} machines; leave both options out"
        )
    return there


@contextmanager
def together(
    function: str,
    arguments: dict[str, Any],
    *,
    devices: int = 1,
    num_nodes: int = 1,
    minutes: float = 5.0,
    on_gpus: bool = False,
) -> Iterator[Group]:
    """Be in a group of ``devices`` processes on each of ``num_nodes`` machines.

    Where a launcher started them, it is theirs. Else the others of this machine are started, and
    each calls ``function``, as "module:name", with the same arguments (for JSON), which comes to
    the same place and finds the group.
    """
    if current() is not ALONE or devices * num_nodes == 1:
        yield current()
        return
    yield from _start(function, arguments, devices, num_nodes, minutes, on_gpus)


def _start(
    function: str,
    arguments: dict[str, Any],
    devices: int,
    num_nodes: int,
    minutes: float,
    on_gpus: bool,
) -> Iterator[Group]:
    place, store = place_by_hand(devices, num_nodes), None
    if num_nodes == 1:  # whichever port is free
        store = distributed().TCPStore(place.address, 0, place.size, True, wait_for_workers=False)
        place = replace(place, port=store.port)
    call = {
        "function": function,
        "arguments": arguments,
        "import": registering(),
        "path": sys.path,
        "minutes": minutes,
        "on_gpus": on_gpus,
    }
    children = _Children()
    try:
        for local_rank in range(1, devices):
            environment = {**os.environ, **place.of_child(local_rank), CALL: json.dumps(call)}
            environment.setdefault(*_QUIET)
            if "torch" in sys.modules:
                threads = sys.modules["torch"].get_num_threads()
                environment["OMP_NUM_THREADS"] = str(threads)
            children.start(place.rank + local_rank, environment)
        children.watch(place.size)
        backend = _backend(on_gpus)
        with member(place, store, minutes=minutes, backend=backend, ended=children.ended) as group:
            yield group
            children.is_done = True
    finally:
        children.end()


class _Children:
    """Processes that this one started, by rank."""

    def __init__(self) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.is_done = False

    def start(self, rank: int, environment: dict[str, str]) -> None:
        # Its stdin ends with this process; stdout is for the first one's results.
        self.processes[rank] = subprocess.Popen(
            [sys.executable, "-c", "from gtdnet.processes.start import child; child()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
        )

    def ended(self) -> dict[int, str]:
        """What became of those that did not end well; of those that were killed, if any was."""
        codes = {rank: process.poll() or 0 for rank, process in self.processes.items()}
        killed = {rank: code for rank, code in codes.items() if code < 0}
        return {rank: _how(code) for rank, code in (killed or codes).items() if code}

    def watch(self, size: int) -> None:
        """End this process where one of them has died, and no call that waits for it returns."""

        def look() -> None:
            while not self.is_done and not self.ended():
                time.sleep(0.5)
            until = time.monotonic() + 2 * _AT_HAND
            while not self.is_done and time.monotonic() < until:
                time.sleep(0.5)
            if not self.is_done:
                lost = " and ".join(f"process {r} of {size} {h}" for r, h in self.ended().items())
                self.end()
                print(f"gtdnet: {lost}; start the command again", file=sys.stderr, flush=True)
                os._exit(1)

        threading.Thread(target=look, daemon=True).start()

    def end(self) -> None:
        """Wait until they have ended; after some seconds end them."""
        was_done, self.is_done = self.is_done, True
        until = time.monotonic() + (_AT_HAND if was_done else _AT_HAND / 2)
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()
            process.wait()


def _how(code: int) -> str:
    if code > 0:
        return f"ended with exit status {code}"
    name = signal.Signals(-code).name
    memory = ", most likely because memory ran out" if name == "SIGKILL" else ""
    return f"was killed ({name}{memory})"


def child() -> NoReturn:
    """What a process that :func:`together` started does: the function that it is told."""
    call = json.loads(os.environ[CALL])
    threading.Thread(target=_end_with_first, daemon=True).start()
    sys.path[:] = call["path"]
    for module in call["import"]:
        import_registering(module)
    module, _, name = call["function"].partition(":")
    function = getattr(import_module(module), name)
    code = 0
    try:
        with joined(call["minutes"], call["on_gpus"]):
            function(**call["arguments"])
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        print(f"gtdnet: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _end_with_first() -> None:
    # A read of Python's own buffer would keep its lock when the process ends.
    while os.read(0, 1024):
        pass
    time.sleep(_AT_HAND)  # it may have ended well, and so may this one
    os._exit(1)


def _backend(on_gpus: bool | None) -> str:
    import torch

    if on_gpus is None:
        on_gpus = torch.cuda.is_available()
    return "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
