"""One reader per column type: from the bytes of a row image to the value that goes into the Arrow column.

A reader takes (buffer, offset) and gives (value, next offset). Values are what the Arrow type of recovery/schema.py is built
from: ints for temporal types (days, microseconds), Decimal, str, bytes, float. What the type can't hold comes as `Exact`.
Sources: MySQL's sql-common/my_time.cc (my_*_packed_from_binary), strings/decimal.cc (bin2decimal), sql/field.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, TypeAlias

from dataflow import jsonb
from dataflow import tablemap as tm
from recovery.charset import decode_text
from recovery.errors import BinlogDamaged, UnsupportedColumn
from recovery.schema import INTEGER_BITS, Column


@dataclass(frozen=True, slots=True)
class Exact:
    """A value that its column's Arrow type can't hold, as the text that goes into `_rb_exact`."""

    text: str


Value: TypeAlias = int | float | str | bytes | Decimal | Exact | None
Reader: TypeAlias = Callable[[bytes, int], tuple[Value, int]]

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_DAY_US: Final = 86_400_000_000
# Bytes that 0..9 leftover decimal digits take (strings/decimal.cc, dig2bytes).
_DIGIT_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def reader(column: Column, wire: tm.WireColumn, table_label: str) -> Reader:
    """The reader of a supported column (recovery.schema.check_supported has passed)."""
    kind = column.type
    if kind in INTEGER_BITS:
        return _integer(INTEGER_BITS[kind] // 8, signed=not column.unsigned)
    if kind in ("float", "double"):
        return _floating("<f" if kind == "float" else "<d")
    if kind == "decimal":
        return _decimal(wire.precision, wire.scale, as_text=wire.precision > 38)
    if kind in ("char", "varchar", "text"):
        return _text(wire.length_bytes, column, table_label)
    if kind in ("varbinary", "blob"):
        return _bytes(wire.length_bytes)
    if kind == "binary":
        return _padded(wire.length_bytes, wire.octets)
    if kind == "json":
        return _json(wire.length_bytes)
    if kind == "enum":
        return _enum(wire.length_bytes, column.labels)
    if kind == "set":
        return _set(wire.length_bytes, column.labels)
    if kind in ("datetime", "timestamp", "time"):
        return {"datetime": _datetime, "timestamp": _timestamp, "time": _time}[kind](wire.fsp)
    if kind in ("date", "year"):
        return {"date": _date, "year": _year}[kind]
    raise UnsupportedColumn(
        f"column `{column.name}` of table `{table_label}` has type `{kind}`, which this version does not capture",
        hint="Exclude the table with `exclude` in the server's section of rowback.toml, or change the column's type.",
    )


def _integer(width: int, *, signed: bool) -> Reader:
    def read(data: bytes, at: int) -> tuple[Value, int]:
        return int.from_bytes(data[at : at + width], "little", signed=signed), at + width

    return read


def _floating(form: str) -> Reader:
    unpack, width = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read(data: bytes, at: int) -> tuple[Value, int]:
        return unpack(data, at)[0], at + width

    return read


def _decimal(precision: int, scale: int, *, as_text: bool) -> Reader:
    """Groups of nine digits in four bytes, big endian; leftover digits in fewer; the first bit is the inverted sign and a
    negative number has all its bits inverted."""
    whole = precision - scale
    parts: list[tuple[int, int]] = []  # (bytes, digits)
    if whole % 9:
        parts.append((_DIGIT_BYTES[whole % 9], whole % 9))
    parts.extend([(4, 9)] * (whole // 9 + scale // 9))
    if scale % 9:
        parts.append((_DIGIT_BYTES[scale % 9], scale % 9))
    width = sum(size for size, _ in parts)

    def read(data: bytes, at: int) -> tuple[Value, int]:
        raw = bytearray(data[at : at + width])
        negative = not raw[0] & 0x80
        raw[0] ^= 0x80
        if negative:
            raw = bytearray(b ^ 0xFF for b in raw)
        digits, offset = "", 0
        for size, count in parts:
            digits += f"{int.from_bytes(raw[offset : offset + size], 'big'):0{count}d}"
            offset += size
        sign = "-" if negative else ""
        text = digits.rjust(scale + 1, "0")
        number = f"{sign}{text[: len(text) - scale]}.{text[len(text) - scale :]}" if scale else sign + text
        if not as_text:
            return Decimal(number), at + width
        integral, point, fraction = number.removeprefix("-").partition(".")
        return f"{sign}{integral.lstrip('0') or '0'}{point}{fraction}", at + width

    return read


def _bytes(prefix: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[Value, int]:
        start = at + prefix
        end = start + int.from_bytes(data[at:start], "little")
        return data[start:end], end

    return read


def _padded(prefix: int, octets: int) -> Reader:
    """BINARY(n) travels without its trailing zeros (Field_string::pack)."""
    plain = _bytes(prefix)

    def read(data: bytes, at: int) -> tuple[Value, int]:
        value, end = plain(data, at)
        assert isinstance(value, bytes)
        return value.ljust(octets, b"\0"), end

    return read


def _text(prefix: int, column: Column, table_label: str) -> Reader:
    charset = column.charset or ""

    def read(data: bytes, at: int) -> tuple[Value, int]:
        start = at + prefix
        end = start + int.from_bytes(data[at:start], "little")
        try:
            return decode_text(data[start:end], charset), end
        except ValueError as error:
            raise UnsupportedColumn(
                f"column `{column.name}` of table `{table_label}` holds bytes that are not valid {charset}",
                hint="Mend the value on the source, or exclude the table with `exclude` in rowback.toml.",
            ) from error

    return read


def _json(prefix: int) -> Reader:
    plain = _bytes(prefix)

    def read(data: bytes, at: int) -> tuple[Value, int]:
        value, end = plain(data, at)
        assert isinstance(value, bytes)
        return jsonb.to_text(value), end

    return read


def _enum(width: int, labels: tuple[str, ...]) -> Reader:
    def read(data: bytes, at: int) -> tuple[Value, int]:
        index = int.from_bytes(data[at : at + width], "little")
        if index == 0:  # the invalid value, printed as '' but not equal to a label ''
            return Exact("0"), at + width
        if index > len(labels):
            raise BinlogDamaged(
                f"ENUM index {index} of {len(labels)}", hint="Start capture again; report this if it recurs."
            )
        return labels[index - 1], at + width

    return read


def _set(width: int, labels: tuple[str, ...]) -> Reader:
    def read(data: bytes, at: int) -> tuple[Value, int]:
        bits = int.from_bytes(data[at : at + width], "little")
        if bits >> len(labels):
            raise BinlogDamaged(
                "a SET value has more bits than labels", hint="Start capture again; report this if it recurs."
            )
        return ",".join(label for i, label in enumerate(labels) if bits >> i & 1), at + width

    return read


def _date(data: bytes, at: int) -> tuple[Value, int]:
    packed = int.from_bytes(data[at : at + 3], "little")
    year, month, day = packed >> 9, packed >> 5 & 15, packed & 31
    days = _days(year, month, day)
    return Exact(f"{year:04}-{month:02}-{day:02}") if days is None else days, at + 3


def _year(data: bytes, at: int) -> tuple[Value, int]:
    return (1900 + data[at] if data[at] else 0), at + 1


def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970; None for a zero, partial or impossible date and for the year 0000."""
    try:
        return date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None


