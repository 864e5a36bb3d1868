"""Restores from archives built by hand: what lies in the directory, and that nothing does when something is wrong."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
from handmade import ITEMS, ORDERS, UUID, Archive, column, delete, insert, table, update

from recovery import restore as restoring
from recovery.archive.actions import DataObject, Segment
from recovery.archive.log import Log
from recovery.errors import ArchiveDamaged, ConfigError, DdlInRange, RowbackError, StoreFull
from recovery.output.report import RestoreProgress
from recovery.restore import RestoreRequest, RestoreResult, restore
from recovery.schema import Table

KEYLESS = table("shop", "bag", column("a"), column("b", "varchar"), key=())
CREATE = "CREATE TABLE `orders` (`id` int)"


def rows_in(directory: Path, stem: str = "shop.orders") -> list[str]:
    lines = [line for path in sorted(directory.glob(f"{stem}.*.sql")) for line in path.read_text().splitlines()]
    return [line.rstrip(",;") for line in lines if line.startswith("(")]


def run(archive: Archive, output: Path, to: str = "latest", *tables: str, **given: Any) -> RestoreResult:
    return restore(archive.store, archive.state, RestoreRequest(to, tables, output, **given))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Orders 1-3 at transaction 0; then an update, a delete, a key change and an insert, one transaction each; a snapshot
    without a lock over transactions 1-2, whose rows were read at 1."""
    archive = Archive(tmp_path / "archive")
    archive.window(
        update(ORDERS, {"id": 1, "v": "a"}, {"id": 1, "v": "A"}),
        delete(ORDERS, id=2, v="b"),
    )
    archive.window(
        update(ORDERS, {"id": 3, "v": "c"}, {"id": 9, "v": "c"}),
        insert(ORDERS, id=2, v="new") + insert(ITEMS, 1, id=1, n=1),
    )
    start = [({"id": 1, "v": "a"}, {}), ({"id": 2, "v": "b"}, {}), ({"id": 3, "v": "c"}, {})]
    archive.snapshot("s0", archive.mark(0), archive.mark(0), archive.baseline("s0", ORDERS, start, CREATE, files=2))
    read = [({"id": 1, "v": "A"}, {}), ({"id": 2, "v": "b"}, {}), ({"id": 3, "v": "c"}, {})]
    archive.snapshot("s1", archive.mark(0), archive.mark(2), archive.baseline("s1", ORDERS, read, CREATE))
    return archive


@pytest.mark.parametrize(
    ("seq", "rows"),
    [
        (1, ["(1,'A')", "(2,'b')", "(3,'c')"]),
        (2, ["(1,'A')", "(3,'c')"]),
        (3, ["(1,'A')", "(9,'c')"]),
        (4, ["(1,'A')", "(2,'new')", "(9,'c')"]),
    ],
)
def test_each_transaction(archive: Archive, tmp_path: Path, seq: int, rows: list[str]) -> None:
    result = run(archive, tmp_path / "out", f"{UUID}:{seq}")
    assert rows_in(tmp_path / "out") == rows
    assert result.rows == len(rows)
    assert result.plan.tables[0].snapshot_id == ("s0" if seq < 2 else "s1")


