"""A second real server that replays the source's binlog with the server's own mysqlbinlog, transaction by transaction.

It shares no code with Rowback: only mysqlbinlog and the plain client touch the data.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from testservers import Server

Position = tuple[str, int]


class Oracle:
    """Follows the source from its first binlog file. `advance` only goes forward."""

    def __init__(self, source: Server, server: Server) -> None:
        self.source, self.server = source, server
        self.at: Position = (source.binlog_files()[0].name, 4)

    def advance(self, to: Position) -> None:
        """Replay everything that ends at or before this position, which is a transaction's end."""
        files = [f for f in self.source.binlog_files() if self.at[0] <= f.name <= to[0]]
        first, last = self.at[1], to[1]
        options = [f"--start-position={first}", f"--stop-position={last}"]
        if files[0].name == to[0] and first >= last:
            return
        self._pipe([*options, *map(str, files)])
        self.at = to

    def _pipe(self, arguments: Iterable[str]) -> None:
        command = self.source.mysqlbinlog_command(*arguments)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as replay:
            client = subprocess.run(
                self.server.client_command("--binary-mode", "--max-allowed-packet=1G"),
                stdin=replay.stdout,
                capture_output=True,
            )
        assert replay.returncode == 0, f"{command[0]} ended with {replay.returncode}"
        assert client.returncode == 0, client.stderr.decode()


def load_with_client(server: Server, folder: Path) -> None:
    """Load a restored directory with the plain client, as its load.mysql says."""
    script = folder / "load.mysql"
    done = subprocess.run(
        server.client_command("--loose-commands", "--comments"),
        cwd=folder,
        stdin=script.open("rb"),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"ERROR" not in done.stderr, done.stderr.decode()  # MariaDB's client goes on behind a SOURCE that failed


def assert_restored(source: Server, target: Server, folder: Path, db: str, names: Sequence[str], *queries: str) -> None:
    """A restore, loaded by the plain client, has the source's definitions and rows of these tables, and gives what the
    source gives for the queries. The target's database is dropped again."""
    definitions = [f"SHOW CREATE TABLE `{db}`.`{name}`" for name in names]
    rows = [f"SELECT * FROM `{db}`.`{name}` ORDER BY 1" for name in names]
    try:
        load_with_client(target, folder)
        for query in (*definitions, *rows, *queries):
            assert target.execute(query) == source.execute(query), query
    finally:
        target.execute(f"DROP DATABASE IF EXISTS `{db}`")


def load_with_myloader(
    server: Server, folder: Path, program: str = "myloader", options: Sequence[str] = ("-o",)
) -> None:
    """Load it with the real myloader. options: `-o` drops what is there already."""
    login = ["-h", server.host, "-P", str(server.port), "-u", server.user]
    done = subprocess.run([program, *login, "-d", str(folder), *options], capture_output=True, timeout=120)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert not re.search(r"(?<!GLib-)CRITICAL", said), said  # 1.x has one of GLib's where there is no /etc/mydumper.cnf


def load_with_myloader_1x(server: Server, folder: Path) -> None:
    """Load it with the myloader of 1.x."""
    load_with_myloader(server, folder, program_1x("myloader"))


def program_1x(name: str) -> str:
    """The myloader or mydumper of 1.x that MYLOADER_1X or MYDUMPER_1X points to. Skips the test, in CI too, where it points
    to none: distributions have no 1.x, so nothing provides one."""
    variable = f"{name.upper()}_1X"
    program = os.environ.get(variable)
    if not program:
        pytest.skip(f"{variable} doesn't point to a {name} of 1.x")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30).stdout
    assert re.match(rf"{name} v?1\.", said), f"{variable} points to something else: {said}"
    return program
