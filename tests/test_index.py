"""The index table: a state read through it is the state that the whole log gives, whatever happened to the index."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_actions import ACTIONS

from recovery.archive import index as indexing
from recovery.archive import rebuild
from recovery.archive.actions import (
    Action,
    Checkpoint,
    Ddl,
    Failover,
    Gap,
    Identity,
    Mark,
    Remove,
    SchemaSeen,
    Segment,
    Snapshot,
    Swept,
    Transactions,
    Writer,
)
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.sequences import Live
from recovery.archive.state import EMPTY, ArchiveState, Commit, apply
from recovery.archive.store import Store, open_store
from recovery.config import ArchiveSettings, S3Settings
from recovery.errors import ArchiveDamaged, CommitConflict, Fenced, StoreUnavailable, UnknownFormat
from recovery.schema import Column, Table
from testservers import S3Bucket

LAYOUT = Layout("default", "shop")
NOW = datetime(2026, 5, 2, 10, tzinfo=UTC)
TABLES = [Table("shop", name, (Column("id", "int"),), ("id",)) for name in ("orders", "items", "ünï")]
MARK = Mark("u:1-3", "b.1", 4, 0)


def a_log(store: Store, every: int = 0) -> Log:
    return Log(store, LAYOUT, lambda: NOW, sleep=lambda _: None, index_every=every)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.sockets)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return FileStore(tmp_path)
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return open_store(ArchiveSettings(root=bucket.url, s3=S3Settings(endpoint_url=bucket.endpoint_url)))


@pytest.fixture
def folder(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


# --- commits of every kind --------------------------------------------------------------------------------------------


def a_segment(name: str, of: Table, first: int, last: int, rows: int = 2) -> Segment:
    times = (first * 10, last * 10)
    return Segment(name, of.db, of.name, of.schema_id, rows, 9, "0" * 64, first, last, *times, rows, 0, 0, None, "é")


def a_run(name: str, first: int, last: int) -> Transactions:
    times = (first * 10, last * 10)
    return Transactions(name, last - first + 1, 9, "0" * 64, first, last, *times, "b.1", first, "b.1", last)


def window(head: ArchiveState, size: int, tables: int, number: int) -> list[Action]:
    first, last = head.last_seq + 1, head.last_seq + size
    actions: list[Action] = [SchemaSeen(t.schema_id, first, t) for t in TABLES[:tables]] if not head.schemas else []
    actions += [
        a_segment(f"c/{number}/{t.name}", t, first, last) for t in TABLES[:tables] if t.schema_id in head.schemas
    ]
    gtid = f"u:1-{last}" if number % 2 else ""
    return [*actions, a_run(f"t/{number}", first, last), Checkpoint(last, "b.1", last, gtid, last * 10, last * 10)]


def compaction(head: ArchiveState, pick: random.Random, number: int) -> list[Action]:
    """A run of transactions segments, none over a failover, and some segments of one table."""
    actions: list[Action] = []
    if len(head.transactions) > 1:
        at = pick.randrange(len(head.transactions) - 1)
        run = head.transactions[at : at + pick.randint(2, 4)]
        run = [t for t in run if head.lineage_of(t.last_seq) == head.lineage_of(run[0].first_seq)]
        actions += [Remove(t.path, "transactions") for t in run]
        actions.append(a_run(f"t/compact/{number}", run[0].first_seq, run[-1].last_seq))
    for table in TABLES:
        mine = [s for s in head.segments if s.table == table.name]
        if len(mine) > 1 and pick.random() < 0.5:
            some = pick.sample(mine, pick.randint(2, len(mine)))
            ends = min(s.first_seq for s in some), max(s.last_seq for s in some)
            actions += [Remove(s.path, "segment") for s in some]
            actions.append(a_segment(f"c/compact/{number}/{table.name}", table, *ends, sum(s.rows for s in some)))
    return actions


def failover(head: ArchiveState, number: int) -> list[Action]:
    at, source = head.last_seq, head.source
    if source is None or not at:
        return []
    to = Failover(at, source.server_uuid or "", f"u{number}", number, "9.7", "u:1", "rows", "b.1", 4, at * 10)
    return [to, Checkpoint(at, "b.1", 4, "u:1", at * 10, at * 10)]


def some_actions(head: ArchiveState, kind: str, pick: random.Random, number: int) -> list[Action]:
    at = head.last_seq
    name = f"s{number}"
    made: dict[str, Callable[[], list[Action]]] = {
        "window": lambda: window(head, pick.randint(1, 5), pick.randint(0, 3), number),
        "idle": lambda: [Checkpoint(at, "b.1", at, "u:1", at * 10, at * 10)] if head.last_seq else [],
        "ddl": lambda: [Ddl(at, None, "b.1", 4, 0, "shop", "ALTER ...", "ALTER TABLE", (("shop", "orders"),))],
        "writer": lambda: [Writer(head.generation + 1, "h", 1, 0, at, ("a.*",), ())],
        "snapshot": lambda: [Snapshot(name, "none", MARK, MARK, 0, pick.randint(0, 99), "b/", 0, (("d", "C"),), ())],
        "gap": lambda: [Gap(at, "b.1", 4, None, None, 0, f"{number}")],
        "failover": lambda: failover(head, number),
        "identity": lambda: [] if head.identity else [Identity("mysql", "u", 1, "9.7")],
        "compaction": lambda: compaction(head, pick, number),
        "sweep": lambda: [Swept(pick.randint(0, head.version))],
    }
    return made[kind]()


KINDS = ("window", "idle", "ddl", "writer", "snapshot", "gap", "identity", "compaction", "sweep", "failover")


def grow(kinds: list[str], seed: int, state: ArchiveState = EMPTY) -> list[ArchiveState]:
    """The states of a log with such commits, from the empty one on."""
    pick = random.Random(seed)
    states = [state]
    for number, kind in enumerate(kinds):
        head = states[-1]
        if actions := some_actions(head, kind, pick, number):
            commit = Commit(head.version + 1, f"{number}", None, head.sha256, number, tuple(actions))
            states.append(apply(head, replace(Commit.from_bytes(commit.to_bytes(), ""), sha256=f"{number:064d}")))
    return states


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(KINDS + ("window",) * 6 + ("compaction",) * 3), max_size=40),
    st.integers(0, 2**32),
    st.data(),
)
def test_a_state_through_any_index_is_the_state_of_the_whole_log(
    kinds: list[str], seed: int, data: st.DataObject
) -> None:
    """Indexes at any versions, each made from a state that may itself come from an index."""
    states = grow(kinds, seed)
    pick = random.Random(seed)
    through = EMPTY
    for number, kind in enumerate(kinds):
        if actions := some_actions(through, kind, pick, number):
            commit = Commit(through.version + 1, f"{number}", None, through.sha256, number, tuple(actions))
            through = apply(through, replace(Commit.from_bytes(commit.to_bytes(), ""), sha256=f"{number:064d}"))
        if data.draw(st.booleans(), label="index"):
            through = indexing.decode(indexing.encode(through), "x")
    assert through == states[-1]
    assert [through.last_seq, through.writer, through.holes] == [
        states[-1].last_seq, states[-1].writer, states[-1].holes,
    ]  # fmt: skip
    assert through.source == states[-1].source
    assert facts_of(indexing.encode(through))["digest"] == facts_of(indexing.encode(states[-1]))["digest"]
    assert [t.first_seq for t in through.transactions][1:] == [t.last_seq + 1 for t in through.transactions][:-1]


@settings(deadline=None)
@given(st.lists(ACTIONS, max_size=8))
def test_actions_of_any_content_survive_the_index(actions: list[Action]) -> None:
    """Whatever stands in the actions, control characters and holes in Unicode's planes included."""

    def of(kind: type[Action]) -> list[Action]:
        return [a for a in actions if isinstance(a, kind)]

    try:
        [json.dumps(str(vars(a)), ensure_ascii=False).encode() for a in actions]
    except UnicodeEncodeError:
        return  # a lone surrogate can't be committed
    points = of(Checkpoint)
    state = ArchiveState(
        version=7,
        sha256="ab",
        identity=next(iter(of(Identity)), None),  # type: ignore[arg-type]
        writers=of(Writer),  # type: ignore[arg-type]
        start=points[0] if points else None,  # type: ignore[arg-type]
        checkpoint=points[-1] if points else None,  # type: ignore[arg-type]
        checkpoints=points,  # type: ignore[arg-type]
        schemas={a.table.schema_id: a.table for a in actions if isinstance(a, SchemaSeen)},
        segments=of(Segment),  # type: ignore[arg-type]
        transactions=of(Transactions),  # type: ignore[arg-type]
        ddls=of(Ddl),  # type: ignore[arg-type]
        snapshots=tuple(of(Snapshot)),  # type: ignore[arg-type]
        gaps=of(Gap),  # type: ignore[arg-type]
        failovers=of(Failover),  # type: ignore[arg-type]
    )
    try:
        body = indexing.encode(state)
    except OverflowError:
        return  # a number beyond 64 bits; the log's own numbers are within
    assert indexing.decode(body, "x") == state


