"""The dump writer: merged rows as a mydumper directory that myloader (0.10, 1.x) and the plain mysql client load.

    metadata                       what myloader asks for; names the tables whose files have an alias
    <db>-schema-create.sql         CREATE DATABASE, and MariaDB's sequences, which tables may take values of
    <db>.<table>-schema.sql        the server's own CREATE TABLE at the snapshot
    <db>.<table>.00000.sql ...     INSERT statements of about 1 MB, files of about 64 MB, rows in key order
    <db>-schema-post.sql           for myloader: views, triggers, routines and events (recovery/objects/files.py)
    load-objects.mysql             the same for the plain client
    load-databases.mysql           what the client runs for the first files where they are in no order (_in_any_order)
    load.mysql                     all of it for the plain client: cd DIR && mysql --loose-commands --comments < load.mysql

Promises: every literal means the same under every sql_mode and connection character set (recovery/dump_values.py).
Generated columns are left out. Rendering is DuckDB SQL over columns; Python only cuts the rendered bytes into statements.

Names: myloader takes database and table from the file's name, splitting at dots, so a name with anything but ASCII
letters, digits, `_`, `$` and `-` gets an alias (`mydumper_0`, as mydumper 1.x does); the statements inside hold the
real names. An aliased database exists for the time of the load, because myloader 0.10 begins each file with a USE of
it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recovery.dump_values import Functions, recoded_in, rows_sql, written
from recovery.errors import NotComputable
from recovery.merge import MergedTable, Merger
from recovery.objects.files import CLIENT_FILE, for_client, for_myloader, groups
from recovery.objects.plan import ObjectPlan
from recovery.output.digest import Digest, Stored, digest_statement, hash_sql
from recovery.output.files import FileRecord, Sink, TableFiles, Written, unheard, write_text
from recovery.output.options import OutputOptions
from recovery.output.rowfiles import RowFiles, Shape
from recovery.quoting import quote
from recovery.schema import Column
from recovery.statement_settings import SQL_MODE, as_statements
from recovery.tableinfo import system_versioned

_BATCH_ROWS = 8192
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_$-]+")
_DATABASES = "load-databases.mysql"  # what makes them, for the plain client, where myloader's files differ
_NO_TABLE = "rowback_none"  # stands for the tables of a database that has none
HEAD = (
    "/*!40101 SET NAMES utf8mb4*/;\n"
    f"/*!40101 SET SQL_MODE='{SQL_MODE}'*/;\n"
    "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\n"
    "/*!40103 SET TIME_ZONE='+00:00'*/;\n"
)
UNPACK = {"gzip": "gunzip *.gz", "zstd": "zstd -d --rm *.zst"}
# Rows may break a CHECK that they were never held to: it was off in the session, or made without looking at them.
_UNCHECKED = "/*!40101 SET check_constraint_checks=0*/;\n"
# A system-versioned table (MariaDB, from 10.11 on) takes its history only so.
_HISTORY = "/*!40101 SET system_versioning_insert_history=1*/;\n"
# In front of a statement that is not such a comment itself. myloader 1.x takes definitions apart, to add keys and
# constraints behind the rows, and drops whatever else a file has; and it repeats a data file's head on further connections
# as far as it consists of version comments. Statements with a comment from `/*!40` on it runs as they are (mydumper 1.0.1,
# myloader_process.c, parse_create_table_from_file; myloader_restore.c, restore_data_from_mydumper_file).
_AS_IT_IS = "/*!40000 */ "


@dataclass
class DumpWriter:
    """Writes into `directory`, which exists. Call `database` and `table` in any order, then `finish`.

    tables: all (db, table) pairs of the dump, for aliases that clash with none of them. flavor: of the server it is for, for
    text that isn't valid in its character set; None if that isn't known. for_myloader: with the `metadata` file without
    which myloader refuses the directory. checked: load.mysql ends with check.mysql.
    """

    directory: Path
    tables: Sequence[tuple[str, str]]
    options: OutputOptions = field(default_factory=OutputOptions)
    flavor: str | None = None
    for_myloader: bool = True
    checked: bool = False
    _client_options: str = "--loose-commands --comments"
    _databases: list[str] = field(default_factory=list)
    _objects: ObjectPlan = field(default_factory=ObjectPlan)
    _sequences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _creates: dict[str, list[str]] = field(default_factory=dict)  # by alias: what stands in the file of the database

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
        alias = self._db_alias.setdefault(db, next(aliases([db], _database_alias)))
        body = create_statement.strip().rstrip(";") or f"CREATE DATABASE {quote(db)}"
        body = re.sub(r"^CREATE DATABASE (?!/\*!\d+ IF NOT|IF NOT)", "CREATE DATABASE IF NOT EXISTS ", body)
        check_statement(body, db)
        if alias != db:
            body = f"CREATE DATABASE {quote(alias)};\n{body}"
        passing = (f"CREATE SEQUENCE {quote(*name)}" for name in self._objects.passing if name[0] == db)
        made = (*passing, *self._sequences.get(db, ()))
        for text in made:
            check_statement(text, db)
        self._creates[alias] = [*body.split(";\n"), *made]
        self._write_sql(f"{alias}-schema-create.sql", _creating(self._creates[alias]))
        self._databases.append(db)
        # myloader 0.10 makes a database for the first file of a table in it.
        if self.for_myloader and db in self._without_tables():
            self._write_sql(f"{alias}.{_NO_TABLE}-schema.sql", b"/*!40101 SET NAMES utf8mb4*/;\n")

    def objects(self, plan: ObjectPlan) -> None:
        """What to create behind the tables."""
        self._objects = plan

    def sequences(self, statements: Mapping[str, Sequence[str]]) -> None:
        """What makes the sequences of each database. This and `objects` come before `database`."""
        self._sequences = statements

    def table(
        self,
        merger: Merger,
        table: tuple[str, str],
        schema: Sequence[str],
        merged: MergedTable | None,
        heard: Written = unheard,
    ) -> TableFiles:
        """Write a table's definition and rows. schema: CREATE TABLE and the statements that change it. merged: None
        for no rows. Raises NotComputable for a value that no statement can store, duckdb.Error and OSError as they come."""
        db, name = table
        bodies = check_statements(schema, f"{db}.{name}")
        program = "".join(f"{_AS_IT_IS}{body};\n" for body in bodies)
        stem, history = self._stem(db, name), any(map(system_versioned, schema))
        definition = [self._write_sql(f"{stem}-schema.sql", f"{self._head(db)}{program}".encode())]
        columns = written(merged) if merged is not None else []
        digest = Digest()
        shape = self._shape(table, columns, self._head(db, history=history))
        with RowFiles(self.directory, shape, self.options) as out:
            if merged is not None:
                self._fill(out, merger, merged, digest, heard)
        named = [c for _, c in columns]
        return TableFiles(
            db=db,
            table=name,
            rows=out.rows,
            size_bytes=sum(f.size_bytes for f in out.files),
            files=tuple(out.files),
            columns=tuple(c.name for c in named),
            digest=digest.text(),
            digest_sql=digest_statement(db, name, named, history=history, recoded=recoded_in(merged)),
            definition=tuple(definition),
        )

    def _shape(self, table: tuple[str, str], columns: Sequence[tuple[int, Column]], head: str) -> Shape:
        db, name = table
        statement = f"INSERT INTO {quote(name)} ({', '.join(quote(c.name) for _, c in columns)}) VALUES\n"
        return Shape(self._stem(db, name), ".sql", head.encode(), statement.encode(), cut=2, end=b";\n")

    def _fill(self, out: RowFiles, merger: Merger, merged: MergedTable, digest: Digest, heard: Written) -> None:
        connection = merger.connection
        functions = Functions(connection, merged.table.label, self.flavor)
        with closing(functions), closing(Stored(connection)):
            sql = rows_sql(merged, hash_sql(written(merged)))
            for batch in connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
                functions.check()
                out.add(batch.column(0))
                digest.add(batch.column(1))
                heard(out.rows, out.size_bytes)
            functions.check()

    def finish(self, tables: Sequence[TableFiles]) -> None:
        """Write metadata and load.mysql. tables: all of the directory, in the order in which to load them."""
        if self._in_any_order:
            every = [text for _, texts in sorted(self._creates.items()) for text in texts]
            self._write(_DATABASES, _creating(every).decode())
            for alias in self._creates:
                self._write_sql(f"{alias}-schema-create.sql", _creating(filter(None, map(_if_missing, every))))
        if self.for_myloader:
            self._write("metadata", self._metadata(tables))
        self._write_objects()
        self._write("load.mysql", self._load_script(tables))

    def _write_objects(self) -> None:
        """The files of views, triggers, routines and events; with an alias the database's file has to drop that, too."""
        by_db = groups(self._objects)
        for db, alias in sorted(self._db_alias.items()):
            # myloader passes over the file that makes a database which is there: the missing sequences are then an error.
            names = [(one.db, one.name) for one in self._objects.sequences if one.db == db]
            texts = [f"DO (SELECT COUNT(*) FROM {quote(*name)})" for name in names]
            if self._in_any_order:
                texts += [text for text in self._sequences.get(db, ()) if not _if_missing(text)]
            body = "".join(f"{text};\n" for text in texts).encode()
            body += "".join(f"{text};\n" for text in self._drops(db)).encode()
            body += for_myloader(self._objects, by_db[db], db if alias == db else "") if db in by_db else b""
            if alias != db:
                body += f"DROP DATABASE {quote(alias)};\n".encode()
            if body and self.for_myloader:
                self._write_sql(f"{alias}-schema-post.sql", body)
        if self._objects.objects:
            (self.directory / CLIENT_FILE).write_bytes(for_client(self._objects))

    @property
    def _in_any_order(self) -> bool:
        """Whether a table takes values of another database's sequence. myloader comes to the databases in no order, 0.10
        passes over the file of one that is there, and 1.x runs each: so all of them make all sequences, if they are missing,
        and the files for what comes behind the rows bring them to their state."""
        return self._objects.shared and self.for_myloader

    def _drops(self, db: str | None = None) -> list[str]:
        """What takes away the sequences that no definition names in the end; None for those of all databases."""
        return [f"DROP SEQUENCE {quote(*name)}" for name in self._objects.passing if db is None or name[0] == db]

    def _metadata(self, tables: Iterable[TableFiles]) -> str:
        """mydumper 1.x's format; myloader 0.10 only wants the file to be there."""
        parts = ["[config]\nquote-character = BACKTICK\n"]
        for t in tables:
            alias = self._alias[t.db, t.table]
            parts.append(_section(self._db_alias[t.db], alias, _named_in_metadata(t.table, alias), t.rows))
        parts.extend(_section(self._db_alias[db], _NO_TABLE, _NO_TABLE, 0) for db in self._without_tables())
        return "\n".join(parts)

    def _without_tables(self) -> list[str]:
        return sorted(set(self._databases) - {db for db, _ in self.tables})

    def _load_script(self, tables: Sequence[TableFiles]) -> str:
        lines = [
            f"-- Load with the plain client, in this directory:  mysql {self._client_options} < load.mysql",
            "-- (MySQL's client of 9.x reads SOURCE only with --commands; the prefix lets others pass over the option.",
            "-- Without --comments the client takes comments out of routines, triggers and events.)",
            "-- Databases and tables are created; a table that exists already is an error and stops the load.",
            "SET NAMES utf8mb4;",
        ]
        if self.options.suffix:
            lines.insert(1, f"-- Before that: {UNPACK[self.options.codec]}")
        if self._in_any_order:
            lines.append(f"SOURCE {_DATABASES}")
        for db in sorted(self._databases) if not self._in_any_order else ():
            create = f"{self._db_alias[db]}-schema-create.sql"
            lines.append(f"SOURCE {create}")
        for t in tables:
            lines.append(f"USE {quote(t.db)};")
            lines.append(f"SOURCE {self._stem(t.db, t.table)}-schema.sql")
            lines.extend(f"SOURCE {name}" for name in self._sources(t))
        lines.extend(f"SOURCE {name}" for name in self._changes())
        lines.extend(f"{text};" for text in self._drops())
        if self._objects.objects:
            lines.append(f"SOURCE {CLIENT_FILE}")
        if self.checked:
            lines.append("SOURCE check.mysql")
        lines.extend(f"DROP DATABASE {quote(alias)};" for db, alias in sorted(self._db_alias.items()) if alias != db)
        return "\n".join(lines) + "\n"

    def _sources(self, table: TableFiles) -> Iterator[str]:
        """The files that bring a table's rows, once they are unpacked."""
        return (file.name.removesuffix(self.options.suffix) for file in table.files)

    def _changes(self) -> Iterator[str]:
        """Files to run behind the tables and before what fires on changes."""
        return iter(())

    def _stem(self, db: str, table: str) -> str:
        return f"{self._db_alias[db]}.{self._alias[db, table]}"

    def _head(self, db: str, *, history: bool = False) -> str:
        use = "" if self._db_alias[db] == db else f"{_AS_IT_IS}USE {quote(db)};\n"
        return f"{head(self.flavor)}{use}{_HISTORY if history else ''}"

    def _write(self, name: str, text: str) -> FileRecord:
        return write_text(self.directory, name, text)

    def _write_sql(self, name: str, raw: bytes) -> FileRecord:
        """A file that myloader reads: all of them compressed or none, for where both kinds are in one directory, 1.x may
        end in the middle (mydumper 1.0.1, myloader_process.c: myl_close takes a plain file's FILE for the packed one's that
        was freed before it)."""
        packed = self.for_myloader and self.options.codec != "none"
        path = f"{name}{self.options.suffix}" if packed else name
        (self.directory / path).unlink(missing_ok=True)  # of a run that was cut off
        sink = Sink(self.directory, path, self.options.codec if packed else "none")
        with closing(sink):
            sink.put(raw)
            return sink.end()


