"""Dry runs: which rows they look at, and what they do about damage. What they refuse stands in test_refusals.py,
test_derive.py and test_except_demands.py, beside what the restore refuses.
"""

from __future__ import annotations

import errno
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handmade import Archive, column, insert, table

from recovery.errors import ArchiveDamaged, NoSpace, NotComputable
from recovery.output.options import OutputOptions
from recovery.output.report import RestoreProgress
from recovery.restore import RestoreRequest, restore

T = table("shop", "orders", column("id"), column("v", "varchar", octets=80))
CREATE = "CREATE TABLE `orders` (`id` int, `v` varchar(20), PRIMARY KEY (`id`))"
NAMED = (("shop", "orders"),)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Two snapshots, a row in between and one behind them."""
    archive = Archive(tmp_path / "archive")
    archive.snapshot("s0", archive.mark(0), archive.mark(0), baseline(archive, "s0", 1))
    archive.window(insert(T, id=2, v="b"))
    archive.snapshot("s1", archive.mark(1), archive.mark(1), baseline(archive, "s1", 2))
    archive.window(insert(T, id=3, v="c"))
    return archive


def baseline(archive: Archive, name: str, rows: int) -> Any:
    return archive.baseline(name, T, [({"id": n, "v": "abc"[n - 1]}, {}) for n in range(1, rows + 1)], CREATE)


def asked(archive: Archive) -> None:
    archive.window([], ddls=[archive.ddl(archive.seq + 1, "ALTER TABLE orders MODIFY v varchar(20) NOT NULL", NAMED)])


def bend(archive: Archive, snapshot_id: str) -> str:
    (snapshot,) = (s for s in archive.state.snapshots if s.snapshot_id == snapshot_id)
    (held,) = snapshot.baselines[0].objects
    path = archive.store.local_path(held.path)
    assert path is not None
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    return held.path


def dry(archive: Archive, notes: list[str]) -> Any:
    def progress(now: RestoreProgress) -> None:
        if now.note:
            notes.append(now.note)

    return restore(archive.store, archive.state, RestoreRequest("latest", dry_run=True), progress)


def test_rows_that_decide_nothing_are_not_read(archive: Archive) -> None:
    bend(archive, "s1")
    notes: list[str] = []
    assert dry(archive, notes).plan.tables[0].snapshot_id == "s1"
    assert notes == []


def test_a_damaged_snapshot_is_passed_over_as_the_restore_does(archive: Archive, tmp_path: Path) -> None:
    asked(archive)
    bend(archive, "s1")
    notes: list[str] = []
    planned = dry(archive, notes).plan
    assert planned.tables[0].snapshot_id == "s0"
    assert any("shop.orders" in text for text in notes)
    done = restore(archive.store, archive.state, RestoreRequest("latest", output=tmp_path / "out"))
    assert done.rows == 3
    assert replace(done.plan, target="") == replace(planned, target="")


def test_a_full_scratch_disk_is_said_to_be_one(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(archive)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("recovery.rehearsal.Merger", full)
    with pytest.raises(NoSpace, match="no space left in"):
        dry(archive, [])


@pytest.mark.parametrize(("data_format", "refused"), [("mydumper", True), ("sql", True), ("parquet", False)])
def test_a_statement_that_no_loader_reads_whole(
    archive: Archive, tmp_path: Path, data_format: str, *, refused: bool
) -> None:
    statement = "ALTER TABLE orders COMMENT 'a;\nb'"
    archive.window([], ddls=[archive.ddl(archive.seq + 1, statement, NAMED)])
    options = OutputOptions(data_format)
    for request in (
        RestoreRequest("latest", dry_run=True, options=options),
        RestoreRequest("latest", output=tmp_path / "out", options=options),
    ):
        with pytest.raises(NotComputable, match="ends in a semicolon") if refused else nullcontext():
            restore(archive.store, archive.state, request)


def test_damage_that_no_snapshot_avoids_is_named(archive: Archive) -> None:
    asked(archive)
    bend(archive, "s1")
    named = bend(archive, "s0")
    with pytest.raises(ArchiveDamaged, match=named):
        dry(archive, [])
