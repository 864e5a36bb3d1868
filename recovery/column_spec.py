"""Column definitions, as CREATE TABLE and ALTER TABLE write them.

Source: MySQL manual, "CREATE TABLE Statement" (column_definition), "Data Type Default Values"; MariaDB's the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlglot.tokenizer_core import TokenType

from recovery.schema import Column
from recovery.tokens import Reader

_TYPES: Final = {
    "TINYINT": "tinyint", "SMALLINT": "smallint", "MEDIUMINT": "mediumint", "INT": "int", "INTEGER": "int",
    "BIGINT": "bigint", "BOOL": "tinyint", "BOOLEAN": "tinyint", "DECIMAL": "decimal", "NUMERIC": "decimal",
    "DEC": "decimal", "FIXED": "decimal", "FLOAT": "float", "DOUBLE": "double", "DOUBLE PRECISION": "double",
    "REAL": "double", "BIT": "bit", "DATE": "date", "TIME": "time", "DATETIME": "datetime", "TIMESTAMP": "timestamp",
    "YEAR": "year", "CHAR": "char", "CHARACTER": "char", "VARCHAR": "varchar", "BINARY": "binary",
    "VARBINARY": "varbinary", "TINYTEXT": "text", "TEXT": "text", "MEDIUMTEXT": "text", "LONGTEXT": "text",
    "TINYBLOB": "blob", "BLOB": "blob", "MEDIUMBLOB": "blob", "LONGBLOB": "blob", "ENUM": "enum", "SET": "set",
    "JSON": "json", "VECTOR": "vector", "UUID": "uuid", "INET4": "inet4", "INET6": "inet6", "GEOMETRY": "geometry",
    "POINT": "geometry", "LINESTRING": "geometry", "POLYGON": "geometry", "MULTIPOINT": "geometry",
    "MULTILINESTRING": "geometry", "MULTIPOLYGON": "geometry", "GEOMETRYCOLLECTION": "geometry",
    "GEOMCOLLECTION": "geometry", "INT1": "tinyint", "INT2": "smallint", "INT3": "mediumint", "MIDDLEINT": "mediumint",
    "INT4": "int", "INT8": "bigint",
}  # fmt: skip
_FRACTIONAL: Final = frozenset({"time", "datetime", "timestamp"})
_INTEGERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_CURRENT_TIME: Final = frozenset({"CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"})
_NOT_ASCII: Final = frozenset({"_ucs2", "_utf16", "_utf16le", "_utf32", "_swe7", "_sjis"})
_LITERALS: Final = frozenset({TokenType.STRING, TokenType.NUMBER, TokenType.HEX_STRING, TokenType.BIT_STRING})


@dataclass(frozen=True)
class Default:
    """A column's default. text: as a MySQL literal, None for NULL; known: False for an expression or the current time.
    clock: the fractional digits of the current time, None if it isn't that. moment: see recovery/moments.py."""

    text: str | None
    known: bool = True
    clock: int | None = None
    moment: bool = False


@dataclass(frozen=True)
class ColumnSpec:
    """A column definition. column.charset is None where the statement names none (the table's default holds), column.octets
    is the length in characters of char and varchar, in bytes of binary and varbinary; column.precision and column.scale are
    also those of FLOAT(M,D) and DOUBLE(M,D). default: None without a DEFAULT."""

    column: Column
    default: Default | None
    auto_increment: bool = False


class NotUnderstood(Exception):
    """A definition or clause that this version can't read."""


def column_spec(reader: Reader) -> tuple[ColumnSpec, bool]:
    """A column definition from its name on, and whether it makes the column a primary or unique key."""
    name = reader.name()
    word = reader.next().text.upper()
    if word == "DOUBLE":
        reader.take("PRECISION")
    kind = _TYPES.get(word)
    if kind is None:
        raise NotUnderstood
    arguments = reader.parenthesised() if reader.peek() == "(" else []
    column = _typed(Column(name, kind), word, [t.text for t in arguments if t.token_type is not TokenType.COMMA])
    return _attributes(reader, column)