def test_the_index_holds_every_field_of_a_state() -> None:
    """A new field of ArchiveState needs a section, or a line in encode and decode."""
    told = {section.name for section in indexing.SECTIONS} | {"version", "sha256", "generation", "updated_at_us"}
    assert {f.name for f in fields(ArchiveState)} == told | {"identity", "start", "checkpoint"}


def test_an_index_of_an_earlier_format_lacks_a_checkpoints_newer_field(monkeypatch: pytest.MonkeyPatch) -> None:
    state = grow(["identity", *["window"] * 5, "gap", "idle"], 3)[-1]
    with monkeypatch.context() as earlier:
        older = [f for f in fields(Checkpoint) if f.name != "file_begun_at_us"]
        earlier.setattr(indexing, "fields", lambda cls: older if cls is Checkpoint else fields(cls))
        schema = pa.schema([f for f in indexing.INDEX_SCHEMA if f.name != "file_begun_at_us"])
        earlier.setattr(indexing, "INDEX_SCHEMA", schema)
        body = indexing.encode(state)
    assert "file_begun_at_us" not in pq.read_schema(pa.BufferReader(body)).names
    read = indexing.decode(body, "x")
    assert read == state
    assert indexing.decode(indexing.encode(read), "x") == state


# --- in a store -------------------------------------------------------------------------------------------------------


