"""`python -m dataflow.kernels.warm` compiles every kernel into Numba's cache, so that no capture waits for a compiler.

For image builds, provisioning and the set-up of tests; a capture that finds a cold cache does it before it connects
(`ahead`). With a cache that is warm this takes a second, and captures load kernels when they call them
(recovery/kernelcache.py), but for those that every stream needs: these come in a thread while the engine starts and the
server is asked.
"""

from __future__ import annotations

import logging
import pkgutil
import sys
import threading
import time
from pathlib import Path

from dataflow import kernels
from recovery.kernelcache import settle

logger = logging.getLogger(__name__)


def warm() -> float:
    """Compile or load all kernels; the seconds that it took."""
    began = time.monotonic()
    from dataflow.kernels import (
        crc32,
        decimals,
        fixed,
        frame,
        gtids,
        jsonb,
        memory,
        numbers,
        strings,
        temporal,
        transactions,
        walk,
    )
    from recovery import charset_kernels, kernelcache

    assert all((crc32, decimals, fixed, frame, gtids, jsonb, memory, numbers, strings, temporal, transactions, walk))
    assert charset_kernels
    names = {f"{kernels.__name__}.{module.name}" for module in pkgutil.iter_modules(kernels.__path__)}
    forgotten = names - sys.modules.keys() - {f"{kernels.__name__}.warm"}
    if forgotten:
        raise RuntimeError(f"warm.py forgets {', '.join(sorted(forgotten))}")
    for kernel in kernelcache.defined:
        kernel.compile()
    _mark().touch()
    return time.monotonic() - began


def ahead() -> None:
    """Compile the kernels unless the cache has them all: a server doesn't wait for long while its stream isn't read. If it
    has, begin to load the frequent ones."""
    if not _mark().exists():
        logger.info("compiling the decoder, once for this machine and version (10 to 30 s)")
        warm()
    else:
        threading.Thread(target=_load_frequent, name="kernel-loader").start()


def _load_frequent() -> None:
    from dataflow.kernels import fixed, frame, gtids, strings, transactions, walk

    for kernel in (
        frame.frame,
        transactions.read,
        transactions.hash_bytes,
        gtids.read,
        gtids.write,
        walk.walk,
        fixed.same_width,
        fixed.validity,
        fixed.bits_of,
        strings.gather,
        strings.is_ascii,
        strings.total,
    ):
        kernel.compile()


def _mark() -> Path:
    return settle() / "complete"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("kernels are compiled: seconds=%.1f", warm())
