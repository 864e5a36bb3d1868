"""`rowback verify`, `index` and `compact` as a user meets them: output, JSON, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from longhistory import LongHistory
from rowback import Rowback

from recovery import cli
from recovery.archive.filestore import FileStore
from testservers import MySQLServer, Server


@pytest.fixture
def history(tmp_path: Path) -> LongHistory:
    """An archive, and a rowback.toml whose server nobody listens for."""
    text = f'[archive]\nroot = "file://{tmp_path}/archive"\n[servers.shop]\nport = 1\n'
    (tmp_path / "rowback.toml").write_text(text)
    made = LongHistory(FileStore(tmp_path / "archive"), 1)
    made.windows(12)
    made.idle()
    return made


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str, status: int = 0) -> str:
        assert cli.run(["--config", str(tmp_path / "rowback.toml"), *arguments]) == status
        return capsys.readouterr().out

    return call


def test_verify(history: LongHistory, run: Any) -> None:
    assert "whole" in run("verify", "--archive")
    report = json.loads(run("verify", "--archive", "--quick", "--format", "json"))
    assert (report["whole"], report["quick"], report["findings"]) == (True, True, [])
    victim = history.state.segments[0].path
    history.store.delete(victim)
    assert f"DAMAGE {victim}: is missing" in run("verify", "--archive", status=5)
    report = json.loads(run("verify", "--archive", "--format", "json", status=5))
    assert report["findings"] == [{"object": victim, "problem": "is missing"}]
    run("verify", status=2)


def test_index(history: LongHistory, run: Any) -> None:
    assert "none: `rowback index rebuild`" in run("index", "show")
    assert "from the beginning on" in run("index", "rebuild")
    assert "whole" in run("index", "show")
    shown = json.loads(run("index", "show", "--format", "json"))
    assert (shown["behind"], shown["items"]["segments"]) == (0, len(history.state.segments))
    assert json.loads(run("index", "rebuild", "--format", "json"))["version"] == history.state.version


def test_compact(history: LongHistory, run: Any) -> None:
    plan = json.loads(run("compact", "--dry-run", "--format", "json"))
    assert plan["merges"][0]["reason"].endswith("of one hour")
    assert {left["label"] for left in plan["left"]} == {"shop.bag"}
    assert "objects would become" in run("compact", "--dry-run")
    assert history.log.read() == history.state
    assert "objects became" in run("compact")
    assert "nothing to compact" in run("compact")
    assert json.loads(run("compact", "--format", "json"))["versions"] == []
    assert "whole" in run("verify", "--archive")


@pytest.mark.parametrize("verb", [("verify", "--archive"), ("index", "show"), ("index", "rebuild"), ("compact",)])
def test_without_an_archive(tmp_path: Path, run: Any, verb: tuple[str, ...]) -> None:
    text = f'[archive]\nroot = "file://{tmp_path}/nothing"\n[servers.shop]\nport = 1\n'
    (tmp_path / "rowback.toml").write_text(text)
    run(*verb, status=5)


def test_a_captured_archive_is_proved(mysql_source: MySQLServer, tmp_path: Path, mydumper: None) -> None:
    """What capture and snapshot write on a real server stands up to every check."""
    rowback = Rowback(tmp_path, mysql_source, extra='include = ["upkeep.*"]')
    mysql_source.execute("CREATE DATABASE upkeep")
    mysql_source.execute("CREATE TABLE upkeep.t (id INT PRIMARY KEY, v VARCHAR(20))")
    rowback.run("capture", "--until-caught-up")
    for number in range(30):
        mysql_source.execute(f"INSERT INTO upkeep.t VALUES ({number}, 'x'), ({number + 100}, 'ä')")
        mysql_source.execute(f"UPDATE upkeep.t SET v = 'y', id = id + 1000 WHERE id = {number}")
    rowback.run("capture", "--until-caught-up")
    rowback.json("snapshot")
    mysql_source.execute("DELETE FROM upkeep.t WHERE id > 1000")
    rowback.run("capture", "--until-caught-up")
    report = rowback.json("verify", "--archive")
    assert report["findings"] == []
    assert report["row_changes"] == 30 * 3 + 29
    assert report["gtids"] == report["transactions"] == 30 * 2 + 1
    assert report["orphans"]["objects"] == 0


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_xa_over_commits_is_proved(request: pytest.FixtureRequest, tmp_path: Path, flavor: str) -> None:
    """Pending rows are checked while they are pending, and counted once when they are committed or void."""
    server: Server = request.getfixturevalue(f"{flavor}_source")
    rowback = Rowback(tmp_path, server, extra='include = ["upkeepxa.*"]')
    server.execute("CREATE DATABASE upkeepxa")
    server.execute("CREATE TABLE upkeepxa.t (id INT PRIMARY KEY, v VARCHAR(20))")
    rowback.run("capture", "--until-caught-up")
    for number, end in enumerate(("COMMIT", "ROLLBACK")):
        connection = server.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"XA START 'x{number}'")
            cursor.execute(f"INSERT INTO upkeepxa.t VALUES ({number}, 'a'), ({number + 10}, 'b')")
            cursor.execute(f"XA END 'x{number}'")
            cursor.execute(f"XA PREPARE 'x{number}'")
        connection.close()
        server.execute(f"INSERT INTO upkeepxa.t VALUES ({number + 20}, 'c')")
        rowback.run("capture", "--until-caught-up")
        report = rowback.json("verify", "--archive")
        assert (report["findings"], report["orphans"]["objects"]) == ([], 0)
        server.execute(f"XA {end} 'x{number}'")
        rowback.run("capture", "--until-caught-up")
        report = rowback.json("verify", "--archive")
        assert (report["findings"], report["orphans"]["objects"]) == ([], 0)
        assert report["removed"]["objects"] == number + 1
    assert report["row_changes"] == 2 + 2