def filled(store: Store, commits: int = 30, every: int = 10) -> ArchiveState:
    log = a_log(store, every)
    state = log.start_generation(log.read(), "h", 1, lambda _: [Identity("mysql", "u", 1, "9")])
    for number in range(commits - 1):
        state = log.commit(state, lambda s, n=number: window(s, 3, 2, n), generation=1)  # type: ignore[misc]
    return state


def whole_fold(store: Store) -> ArchiveState:
    return list(a_log(store).walk())[-1][1]


def facts_of(body: bytes) -> dict[str, object]:
    facts = json.loads(pq.read_metadata(pa.BufferReader(body)).metadata[b"rowback.index"])
    assert isinstance(facts, dict)
    return facts


class Counting(FileStore):
    """Counts the log objects that are read."""

    log_reads = 0

    def get(self, key: str) -> bytes:
        self.log_reads += "/log/" in key
        return super().get(key)


def test_captures_write_indexes_and_readers_use_them(store: Store) -> None:
    state = filled(store)
    assert a_log(store).index.versions() == [30, 20, 10]
    assert a_log(store).read() == state == whole_fold(store)
    hint = a_log(store).index.latest()
    assert hint is not None
    assert (hint.version, hint.path) == (30, "default/shop/index/00000000000000000030.parquet")
    assert len(store.get(hint.path)) == hint.size_bytes


def test_opening_reads_the_tail_only(folder: FileStore) -> None:
    state = filled(folder, commits=38)
    counting = Counting(Path(folder.root))
    assert a_log(counting).read() == state
    assert counting.log_reads == 8 + 1  # and the object that the index was made from


def test_an_index_changes_nothing_for_a_reader_that_knows_an_older_state(store: Store) -> None:
    log = a_log(store)
    known = filled(store, commits=5, every=0)
    after = log.commit(known, lambda s: window(s, 3, 2, 99), generation=1)
    log.index.write(after)
    assert a_log(store).read(known) == after


HINTS: dict[str, Callable[[Store], None]] = {
    "missing": lambda s: s.delete(LAYOUT.index_latest),
    "torn": lambda s: s.put(LAYOUT.index_latest, b'{"format": 2, "vers'),
    "empty": lambda s: s.put(LAYOUT.index_latest, b""),
    "another thing": lambda s: s.put(LAYOUT.index_latest, b"[1]"),
    "at nothing": lambda s: s.put(LAYOUT.index_latest, hint_at(s, 7)),
    "at an older one": lambda s: s.put(LAYOUT.index_latest, hint_at(s, 10)),
    "elsewhere": lambda s: s.put(LAYOUT.index_latest, s.get(LAYOUT.index_latest).replace(b"shop", b"crm")),
}


