"""The table digest: what Rowback counts is what the documented statement counts on a server, for every type and value.

The archive's values are restored and loaded into a real server; the oracle is the server's own SHA2 over its own rows.
"""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from handmade import Archive, column, insert, table
from oracle import load_with_client
from synthetic import Exact
from typecases import cases

from recovery.output.digest import Digest
from recovery.output.options import OutputOptions
from recovery.restore import RestoreRequest, RestoreResult, restore
from recovery.schema import Table
from testservers import Server


def typed(archive: Archive, db: str, flavor: str) -> tuple[Table, str]:
    """A table of every type, 14 rows with every value, in the archive; (table, CREATE body)."""
    chosen = cases(flavor)
    of = table(db, "wide", column("id"), *(c.column for c in chosen))
    rows = []
    for i in range(14):
        row: dict[str, Any] = {"id": i}
        exact: dict[str, str] = {}
        for case in chosen:
            value = None if i == 13 else case.values[i % len(case.values)][1]
            if isinstance(value, Exact):
                exact[case.column.name] = value.text or "0"  # an ENUM's invalid value
            else:
                row[case.column.name] = value
        rows.append((row, exact))
    body = ", ".join(["id INT PRIMARY KEY", *(f"`{c.column.name}` {c.ddl} NULL" for c in chosen)])
    archive.snapshot(
        "s1", archive.mark(0), archive.mark(0), archive.baseline("s1", of, rows, f"CREATE TABLE `wide` ({body})", 2)
    )
    return of, body


