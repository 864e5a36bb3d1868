"""Every type, from the source through a snapshot, captured changes, a restore and an undo, back to equal bytes.

The oracle is the source itself: what SELECT shows of each cell (bytes, text, number) before and after.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from oracle import load_with_client, load_with_myloader
from rowback import Rowback
from typecases import Case, cases, exact_cells

from recovery.schema import Column
from testservers import Server

KEYABLE = frozenset(
    {"tinyint", "bigint", "decimal", "char", "varchar", "binary", "varbinary", "date", "time", "datetime"}
)
KEYABLE |= {"year", "bit", "uuid", "inet4", "inet6", "enum", "set"}
ID = Column("id", "int")


class Tables:
    """Tables of the server's every type: `wide` and the keyless `bag` have all of them, `k0`, `k1` ... one as the key
    (where it can be one), `sets` a column of every character set. `wide` has a FLOAT, and is read by our own connection;
    the others are read from mydumper's files where mydumper doesn't bend them."""

    def __init__(self, server: Server) -> None:
        self.server = server

        self.cases = cases(server.flavor)
        self.columns: dict[str, list[Column]] = {}

    def create(self) -> None:
        self.server.execute("CREATE DATABASE types CHARACTER SET utf8mb4")
        parsed = [c for c in self.cases if c.column.type != "float" and "" not in c.column.labels]
        for name, chosen in (("wide", self.cases), ("parsed", parsed), ("bag", self.cases)):
            columns = ", ".join(f"`{c.column.name}` {c.ddl} NULL" for c in chosen)
            self._make(name, f"id INT NOT NULL, {columns}{'' if name == 'bag' else ', PRIMARY KEY (id)'}")
            self.columns[name] = [ID, *(c.column for c in chosen)]
            self.run(*(self.insert(name, chosen, i) for i in range(14)))
        for i, case in enumerate(c for c in self.cases if c.column.type in KEYABLE and "COMPRESSED" not in c.ddl):
            name, column = f"k{i}", case.column.name
            self._make(name, f"`{column}` {case.ddl} NOT NULL, n INT, PRIMARY KEY (`{column}`)")
            self.columns[name] = [case.column, Column("n", "int")]
            # Values that a collation takes for the same are left out by the server.
            self.run(*(f"INSERT IGNORE INTO {name} VALUES ({sql}, {n})" for n, (sql, _) in enumerate(case.values)))
        self._sets()

    def _make(self, name: str, body: str) -> None:
        self.run(f"CREATE TABLE {name} ({body})")

    def _sets(self) -> None:
        sets = sorted({str(row[0]) for row in self.server.execute("SHOW CHARACTER SET")} - {"binary"})
        columns = ", ".join(f"{s} VARCHAR(90) CHARACTER SET {s}" for s in sets)
        self._make("sets", f"id INT PRIMARY KEY, {columns}")
        self.columns["sets"] = [ID, *(Column(s, "varchar", charset=s) for s in sets)]
        # Every byte and many pairs; in sets of more than one byte the server keeps what is well formed.
        for i in range(48):
            raw = bytes((i * 37 + k * 11) % 256 for k in range(24))
            self.run(f"INSERT INTO sets VALUES ({i}{f', X{chr(39)}{raw.hex()}{chr(39)}' * len(sets)})")

    def insert(self, table: str, chosen: list[Case], i: int) -> str:
        values = ["NULL" if i == 13 else c.values[i % len(c.values)][0] for c in chosen]
        return f"INSERT INTO {table} VALUES ({i}, {', '.join(values)})"

    def run(self, *statements: str) -> None:
        opened = contextlib.closing(self.server.connect(database="types", autocommit=True))
        with opened as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")
            for statement in statements:
                cursor.execute(statement)

    def change(self) -> None:
        """Updates of every column to other values, deletes, inserts, and keys that move."""
        for name in ("wide", "parsed", "bag"):
            chosen = [c for c in self.cases if c.column in self.columns[name]]
            for i in range(0, 14, 2):
                sets = ", ".join(f"`{c.column.name}` = {c.values[(i + 1) % len(c.values)][0]}" for c in chosen)
                self.run(f"UPDATE {name} SET {sets} WHERE id = {i}")
            self.run(f"DELETE FROM {name} WHERE id IN (3, 4)", self.insert(name, chosen, 4))
        for name, columns in self.columns.items():
            if name.startswith("k"):
                self.run(f"UPDATE {name} SET n = n + 100", f"DELETE FROM {name} LIMIT 1")
                self.run(f"INSERT IGNORE INTO {name} SELECT `{columns[0].name}`, 7 FROM wide WHERE id = 1")
        self.run("UPDATE sets SET id = id + 1000 WHERE id % 2", "DELETE FROM sets WHERE id = 4")

    def rows(self, server: Server) -> dict[str, list[Any]]:
        found = {}
        with contextlib.closing(server.connect(database="types")) as connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            for name, columns in self.columns.items():
                cursor.execute(f"SELECT {exact_cells(columns)} FROM {name}")
                found[name] = sorted(cursor.fetchall(), key=repr)
        return found


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_every_type_comes_back(flavor: str, tmp_path: Path, request: pytest.FixtureRequest, mydumper: Any) -> None:
    fresh = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="source")
    target: Server = fresh(name="target", binlog=False)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    tables = Tables(source)
    tables.create()
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot", "--lock", "brief")
    rowback.run("capture", "--until-caught-up")
    first = tables.rows(source)
    assert all(first.values())

    def restored(name: str, load: Any) -> dict[str, list[Any]]:
        rowback.run("restore", "--to", "latest", "--output", str(tmp_path / name))
        target.execute("DROP DATABASE IF EXISTS types")
        load(target, tmp_path / name)
        return tables.rows(target)

    same(restored("at-snapshot", load_with_client), first)
    since = source.execute("SELECT UTC_TIMESTAMP(6)")[0][0].isoformat()
    time.sleep(1.5)  # MariaDB logs whole seconds
    tables.change()
    second = tables.rows(source)
    assert all(second[name] != rows for name, rows in first.items())
    rowback.run("capture", "--until-caught-up")
    same(restored("after-changes", load_with_client), second)
    target.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,TRADITIONAL'")
    same(restored("by-myloader", load_with_myloader), second)
    undone = ["wide", "bag", "sets", *[name for name in tables.columns if name.startswith("k")][::5]]
    for table in undone:
        source.load(rowback.run("undo", "--table", f"types.{table}", "--since", since).stdout)
    now = tables.rows(source)
    same({name: now[name] for name in undone}, {name: first[name] for name in undone})


PERIOD = (
    "s TIMESTAMP(6) GENERATED ALWAYS AS ROW START, e TIMESTAMP(6) GENERATED ALWAYS AS ROW END,"
    " PERIOD FOR SYSTEM_TIME (s, e)"
)
HISTORIES = (
    "implied (id INT PRIMARY KEY, a VARCHAR(9) CHARACTER SET ucs2) WITH SYSTEM VERSIONING",
    f"named (id INT PRIMARY KEY, a INT, {PERIOD}) WITH SYSTEM VERSIONING",
    "`no key` (a INT) WITH SYSTEM VERSIONING",
)


@pytest.mark.slow
@pytest.mark.sockets
def test_system_versioned_tables_come_back_with_their_history(
    tmp_path: Path, fresh_mariadb: Any, mydumper: Any
) -> None:
    source, target = fresh_mariadb(name="source"), fresh_mariadb(name="target", binlog=False)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.execute("CREATE DATABASE h")
    for table in HISTORIES:
        source.execute(f"CREATE TABLE h.{table}")

    def work() -> None:
        for table in ("implied", "named"):
            source.execute(f"INSERT INTO h.{table} (id, a) VALUES (1, 1), (2, 2) ON DUPLICATE KEY UPDATE a = a + 10")
            source.execute(f"UPDATE h.{table} SET a = a + 1 WHERE id = 1")
            source.execute(f"DELETE FROM h.{table} WHERE id = 2")
        source.execute("INSERT INTO h.`no key` VALUES (1), (1)")
        source.execute("UPDATE h.`no key` SET a = 2 LIMIT 1")

    def histories(server: Server) -> list[list[Any]]:
        return [
            sorted(server.execute(f"SELECT *, {period} FROM h.{table} FOR SYSTEM_TIME ALL"), key=repr)
            for table, period in (
                ("implied", "row_start, row_end"),
                ("named", "s, e"),
                ("`no key`", "row_start, row_end"),
            )
        ]

    work()
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot", "--lock", "brief")
    for number in range(2):
        rowback.run("capture", "--until-caught-up")
        rowback.run("restore", "--to", "latest", "--output", str(tmp_path / f"out{number}"))
        target.execute("DROP DATABASE IF EXISTS h")
        (load_with_client, load_with_myloader)[number](target, tmp_path / f"out{number}")
        found = histories(source)
        assert [len(rows) for rows in found] == [[3, 3, 3], [6, 6, 6]][number]
        assert histories(target) == found
        target.load((tmp_path / f"out{number}" / "check.mysql").read_text())  # the digest is over the history, too
        work()
    rowback.run("capture", "--until-caught-up")
    rowback.run("restore", "--to", "latest", "--format", "csv", "--output", str(tmp_path / "csv"))
    target.execute("DROP DATABASE h")
    script = (tmp_path / "csv" / "load.mysql").open("rb")
    subprocess.run(target.client_command("--local-infile=1"), cwd=tmp_path / "csv", stdin=script, check=True)
    assert histories(target) == histories(source)
    refused = rowback.run("undo", "--table", "h.implied", "--limit", "1", check=False)
    assert "system-versioned" in refused.stderr


def same(ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> None:
    assert list(ours) == list(theirs)
    for name, rows in theirs.items():
        for mine, other in zip(ours[name], rows, strict=True):
            assert mine == other, name
