"""Compaction: the archive says the same before and after it, to every reader, whatever goes wrong on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from longhistory import BAG, HOUR_US, LAYOUT, ORDERS, PARTS, START_US, TABLES, LongHistory
from rowback import Rowback
from test_restore_synthetic import rows_in

from recovery.archive import compactor as compacting
from recovery.archive.actions import Cascade, Failover, Mark, Remove, SchemaSeen, Segment, Snapshot, Transactions
from recovery.archive.compaction import CompactionPlan, Policy, plan_compaction
from recovery.archive.compactor import Compacted, Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.replacing import InvariantError
from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState, Commit, apply
from recovery.archive.store import Store, open_store
from recovery.changes import ChangeQuery, changes
from recovery.config import ArchiveSettings, S3Settings
from recovery.context import open_context
from recovery.errors import ArchiveDamaged, ArchiveError, CommitConflict, StoreUnavailable
from recovery.render import changes_json
from recovery.restore import RestoreRequest, restore
from recovery.status import build
from testservers import S3Bucket, Server

ANY_AGE = Policy(keyless_days=0)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.sockets)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return FileStore(tmp_path / "archive")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return open_store(ArchiveSettings(root=bucket.url, s3=S3Settings(endpoint_url=bucket.endpoint_url)))


@pytest.fixture
def folder(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "archive")


def a_history(store: Store, seed: int = 1, windows: int = 40) -> LongHistory:
    made = LongHistory(store, seed)
    made.windows(windows)
    made.idle()
    return made


def compacted(history: LongHistory, policy: Policy = ANY_AGE) -> Compacted:
    done = Compactor(history.store, LAYOUT, history.log, policy).run(history.state)
    history.state = history.log.read()
    return done


def told(store: Store, state: ArchiveState) -> dict[str, str]:
    """What `rowback changes` says of each table, in both orders and by key."""
    queries = {
        f"{t.name} {newest}": ChangeQuery(("shop", t.name), newest_first=newest)
        for t in TABLES
        for newest in (True, False)
    }
    queries |= {f"key {n}": ChangeQuery(("shop", "orders"), key=(str(n),)) for n in range(-9, 21, 6)}
    queries |= {f"part {c}": ChangeQuery(("shop", "parts"), key=(c, "7")) for c in "aä"}
    queries |= {"some": ChangeQuery(("shop", "orders"), transactions=tuple(range(3, 11)), ops=("update",))}
    return {name: changes_json(changes(store, state, query)) for name, query in queries.items()}


def restored(store: Store, state: ArchiveState, seq: int, into: Path) -> dict[str, bytes]:
    """The whole output directory of a restore to the end of a transaction."""
    shutil.rmtree(into, ignore_errors=True)
    gtid = f"3e11fa47-71ca-11e1-9e33-c80aa9429562:{seq}"
    restore(store, state, RestoreRequest(gtid, (), into))
    return {path.name: path.read_bytes() for path in sorted(into.iterdir())}


# --- the same before and after ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_restores_and_changes_are_the_same_before_and_after(folder: FileStore, tmp_path: Path, seed: int) -> None:
    history = a_history(folder, seed)
    targets = [1, 3, 20, history.seq // 2, history.seq - 1, history.seq]
    before = told(folder, history.state), [restored(folder, history.state, n, tmp_path / "out") for n in targets]
    segments = len(history.state.segments)
    done = compacted(history)
    assert done.replaced > 2 * done.objects > 0
    assert len(history.state.segments) < segments / 3
    after = told(folder, history.state), [restored(folder, history.state, n, tmp_path / "out") for n in targets]
    assert before == after
    for seq in targets:
        restored(folder, history.state, seq, tmp_path / "out")
        for table in TABLES:
            assert len(rows_in(tmp_path / "out", f"shop.{table.name}")) == len(history.model[seq][table])


def test_in_any_store_old_files_stay_for_readers_and_new_readers_see_only_the_new(store: Store) -> None:
    history = a_history(store, windows=12)
    old = history.state
    before = told(store, old)
    compacted(history)
    assert told(store, old) == before, "a reader that opened the archive before still finds its objects"
    assert told(store, history.state) == before
    paths = {s.path for s in (*old.segments, *old.transactions)}
    live = {s.path for s in (*history.state.segments, *history.state.transactions)}
    assert {r.path for r in history.state.removed} == paths - live
    assert Log(store, LAYOUT).read() == history.state


def test_capture_goes_on_and_compaction_again(folder: FileStore, tmp_path: Path) -> None:
    history = a_history(folder)
    compacted(history)
    known = told(folder, history.state)["orders False"]
    state = history.log.read()
    again = Compactor(folder, LAYOUT, history.log, ANY_AGE).run(state)
    assert (again.versions, again.plan.merges) == ((), ())
    assert told(folder, history.log.read())["orders False"] == known


def test_a_reader_in_between_sees_old_or_new(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each object that compaction writes, and after each of its commits."""
    monkeypatch.setattr(compacting, "BATCH_INPUTS", 10)
    history = a_history(folder, windows=15)
    before = told(folder, history.state)["orders True"]
    seen: list[int] = []

    class Watched(FileStore):
        def put(self, key: str, body: bytes) -> None:
            super().put(key, body)
            self.look()

        def put_if_absent(self, key: str, body: bytes) -> None:
            super().put_if_absent(key, body)
            self.look()

        def look(self) -> None:
            state = Log(FileStore(Path(self.root)), LAYOUT).read()
            seen.append(state.version)
            assert told(FileStore(Path(self.root)), state)["orders True"] == before

    watched = Watched(Path(folder.root))
    Compactor(watched, LAYOUT, Log(watched, LAYOUT), ANY_AGE).run(history.state)
    assert len(set(seen)) > 2
    assert len(seen) > 5


