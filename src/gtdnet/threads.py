"""How many threads compute: as many as there are free cores; idle ones sleep.

OpenMP's threads wait for each other by spinning. Beside other work on the same cores, a thread that
spins takes the time of the one that is waited for, and two threads can be slower than one
(docs/performance.md). So the command line lets them sleep, and counts the cores that are free now.
Both go into the environment, which OpenMP and what builds on it read when they are loaded: before
PyTorch is imported. Nothing here is done for programs that import gtdnet.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gtdnet.errors import InputError, check_at_least
from gtdnet.text import counted, say
from gtdnet.workers import allowed_cores, cpu_quota

_LOOK_SECONDS = 0.2
_NUMBER = "OMP_NUM_THREADS"
# How threads wait: of OpenMP in general, GNU's (Linux) and LLVM's (macOS, Windows, Intel). GNU's
# may spin for some microseconds: to fall asleep and wake costs small networks more than that.
_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True)
class Threads:
    """How many compute, and why so many."""

    number: int
    why: str

    def __str__(self) -> str:
        return f"{counted(self.number, 'thread')} ({self.why})"


class CoreWatch:
    """How busy the cores that this process may use are, from now on."""

    def __init__(self, stat: str | Path = "/proc/stat") -> None:
        self._stat = Path(stat)
        self._wall, self._own, self._spent = self._look()

    def busy(self) -> float | None:
        """Cores that other processes kept busy since then, watched for a moment at least.

        Where the system does not tell, the load average of the last minute; None: nor that.
        """
        time.sleep(max(0.0, _LOOK_SECONDS - (time.monotonic() - self._wall)))
        wall, own, spent = self._look()
        if spent is None or self._spent is None:
            return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return max(0.0, (spent - self._spent - (own - self._own)) / (wall - self._wall))

    def _look(self) -> tuple[float, float, float | None]:
        """Wall clock, CPU seconds of this process, and of all on the cores that it may use."""
        cores = {f"cpu{core}" for core in allowed_cores()}
        try:
            lines = self._stat.read_text(encoding="ascii").splitlines()
            rows = [line.split()[1:] for line in lines if line.partition(" ")[0] in cores]
            # user nice system idle iowait irq softirq steal: all but the two of waiting
            ticks = sum(sum(map(int, [*row[:3], *row[5:8]])) for row in rows)
            spent = ticks / os.sysconf("SC_CLK_TCK") if rows else None
        except (OSError, ValueError, AttributeError):  # another system
            spent = None
        return time.monotonic(), time.process_time(), spent


def choose_threads(
    asked: int | None,
    watch: CoreWatch,
    processes: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> Threads:
    """The number that was asked for, else the environment's, else that of the free cores.

    These are no more than there are whole cores (two hardware threads of one share what computes),
    than a container's quota covers, and than others leave free; one at least.

    Args:
        processes: that share the cores, each with as many threads.

    Raises:
        InputError: less than one thread, or more than this machine has cores.
    """
    if asked is not None:
        check_at_least(1, threads=asked)
        if asked > (most := os.cpu_count() or asked):
            raise InputError(f"--threads {asked}: this machine has {counted(most, 'core')}")
        return Threads(asked, "--threads")
    if given := environment.get(_NUMBER):
        first = given.partition(",")[0].strip()  # of nested parallelism
        return Threads(int(first) if first.isdecimal() else 1, f"{_NUMBER}={given}")
    cores, quota, busy = whole_cores(), cpu_quota(), watch.busy()
    why = [counted(cores, "core")]
    if quota is not None and quota < cores:
        cores = max(1, int(quota))
        why.append(f"a quota of {quota:g}")
    if busy is not None:
        allowed = len(allowed_cores())
        cores = min(cores, max(1, round(allowed - busy)))
        why.append(f"others keep {min(busy, allowed):.1f} busy" if busy >= 0.1 else "all free")
    if processes > 1:
        why.append(counted(processes, "process", "processes"))
    return Threads(max(1, cores // processes), ", ".join(why))


def whole_cores(topology: str | Path = "/sys/devices/system/cpu") -> int:
    """Cores that this process may use, hardware threads of one counted once."""
    allowed, found = allowed_cores(), set()
    for core in allowed:
        try:
            path = Path(topology, f"cpu{core}", "topology", "thread_siblings_list")
            found.add(path.read_text(encoding="ascii").strip())
        except OSError:  # another system
            return len(allowed)
    return len(found)


_unsaid: list[Threads] = []


def let_idle_threads_sleep() -> None:
    """In what is loaded from now on, unless the environment says how threads wait."""
    if not any(name in os.environ for name in _WAITING):
        os.environ.update(_WAITING)


def use_threads(threads: Threads) -> None:
    """Let this many compute, in what is loaded from now on and in PyTorch.

    :func:`say_threads` says so once something is computed.
    """
    os.environ[_NUMBER] = str(threads.number)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads.number)
    _unsaid[:] = [threads]


def say_threads(tell: Callable[[str], None] = say) -> None:
    """Say what :func:`use_threads` was told, once; nothing where nobody has chosen."""
    while _unsaid:
        tell(str(_unsaid.pop()))
