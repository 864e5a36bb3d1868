"""CRC-32 as zlib computes it (polynomial 0xEDB88320, reflected), sixteen bytes a step, and what is left in steps of eight
and four: a small event is mostly rest.

The binlog's checksum is zlib's crc32 over an event without its last four bytes (MySQL: libs/mysql/binlog/event/
binlog_event.h, checksum_crc32). "Slicing-by-16" after Kounavis and Berry, "A Systematic Approach to Building High
Performance Software-based CRC Generators" (2005).
"""

from __future__ import annotations

import numpy as np
from numba import types

from dataflow.kernels.memory import BYTES, INLINE, OPTIONS, load_i64, load_u32
from recovery.kernelcache import kernel


def _tables() -> np.ndarray:
    tables = np.zeros((16, 256), np.uint64)
    tables[0] = np.arange(256)
    for _ in range(8):
        tables[0] = tables[0] >> np.uint64(1) ^ (tables[0] & np.uint64(1)) * np.uint64(0xEDB88320)
    for k in range(1, 16):
        before = tables[k - 1]
        tables[k] = before >> np.uint64(8) ^ tables[0][(before & np.uint64(0xFF)).astype(np.int64)]
    return tables


TABLES = _tables().astype(np.uint32)  # 16 KiB: half of a first-level cache


@kernel(types.uint32(types.uint64, types.int64), **INLINE)
def _eight(word, first):  # type: ignore[no-untyped-def]
    """What eight bytes add to the checksum, by the eight tables from `first` on: the first byte has the most before it."""
    low8 = np.uint64(0xFF)
    return (
        TABLES[first + 7, np.int64(word & low8)]
        ^ TABLES[first + 6, np.int64(word >> np.uint64(8) & low8)]
        ^ TABLES[first + 5, np.int64(word >> np.uint64(16) & low8)]
        ^ TABLES[first + 4, np.int64(word >> np.uint64(24) & low8)]
        ^ TABLES[first + 3, np.int64(word >> np.uint64(32) & low8)]
        ^ TABLES[first + 2, np.int64(word >> np.uint64(40) & low8)]
        ^ TABLES[first + 1, np.int64(word >> np.uint64(48) & low8)]
        ^ TABLES[first, np.int64(word >> np.uint64(56))]
    )


@kernel(types.int64(BYTES, types.int64, types.int64), **OPTIONS)
def crc32(buffer, start, stop):  # type: ignore[no-untyped-def]
    """CRC-32 of buffer[start:stop] as int64; buffer is a uint8 array."""
    low8 = np.uint64(0xFF)
    crc = np.uint64(0xFFFFFFFF)
    at = start
    while at + 16 <= stop:
        crc = np.uint64(
            _eight(np.uint64(load_i64(buffer, at)) ^ crc, 8) ^ _eight(np.uint64(load_i64(buffer, at + 8)), 0)
        )
        at += 16
    if at + 8 <= stop:
        crc = np.uint64(_eight(np.uint64(load_i64(buffer, at)) ^ crc, 0))
        at += 8
    if at + 4 <= stop:
        word = np.uint64(load_u32(buffer, at)) ^ crc
        crc = np.uint64(
            TABLES[3, np.int64(word & low8)]
            ^ TABLES[2, np.int64(word >> np.uint64(8) & low8)]
            ^ TABLES[1, np.int64(word >> np.uint64(16) & low8)]
            ^ TABLES[0, np.int64(word >> np.uint64(24))]
        )
        at += 4
    while at < stop:
        crc = crc >> np.uint64(8) ^ TABLES[0, np.int64((crc ^ np.uint64(buffer[at])) & low8)]
        at += 1
    return np.int64(crc ^ np.uint64(0xFFFFFFFF))
