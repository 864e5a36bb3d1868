"""Column builders: from the cells that the walk kernel found to Arrow arrays, one family per module.

A builder gives the array, of the type that recovery.schema.arrow_type names, and the cells that this type can't hold as
`Odd`: their text goes into `_rb_exact` (docs/FORMAT.md), never into a default. What no server writes raises `CellFault`.
"""

from __future__ import annotations

from dataflow import tablemap as tm
from dataflow.columns import mariadb, numbers, texts, times
from dataflow.columns.cells import Builder
from recovery.errors import BinlogDamaged
from recovery.schema import INTEGER_BITS, TEMPORAL_TYPES, TEXT_TYPES, Column, arrow_type

# Bytes of values whose width their type alone gives (MySQL's table_def::calc_field_size).
_WIDTHS = {
    tm.TINY: 1, tm.SHORT: 2, tm.INT24: 3, tm.LONG: 4, tm.LONGLONG: 8, tm.FLOAT: 4, tm.DOUBLE: 8, tm.YEAR: 1, tm.DATE: 3,
    tm.TIME: 3, tm.TIMESTAMP: 4, tm.DATETIME: 8,
}  # fmt: skip
# The types on the wire that values of a column's type travel as.
_WIRE_TYPES = {
    "tinyint": {tm.TINY}, "smallint": {tm.SHORT}, "mediumint": {tm.INT24}, "int": {tm.LONG}, "bigint": {tm.LONGLONG},
    "float": {tm.FLOAT}, "double": {tm.DOUBLE}, "decimal": {tm.NEWDECIMAL}, "bit": {tm.BIT}, "year": {tm.YEAR},
    "date": {tm.DATE}, "time": {tm.TIME2, tm.TIME}, "datetime": {tm.DATETIME2, tm.DATETIME},
    "timestamp": {tm.TIMESTAMP2, tm.TIMESTAMP}, "enum": {tm.ENUM}, "set": {tm.SET}, "json": {tm.JSON},
    "geometry": {tm.GEOMETRY}, "vector": {tm.VECTOR}, "char": {tm.STRING}, "binary": {tm.STRING},
    "uuid": {tm.STRING}, "inet4": {tm.STRING}, "inet6": {tm.STRING},
    "varchar": {tm.VARCHAR, tm.VARCHAR_COMPRESSED}, "varbinary": {tm.VARCHAR, tm.VARCHAR_COMPRESSED},
    "text": {tm.BLOB, tm.BLOB_COMPRESSED}, "blob": {tm.BLOB, tm.BLOB_COMPRESSED},
}  # fmt: skip
_FRACTIONAL = {tm.TIME2: 3, tm.TIMESTAMP2: 4, tm.DATETIME2: 5}
_COMPRESSED = frozenset({tm.BLOB_COMPRESSED, tm.VARCHAR_COMPRESSED})
_PREFIXED = _COMPRESSED | {tm.STRING, tm.VARCHAR, tm.BLOB, tm.JSON, tm.GEOMETRY, tm.VECTOR}


def width(column: Column, wire: tm.WireColumn) -> int:
    """Bytes of a value in a row image, or minus the bytes of the length before it. Raises KeyError for an unknown type."""
    if wire.type in tm.OLD_TEMPORAL and column.fsp:
        return mariadb.old_width(wire.type, column.fsp)
    if wire.type in _PREFIXED:
        return -wire.length_bytes
    if wire.type in (tm.ENUM, tm.SET):
        return wire.length_bytes
    if wire.type == tm.NEWDECIMAL:
        return numbers.decimal_width(wire.precision, wire.scale)
    if wire.type == tm.BIT:
        return wire.octets
    if wire.type in _FRACTIONAL:
        return _FRACTIONAL[wire.type] + (wire.fsp + 1) // 2
    return _WIDTHS[wire.type]


def builder(column: Column, wire: tm.WireColumn, table_label: str) -> Builder:
    """The builder of a column. Raises UnsupportedColumn, and BinlogDamaged if the definition isn't that of the binlog."""
    arrow_type(column, table_label)
    exact = wire.type in (tm.NEWDECIMAL, tm.BIT)
    if wire.type not in _WIRE_TYPES[column.type] or (
        exact and (wire.precision, wire.scale) != (column.precision, column.scale or 0)
    ):
        raise BinlogDamaged(
            f"column `{column.name}` of table `{table_label}` is `{column.type}` in its definition and travels as {wire}",
            hint="Start capture again; if it recurs, report this with the table's SHOW CREATE TABLE.",
        )
    built = _plain(column, wire, table_label)
    return mariadb.compressed(built) if wire.type in _COMPRESSED else built


def _plain(column: Column, wire: tm.WireColumn, table_label: str) -> Builder:
    arrow = arrow_type(column, table_label)
    kind = column.type
    if kind in INTEGER_BITS:
        return numbers.integer(arrow, INTEGER_BITS[kind], signed=not column.unsigned)
    if kind in ("float", "double"):
        return numbers.integer(arrow, arrow.bit_width, signed=True)
    if kind == "decimal":
        return numbers.decimal(arrow, wire.precision, wire.scale)
    if kind == "bit":
        return numbers.bit(arrow, wire.precision)
    if kind == "year":
        return numbers.year
    if wire.type in tm.OLD_TEMPORAL and column.fsp:
        return mariadb.old_fraction(arrow, wire.type, column.fsp)
    if kind in TEMPORAL_TYPES:
        return times.builder(arrow, wire)
    if kind in TEXT_TYPES:
        return texts.text(column.charset or "")
    if kind == "enum":
        return texts.enum(wire.length_bytes, column.labels)
    if kind == "set":
        return texts.set_(wire.length_bytes, column.labels)
    if kind == "json":
        return texts.json
    if kind in mariadb.PRINTED:
        return mariadb.printed(kind)
    if kind == "binary":
        return texts.padded(wire.octets)
    return texts.binary