def _creating(statements: Iterable[str]) -> bytes:
    """A file that makes databases and sequences."""
    texts = list(statements)
    mode = "" if all(t.startswith("CREATE DATABASE") for t in texts) else f"/*!40101 SET SQL_MODE='{SQL_MODE}'*/;\n"
    return f"/*!40101 SET NAMES utf8mb4*/;\n{mode}{''.join(f'{t};{chr(10)}' for t in texts)}".encode()


def _if_missing(statement: str) -> str:
    """A statement that makes a database or a sequence, for where that may be there; "" for another one."""
    found = re.match(r"CREATE (DATABASE|SEQUENCE|TABLE) (?!/\*!\d+ IF NOT|IF NOT)", statement)
    if found is None:
        return statement if statement.startswith("CREATE ") else ""
    return f"{found[0]}IF NOT EXISTS {statement[found.end() :]}"


def head(flavor: str | None) -> str:
    """What stands in front of a file's statements."""
    return HEAD + (_UNCHECKED if flavor == "mariadb" else "")


def counted(merger: Merger, files: TableFiles, schema: Sequence[str], merged: MergedTable | None) -> TableFiles:
    """With the rows, columns and digest of `merged` in place of what the files hold. Raises duckdb.Error."""
    columns = written(merged) if merged is not None else []
    digest = Digest()
    if merged is not None:
        with closing(Stored(merger.connection)):
            found = merger.connection.sql(f"SELECT {hash_sql(columns)} FROM ({merged.sql})")
            for batch in found.to_arrow_reader(_BATCH_ROWS):
                digest.add(batch.column(0))
    named = [c for _, c in columns]
    history = any(map(system_versioned, schema))
    statement = digest_statement(files.db, files.table, named, history=history, recoded=recoded_in(merged))
    names = tuple(c.name for c in named)
    return replace(files, rows=digest.rows, columns=names, digest=digest.text(), digest_sql=statement)


# --- names ------------------------------------------------------------------------------------------------------------


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


def _named_in_metadata(name: str, alias: str) -> str:
    """The name by which `myloader -o` drops a table first: 1.x puts it between backticks as it stands. A name that the
    ini-like format would cut gives way to the alias, lest another table be dropped."""
    return alias if name[:1].isspace() or re.search(r"[\0-\x1f\x7f]", name) else name.replace("`", "``")


def _section(db: str, table: str, real: str, rows: int) -> str:
    return f"[`{db}`.`{table}`]\nreal_table_name={real}\nrows = {rows}\n"


def check_statements(schema: Iterable[str], label: str) -> list[str]:
    """The statements that define a table, each on its own. Raises NotComputable for one that no loader reads whole."""
    bodies = [body for text in schema for body in as_statements(text)]
    for body in bodies:
        check_statement(body, label)
    return bodies


def check_statement(text: str, label: str) -> None:
    """myloader and the mysql client end a statement at a semicolon before a line's end, in quotes or not."""
    if re.search(r";[ \t]*\r?\n", text):
        raise NotComputable(
            f"the definition of `{label}` has a line that ends in a semicolon, which no loader reads whole",
            hint="Leave it out with `--tables`, or change the comment, default or name that holds it.",
        )
