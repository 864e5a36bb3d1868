"""The tables of a live server: their definitions as the binlog has them, and the server's own CREATE statements.

`read_tables` gives the same `Column.storage` as the binlog's TABLE_MAP metadata with binlog_row_metadata=FULL. It
doesn't judge types: a column that the archive can't hold comes back under its type's name, and
recovery.schema.arrow_type refuses it. The key is the one that TABLE_MAP names, see `promoted_key`. No foreign key, other
index or default is read here.

Sources: MySQL manual, information_schema COLUMNS and STATISTICS; MariaDB's the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pymysql

from recovery.charset import encode_text, is_raw_label, label_text
from recovery.errors import SourceError, UnsupportedColumn
from recovery.quoting import quote
from recovery.schema import Column, Table
from recovery.source import SYSTEM_SCHEMAS, Connection, fetch, handshake_version

_FAMILY = {"integer": "int", "numeric": "decimal"}
_FAMILY |= dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), "text")
_FAMILY |= dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), "blob")
_FAMILY |= dict.fromkeys(
    (
        "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection",
        "geometrycollection",
    ),
    "geometry",
)  # fmt: skip
_SIGNED = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double"})
_SIZED = frozenset({"char", "varchar", "binary", "varbinary"})
_CHARACTER = frozenset({"char", "varchar", "text", "enum", "set"})
_LABEL = re.compile(r"(x?)'((?:[^'\\]|''|\\.)*)'(?:,|\)|$)", re.DOTALL)
_UNESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
_NO_SUCH_TABLE = 1146  # ER_NO_SUCH_TABLE
_PERIOD = "PERIOD"  # stands for the EXTRA of a period's columns
TABLE_TYPES = frozenset(
    {"BASE TABLE", "SYSTEM VERSIONED"}
)  # those of information_schema.TABLES that have rows of their own
_BATCH = 200  # tables per information_schema query


def list_tables(connection: Connection) -> list[tuple[str, str, str]]:
    """(database, name, type) of everything outside the system schemas: type as in information_schema (`BASE TABLE`,
    `VIEW`, `SEQUENCE`, `SYSTEM VERSIONED`), sorted by name."""
    rows = fetch(connection, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES")
    found = [(str(db), str(name), str(kind)) for db, name, kind in rows]
    return sorted(row for row in found if row[0].lower() not in SYSTEM_SCHEMAS)


def read_tables(connection: Connection, tables: Sequence[tuple[str, str]] | None = None) -> list[Table]:
    """The definitions of these (database, table) pairs in their order, of all base tables with None. Names that don't
    exist, or that the account may not see, are left out: the caller compares."""
    if tables is None:
        tables = [(db, name) for db, name, kind in list_tables(connection) if kind in TABLE_TYPES]
    found: dict[tuple[str, str], Table] = {}
    for start in range(0, len(tables), _BATCH):
        found |= _read_batch(connection, tables[start : start + _BATCH])
    return [found[pair] for pair in tables if pair in found]


def _read_batch(connection: Connection, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Table]:
    # information_schema compares names without case and trailing spaces: the exact pairs are picked here.
    wanted = set(tables)
    where = " OR ".join(["(TABLE_SCHEMA = %s AND TABLE_NAME = %s)"] * len(tables))
    names = [name for pair in tables for name in pair]
    columns: dict[tuple[str, str], list[Column]] = {}
    virtual: dict[tuple[str, str], frozenset[str]] = {}
    periods: set[tuple[str, str]] = set()
    for db, table, *rest in fetch(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_OCTET_LENGTH,"
        " NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_SET_NAME, IS_NULLABLE,"
        # The columns of a system-versioned table's period can be written, in a way.
        f" CASE WHEN GENERATION_EXPRESSION IN ('ROW START', 'ROW END') THEN '{_PERIOD}' ELSE EXTRA END"
        f" FROM information_schema.COLUMNS WHERE {where} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        names,
    ):
        if (db, table) in wanted:
            columns.setdefault((db, table), []).append(_column(*rest))
            if "VIRTUAL" in str(rest[-1]).upper():
                virtual[(db, table)] = virtual.get((db, table), frozenset()) | {str(rest[0])}
            if rest[-1] == _PERIOD:
                periods.add((db, table))
    _check_names_of_hashes(connection, columns)
    unique = {
        (str(db), str(table))
        for db, table in fetch(
            connection,
            f"SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND ({where})",
            names,
        )
    }
    keys = {pair: _read_key(connection, pair, virtual.get(pair, frozenset())) for pair in columns if pair in unique}
    for pair in _versioned(connection, columns) - periods:
        # Nothing shows these columns but the binlog, in which row_end is a part of every unique key, too.
        columns[pair] += [Column(name, "timestamp", fsp=6, invisible=True) for name in ("row_start", "row_end")]
        key = keys.get(pair)
        keys[pair] = (*key, "row_end") if key else key or ()
    return {
        pair: Table(pair[0], pair[1], tuple(found), key)
        for pair, found in columns.items()
        if (key := keys.get(pair, ())) is not None
    }


def _check_names_of_hashes(connection: Connection, tables: Mapping[tuple[str, str], Sequence[Column]]) -> None:
    """MariaDB's binlog also has columns that nothing else shows, the hashes of unique keys that are too long for an index:
    they are told by their names (dataflow/tablemap.py). Raises UnsupportedColumn for one that a user named so."""
    if "MariaDB" not in handshake_version(connection):
        return
    for (db, table), columns in tables.items():
        found = next((c.name for c in columns if re.fullmatch(r"DB_ROW_HASH_\d+", c.name)), None)
        if found is not None:
            raise UnsupportedColumn(
                f"column `{found}` of table `{db}.{table}` has the name of a column that MariaDB makes itself",
                hint=f"Give it another name: ALTER TABLE {quote(db, table)} RENAME COLUMN {quote(found)} TO ...",
            )


def _versioned(connection: Connection, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the tables that MariaDB keeps the history of."""
    if "MariaDB" not in handshake_version(connection):
        return set()
    sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'SYSTEM VERSIONED'"
    return {(str(db), str(name)) for db, name in fetch(connection, sql)}.intersection(pairs)


