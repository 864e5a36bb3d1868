"""TABLE_MAP events: the definition that the row events after it are written in.

Needs binlog_row_metadata=FULL, which adds names, signs, character sets, labels and the primary key as type-length-value
fields (MySQL's libs/mysql/binlog/event/rows_event.h, Table_map_event::Optional_metadata_field; the same in MariaDB 10.5+).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from recovery.charset import decode_text
from recovery.errors import BinlogDamaged, SourceMisconfigured
from recovery.schema import Column, Table

# Column types on the wire (MySQL's field_types.h).
TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, VARCHAR, BIT = 10, 11, 12, 13, 15, 16
TIMESTAMP2, DATETIME2, TIME2, VECTOR, JSON, NEWDECIMAL = 17, 18, 19, 242, 245, 246
ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 247, 248, 252, 253, 254, 255

_INTEGERS: Final = {TINY: "tinyint", SHORT: "smallint", INT24: "mediumint", LONG: "int", LONGLONG: "bigint"}
# The SIGNEDNESS field has a bit for each of these; both servers count YEAR among them (measured on 9.7 and 10.11).
_NUMERIC: Final = frozenset(_INTEGERS) | {FLOAT, DOUBLE, NEWDECIMAL, YEAR}
# How many metadata bytes follow per type (Table_map_event, "m_field_metadata").
_META_LENGTH: Final = {
    FLOAT: 1, DOUBLE: 1, VARCHAR: 2, VAR_STRING: 2, BIT: 2, NEWDECIMAL: 2, BLOB: 1, STRING: 2, GEOMETRY: 1, JSON: 1,
    TIMESTAMP2: 1, DATETIME2: 1, TIME2: 1, ENUM: 2, SET: 2, VECTOR: 1,
}  # fmt: skip
_BINARY_COLLATION: Final = 63
_FAMILIES: Final = {
    FLOAT: "float", DOUBLE: "double", DATE: "date", YEAR: "year", JSON: "json", GEOMETRY: "geometry", VECTOR: "vector",
    TIMESTAMP: "timestamp (pre-5.6 format)", DATETIME: "datetime (pre-5.6 format)",
    TIME: "time (pre-5.6 format)",
}  # fmt: skip
_FRACTIONAL: Final = {TIMESTAMP2: "timestamp", DATETIME2: "datetime", TIME2: "time"}


@dataclass(frozen=True)
class WireColumn:
    """How a column's values are written in row events. type: the real wire type (ENUM, SET and CHAR all travel as STRING).
    length_bytes: width of the length prefix, or of the value for ENUM and SET; precision: of BIT the number of bits;
    fsp: fractional digits."""

    type: int
    length_bytes: int = 0
    precision: int = 0
    scale: int = 0
    fsp: int = 0
    octets: int = 0


@dataclass(frozen=True)
class TableMap:
    table_id: int
    table: Table
    wire: tuple[WireColumn, ...]


class _Cursor:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def raw(self, length: int) -> bytes:
        chunk = self.data[self.at : self.at + length]
        if len(chunk) != length:
            raise BinlogDamaged("a TABLE_MAP event is cut short", hint="Start capture again; report this if it recurs.")
        self.at += length
        return chunk

    def number(self, length: int) -> int:
        return int.from_bytes(self.raw(length), "little")

    def packed(self) -> int:
        """A length-encoded integer."""
        first = self.number(1)
        return first if first < 251 else self.number({252: 2, 253: 3, 254: 8}[first])

    def text(self) -> bytes:
        return self.raw(self.packed())

    def more(self) -> bool:
        return self.at < len(self.data)


def table_id(body: bytes) -> int:
    """The table id at the head of a TABLE_MAP or row event (6 bytes)."""
    return int.from_bytes(body[:6], "little")


def parse(body: bytes, collations: Mapping[int, str]) -> TableMap:
    """A TABLE_MAP body. collations: collation id -> character set name, as the server lists them.

    Raises SourceMisconfigured naming the table when the event has no column names.
    """
    cursor = _Cursor(body, 8)  # table id 6, flags 2
    db = cursor.raw(cursor.number(1)).decode()
    cursor.raw(1)
    name = cursor.raw(cursor.number(1)).decode()
    cursor.raw(1)
    types = list(cursor.raw(cursor.packed()))
    metas = _Cursor(cursor.text())
    wire = tuple(_wire(kind, metas.raw(_META_LENGTH.get(kind, 0))) for kind in types)
    nulls = cursor.raw((len(types) + 7) // 8)
    options: dict[int, bytes] = {}
    while cursor.more():
        kind = cursor.number(1)
        options[kind] = cursor.text()
    if 4 not in options:
        raise SourceMisconfigured(
            f"the binlog has no column names for table `{db}.{name}`",
            hint="Run `SET GLOBAL binlog_row_metadata = FULL` on the source (and set it in its configuration file).",
        )
    columns = _columns(db, name, wire, nulls, options, collations)
    key = _key(options, [c.name for c in columns])
    return TableMap(table_id(body), Table(db, name, columns, key), wire)


def _wire(kind: int, meta: bytes) -> WireColumn:
    if kind == STRING:
        # Two bytes: real type and length; lengths over 255 borrow two inverted bits of the type
        # (Field_string::do_save_field_metadata).
        real, length = meta[0], meta[1]
        if real & 0x30 != 0x30:
            length |= ((real & 0x30) ^ 0x30) << 4
            real |= 0x30
        if real in (ENUM, SET):
            return WireColumn(real, length_bytes=meta[1])
        return WireColumn(STRING, length_bytes=1 if length < 256 else 2, octets=length)
    if kind in (ENUM, SET):
        return WireColumn(kind, length_bytes=meta[1])
    if kind in (VARCHAR, VAR_STRING):
        octets = int.from_bytes(meta, "little")
        return WireColumn(VARCHAR, length_bytes=1 if octets < 256 else 2, octets=octets)
    if kind in (BLOB, JSON, GEOMETRY, VECTOR):
        return WireColumn(kind, length_bytes=meta[0])
    if kind == NEWDECIMAL:
        return WireColumn(kind, precision=meta[0], scale=meta[1])
    if kind == BIT:
        # Bits beyond whole bytes, whole bytes (Field_bit::do_save_field_metadata); a value has the bytes of both.
        bits = meta[1] * 8 + meta[0]
        return WireColumn(kind, precision=bits, octets=(bits + 7) // 8)
    if kind in _FRACTIONAL:
        return WireColumn(kind, fsp=meta[0])
    return WireColumn(kind)


def _columns(
    db: str,
    table: str,
    wire: tuple[WireColumn, ...],
    nulls: bytes,
    options: Mapping[int, bytes],
    collations: Mapping[int, str],
) -> tuple[Column, ...]:
    names = _texts(options[4])
    unsigned = _bits(options.get(1, b""), [w.type in _NUMERIC for w in wire])
    visible = _bits(options[12], [True] * len(wire)) if 12 in options else [True] * len(wire)
    charsets = _charsets(options, 2, 3, [w.type in (STRING, VARCHAR, BLOB) for w in wire], collations)
    label_charsets = _charsets(options, 10, 11, [w.type in (ENUM, SET) for w in wire], collations)
    labels = {SET: iter(_label_lists(options.get(5, b""))), ENUM: iter(_label_lists(options.get(6, b"")))}
    columns = []
    for i, column in enumerate(wire):
        nullable = bool(nulls[i // 8] >> (i % 8) & 1)
        name = names[i].decode()
        common: dict[str, Any] = {"name": name, "nullable": nullable, "invisible": not visible[i]}
        if column.type in (ENUM, SET):
            charset = label_charsets[i] or ""
            texts = tuple(decode_text(raw, charset) for raw in next(labels[column.type]))
            kind = "enum" if column.type == ENUM else "set"
            columns.append(Column(type=kind, charset=charset, labels=texts, **common))
        elif column.type in (STRING, VARCHAR, BLOB):
            columns.append(_string_column(column, charsets[i], common))
        elif column.type in _INTEGERS:
            columns.append(Column(type=_INTEGERS[column.type], unsigned=unsigned[i], **common))
        elif column.type == NEWDECIMAL:
            columns.append(
                Column(type="decimal", unsigned=unsigned[i], precision=column.precision, scale=column.scale, **common)
            )
        elif column.type == BIT:
            columns.append(Column(type="bit", precision=column.precision, **common))
        elif column.type in _FRACTIONAL:
            columns.append(Column(type=_FRACTIONAL[column.type], fsp=column.fsp, **common))
        else:
            kind = _FAMILIES.get(column.type, f"wire type {column.type}")
            signless = column.type not in (FLOAT, DOUBLE)
            columns.append(Column(type=kind, unsigned=unsigned[i] and not signless, **common))
    return tuple(columns)


def _string_column(column: WireColumn, charset: str | None, common: dict[str, Any]) -> Column:
    binary = charset == "binary"
    if column.type == BLOB:
        return Column(type="blob" if binary else "text", charset=None if binary else charset, **common)
    if column.type == STRING:
        kind = "binary" if binary else "char"
    else:
        kind = "varbinary" if binary else "varchar"
    return Column(type=kind, octets=column.octets, charset=None if binary else charset, **common)


def _key(options: Mapping[int, bytes], names: list[str]) -> tuple[str, ...]:
    """The primary key's columns in key order; none if it covers only a prefix of one of them."""
    if 8 in options:
        cursor = _Cursor(options[8])
        indexes = []
        while cursor.more():
            indexes.append(cursor.packed())
        return tuple(names[i] for i in indexes)
    return ()


