"""A shop under load: tables of many types and concurrent writers, for tests that compare with an oracle.

Everything is drawn from a seeded generator per writer, so that a failure can be looked at again (thread timing aside).
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pymysql

from testservers import Server

KEYED = ("accounts", "orders", "events", "codes", "odd `name`.with/äll")
KEYLESS = "ledger"
TABLES = (*KEYED, KEYLESS)

SCHEMA = """
CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE TABLE shop.accounts (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email varchar(190) NOT NULL,
  balance decimal(18,4) NOT NULL DEFAULT 0,
  note varchar(200) NULL,
  score float NULL,
  ratio double NULL,
  prefs json NULL,
  kind enum('a','b','ç') NULL,
  flags set('x','y','z') NULL,
  doubled decimal(20,4) GENERATED ALWAYS AS (balance * 2) STORED,
  born date NULL,
  updated timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
);
CREATE TABLE shop.orders (
  customer int NOT NULL,
  number int unsigned NOT NULL,
  total decimal(12,2) NULL,
  placed datetime(6) NULL,
  payload varbinary(64) NULL,
  small tinyint unsigned NULL,
  medium mediumint NULL,
  PRIMARY KEY (customer, number)
);
CREATE TABLE shop.events (
  uuid binary(16) NOT NULL PRIMARY KEY,
  body longtext NULL,
  took time(3) NULL,
  raw blob NULL,
  season year NULL,
  made timestamp(3) NULL DEFAULT CURRENT_TIMESTAMP(3)
);
CREATE TABLE shop.codes (
  code varchar(40) NOT NULL PRIMARY KEY,
  label varchar(100) CHARACTER SET latin1 NULL,
  plain char(12) CHARACTER SET ascii NULL,
  n bigint NULL
);
CREATE TABLE shop.`odd ``name``.with/äll` (
  `order` int NOT NULL,
  `ünï "quoted"` varchar(50) NULL,
  PRIMARY KEY (`order`)
);
CREATE TABLE shop.vault (id bigint NOT NULL PRIMARY KEY, body text NULL);
CREATE TABLE shop.ledger (a int NULL, b varchar(20) NULL, c datetime NULL);
"""

ALPHABET = "abc xyz'\"\\\n\t%_;`äöü߀😀中文\u200d"


def create(server: Server) -> None:
    server.load(SCHEMA)


@dataclass
class Load:
    """Writers in threads; `stop` joins them and raises what one of them raised. Counts are of commits and rollbacks."""

    server: Server
    writers: int = 4
    transactions: int = 500  # per writer
    seed: int = 1
    keyless: bool = True
    pause_s: float = 0.0
    mortal: bool = False  # the server may die: that ends a writer without an error
    xa: bool = False  # some transactions are XA, and some of those are resolved by another connection, later or never
    committed: int = 0
    rolled_back: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)
    _errors: list[BaseException] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> Load:
        for number in range(self.writers):
            thread = threading.Thread(target=self._guard, args=(number,), name=f"writer-{number}")
            self._threads.append(thread)
            thread.start()
        return self

    def progress(self) -> float:
        return (self.committed + self.rolled_back) / max(1, self.writers * self.transactions)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        self._ended.set()
        self.wait()

    def _guard(self, number: int) -> None:
        try:
            self._run(number)
        except BaseException as error:  # noqa: BLE001  (handed to `wait`)
            # 2013, 2006: the connection is lost; 2003: it can't be made; 0: pymysql's for one that it knows as closed.
            lost = isinstance(error, pymysql.err.MySQLError | OSError) and error.args[0] in (
                2013,
                2006,
                2003,
                0,
                104,
                32,
            )
            if not (self.mortal and lost):
                self._errors.append(error)

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        connection = self.server.connect(autocommit=False)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_mode = '', innodb_lock_wait_timeout = 5")
                for _ in range(self.transactions):
                    if self._ended.wait(self.pause_s) if self.pause_s else self._ended.is_set():
                        return
                    if self.xa and rng.random() < 0.2:
                        # On a connection of its own: MariaDB's keeps to a prepared one until it is gone.
                        with closing(self.server.connect()) as other, other.cursor() as alone:
                            committed = xa_transaction(alone, rng)
                    else:
                        committed = self._transaction(connection, cursor, rng)
                    with self._lock:
                        self.committed += committed
                        self.rolled_back += not committed
        finally:
            connection.close()

    def _transaction(self, connection: Any, cursor: Any, rng: random.Random) -> bool:
        operations = [accounts, orders, events, codes, odd] + ([ledger] if self.keyless else [])
        try:
            for _ in range(rng.choice((1, 1, 2, 3, 6))):
                rng.choice(operations)(cursor, rng)
            if rng.random() < 0.1:
                cursor.execute("SAVEPOINT half")
                accounts(cursor, rng)
                cursor.execute("ROLLBACK TO SAVEPOINT half")
            if rng.random() < 0.1:
                connection.rollback()
                return False
            connection.commit()
            return True
        except pymysql.err.MySQLError as error:
            if error.args[0] not in (1213, 1205, 1062, 1020):  # deadlock, lock wait, duplicate key, changed meanwhile
                raise
            connection.rollback()
            return False


def xa_transaction(cursor: Any, rng: random.Random) -> bool:
    """One XA transaction on the single table that its writers don't fight over, prepared and then committed, rolled back,
    or left prepared for `resolve_xa`. Its branch qualifier holds bytes that need care."""
    xid = f"X'{rng.randbytes(8).hex()}',X'00ff27'"
    cursor.execute(f"XA START {xid}")
    for _ in range(rng.choice((0, 1, 2, 5))):
        cursor.execute("INSERT INTO shop.vault (id, body) VALUES (%s, %s)", (rng.getrandbits(62), text(rng, 30)))
    cursor.execute(f"XA END {xid}")
    ending = rng.random()
    if ending < 0.1:
        cursor.execute(f"XA COMMIT {xid} ONE PHASE")
        return True
    cursor.execute(f"XA PREPARE {xid}")
    if ending < 0.4:
        return False
    return end_xa(cursor, "COMMIT" if ending < 0.8 else "ROLLBACK", xid) and ending < 0.8


def end_xa(cursor: Any, how: str, xid: str) -> bool:
    """False if another connection was faster, or MariaDB rolled it back because it changed nothing."""
    try:
        cursor.execute(f"XA {how} {xid}")
    except pymysql.err.MySQLError as error:
        if error.args[0] not in (1397, 1402):  # ER_XAER_NOTA, ER_XA_RBROLLBACK
            raise
        return False
    return True


def resolve_xa(server: Server, rng: random.Random, share: float = 1.0) -> int:
    """Commit or roll back about this share of the prepared XA transactions whose connections are gone or idle."""
    done = 0
    with server.connect() as connection, connection.cursor() as cursor:
        mysql = server.flavor == "mysql"
        cursor.execute("XA RECOVER CONVERT XID" if mysql else "XA RECOVER FORMAT='SQL'")
        for _, length, _, data in cursor.fetchall():
            xid = data if isinstance(data, str) else data.decode()
            if mysql:
                xid = f"0x{xid[2 : 2 + 2 * length]},0x{xid[2 + 2 * length :]}"
            if rng.random() < share:
                done += end_xa(cursor, rng.choice(("COMMIT", "COMMIT", "ROLLBACK")), xid)
    return done


def text(rng: random.Random, longest: int) -> str | None:
    if rng.random() < 0.15:
        return None
    return "".join(rng.choices(ALPHABET, k=rng.randint(0, longest)))


def moment(rng: random.Random) -> str:
    return (
        f"{rng.randint(1000, 9999)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} "
        f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}.{rng.randint(0, 999999):06}"
    )


def accounts(cursor: Any, rng: random.Random) -> None:
    choice = rng.random()
    identity = rng.randint(1, 400)
    prefs = json.dumps(
        {
            "n": rng.randint(-(10**12), 10**12),
            "f": rng.choice([0.5, 1.0, 1e-7, 123456.789]),
            "t": text(rng, 5),
            "l": [1, {}],
        }
    )
    values = (
        f"user{identity}@exämple.org",
        f"{rng.randint(-(10**13), 10**13)}.{rng.randint(0, 9999):04}",
        text(rng, 60),
        rng.choice([None, 0.1, 16777217, -1e-20, 3.4e38, rng.random()]),
        rng.choice([None, 0.1, -1.7e308, rng.random() * 1e-300]),
        rng.choice([None, prefs, prefs]),
        rng.choice([None, "a", "ç", "not a label"]),
        rng.choice([None, "", "x,z", "y"]),
        rng.choice([None, "2024-02-29", "0000-00-00", "2024-00-10", "9999-12-31"]),
    )
    if choice < 0.45:
        cursor.execute(
            "INSERT INTO shop.accounts (email, balance, note, score, ratio, prefs, kind, flags, born)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            values,
        )
    elif choice < 0.8:
        cursor.execute(
            "UPDATE shop.accounts SET balance = %s, note = %s, score = %s, prefs = %s WHERE id BETWEEN %s AND %s",
            (values[1], values[2], values[3], values[5], identity, identity + rng.randint(0, 3)),
        )
    elif choice < 0.9:
        cursor.execute("UPDATE shop.accounts SET id = id + 100000 WHERE id = %s", (identity,))
    else:
        cursor.execute("DELETE FROM shop.accounts WHERE id = %s", (identity,))


def orders(cursor: Any, rng: random.Random) -> None:
    customer, number = rng.randint(1, 40), rng.randint(1, 60)
    row = (
        customer,
        number,
        rng.choice([None, f"{rng.randint(-(10**9), 10**9)}.{rng.randint(0, 99):02}"]),
        rng.choice([None, moment(rng), "0000-00-00 00:00:00"]),
        rng.choice([None, rng.randbytes(rng.randint(0, 64)), b"\0\0", b"'\"\\\n"]),
        rng.choice([None, 0, 255]),
        rng.choice([None, -8388608, 8388607]),
    )
    if rng.random() < 0.6:
        cursor.execute("REPLACE INTO shop.orders VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
    elif rng.random() < 0.5:
        cursor.execute("UPDATE shop.orders SET number = number + 1000 WHERE customer = %s AND number = %s", row[:2])
    else:
        cursor.execute("DELETE FROM shop.orders WHERE customer = %s ORDER BY number LIMIT 2", row[:1])


def events(cursor: Any, rng: random.Random) -> None:
    uuid = rng.randrange(256**2).to_bytes(2, "big") + bytes(rng.choice((0, 7)) for _ in range(14))
    took = rng.choice([None, "-838:59:59.999", "-00:00:00.001", "12:34:56.789", "838:59:59"])
    if rng.random() < 0.7:
        cursor.execute(
            "INSERT INTO shop.events (uuid, body, took, raw, season) VALUES (%s, %s, %s, %s, %s)"
            " ON DUPLICATE KEY UPDATE body = VALUES(body)",
            (uuid, text(rng, 400), took, rng.choice([None, b"", rng.randbytes(40)]), rng.choice([None, 0, 1901, 2155])),
        )
    else:
        cursor.execute("DELETE FROM shop.events WHERE uuid < %s ORDER BY uuid LIMIT 1", (uuid,))


def codes(cursor: Any, rng: random.Random) -> None:
    code = rng.choice(["k", "K", "ß", "é", "k ", "日本"]) + str(rng.randint(1, 80))
    if rng.random() < 0.7:
        cursor.execute(
            "INSERT INTO shop.codes VALUES (%s, %s, %s, %s) ON DUPLICATE KEY UPDATE n = VALUES(n), code = VALUES(code)",
            (
                code,
                rng.choice([None, "çé€ñ", "it's", ""]),
                rng.choice([None, "plain ", "x"]),
                rng.randint(-(2**63), 2**63 - 1),
            ),
        )
    else:
        cursor.execute("DELETE FROM shop.codes WHERE code = %s", (code,))


def odd(cursor: Any, rng: random.Random) -> None:
    cursor.execute(
        'INSERT INTO shop.`odd ``name``.with/äll` VALUES (%s, %s) ON DUPLICATE KEY UPDATE `ünï "quoted"` = %s',
        (rng.randint(1, 100), text(rng, 20), text(rng, 20)),
    )


def ledger(cursor: Any, rng: random.Random) -> None:
    if rng.random() < 0.6:
        cursor.execute(
            "INSERT INTO shop.ledger VALUES (%s, %s, %s)",
            (rng.randint(1, 5), rng.choice([None, "x", "y"]), rng.choice([None, "2024-01-01", "0000-00-00"])),
        )
    elif rng.random() < 0.5:
        cursor.execute(
            "UPDATE shop.ledger SET b = %s WHERE a = %s LIMIT 2", (rng.choice([None, "z"]), rng.randint(1, 5))
        )
    else:
        cursor.execute("DELETE FROM shop.ledger WHERE a = %s LIMIT 1", (rng.randint(1, 5),))


def checksums(server: Server, tables: tuple[str, ...], db: str = "shop") -> dict[str, int | None]:
    """CHECKSUM TABLE of each: equal for equal rows, whatever their order, on servers of one version."""
    found: dict[str, int | None] = {}
    for table in tables:
        quoted = table.replace("`", "``")
        found[table] = server.execute(f"CHECKSUM TABLE `{db}`.`{quoted}` EXTENDED")[0][1]
    return found


def rows(server: Server, table: str, db: str = "shop") -> list[tuple[Any, ...]]:
    """All rows, cell by cell as the bytes the server prints, sorted: for showing a difference."""
    quoted = table.replace("`", "``")
    connection = server.connect(conv={}, use_unicode=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM `{db}`.`{quoted}`")
            return sorted(cursor.fetchall(), key=repr)
    finally:
        connection.close()


Operation = Callable[[Any, random.Random], None]