# --- the new files ----------------------------------------------------------------------------------------------------


def test_new_files_are_sorted_by_key_with_bloom_filters_and_page_index(folder: FileStore) -> None:
    history = a_history(folder)
    compacted(history)
    made = [s for s in history.state.segments if s.table == "parts" and s.rows > 10]
    assert made
    for segment in made:
        source = pq.ParquetFile(pa.BufferReader(folder.get(segment.path)))
        rows = source.read().to_pylist()
        order = [
            (r["code"].encode(), r["n"], r["_rb_seq"], r["_rb_ordinal"], r["_rb_op"] != "update_before") for r in rows
        ]
        assert order == sorted(order)
        columns = {
            c.path_in_schema: c for c in map(source.metadata.row_group(0).column, range(source.metadata.num_columns))
        }
        assert columns["code"].bloom_filter_length
        assert columns["n"].bloom_filter_length
        assert not columns["v"].bloom_filter_length
        assert columns["code"].has_column_index
        assert [s.column_index for s in source.metadata.row_group(0).sorting_columns] == [
            source.schema_arrow.get_field_index(n) for n in ("code", "n")
        ]
        assert segment.min_cut_at_us // HOUR_US == segment.max_cut_at_us // HOUR_US


# --- the plan ---------------------------------------------------------------------------------------------------------


def reasons(plan: CompactionPlan) -> dict[str, str]:
    return {left.label: left.reason for left in plan.left}


def test_an_hour_that_is_not_over_is_left(folder: FileStore) -> None:
    history = LongHistory(folder, 1)
    history.windows(8)
    plan = plan_compaction(history.state, ANY_AGE)
    assert plan.merges == ()
    assert reasons(plan)["shop.orders"] == reasons(plan)["transactions"] == "the hour isn't over yet"
    history.idle()
    assert {m.label for m in plan_compaction(history.state, ANY_AGE).merges} >= {"shop.orders", "transactions"}


