"""The checksum kernel against zlib's: each length that takes another path through its steps, at each alignment."""

from __future__ import annotations

import zlib

import numpy as np

from dataflow.kernels.crc32 import crc32


def test_every_length_and_alignment_as_zlib() -> None:
    data = np.random.default_rng(5).integers(0, 256, 160, dtype=np.uint8)
    data[20:60] = 255
    for start in range(9):
        for stop in range(start, len(data) + 1):
            assert crc32(data, start, stop) == zlib.crc32(data[start:stop].tobytes()), (start, stop)
