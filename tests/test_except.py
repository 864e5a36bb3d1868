"""`--except` on real servers. The oracle is a second server that runs the same SQL again without the transaction, or replays
the source's binlog with mysqlbinlog without it; tables are compared by CHECKSUM TABLE.

Run again, an UPDATE of a row that isn't there does nothing, and IGNORE passes over a key that is taken: that is what
`--except-conflicts drop-later` promises. Statements name rows by their key and set values that are nowhere else, so that
nothing depends on values that the transaction had changed.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import provide
from oracle import load_with_client, load_with_myloader
from rowback import Rowback

from recovery.context import open_context
from recovery.restore import RestoreRequest, RestoreResult, restore
from testservers import MariaDBServer, MySQLServer, Server

SCHEMA = (
    """CREATE TABLE {db}.orders (id INT PRIMARY KEY, a VARCHAR(20), b DECIMAL(12,3), c DATETIME(6), d ENUM('x','y'),
       twice DECIMAL(14,3) AS (b * 2) STORED, at TIMESTAMP NULL)""",
    """CREATE TABLE {db}.parts (code VARCHAR(10) CHARACTER SET latin1, n SMALLINT UNSIGNED, note TEXT, w DOUBLE,
       PRIMARY KEY (code, n))""",
    "CREATE TABLE {db}.bag (v INT, t TEXT)",
)
TABLES = ("orders", "parts", "bag")
SNAPSHOT_AT = 20  # so many transactions lie before the snapshot


@dataclass
class Story:
    """Random transactions; each a list of statements. Rows that are there are known, so that each statement
    does something."""

    db: str
    rng: random.Random
    orders: set[int] = field(default_factory=set)
    parts: set[tuple[str, int]] = field(default_factory=set)
    old: list[int] = field(default_factory=list)
    number: int = 0

    def value(self) -> int:
        self.number += 1
        return self.number

    def transaction(self) -> list[str]:
        return [self.statement() for _ in range(self.rng.choice((1, 1, 2, 4)))]

    def statement(self) -> str:
        draw = self.rng.random()
        if draw < 0.1:
            return self.bag_statement()
        return self.order_statement() if draw < 0.6 else self.part_statement()

    def bag_statement(self) -> str:
        """Deletes rows of the beginning only: which of two twins a later one took can't be known without a key."""
        if self.old and self.rng.random() < 0.3:
            return f"DELETE FROM {self.db}.bag WHERE v = {self.old.pop()}"
        v = self.value()
        if v < 20:
            self.old.append(v)
        return f"INSERT INTO {self.db}.bag VALUES ({v}, 'ä{v}')"

    def order_statement(self) -> str:
        free = sorted(set(range(20)) - self.orders)
        kind = self.rng.choice("iuuudm")
        if (kind == "i" or not self.orders) and free:
            key = self.rng.choice(free)
            self.orders.add(key)
            v = self.value()
            return (
                f"INSERT IGNORE INTO {self.db}.orders (id, a, b, c, d, at) VALUES ({key}, 'é{v}', {v}.5, "
                f"'2026-01-01 00:00:00.{v:06d}', 'x', FROM_UNIXTIME({1700000000 + v}))"
            )
        key = self.rng.choice(sorted(self.orders))
        if kind == "d":
            self.orders.discard(key)
            return f"DELETE FROM {self.db}.orders WHERE id = {key}"
        if kind == "m" and free:
            self.orders.discard(key)
            to = self.rng.choice(free)
            self.orders.add(to)
            return f"UPDATE IGNORE {self.db}.orders SET id = {to}, a = 'm{self.value()}' WHERE id = {key}"
        v = self.value()
        cells = self.rng.sample(
            [f"a = 'u{v}'", f"b = {v}.25", f"c = '2026-02-01 00:00:00.{v:06d}'"], self.rng.choice((1, 2))
        )
        return f"UPDATE {self.db}.orders SET {', '.join(cells)} WHERE id = {key}"

    def part_statement(self) -> str:
        free = [(c, n) for c in "Bé" for n in range(5) if (c, n) not in self.parts]
        kind = self.rng.choice("iuuud")
        if (kind == "i" or not self.parts) and free:
            code, n = self.rng.choice(free)
            self.parts.add((code, n))
            v = self.value()
            return f"INSERT IGNORE INTO {self.db}.parts VALUES ('{code}', {n}, 'note {v}', {v}.125)"
        code, n = self.rng.choice(sorted(self.parts))
        where = f"WHERE code = '{code}' AND n = {n}"
        if kind == "d":
            self.parts.discard((code, n))
            return f"DELETE FROM {self.db}.parts {where}"
        v = self.value()
        cell = self.rng.choice((f"note = 'n{v}'", f"w = {v}.0625"))
        return f"UPDATE {self.db}.parts SET {cell} {where}"


