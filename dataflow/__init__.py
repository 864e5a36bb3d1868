"""The Bytewax adapter: binlog events in, change segments and log commits out."""

import os

# Before pyarrow is imported, or it has chosen: see dataflow/allocation.py.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
