"""Compressed events: MySQL's TRANSACTION_PAYLOAD (zstd) and MariaDB's compressed row and query events (zlib).

Sources: MySQL's libs/mysql/binlog/event/codecs/binary.h and the manual's "Binary Log Transaction Compression"; MariaDB's
sql/log_event.cc, binlog_buf_compress and row_log_event_uncompress.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

WRITE_ROWS_COMPRESSED_V1: Final = 166
WRITE_ROWS_COMPRESSED: Final = 169
_UPDATES: Final = frozenset({167, 170})
_END, _SIZE, _COMPRESSION, _UNCOMPRESSED_SIZE = 0, 1, 2, 3
_ZSTD, _NONE = 0, 255
PART_BYTES: Final = 8 * 1024 * 1024
# Where a body has its bitmaps: behind table id 6, flags 2 and, in version 2, the extra data, which counts its own length.
_ROWS_HEADER: Final = 8


class Payload:
    """A TRANSACTION_PAYLOAD's body: whole events one behind the other, without checksums. Raises ValueError."""

    def __init__(self, body: bytes) -> None:
        size, self.size_bytes, compression = 0, 0, _NONE
        at = 0
        while True:
            field, at = _packed(body, at)
            if field == _END:
                break
            length, at = _packed(body, at)
            value, _ = _packed(body, at)
            at += length
            if field == _SIZE:
                size = value
            elif field == _COMPRESSION:
                compression = value
            elif field == _UNCOMPRESSED_SIZE:
                self.size_bytes = value
        self._data = body[at:]
        if size != len(self._data) or compression not in (_ZSTD, _NONE):
            raise ValueError(f"a payload of {len(self._data)} bytes says {size} bytes and compression {compression}")
        self._zstd = compression == _ZSTD

    def parts(self) -> Iterator[bytes]:
        """The events' bytes, in parts of at most 8 MiB that end anywhere. Raises ValueError if they aren't what it says."""
        source = pa.BufferReader(self._data)
        stream = pa.CompressedInputStream(source, "zstd") if self._zstd else source
        left = self.size_bytes if self._zstd else len(self._data)
        try:
            while part := stream.read(min(PART_BYTES, left + 1)):
                left -= len(part)
                if left < 0:
                    break
                yield part
        except OSError as error:  # pa.ArrowInvalid is a ValueError, a broken zstd frame an OSError
            raise ValueError(str(error)) from error
        if left:
            raise ValueError("a compressed transaction isn't as long as it says")


def uncompressed_rows(kind: int, body: bytes) -> tuple[int, bytes]:
    """A compressed row event's plain type and body. Raises ValueError."""
    version2 = kind >= WRITE_ROWS_COMPRESSED
    plain = kind - WRITE_ROWS_COMPRESSED + 30 if version2 else kind - WRITE_ROWS_COMPRESSED_V1 + 23
    at = _ROWS_HEADER + (int.from_bytes(body[8:10], "little") if version2 else 0)
    width, at = _packed(body, at)
    at += (width + 7) // 8 * (2 if kind in _UPDATES else 1)
    return plain, body[:at] + uncompressed(body[at:])


def uncompressed(data: bytes) -> bytes:
    """What binlog_buf_compress wrote: a byte 0x80 | length of the length, the plain length big endian, a zlib stream.
    Raises ValueError."""
    if not data or data[0] & 0xF0 != 0x80:
        raise ValueError("an unknown compression")
    width = data[0] & 0x07
    length = int.from_bytes(data[1 : 1 + width], "big")
    try:
        plain = zlib.decompressobj().decompress(data[1 + width :], length + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(plain) != length:
        raise ValueError("a compressed event isn't as long as it says")
    return plain


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _packed(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise ValueError("it is cut short")
    first = data[at]
    if first < 251:
        return first, at + 1
    width = {252: 2, 253: 3, 254: 8}.get(first)
    if width is None or at + 1 + width > len(data):
        raise ValueError("it is cut short")
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width