def _read_key(connection: Connection, pair: tuple[str, str], virtual: frozenset[str]) -> tuple[str, ...] | None:
    """What TABLE_MAP names as a table's primary key; None if the table is gone by now."""
    try:
        rows = fetch(connection, f"SHOW KEYS FROM {quote(pair[1])} FROM {quote(pair[0])}")
    except SourceError as error:
        if isinstance(error.__cause__, pymysql.MySQLError) and error.__cause__.args[0] == _NO_SUCH_TABLE:
            return None
        raise
    keys: dict[str, list[KeyPart]] = {}
    for _, non_unique, name, _, column, _, _, prefix, _, null, kind, *_ in rows:
        if not int(non_unique):
            whole = column is not None and prefix is None and kind != "HASH"
            part = KeyPart("" if column is None else str(column), whole, null == "YES" or column in virtual)
            keys.setdefault(str(name), []).append(part)
    return promoted_key(keys)


@dataclass(frozen=True)
class KeyPart:
    """One part of a unique key. whole: a column, not a prefix, a hash or an expression. weak: nullable or virtual."""

    column: str
    whole: bool = True
    weak: bool = False


def promoted_key(keys: Mapping[str, Sequence[KeyPart]]) -> tuple[str, ...]:
    """The columns of the key that the server takes for the primary one, as the binlog does; () if there is none.

    keys: the unique keys in the server's own order. That is the primary key, if only over prefixes: then two rows may
    differ and share a key, and there is none. Without one it is the first whose parts are all whole, NOT NULL and not
    virtual (MySQL's sql/dd_table_share.cc, prepare_share; MariaDB's sql/table.cc, TABLE_SHARE::init_from_binary_frm_image;
    measured on 9.7 and 10.11 with what tests/test_source.py has).
    """
    candidates = [keys["PRIMARY"]] if "PRIMARY" in keys else list(keys.values())
    for parts in candidates:
        if all(part.whole and not part.weak for part in parts):
            return tuple(part.column for part in parts)
    return ()


