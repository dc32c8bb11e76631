"""One thread: on the small networks of the tests, threads cost more than they bring."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
