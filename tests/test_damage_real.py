"""A real archive with each of its objects damaged in turn: a restore gives the right rows, or names the object.

Both snapshots are real ones, and nothing is compacted: its hour isn't over.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rowback import Rowback
from test_restore_synthetic import rows_in

from recovery.context import open_context
from recovery.errors import RowbackError
from recovery.restore import RestoreRequest, restore
from testservers import MySQLServer


def harms(body: bytes) -> list[bytes | None]:
    """Each is what the object becomes; None: it is gone."""
    flips = [body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :] for at in (0, len(body) // 2, len(body) - 9)]
    return [None, b"", body[: len(body) // 2], body[:-1], *flips]


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_no_damaged_object_leads_to_a_wrong_row(
    mysql_source: MySQLServer, tmp_path: Path, unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = unique_name("damage")
    rowback = Rowback(tmp_path / "rowback", mysql_source, extra=f'include = ["{db}.*"]')
    monkeypatch.setenv("ROWBACK_TEST_PASSWORD", mysql_source.password)
    with mysql_source.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{db}`")
        cursor.execute(f"CREATE TABLE `{db}`.t (id INT PRIMARY KEY, v VARCHAR(9))")
        cursor.execute(f"INSERT INTO `{db}`.t VALUES (1,'a'),(2,'b'),(3,'c')")
        rowback.catch_up()
        for n in (1, 2):
            rowback.run("snapshot", "--databases", db)
            cursor.execute(f"UPDATE `{db}`.t SET v = 'u{n}' WHERE id = {n}")
            cursor.execute(f"INSERT INTO `{db}`.t VALUES ({n + 3},'n{n}')")
            rowback.catch_up()
        cursor.execute(f"SELECT id, v FROM `{db}`.t ORDER BY id")
        right = [f"({row[0]},'{row[1]}')" for row in cursor.fetchall()]
    root = Path(rowback.root.removeprefix("file://"))
    victims = [p for p in sorted(root.rglob("*.parquet")) if "/index/" not in str(p)]
    assert len(victims) >= 4
    avoided, refused, unnamed = 0, 0, []
    for path in victims:
        whole, key = path.read_bytes(), path.relative_to(root).as_posix()
        for number, harm in enumerate(harms(whole)):
            path.unlink()
            if harm is not None:
                path.write_bytes(harm)
            context, out = open_context(rowback.config), tmp_path / f"{victims.index(path)}-{number}"
            try:
                restore(context.store, context.log.read(), RestoreRequest("latest", output=out))
                assert rows_in(out, f"{db}.t") == right, (key, number)
                avoided += 1
            except RowbackError as error:
                unnamed += [] if key in error.message else [(key, number, error.message)]
                refused += 1
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
    assert not unnamed
    assert avoided
    assert refused