def _typed(column: Column, word: str, arguments: Sequence[str]) -> Column:
    kind = column.type
    numbers = [int(a) for a in arguments if a.isdigit()]
    if kind == "decimal":
        return replace(column, precision=numbers[0] if numbers else 10, scale=numbers[1] if len(numbers) > 1 else 0)
    if kind == "float" and len(numbers) == 1 and numbers[0] > 24:
        return replace(column, type="double")
    if kind in ("float", "double") and len(numbers) == 2:
        return replace(column, precision=numbers[0], scale=numbers[1])
    if kind in _FRACTIONAL:
        return replace(column, fsp=numbers[0] if numbers else 0)
    if kind in ("char", "varchar", "binary", "varbinary"):
        return replace(column, octets=numbers[0] if numbers else 1)
    if kind == "bit":
        return replace(column, precision=numbers[0] if numbers else 1)
    if kind in ("enum", "set"):
        return replace(column, labels=tuple(arguments))
    return column


def _attributes(reader: Reader, column: Column) -> tuple[ColumnSpec, bool]:
    default: Default | None = None
    keyed = auto = False
    while not reader.done:
        if reader.skip("UNSIGNED", "ZEROFILL"):
            column = replace(column, unsigned=True)
        elif reader.take("CHARACTER", "SET") or reader.take("CHARSET"):
            column = replace(column, charset=reader.name().lower())
        elif reader.take("COLLATE"):
            named = reader.name().lower().split("_")[0]
            column = replace(column, charset=column.charset or named)
        elif reader.take("NOT", "NULL"):
            column = replace(column, nullable=False)
        elif reader.take("DEFAULT"):
            default = _default(reader)
        elif reader.take("AUTO_INCREMENT"):
            auto = True
        elif reader.take("ON", "UPDATE"):
            reader.next()
            if reader.peek() == "(":
                reader.parenthesised()
        elif any(reader.take(word) for word in ("SRID", "COMMENT", "COLUMN_FORMAT", "STORAGE", "AFTER")):
            reader.next()
        elif reader.take("PRIMARY") or reader.take("UNIQUE"):
            keyed = True
        elif reader.take("GENERATED", "ALWAYS") or reader.peek() == "AS":
            column = replace(column, generated=True)
            reader.take("AS")
            reader.parenthesised()
        elif reader.take("INVISIBLE"):
            column = replace(column, invisible=True)
        elif not reader.skip("NULL", "SIGNED", "FIRST", "KEY", "VISIBLE", "STORED", "VIRTUAL", "PERSISTENT"):
            raise NotUnderstood
    return ColumnSpec(column, default, auto), keyed


def _default(reader: Reader) -> Default:
    """A literal as MySQL writes it, so that its meaning doesn't depend on sql_mode."""
    if reader.take("NULL"):
        return Default(None)
    sign = ""
    while reader.peek() in ("-", "+"):
        sign += reader.next().text
    introducer = reader.next().text.lower() if reader.tokens[reader.at].token_type is TokenType.INTRODUCER else ""
    token = reader.next()
    if token.token_type is TokenType.NUMBER and not token.text.strip("0."):
        return Default(token.text)  # a DECIMAL, which has no negative zero, as '-0' and -0e0 have in MySQL
    if introducer and (introducer in _NOT_ASCII or not token.text.isascii()):
        return Default("", known=False)  # other characters in the bytes of this text
    if token.token_type in _LITERALS:
        return (
            Default(sign + token.text)
            if token.token_type in (TokenType.STRING, TokenType.NUMBER)
            else Default("", known=False)
        )
    if token.text.upper() in _CURRENT_TIME:
        digits = [t.text for t in reader.parenthesised()] if reader.peek() == "(" else []
        whole = not digits or (len(digits) == 1 and digits[0].isdigit())
        return Default("", known=False, clock=int("".join(digits) or 0) if whole else None)
    if token.text.upper() in ("TRUE", "FALSE"):
        return Default("1" if token.text.upper() == "TRUE" else "0")
    if token.token_type is TokenType.L_PAREN:
        reader.at -= 1
        reader.parenthesised()
    elif reader.peek() == "(":
        reader.parenthesised()
    return Default("", known=False)
