"""Which process this is, as the environment says."""

from __future__ import annotations

import re

import pytest

from gtdnet.errors import InputError
from gtdnet.processes.place import CALL, Place, find_place, place_by_hand

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "1234567",
}
ONE_NODE = {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_LOCALID": "5"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, Place(5, 8, 1, 4, "first", 29500, "torchrun")),
        (TORCHRUN | {CALL: "{}"}, Place(5, 8, 1, 4, "first", 29500, "")),
        (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        ({k: v for k, v in TORCHRUN.items() if k != "LOCAL_RANK"}, None),
        (SLURM, Place(5, 8, 1, 4, "gpu07", 19567, "SLURM")),
        (SLURM | {"MASTER_ADDR": "x", "MASTER_PORT": "7"}, Place(5, 8, 1, 4, "x", 7, "SLURM")),
        (SLURM | ONE_NODE, Place(5, 8, 5, 8, "127.0.0.1", 19567, "SLURM")),
        (SLURM | TORCHRUN, Place(5, 8, 1, 4, "first", 29500, "torchrun")),  # within a SLURM job
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),
        # A batch script that does not start its command with srun.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
    ],
)
def test_place(environment: dict[str, str], expected: Place | None) -> None:
    assert find_place(environment) == expected


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("rack1-gpu[3,5]", "rack1-gpu3"),
        ("a,b", "a"),
        ("node-2,node-3", "node-2"),
        ("gpu[07-08].cluster", "gpu07.cluster"),
    ],
)
def test_first_host_of_a_list(listed: str, first: str) -> None:
    place = find_place(SLURM | {"SLURM_STEP_NODELIST": listed})
    assert place is not None
    assert place.address == first


def test_numbers_of_machines() -> None:
    place = Place(5, 8, 1, 4, "first", 29500)
    assert (place.node, place.nodes) == (1, 2)
    assert find_place(place.of_child(3)) == Place(7, 8, 3, 4, "first", 29500, "torchrun")


def test_by_hand() -> None:
    environment = {"NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "7"}
    assert place_by_hand(2, 1, {}) == Place(0, 2, 0, 2)
    assert place_by_hand(2, 3, environment) == Place(2, 6, 0, 2, "first", 7)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (TORCHRUN | {"RANK": "one"}, "RANK=one in the environment must be a number"),
        (
            TORCHRUN | {"WORLD_SIZE": "7"},
            "torchrun started 7 processes, 4 of them on this machine; start as many on every",
        ),
        (
            SLURM | {"SLURM_STEP_TASKS_PER_NODE": "5,3"},
            "SLURM started 5,3 processes on its 2 machines; start as many on each",
        ),
    ],
)
def test_what_makes_no_sense(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        find_place(environment)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "num_nodes=2: NODE_RANK, MASTER_ADDR, MASTER_PORT must be set in the environment"),
        (
            {"NODE_RANK": "2", "MASTER_ADDR": "first", "MASTER_PORT": "7"},
            "NODE_RANK=2: with num_nodes=2 it is 0 to 1",
        ),
    ],
)
def test_by_hand_takes_all_that_is_needed(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        place_by_hand(1, 2, environment)