def _fraction(data: bytes, at: int, fsp: int) -> int:
    """Microseconds of a big-endian fraction in (fsp + 1) // 2 bytes."""
    size = (fsp + 1) // 2
    return int.from_bytes(data[at : at + size], "big") * (1, 10_000, 100, 1)[size]


def _point(micros: int, fsp: int) -> str:
    return f".{micros:06}"[: fsp + 1] if fsp else ""


def _datetime(fsp: int) -> Reader:
    """DATETIME2: 40 bits with offset 2**39: year*13+month 17 bits, day 5, hour 5, minute 6, second 6; then the fraction."""
    width = 5 + (fsp + 1) // 2

    def read(data: bytes, at: int) -> tuple[Value, int]:
        packed = int.from_bytes(data[at : at + 5], "big") - 0x8000000000
        micros = _fraction(data, at + 5, fsp)
        year, month = divmod(packed >> 22, 13)
        day, hour, minute, second = packed >> 17 & 31, packed >> 12 & 31, packed >> 6 & 63, packed & 63
        days = _days(year, month, day)
        if days is None:
            text = f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{_point(micros, fsp)}"
            return Exact(text), at + width
        return days * _DAY_US + (hour * 3600 + minute * 60 + second) * 1_000_000 + micros, at + width

    return read


def _timestamp(fsp: int) -> Reader:
    """TIMESTAMP2: seconds since 1970 in UTC, 4 bytes big endian, then the fraction; 0 is the zero timestamp."""
    width = 4 + (fsp + 1) // 2

    def read(data: bytes, at: int) -> tuple[Value, int]:
        seconds = int.from_bytes(data[at : at + 4], "big")
        micros = _fraction(data, at + 4, fsp)
        if seconds == 0 and micros == 0:
            return Exact(f"0000-00-00 00:00:00{_point(0, fsp)}"), at + width
        return seconds * 1_000_000 + micros, at + width

    return read


def _time(fsp: int) -> Reader:
    """TIME2: a 24-bit number with offset 2**23 (hour 10 bits, minute 6, second 6) and the fraction, which together form
    one signed fixed-point number: reading both as one big-endian integer takes care of the borrow of negative times."""
    size = (fsp + 1) // 2
    width = 3 + size
    unit = (0, 10_000, 100, 1)[size]

    def read(data: bytes, at: int) -> tuple[Value, int]:
        packed = int.from_bytes(data[at : at + width], "big") - (0x800000 << (8 * size))
        sign, packed = (-1, -packed) if packed < 0 else (1, packed)
        whole, micros = packed >> (8 * size), (packed & ((1 << (8 * size)) - 1)) * unit
        seconds = (whole >> 12 & 0x3FF) * 3600 + (whole >> 6 & 63) * 60 + (whole & 63)
        return sign * (seconds * 1_000_000 + micros), at + width

    return read