def run_all(server: Server, transactions: Sequence[Sequence[str]], skip: frozenset[int] = frozenset()) -> list[str]:
    """Each in a transaction of its own; returns their GTIDs, if the server has any."""
    gtids = []
    connection = server.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        for number, statements in enumerate(transactions):
            if number in skip:
                continue
            for statement in statements:
                cursor.execute(statement)
            connection.commit()
            cursor.execute("SELECT @@last_gtid" if server.flavor == "mariadb" else "SELECT @@gtid_executed")
            text = str(cursor.fetchone()[0])
            gtids.append(re.sub(r":.*-", ":", text) if server.flavor == "mysql" else text)
    connection.close()
    return gtids


def create(server: Server, db: str) -> None:
    server.execute(f"CREATE DATABASE {db}")
    for statement in SCHEMA:
        server.execute(statement.format(db=db))


def checksums(server: Server, db: str) -> dict[str, Any]:
    names = ", ".join(f"{db}.{t}" for t in TABLES)
    return {str(name): value for name, value in server.execute(f"CHECKSUM TABLE {names}")}


@dataclass
class Captured:
    """shop: a random story with a snapshot before its last part. acc: an accident, the transaction `accident`."""

    source: Server
    target: Server
    rowback: Rowback
    folder: Path
    transactions: list[list[str]]
    gtids: list[str] = field(default_factory=list)
    accident: str = ""
    xa: tuple[str, ...] = ()  # GTIDs of an XA transaction's PREPARE and COMMIT

    def without(self, skip: frozenset[int], **given: Any) -> RestoreResult:
        context = open_context(self.rowback.config)
        output = self.folder / f"out-{'-'.join(map(str, sorted(skip)))}"
        left_out = tuple(self.gtids[n] for n in sorted(skip))
        request = RestoreRequest("latest", ("shop.*",), output, leave_out=left_out, **given)
        return restore(context.store, context.log.read(), request)

    def exercise(self, tries: Sequence[frozenset[int]]) -> int:
        """Compare each; returns how many had conflicts."""
        conflicts = 0
        for skip in tries:
            create(self.target, "shop")
            run_all(self.target, self.transactions, skip)
            expected = self.taken("shop")
            result = self.without(skip, except_conflicts="drop-later")
            assert result.output is not None
            assert result.plan.exclusion is not None
            conflicts += bool(result.plan.exclusion.open)
            load_with_client(self.target, result.output)
            assert self.taken("shop") == expected, (skip, [e.text() for e in result.plan.exclusion.later])
        return conflicts

    def taken(self, db: str) -> dict[str, Any]:
        """The target's checksums of a database, which is dropped."""
        found = checksums(self.target, db)
        self.target.execute(f"DROP DATABASE {db}")
        return found


ACCIDENT = [
    "UPDATE acc.orders SET a = 'oops', d = 'y'",
    "DELETE FROM acc.parts",
    "INSERT INTO acc.bag VALUES (1, 'a'), (9, 'z')",
    "DELETE FROM acc.bag WHERE v = 2",
    "INSERT INTO acc.orders (id, a) VALUES (50000, 'oops')",
]
LATER = [
    ["INSERT INTO acc.orders (id, a) VALUES (4000, 'later')", "INSERT INTO acc.bag VALUES (3, 'later')"],
    ["DELETE FROM acc.orders WHERE id = 4000"],
]


