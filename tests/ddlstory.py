"""A random life of tables on a real server: row changes between DDL of every kind that a restore follows. One connection, so
that the server's own SELECT and SHOW CREATE TABLE at a moment are the oracle for a restore to that moment."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from testservers import Server

DB = "story"
# What a column may be, and what to widen it to.
TYPES = {
    "tinyint": "smallint", "smallint": "int", "int": "bigint", "int unsigned": "bigint unsigned", "mediumint": "int",
    "varchar(20)": "varchar(60)", "varchar(60)": "text", "decimal(8,2)": "decimal(12,4)", "datetime": "datetime(3)",
    "varbinary(10)": "varbinary(30)", "enum('a','b')": "enum('a','b','c')", "float": "double", "char(5)": "varchar(20)",
    "varchar(20) CHARACTER SET latin1": "varchar(20) CHARACTER SET utf8mb4", "time(2)": "time(4)", "date": None,
    "bigint": None, "text": None, "double": None, "json": None, "bit(9)": None, "year": None,
}  # fmt: skip
DEFAULTS = {
    "int": "7", "varchar(20)": "'de''f'", "decimal(8,2)": "1.50", "datetime": "'2020-01-02 03:04:05'", "tinyint": "-3",
    "enum('a','b')": "'b'", "date": "'1999-12-31'", "varbinary(10)": "'bin'", "double": "2.5",
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """A point between statements: its binlog position, and each table's definition and rows then."""

    file: str
    position: int
    tables: dict[str, tuple[str, list[tuple[Any, ...]]]]


