"""`make demo`: the main job on real parts, in under two minutes, cleaning up after itself.

Starts a throw-away MySQL, captures it, takes a snapshot while a writer is running, breaks a table, shows what happened,
writes the SQL that undoes it, restores the table to just before the accident into a second server, and compares.
Exit status 0 only if both ways back give exactly the rows from before.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from testservers import MySQLServer, Server, ServerMissingError, require

BIN = Path(sys.executable).parent
ROWS = 2000
SCHEMA = """
CREATE DATABASE shop;
CREATE TABLE shop.customers (
  id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, name varchar(80) NOT NULL, email varchar(120), joined datetime(6));
CREATE TABLE shop.orders (
  id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, customer int unsigned NOT NULL, total decimal(12,2) NOT NULL,
  status enum('new','paid','sent') NOT NULL DEFAULT 'new', note varchar(200), details json,
  changed timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6));
"""


def say(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


class Writer:
    """Good traffic: new orders, payments, shipments, and now and then a rollback."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.transactions = 0
        self._thread.start()

    def _run(self) -> None:
        rng = random.Random(1)
        with self._server.connect(autocommit=False) as connection, connection.cursor() as cursor:
            while not self._ended.wait(0.002):
                for _ in range(rng.randint(1, 3)):
                    self._statement(cursor, rng)
                connection.rollback() if rng.random() < 0.05 else connection.commit()
                self.transactions += 1

    @staticmethod
    def _statement(cursor: Any, rng: random.Random) -> None:
        if rng.random() < 0.5:
            details = json.dumps({"items": rng.randint(1, 9), "gift": rng.random() < 0.5, "text": "für dich 🎁"})
            cursor.execute(
                "INSERT INTO shop.orders (customer, total, note, details) VALUES (%s, %s, %s, %s)",
                (rng.randint(1, 200), f"{rng.uniform(1, 500):.2f}", rng.choice([None, "it's ok", 'say "hi"']), details),
            )
        else:
            status, order = rng.choice(["paid", "sent"]), rng.randint(1, ROWS)
            cursor.execute("UPDATE shop.orders SET status = %s WHERE id = %s", (status, order))

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


class Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "ROWBACK_CONFIG": str(folder / "rowback.toml"), "SHOP_PASSWORD": ""}
        self.capture: subprocess.Popen[bytes] | None = None

    def rowback(self, *arguments: str, show: bool = True, lines: int = 18) -> str:
        if show:
            print(f"$ rowback {' '.join(arguments)}", flush=True)
        command = [str(BIN / "rowback"), *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"rowback {arguments[0]} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        if show:
            text = done.stdout.splitlines()
            print("\n".join(text[:lines] + ([f"... {len(text) - lines} more lines"] if len(text) > lines else [])))
        return done.stdout

    def run(self) -> bool:
        say("a throw-away MySQL with a small shop")
        with MySQLServer(self.folder / "source", name="demo-source") as source:
            print(f"MySQL {source.version_text} on {source.host}:{source.port}")
            fill(source)
            self.configure(source)
            try:
                return self.play(source)
            finally:
                self.end_capture()

    def configure(self, source: Server) -> None:
        (self.folder / "rowback.toml").write_text(
            f'[archive]\nroot = "file://{self.folder}/archive"\n\n[servers.shop]\nhost = "{source.host}"\n'
            f'port = {source.port}\nuser = "{source.user}"\npassword_env = "SHOP_PASSWORD"\n'
        )

    def play(self, source: Server) -> bool:
        say("capture starts, and a snapshot is taken while a writer is running")
        with (self.folder / "capture.log").open("wb") as log:
            command = [str(BIN / "rowback"), "capture", "--window-seconds", "1"]
            self.capture = subprocess.Popen(command, env=self.environment, cwd=self.folder, stderr=log)
        self.wait_for_capture()
        writer = Writer(source)
        try:
            self.rowback("snapshot")
            before, accident = break_it(source)
        finally:
            time.sleep(1)
            writer.stop()
        print(f"the writer made {writer.transactions} transactions, before, during and after the accident")
        self.catch_up()
        self.rowback("status", "--offline")

        say("what happened?")
        self.rowback("changes", "--table", "shop.orders", "--transaction", accident["delete"], "--limit", "5")
        self.rowback("changes", "--table", "shop.customers", "--transaction", accident["update"], "--limit", "3")

        say("the SQL that undoes it, for a person to review")
        undo = self.folder / "undo.sql"
        for name, table in (("update", "shop.customers"), ("delete", "shop.orders")):
            self.rowback("undo", "--table", table, "--transaction", accident[name], "--output", str(undo) + f".{name}")
            print("\n".join(Path(f"{undo}.{name}").read_text().splitlines()[:30]) + "\n...")

        say("the tables just before the accident, from the archive alone")
        restored = self.folder / "restored"
        self.rowback("restore", "--to", before["gtid"], "--output", str(restored), "--dry-run")
        self.rowback("restore", "--to", before["gtid"], "--output", str(restored))
        return self.compare(source, restored, undo, before)

    def compare(self, source: Server, restored: Path, undo: Path, before: dict[str, Any]) -> bool:
        say("the restored dump goes into a second throw-away server")
        with MySQLServer(self.folder / "second", name="demo-second", binlog=False) as second:
            with (restored / "load.mysql").open("rb") as script:
                subprocess.run(
                    second.client_command("--loose-commands", "--comments"), cwd=restored, stdin=script, check=True
                )
            got = {table: rows(second, table) for table in before["rows"]}
        equal = got == before["rows"]
        print(f"restored: {', '.join(f'{t} {len(r)} rows' for t, r in got.items())}; equal: {equal}")

        say("and the undo scripts go into the source (a person would do this)")
        for name in ("update", "delete"):
            source.load(Path(f"{undo}.{name}").read_text())
        customers = rows(source, "customers") == before["rows"]["customers"]
        known = {row[0] for row in before["rows"]["orders"]}
        orders = [row for row in rows(source, "orders") if row[0] in known] == before["rows"]["orders"]
        print(f"customers as before: {customers}; orders from before the accident as they were: {orders}")
        return equal and customers and orders

    def wait_for_capture(self) -> None:
        deadline = time.monotonic() + 60
        while b"capture started" not in (self.folder / "capture.log").read_bytes():
            if time.monotonic() > deadline or (self.capture and self.capture.poll() is not None):
                raise SystemExit("capture did not start:\n" + (self.folder / "capture.log").read_text())
            time.sleep(0.1)

    def end_capture(self) -> None:
        if self.capture is not None and self.capture.poll() is None:
            self.capture.send_signal(signal.SIGTERM)
            self.capture.wait(60)

    def catch_up(self) -> None:
        """End capture (SIGTERM commits its open window), then take what is left."""
        self.end_capture()
        assert self.capture is not None
        if self.capture.returncode:
            raise SystemExit("capture failed:\n" + (self.folder / "capture.log").read_text())
        self.rowback("capture", "--until-caught-up")


def fill(source: Server) -> None:
    source.load(SCHEMA)
    customers = ", ".join(f"('Customer {i}', 'c{i}@example.org', NOW(6))" for i in range(200))
    source.execute(f"INSERT INTO shop.customers (name, email, joined) VALUES {customers}")
    orders = ", ".join(f"({i % 200 + 1}, {i}.50, 'first batch')" for i in range(ROWS))
    source.execute(f"INSERT INTO shop.orders (customer, total, note) VALUES {orders}")


def break_it(source: Server) -> tuple[dict[str, Any], dict[str, str]]:
    """The accident; first note what the tables held (with the writer held off for that moment)."""
    time.sleep(1)
    say("the accident: a DELETE without its WHERE, then a bad UPDATE, while good traffic goes on")
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES shop.orders WRITE, shop.customers WRITE")
        cursor.execute("SELECT @@gtid_executed")
        executed = cursor.fetchone()[0].replace("\n", "")
        uuid, last = executed.split(",")[-1].split(":")[0], int(executed.rpartition("-")[2])
        before = {"gtid": f"{uuid}:{last}", "rows": {}}
        for table in ("customers", "orders"):
            cursor.execute(f"SELECT * FROM shop.{table} ORDER BY id")
            before["rows"][table] = list(cursor.fetchall())
        for statement in (
            "DELETE FROM shop.orders",
            "UPDATE shop.customers SET email = 'oops@example.org', name = 'oops'",
        ):
            print(f"mysql> {statement};  -- {cursor.execute(statement)} rows affected")
        cursor.execute("UNLOCK TABLES")
    return before, {"delete": f"{uuid}:{last + 1}", "update": f"{uuid}:{last + 2}"}


def rows(server: Server, table: str) -> list[tuple[Any, ...]]:
    return list(server.execute(f"SELECT * FROM shop.{table} ORDER BY id"))


def main() -> int:
    try:
        require("mysql")
        require("mydumper")
    except ServerMissingError as error:
        print(error, file=sys.stderr)
        return 1
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="rowback-demo-"))
    try:
        equal = Demo(folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n({time.monotonic() - started:.0f} s)")
    print("EQUAL: what Rowback gave back is exactly what the source held" if equal else "DIFFERENT: see above")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