def _bits(data: bytes, wanted: list[bool]) -> list[bool]:
    """A flag per wanted column, highest bit first; False for the others."""
    flags, n = [], 0
    for want in wanted:
        flags.append(want and n // 8 < len(data) and bool(data[n // 8] >> (7 - n % 8) & 1))
        n += want
    return flags


def _texts(data: bytes) -> list[bytes]:
    cursor, found = _Cursor(data), []
    while cursor.more():
        found.append(cursor.text())
    return found


def _label_lists(data: bytes) -> list[list[bytes]]:
    cursor, found = _Cursor(data), []
    while cursor.more():
        found.append([cursor.text() for _ in range(cursor.packed())])
    return found


def _charsets(
    options: Mapping[int, bytes], default: int, each: int, wanted: list[bool], collations: Mapping[int, str]
) -> list[str | None]:
    """A character set per wanted column: one default with exceptions by index among the wanted, or one for each."""
    ids: list[int] = []
    if each in options:
        cursor = _Cursor(options[each])
        while cursor.more():
            ids.append(cursor.packed())
    elif default in options:
        cursor = _Cursor(options[default])
        ids = [cursor.packed()] * sum(wanted)
        while cursor.more():
            index = cursor.packed()
            ids[index] = cursor.packed()
    result: list[str | None] = []
    remaining = iter(ids)
    for want in wanted:
        collation = next(remaining, None) if want else None
        result.append(None if collation is None else collations.get(collation, f"collation {collation}"))
    return result
