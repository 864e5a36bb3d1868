"""A real archive with each of its objects damaged in turn: a restore gives the right rows, or names the object.

As captured, as it is later (compacted, its log trimmed behind an index), and with a synthetic snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from rowback import Rowback
from test_restore_synthetic import rows_in

from recovery.archive import sweeping
from recovery.archive.compaction import Policy
from recovery.archive.compactor import Compactor
from recovery.archive.rebuild import rebuild
from recovery.archive.sweeper import Sweeper
from recovery.context import Context, open_context
from recovery.errors import RowbackError
from recovery.restore import RestoreRequest, restore
from testservers import MySQLServer


def harms(body: bytes) -> list[bytes | None]:
    """Each is what the object becomes; None: it is gone."""
    flips = [body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :] for at in (0, len(body) // 2, len(body) - 9)]
    return [None, b"", body[: len(body) // 2], body[:-1], *flips]


@dataclass
class Life:
    """An archive and what the server held at some of its transactions. right: GTID -> rows as a dump prints them."""

    rowback: Rowback
    db: str
    right: dict[str, list[str]]

    @property
    def root(self) -> Path:
        return Path(self.rowback.root.removeprefix("file://"))

    def context(self) -> Context:
        return open_context(self.rowback.config)

    def objects(self) -> list[Path]:
        """All but mydumper's own files, which restores don't read."""
        return sorted(
            p for p in self.root.rglob("*") if p.is_file() and "backups" not in p.relative_to(self.root).parts
        )


@pytest.fixture
def life(
    mysql_source: MySQLServer, tmp_path: Path, unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Life:
    db = unique_name("damage")
    lived = Life(Rowback(tmp_path / "rowback", mysql_source, extra=f'include = ["{db}.*"]'), db, {})
    monkeypatch.setenv("ROWBACK_TEST_PASSWORD", mysql_source.password)
    with mysql_source.connect(autocommit=True) as connection, connection.cursor() as cursor:

        def look() -> None:
            cursor.execute("SELECT @@global.gtid_executed")
            newest = str(cursor.fetchone()[0]).replace("\n", "").rsplit(",", 1)[-1]
            source, numbers = newest.split(":", 1)
            cursor.execute(f"SELECT id, v FROM `{db}`.t ORDER BY id")
            gtid = f"{source}:{numbers.rsplit('-', 1)[-1]}"
            lived.right[gtid] = [f"({row[0]},'{row[1]}')" for row in cursor.fetchall()]

        cursor.execute(f"CREATE DATABASE `{db}`")
        cursor.execute(f"CREATE TABLE `{db}`.t (id INT PRIMARY KEY, v VARCHAR(9))")
        cursor.execute(f"INSERT INTO `{db}`.t VALUES (1,'a'),(2,'b'),(3,'c')")
        lived.rowback.catch_up()
        for n in (1, 2):
            lived.rowback.run("snapshot", "--databases", db)
            cursor.execute(f"UPDATE `{db}`.t SET v = 'u{n}' WHERE id = {n}")
            lived.rowback.catch_up()
            look()
            cursor.execute(f"INSERT INTO `{db}`.t VALUES ({n + 3},'n{n}')")
            lived.rowback.catch_up()
        look()
    return lived


def settle(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """What months make of it: hours compacted (as if they were over already), what that replaced swept, the log trimmed."""
    monkeypatch.setattr(sweeping, "KEEP_VERSIONS", 1)
    monkeypatch.setattr(sweeping, "KEEP_S", -1e6)  # younger than a sweep's own grace
    context = life.context()
    at_once = timedelta(days=-2)  # whatever was written counts as old
    rebuild(context.log, "test")
    done = Compactor(context.store, context.layout, context.log, Policy(settled_s=-3600)).run(context.log.read())
    assert done.replaced
    rebuild(context.log, "test")
    assert Sweeper(context.store, context.layout, context.log, at_once).run().objects
    rebuild(context.log, "test")
    assert Sweeper(context.store, context.layout, context.log, at_once).run().trimmed


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("stage", ["captured", "settled", "rolled forward"])
def test_no_damaged_object_leads_to_a_wrong_row(
    life: Life, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stage == "settled":
        settle(life, monkeypatch)
    if stage == "rolled forward":
        life.rowback.run("roll-forward", "--to", min(life.right, key=lambda gtid: int(gtid.rsplit(":")[-1])))
    objects = life.objects()
    newest = max(p for p in objects if p.parent.name == "log")
    ends: dict[str, Counter[str]] = {"right": Counter(), "refused": Counter()}
    unnamed = []
    for path in objects:
        whole, key = path.read_bytes(), path.relative_to(life.root).as_posix()
        kind = key.split("/")[2]
        for number, harm in enumerate(harms(whole)):
            path.unlink()
            if harm is not None:
                path.write_bytes(harm)
            for target, right in life.right.items():
                out = tmp_path / f"{objects.index(path)}-{number}-{list(life.right).index(target)}"
                try:
                    context = life.context()
                    restore(context.store, context.log.read(), RestoreRequest(target, output=out))
                    assert rows_in(out, f"{life.db}.t") == right, (key, number, target)
                    ends["right"][kind] += 1
                except RowbackError as error:
                    # Nothing behind the newest log object vouches for it: without it the archive ends with the one before.
                    named = key in error.message or f"version {path.stem.lstrip('0')}:" in error.message
                    unnamed += [] if named or path == newest else [(key, number, target, error.message)]
                    ends["refused"][kind] += 1
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
    print(f"\n{stage}: {len(objects)} objects, right {dict(ends['right'])}, refused {dict(ends['refused'])}")
    assert not unnamed
    assert ends["right"]
    assert ends["refused"]