def hint_at(store: Store, version: int) -> bytes:
    hint = json.loads(store.get(LAYOUT.index_latest))
    return json.dumps({**hint, "version": version, "path": LAYOUT.index(version)}).encode()


@pytest.mark.parametrize("kind", HINTS)
def test_the_hint_is_only_a_hint(folder: FileStore, kind: str) -> None:
    state = filled(folder, commits=33)
    HINTS[kind](folder)
    assert a_log(folder).read() == state


def test_damaged_and_missing_indexes_fall_back(folder: FileStore) -> None:
    state = filled(folder, commits=33)
    folder.put(LAYOUT.index(30), folder.get(LAYOUT.index(30))[:-100])
    assert a_log(folder).read() == state
    folder.put(LAYOUT.index(20), folder.get(LAYOUT.index(30)))
    assert a_log(folder).read() == state
    folder.put(LAYOUT.index(10), folder.get(LAYOUT.index(10)).replace(b"u:1", b"u:2"))
    counting = Counting(Path(folder.root))
    assert a_log(counting).read() == state
    assert counting.log_reads == 33, "no index is left, so the whole log was read"
    for version in (10, 20, 30):
        folder.delete(LAYOUT.index(version))
    assert a_log(folder).read() == state


def test_every_flipped_byte_is_found_or_harmless(folder: FileStore) -> None:
    filled(folder, commits=10)
    body = folder.get(LAYOUT.index(10))
    whole, found = indexing.decode(body, "x"), 0
    pick = random.Random(7)
    for at in pick.sample(range(len(body)), 600):
        bent = body[:at] + bytes([body[at] ^ (1 << pick.randrange(8))]) + body[at + 1 :]
        try:
            assert indexing.decode(bent, "x") == whole
        except ArchiveDamaged:
            found += 1
    assert found > 150  # the rest lies in statistics and other columns that nobody reads


def test_an_index_of_a_newer_format_is_refused(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder, commits=9)
    monkeypatch.setattr(indexing, "FORMAT", 99)
    a_log(folder).index.write(a_log(folder).read())
    monkeypatch.undo()
    with pytest.raises(UnknownFormat, match="format 99"):
        a_log(folder).read()


def test_a_log_that_lost_what_its_index_was_made_from(folder: FileStore) -> None:
    filled(folder, commits=30)
    folder.delete(LAYOUT.log_version(30))
    with pytest.raises(ArchiveDamaged, match=f"{LAYOUT.log_version(30)}.*index made from it"):
        a_log(folder).read()


def test_a_log_object_that_changed_after_its_index_was_made(folder: FileStore) -> None:
    filled(folder, commits=30)
    folder.put(LAYOUT.log_version(30), folder.get(LAYOUT.log_version(30)) + b" ")
    with pytest.raises(ArchiveDamaged, match="another one"):
        a_log(folder).read()


def test_a_store_that_refuses_the_index_stops_no_commit(tmp_path: Path) -> None:
    class NoIndex(FileStore):
        def put(self, key: str, body: bytes) -> None:
            if "/index/" in key:
                raise StoreUnavailable("by order", hint="")
            super().put(key, body)

    state = filled(NoIndex(tmp_path))
    assert a_log(FileStore(tmp_path)).index.versions() == []
    assert a_log(FileStore(tmp_path)).read() == state