class Story:
    def __init__(self, server: Server, seed: int) -> None:
        self.server, self.rng = server, random.Random(seed)
        self.connection = server.connect(autocommit=True)
        self.counts: Counter[str] = Counter()
        self.names = iter(f"t{n}" for n in range(10_000))
        self.columns = iter(f"c{n}" for n in range(10_000))
        self.key = iter(range(1, 10_000_000))

    def run(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return tuple(cursor.fetchall())

    def begin(self) -> None:
        self.run(f"CREATE DATABASE {DB} CHARACTER SET utf8mb4")
        self.run(f"USE {DB}")
        for _ in range(4):
            self.create()
        for _ in range(30):
            self.change_rows()

    def tables(self) -> list[str]:
        return [row[0] for row in self.run(f"SHOW TABLES FROM {DB}")]

    def shape(self, table: str) -> list[tuple[str, str, bool]]:
        """(name, type, nullable) of each column but the key `id`."""
        rows = self.run(f"SHOW FULL COLUMNS FROM `{table}`")
        found = []
        for name, kind, collation, null, *_ in rows:
            if name == "id":
                continue
            text = kind if isinstance(kind, str) else kind.decode()
            text = re.sub(r"^(tinyint|smallint|mediumint|int|bigint|year)\(\d+\)", r"\1", text)
            if collation and collation.startswith("latin1"):
                text += " CHARACTER SET latin1"
            found.append((name, text, null == "YES"))
        return found

    def moment(self) -> Moment:
        statement = "SHOW BINARY LOG STATUS" if self.server.flavor == "mysql" else "SHOW MASTER STATUS"
        file, position = self.run(statement)[0][:2]
        return Moment(file, int(position), state_of(self.server, self.tables()))

    # --- rows

    def change_rows(self) -> None:
        table = self.rng.choice(self.tables())
        shape = self.shape(table)
        kind = self.rng.random()
        if kind < 0.55:
            names = ["id", *(name for name, _, _ in shape)]
            rows = ", ".join(
                f"({next(self.key)}{''.join(', ' + self.value(t, null) for _, t, null in shape)})"
                for _ in range(self.rng.randint(1, 5))
            )
            self.run(f"INSERT INTO `{table}` ({', '.join(f'`{n}`' for n in names)}) VALUES {rows}")
        elif kind < 0.8 and shape:
            name, text, null = self.rng.choice(shape)
            self.run(
                f"UPDATE `{table}` SET `{name}` = {self.value(text, null)} ORDER BY id LIMIT {self.rng.randint(1, 4)}"
            )
        elif kind < 0.9:
            self.run(f"UPDATE `{table}` SET id = {next(self.key)} ORDER BY RAND({self.rng.randint(1, 99)}) LIMIT 1")
        else:
            self.run(f"DELETE FROM `{table}` ORDER BY RAND({self.rng.randint(1, 99)}) LIMIT 2")

    def value(self, kind: str, null: bool) -> str:
        rng = self.rng
        if null and rng.random() < 0.2:
            return "NULL"
        base = kind.split("(")[0].split(" ")[0]
        if base in ("tinyint", "smallint", "mediumint", "int", "bigint"):
            low = 0 if "unsigned" in kind else -100
            return str(rng.randint(low, 100))
        if base == "year":
            return str(rng.randint(1990, 2100))
        if base == "bit":
            return f"b'{rng.randint(0, 511):b}'"
        if base == "decimal":
            return f"{rng.randint(-99999, 99999) / 100:.2f}"
        if base in ("float", "double"):
            return repr(rng.choice([0.1, -2.5, 1e10, 3.25, 0.0]))
        if base in ("varchar", "text"):
            plain = rng.choice(["", "abc", "ünï", "it's", "a b ", "x" * 15])
            return "'" + plain.replace("'", "''") + "'"
        if base == "char":
            return rng.choice(["'a'", "'bcd'", "''"])
        if base == "varbinary":
            return f"x'{rng.randbytes(rng.randint(0, 8)).hex()}'"
        if base == "enum":
            return rng.choice(["'a'", "'b'"])
        if base == "date":
            return f"'20{rng.randint(10, 40)}-0{rng.randint(1, 9)}-11'"
        if base == "datetime":
            return f"'2024-0{rng.randint(1, 9)}-11 10:11:12'"
        if base == "time":
            return rng.choice(["'10:11:12.5'", "'-01:00:00'", "'100:00:00.25'"])
        return rng.choice(["'{}'", "'[1, 2]'", "'{\"a\": null}'"])

    # --- definitions

    def change_definition(self) -> None:
        kinds = [
            self.add, self.drop, self.rename_column, self.reorder, self.widen, self.rename_table, self.swap, self.truncate,
            self.drop_and_create, self.create_like, self.create_select, self.key_change, self.charset, self.create,
        ]  # fmt: skip
        done = self.rng.choice(kinds)
        if done():
            self.counts[done.__name__] += 1

    def create(self) -> bool:
        if len(self.tables()) > 7:
            return False
        name = next(self.names)
        columns = "".join(
            f", {next(self.columns)} {self.rng.choice(list(TYPES))}" for _ in range(self.rng.randint(2, 5))
        )
        self.run(f"CREATE TABLE {name} (id int NOT NULL{columns}, PRIMARY KEY (id))")
        return True

    def add(self) -> bool:
        table = self.rng.choice(self.tables())
        kind = self.rng.choice(list(TYPES))
        default = DEFAULTS.get(kind)
        text = f"{kind} NOT NULL DEFAULT {default}" if default and self.rng.random() < 0.6 else f"{kind} NULL"
        if default and self.rng.random() < 0.2:
            text = "int NOT NULL"
        place = self.rng.choice(["", " FIRST", " AFTER id"])
        self.run(f"ALTER TABLE `{table}` ADD COLUMN {next(self.columns)} {text}{place}")
        return True

    def drop(self) -> bool:
        table = self.rng.choice(self.tables())
        shape = self.shape(table)
        if len(shape) < 2:
            return False
        self.run(f"ALTER TABLE `{table}` DROP COLUMN `{self.rng.choice(shape)[0]}`")
        return True

    def rename_column(self) -> bool:
        table = self.rng.choice(self.tables())
        shape = self.shape(table)
        if not shape:
            return False
        old, kind, null = self.rng.choice(shape)
        new = next(self.columns)
        if self.rng.random() < 0.5:
            self.run(f"ALTER TABLE `{table}` RENAME COLUMN `{old}` TO `{new}`")
        else:
            self.run(f"ALTER TABLE `{table}` CHANGE `{old}` `{new}` {kind} {'NULL' if null else 'NOT NULL'}")
        return True

    def reorder(self) -> bool:
        table = self.rng.choice(self.tables())
        shape = self.shape(table)
        if len(shape) < 2:
            return False
        (first, kind, null), (second, _, _) = self.rng.sample(shape, 2)
        null_text = "NULL" if null else "NOT NULL"
        self.run(f"ALTER TABLE `{table}` MODIFY `{first}` {kind} {null_text} AFTER `{second}`")
        return True

    def widen(self) -> bool:
        table = self.rng.choice(self.tables())
        able = [(n, TYPES[k], null) for n, k, null in self.shape(table) if TYPES.get(k)]
        if not able:
            return False
        name, kind, null = self.rng.choice(able)
        self.run(f"ALTER TABLE `{table}` MODIFY `{name}` {kind} {'NULL' if null else 'NOT NULL'}")
        return True

    def rename_table(self) -> bool:
        table, new = self.rng.choice(self.tables()), next(self.names)
        self.run(
            f"RENAME TABLE `{table}` TO `{new}`"
            if self.rng.random() < 0.5
            else f"ALTER TABLE `{table}` RENAME TO `{new}`"
        )
        return True

    def swap(self) -> bool:
        a, b = self.rng.sample(self.tables(), 2)
        self.run(f"RENAME TABLE `{a}` TO swapping, `{b}` TO `{a}`, swapping TO `{b}`")
        return True

    def truncate(self) -> bool:
        self.run(f"TRUNCATE TABLE `{self.rng.choice(self.tables())}`")
        return True

    def drop_and_create(self) -> bool:
        table = self.rng.choice(self.tables())
        self.run(f"DROP TABLE `{table}`")
        self.run(f"CREATE TABLE `{table}` (id int NOT NULL, {next(self.columns)} varchar(20), PRIMARY KEY (id))")
        return True

    def create_like(self) -> bool:
        if len(self.tables()) > 7:
            return False
        self.run(f"CREATE TABLE {next(self.names)} LIKE `{self.rng.choice(self.tables())}`")
        return True

    def create_select(self) -> bool:
        if len(self.tables()) > 7:
            return False
        self.run(
            f"CREATE TABLE {next(self.names)} (PRIMARY KEY (id)) AS SELECT * FROM `{self.rng.choice(self.tables())}`"
        )
        return True

    def key_change(self) -> bool:
        table = self.rng.choice(self.tables())
        keys = {row[2] for row in self.run(f"SHOW KEYS FROM `{table}`")}
        if "PRIMARY" not in keys:
            self.run(f"ALTER TABLE `{table}` ADD PRIMARY KEY (id)")
        elif self.rng.random() < 0.5:
            self.run(f"ALTER TABLE `{table}` DROP PRIMARY KEY")
        else:
            ints = [n for n, k, null in self.shape(table) if k in ("int", "bigint", "smallint") and not null]
            extra = f", `{ints[0]}`" if ints else ""
            self.run(f"ALTER TABLE `{table}` DROP PRIMARY KEY, ADD PRIMARY KEY (id{extra})")
        return True

    def charset(self) -> bool:
        table = self.rng.choice(self.tables())
        self.run(f"ALTER TABLE `{table}` CONVERT TO CHARACTER SET utf8mb4")
        return True


def state_of(server: Server, tables: list[str]) -> dict[str, tuple[str, list[tuple[Any, ...]]]]:
    found = {}
    for table in tables:
        create = server.execute(f"SHOW CREATE TABLE {DB}.`{table}`")[0][1]
        rows = server.execute(f"SELECT * FROM {DB}.`{table}`")
        found[table] = (re.sub(r" AUTO_INCREMENT=\d+", "", create), sorted(rows, key=repr))
    return found
