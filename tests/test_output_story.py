"""A restore as SQL of hand-made archives: what the plain client makes of it on a real server is what the archive's author
wrote. A snapshot without a lock holds rows of any moment between its marks: the story must begin at HIGH.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import Archive, column, delete, insert, table, update
from oracle import load_with_client

from recovery.errors import NotComputable
from recovery.output.options import OutputOptions
from recovery.restore import RestoreRequest, restore
from testservers import Server


def told(archive: Archive, output: Path, to: str = "latest", **options: Any) -> Path:
    request = RestoreRequest(to, output=output, options=OutputOptions("sql", **options))
    restore(archive.store, archive.state, request)
    return output


@pytest.mark.sockets
def test_a_snapshot_without_a_lock_begins_at_its_end(tmp_path: Path, mysql_target: Server, unique_name: Any) -> None:
    db = unique_name("story")
    of = table(db, "t", column("id"), column("v", "varchar"))
    other = table(db, "o", column("id"), column("v", "varchar"))
    archive = Archive(tmp_path / "archive")
    archive.window(insert(of, id=1, v="a") + insert(of, 1, id=2, v="b"))
    changed = update(of, {"id": 1, "v": "a"}, {"id": 1, "v": "A"})
    archive.window(changed + insert(other, 1, id=7, v="o"), delete(of, id=2, v="b"))
    # Row 1 was read late, row 2 early: before its DELETE.
    create = "CREATE TABLE `{}` (id INT PRIMARY KEY, v VARCHAR(99) CHARACTER SET utf8mb4)"
    early = [({"id": 1, "v": "A"}, {}), ({"id": 2, "v": "b"}, {})]
    tables = [
        archive.baseline("s", of, early, create.format("t")),
        archive.baseline("s", other, [], create.format("o")),
    ]
    archive.snapshot("s", archive.mark(1), archive.mark(3), *tables, mode="none")
    moved = update(of, {"id": 1, "v": "A"}, {"id": 9, "v": None}, 1)
    archive.window(
        insert(of, id=2, v="it's \\ `2`") + moved + delete(other, 2, id=7, v="o"),
        update(of, {"id": 9, "v": None}, {"id": 9, "v": "Ä"}) + insert(other, 1, id=7, v="again"),
    )
    output = told(archive, tmp_path / "out", file_bytes=1)
    assert (output / f"{db}.t.00000.sql").read_text().endswith("\n(1,'A');\n")
    assert len(list(output.glob("changes.*.sql"))) == 2
    text = (output / "changes.00000.sql").read_text()
    assert "-- transaction seq 4, GTID aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb:4, committed 2026-01-01 00:00:04" in text
    order = ["INSERT INTO", "UPDATE", "DELETE FROM", "COMMIT"]
    assert sorted(order, key=text.index) == order
    load_with_client(mysql_target, output)
    assert mysql_target.execute(f"SELECT * FROM {db}.t ORDER BY id") == ((2, "it's \\ `2`"), (9, "Ä"))
    assert mysql_target.execute(f"SELECT * FROM {db}.o") == ((7, "again"),)
    # At HIGH itself there is nothing to tell.
    same = told(archive, tmp_path / "at-high", f"{archive.gtid(3)}")
    assert not list(same.glob("changes.*"))


def test_history_can_t_be_told(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive", "mariadb")
    of = table("shop", "t", column("id"), column("row_end", "timestamp", fsp=6), key=("id", "row_end"))
    create = "CREATE TABLE `t` (`id` int) WITH SYSTEM VERSIONING"
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", of, [], create))
    with pytest.raises(NotComputable, match="can't be told as SQL statements: it is system-versioned"):
        told(archive, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
