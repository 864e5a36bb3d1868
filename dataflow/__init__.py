"""The Bytewax adapter: binlog events in, change segments and log commits out."""

import gc
import os

# Before pyarrow is imported, or it has chosen: see dataflow/allocation.py.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# Nothing here multiplies matrices, and OpenBLAS's idle threads spin for 100 ms each when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Also before the imports: what they make lives to the end, and looking it through again and again was a fifth of a start.
gc.set_threshold(50_000, 20, 100)
