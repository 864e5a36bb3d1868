"""Compiled kernels (Numba): loops over bytes, without the GIL, that read and write NumPy arrays and never raise.

A kernel answers with a status or a count; the modules above turn that into errors. All numbers inside are int64, for
Numba makes a float of int64 and uint64 together. Inputs are declared read-only, so that Arrow buffers and mutable
arrays share one signature. Compiled code is cached (recovery/kernelcache.py); `python -m dataflow.kernels.warm` fills
that cache.
"""

from recovery.kernelcache import settle

settle()
