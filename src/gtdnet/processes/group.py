"""Processes that do one thing together: what the first knows, what all have, who is lost.

Nobody waits for ever: who does not answer for as long as was agreed is lost, and then all end. Why
one ends it leaves in the store that all of them reach, and the first one says it: once.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from gtdnet.errors import InputError, ProcessLost
from gtdnet.processes.place import Place
from gtdnet.text import first_line, only_first_speaks

T = TypeVar("T")

# What gloo, NCCL and the store say of a connection; all are RuntimeErrors.
_LOST = re.compile(
    r"gloo|NCCL|[Cc]onnection (closed|reset|refused)|Broken pipe|recvValue|sendBytes|TCPStore"
    r"|Timed out|timeout"
)
_ROLL_CALL = 3.0  # seconds in which those that are alive notice that somebody is lost
_TO_START = 2.0  # minutes in which all are started, at least
_JOINED = "gtdnet/joined"  # keys of the store, by rank
_WORDS = "gtdnet/words"
_HERE = "gtdnet/here"
_SPOKEN = "gtdnet/spoken"


class Group:
    """The processes of one command, seen from one of them; also of one that is alone.

    Attributes:
        place: which of them this is.
        minutes: after which one that does not answer is lost.
        remedy: what is said beside who is lost.
    """

    def __init__(
        self,
        place: Place,
        store: Any = None,
        minutes: float = 5.0,
        ended: Callable[[], dict[int, str]] = dict,
    ) -> None:
        self.place = place
        self.store = store
        self.minutes = minutes
        self.remedy = "start the command again"
        self._ended = ended

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.place.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.place.size

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Until all processes have been here; ProcessLost after the time for that."""
        minutes = max(self.minutes, _TO_START)
        wait, until = datetime.timedelta(minutes=minutes), time.monotonic() + 60 * minutes
        if self.store is None:
            self.store = _find_store(self.place, wait)
        self.store.set_timeout(datetime.timedelta(seconds=_ROLL_CALL))
        self.store.set(f"{_JOINED}/{self.rank}", "")
        keys = [f"{_JOINED}/{rank}" for rank in range(self.size)]
        while not self.store.check(keys):
            if ended := self._ended():
                raise ProcessLost(f"{self._told(ended)} before it began; {self.remedy}")
            if time.monotonic() > until:
                late = [str(r) for r, key in enumerate(keys) if not self.store.check([key])]
                raise ProcessLost(
                    f"of {self.size} processes {', '.join(late)} did not come to "
                    f"{self.place.address}:{self.place.port} within {_said(minutes)}; see that all "
                    f"are started, and that this machine lets others in there"
                )
            time.sleep(0.1)

    # ------------------------------------------------------------------------ what is told others

    def share(self, value: T) -> T:
        """The first one's value, in all of them."""
        if self.size == 1:
            return value
        dist = distributed()
        values = [value]
        dist.broadcast_object_list(values, src=0, device=_cpu())
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The values of all in the first one, in their order; in the others nothing."""
        if self.size == 1:
            return [value]
        dist = distributed()
        values: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def in_turn(self, items: Iterator[T], rounds: int) -> Iterator[T]:
        """In the first one, the items of all: the first of each, then the second of each, ...

        There are as many rounds in every process; who has no more items gives none.
        """
        for _ in range(rounds):
            for got in self.gather([item] if (item := next(items, None)) is not None else []):
                yield from got

    @contextmanager
    def alike(self) -> Iterator[None]:
        """What is done within goes on in all processes, or ends in all with the first's error.

        An error of another one names it.
        """
        if self.size == 1:
            yield
            return
        dist = distributed()
        mine: BaseException | None = None
        try:
            yield
        except Exception as error:
            mine = error
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, None if mine is None else _words(mine))
        if self.is_first and mine is not None:
            raise mine
        if found := next(((r, words) for r, words in enumerate(told) if words), None):
            raise self._of(*found) if self.is_first else SystemExit(found[1][1])

    # ----------------------------------------------------------------------------------- the end

    def end_of(self, error: BaseException) -> BaseException:
        """What this process is to raise in place of an error that ends it: of all, one speaks."""
        if self.size == 1 or isinstance(error, (SystemExit, GeneratorExit)):
            return error
        if not self._is_of_others(error):
            self._put(f"{_WORDS}/{self.rank}", json.dumps(_words(error)))
            return error if self.is_first else SystemExit(_words(error)[1])
        found = self._who_is_lost()
        if self.is_first:
            self._put(_SPOKEN, "0")
            return found
        return found if self._speaks() else SystemExit(1)

    def _is_of_others(self, error: BaseException | None) -> bool:
        """Whether an error says no more than that another process is gone."""
        if isinstance(error, KeyboardInterrupt):
            # torchrun and srun end all with SIGTERM once one has died.
            return type(error) is not KeyboardInterrupt and bool(self._missing())
        seen = 0
        while error is not None and seen < 10:
            if isinstance(error, RuntimeError) and _LOST.search(str(error)):
                return True
            error, seen = error.__cause__ or error.__context__, seen + 1
        return False

    def _who_is_lost(self) -> BaseException:
        missing = self._missing()
        ended = self._ended()
        for rank in sorted({*missing, *ended} - {self.rank}):
            if words := self._get(f"{_WORDS}/{rank}"):
                return self._of(rank, json.loads(words))
        if ended:
            what = self._told(ended)
        elif missing:
            names = ", ".join(map(str, missing))
            who = "process" if len(missing) == 1 else "processes"
            what = f"{who} {names} of {self.size} ended or cannot be reached"
        else:
            what = f"one of {self.size} processes did not answer within {_said(self.minutes)}"
        return ProcessLost(f"{what}; {self.remedy}")

    def _missing(self) -> list[int]:
        """Who does not answer to a roll call."""
        if not self._put(f"{_HERE}/{self.rank}", "1"):
            return [0]  # the store has gone with the first
        others = [rank for rank in range(self.size) if rank != self.rank]
        until = time.monotonic() + _ROLL_CALL
        while missing := [rank for rank in others if not self._has(f"{_HERE}/{rank}")]:
            if time.monotonic() > until or self._ended():
                return missing
            time.sleep(0.1)
        return []

    def _speaks(self) -> bool:
        """Whether this one, which is not the first, is to say it: where the first cannot."""
        if self.store is None:  # gone with the first
            return self.place.local_rank == (1 if self.place.node == 0 else 0)
        until = time.monotonic() + 2 * _ROLL_CALL
        while time.monotonic() < until:
            if self._has(_SPOKEN):
                return False
            time.sleep(0.1)
        return not any(self._has(f"{_HERE}/{rank}") for rank in range(self.rank))

    def _of(self, rank: int, words: tuple[str, int, str]) -> BaseException:
        """The error of another process as one of this."""
        host, code, sentence = words
        if code >= 128:
            return KeyboardInterrupt()
        where = f" on {host}" if self.place.nodes > 1 else ""
        message = f"process {rank} of {self.size}{where}: {sentence}"
        return InputError(message) if code == 2 else ProcessLost(message)

    def _told(self, ended: dict[int, str]) -> str:
        return " and ".join(f"process {r} of {self.size} {how}" for r, how in ended.items())

    def _put(self, key: str, value: str) -> bool:
        return bool(self._ask(lambda store: (store.set(key, value), True)))

    def _has(self, key: str) -> bool:
        return bool(self._ask(lambda store: store.check([key])))

    def _get(self, key: str) -> str | None:
        return self._ask(lambda store: store.get(key).decode() if store.check([key]) else None)

    def _ask(self, what: Callable[[Any], Any]) -> Any:
        """What the store says; None where it is gone, with who held it."""
        if self.store is None:
            return None
        try:
            return what(self.store)
        except Exception:
            self.store = None  # each further try would cost seconds
            return None


ALONE = Group(Place())
_current: list[Group] = []


def current() -> Group:
    """The group that this process is in now."""
    return _current[-1] if _current else ALONE


@contextmanager
def member(
    place: Place,
    store: Any,
    *,
    minutes: float,
    backend: str,
    ended: Callable[[], dict[int, str]] = dict,
    seconds_to_end: float | None = None,
) -> Iterator[Group]:
    """Be in a group, with these processes; ProcessLost where they do not come together in time.

    Args:
        store: the one that the first process has already, or None.
        minutes: that one waits for another; until all are there, :data:`_TO_START` at least.
        backend: torch.distributed's.
        ended: what became of processes that were started here, by rank.
        seconds_to_end: after an error the process is ended, whatever in it still waits for others.
    """
    dist = distributed()
    group = Group(place, store, minutes, ended)
    try:
        group.wait_for_all()
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("gtdnet/group", group.store),
            rank=place.rank,
            world_size=place.size,
            timeout=datetime.timedelta(minutes=minutes),
        )
    except ProcessLost as error:
        if group.is_first:
            raise
        raise SystemExit(1) from error
    except (RuntimeError, OSError) as error:
        raise ProcessLost(
            f"process {place.rank} of {place.size} cannot reach the first one at "
            f"{place.address}:{place.port} ({first_line(error)}); see that it is started, and "
            f"that its machine lets others in there"
        ) from error
    _current.append(group)
    try:
        with only_first_speaks(group.is_first):
            yield group
    except BaseException as error:
        with _sigterm_ignored(for_good=seconds_to_end is not None):
            end = group.end_of(error)
        if seconds_to_end:
            end_within(seconds_to_end)
        if end is error:
            raise
        raise end from error
    finally:
        _current.remove(group)
        with suppress(Exception):
            dist.destroy_process_group()


def _find_store(place: Place, wait: datetime.timedelta) -> Any:
    dist = distributed()
    if place.by == "torchrun":  # whose agent may hold it
        return next(iter(dist.rendezvous("env://", place.rank, place.size, timeout=wait)))[0]
    return dist.TCPStore(
        place.address, place.port, place.size, place.rank == 0, timeout=wait, wait_for_workers=False
    )


@contextmanager
def _sigterm_ignored(for_good: bool) -> Iterator[None]:
    """Who is lost takes seconds to find out, and torchrun sends SIGTERM at once: it would be said
    that this process was terminated, and by nobody why."""
    try:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:  # not in the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        if not for_good:
            signal.signal(signal.SIGTERM, before)


def end_within(seconds: float) -> None:
    """Let this process end, whatever still waits for others in it."""
    timer = threading.Timer(seconds, lambda: (sys.stderr.flush(), os._exit(1)))
    timer.daemon = True
    timer.start()


def _words(error: BaseException) -> tuple[str, int, str]:
    """Machine, exit status, and a sentence."""
    if isinstance(error, InputError):
        return socket.gethostname(), 2, str(error)
    if isinstance(error, KeyboardInterrupt):
        return socket.gethostname(), 130, "interrupted"
    if isinstance(error, ProcessLost):
        return socket.gethostname(), 1, str(error)
    return socket.gethostname(), 1, f"failed: {type(error).__name__}: {error}"


def _said(minutes: float) -> str:
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def distributed() -> Any:
    """torch.distributed, parts of which are not declared."""
    import torch.distributed

    return torch.distributed


def _cpu() -> Any:
    import torch

    return torch.device("cpu")
