"""Tables and columns as the archive knows them, and the Arrow type that holds each MySQL type without loss.

Two readers produce these objects: the TABLE_MAP metadata of the binlog (dataflow/tablemap.py) and information_schema at a
snapshot (recovery/source_tables.py). Both must give equal `Column.storage` for the same column: that is how the merge knows
that a baseline and a change segment speak of the same table.

Promises: `arrow_type` maps every supported type to a type that can hold each of its ordinary values exactly; a value that
it can't hold (a zero date, an ENUM's invalid value, text that isn't valid in its character set) goes, as text, into the
`_rb_exact` map. Unsupported types are refused by name, never approximated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from recovery.errors import UnsupportedColumn

# The archive format that this version writes, in log objects and Parquet footers; all earlier ones are read. 2: the types
# BIT, GEOMETRY, VECTOR, UUID and INET, every character set, and `0x..` exact texts. 3: the flags of row events. 4: the
# session of DDL, snapshots' definitions. 5: synthetic snapshots. 6: what the time zone SYSTEM was for DDL.
# 7: names without case, the scope of snapshots. 8: explicit_defaults_for_timestamp of DDL, when a checkpoint's
# file was begun.
FORMAT = 8
RESERVED_PREFIX = "_rb_"
EXACT = "_rb_exact"
EXACT_TYPE = pa.map_(pa.string(), pa.string())

INTEGER_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
TEXT_TYPES = frozenset({"char", "varchar", "text"})
# Their values are bytes; GEOMETRY is stored as SRID (4 bytes, little endian) + WKB, VECTOR as 4-byte little-endian floats.
BINARY_TYPES = frozenset({"binary", "varbinary", "blob", "geometry", "vector"})
# MariaDB's own types, text as SELECT prints it. In the binlog they look like BINARY(n): only a live schema tells.
MARIADB_TEXT_TYPES = frozenset({"uuid", "inet4", "inet6"})
TEMPORAL_TYPES = frozenset({"date", "time", "datetime", "timestamp"})

# Every character set of MySQL 9.7 and MariaDB 10.11 (SHOW CHARACTER SET); recovery.charset knows their mappings.
CHARSETS = frozenset((
    "armscii8", "ascii", "big5", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "cp932",
    "dec8", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "geostd8", "greek", "hebrew", "hp8", "keybcs2", "koi8r",
    "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "sjis", "swe7", "tis620", "ucs2", "ujis",
    "utf16", "utf16le", "utf32", "utf8", "utf8mb3", "utf8mb4",
))  # fmt: skip
DECIMAL_ARROW_MAX = 38  # DuckDB reads decimal256 as DOUBLE; wider ones are exact text


@dataclass(frozen=True)
class Column:
    """One column. `type` is the family in lower case ("int", "varchar", "text", "blob", "json", ...): all four TEXT sizes
    are "text", all four BLOB sizes "blob", INTEGER is "int", JSON on MariaDB is "text".

    octets: maximum length in bytes of char, varchar, binary, varbinary (BINARY values are padded to it); else None.
    precision: of decimal; of bit the number of bits. scale: of decimal. fsp: fractional second digits of time, datetime,
    timestamp. charset: of char, varchar, text, enum and set; None for the rest. labels: of enum and set, in index order.
    """

    name: str
    type: str
    unsigned: bool = False
    octets: int | None = None
    precision: int | None = None
    scale: int | None = None
    fsp: int | None = None
    charset: str | None = None
    labels: tuple[str, ...] = ()
    nullable: bool = True
    generated: bool = False
    invisible: bool = False

    @property
    def storage(self) -> tuple[object, ...]:
        """What decides how values are stored and compared: equal in both readers for the same column."""
        charset = "utf8mb3" if self.charset == "utf8" else self.charset
        octets = self.octets if self.type == "binary" else None
        # TEXT and VARCHAR hold their values alike; information_schema and TABLE_MAP agree on the family all the same.
        return (
            self.name,
            self.type,
            self.unsigned,
            octets,
            self.precision,
            self.scale,
            self.fsp,
            charset,
            self.labels,
        )

    @property
    def archive_name(self) -> str:
        """The Parquet column's name: the column's own, unless that begins with the reserved prefix."""
        if self.name.lower().startswith(RESERVED_PREFIX):
            return "_rb_col" + self.name
        return self.name

    def to_json(self) -> dict[str, Any]:
        given = {k: v for k, v in self.__dict__.items() if v is not None and v is not False and v != ()}
        given["nullable"] = self.nullable
        if self.labels:
            given["labels"] = list(self.labels)
        return given

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Column:
        fields = dict(data)
        fields["labels"] = tuple(fields.get("labels", ()))
        return Column(**fields)


@dataclass(frozen=True)
class Table:
    """A table's definition at a moment. `key` names the primary key's columns; empty for a table without a usable key
    (none, or one over column prefixes), which is folded as a multiset of whole rows."""

    db: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.db}.{self.name}"

    @property
    def storage(self) -> tuple[object, ...]:
        return (self.key, tuple(c.storage for c in self.columns))

    @cached_property
    def schema_id(self) -> str:
        """16 hex digits of the SHA-256 over the definition: names a schema in the log and in segment footers."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def key_indexes(self) -> tuple[int, ...]:
        return tuple(i for i, c in enumerate(self.columns) if c.name in self.key)

    def to_json(self) -> dict[str, Any]:
        return {
            "db": self.db,
            "table": self.name,
            "key": list(self.key),
            "columns": [c.to_json() for c in self.columns],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Table:
        return Table(data["db"], data["table"], tuple(Column.from_json(c) for c in data["columns"]), tuple(data["key"]))

    def with_generated(self, generated: frozenset[str]) -> Table:
        """The same table with these columns marked as generated (the binlog doesn't say which are)."""
        return replace(self, columns=tuple(replace(c, generated=c.name in generated) for c in self.columns))


def arrow_type(column: Column, table_label: str) -> pa.DataType:
    """The Arrow type of a column's values. Raises UnsupportedColumn by name for a type this version doesn't capture."""
    kind = column.type
    if kind in INTEGER_BITS:
        bits = max(32, INTEGER_BITS[kind]) if kind == "mediumint" else INTEGER_BITS[kind]
        return pa.type_for_alias(f"{'u' if column.unsigned else ''}int{bits}")
    if kind == "decimal":
        assert column.precision is not None
        assert column.scale is not None
        if column.precision > DECIMAL_ARROW_MAX:
            return pa.string()
        return pa.decimal128(column.precision, column.scale)
    if kind in TEXT_TYPES or kind in ("enum", "set"):
        if column.charset not in CHARSETS:
            raise _unsupported(column, table_label, f"character set `{column.charset}`")
        return pa.string()
    simple = {
        "float": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "time": pa.int64(),
        "datetime": pa.timestamp("us"),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "year": pa.int16(),
        "json": pa.string(),
        "bit": pa.uint64(),
    }
    if kind in simple:
        return simple[kind]
    if kind in BINARY_TYPES:
        return pa.binary()
    if kind in MARIADB_TEXT_TYPES:
        return pa.string()
    raise _unsupported(column, table_label, f"type `{kind}`")


def check_supported(table: Table) -> None:
    for column in table.columns:
        arrow_type(column, table.label)


def _unsupported(column: Column, table_label: str, what: str) -> UnsupportedColumn:
    return UnsupportedColumn(
        f"column `{column.name}` of table `{table_label}` has {what}, which this version does not capture",
        hint="Exclude the table with `exclude` in the server's section of rowback.toml, or change the column's type.",
    )


def value_fields(table: Table) -> list[pa.Field]:
    """The typed value columns of a table, in the table's order, under their archive names; all nullable."""
    return [pa.field(c.archive_name, arrow_type(c, table.label)) for c in table.columns]


def table_metadata(table: Table) -> dict[bytes, bytes]:
    """Parquet footer entries that name the real table and each column's MySQL type (docs/FORMAT.md)."""
    return {
        b"rowback.format": str(FORMAT).encode(),
        b"rowback.table": json.dumps(table.to_json(), ensure_ascii=False, sort_keys=True).encode(),
        b"rowback.schema_id": table.schema_id.encode(),
    }


def baseline_schema(table: Table) -> pa.Schema:
    """Of a baseline's files: `_rb_exact` first, as in change segments, then one typed column per table column."""
    return pa.schema([pa.field(EXACT, EXACT_TYPE), *value_fields(table)], metadata=table_metadata(table))


def table_of(schema: pa.Schema) -> Table:
    """The inverse of `table_metadata`."""
    metadata = schema.metadata or {}
    return Table.from_json(json.loads(metadata[b"rowback.table"]))
