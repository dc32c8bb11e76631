"""How the C library hands memory out, on Linux with glibc.

By default glibc gives large blocks back to the system as soon as they are freed. A network frees
and takes such blocks in every layer, and the system clears each of their pages anew when it is
first touched (docs/performance.md).
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
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 * 2**20  # bytes; the highest threshold that glibc takes


def keep_freed_memory() -> bool:
    """Let this process keep blocks of up to 32 MiB that it frees, and take them again.

    The command gtdnet does so for itself; programs that use the package may. It holds for the whole
    process and what it forks, until it ends. Larger blocks still come and go, lest memory fall to
    pieces (docs/performance.md has the settings for those who have enough of it).

    Returns:
        Whether it does now: not where the C library is another, or where the environment has
        settings of its own for glibc's malloc.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USERS_OWN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
