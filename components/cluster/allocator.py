"""Keep freed memory in the process: on a CPU this is the largest single gain over a bare training loop.

glibc returns every large block to the kernel when it is freed, so each step pays the page faults of all its tensors
again. With these settings it keeps the blocks. The process then never shrinks, so only training workers use this.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # <malloc.h>
TOP_PAD = 64 << 20  # bytes


def keep_freed_memory() -> bool:
    """Change glibc's settings and return whether they took effect; without glibc return False."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)
