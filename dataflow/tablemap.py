"""TABLE_MAP events: the definition that the row events after it are written in.

binlog_row_metadata=FULL adds names, signs, character sets, labels and the primary key as type-length-value fields (MySQL's
libs/mysql/binlog/event/rows_event.h, Table_map_event::Optional_metadata_field; the same in MariaDB 10.5+). MySQL's default
MINIMAL has only signs and character sets, MariaDB's NO_LOG nothing: such a definition proves types, not names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from recovery.charset import label_text
from recovery.errors import BinlogDamaged, SourceMisconfigured, UnsupportedColumn
from recovery.schema import Column, Table

# Column types on the wire (MySQL's field_types.h).
TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, VARCHAR, BIT = 10, 11, 12, 13, 15, 16
TIMESTAMP2, DATETIME2, TIME2, VECTOR, JSON, NEWDECIMAL = 17, 18, 19, 242, 245, 246
ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 247, 248, 252, 253, 254, 255
# MariaDB's compressed columns (include/mysql_com.h), sent as they are stored.
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141

_INTEGERS: Final = {TINY: "tinyint", SHORT: "smallint", INT24: "mediumint", LONG: "int", LONGLONG: "bigint"}
# The SIGNEDNESS field has a bit for each of these; both servers count YEAR among them (measured on 9.7 and 10.11).
_NUMERIC: Final = frozenset(_INTEGERS) | {FLOAT, DOUBLE, NEWDECIMAL, YEAR}
# How many metadata bytes follow per type (Table_map_event, "m_field_metadata").
_META_LENGTH: Final = {
    FLOAT: 1, DOUBLE: 1, VARCHAR: 2, VAR_STRING: 2, BIT: 2, NEWDECIMAL: 2, BLOB: 1, STRING: 2, GEOMETRY: 1, JSON: 1,
    TIMESTAMP2: 1, DATETIME2: 1, TIME2: 1, ENUM: 2, SET: 2, VECTOR: 1, BLOB_COMPRESSED: 1, VARCHAR_COMPRESSED: 2,
}  # fmt: skip
# The types that have a character set (rows_event.h, is_character_type; measured on MariaDB for the compressed ones).
_CHARACTER: Final = frozenset({STRING, VARCHAR, BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED})
# Types without one of their own that are counted among them all the same (measured on 9.7 and 10.11).
_COUNTED_AS_CHARACTER: Final = {"mysql": _CHARACTER | {VECTOR}, "mariadb": _CHARACTER | {GEOMETRY}}
_FAMILIES: Final = {
    FLOAT: "float", DOUBLE: "double", DATE: "date", YEAR: "year", JSON: "json", GEOMETRY: "geometry", VECTOR: "vector",
}  # fmt: skip
_WITH_FRACTION: Final = frozenset({TIMESTAMP2, DATETIME2, TIME2})
# Tables from before MySQL 5.6 and MariaDB 10.1 (or with mysql56_temporal_format=OFF) send the types without a 2, and without
# saying how many fractional digits they have: on MySQL none, on MariaDB any number.
OLD_TEMPORAL: Final = frozenset({TIMESTAMP, DATETIME, TIME})
_FRACTIONAL: Final = {
    TIMESTAMP2: "timestamp", DATETIME2: "datetime", TIME2: "time",
    TIMESTAMP: "timestamp", DATETIME: "datetime", TIME: "time",
}  # fmt: skip
_MOST_LENGTH_BYTES: Final = {
    BLOB: 4, BLOB_COMPRESSED: 4, JSON: 4, GEOMETRY: 4, VECTOR: 4, ENUM: 2, SET: 8,
}  # fmt: skip

# Kinds of optional metadata.
_SIGNS, _DEFAULT_CHARSET, _COLUMN_CHARSETS, _NAMES, _SET_LABELS, _ENUM_LABELS, _PRIMARY_KEY = 1, 2, 3, 4, 5, 6, 8
_LABEL_DEFAULT_CHARSET, _LABEL_CHARSETS, _VISIBILITY = 10, 11, 12


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
    """named: whether the event has the columns' names, and all else. Without names they are called `@1`, `@2` ..., ENUM and
    SET have no labels, there is no key; where signs or character sets are missing (MariaDB's NO_LOG), numbers count as
    signed and the charset is None; `fsp` is None where only the schema knows it (MariaDB's OLD_TEMPORAL). Such a table may
    not be decoded before a reading of the live schema has mended it. wire: also of columns behind those of the table, which
    MariaDB shows nowhere else: the hash of each unique key that is too long for an index. hides: whether there may be some.
    """

    table_id: int
    table: Table
    wire: tuple[WireColumn, ...]
    named: bool = True
    hides: bool = False


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


def unnamed(label: str) -> SourceMisconfigured:
    """What a definition without names is refused with where nothing else gives them."""
    return SourceMisconfigured(
        f"the binlog has no column names for table `{label}`",
        hint="Run `SET GLOBAL binlog_row_metadata = FULL` on the source (and set it in its configuration file).",
    )


def parse(body: bytes, collations: Mapping[int, str], *, flavor: str, need_names: bool = True) -> TableMap:
    """A TABLE_MAP body. collations: collation id -> character set name, as the server lists them. flavor: "mysql" or
    "mariadb", which count their columns differently.

    Raises SourceMisconfigured naming the table, or UnsupportedColumn, when the event doesn't say all that is needed and
    `need_names` is given; BinlogDamaged.
    """
    try:
        return _parse(body, collations, flavor, need_names)
    except (IndexError, KeyError, ValueError) as error:
        raise BinlogDamaged(
            f"a TABLE_MAP event doesn't parse: {error!r}", hint="Start capture again; report this if it recurs."
        ) from error


def _parse(body: bytes, collations: Mapping[int, str], flavor: str, need_names: bool) -> TableMap:
    cursor = _Cursor(body, 8)  # table id 6, flags 2
    db = cursor.raw(cursor.number(1)).decode()
    cursor.raw(1)
    name = cursor.raw(cursor.number(1)).decode()
    cursor.raw(1)
    types = list(cursor.raw(cursor.packed()))
    metas = _Cursor(cursor.text())
    wire = tuple(_checked(_wire(kind, metas.raw(_META_LENGTH.get(kind, 0)))) for kind in types)
    nulls = cursor.raw((len(types) + 7) // 8)
    options: dict[int, bytes] = {}
    while cursor.more():
        kind = cursor.number(1)
        options[kind] = cursor.text()
    if need_names and _NAMES not in options:
        raise unnamed(f"{db}.{name}")
    columns = _columns(wire, nulls, options, collations, flavor)
    hides = flavor == "mariadb"
    while hides and columns and _is_hash(columns[-1]):
        columns = columns[:-1]
    key = _key(options, [c.name for c in columns])
    found = TableMap(
        table_id(body), Table(db, name, columns, key), wire, _NAMES in options and _fractions_known(columns), hides
    )
    if need_names and not found.named:
        raise _old_format(found.table)
    return found


def _is_hash(column: Column) -> bool:
    """Whether MariaDB made it for a unique key that is too long for an index (sql/sql_table.cc, add_hash_field). They stand
    behind all others."""
    return (column.type, column.unsigned) == ("bigint", True) and re.fullmatch(
        r"DB_ROW_HASH_\d+", column.name
    ) is not None


def _fractions_known(columns: tuple[Column, ...]) -> bool:
    return all(c.fsp is not None for c in columns if c.type in ("time", "datetime", "timestamp"))


def _old_format(table: Table) -> UnsupportedColumn:
    column = next(c for c in table.columns if not _fractions_known((c,)))
    return UnsupportedColumn(
        f"column `{column.name}` of table `{table.label}` has the format of MariaDB before 10.1, and the binlog doesn't"
        " say how many fractional digits it has",
        hint=f"Run `SET GLOBAL mysql56_temporal_format = ON` and `ALTER TABLE {table.db}.{table.name} FORCE` on the source.",
    )


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
    if kind in (BLOB, BLOB_COMPRESSED, JSON, GEOMETRY, VECTOR):
        return WireColumn(kind, length_bytes=meta[0])
    if kind == VARCHAR_COMPRESSED:
        # The stored form has a byte more than the column's octets (Field_varstring_compressed).
        octets = int.from_bytes(meta, "little")
        return WireColumn(kind, length_bytes=1 if octets < 256 else 2, octets=octets - 1)
    if kind == NEWDECIMAL:
        return WireColumn(kind, precision=meta[0], scale=meta[1])
    if kind == BIT:
        # Bits beyond whole bytes, whole bytes (Field_bit::do_save_field_metadata); a value has the bytes of both.
        bits = meta[1] * 8 + meta[0]
        return WireColumn(kind, precision=bits, octets=(bits + 7) // 8)
    if kind in _WITH_FRACTION:
        return WireColumn(kind, fsp=meta[0])
    return WireColumn(kind)


def _checked(wire: WireColumn) -> WireColumn:
    """Sizes that servers have: the kernels make room by them."""
    good = wire.fsp <= 6
    if wire.type in _MOST_LENGTH_BYTES:
        good = 1 <= wire.length_bytes <= _MOST_LENGTH_BYTES[wire.type]
    if wire.type == NEWDECIMAL:  # MariaDB has scales up to 38, MySQL up to 30
        good = 1 <= wire.precision <= 65 and wire.scale <= min(38, wire.precision)
    if wire.type == BIT:
        good = 1 <= wire.precision <= 64
    if not good:
        raise ValueError(f"a column with sizes that no server has: {wire}")
    return wire


def _columns(
    wire: tuple[WireColumn, ...],
    nulls: bytes,
    options: Mapping[int, bytes],
    collations: Mapping[int, str],
    flavor: str,
) -> tuple[Column, ...]:
    names = _names(options, len(wire))
    signs = _bits(options.get(_SIGNS, b""), [w.type in _NUMERIC for w in wire])
    visible = [True] * len(wire)
    if _VISIBILITY in options:
        visible = _bits(options[_VISIBILITY], visible)
    counted = [w.type in _COUNTED_AS_CHARACTER[flavor] for w in wire]
    charsets = _charsets(options, _DEFAULT_CHARSET, _COLUMN_CHARSETS, counted, collations)
    of_labels = [w.type in (ENUM, SET) for w in wire]
    label_charsets = _charsets(options, _LABEL_DEFAULT_CHARSET, _LABEL_CHARSETS, of_labels, collations)
    labels = {
        SET: iter(_label_lists(options.get(_SET_LABELS, b""))),
        ENUM: iter(_label_lists(options.get(_ENUM_LABELS, b""))),
    }
    columns = []
    for i, one in enumerate(wire):
        nullable = bool(nulls[i // 8] >> (i % 8) & 1)
        common: dict[str, Any] = {"name": names[i], "nullable": nullable, "invisible": not visible[i]}
        if one.type in labels:
            charset = label_charsets[i]
            texts = tuple(label_text(raw, charset or "") for raw in next(labels[one.type], []))
            kind = "enum" if one.type == ENUM else "set"
            columns.append(Column(type=kind, charset=charset, labels=texts, **common))
        elif one.type in _CHARACTER:
            columns.append(_string_column(one, charsets[i], common))
        else:
            columns.append(_plain_column(one, signs[i], common, flavor))
    return tuple(columns)


def _names(options: Mapping[int, bytes], count: int) -> list[str]:
    if _NAMES not in options:
        return [f"@{i + 1}" for i in range(count)]
    names = [raw.decode() for raw in _texts(options[_NAMES])]
    if len(names) != count:
        raise BinlogDamaged(
            f"a TABLE_MAP event has {count} columns and {len(names)} names",
            hint="Start capture again; report this if it recurs.",
        )
    return names


def _plain_column(wire: WireColumn, unsigned: bool, common: dict[str, Any], flavor: str) -> Column:
    """Of a type without a character set."""
    if wire.type in _INTEGERS:
        return Column(type=_INTEGERS[wire.type], unsigned=unsigned, **common)
    if wire.type == NEWDECIMAL:
        return Column(type="decimal", unsigned=unsigned, precision=wire.precision, scale=wire.scale, **common)
    if wire.type == BIT:
        return Column(type="bit", precision=wire.precision, **common)
    if wire.type in _FRACTIONAL:
        unknown = flavor == "mariadb" and wire.type in OLD_TEMPORAL
        return Column(type=_FRACTIONAL[wire.type], fsp=None if unknown else wire.fsp, **common)
    kind = _FAMILIES.get(wire.type, f"wire type {wire.type}")
    return Column(type=kind, unsigned=unsigned and wire.type in (FLOAT, DOUBLE), **common)


def _string_column(column: WireColumn, charset: str | None, common: dict[str, Any]) -> Column:
    binary = charset == "binary"
    if column.type in (BLOB, BLOB_COMPRESSED):
        return Column(type="blob" if binary else "text", charset=None if binary else charset, **common)
    if column.type == STRING:
        kind = "binary" if binary else "char"
    else:
        kind = "varbinary" if binary else "varchar"
    return Column(type=kind, octets=column.octets, charset=None if binary else charset, **common)


def _key(options: Mapping[int, bytes], names: list[str]) -> tuple[str, ...]:
    """The primary key's columns in key order; none if it covers only a prefix of one of them (that is field 9)."""
    if _PRIMARY_KEY in options and _NAMES in options:
        cursor = _Cursor(options[_PRIMARY_KEY])
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
