"""An undo script made from captured changes, applied to the source itself, gives back exactly the rows from before."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import workload
from rowback import Rowback

from testservers import Server


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_the_undo_of_accidents_gives_the_rows_back(flavor: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source: Server = request.getfixturevalue(f"fresh_{flavor}")(name="source")
    workload.create(source)
    workload.Load(source, writers=2, transactions=150, seed=11).start().wait()
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    accidents = {
        "accounts": [
            "UPDATE shop.accounts SET balance = 0, note = 'oops', prefs = NULL, born = NULL, kind = 'a', score = 1.1",
            "UPDATE shop.accounts SET id = id + 500000 ORDER BY id DESC LIMIT 7",
            "DELETE FROM shop.accounts WHERE id % 3 = 0",
        ],
        "orders": [
            "UPDATE shop.orders SET total = total * 2, payload = x'00', placed = NULL",
            "DELETE FROM shop.orders",
        ],
        "events": [
            "UPDATE shop.events SET body = CONCAT(body, '!'), took = '00:00:00', season = 2000",
            "DELETE FROM shop.events",
        ],
        "codes": ["UPDATE shop.codes SET code = CONCAT('x', code), label = NULL", "DELETE FROM shop.codes LIMIT 20"],
        workload.KEYED[-1]: ["DELETE FROM shop.`odd ``name``.with/äll`"],
        workload.KEYLESS: ["UPDATE shop.ledger SET b = 'same'", "DELETE FROM shop.ledger WHERE a < 4"],
    }
    for table, statements in accidents.items():
        quoted = table.replace("`", "``")
        before = workload.rows(source, table)
        assert before
        start = position(source)
        with source.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = ''")
            for statement in statements:
                assert cursor.execute(statement) > 0, statement
        assert workload.rows(source, table) != before
        rowback.run("capture", "--until-caught-up")
        gtids = gtids_after(rowback, f"shop.`{quoted}`", start)
        script = rowback.folder / "undo.sql"
        selection = [argument for gtid in gtids for argument in ("--transaction", gtid)]
        rowback.run("undo", "--table", f"`shop`.`{quoted}`", *selection, "--output", str(script), "--force")
        source.load(script.read_text())
        assert workload.rows(source, table) == before, table
        rowback.run("capture", "--until-caught-up")


def position(source: Server) -> tuple[str, int]:
    name = "BINARY LOG" if source.flavor == "mysql" else "MASTER"
    row = source.execute(f"SHOW {name} STATUS")[0]
    return row[0], row[1]


def gtids_after(rowback: Rowback, table: str, start: tuple[str, int]) -> list[str]:
    """The transactions that changed the table since then, as `rowback changes` shows them."""
    shown: list[dict[str, Any]] = rowback.json("changes", "--table", f"`shop`{table.removeprefix('shop')}")["changes"]
    return sorted({c["gtid"] for c in shown if (c["binlog_file"], c["binlog_position"]) > start})


def test_an_undo_that_would_overwrite_later_work_changes_nothing(
    tmp_path: Path, mysql_source: Server, unique_name: Any
) -> None:
    db = unique_name("later")
    mysql_source.load(
        f"CREATE DATABASE {db}; CREATE TABLE {db}.t (id int PRIMARY KEY, v int); INSERT INTO {db}.t VALUES (1, 1), (2, 2);"
    )
    rowback = Rowback(tmp_path / "rowback", mysql_source)
    rowback.run("capture", "--until-caught-up")
    mysql_source.execute(f"UPDATE {db}.t SET v = v + 10")
    rowback.run("capture", "--until-caught-up")
    gtid = rowback.json("changes", "--table", f"{db}.t")["changes"][0]["gtid"]
    mysql_source.execute(f"UPDATE {db}.t SET v = 99 WHERE id = {random.Random(1).choice([1, 2])}")
    rowback.run("capture", "--until-caught-up")
    before = mysql_source.execute(f"SELECT * FROM {db}.t ORDER BY id")
    undo = rowback.run("undo", "--table", f"{db}.t", "--transaction", gtid).stdout
    assert "changed again later" in undo.split("START TRANSACTION")[0].lower(), (
        "the script's head names the later change"
    )
    with pytest.raises(RuntimeError):
        mysql_source.load(undo)
    assert mysql_source.execute(f"SELECT * FROM {db}.t ORDER BY id") == before


def test_a_table_made_during_coverage_and_a_capture_that_lags(
    tmp_path: Path, mysql_source: Server, unique_name: Any
) -> None:
    """The examples of `rowback undo --help`, and what is said of an accident that isn't captured yet."""
    db = unique_name("lag")
    mysql_source.execute(f"CREATE DATABASE {db}")
    rowback = Rowback(tmp_path / "rowback", mysql_source)
    rowback.run("capture", "--until-caught-up")
    mysql_source.load(f"CREATE TABLE {db}.t (id int PRIMARY KEY, v int, g int AS (v * 2) STORED);")
    mysql_source.load(f"INSERT INTO {db}.t (id, v) VALUES (42, 1), (43, 1); ALTER TABLE {db}.t ADD INDEX (v);")
    before = mysql_source.execute(f"SELECT * FROM {db}.t ORDER BY id")
    mysql_source.execute(f"DELETE FROM {db}.t")
    rowback.run("capture", "--until-caught-up")
    deletes = rowback.json("changes", "--table", f"{db}.t", "--op", "delete")
    gtid, known = deletes["changes"][0]["gtid"], deletes["known_to"]
    table = ("--table", f"{db}.t")
    for selection in (("--key", "42", "--limit", "1"), ("--transaction", gtid), ("--op", "delete")):
        done = rowback.json("undo", *table, *selection)
        assert done["changes"] == (1 if "--key" in selection else 2)
        assert done["known_to"] == known
    mysql_source.load(rowback.run("undo", *table, "--op", "delete").stdout)
    assert mysql_source.execute(f"SELECT * FROM {db}.t ORDER BY id") == before
    now = mysql_source.execute("SELECT UTC_TIMESTAMP(6)")[0][0].isoformat()
    mysql_source.execute(f"DELETE FROM {db}.t")
    for verb in ("undo", "changes"):
        done = rowback.run(verb, *table, "--since", now, check=False)
        assert done.returncode == 7
        assert "known up to" in done.stderr
        assert "behind" in done.stderr
        assert "rowback capture --until-caught-up" in done.stderr
        missing = rowback.run(verb, *table, "--transaction", "424242", check=False)
        assert missing.returncode == 7
        assert "transaction seq 424242 is not in the archive" in missing.stderr
    rowback.run("capture", "--until-caught-up")
    assert rowback.json("undo", *table, "--since", now)["changes"] == 2
