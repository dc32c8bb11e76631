"""Each clip once an epoch, by preference on its own machine."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.data.dataset import EpochBatches
from gtdnet.data.dealing import dealt, homes


def test_the_drawn_example() -> None:
    at_home = np.array([0, 0, 0, 0, 1, 0, 1, 1])  # of clips 0 to 7: a a a a b a b b
    batch = np.array([5, 2, 7, 1, 3, 6, 0, 4])
    assert dealt(batch, at_home, 2).tolist() == [5, 2, 1, 3, 7, 6, 0, 4]
    assert dealt(batch[:3], at_home, 2).tolist() == [5, 2, 7]


@given(
    num_samples=st.integers(1, 80),
    batch_size=st.integers(1, 4),
    nodes=st.integers(1, 4),
    local=st.integers(1, 2),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 2),
)
def test_every_step_is_that_of_one_process(
    num_samples: int, batch_size: int, nodes: int, local: int, seed: int, epoch: int
) -> None:
    """So each clip comes as often in an epoch as for one process: once, but for the last few."""
    size = nodes * local
    alone = EpochBatches(num_samples, size * batch_size, seed)
    ranks = [
        EpochBatches(num_samples, batch_size, seed, rank=rank, world_size=size, nodes=nodes)
        for rank in range(size)
    ]
    for batches in (alone, *ranks):
        batches.set_epoch(epoch)
    steps = [sorted(chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert steps == [sorted(batch) for batch in alone]
    if num_samples >= size * batch_size:
        assert {len(part) for rank in ranks for part in rank} == {batch_size}


@pytest.mark.parametrize(("per_node", "most"), [(64, 0.06), (8, 0.16)])
def test_most_clips_are_read_at_home(per_node: int, most: float) -> None:
    """docs/many-machines.md says how many are not."""
    at_home = homes(4096, 4, seed=0)
    assert np.bincount(at_home).tolist() == [1024] * 4
    away = 0
    for epoch in range(4):
        for node in range(4):
            part = EpochBatches(4096, per_node, rank=node, world_size=4, nodes=4)
            part.set_epoch(epoch)
            away += sum(at_home[index] != node for _, index in chain(*part))
    assert 0 < away / (4 * 4096) < most


def test_a_machine_has_clips_of_all_classes() -> None:
    labels = np.repeat(np.arange(8), 100)  # sorted, as most datasets are
    for node in range(2):
        share = np.bincount(labels[homes(800, 2, seed=1) == node]) / 100
        assert ((share > 0.3) & (share < 0.7)).all()
