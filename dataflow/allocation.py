"""How the process asks for memory: once, and then it keeps it.

Capture fills and frees some hundred megabytes a second. An allocator that gives freed memory back has the kernel clear it
page by page when it is asked for again; measured on the benchmark's two sets, mimalloc (Arrow's default) and glibc's own
thresholds cost a tenth of the processor time and 100 MB of resident memory more than malloc for all, which
dataflow/__init__.py chooses, with the thresholds that are set here.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

# mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 1 << 25  # the largest threshold that glibc takes (HEAP_MAX_SIZE / 2)
_TRIM_BYTES: Final = 1 << 30


def keep_memory() -> None:
    """malloc, where it is glibc's, takes what is below 32 MiB from its heaps and keeps it."""
    with suppress(OSError, AttributeError):  # another C library: its own rules
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
