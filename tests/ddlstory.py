"""A random life of tables on a real server: transactions between DDL of every kind that a restore follows (ddlkinds.py). One
connection, so that the server's own SELECT and SHOW CREATE TABLE at a moment are the oracle for a restore to that moment.

Tables have a "handle", an integer column whose name begins with `id`, that rows are picked by; it may be a key, a part of
one, or none. Columns whose names begin with `f` refer to other tables. Statements that the server refuses are part of life.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pymysql

from testservers import Server

DBS = ("story", "story2")
Name = tuple[str, str]
# What a column may be, and what to widen it to.
TYPES = {
    "tinyint": "smallint", "smallint": "int", "int": "bigint", "int unsigned": "bigint unsigned", "mediumint": "int",
    "varchar(20)": "varchar(60)", "varchar(60)": "text", "decimal(8,2)": "decimal(12,4)", "datetime": "datetime(3)",
    "varbinary(10)": "varbinary(30)", "enum('a','b')": "enum('a','b','c')", "float": "double", "char(5)": "varchar(20)",
    "varchar(20) CHARACTER SET latin1": "varchar(20) CHARACTER SET utf8mb4", "time(2)": "time(4)", "date": None,
    "bigint": None, "text": "mediumtext", "double": None, "json": None, "bit(9)": None, "year": None,
    "binary(4)": None, "blob": "mediumblob", "set('x','y')": "set('x','y','z')", "decimal(50,6)": "decimal(52,8)",
    "timestamp(3)": "timestamp(6)", "varchar(60) CHARACTER SET latin1": "text CHARACTER SET latin1", "point": None,
    "decimal(12,4)": "decimal(42,6)", "bigint unsigned": None, "varbinary(30)": "blob", "char(8) CHARACTER SET ascii": None,
    "datetime(6)": None,
}  # fmt: skip
DEFAULTS = {
    "int": "7", "varchar(20)": "'de''f'", "decimal(8,2)": "1.50", "datetime": "'2020-01-02 03:04:05'", "tinyint": "-3",
    "enum('a','b')": "'b'", "date": "'1999-12-31'", "varbinary(10)": "'bin'", "double": "2.5", "set('x','y')": "'x,y'",
    "bigint unsigned": "18446744073709551615", "decimal(50,6)": "123456789012345678901234567890.5", "year": "1999",
    "varchar(20) CHARACTER SET latin1": "'\u00e4\u00df'", "char(5)": "'d'", "float": "0.1",
    "datetime(3)": "'2020-01-02 03:04:05.25'", "datetime(6)": "CURRENT_TIMESTAMP(6)",
    "timestamp(3)": "CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)",
}  # fmt: skip
DEFAULT_COLLATIONS = ("utf8mb3_general_ci", "latin1_swedish_ci", "ascii_general_ci")
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Moment:
    """A point between statements: its binlog position, the last GTID before it, and each table's definition and rows then.
    replaced: whether a REPLACE into a parent came before (replicas carry out more than the source did then)."""

    file: str
    position: int
    gtid: str
    tables: dict[Name, tuple[str, Rows]]
    replaced: bool


@dataclass(frozen=True)
class Part:
    """A column: its type as written in a definition, whether it takes NULL, and whether the server computes it."""

    name: str
    type: str
    nullable: bool
    generated: bool

    @property
    def definition(self) -> str:
        return f"`{self.name}` {self.type} {'NULL' if self.nullable else 'NOT NULL'}"


class Life:
    """The tables and what happens to their rows. references: what foreign keys may do, "" for none at all."""

    def __init__(self, server: Server, seed: int, actions: tuple[str, ...] = ()) -> None:
        self.server, self.rng, self.actions = server, random.Random(seed), actions
        self.connection = server.connect(autocommit=True)
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.number = iter(range(10_000_000))
        self.replaced = False

    def run(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return tuple(cursor.fetchall())

    def attempt(self, sql: str) -> bool:
        """Run it unless the server refuses: then nothing happened."""
        try:
            self.run(sql)
        except pymysql.err.MySQLError as error:
            self.refused[str(error.args[0])] += 1
            return False
        return True

    def tables(self) -> list[Name]:
        return [
            (db, row[0])
            for db in DBS
            for row in self.run(f"SHOW FULL TABLES FROM {db} WHERE Table_type = 'BASE TABLE'")
        ]

    def pick(self) -> Name:
        return self.rng.choice(self.tables())

    def ref(self, table: Name) -> str:
        """Its name as a statement writes it: the default database may be left out."""
        db, name = table
        short = db == DBS[0] and self.rng.random() < 0.5
        quoted = f"`{name}`" if self.rng.random() < 0.7 else name
        return quoted if short else f"{db}.{quoted}"

    def shape(self, table: Name) -> list[Part]:
        found = []
        for name, kind, collation, null, _key, _default, extra, *_ in self.run(
            f"SHOW FULL COLUMNS FROM `{table[1]}` FROM `{table[0]}`"
        ):
            text = kind if isinstance(kind, str) else kind.decode()
            text = re.sub(r"^(tinyint|smallint|mediumint|int|bigint|year)\(\d+\)", r"\1", text)
            charset = (collation or "utf8mb4").split("_")[0]
            if charset != "utf8mb4" and not text.startswith(("json", "longtext")):
                text += f" CHARACTER SET {charset}"
            found.append(Part(name, text, null == "YES", "GENERATED" in extra))
        return found

    def handle(self, shape: list[Part]) -> str:
        return next(p.name for p in shape if p.name.startswith("id"))

    def others(self, table: Name) -> list[Part]:
        """The columns that DDL may do anything with."""
        return [p for p in self.shape(table) if not p.name.startswith("id") and not p.generated]

    def parent_of(self, table: Name, column: str) -> tuple[str, str, str] | None:
        rows = self.run(
            "SELECT referenced_table_schema, referenced_table_name, referenced_column_name FROM "
            "information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL AND "
            f"table_schema = '{table[0]}' AND table_name = '{table[1]}' AND column_name = '{column}'"
        )
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    def is_parent(self, table: Name) -> bool:
        return bool(
            self.run(
                "SELECT 1 FROM information_schema.key_column_usage WHERE "
                f"referenced_table_schema = '{table[0]}' AND referenced_table_name = '{table[1]}' LIMIT 1"
            )
        )

    def moment(self) -> Moment:
        mysql = self.server.flavor == "mysql"
        file, position = self.run("SHOW BINARY LOG STATUS" if mysql else "SHOW MASTER STATUS")[0][:2]
        gtids = self.run("SELECT @@global.gtid_executed" if mysql else "SELECT @@global.gtid_binlog_pos")[0][0]
        gtid = re.sub(r":.*[-:](\d+)$", r":\1", gtids.replace("\n", "")) if mysql else gtids
        return Moment(file, int(position), gtid, state_of(self.server, self.tables()), self.replaced)

    # --- rows

    def transaction(self) -> None:
        """One statement, or several over several tables, committed or rolled back, perhaps in part."""
        if self.rng.random() < 0.5:
            self.change_rows()
            self.counts["transaction of one statement"] += 1
            return
        self.run("START TRANSACTION")
        for _ in range(self.rng.randint(2, 5)):
            self.change_rows()
        if self.rng.random() < 0.2:
            self.run("SAVEPOINT here")
            self.change_rows()
            self.run("ROLLBACK TO SAVEPOINT here")
        done = "ROLLBACK" if self.rng.random() < 0.15 else "COMMIT"
        self.run(done)
        self.counts[f"transaction of several statements, {done}"] += 1

    def change_rows(self) -> None:
        table = self.pick()
        shape = self.shape(table)
        handle, given = self.handle(shape), [p for p in shape if not p.generated]
        kind, ref, order = self.rng.random(), self.ref(table), self.rng.randint(1, 99)
        if kind < 0.5:
            self.insert(table, given)
        elif kind < 0.75 and len(given) > 1:
            parts = self.rng.sample(given, self.rng.randint(1, min(3, len(given))))
            sets = ", ".join(
                f"`{p.name}` = {self.value(table, p)}" for p in parts if p.name != handle or len(parts) == 1
            )
            self.attempt(f"UPDATE {ref} SET {sets} ORDER BY RAND({order}) LIMIT {self.rng.randint(1, 4)}")
        elif kind < 0.83:
            self.attempt(f"UPDATE {ref} SET `{handle}` = {next(self.number)} ORDER BY RAND({order}) LIMIT 1")
        elif kind < 0.87:
            self.attempt(f"UPDATE {ref} SET `{handle}` = `{handle}` + 5000000 ORDER BY `{handle}` DESC LIMIT 2")
        elif kind < 0.92:  # a row twice, where there is no key
            names = ", ".join(f"`{p.name}`" for p in given)
            self.attempt(f"INSERT INTO {ref} ({names}) SELECT {names} FROM {ref} LIMIT 2")
        else:
            self.attempt(f"DELETE FROM {ref} ORDER BY RAND({order}) LIMIT 2")

    def insert(self, table: Name, given: list[Part]) -> None:
        old = self.rng.random() < 0.2
        verb = "INSERT"
        if old:
            verb = self.rng.choice(["REPLACE", "INSERT IGNORE"])
        names = ", ".join(f"`{p.name}`" for p in given)
        rows = ", ".join(
            f"({', '.join(self.value(table, p, old=old) for p in given)})" for _ in range(self.rng.randint(1, 5))
        )
        parent = verb == "REPLACE" and self.is_parent(table)
        if self.attempt(f"{verb} INTO {self.ref(table)} ({names}) VALUES {rows}"):
            self.replaced |= parent

    def value(self, table: Name, part: Part, *, old: bool = False) -> str:
        if part.name.startswith("id"):
            if old and self.rng.random() < 0.7:
                found = self.run(f"SELECT `{part.name}` FROM `{table[0]}`.`{table[1]}` ORDER BY RAND() LIMIT 1")
                if found:
                    return str(found[0][0])
            return str(next(self.number))
        if part.name.startswith("f") and (parent := self.parent_of(table, part.name)) is not None:
            db, name, column = parent
            found = self.run(f"SELECT `{column}` FROM `{db}`.`{name}` ORDER BY RAND({self.rng.randint(1, 99)}) LIMIT 1")
            return str(found[0][0]) if found else "NULL"
        if part.nullable and self.rng.random() < 0.2:
            return "NULL"
        return self.plain(part.type)

    def plain(self, kind: str) -> str:
        """A value of this type."""
        rng = self.rng
        base = kind.split("(")[0].split(" ")[0]
        if base in ("tinyint", "smallint", "mediumint", "int", "bigint"):
            return str(rng.randint(0 if "unsigned" in kind else -100, 100))
        if base in ("varchar", "text", "char", "mediumtext"):
            texts = ["", "abc", "it's", "a b", "A", "a"]
            if "ascii" not in kind:
                texts += ["\u00fcn\u00ef"[: 3 if base != "char" else 2]]
            if "latin1" not in kind and "ascii" not in kind:
                texts += ["\u65e5\u672c"] if "utf8mb3" in kind else ["\u65e5\u672c", "\U0001f600"]
            if base != "char":
                texts += ["a b ", "x" * 15]
            return "'" + rng.choice(texts).replace("'", "''") + "'"
        values = {
            "year": lambda: str(rng.randint(1990, 2100)),
            "bit": lambda: f"b'{rng.randint(0, 511):b}'",
            "decimal": lambda: f"{rng.randint(-99999, 99999) / 100:.2f}",
            "float": lambda: repr(rng.choice([0.1, -2.5, 1e10, 3.25, 0.0])),
            "double": lambda: repr(rng.choice([0.1, -2.5, 1e10, 3.25, 0.0])),
            "varbinary": lambda: f"x'{rng.randbytes(rng.randint(0, 8)).hex()}'",
            "binary": lambda: f"x'{rng.choice(['00', 'ff0061', '61626300', '20'])}'",
            "blob": lambda: f"x'{rng.randbytes(rng.randint(0, 20)).hex()}'",
            "mediumblob": lambda: f"x'{rng.randbytes(rng.randint(0, 20)).hex()}'",
            "enum": lambda: rng.choice(["'a'", "'b'"]),
            "set": lambda: rng.choice(["''", "'x'", "'x,y'"]),
            "date": lambda: f"'20{rng.randint(10, 40)}-0{rng.randint(1, 9)}-11'",
            "datetime": lambda: f"'2024-0{rng.randint(1, 9)}-11 10:11:12.5'",
            "timestamp": lambda: f"'2024-0{rng.randint(1, 9)}-11 10:11:12.125'",
            "time": lambda: rng.choice(["'10:11:12.5'", "'-01:00:00'", "'100:00:00.25'", "'-00:00:00.5'"]),
            "point": lambda: f"POINT({rng.randint(-9, 9)}, {rng.randint(-9, 9)}.5)",
        }
        return values.get(base, lambda: rng.choice(["'{}'", "'[1, 2]'", "'{\"a\": null}'", "'1.0'"]))()


def state_of(server: Server, tables: list[Name]) -> dict[Name, tuple[str, Rows]]:
    found = {}
    with server.connect() as connection, connection.cursor() as cursor:
        for db, name in tables:
            cursor.execute(f"SHOW CREATE TABLE `{db}`.`{name}`")
            create = cursor.fetchall()[0][1]
            cursor.execute(f"SELECT * FROM `{db}`.`{name}`")
            # A default collation or character set is printed or not, by how the column came about (CREATE .. SELECT doesn't
            # count as naming it, what SHOW CREATE TABLE gave of it does): on a replica already it may differ.
            default = re.search(r"DEFAULT CHARSET=(\w+)", create)
            if default is not None:
                create = create.replace(f" CHARACTER SET {default[1]} ", " ")
            create = re.sub(
                rf" COLLATE ({'|'.join(DEFAULT_COLLATIONS)})\b", "", re.sub(r" AUTO_INCREMENT=\d+", "", create)
            )
            create = re.sub(r" ON (DELETE|UPDATE) NO ACTION\b", "", create)  # MariaDB prints this default now and then
            found[db, name] = (create, sorted(cursor.fetchall(), key=repr))
    return found
