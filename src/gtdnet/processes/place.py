"""Which of the processes of one command this is, as whoever started them says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gtdnet.errors import InputError

CALL = "GTDNET_CALL"  # what a process that we start is to do
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES")
_BY_HAND = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Of one process among all.

    Attributes:
        rank, size: its number, and how many there are, on all machines.
        local_rank, local_size: the same on its machine.
        address, port: where the first one can be reached.
        by: who started it, for people; "" where it started the others itself, or there are none.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    by: str = ""

    def __post_init__(self) -> None:
        if self.size % self.local_size:
            raise InputError(
                f"{self.by} started {self.size} processes, {self.local_size} of them on this "
                f"machine; start as many on every machine"
            )

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.size // self.local_size

    @property
    def node(self) -> int:
        """Number of this machine."""
        return self.rank // self.local_size

    def of_child(self, local_rank: int) -> dict[str, str]:
        """The environment of another process on this machine."""
        rank = self.rank - self.local_rank + local_rank
        values = (rank, self.size, local_rank, self.local_size, self.address, self.port)
        return dict(zip(_TORCHRUN, map(str, values), strict=True))


def find_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The place that torchrun, SLURM's srun or our own start gave this process; None: it is alone.

    InputError for an environment that is one of theirs, but makes no sense.
    """
    place = None
    if all(environment.get(name) for name in _TORCHRUN):
        rank, size, local_rank, local_size = _numbers(environment, *_TORCHRUN[:4])
        address, (port,) = environment["MASTER_ADDR"], _numbers(environment, "MASTER_PORT")
        by = "" if CALL in environment else "torchrun"
        place = Place(rank, size, local_rank, local_size, address, port, by)
    elif all(environment.get(name) for name in _SLURM):
        place = _of_slurm(environment)
    return place if place and place.size > 1 else None


def place_by_hand(
    devices: int, num_nodes: int, environment: Mapping[str, str] = os.environ
) -> Place:
    """The first process of this machine, where the same command is given on each of several.

    InputError where the environment does not say which machine this is, and where the first is.
    """
    if num_nodes == 1:
        return Place(size=devices, local_size=devices)
    if missing := [name for name in _BY_HAND if not environment.get(name)]:
        raise InputError(
            f"num_nodes={num_nodes}: {', '.join(missing)} must be set in the environment "
            f"(NODE_RANK: 0, 1, ... of this machine; MASTER_ADDR, MASTER_PORT: of the first one), "
            f"or start the command with torchrun or srun"
        )
    node, port = _numbers(environment, "NODE_RANK", "MASTER_PORT")
    if not 0 <= node < num_nodes:
        raise InputError(
            f"NODE_RANK={node}: with num_nodes={num_nodes} it is 0 to {num_nodes - 1}; mend it"
        )
    size, address = devices * num_nodes, environment["MASTER_ADDR"]
    return Place(node * devices, size, 0, devices, address, port)


def _of_slurm(environment: Mapping[str, str]) -> Place:
    """Of a step's task: a batch script without srun is a step of one, whatever the job has."""
    rank, local_rank, size, nodes = _numbers(environment, *_SLURM)
    each = environment.get("SLURM_STEP_TASKS_PER_NODE", "")  # "4(x2)", "3,1"
    if "," in each:
        raise InputError(
            f"SLURM started {each} processes on its {nodes} machines; start as many on each, with "
            f"--ntasks-per-node"
        )
    address = environment.get("MASTER_ADDR")
    if not address:
        listed = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
        address = _first_host(listed) if nodes > 1 else "127.0.0.1"
    job = re.sub(r"\D", "", environment.get("SLURM_JOB_ID", "0"))[-4:] or "0"
    port = int(environment.get("MASTER_PORT") or 15000 + int(job))
    return Place(rank, size, local_rank, size // nodes, address, port, by="SLURM")


def _first_host(listed: str) -> str:
    """ "gpu[07-09,12],cpu1" -> "gpu07"."""
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", listed, count=1).partition(",")[0]


def _numbers(environment: Mapping[str, str], *names: str) -> list[int]:
    for name in names:
        if not environment[name].isdecimal():
            raise InputError(f"{name}={environment[name]} in the environment must be a number")
    return [int(environment[name]) for name in names]
