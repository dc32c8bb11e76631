"""Machines that answer blocks of clips, and die: a simulation of ``gtdnet bulk`` by events.

What it has of the command: blocks of a listing in order, one at a time to each process; a shard for
each block, written whole when the block is done; blocks whose process, machine or driver died are
begun again, first of all; a start of the driver reads ids, looks at the shards that are there and
passes over the rows that are done. What it leaves out: clips that cannot be read, blocks whose
clips are tried one by one, and that a process is slower at first.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

_MOST_BLOCKS = 1_000_000  # that are simulated one by one
_HOPELESS = 50  # starts for each block, after which a run is taken to have no end


@dataclass(frozen=True)
class Cluster:
    """Machines, all alike but for the slow ones; times in seconds unless they say hours.

    Attributes:
        cores, workers: of each machine: processors, and processes that have the model.
        worker_start_s: from the start of a process until it has the model.
        mtbf_h: mean time between failures of a machine (Poisson).
        repair_s: until a machine that failed is back.
        slow_share, slow_times: so many of the machines take so many times as long.
        mb_per_s: what a machine gets from the object store.
        driver_mtbf_h, driver_restart_s: of the command, and until somebody gives it again.
    """

    machines: int = 1
    cores: int = 1
    workers: int = 1
    worker_start_s: float = 0.0
    mtbf_h: float = math.inf
    repair_s: float = 0.0
    slow_share: float = 0.0
    slow_times: float = 1.0
    mb_per_s: float = math.inf
    driver_mtbf_h: float = math.inf
    driver_restart_s: float = 0.0


@dataclass(frozen=True)
class Work:
    """Clips to be answered, and what they take.

    Attributes:
        cpu_s: of one core for a clip: reading and network.
        spread: standard deviation of a clip's seconds, as a share of them.
        clip_mb, latency_s: a clip's size in the object store, and the wait for its first byte.
        shard_s: to write a shard.
        dispatch_s: of the driver for a block.
        ids_s, listing_s: of the driver for a row: to see that its id is unique, once; to read it.
        footer_s: of a driver that goes on, for a shard that is there.
    """

    clips: int
    block_size: int
    cpu_s: float
    spread: float = 0.0
    clip_mb: float = 0.0
    latency_s: float = 0.0
    shard_s: float = 0.0
    dispatch_s: float = 0.0
    ids_s: float = 0.0
    listing_s: float = 0.0
    footer_s: float = 0.0

    @property
    def blocks(self) -> int:
        return -(-self.clips // self.block_size)


class Kill(NamedTuple):
    """``after`` further blocks and ``delay_s`` seconds, the driver or one of its processes dies."""

    victim: str  # "driver" or "worker"
    after: int
    delay_s: float


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        seconds: until all is done, or until the driver died if it is not begun again.
        begun, lost: blocks that were begun, and those of them whose work was lost.
        lost_s, busy_s: seconds of processes: of work that was lost, of all work.
        machine_deaths, driver_deaths, worker_deaths: those that happened.
        rows: how many rows the shards have; written: times that each shard was, at least and most.
        kills_left: that were asked for and did not come about.
    """

    seconds: float = 0.0
    begun: int = 0
    lost: int = 0
    lost_s: float = 0.0
    busy_s: float = 0.0
    machine_deaths: int = 0
    driver_deaths: int = 0
    worker_deaths: int = 0
    rows: int = 0
    written: tuple[int, int] = (0, 0)
    kills_left: int = 0


def clip_seconds(cluster: Cluster, work: Work, times: float = 1.0) -> float:
    """Between two clips of a process, in a machine whose processes are all at work.

    The bound of whichever is short: cores, the processes' own waiting, the way to the store.
    """
    cpu, transfer = work.cpu_s * times, work.clip_mb / cluster.mb_per_s
    alone = cpu + work.latency_s + transfer
    return max(alone, cluster.workers * transfer, cluster.workers * cpu / cluster.cores)