def test_runs_have_one_table_and_hour_and_a_size(folder: FileStore) -> None:
    history = a_history(folder)
    plan = plan_compaction(history.state, replace(ANY_AGE, target_rows=40))
    assert len([m for m in plan.merges if m.label == "shop.orders"]) > 3
    for merge in plan.merges:
        assert len(merge.inputs) > 1
        assert merge.rows <= 40
        assert {s.min_cut_at_us // HOUR_US * HOUR_US for s in merge.inputs} == {merge.hour_us}
    spans = [(m.inputs[0].first_seq, m.inputs[-1].last_seq) for m in plan.merges if m.label == "shop.orders"]
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert plan == plan_compaction(history.state, replace(ANY_AGE, target_rows=40))


def test_tables_without_a_key_wait(folder: FileStore) -> None:
    history = a_history(folder)
    assert "no key" in reasons(plan_compaction(history.state))["shop.bag"]
    at = START_US + 600_000_000
    mark = Mark("", "binlog.000001", 900, at)
    taken = Snapshot("s9", "brief", mark, mark, at, at, "b/", 0, (), ())
    state = replace(history.state, snapshots=(*history.state.snapshots, taken))
    assert "snapshot was taken in that hour" in reasons(plan_compaction(state, ANY_AGE))["shop.bag"]


def test_parents_of_unlogged_foreign_keys_are_left(folder: FileStore) -> None:
    history = a_history(folder)
    edge = Cascade("shop", "parts", "Shop", "ORDERS", "CASCADE", "NO ACTION")
    snapshots = tuple(replace(s, cascades=(edge,)) for s in history.state.snapshots)
    plan = plan_compaction(replace(history.state, snapshots=snapshots), ANY_AGE)
    assert "foreign keys" in reasons(plan)["shop.orders"]
    assert {m.table for m in plan.merges} == {"parts", "bag", ""}


def test_no_run_reaches_over_ddl(folder: FileStore, tmp_path: Path) -> None:
    history = LongHistory(folder, 3)
    history.windows(6)
    history.ddl("ALTER TABLE orders COMMENT 'x'", ORDERS)
    barrier = history.seq
    history.windows(6)
    history.idle()
    merges = [m for m in plan_compaction(history.state, ANY_AGE).merges if m.label == "shop.orders"]
    assert merges
    for merge in merges:
        assert not merge.inputs[0].first_seq <= barrier <= merge.inputs[-1].last_seq
    targets = [barrier - 1, barrier, barrier + 3, history.seq]
    before = [restored(folder, history.state, n, tmp_path / "out") for n in targets]
    compacted(history)
    assert [restored(folder, history.state, n, tmp_path / "out") for n in targets] == before


def test_transactions_of_two_servers_stay_apart(folder: FileStore) -> None:
    """After a failover, positions are another server's."""
    history = a_history(folder, windows=20)
    runs = [m for m in plan_compaction(history.state, ANY_AGE).merges if m.of == "transactions"]
    inside = runs[0].inputs[len(runs[0].inputs) // 2].last_seq
    moved = Failover(inside, "a", "b", 2, "9.7", "g:1", "commit time", "binlog.000001", 4, 0)
    state = replace(history.state, failovers=(moved,))
    plan = plan_compaction(state, ANY_AGE)
    spans = [(m.inputs[0].first_seq, m.inputs[-1].last_seq) for m in plan.merges if m.of == "transactions"]
    assert (runs[0].inputs[0].first_seq, inside) in spans
    assert not any(first <= inside < last for first, last in spans)
    joined = replace(
        runs[0].inputs[0],  # type: ignore[type-var]
        path="t/x",
        rows=runs[0].rows,
        last_seq=runs[0].inputs[-1].last_seq,
        **{k: getattr(runs[0].inputs[-1], k) for k in ("max_cut_at_us", "last_file", "last_position")},
    )
    removes = [Remove(path, "transactions") for path in runs[0].paths]
    commit = Commit(state.version + 1, "x", None, state.sha256, 0, (*removes, joined))  # type: ignore[arg-type]
    assert apply(history.state, commit).version == state.version + 1
    with pytest.raises(InvariantError, match="two servers"):
        apply(state, commit)


# --- the invariants ---------------------------------------------------------------------------------------------------


def swap(state: ArchiveState, **bent: object) -> list[Remove | Segment]:
    """A compaction of the first two segments of orders, with one fact about the new one bent."""
    old = [s for s in state.segments if s.table == "orders"][:2]
    made = replace(
        old[0],
        path=f"c/{len(state.removed)}",
        last_seq=old[1].last_seq,
        max_cut_at_us=old[1].max_cut_at_us,
        **{n: getattr(old[0], n) + getattr(old[1], n) for n in ("rows", "inserts", "updates", "deletes")},
    )
    return [*(Remove(s.path, "segment") for s in old), replace(made, **bent)]


BENT: dict[str, Callable[[ArchiveState], list[object]]] = {
    "a row too many": lambda s: swap(s, rows=99),
    "an insert less": lambda s: swap(s, inserts=0),
    "another range": lambda s: swap(s, first_seq=0),
    "another end": lambda s: swap(s, last_seq=1),
    "another time": lambda s: swap(s, max_cut_at_us=START_US + HOUR_US),
    "another table": lambda s: swap(s, table="parts"),
    "another schema": lambda s: swap(s, schema_id=PARTS.schema_id),
    "nothing new": lambda s: swap(s)[:2],
    "nothing removed": lambda s: swap(s)[2:],
    "one removed twice": lambda s: [swap(s)[0], *swap(s)],
    "not live": lambda s: [Remove("c/unknown", "segment"), *swap(s)],
    "of another kind": lambda s: [Remove(s.transactions[0].path, "segment"), *swap(s)],
    "of no kind": lambda s: [Remove(s.transactions[0].path, "baseline"), *swap(s)],
    "its own name": lambda s: [*swap(s)[:2], replace(swap(s)[2], path=swap(s)[0].path)],  # type: ignore[arg-type, union-attr, list-item]
    "transactions lost": lambda s: [Remove(s.transactions[1].path, "transactions")],
    "transactions with a hole": lambda s: holed(s.transactions[0], s.transactions[2]),
}


def holed(first: Transactions, last: Transactions) -> list[object]:
    made = replace(first, path="t/x", last_seq=last.last_seq, rows=first.rows + last.rows)
    return [*(Remove(t.path, "transactions") for t in (first, last)), made]


@pytest.mark.parametrize("kind", BENT)
def test_what_would_lose_or_double_rows_is_not_committed(folder: FileStore, kind: str) -> None:
    history = a_history(folder, windows=6)
    with pytest.raises(ArchiveError, match="was not written"):
        history.log.commit(history.state, lambda head: BENT[kind](head))  # type: ignore[arg-type, return-value]
    assert history.log.read() == history.state


def test_a_removed_name_never_comes_back(folder: FileStore) -> None:
    history = a_history(folder, windows=12)
    first = history.log.commit(history.state, swap)
    names = {r.path for r in first.removed}
    again = swap(first)
    again[-1] = replace(again[-1], path=sorted(names)[0])  # type: ignore[type-var]
    with pytest.raises(ArchiveError, match="back"):
        history.log.commit(first, lambda _: again)


# --- trouble ----------------------------------------------------------------------------------------------------------


class Crashing(FileStore):
    """Dies at the n-th write: before it, or after it was done."""

    def __init__(self, root: Path, at: int, *, done: bool) -> None:
        super().__init__(root)
        self.left, self.done = at, done

    def _step(self, write: Callable[[], None]) -> None:
        self.left -= 1
        if self.left < 0:
            if self.done and self.left == -1:
                write()
            raise KeyboardInterrupt  # nothing in the archive's code catches it, as nothing catches a kill
        write()

    def put(self, key: str, body: bytes) -> None:
        self._step(lambda: super(Crashing, self).put(key, body))

    def put_if_absent(self, key: str, body: bytes) -> None:
        self._step(lambda: super(Crashing, self).put_if_absent(key, body))

    def delete(self, key: str) -> None:
        self._step(lambda: super(Crashing, self).delete(key))


@pytest.mark.parametrize("done", [False, True])
def test_a_crash_at_any_write_leaves_a_whole_archive(folder: FileStore, tmp_path: Path, done: bool) -> None:
    history = a_history(folder, windows=10)
    before, root = told(folder, history.state), Path(folder.root)
    for at in range(100):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(root, copy)
        crashing = Crashing(copy, at, done=done)
        try:
            Compactor(crashing, LAYOUT, Log(crashing, LAYOUT, index_every=1), ANY_AGE).run(history.state)
        except KeyboardInterrupt:
            store = FileStore(copy)
            state = Log(store, LAYOUT).read()
            assert told(store, state) == before
            Compactor(store, LAYOUT, Log(store, LAYOUT), ANY_AGE).run(state)
            assert told(store, Log(store, LAYOUT).read()) == before
            shutil.rmtree(copy)
            continue
        break
    assert 5 < at < 99


def test_two_compactions_at_once(folder: FileStore) -> None:
    """The second finds its inputs gone, plans again, and nothing is there twice."""
    history = a_history(folder)
    before = told(folder, history.state)

    class Overtaken(Log):
        overtaken = 0

        def commit(self, state: ArchiveState, build: object, **given: object) -> ArchiveState:  # type: ignore[override]
            if not self.overtaken:
                self.overtaken += 1
                Compactor(folder, LAYOUT, Log(folder, LAYOUT), ANY_AGE).run(state)
            return super().commit(state, build, **given)  # type: ignore[arg-type]

    done = Compactor(folder, LAYOUT, Overtaken(folder, LAYOUT), ANY_AGE).run(history.state)
    assert done.versions == ()
    assert told(folder, history.log.read()) == before


def test_a_damaged_input_is_named_and_nothing_changes(folder: FileStore) -> None:
    history = a_history(folder, windows=8)
    victim = next(s for s in history.state.segments if s.table == "orders").path
    folder.put(victim, folder.get(victim)[:-1] + b"x")
    with pytest.raises(ArchiveDamaged, match=victim):
        Compactor(folder, LAYOUT, history.log, ANY_AGE).run(history.state)
    assert history.log.read() == history.state


def test_a_file_that_does_not_read_back_is_not_committed(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    history = a_history(folder, windows=8)
    real = compacting.encode_parquet
    monkeypatch.setattr(
        compacting, "encode_parquet", lambda data, *given, **named: real(data.slice(1), *given, **named)
    )
    with pytest.raises(ArchiveDamaged, match="read back"):
        compacted(history)
    assert len(history.log.read().removed) == 0


def test_a_compaction_slower_than_half_the_grace_time_commits_nothing(folder: FileStore) -> None:
    history = a_history(folder, windows=8)
    ticks = iter(range(0, 10_000_000, 7_000))
    slow = Compactor(folder, LAYOUT, history.log, ANY_AGE, grace_s=10_000, clock=lambda: float(next(ticks)))
    with pytest.raises(CommitConflict, match="grace"):
        slow.run(history.state)
    assert history.log.read() == history.state


def test_a_store_that_goes_away_is_told(folder: FileStore) -> None:
    history = a_history(folder, windows=8)

    class Away(FileStore):
        def put(self, key: str, body: bytes) -> None:
            raise StoreUnavailable("by order", hint="")

    with pytest.raises(StoreUnavailable):
        Compactor(Away(Path(folder.root)), LAYOUT, history.log, ANY_AGE).run(history.state)


def test_status_counts_live_objects_only(folder: FileStore) -> None:
    history = a_history(folder)
    given = {"server": "shop", "tenant": "default", "archive": "x", "now": history.now()}
    before = build(history.state, **given)  # type: ignore[arg-type]
    compacted(history)
    after = build(history.state, **given)  # type: ignore[arg-type]
    assert (after.transactions, after.row_changes, after.tables) == (
        before.transactions,
        before.row_changes,
        before.tables,
    )
    assert after.segments < before.segments
    assert {t.name for t in TABLES} == {s.table for s in history.state.segments} == {"orders", "parts", "bag"}
    assert BAG.schema_id in history.state.schemas
    assert isinstance(history.state.transactions[0], Transactions)
    assert SchemaSeen.kind == "schema"


# --- on a real server -------------------------------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_what_was_captured_says_the_same_afterwards(
    request: pytest.FixtureRequest, tmp_path: Path, mydumper: None, flavor: str
) -> None:
    """Real windows, snapshots, keys that change and DDL; the restored rows are those that SELECT returned. The hour isn't
    over, which the policy is told to ignore; then capture goes on in it."""
    server: Server = request.getfixturevalue(f"{flavor}_source")
    rowback = Rowback(tmp_path, server, extra='include = ["compact.*"]')
    server.execute("CREATE DATABASE compact")
    server.execute("CREATE TABLE compact.t (id INT PRIMARY KEY, v VARCHAR(20), d DATETIME)")
    rowback.run("capture", "--until-caught-up")
    rowback.json("snapshot")
    context = open_context(rowback.config)
    policy = Policy(settled_s=-7200, keyless_days=0)
    rows: dict[int, list[str]] = {}
    for turn in range(6):
        for n in range(5):
            server.execute(f"INSERT INTO compact.t VALUES ({turn * 10 + n}, 'row {n}', NULL)")
            server.execute(
                f"UPDATE compact.t SET id = id + 1000, v = 'moved' WHERE id = {turn * 10 + n} AND {n} % 2 = 0"
            )
            server.execute(f"UPDATE compact.t SET v = '{turn}' WHERE id % 10 = {n}")
        server.execute(f"DELETE FROM compact.t WHERE id = {turn * 10 + 1}")
        rowback.run("capture", "--until-caught-up")
        state = context.log.read()
        rows[state.last_seq] = [str(row) for row in server.execute("SELECT id, v FROM compact.t ORDER BY id")]
        if turn in (3, 5):
            before = rowback.json("changes", "--table", "compact.t")
            done = Compactor(context.store, context.layout, context.log, policy).run(state)
            assert done.replaced > done.objects > 0
            assert rowback.json("changes", "--table", "compact.t") == before
    state = context.log.read()
    assert len(state.segments) == 1
    for seq, expected in rows.items():
        gtids = read_transactions(context.store, [t for t in state.transactions if t.first_seq <= seq <= t.last_seq])
        table = next(iter(gtids))
        target = table["gtid"][seq - table["seq"][0].as_py()].as_py()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        rowback.run("restore", "--to", target, "--tables", "compact.t", "--output", str(tmp_path / "out"))
        found = [line.removesuffix(",NULL)") + ")" for line in rows_in(tmp_path / "out", "compact.t")]
        assert sorted(found) == sorted(row.replace(", ", ",") for row in expected)
    assert rowback.json("verify", "--archive")["findings"] == []
