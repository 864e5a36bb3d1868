"""Columns that were added with the current time as their default: what the rows that were there got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle import load_with_client
from rowback import Rowback

from recovery.alter import AddColumn, parse_alter
from recovery.archive.actions import Ddl, Session
from recovery.moments import settled
from testservers import Server

AT_US = 1_764_300_804_593_210  # 2025-11-28 03:33:24.59321 UTC
SESSION = Session(0, "utf8mb4", 45, 45, "+03:30", None, AT_US)


def moment(definition: str, session: Session | None = SESSION) -> str | None:
    """What a column that is added so gives the rows that are there; None if that isn't known."""
    statement = f"ALTER TABLE t ADD {definition}"
    ddl = Ddl(1, None, "binlog.000001", 4, 0, "d", statement, "ALTER TABLE", (("d", "t"),), session)
    (added,) = parse_alter(statement, "d")
    assert isinstance(added, AddColumn)
    default = settled(added.spec, ddl).default
    return default.text if default is not None and default.moment else None


def test_moments() -> None:
    whole = replace(SESSION, started_at_us=AT_US // 1_000_000 * 1_000_000)
    utc = replace(SESSION, time_zone="SYSTEM", system_zone="+00:00")
    assert moment("c datetime DEFAULT CURRENT_TIMESTAMP") == "2025-11-28 07:03:24"
    assert moment("c datetime NOT NULL DEFAULT now() ON UPDATE now()") == "2025-11-28 07:03:24"
    assert moment("c datetime(2) DEFAULT LOCALTIME(2)") == "2025-11-28 07:03:24.59"
    assert moment("c datetime(6) DEFAULT CURRENT_TIMESTAMP(6)", utc) == "2025-11-28 03:33:24.593210"
    assert moment("c datetime DEFAULT now()", replace(SESSION, time_zone="-05:00")) == "2025-11-27 22:33:24"
    assert moment("c timestamp DEFAULT LOCALTIMESTAMP()") == "2025-11-28 03:33:24+00"
    assert moment("c timestamp DEFAULT now()", replace(whole, time_zone=None)) == "2025-11-28 03:33:24+00"
    assert moment("c timestamp(3) DEFAULT now(3)", whole) is None  # the event may not have the fraction
    for zone in (None, "SYSTEM", "Europe/Paris", "UTC"):
        assert moment("c datetime DEFAULT now()", replace(SESSION, time_zone=zone)) is None
    assert moment("c datetime DEFAULT now()", None) is None
    assert moment("c timestamp DEFAULT now()", None) is None
    assert moment("c timestamp DEFAULT '2026-01-01'") == "2025-12-31 20:30:00+00"
    assert moment("c timestamp(3) NULL DEFAULT '2026-01-01 00:00:00.120'", utc) == "2026-01-01 00:00:00.120+00"
    for literal in (
        "0000-00-00 00:00:00",
        "1970-01-01 03:30:00",
        "2026-02-30",
        "2026-01-01 00:00:00.5",
        "26-01-01",
        "2026-1-1",
    ):
        assert moment(f"c timestamp DEFAULT '{literal}'") is None, literal
    for zone in (None, "SYSTEM", "Europe/Paris"):
        assert moment("c timestamp DEFAULT '2026-01-01'", replace(SESSION, time_zone=zone)) is None
    for other in (
        "c datetime DEFAULT now(3)",
        "c timestamp(6) DEFAULT CURRENT_TIMESTAMP",
        "c datetime DEFAULT (now())",
        "c datetime DEFAULT '2026-01-01'",
        "c datetime DEFAULT (now() + INTERVAL 1 DAY)",
        "c date DEFAULT now()",
        "c varchar(30) DEFAULT now()",
        "c datetime DEFAULT CURDATE()",
        "c datetime",
    ):
        assert moment(other) is None, other


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_on_a_server_whose_system_has_another_time_zone(
    flavor: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    fresh: Callable[..., Any] = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="source")
    monkeypatch.delenv("TZ")
    assert source.execute("SELECT @@system_time_zone")[0][0] in ("EST", "EDT")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load(
        "CREATE DATABASE there; USE there; CREATE TABLE a (id INT PRIMARY KEY);"
        "CREATE TABLE b LIKE a; CREATE TABLE c LIKE a;"
        "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1); INSERT INTO c VALUES (1);"
    )
    rowback.catch_up()
    rowback.run("snapshot")
    source.load("USE there; ALTER TABLE a ADD d DATETIME DEFAULT CURRENT_TIMESTAMP")
    source.load("USE there; ALTER TABLE b ADD t TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6)")
    source.load("USE there; SET time_zone = '-03:00'; ALTER TABLE c ADD d DATETIME(1) DEFAULT CURRENT_TIMESTAMP(1)")
    rowback.catch_up()
    out = tmp_path / "out"
    refused = rowback.run("restore", "--to", "latest", "--tables", "there.a", "--output", str(out), check=False)
    assert refused.returncode == 7
    assert "the default of column `d` is a time that the binlog doesn't have" in refused.stderr
    rowback.run("restore", "--to", "latest", "--exclude", "there.a", "--output", str(out))
    load_with_client(target, out)
    for look in ("SELECT id, t + 0 FROM there.b", "SELECT id, d + 0 FROM there.c"):
        with source.connect() as there, target.connect() as here:
            found = []
            for connection in (there, here):
                with connection.cursor() as cursor:
                    cursor.execute("SET time_zone = '+00:00'")
                    cursor.execute(look)
                    found.append(cursor.fetchall())
            assert found[0] == found[1]
            assert len(found[0]) == 1
