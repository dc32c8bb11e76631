"""Which machine reads which clips of a step, where the clips lie elsewhere.

A global batch is the one that one process would see, whoever reads it. Each clip is at home on one
machine, which by preference reads it in every epoch: so a machine's cache holds its part of the
dataset, and not all of it.

    a step of 8 clips, 2 machines     5 2 7 1 3 6 0 4
    at home                           a a b a a b a b
    dealt out, 4 for each             5 2 1 3 | 7 6 0 4     0 is read by b for once
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def homes(num_clips: int, nodes: int, seed: int) -> NDArray[np.int64]:
    """The machine of each clip, [N]: drawn, as many for each.

    Not by shard: in a dataset that is sorted by class a machine would see some classes only, and
    batch norms that are not synchronised those alone.
    """
    drawn = np.random.default_rng([seed, 2**32 - 2]).permutation(num_clips)
    return drawn * nodes // num_clips


def dealt(batch: NDArray[np.int64], homes: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    """The clips of a global batch [B] in an order whose ``nodes`` equal slices are the machines'.

    A machine has as many of its own as the batch holds and its slice has room for, and for the
    rest of others. Within a slice they keep their order. B that ``nodes`` does not divide is left.
    """
    room, over = divmod(len(batch), nodes)
    if over:
        return batch
    places = [np.flatnonzero(homes[batch] == node) for node in range(nodes)]
    others = np.sort(np.concatenate([own[room:] for own in places]))
    slices, used = [], 0
    for own in places:
        lacking = max(0, room - len(own))
        slices.append(np.sort(np.concatenate([own[:room], others[used : used + lacking]])))
        used += lacking
    return batch[np.concatenate(slices)]
