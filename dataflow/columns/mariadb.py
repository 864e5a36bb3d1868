"""Builders of what only MariaDB has: compressed columns, UUID, INET4 and INET6.

The latter three travel as BINARY(n), without trailing zero bytes and in the order in which they are printed (measured on
10.11; the record format of UUID differs); only a live schema tells them from BINARY, so the column's definition says it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa

from dataflow.columns.cells import Builder, Built, CellFault, Cells
from dataflow.columns.texts import padded


def compressed(build: Builder) -> Builder:
    """The builder of a COMPRESSED column, of the plain type's. sql/field.cc, Field_longstr::compress and compress_zlib: an
    empty value as it is, else a byte that is 0 before plain bytes, or 0x80 and the number of bytes (1 to 4) of the plain
    length, which follow big endian; 8 more for deflate without a zlib header. Then the stream."""

    def unpack(cells: Cells) -> Built:
        values = [_plain(cells, row) if cells.lengths[row] > 0 else b"" for row in range(len(cells))]
        lengths = np.array([len(v) for v in values], np.int32)
        offsets = np.zeros(len(cells), np.int64)
        np.cumsum(lengths[:-1], out=offsets[1:])
        plain = np.frombuffer(b"".join(values), np.uint8)
        return build(Cells(plain, offsets, np.where(cells.lengths < 0, cells.lengths, lengths).astype(np.int32)))

    return unpack


def _plain(cells: Cells, row: int) -> bytes:
    raw = cells.value(row)
    if raw[0] == 0:
        return raw[1:]
    size = raw[0] & 7
    length = int.from_bytes(raw[1 : 1 + size], "big")
    if raw[0] & 0xF0 != 0x80 or not 1 <= size <= 4:
        raise CellFault(row, f"is compressed in an unknown way (0x{raw[0]:02X})")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS if raw[0] & 8 else zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(raw[1 + size :], length + 1)
    except zlib.error as error:
        raise CellFault(row, f"holds a compressed value that doesn't inflate: {error}") from error
    if len(plain) != length:
        raise CellFault(row, f"holds a compressed value of {len(plain)} bytes that should have {length}")
    return plain


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _inet4(raw: bytes) -> str:
    return ".".join(map(str, raw))


def _inet6(raw: bytes) -> str:
    """sql/sql_type_inet.cc, Inet6::to_string: the first longest run of zero words, a single one too, becomes `::`; an
    IPv4-compatible or IPv4-mapped address ends in IPv4's notation."""
    words = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, 16, 2)]
    start, length = 0, 0
    for at in range(8):
        run = next((i for i, word in enumerate(words[at:]) if word), 8 - at)
        if run > length:
            start, length = at, run
    if not length:
        return ":".join(f"{word:x}" for word in words)
    head = ":".join(f"{word:x}" for word in words[:start])
    if start == 0 and (length == 6 or (length == 5 and words[5] == 0xFFFF)):
        return f"::{'ffff:' if length == 5 else ''}{_inet4(raw[12:])}"
    return f"{head}::{':'.join(f'{word:x}' for word in words[start + length :])}"


PRINTED: Final[dict[str, tuple[int, Callable[[bytes], str]]]] = {
    "uuid": (16, _uuid),
    "inet4": (4, _inet4),
    "inet6": (16, _inet6),
}


def printed(kind: str) -> Builder:
    """As SELECT prints it."""
    octets, text = PRINTED[kind]
    plain = padded(octets)

    def build(cells: Cells) -> Built:
        coded = plain(cells)[0].dictionary_encode()
        return pa.array([text(raw) for raw in coded.dictionary.to_pylist()], pa.string()).take(coded.indices), None

    return build
