"""`python -m dataflow.kernels.warm` compiles every kernel into Numba's cache, so that no capture waits for a compiler.

For image builds, provisioning and the set-up of tests. Kernels have explicit signatures: importing their modules compiles
them, or loads them from the cache (NUMBA_CACHE_DIR, else beside the sources if that is writable). With a cache that is
warm this takes under a second.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import time

from dataflow import kernels

logger = logging.getLogger(__name__)


def warm() -> float:
    """Compile or load all kernels; the seconds that it took."""
    began = time.monotonic()
    for module in pkgutil.iter_modules(kernels.__path__):
        importlib.import_module(f"{kernels.__name__}.{module.name}")
    importlib.import_module("recovery.charset_kernels")
    return time.monotonic() - began


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("kernels are compiled: seconds=%.1f", warm())
