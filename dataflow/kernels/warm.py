"""`python -m dataflow.kernels.warm` compiles every kernel into Numba's cache, so that no capture waits for a compiler.

For image builds, provisioning and the set-up of tests. Others compile a kernel, or load it from the cache, when they call it
first (recovery/kernelcache.py). With a cache that is warm this takes a second.
"""

from __future__ import annotations

import logging
import pkgutil
import sys
import time

from dataflow import kernels

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
    return time.monotonic() - began


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("kernels are compiled: seconds=%.1f", warm())
