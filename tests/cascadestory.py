"""A family of tables with foreign keys of every kind, a life for it, and what the source held after each step."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pymysql

from testservers import Server

DB = "fam"
TABLES = """
CREATE TABLE par (id INT PRIMARY KEY, code VARCHAR(20), a INT, b INT, UNIQUE KEY (code), UNIQUE KEY (a, b));
CREATE TABLE ch (id INT PRIMARY KEY, p INT, note VARCHAR(20),
  FOREIGN KEY (p) REFERENCES par (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE gr (id INT PRIMARY KEY, c INT, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  FOREIGN KEY (c) REFERENCES ch (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE last (id INT PRIMARY KEY, g INT, amount DECIMAL(10, 2),
  FOREIGN KEY (g) REFERENCES gr (id) ON DELETE CASCADE);
CREATE TABLE comp (a INT, b INT, n INT, v VARCHAR(20), PRIMARY KEY (a, b, n),
  FOREIGN KEY (a, b) REFERENCES par (a, b) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE compgr (id INT PRIMARY KEY, a INT, b INT, n INT,
  FOREIGN KEY (a, b, n) REFERENCES comp (a, b, n) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE byname (id INT PRIMARY KEY, code VARCHAR(20),
  FOREIGN KEY (code) REFERENCES par (code) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE nulled (id INT PRIMARY KEY, p INT,
  FOREIGN KEY (p) REFERENCES par (id) ON DELETE SET NULL ON UPDATE SET NULL);
CREATE TABLE tree (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE);
CREATE TABLE loose (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES loose (id) ON DELETE SET NULL);
CREATE TABLE diamond (id INT PRIMARY KEY, p INT, c INT,
  FOREIGN KEY (p) REFERENCES par (id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (c) REFERENCES ch (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE aside (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES par (id))
"""
NAMES = ["par", "ch", "gr", "last", "comp", "compgr", "byname", "nulled", "tree", "loose", "diamond", "aside"]
ROWS = """
INSERT INTO par VALUES (1,'one',1,1),(2,'two',2,2),(3,'three',3,3),(4,'four',4,4),(5,'five',5,5),(6,'six',6,6),
  (7,NULL,7,NULL);
INSERT INTO ch VALUES (11,1,'x'),(12,1,'y'),(21,2,'z'),(31,3,'w'),(41,4,NULL),(51,5,''),(61,6,'s'),(99,NULL,'none');
INSERT INTO gr (id, c) VALUES (111,11),(112,11),(121,12),(211,21),(311,31),(411,41),(611,61);
INSERT INTO last VALUES (1,111,1.50),(2,112,2),(3,211,3),(4,311,NULL);
INSERT INTO comp VALUES (1,1,1,'p'),(1,1,2,'q'),(2,2,1,'r'),(3,3,1,'s'),(4,4,1,'t');
INSERT INTO compgr VALUES (1,1,1,1),(2,1,1,2),(3,2,2,1),(4,3,3,1),(5,4,4,1);
INSERT INTO byname VALUES (1,'one'),(2,'two'),(3,'three'),(4,NULL),(5,'five');
INSERT INTO nulled VALUES (1,1),(2,2),(3,3),(4,NULL);
INSERT INTO tree VALUES (1,NULL),(2,1),(3,2),(4,1),(5,NULL),(6,5),(7,7);
INSERT INTO loose VALUES (1,NULL),(2,1),(3,2),(4,1);
INSERT INTO diamond VALUES (1,1,11),(2,2,11),(3,3,21),(4,NULL,31)
"""
# Each step is one moment; several statements of one step are one transaction.
STEPS: Sequence[Sequence[str]] = [
    ["DELETE FROM par WHERE id = 1"],
    ["INSERT INTO par VALUES (1, 'one', 1, 1)", "INSERT INTO ch VALUES (11, 1, 'again')"],
    ["INSERT INTO comp VALUES (1, 1, 1, 'again')", "UPDATE gr SET c = 11 WHERE id = 111"],
    ["UPDATE par SET id = 20 WHERE id = 2"],
    ["UPDATE ch SET id = 22 WHERE id = 21", "UPDATE par SET id = 21 WHERE id = 20"],
    ["UPDATE par SET a = 30, b = 31 WHERE id = 3"],
    ["UPDATE comp SET v = 'moved' WHERE a = 30"],
    ["UPDATE par SET code = 'deux' WHERE code = 'two'"],
    ["DELETE FROM par WHERE id = 21", "INSERT INTO par VALUES (2, 'two', 2, 2)", "INSERT INTO ch VALUES (22, 2, 'new')"],
    ["SET foreign_key_checks = 0", "DELETE FROM par WHERE id = 4", "SET foreign_key_checks = 1"],
    ["UPDATE ch SET note = 'orphan' WHERE p = 4"],
    ["INSERT INTO par VALUES (4, 'four', 4, 4)"],
    ["REPLACE INTO par VALUES (5, 'five', 55, 55)"],
    ["REPLACE INTO par VALUES (6, 'three', 6, 6)"],
    ["INSERT INTO par VALUES (5, 'fünf', 5, 5) ON DUPLICATE KEY UPDATE code = 'fünf'"],
    ["DELETE FROM tree WHERE id = 1"],
    ["DELETE FROM tree WHERE id >= 5"],
    ["DELETE FROM loose WHERE id IN (1, 2)"],
    ["DELETE FROM diamond WHERE id = 1", "DELETE FROM par WHERE id = 1", "DELETE FROM ch WHERE id = 31"],
    ["START TRANSACTION", "DELETE FROM par WHERE id = 4", "SAVEPOINT s", "DELETE FROM par WHERE id = 5", "ROLLBACK TO s"],
    ["INSERT INTO par VALUES (8, 'eight', 8, 8)", "INSERT INTO ch VALUES (81, 8, 'a'), (82, 8, 'b')",
     "INSERT INTO gr (id, c) VALUES (811, 81)", "UPDATE par SET id = 9 WHERE id = 8", "UPDATE ch SET p = NULL WHERE id = 82",
     "DELETE FROM par WHERE id = 9"],
    ["UPDATE par SET id = id + 100 ORDER BY id DESC", "UPDATE par SET a = a + 1000, b = b + 1"],
    ["UPDATE ch JOIN par ON ch.p = par.id SET ch.id = ch.id + 1000, par.id = par.id + 1000"],
    ["DELETE par, ch FROM par JOIN ch ON ch.p = par.id WHERE ch.id > 1000"],
    ["DELETE FROM par"],
]  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """file, position: behind the step's last transaction; rows: of each table then, by SELECT."""

    what: str
    file: str
    position: int
    rows: dict[str, list[tuple[Any, ...]]]


def rows_of(server: Server, db: str = DB, names: Sequence[str] = NAMES) -> dict[str, list[tuple[Any, ...]]]:
    return {name: sorted(server.execute(f"SELECT * FROM {db}.{name}"), key=repr) for name in names}


class Story:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = server.connect(autocommit=True)

    def begin(self) -> None:
        self.run(f"CREATE DATABASE {DB}", f"USE {DB}", *TABLES.split(";\n"), *ROWS.split(";\n"))

    def run(self, *statements: str) -> None:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def moment(self, what: str) -> Moment:
        statement = "SHOW BINARY LOG STATUS" if self.server.flavor == "mysql" else "SHOW MASTER STATUS"
        file, position = self.server.execute(statement)[0][:2]
        return Moment(what, file, int(position), rows_of(self.server))

    def scripted(self) -> Iterator[Moment]:
        for step in STEPS:
            self.run("BEGIN", *step, "COMMIT")
            yield self.moment("; ".join(step))

    def random(self, seed: int, transactions: int, every: int) -> Iterator[Moment]:
        """Random transactions over a few keys, so that they meet; what the server refuses is passed over."""
        rng = random.Random(seed)
        for number in range(transactions):
            self.run("BEGIN")
            if rng.random() < 0.1:
                self.run("SET foreign_key_checks = 0")
            statements = [_statement(rng) for _ in range(rng.randint(1, 4))]
            for statement in statements:
                with contextlib.suppress(pymysql.err.IntegrityError, pymysql.err.OperationalError):
                    self.run(statement)
            self.run("ROLLBACK" if rng.random() < 0.05 else "COMMIT", "SET foreign_key_checks = 1")
            if number % every == every - 1:
                yield self.moment("; ".join(statements))

    def together(self, seed: int, writers: int, transactions: int, moments: int) -> Iterator[Moment]:
        """Several writers at once; each moment is read under a global lock."""
        status = "SHOW BINARY LOG STATUS" if self.server.flavor == "mysql" else "SHOW MASTER STATUS"
        done = threading.Semaphore(0)
        threads = [
            threading.Thread(target=self._write, args=(random.Random(seed * 100 + n), transactions, done))
            for n in range(writers)
        ]
        for thread in threads:
            thread.start()
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            for number in range(moments):
                for _ in range(writers * transactions // moments):
                    done.acquire()
                cursor.execute("FLUSH TABLES WITH READ LOCK")
                cursor.execute(status)
                file, position = (cursor.fetchone() or ())[:2]
                rows = {}
                for name in NAMES:
                    cursor.execute(f"SELECT * FROM {DB}.{name}")
                    rows[name] = sorted(cursor.fetchall(), key=repr)
                cursor.execute("UNLOCK TABLES")
                connection.commit()
                yield Moment(f"moment {number}", file, int(position), rows)
        for thread in threads:
            thread.join()

    def _write(self, rng: random.Random, transactions: int, done: threading.Semaphore) -> None:
        with closing(self.server.connect(autocommit=True, database=DB)) as connection, connection.cursor() as cursor:
            for _ in range(transactions):
                cursor.execute("BEGIN")
                for statement in [_statement(rng) for _ in range(rng.randint(1, 4))]:
                    with contextlib.suppress(pymysql.err.IntegrityError, pymysql.err.OperationalError):
                        cursor.execute(statement)
                cursor.execute("COMMIT")
                done.release()


def _statement(rng: random.Random) -> str:
    def key() -> int:
        return rng.randint(1, 12)

    def some() -> str:
        return "NULL" if rng.random() < 0.1 else str(key())

    table = rng.choice(NAMES[:1] * 5 + NAMES[1:2] * 3 + NAMES[1:])
    verb = rng.choice(["INSERT", "INSERT", "INSERT", "INSERT IGNORE", "REPLACE", "UPDATE", "UPDATE", "DELETE"])
    if table == "par":
        row = {"id": key(), "code": f"'c{key()}'", "a": key(), "b": rng.randint(1, 3)}
    elif table in ("comp", "compgr"):
        row = {"a": key(), "b": rng.randint(1, 3), "n": rng.randint(1, 3)}
        row = row if table == "comp" else {"id": key(), **row}
    elif table == "byname":
        row = {"id": key(), "code": f"'c{key()}'"}
    elif table == "diamond":
        row = {"id": key(), "p": some(), "c": some()}
    else:
        reference = {"ch": "p", "gr": "c", "last": "g", "tree": "up", "loose": "up"}.get(table, "p")
        row = {"id": key(), reference: some()}
    if verb == "DELETE":
        return f"DELETE FROM {table} WHERE {next(iter(row))} = {key()}"
    if verb == "UPDATE":
        name = rng.choice(list(row))
        where = f"{next(iter(row))} = {key()}" if rng.random() < 0.8 else f"{name} IS NOT NULL ORDER BY 1 LIMIT 1"
        return f"UPDATE {table} SET {name} = {row[name]} WHERE {where}"
    return f"{verb} INTO {table} ({', '.join(row)}) VALUES ({', '.join(map(str, row.values()))})"
