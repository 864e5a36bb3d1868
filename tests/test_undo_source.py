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
