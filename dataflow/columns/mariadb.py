"""Builders of what only MariaDB has: compressed columns, UUID, INET4 and INET6, fractional seconds from before 10.1.

UUID and INET travel as BINARY(n), without trailing zero bytes and in the order in which they are printed (measured on
10.11; the record format of UUID differs); only a live schema tells them from BINARY, so the column's definition says it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa

from dataflow import tablemap as tm
from dataflow.columns.cells import Builder, Built, CellFault, Cells, Odd, array, raw_uniques
from dataflow.columns.texts import gathered_padded, padded
from dataflow.columns.times import datetime_text, point
from dataflow.kernels.temporal import NO_DAY, days
from dataflow.kernels.walk import ODD


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


_HEX: Final = np.array([list(b"%02x" % byte) for byte in range(256)], np.uint8)
_HEX_PLACES: Final = np.array([place for place in range(36) if place not in (8, 13, 18, 23)])


def _uuids(cells: Cells) -> Built:
    """`01234567-89ab-...`, all at once: they are keys more often than not."""
    ends, raw = gathered_padded(cells, 16)
    out = np.full((len(raw) // 16, 36), ord("-"), np.uint8)
    out[:, _HEX_PLACES] = _HEX[raw].reshape(-1, 32)
    return array(pa.string(), cells, ends // 16 * 36, out.reshape(-1)), None


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


_PRINTERS: Final[dict[str, tuple[int, Callable[[bytes], str]]]] = {"inet4": (4, _inet4), "inet6": (16, _inet6)}
PRINTED: Final = frozenset({"uuid", *_PRINTERS})


def printed(kind: str) -> Builder:
    """As SELECT prints it."""
    if kind == "uuid":
        return _uuids
    octets, text = _PRINTERS[kind]
    plain = padded(octets)

    def build(cells: Cells) -> Built:
        coded = plain(cells)[0].dictionary_encode()
        return pa.array([text(raw) for raw in coded.dictionary.to_pylist()], pa.string()).take(coded.indices), None

    return build


# Bytes by fractional digits (sql/field.cc, Field_time_hires, Field_datetime_hires, Field_timestamp_hires).
_OLD_WIDTHS: Final = {
    tm.TIME: (3, 4, 4, 5, 5, 5, 6),
    tm.DATETIME: (8, 6, 6, 7, 7, 7, 8),
    tm.TIMESTAMP: (4, 5, 5, 6, 6, 7, 7),
}
_TIME_END_S: Final = 3_020_400  # TIME_MAX_VALUE_SECONDS + 1; times are stored with this offset


def old_width(wire_type: int, fsp: int) -> int:
    return _OLD_WIDTHS[wire_type][fsp]


def old_fraction(kind: pa.DataType, wire_type: int, fsp: int) -> Builder:
    """TIME, DATETIME and TIMESTAMP with fractional digits in the format of MariaDB before 10.1: big-endian numbers, in units
    of the last digit."""
    read = {tm.TIME: _old_time, tm.DATETIME: _old_datetime, tm.TIMESTAMP: _old_timestamp}[wire_type]
    width = old_width(wire_type, fsp)

    def build(cells: Cells) -> Built:
        out = np.zeros(len(cells), np.int64)
        rows = np.flatnonzero(cells.lengths > 0)
        values, which = raw_uniques(cells, rows, width)
        found = [read(value, fsp) for value in values]
        for number, one in enumerate(found):
            if one is None:
                row = int(rows[np.flatnonzero(which == number)[0]])
                raise CellFault(row, f"holds 0x{values[number].hex()}, which is no date or time that a server writes")
        out[rows] = np.array([one if isinstance(one, int) else 0 for one in found], np.int64)[which]
        odd = np.array([isinstance(one, str) for one in found], bool)[which]
        if not odd.any():
            return array(kind, cells, out), None
        cells.lengths[rows[odd]] = ODD
        texts = pa.array([one if isinstance(one, str) else None for one in found], pa.string())
        return array(kind, cells, out), Odd(rows[odd], texts.take(pa.array(which[odd])))

    return build


def _old_time(raw: bytes, fsp: int) -> int | str | None:
    units = int.from_bytes(raw, "big") - _TIME_END_S * 10**fsp
    micros: int = units * 10 ** (6 - fsp)
    return micros if abs(units) < _TIME_END_S * 10**fsp else None


def _old_timestamp(raw: bytes, fsp: int) -> int | str | None:
    seconds, units = int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:], "big")
    if units >= 10**fsp:
        return None
    micros: int = seconds * 1_000_000 + units * 10 ** (6 - fsp)
    return micros or f"0000-00-00 00:00:00{point(0, fsp)}"


def _old_datetime(raw: bytes, fsp: int) -> int | str | None:
    """((((year * 13 + month) * 32 + day) * 24 + hour) * 60 + minute) * 60 + second, then the fraction (pack_time)."""
    unit: int = 10 ** (6 - fsp)
    rest, micros = divmod(int.from_bytes(raw, "big") * unit, 1_000_000)
    rest, second = divmod(rest, 60)
    rest, minute = divmod(rest, 60)
    rest, hour = divmod(rest, 24)
    months, day = divmod(rest, 32)
    year, month = divmod(months, 13)
    number: int = int(days(year, month, day)) if year <= 9999 else NO_DAY
    if number == NO_DAY:
        return datetime_text(year, month, day, hour, minute, second, point(micros, fsp))
    minutes: int = (number * 24 + hour) * 60 + minute
    return minutes * 60_000_000 + second * 1_000_000 + micros