def restored(archive: Archive, output: Path, **options: Any) -> RestoreResult:
    request = RestoreRequest("latest", output=output, options=OutputOptions(**options))
    return restore(archive.store, archive.state, request)


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_a_server_counts_the_same_digest(
    flavor: str, tmp_path: Path, request: pytest.FixtureRequest, unique_name: Any
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("digest")
    archive = Archive(tmp_path / "archive", flavor)
    typed(archive, db, flavor)
    result = restored(archive, tmp_path / "out")
    load_with_client(server, tmp_path / "out")
    found = result.tables[0]
    script = (tmp_path / "out" / "check.mysql").read_text()
    assert "same" in server_output(server, script)
    assert "DIFFERENT" not in server_output(server, script)
    counted = server_output(server, f"SET time_zone = '+00:00'; {found.digest_sql};")
    assert counted.split()[-1] == found.digest
    for case in cases(flavor):  # each column counts
        server.execute(f"UPDATE {db}.wide SET `{case.column.name}` = NULL WHERE id = 0")
        assert server_output(server, f"SET time_zone = '+00:00'; {found.digest_sql};").split()[-1] != counted
        break


def server_output(server: Server, script: str) -> str:
    import subprocess

    done = subprocess.run(server.client_command(), input=script.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_floating_point_numbers_count_by_their_bits(
    flavor: str, tmp_path: Path, request: pytest.FixtureRequest, unique_name: Any
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db, rng = unique_name("doubles"), random.Random(5)
    raw = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(1500)]
    values = [v for v in raw if v == v and abs(v) != float("inf")]
    values += [rng.choice([1, -1]) * rng.randrange(10**17) / 10 ** rng.randrange(34) for _ in range(1500)]
    values += [0.0, -0.0, 1e15, 1e16, 1e-15, 1e-14, 1e-16, 5e-324, 123456789012345.6]
    archive = Archive(tmp_path / "archive", flavor)
    of = table(db, "wide", column("id"), column("d", "double"), column("f", "float"))
    single = [struct.unpack("<f", struct.pack("<f", v))[0] if abs(v) < 3e38 else None for v in values]
    if flavor == "mariadb":  # it reads -0e0 as 0
        values, single = [v or 0.0 for v in values], [f or 0.0 for f in single]
    archive.window(*(insert(of, id=i, d=v, f=f) for i, (v, f) in enumerate(zip(values, single, strict=True))))
    create = "CREATE TABLE `wide` (id INT PRIMARY KEY, d DOUBLE, f FLOAT)"
    archive.snapshot("s1", archive.mark(0), archive.mark(0), archive.baseline("s1", of, [], create))
    found = restored(archive, tmp_path / "out").tables[0]
    load_with_client(server, tmp_path / "out")
    assert server_output(server, f"{found.digest_sql};").split()[-1] == found.digest


@pytest.mark.sockets
@pytest.mark.parametrize("shape", ["mydumper", "sql"])
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_columns_that_were_redefined_behind_the_last_change_count_as_they_are_then(
    flavor: str, shape: str, tmp_path: Path, request: pytest.FixtureRequest, unique_name: Any
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("redefined")
    archive = Archive(tmp_path / "archive", flavor)
    of = table(
        db,
        "t",
        column("id"),
        column("n", "decimal", precision=6, scale=2),
        column("w", "decimal", precision=30, scale=0),
        column("e", "enum", labels=("a", "b")),
        column("s", "set", labels=("a", "b", "c"), charset="latin1"),
        column("d", "datetime", fsp=0),
        column("c", "time", fsp=0),
        column("l", "varchar", charset="latin1", octets=9),
        column("k", "text", charset="koi8r"),
        column("u", "varchar", charset="utf8mb4", octets=36),
        column("f", "float"),
    )
    create = (
        "CREATE TABLE `t` (`id` int PRIMARY KEY, `n` decimal(6,2), `w` decimal(30,0), "
        "`e` enum('a','b') CHARACTER SET utf8mb4, `s` set('a','b','c'), `d` datetime, "
        "`c` time, `l` varchar(9), `k` text CHARACTER SET koi8r, `u` varchar(9) CHARACTER SET utf8mb4, "
        "`f` float) DEFAULT CHARSET=latin1"
    )
    moment = datetime.fromisoformat("2026-01-02 03:04:05")
    values = {"n": Decimal("-1.50"), "w": Decimal(12), "e": "a", "s": "a,c", "d": moment, "c": -3_600_000_000}
    values |= {"l": "é", "k": "ж", "u": "é", "f": 1.5}
    archive.snapshot(
        "s1", archive.mark(0), archive.mark(0), archive.baseline("s1", of, [({"id": 1, **values}, {})], create)
    )
    archive.window(insert(of, id=2, **values) + insert(of, 1, id=3, s=""))
    for statement in (
        "ALTER TABLE t MODIFY n decimal(12,4), MODIFY w decimal(60,5), MODIFY e enum('b','c','a')",
        "ALTER TABLE t MODIFY s set('c','b','a'), MODIFY d datetime(3), MODIFY c time(6), MODIFY f double",
        "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4",
        "ALTER TABLE t RENAME COLUMN n TO m, MODIFY u varchar(20) NULL, ADD more int DEFAULT 1",
    ):
        archive.window([], ddls=[replace(archive.ddl(archive.seq + 1, statement, [(db, "t")]), default_db=db)])
    (found,) = restored(archive, tmp_path / "out", format=shape).tables
    load_with_client(server, tmp_path / "out")
    assert found.rows == 3
    said = server_output(server, (tmp_path / "out" / "check.mysql").read_text())
    assert "same" in said
    assert "DIFFERENT" not in said
    ((s, e, n, k),) = server.execute(f"SELECT s + 0, e + 0, CONCAT(m, w, d, c), HEX(k) FROM {db}.t WHERE id = 2")
    assert (s, e, n, k) == (5, 3, "-1.500012.000002026-01-02 03:04:05.000-01:00:00.000000", "D0B6")
    server.execute(f"UPDATE {db}.t SET k = 'x' WHERE id = 2")
    assert server_output(server, f"SET time_zone = '+00:00'; {found.digest_sql};").split()[-1] != found.digest


def test_the_order_is_nothing_and_every_copy_counts() -> None:
    one, two = bytes(range(32)), bytes(range(100, 132))

    def digest(*rows: bytes) -> str:
        found = Digest()
        found.add(pa.array(rows, pa.large_binary()))
        return found.text()

    assert digest(one, two) == digest(two, one)
    assert len({digest(), digest(one), digest(one, one), digest(one, two), digest(one, one, one)}) == 5
    halves = Digest()
    halves.add(pa.array([two, one], pa.large_binary()).slice(1))
    halves.add(pa.array([two], pa.binary()))
    assert halves.text() == digest(one, two)
    assert digest(b"\xff" * 32, b"\xff" * 32) == f"2-{2 * (2**64 - 1)}-{2 * (2**64 - 1)}"