def test_two_runs_write_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(archive, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_dry_run_writes_nothing_and_plans_the_same(archive: Archive, tmp_path: Path) -> None:
    dry = run(archive, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    assert dry.output is None
    assert dry.plan == run(archive, tmp_path / "out").plan


def test_an_empty_directory_is_used_and_any_other_refused(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(archive, tmp_path / "empty").output == tmp_path / "empty"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file", "empty"):
        with pytest.raises(ConfigError, match="not an empty directory"):
            run(archive, tmp_path / name)
    (tmp_path / "new.partial").mkdir()
    with pytest.raises(ConfigError, match="is in the way"):
        run(archive, tmp_path / "new")


def objects(archive: Archive) -> list[Segment | DataObject]:
    oldest = archive.state.snapshots[0]
    return [archive.state.segments[0], *(o for b in oldest.baselines for o in b.objects)]


@pytest.mark.parametrize("harm", ["missing", "flipped", "truncated", "longer"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_object_is_named_and_nothing_is_written(
    archive: Archive, tmp_path: Path, which: int, harm: str
) -> None:
    victim = objects(archive)[which].path
    path = tmp_path / "archive" / victim
    body = path.read_bytes()
    path.chmod(0o644)
    if harm == "missing":
        path.unlink()
    elif harm == "flipped":
        path.write_bytes(body[:50] + bytes([body[50] ^ 1]) + body[51:])
    else:
        path.write_bytes(body[:-3] if harm == "truncated" else body + b"x")
    (tmp_path / "scratch").mkdir()
    # The older snapshot serves this target alone.
    with pytest.raises(ArchiveDamaged) as caught:
        run(archive, tmp_path / "out", f"{UUID}:1", scratch_dir=tmp_path / "scratch")
    assert victim in caught.value.message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive", "scratch"]
    assert not list((tmp_path / "scratch").iterdir())


def test_a_full_disk_leaves_nothing(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("recovery.output.files.Sink.put", full)
    with pytest.raises(StoreFull, match="no space left while writing"):
        run(archive, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive"]


def test_space_is_checked_before_anything_is_copied(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(restoring.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreFull, match="10 bytes free"):
        run(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ddl_refuses_before_anything_is_written(archive: Archive, tmp_path: Path) -> None:
    archive.window(insert(ORDERS, id=50, v="x"), ddls=[archive.ddl(5, "TRUNCATE orders", [("shop", "orders")])])
    with pytest.raises(DdlInRange, match="TRUNCATE orders"):
        run(archive, tmp_path / "out")
    assert run(archive, tmp_path / "out", f"{UUID}:4").rows == 3


def test_scratch_that_can_t_be_used(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scratch"):
        run(archive, tmp_path / "out", scratch_dir=tmp_path / "nowhere")
    assert not (tmp_path / "out.partial").exists()


def test_progress_names_each_table(archive: Archive, tmp_path: Path) -> None:
    seen: list[RestoreProgress] = []
    restore(archive.store, archive.state, RestoreRequest("latest", output=tmp_path / "out"), seen.append)
    assert seen[0] == RestoreProgress("shop.orders", 0, 1)
    assert (seen[-1].table, seen[-1].tables_done, seen[-1].rows, seen[-1].done) == ("shop.orders", 1, 3, True)


def test_a_keyless_table(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    start = [({"a": 1, "b": "x"}, {}), ({"a": 1, "b": "x"}, {}), ({"a": None, "b": None}, {})]
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", KEYLESS, start, CREATE))
    archive.window(
        delete(KEYLESS, a=1, b="x") + insert(KEYLESS, 1, a=2, b="y"),
        update(KEYLESS, {"a": None, "b": None}, {"a": 2, "b": "y"}),
    )
    run(archive, tmp_path / "out")
    assert rows_in(tmp_path / "out", "shop.bag") == ["(1,'x')", "(2,'y')", "(2,'y')"]


def test_random_histories_at_every_transaction(tmp_path: Path) -> None:
    """Two tables, several windows, snapshots in both modes, every cut: what is restored is what was there."""
    rng = random.Random(7)
    archive = Archive(tmp_path / "archive")
    tables = [ORDERS, ITEMS]
    states: list[dict[Table, dict[int, Any]]] = [{t: {} for t in tables}]

    def change(now: dict[Table, dict[int, Any]], ordinal: int) -> list[Any]:
        of = rng.choice(tables)
        name = of.columns[1].name
        rows, key, value = (
            now[of],
            rng.randrange(30),
            rng.choice(["x", "ü'", None]) if of is ORDERS else rng.randrange(9),
        )
        if key not in rows:
            rows[key] = value
            return insert(of, ordinal, **{"id": key, name: value})
        if rng.random() < 0.4:
            return delete(of, ordinal, **{"id": key, name: rows.pop(key)})
        new = rng.randrange(30) if rng.random() < 0.3 else key
        if new != key and new in rows:
            return []
        old = rows.pop(key)
        rows[new] = value
        return update(of, {"id": key, name: old}, {"id": new, name: value}, ordinal)

    for window in range(6):
        held = []
        for _ in range(rng.randrange(1, 8)):
            now = {t: dict(rows) for t, rows in states[-1].items()}
            held.append([image for n in range(rng.randrange(4)) for image in change(now, n)])
            states.append(now)
        archive.window(*held)
        if window in (1, 3):
            low = archive.seq - 2 if window == 3 else archive.seq
            read = states[archive.seq - 1] if window == 3 else states[archive.seq]
            name = f"s{window}"
            baselines = [
                archive.baseline(name, t, [({"id": k, t.columns[1].name: v}, {}) for k, v in read[t].items()], CREATE)
                for t in tables
            ]
            archive.snapshot(name, archive.mark(low), archive.mark(archive.seq), *baselines)
    first = archive.state.snapshots[0]
    for seq in range(int(first.high.gtid_set.rpartition("-")[2]), archive.seq + 1):
        output = tmp_path / f"out{seq}"
        result = run(archive, output, f"{UUID}:{seq}")
        assert result.rows == sum(len(rows) for rows in states[seq].values())
        for of in tables:
            found = [line.partition(",")[0].strip("(") for line in rows_in(output, of.label)]
            assert found == [str(k) for k in sorted(states[seq][of])]


def test_every_error_is_of_the_tree(archive: Archive, tmp_path: Path) -> None:
    for request in (
        RestoreRequest("nonsense", output=tmp_path / "o"),
        RestoreRequest("latest"),
        RestoreRequest("latest", ("no.x",), tmp_path / "o"),
    ):
        with pytest.raises(RowbackError):
            restore(archive.store, archive.state, request)


def damage(path: Path, how: str) -> None:
    body = path.read_bytes()
    if how == "deleted":
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(body[:-7] if how == "cut" else body[:40] + bytes([body[40] ^ 1]) + body[41:])


@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
def test_each_object_damaged_in_turn_gives_the_right_rows_or_an_error_that_names_it(
    archive: Archive, tmp_path: Path, how: str
) -> None:
    root = tmp_path / "archive"
    whole = run(archive, tmp_path / "whole", "latest", "shop.orders")
    right = rows_in(tmp_path / "whole")
    assert whole.plan.tables[0].snapshot_id == "s1"
    avoided, named = [], []
    # The newest log object is the one that nothing behind it vouches for: without it the archive is the one before it.
    newest = max(root.rglob("log/*.json"))
    objects = sorted(p for p in root.rglob("*") if p.is_file() and "index" not in p.parts and p != newest)
    for number, path in enumerate(objects):
        kept = path.read_bytes()
        damage(path, how)
        output = tmp_path / f"out-{number}"
        try:
            state = Log(archive.store, archive.layout).read()
            result = restore(archive.store, state, RestoreRequest("latest", ("shop.orders",), output))
            assert rows_in(output) == right, path
            if result.plan.tables[0].snapshot_id == "s0":
                assert any("passed over" in w and path.name in w for w in result.plan.warnings)
                avoided.append(path)
        except RowbackError as error:
            named.append(path)
            text = f"{error.message} {error.hint}"
        if path in named:
            # A bent log object that can be read is found by the one behind it, which can't tell which of the two is bent.
            assert path.name in text or f"version {path.stem.lstrip('0')}:" in text, path
            assert not output.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(kept)
    assert len(avoided) == 1, "the baseline of the newer snapshot"
    assert len(named) >= 5, "the log's objects, transactions and change segments"