def test_opening_builds_no_item_that_nobody_looks_at(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is what makes 100,000 segments open at once; the time itself is measured, not tested."""
    state = EMPTY
    for number in range(40):
        state = grow(["window"], number, state)[-1]
    many = [a_segment(f"c/{n}", TABLES[0], 1, 1) for n in range(5000)]
    body = indexing.encode(replace(state, segments=Live(many)))
    built: list[object] = []
    real = indexing._maker

    def counting(cls: type[object]) -> Callable[..., object]:
        make = real(cls)
        return lambda *values: built.append(cls) or make(*values)

    monkeypatch.setattr(indexing, "_maker", counting)
    opened = indexing.decode(body, "x")
    opened = grow(["window"], 999, opened)[-1]
    assert len(opened.segments) >= 5000
    assert built.count(Segment) == 0
    assert len(built) < 10
    assert opened.segments[4321] == many[4321]
    assert built.count(Segment) == 1


# --- rebuilding -------------------------------------------------------------------------------------------------------


def test_rebuild_ignores_what_the_indexes_say(store: Store) -> None:
    state = filled(store, commits=33)
    for version in (10, 20, 30):
        store.put(LAYOUT.index(version), b"nonsense")
    made = rebuild.rebuild(a_log(store), "shop")
    assert (made.version, made.from_version, dict(made.items)["segments"]) == (33, 0, len(state.segments))
    assert a_log(store).read() == state
    report = rebuild.examine(a_log(store), "shop")
    assert [(line.version, bool(line.problem)) for line in report.indexes] == [
        (33, False),
        (30, True),
        (20, True),
        (10, True),
    ]
    assert (report.behind, report.log_version, report.oldest_log_version) == (0, 33, 1)


def trim(store: Store, below: int) -> None:
    for version in range(1, below):
        store.delete(LAYOUT.log_version(version))


def test_rebuild_of_a_trimmed_log_begins_with_the_oldest_index_that_it_goes_on_from(folder: FileStore) -> None:
    state = filled(folder, commits=38)
    trim(folder, below=20)
    made = rebuild.rebuild(a_log(folder), "shop")
    assert (made.version, made.from_version) == (38, 20)
    assert a_log(folder).read() == state
    for version in (20, 30, 38):
        folder.delete(LAYOUT.index(version))
    with pytest.raises(ArchiveDamaged, match=r"begins with version 20 and no index"):
        rebuild.rebuild(a_log(folder), "shop")
    with pytest.raises(ArchiveDamaged):
        a_log(folder).read()


# --- writers that slept -----------------------------------------------------------------------------------------------


def test_a_sleeping_writer_can_not_take_a_version_number_that_was_trimmed(store: Store) -> None:
    slept = filled(store, commits=12, every=10)
    state = slept
    for number in range(20):
        state = a_log(store, 10).commit(state, lambda s, n=number: window(s, 1, 1, 50 + n))  # type: ignore[misc]
    trim(store, below=30)
    with pytest.raises(Fenced, match="trimmed past version 12"):
        a_log(store).commit(slept, lambda s: window(s, 1, 1, 99), generation=1)
    with pytest.raises(CommitConflict, match="trimmed past version 12"):
        a_log(store).commit(slept, lambda _: [Gap(0, "b.1", 4, None, None, 0, "x")])
    with pytest.raises(CommitConflict, match="trimmed past version 0"):
        a_log(store).commit(EMPTY, lambda _: [Gap(0, "b.1", 4, None, None, 0, "x")])
    assert a_log(store).read() == state, "what it wrote below the trimmed log is in no state"
    assert a_log(store).oldest() == 30, "and it is gone again"
    assert a_log(store).read(slept) == state, "a reader that slept opens the archive anew"


def test_a_writer_of_yesterday_looks_before_it_writes(folder: FileStore) -> None:
    slept = replace(filled(folder, commits=12, every=10), updated_at_us=0)
    trim(folder, below=13)
    with pytest.raises(Fenced):
        a_log(folder).commit(slept, lambda s: window(s, 1, 1, 99), generation=1)
    assert list(folder.list(LAYOUT.log_prefix)) == []


# --- sequences --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 2**32))
def test_live_objects_stand_in_order_whatever_is_removed(sizes: list[int], seed: int) -> None:
    """The model is a list, sorted by last_seq where that is asked for."""
    pick = random.Random(seed)
    runs, seq = [], 0
    for number, size in enumerate(sizes):
        runs.append(a_run(f"{number}", seq + 1, seq + size))
        seq += size
    for by_seq in (False, True):
        live, model = Live(runs, by_seq=by_seq), list(runs)
        for number in range(4):
            some = pick.sample(model, pick.randint(0, len(model)))
            rest, gone = live.without([r.path for r in some])
            assert {r.path for r in gone} == {r.path for r in some}
            assert len(live) == len(model), "the one before doesn't change"
            new = [replace(r, path=f"{number}/{r.path}") for r in some]
            live, model = rest.grown(new), [r for r in model if r not in some] + new
            if by_seq:
                model.sort(key=lambda r: r.last_seq)
            assert list(live) == model == [live[i] for i in range(len(live))]
            assert live[-1:] == tuple(model[-1:])
        if some:
            with pytest.raises(KeyError):
                live.without([some[0].path])