def captured(kind: type[Server], folder: Path, count: int, seed: int) -> Iterator[Captured]:
    with (
        kind(folder / "source", name="source", binlog=True) as source,
        kind(folder / "target", name="target", binlog=False) as target,
    ):
        story = Story("shop", random.Random(seed))
        transactions = [story.transaction() for _ in range(SNAPSHOT_AT + count)]
        found = Captured(source, target, Rowback(folder / "rowback", source), folder, transactions)
        create(source, "shop")
        create(source, "acc")
        rows = ", ".join(f"({n}, 'o{n}', {n}.5, 'x')" for n in range(3000))
        source.execute(f"INSERT INTO acc.orders (id, a, b, d) VALUES {rows}")
        source.execute("INSERT INTO acc.bag VALUES (1, 'a'), (1, 'a'), (2, NULL)")
        source.execute("INSERT INTO acc.parts VALUES ('A', 1, 'x', 1), ('B', 1, 'y', NULL)")
        found.gtids += run_all(source, found.transactions[:SNAPSHOT_AT])
        found.rowback.catch_up()
        found.rowback.run("snapshot")
        found.gtids += run_all(source, found.transactions[SNAPSHOT_AT:])
        found.accident = run_all(source, [ACCIDENT, *LATER])[0]
        if source.flavor == "mysql":
            start = ["XA START 'x'", "INSERT INTO acc.bag VALUES (77, 'xa')", "XA END 'x'", "XA PREPARE 'x'"]
            found.xa = tuple(gtid for steps in (start, ["XA COMMIT 'x'"]) for gtid in run_all(source, [steps]))
        found.rowback.catch_up()
        yield found


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    provide("mysql")
    provide("mydumper")
    yield from captured(MySQLServer, tmp_path_factory.mktemp("mysql"), count=60, seed=7)


@pytest.mark.sockets
def test_mysql(mysql: Captured) -> None:
    rng = random.Random(1)
    tries = [frozenset({n}) for n in rng.sample(range(SNAPSHOT_AT, SNAPSHOT_AT + 60), 5)]
    conflicts = mysql.exercise([*tries, frozenset(rng.sample(range(SNAPSHOT_AT, SNAPSHOT_AT + 60), 6))])
    assert 1 <= conflicts < 6, conflicts  # both kinds were there


@pytest.mark.sockets
def test_an_accident_and_mysqlbinlog(mysql: Captured) -> None:
    """An UPDATE without WHERE, a DELETE too many, in one transaction over three tables; what came later touched
    other rows."""
    command = mysql.source.mysqlbinlog_command(
        f"--exclude-gtids={mysql.accident}", *map(str, mysql.source.binlog_files())
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE) as replay:
        client = mysql.target.client_command("--binary-mode")
        subprocess.run(client, stdin=replay.stdout, check=True, capture_output=True)
    expected = mysql.taken("acc")
    mysql.taken("shop")
    arguments = ("restore", "--to", "latest", "--except", mysql.accident)
    result = mysql.rowback.json(*arguments, "--tables", "acc.*", "--output", "accident")
    assert result["plan"]["except"]["later"] == []
    changed = [["acc.bag", 3], ["acc.orders", 3001], ["acc.parts", 2]]
    assert result["plan"]["except"]["transactions"][0]["tables"] == changed
    load_with_myloader(mysql.target, mysql.rowback.folder / "accident")
    assert mysql.taken("acc") == expected
    shown = mysql.rowback.run(*arguments, "--tables", "acc.orders", "--dry-run").stdout
    assert f"without transaction {mysql.accident} at " in shown
    assert "5 row changes in tables that this restore leaves out" in shown


@pytest.mark.sockets
def test_an_xa_transaction_is_left_out_by_its_commit(mysql: Captured) -> None:
    prepare, commit = mysql.xa
    arguments = ("restore", "--to", "latest", "--table", "acc.bag", "--except")
    refused = mysql.rowback.run(*arguments, prepare, "--dry-run", check=False)
    assert refused.returncode == 2
    assert "changed no row that was captured" in refused.stderr
    assert "name the XA COMMIT" in refused.stderr
    mysql.rowback.run(*arguments, commit, "--output", "xa")
    text = (mysql.rowback.folder / "xa" / "acc.bag.00000.sql").read_text()
    assert "'z'" in text
    assert "77" not in text


@pytest.mark.sockets
def test_mariadb(tmp_path: Path) -> None:
    provide("mariadb")
    provide("mydumper")
    for found in captured(MariaDBServer, tmp_path, count=40, seed=3):
        rng = random.Random(2)
        tries = [frozenset({n}) for n in rng.sample(range(SNAPSHOT_AT, SNAPSHOT_AT + 40), 2)]
        found.exercise([*tries, frozenset(rng.sample(range(SNAPSHOT_AT, SNAPSHOT_AT + 40), 3))])
