"""What a restore will cost, from the plan alone: rows, bytes to read, scratch space, seconds. Estimates, and named so.

The rates are those of `deploy/bench_restore.py` (docs/BENCHMARKS.md, "Restore"): a table of four columns, 2 million rows and
2 million changes, processor seconds of one core of an AMD EPYC virtual machine. Wide rows take longer, two idle cores less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# 5.7 million rows and row images folded in 1.3 s of processor time.
MERGED_ROWS_PER_S: Final = 4_000_000
# 2.04 million rows rendered, digested and put in order in 5.0 s of processor time.
WRITTEN_ROWS_PER_S: Final = 400_000
# Copy and SHA-256 of a local archive; a bucket is as fast as its network.
READ_BYTES_PER_S: Final = 300_000_000
START_S: Final = 1.0
# What DuckDB spills beside the copies, as a multiple of their compressed bytes, once a table is larger than memory: 3.5 GB
# were seen for 0.6 GB in a restore of 20 million rows and 20 million changes within 1 GiB, and a little is added.
SPILLED_PER_BYTE: Final = 7
# Smaller tables stay in memory: 68 MB of compressed objects did, within 1 GiB.
IN_MEMORY_BYTES: Final = 64 * 1024**2


@dataclass(frozen=True)
class TableCost:
    """base_rows, images: to fold. size_bytes: of the objects to read, compressed."""

    base_rows: int
    images: int
    size_bytes: int

    @property
    def scratch_bytes(self) -> int:
        return self.size_bytes * (1 if self.size_bytes <= IN_MEMORY_BYTES else 1 + SPILLED_PER_BYTE)

    @property
    def seconds(self) -> float:
        """Written rows are taken for as many as the baseline has, for a table made since for as many as it has images."""
        written = self.base_rows or self.images
        merging = (self.base_rows + self.images) / MERGED_ROWS_PER_S
        return merging + written / WRITTEN_ROWS_PER_S + self.size_bytes / READ_BYTES_PER_S


@dataclass(frozen=True)
class Cost:
    """rows: baseline rows and row images to fold. scratch_bytes: at most at a time, of the largest table; tables come one
    after the other. seconds: expected."""

    rows: int
    read_bytes: int
    scratch_bytes: int
    seconds: float

    def line(self) -> str:
        return (
            f"expected: {self.rows} rows and row images to fold, {self.read_bytes} bytes to read, "
            f"about {self.scratch_bytes} bytes of scratch space, about {max(1, round(self.seconds))} s"
        )


def cost_of(tables: Iterable[TableCost], derived_bytes: int = 0, sequences_bytes: int = 0) -> Cost:
    """derived_bytes: of what is read besides, to derive what foreign keys did; the time of that isn't estimated.
    sequences_bytes: of sequences' row images, which need no scratch space."""
    held = list(tables)
    return Cost(
        rows=sum(t.base_rows + t.images for t in held),
        read_bytes=sum(t.size_bytes for t in held) + derived_bytes + sequences_bytes,
        scratch_bytes=max((t.scratch_bytes for t in held), default=0) + derived_bytes,
        seconds=START_S + sum(t.seconds for t in held) + (derived_bytes + sequences_bytes) / READ_BYTES_PER_S,
    )
