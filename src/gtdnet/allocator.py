"""How the C library hands memory out, on Linux with glibc.

By default glibc gives large blocks back to the system as soon as they are freed. A network frees
and takes such blocks in every layer, and the system clears each of their pages anew when it is
first touched: docs/performance.md says what that costs.
"""

from __future__ import annotations

import ctypes
import os
import platform

_USERS_OWN = (
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and take it again.

    The command gtdnet does so for itself; programs that use the package may. It holds for the whole
    process and what it forks, until it ends.

    Returns:
        Whether it does now: not where the C library is another, or where the environment has
        settings of its own for glibc's malloc.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USERS_OWN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