def _column(
    name: str, data_type: str, column_type: str, octets: int | None, precision: int | None, scale: int | None,
    fsp: int | None, charset: str | None, nullable: str, extra: str,
) -> Column:  # fmt: skip
    kind = _FAMILY.get(data_type.lower(), data_type.lower())
    labelled = kind in ("enum", "set")
    return Column(
        name=name,
        type=kind,
        unsigned=kind in _SIGNED and " unsigned" in column_type.lower(),
        octets=int(octets) if kind in _SIZED and octets is not None else None,
        precision=int(precision) if kind in ("decimal", "bit") and precision is not None else None,
        scale=int(scale) if kind == "decimal" and scale is not None else None,
        fsp=int(fsp or 0) if kind in ("time", "datetime", "timestamp") else None,
        charset=_charset(charset) if kind in _CHARACTER else None,
        labels=parse_labels(column_type, _charset(charset)) if labelled else (),
        nullable=nullable == "YES",
        generated=bool(re.search(r"\b(VIRTUAL|STORED|PERSISTENT)\b", extra, re.IGNORECASE)),
        invisible=bool(re.search(r"\bINVISIBLE\b", extra, re.IGNORECASE)),
    )


def _charset(name: str | None) -> str:
    """An ENUM or SET of character set binary has none in MySQL's information_schema."""
    return "binary" if name is None else "utf8mb3" if name == "utf8" else str(name)


def parse_labels(column_type: str, charset: str = "utf8mb4") -> tuple[str, ...]:
    """The labels of `enum('a','it''s')`. Escapes: `''`, `\\\\`, `\\n`, `\\r`, `\\0` (append_unescaped, sql/unireg.cc); MySQL
    prints labels of character set binary that aren't ASCII as `x'f09f'`.

    The servers print what they can't show here as `?`: characters outside the basic plane, and on MariaDB bytes of
    character set binary. Only the binlog knows such a label.
    """
    body = column_type[column_type.index("(") + 1 :]
    return tuple(_label(in_hex, text, charset) for in_hex, text in _LABEL.findall(body))


def _label(in_hex: str, text: str, charset: str) -> str:
    if in_hex:
        return label_text(bytes.fromhex(text), charset)
    label = _UNESCAPE.sub(_unescape, text)
    return label_text(encode_text(label, charset), charset) if is_raw_label(label) else label


def _unescape(match: re.Match[str]) -> str:
    return "'" if match.group(1) is None else _ESCAPES.get(match.group(1), match.group(1))


def generated_columns(connection: Connection, db: str, table: str) -> frozenset[str]:
    """The names of a table's generated columns, virtual and stored; empty if there is no such table."""
    return frozenset(c.name for t in read_tables(connection, [(db, table)]) for c in t.columns if c.generated)


def show_create_table(connection: Connection, db: str, table: str) -> str:
    try:
        return str(fetch(connection, f"SHOW CREATE TABLE {quote(db, table)}")[0][1])
    except UnicodeDecodeError as error:  # MariaDB prints the bytes of a binary default as they are
        raise SourceError(
            f"the definition of table `{db}.{table}` isn't text: a column has bytes as its DEFAULT",
            hint="Write it as an expression, such as `ALTER TABLE t ALTER c SET DEFAULT (UNHEX('00ff'))`, or leave "
            "the table out of the snapshot with `--exclude`.",
        ) from error


def show_create_database(connection: Connection, db: str) -> str:
    return str(fetch(connection, f"SHOW CREATE DATABASE {quote(db)}")[0][1])