def simulate(cluster: Cluster, work: Work, seed: int = 0, kills: Sequence[Kill] = ()) -> Outcome:
    """Answer all clips; the same arguments give the same outcome.

    Raises:
        ValueError: so many failures for so large blocks that it would never end.
    """
    return _Run(cluster, work, seed, kills).run()


def thinned(cluster: Cluster, work: Work) -> tuple[Cluster, Work, int]:
    """A part of the machines with the same part of the clips, so that not too many blocks remain.

    The driver's work for each is made so many times as long, so its share of the time is the same.
    Slow machines are a whole number in each part. Gives the number of parts too, by which counts
    are to be multiplied.
    """
    slow = round(cluster.slow_share * cluster.machines)
    able = [n for n in range(1, cluster.machines + 1) if cluster.machines % n == slow % n == 0]
    parts = next((n for n in able if work.blocks / n <= _MOST_BLOCKS), able[-1])
    longer = {
        name: getattr(work, name) * parts
        for name in ("dispatch_s", "ids_s", "listing_s", "footer_s")
    }
    few = replace(cluster, machines=cluster.machines // parts)
    return few, replace(work, clips=-(-work.clips // parts), **longer), parts


class _Run:
    def __init__(self, cluster: Cluster, work: Work, seed: int, kills: Sequence[Kill]) -> None:
        self.cluster, self.work, self.rng = cluster, work, random.Random(seed)
        workers = cluster.machines * cluster.workers
        num_slow = round(cluster.slow_share * cluster.machines)
        slow = set(self.rng.sample(range(cluster.machines), num_slow))
        self.pace = [
            clip_seconds(cluster, work, cluster.slow_times if machine in slow else 1.0)
            for machine in range(cluster.machines)
        ]
        self.life = [0] * workers  # events of an earlier life of a process are void
        self.job: list[tuple[int, float] | None] = [None] * workers  # block, since when
        self.idle: list[int] = []
        self.up = [True] * cluster.machines
        self.again: deque[int] = deque()
        self.next, self.free, self.driver = 0, 0.0, True
        self.shards, self.num_done = [0] * work.blocks, 0
        self.events: list[tuple[float, int, str, int, int]] = []
        self.ties = count()
        self.kills, self.since_kill, self.aimed = deque(kills), 0, False
        self.out = Outcome()

    def run(self) -> Outcome:
        self._start_driver(0.0, first=True)
        for machine in range(self.cluster.machines):
            self._age(0.0, "machine", machine, self.cluster.mtbf_h)
        self._age(0.0, "driver", 0, self.cluster.driver_mtbf_h)
        now = 0.0
        while self.num_done < self.work.blocks:
            now, _, kind, who, life = heapq.heappop(self.events)
            if kind in ("ready", "done") and life != self.life[who]:
                continue
            getattr(self, f"_{kind}")(now, who)
        out = self.out
        out.seconds, out.kills_left = now, len(self.kills)
        out.written = (min(self.shards), max(self.shards))
        return out

    def _at(self, time: float, kind: str, who: int = 0, life: int = 0) -> None:
        heapq.heappush(self.events, (time, next(self.ties), kind, who, life))

    def _age(self, now: float, kind: str, who: int, mtbf_h: float) -> None:
        if mtbf_h < math.inf:
            self._at(now + self.rng.expovariate(1 / (3600 * mtbf_h)), kind, who)

    # ------------------------------------------------------------------------ processes, blocks

    def _start(self, now: float, worker: int) -> None:
        self.life[worker] += 1
        self._at(now + self.cluster.worker_start_s, "ready", worker, self.life[worker])

    def _ready(self, now: float, worker: int) -> None:
        """Give a process its next block, if there is one."""
        work = self.work
        if self.again:
            block = self.again.popleft()
        elif self.next < work.blocks:
            block, self.next = self.next, self.next + 1
        else:
            self.idle.append(worker)
            return
        self.out.begun += 1
        if self.out.begun > _HOPELESS * work.blocks + 1000:
            raise ValueError(
                f"blocks of {work.block_size} clips do not get done between the failures; take "
                f"smaller ones"
            )
        rows = self._rows(block)
        self.free = max(now, self.free) + work.dispatch_s + rows * work.listing_s
        luck = max(0.1, self.rng.gauss(1.0, work.spread / math.sqrt(rows))) if work.spread else 1.0
        pace = self.pace[worker // self.cluster.workers]
        self.job[worker] = block, self.free
        until = self.free + rows * pace * luck + work.shard_s
        self._at(until, "done", worker, self.life[worker])

    def _rows(self, block: int) -> int:
        return min(self.work.block_size, self.work.clips - block * self.work.block_size)

    def _done(self, now: float, worker: int) -> None:
        block, since = self.job[worker] or (0, now)
        self.job[worker] = None
        self.shards[block] += 1
        self.out.rows += self._rows(block)
        self.out.busy_s += now - since
        self.num_done += 1
        self.since_kill += 1
        if self.kills and not self.aimed and self.since_kill >= self.kills[0].after:
            self.aimed = True
            self._at(now + self.kills[0].delay_s, "kill")
        self._ready(now, worker)

    def _lose(self, now: float, worker: int) -> None:
        """A process dies: its block goes back, to be the next."""
        self.life[worker] += 1
        if worker in self.idle:
            self.idle.remove(worker)
        if (job := self.job[worker]) is None:
            return
        block, since = job
        self.job[worker] = None
        self.again.append(block)
        self.out.lost += 1
        self.out.lost_s += max(0.0, now - since)
        self.out.busy_s += max(0.0, now - since)

    def _wake(self, now: float) -> None:
        waiting, self.idle = self.idle, []
        for worker in waiting:
            self._ready(now, worker)

    # ----------------------------------------------------------------------------------- deaths

    def _machine(self, now: float, machine: int) -> None:
        self.up[machine] = False
        self.out.machine_deaths += 1
        for worker in self._workers(machine):
            self._lose(now, worker)
        self._wake(now)
        self._at(now + self.cluster.repair_s, "repaired", machine)

    def _repaired(self, now: float, machine: int) -> None:
        self.up[machine] = True
        self._age(now, "machine", machine, self.cluster.mtbf_h)
        if self.driver:
            for worker in self._workers(machine):
                self._start(max(now, self.free), worker)

    def _workers(self, machine: int) -> range:
        each = self.cluster.workers
        return range(machine * each, (machine + 1) * each)

    def _driver(self, now: float, _: int) -> None:
        """The command dies, and all processes with it; it is given again."""
        self.out.driver_deaths += 1
        self.driver = False
        for worker in range(len(self.life)):
            self._lose(now, worker)
        self._at(now + self.cluster.driver_restart_s, "driver_again")

    def _driver_again(self, now: float, _: int) -> None:
        self._start_driver(now, first=False)
        self._age(now, "driver", 0, self.cluster.driver_mtbf_h)

    def _start_driver(self, now: float, first: bool) -> None:
        work = self.work
        took = work.clips * work.ids_s if first else self.num_done * work.footer_s
        took += self.out.rows * work.listing_s  # rows that are done are read and passed over
        self.driver, self.free = True, now + took
        for machine, is_up in enumerate(self.up):
            for worker in self._workers(machine) if is_up else ():
                self._start(self.free, worker)

    def _kill(self, now: float, _: int) -> None:
        kill = self.kills.popleft()
        self.aimed, self.since_kill = False, 0
        if kill.victim == "driver":
            self._driver(now, 0)
            return
        worker = self.rng.randrange(len(self.life))
        self.out.worker_deaths += 1
        self._lose(now, worker)
        self._wake(now)
        self._start(now, worker)
