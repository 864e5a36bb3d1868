"""The dump writer: merged rows as a mydumper directory that myloader (0.10, 1.x) and the plain mysql client load.

    metadata                       what myloader asks for; names the tables whose files have an alias
    <db>-schema-create.sql         CREATE DATABASE
    <db>.<table>-schema.sql        the server's own CREATE TABLE at the snapshot
    <db>.<table>.00000.sql ...     INSERT statements of about 1 MB, files of about 64 MB, rows in key order
    load.mysql                     the same for the plain client: cd DIR && mysql --loose-commands < load.mysql
    rowback-manifest.json          the cut, and each table's rows and files

Promises: every literal means the same under every sql_mode and connection character set (recovery/dump_values.py).
Generated columns are left out. Rendering is DuckDB SQL over columns; Python only cuts the rendered bytes into statements.

Names: myloader takes database and table from the file's name, splitting at dots, so a name with anything but ASCII
letters, digits, `_`, `$` and `-` gets an alias (`mydumper_0`, as mydumper 1.x does); the statements inside hold the
real names. An aliased database exists for the time of the load, because myloader 0.10 begins each file with a USE of
it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from recovery.dump_values import Functions, rows_sql, written
from recovery.errors import ArchiveDamaged, NotComputable
from recovery.merge import MergedTable, Merger
from recovery.tableinfo import system_versioned

STATEMENT_BYTES = 1_000_000
FILE_BYTES = 64 * 1024 * 1024
_BATCH_ROWS = 8192
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_$-]+")
# Strict modes are off (the source may hold what they refuse), a 0 in an AUTO_INCREMENT column stays 0, and
# invalid dates are let through (MySQL manual, "Server SQL Modes").
SQL_MODE = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"
_HEAD = (
    "/*!40101 SET NAMES utf8mb4*/;\n"
    f"/*!40101 SET SQL_MODE='{SQL_MODE}'*/;\n"
    "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\n"
    "/*!40103 SET TIME_ZONE='+00:00'*/;\n"
)
# A system-versioned table (MariaDB, from 10.11 on) takes its history only so.
_HISTORY = "SET system_versioning_insert_history=1;\n"


@dataclass(frozen=True)
class TableFiles:
    """What was written for a table. files: data files, in order."""

    db: str
    table: str
    rows: int
    size_bytes: int
    files: tuple[str, ...]


@dataclass
class DumpWriter:
    """Writes into `directory`, which exists and is empty. Call `database` and `table` in any order, then `finish`.

    tables: all (db, table) pairs of the dump, for aliases that clash with none of them. flavor: of the server it is for, for
    text that isn't valid in its character set; None if that isn't known.
    """

    directory: Path
    tables: Sequence[tuple[str, str]]
    statement_bytes: int = STATEMENT_BYTES
    file_bytes: int = FILE_BYTES
    flavor: str | None = None
    _written: list[TableFiles] = field(default_factory=list)
    _databases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        databases = sorted({db for db, _ in self.tables})
        self._db_alias = dict(zip(databases, aliases(databases, _database_alias), strict=True))
        self._alias: dict[tuple[str, str], str] = {}
        for db in databases:
            names = sorted(table for d, table in self.tables if d == db)
            taken = {name.lower() for name in names}
            numbers = (f"mydumper_{n}" for n in range(2 * len(names) + 1) if f"mydumper_{n}" not in taken)
            for name, alias in zip(names, aliases(names, lambda _, numbers=numbers: next(numbers)), strict=True):
                self._alias[db, name] = alias

    def database(self, db: str, create_statement: str) -> None:
        """create_statement: the server's SHOW CREATE DATABASE; a plain one is written if it is empty."""
        alias = self._db_alias[db]
        body = create_statement.strip().rstrip(";") or f"CREATE DATABASE {quote(db)}"
        body = re.sub(r"^CREATE DATABASE (?!/\*!\d+ IF NOT|IF NOT)", "CREATE DATABASE IF NOT EXISTS ", body)
        _check_statement(body, db)
        if alias != db:
            body = f"CREATE DATABASE {quote(alias)};\n{body}"
            self._write(f"{alias}-schema-post.sql", f"DROP DATABASE {quote(alias)};\n")
        self._write(f"{alias}-schema-create.sql", f"/*!40101 SET NAMES utf8mb4*/;\n{body};\n")
        self._databases.append(db)

    def table(
        self, merger: Merger, table: tuple[str, str], schema: Sequence[str], merged: MergedTable | None
    ) -> TableFiles:
        """Write a table's definition and rows. schema: CREATE TABLE and the statements that change it. merged: None
        for no rows. Raises NotComputable for a value that no statement can store, duckdb.Error and OSError as they come."""
        db, name = table
        bodies = [text.strip().rstrip(";") for text in schema]
        for body in bodies:
            _check_statement(body, f"{db}.{name}")
        program = "".join(f"{body};\n" for body in bodies)
        self._write(f"{self._stem(db, name)}-schema.sql", f"{self._head(db)}{program}")
        columns = written(merged) if merged is not None else []
        statement = f"INSERT INTO {quote(name)} ({', '.join(quote(c.name) for _, c in columns)}) VALUES\n"
        head = self._head(db) + (_HISTORY if any(map(system_versioned, schema)) else "")
        out = _RowFiles(self.directory, self._stem(db, name), head, statement, self.statement_bytes, self.file_bytes)
        with out:
            if merged is not None:
                with closing(Functions(merger.connection, merged.table.label, self.flavor)) as functions:
                    for batch in merger.connection.sql(rows_sql(merged)).to_arrow_reader(_BATCH_ROWS):
                        functions.check()
                        out.add(batch.column(0))
                    functions.check()
        result = TableFiles(db, name, out.rows, out.size_bytes, tuple(out.files))
        self._written.append(result)
        return result

    def finish(self, manifest: dict[str, Any]) -> tuple[TableFiles, ...]:
        """Write metadata, load.mysql and the manifest, to which the tables are added. Returns the tables in name
        order."""
        tables = tuple(sorted(self._written, key=lambda t: (t.db, t.table)))
        self._write("metadata", self._metadata(tables))
        self._write("load.mysql", self._load_script(tables))
        listed = [
            {"db": t.db, "table": t.table, "rows": t.rows, "size_bytes": t.size_bytes, "files": list(t.files)}
            for t in tables
        ]
        text = json.dumps({**manifest, "tables": listed}, ensure_ascii=False, indent=2)
        self._write("rowback-manifest.json", text + "\n")
        return tables

    def _metadata(self, tables: Iterable[TableFiles]) -> str:
        """mydumper 1.x's format; myloader 0.10 only wants the file to be there."""
        parts = ["[config]\nquote-character = BACKTICK\n"]
        for t in tables:
            section = f"`{self._db_alias[t.db]}`.`{self._alias[t.db, t.table]}`"
            real = t.table.replace("\\", "\\\\").replace(" ", "\\s")  # GKeyFile drops leading spaces
            parts.append(f"[{section}]\nreal_table_name={real}\nrows = {t.rows}\n")
        return "\n".join(parts)

    def _load_script(self, tables: Sequence[TableFiles]) -> str:
        lines = [
            "-- Load with the plain client, in this directory:  mysql --loose-commands < load.mysql",
            "-- (MySQL's client of 9.x reads SOURCE only with --commands; the prefix lets others pass over the option.)",
            "-- Databases and tables are created; a table that exists already is an error and stops the load.",
            "SET NAMES utf8mb4;",
        ]
        for db in sorted(self._databases):
            create = f"{self._db_alias[db]}-schema-create.sql"
            lines.append(f"SOURCE {create}")
        for t in tables:
            lines.append(f"USE {quote(t.db)};")
            lines.append(f"SOURCE {self._stem(t.db, t.table)}-schema.sql")
            lines.extend(f"SOURCE {name}" for name in t.files)
        lines.extend(f"SOURCE {alias}-schema-post.sql" for db, alias in sorted(self._db_alias.items()) if alias != db)
        return "\n".join(lines) + "\n"

    def _stem(self, db: str, table: str) -> str:
        return f"{self._db_alias[db]}.{self._alias[db, table]}"

    def _head(self, db: str) -> str:
        return _HEAD if self._db_alias[db] == db else f"{_HEAD}USE {quote(db)};\n"

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding="utf-8", newline="")


