"""Memory that our programs keep while they work, instead of giving it back."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 1 << 30  # bytes; mallopt takes an int


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep what is freed; whether it could be told.

    By default a feature map's memory goes back to the system as soon as it is freed, and the next one pays for new,
    zeroed pages: almost half of the time of a training step on a CPU (`benchmarks/training_step.py`). It concerns the
    whole process, so programs call it and the library does not. Elsewhere than with glibc nothing is done.
    """
    if (libc := _glibc()) is None:
        return False
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST) and libc.mallopt(M_TRIM_THRESHOLD, LARGEST))


def give_back_freed_memory() -> bool:
    """Gives back what was kept, as a server does when nobody waits for it; whether there was anything."""
    return (libc := _glibc()) is not None and bool(libc.malloc_trim(0))


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
