"""Memory of this machine: kept, or given back."""

import ctypes
import gc
from contextlib import suppress

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


def can_keep_freed_memory() -> bool:
    """Whether the C library's allocator can be told to keep freed memory, as glibc's can."""
    return hasattr(ctypes.CDLL(None), "mallopt")


def keep_freed_memory() -> None:
    """Let the C library keep freed memory, large blocks too, for the whole process."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)


def give_back_memory() -> None:
    """Give what nothing holds any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        with suppress(torch.OutOfMemoryError):  # as it may, right after one
            torch.cuda.empty_cache()