class _RowFiles:
    """Cuts a stream of rendered rows, each ending in ",\\n", into statements and files."""

    def __init__(
        self, directory: Path, stem: str, head: str, statement: str, statement_bytes: int, file_bytes: int
    ) -> None:
        self.files: list[str] = []
        self.rows = 0
        self.size_bytes = 0
        self._directory, self._stem, self._file_bytes = directory, stem, file_bytes
        self._head, self._statement, self._statement_bytes = head.encode(), statement.encode(), statement_bytes
        self._open: BinaryIO | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def __enter__(self) -> _RowFiles:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._end_statement()
        finally:
            if self._open is not None:
                self._open.close()

    def add(self, rows: pa.Array[Any]) -> None:
        """rows: large_string without nulls. Their bytes lie one after the other in the data buffer."""
        if rows.null_count:
            raise ArchiveDamaged(
                f"a row of `{self._stem}` could not be rendered",
                hint="Please report this: no value may be lost silently.",
            )
        count = len(rows)
        _, offsets_buffer, data = rows.buffers()
        if offsets_buffer is None or data is None:
            return
        offsets = np.frombuffer(memoryview(offsets_buffer), np.int64, count + 1, rows.offset * 8)
        at = 0
        while at < count:
            room = self._statement_bytes - self._pending_bytes
            end = int(np.searchsorted(offsets, offsets[at] + room, side="left"))
            end = min(max(end, at + 1), count)
            self._pending.append(data.slice(int(offsets[at]), int(offsets[end] - offsets[at])).to_pybytes())
            self._pending_bytes += int(offsets[end] - offsets[at])
            at = end
            if self._pending_bytes >= self._statement_bytes:
                self._end_statement()
        self.rows += count

    def _end_statement(self) -> None:
        if not self._pending:
            return
        if self._open is None:
            name = f"{self._stem}.{len(self.files):05d}.sql"
            self._open = (self._directory / name).open("wb")
            self.files.append(name)
            self._put(self._head)
        self._put(self._statement)
        for part in self._pending[:-1]:
            self._put(part)
        self._put(self._pending[-1][:-2] + b";\n")
        self._pending, self._pending_bytes = [], 0
        if self._open.tell() >= self._file_bytes:
            self._open.close()
            self._open = None

    def _put(self, data: bytes) -> None:
        assert self._open is not None
        self._open.write(data)
        self.size_bytes += len(data)


# --- names ------------------------------------------------------------------------------------------------------------


def quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def aliases(names: Sequence[str], alias: Any) -> Iterator[str]:
    """For each name itself where it can stand in a file's name, else alias(name). Of names that differ in case only,
    the first keeps its own: the directory may be carried to a file system that folds case."""
    seen: set[str] = set()
    for name in names:
        fits = _PLAIN_NAME.fullmatch(name) and "-schema" not in name and not name.startswith("mydumper_")
        if fits and name.lower() not in seen:
            seen.add(name.lower())
            yield name
        else:
            yield alias(name)


def _database_alias(name: str) -> str:
    """Unlikely to be anyone's own, for it is created and dropped during the load."""
    return f"rowback_alias_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _check_statement(text: str, label: str) -> None:
    """myloader and the mysql client end a statement at a semicolon before a line's end, in quotes or not."""
    if re.search(r";[ \t]*\r?\n", text):
        raise NotComputable(
            f"the definition of `{label}` has a line that ends in a semicolon, which no loader reads whole",
            hint="Leave it out with `--tables`, or change the comment, default or name that holds it.",
        )
