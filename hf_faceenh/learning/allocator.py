"""Memory that training keeps instead of giving it back."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 1 << 30  # bytes; mallopt takes an int


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep what is freed; whether it could be told.

    By default a feature map's memory goes back to the system after every step, and the next step pays for new, zeroed
    pages: almost half of the time of a step on a CPU (`benchmarks/training_step.py`). Elsewhere than with glibc
    nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST) and libc.mallopt(M_TRIM_THRESHOLD, LARGEST))
