"""The log: commits stand exactly once whatever the store answers, old writers are fenced, damage is named."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faultproxy import Fault, FaultProxy
from hypothesis import given
from hypothesis import strategies as st

from recovery.archive import s3store
from recovery.archive.actions import (
    Action,
    Checkpoint,
    Gap,
    Identity,
    Mark,
    SchemaSeen,
    Segment,
    Snapshot,
    Transactions,
    Writer,
)
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.s3store import S3Store
from recovery.archive.state import EMPTY, ArchiveState, Commit, History, apply
from recovery.archive.store import Store, open_store
from recovery.config import ArchiveSettings, S3Settings
from recovery.errors import (
    ArchiveDamaged,
    ArchiveError,
    CommitConflict,
    Fenced,
    ObjectExists,
    StoreFull,
    StoreUnavailable,
    UnknownFormat,
)
from recovery.schema import Column, Table
from testservers import S3Bucket

LAYOUT = Layout("default", "shop")
NOW = datetime(2026, 5, 2, 10, 0, 0, 123456, tzinfo=UTC)
TABLE = Table("shop", "orders", (Column("id", "decimal", precision=10, scale=0),), ("id",))


def a_log(store: Store, **options: int) -> Log:
    return Log(store, LAYOUT, lambda: NOW, sleep=lambda _: None, **options)  # type: ignore[arg-type]


def gap(reason: str) -> Gap:
    """An action that nothing forbids: what it says is told apart by its reason."""
    return Gap(0, "b.1", 4, None, None, 0, reason)


def window(head: ArchiveState, size: int = 3) -> list[Action]:
    """What a capture commits for the next `size` transactions."""
    first, last = head.last_seq + 1, head.last_seq + size
    where = {"path": f"t/{first}", "size_bytes": 1, "sha256": "0" * 64}
    times = {"min_cut_at_us": first * 10, "max_cut_at_us": last * 10}
    return [
        Transactions(
            rows=size, first_seq=first, last_seq=last, first_file="b.1", first_position=first, last_file="b.1",
            last_position=last, **where, **times,
        ),
        Checkpoint(last, "b.1", last, "", last * 10, last * 10),
    ]  # fmt: skip


def segment(head: ArchiveState) -> Segment:
    first = head.last_seq + 1
    return Segment(f"c/{first}", "shop", "orders", TABLE.schema_id, 1, 1, "0" * 64, first, first, 1, 1, 1, 0, 0)


def snapshot(name: str, finished_at_us: int) -> Snapshot:
    mark = Mark("", "b.1", 4, 0)
    return Snapshot(name, "brief", mark, mark, 0, finished_at_us, f"backups/{name}/", 0, (), ())


def reasons(state: ArchiveState) -> list[str]:
    return [g.reason for g in state.gaps]


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def log(store: FileStore) -> Log:
    return a_log(store)


# --- reading and writing ----------------------------------------------------------------------------------------------


def test_an_archive_that_is_not_there_is_version_0(log: Log) -> None:
    assert log.read() == EMPTY


def test_a_capture_from_its_first_commit_on(log: Log, store: FileStore) -> None:
    identity = Identity("mysql", "u-u-i-d", 1, "9.7.4")
    state = log.start_generation(log.read(), "host", 7, lambda _: [identity, Checkpoint(0, "b.1", 4, "", 5, 5)])
    for _ in range(3):
        state = log.commit(
            state, lambda s: [SchemaSeen(TABLE.schema_id, 1, TABLE), segment(s), *window(s)], generation=1
        )
    state = log.commit(state, lambda _: [snapshot("b", 20), snapshot("a", 10)])
    assert (state.version, state.generation, state.last_seq, state.identity) == (5, 1, 9, identity)
    assert state.start == Checkpoint(0, "b.1", 4, "", 5, 5)
    assert state.checkpoint == state.checkpoints[-1] == Checkpoint(9, "b.1", 9, "", 90, 90)
    assert [c.seq for c in state.checkpoints] == [0, 3, 6, 9]
    assert [t.first_seq for t in state.transactions] == [s.first_seq for s in state.segments] == [1, 4, 7]
    assert [s.snapshot_id for s in state.snapshots] == ["a", "b"]
    assert state.schemas == {TABLE.schema_id: TABLE}
    assert state.updated_at_us == 1777716000123456
    assert state.writer == Writer(1, "host", 7, 1777716000123456, 0)
    assert a_log(store).read() == state
    document = json.loads(store.get("default/shop/log/00000000000000000002.json"))
    assert [document[k] for k in ("format", "version", "generation", "created_at_us")] == [8, 2, 1, 1777716000123456]
    assert len(document["commit_id"]) == 32


def test_reading_on_from_a_known_state_reads_only_what_is_newer(log: Log, store: FileStore) -> None:
    known = log.commit(EMPTY, lambda _: [gap("1")])
    log.commit(log.commit(known, lambda _: [gap("2")]), lambda _: [gap("3")])
    store.put(LAYOUT.log_version(1), b"unreadable, and not looked at")
    assert reasons(a_log(store).read(known)) == ["1", "2", "3"]
    assert reasons(known) == ["1"]


def test_many_versions_are_read_in_order(log: Log, store: FileStore) -> None:
    state = EMPTY
    for number in range(600):
        state = log.commit(state, lambda _, n=number: [gap(f"{n}")])  # type: ignore[misc]
    assert reasons(a_log(store).read()) == [f"{n}" for n in range(600)]
    assert a_log(store).read() == state == pickle.loads(pickle.dumps(state))


def test_nothing_to_commit_writes_nothing(log: Log, store: FileStore) -> None:
    assert log.commit(EMPTY, lambda _: []) is EMPTY
    assert list(store.list("")) == []


def test_other_objects_in_the_log_folder_are_left_alone(log: Log, store: FileStore) -> None:
    state = log.commit(EMPTY, lambda _: [gap("1")])
    store.put("default/shop/log/README", b"")
    store.put("default/shop/log/9.json", b"")
    store.put("default/shop2/log/00000000000000000009.json", b"")
    assert a_log(store).read() == state


# --- who else writes --------------------------------------------------------------------------------------------------


def test_a_commit_on_an_old_state_is_planned_again(log: Log) -> None:
    log.commit(EMPTY, lambda _: [gap("theirs")])
    seen: list[int] = []

    def build(head: ArchiveState) -> list[Action]:
        seen.append(head.version)
        return [gap("ours")]

    assert reasons(log.commit(EMPTY, build)) == ["theirs", "ours"]
    assert seen == [0, 1]


def test_build_may_give_up(log: Log) -> None:
    log.commit(EMPTY, lambda _: [gap("theirs")])

    def build(head: ArchiveState) -> list[Action]:
        if head.version:
            raise LookupError("what it builds on is gone")
        return [gap("ours")]

    with pytest.raises(LookupError):
        log.commit(EMPTY, build)
    assert reasons(log.read()) == ["theirs"]


def test_an_older_generation_is_fenced(log: Log, store: FileStore) -> None:
    old = log.commit(log.start_generation(EMPTY, "one", 1), lambda s: window(s), generation=1)
    other = a_log(store)
    new = other.start_generation(other.read(), "two", 2)
    assert new.generation == 2
    with pytest.raises(Fenced, match=r"generation 1 .*generation 2 .*process 2 on `two`"):
        log.commit(old, lambda s: window(s), generation=1)
    with pytest.raises(Fenced):
        log.commit(log.read(), lambda s: window(s), generation=1)
    new = other.commit(new, lambda s: window(s), generation=2)
    new = log.commit(old, lambda _: [gap("a snapshot has no generation")])
    assert (new.version, new.last_seq) == (5, 6)
    assert a_log(store).read() == new


def test_two_starts_at_once_get_different_generations(store: FileStore) -> None:
    start = threading.Barrier(6)

    def run(pid: int) -> tuple[int, int]:
        start.wait()
        state = Log(store, LAYOUT).start_generation(EMPTY, "host", pid)
        assert state.writer is not None
        return state.generation, state.writer.pid

    with ThreadPoolExecutor(6) as pool:
        taken = sorted(pool.map(run, range(6)))
    assert [generation for generation, _ in taken] == [1, 2, 3, 4, 5, 6]
    assert sorted(pid for _, pid in taken) == [0, 1, 2, 3, 4, 5]


def commit_many(settings: ArchiveSettings, name: str, count: int) -> None:
    """Runs in a process of its own."""
    log = Log(open_store(settings), LAYOUT)
    state = log.read()
    for number in range(count):
        state = log.commit(state, lambda _, n=number: [gap(f"{name}-{n}")])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("where", "processes", "threads", "count"),
    [("file", 3, 2, 25), pytest.param("s3", 2, 2, 8, marks=pytest.mark.sockets)],
)
def test_racing_committers_each_stand_exactly_once(
    request: pytest.FixtureRequest, tmp_path: Path, where: str, processes: int, threads: int, count: int
) -> None:
    settings = ArchiveSettings(root=f"file://{tmp_path}")
    if where == "s3":
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        settings = ArchiveSettings(root=bucket.url, s3=S3Settings(endpoint_url=bucket.endpoint_url))
    spawn = multiprocessing.get_context("spawn")
    running = [spawn.Process(target=commit_many, args=(settings, f"p{p}", count)) for p in range(processes)]
    for process in running:
        process.start()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda t: commit_many(settings, f"t{t}", count), range(threads)))
    for process in running:
        process.join(120)
        assert process.exitcode == 0
    state = Log(open_store(settings), LAYOUT).read()
    names = [f"p{p}" for p in range(processes)] + [f"t{t}" for t in range(threads)]
    assert sorted(reasons(state)) == sorted(f"{name}-{n}" for name in names for n in range(count))
    assert state.version == len(names) * count
    for name in names:
        assert [r for r in reasons(state) if r.startswith(f"{name}-")] == [f"{name}-{n}" for n in range(count)]


def test_conflicts_without_end_are_given_up(store: FileStore) -> None:
    class Busy(FileStore):
        def put_if_absent(self, key: str, body: bytes) -> None:
            theirs = replace(Commit.from_bytes(body, key), commit_id="theirs")
            super().put_if_absent(key, theirs.to_bytes())
            super().put_if_absent(key, body)

    log = a_log(Busy(Path(store.root)), max_rebuilds=5)
    with pytest.raises(CommitConflict, match="6 times"):
        log.commit(EMPTY, lambda _: [gap("x")])


# --- what the store answers -------------------------------------------------------------------------------------------


class Unsure(FileStore):
    """Carries a put_if_absent out, or not, and answers otherwise: `script` has one (done, answer) per call."""

    def __init__(self, root: Path, script: Sequence[tuple[bool, type[Exception] | None]]) -> None:
        super().__init__(root)
        self.script = list(script)
        self.reads_fail = 0

    def put_if_absent(self, key: str, body: bytes) -> None:
        done, answer = self.script.pop(0) if self.script else (True, None)
        if done:
            super().put_if_absent(key, body)
        if answer:
            raise answer("by order", hint="")  # type: ignore[call-arg]

    def get(self, key: str) -> bytes:
        if self.reads_fail:
            self.reads_fail -= 1
            raise StoreUnavailable("by order", hint="")
        return super().get(key)


LOST = [
    [(True, StoreUnavailable)],
    [(True, ObjectExists)],
    [(False, StoreUnavailable)],
    [(False, ObjectExists)],
    [(False, StoreUnavailable), (True, StoreUnavailable)],
    [(False, StoreUnavailable), (False, ObjectExists), (True, ObjectExists)],
]


@pytest.mark.parametrize("script", LOST)
@pytest.mark.parametrize("reads_fail", [0, 1])
def test_a_lost_answer_commits_exactly_once(
    tmp_path: Path, script: list[tuple[bool, type[Exception] | None]], reads_fail: int
) -> None:
    store = Unsure(tmp_path, script)
    store.reads_fail = reads_fail
    state = a_log(store).commit(EMPTY, lambda _: [gap("once")])
    state = a_log(store).commit(state, lambda _: [gap("next")])
    assert a_log(store).read() == state
    assert (state.version, reasons(state)) == (2, ["once", "next"])


@pytest.mark.parametrize("landed", [True, False])
def test_an_outage_leaves_the_outcome_open_and_the_same_commit_can_be_repeated(tmp_path: Path, landed: bool) -> None:
    store = Unsure(tmp_path, [(landed, StoreUnavailable)] + [(False, StoreUnavailable)] * 9)
    store.reads_fail = 99
    log = a_log(store, max_attempts=4)
    with pytest.raises(StoreUnavailable):
        log.commit(EMPTY, lambda s: window(s), commit_id="ab" * 16)
    assert len(store.script) == 6
    store.script, store.reads_fail = [], 0
    log.commit(log.read(), lambda _: [gap("another writer, meanwhile")])
    state = log.commit(EMPTY, lambda s: window(s), commit_id="ab" * 16)
    assert state.last_seq == 3
    assert [c.seq for c in log.read().checkpoints] == [3]
    assert log.read().version == 2


def test_a_taken_over_generation_is_our_own_after_a_lost_answer(tmp_path: Path) -> None:
    """The state that comes back is the one of our commit, though the log may have gone on."""
    store = FileStore(tmp_path)

    class Overtaken(Unsure):
        def put_if_absent(self, key: str, body: bytes) -> None:
            try:
                super().put_if_absent(key, body)
            finally:
                a_log(store).start_generation(EMPTY, "other", 2)

    state = a_log(Overtaken(tmp_path, [(True, StoreUnavailable)])).start_generation(EMPTY, "ours", 1)
    assert state.generation == 1
    assert a_log(store).read().generation == 2
    with pytest.raises(Fenced):
        a_log(store).commit(state, lambda s: window(s), generation=state.generation)


def test_a_full_store_commits_nothing(tmp_path: Path) -> None:
    store = Unsure(tmp_path, [(False, StoreFull)])
    with pytest.raises(StoreFull):
        a_log(store).commit(EMPTY, lambda _: [gap("x")])
    assert a_log(store).read() == EMPTY


@pytest.fixture
def proxy(s3_bucket: S3Bucket) -> Iterator[FaultProxy]:
    with FaultProxy(s3_bucket.endpoint_url) as running:
        yield running


CUTS = [
    [Fault.CUT_AFTER],
    [Fault.CUT_BEFORE],
    [Fault.STALL_AFTER],
    [Fault.UNAVAILABLE],
    [Fault.UNAVAILABLE_AFTER],
    [Fault.CONFLICT],
    [Fault.CONFLICT_AFTER],
    [Fault.UNAVAILABLE] * 4 + [Fault.CUT_AFTER],
    [Fault.CONFLICT, Fault.CUT_BEFORE, Fault.CUT_AFTER],
]


@pytest.mark.parametrize("faults", CUTS, ids=lambda faults: "+".join(f.name for f in faults))
def test_over_s3_a_cut_answer_commits_exactly_once(
    s3_bucket: S3Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, faults: list[Fault]
) -> None:
    monkeypatch.setattr(s3store, "READ_TIMEOUT_S", 1)
    log = a_log(S3Store(s3_bucket.name, "", S3Settings(endpoint_url=proxy.url)))
    before = log.start_generation(log.read(), "host", 1)
    for fault in faults:
        proxy.fail("PUT", "/log/", fault)
    state = log.commit(before, lambda s: window(s), generation=1)
    assert [fault for _, _, fault in proxy.served if fault] == faults
    state = log.commit(state, lambda s: window(s), generation=1)
    direct = a_log(S3Store(s3_bucket.name, "", S3Settings(endpoint_url=s3_bucket.endpoint_url)))
    assert direct.read() == state
    assert (state.version, [c.seq for c in state.checkpoints]) == (3, [3, 6])


def test_over_s3_cut_answers_and_racing_writers(
    s3_bucket: S3Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3store, "READ_TIMEOUT_S", 1)
    settings = ArchiveSettings(root=s3_bucket.url, s3=S3Settings(endpoint_url=proxy.url))
    for fault in (Fault.CUT_AFTER, Fault.CONFLICT_AFTER, Fault.CUT_BEFORE, Fault.UNAVAILABLE_AFTER) * 2:
        proxy.fail("PUT", "/log/", fault)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda t: commit_many(settings, f"t{t}", 6), range(3)))
    state = Log(open_store(settings), LAYOUT).read()
    assert sorted(reasons(state)) == sorted(f"t{t}-{n}" for t in range(3) for n in range(6))


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def five(log: Log, store: FileStore) -> ArchiveState:
    state = EMPTY
    for number in range(5):
        state = log.commit(state, lambda _, n=number: [gap(f"{n}")])  # type: ignore[misc]
    return state


THIRD = LAYOUT.log_version(3)


def edit(store: Store, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(store.get(THIRD))
    change(document)
    store.put(THIRD, json.dumps(document).encode())


DAMAGES: dict[str, tuple[Callable[[Store], None], str]] = {
    "missing": (lambda s: s.delete(THIRD), "is missing"),
    "empty": (lambda s: s.put(THIRD, b""), "is not a commit"),
    "torn": (lambda s: s.put(THIRD, s.get(THIRD)[:-9]), "is not a commit"),
    "binary": (lambda s: s.put(THIRD, b"\xff\xfe\0"), "is not a commit"),
    "a list": (lambda s: s.put(THIRD, b"[]"), "is not a commit"),
    "another version's": (lambda s: s.put(THIRD, s.get(LAYOUT.log_version(2))), "holds version 2"),
    "another chain's": (lambda s: edit(s, lambda d: d.update(previous_sha256="0" * 64)), "chain hash"),
    "no actions": (lambda s: edit(s, lambda d: d.pop("actions")), "is not a commit"),
    "wrong type": (lambda s: edit(s, lambda d: d.update(version="3")), "is not a commit"),
    "format 0": (lambda s: edit(s, lambda d: d.update(format=0)), "is not a commit"),
    "a broken action": (lambda s: edit(s, lambda d: d.update(actions=[{"action": "gap"}])), "is not a commit"),
    "not an action": (lambda s: edit(s, lambda d: d.update(actions=[1])), "is not a commit"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named(five: ArchiveState, store: FileStore, kind: str) -> None:
    damage, message = DAMAGES[kind]
    damage(store)
    with pytest.raises(ArchiveDamaged, match=f"{THIRD}.*{message}") as caught:
        a_log(store).read()
    assert caught.value.hint


def test_a_changed_byte_is_found_by_the_next_commit(five: ArchiveState, store: FileStore) -> None:
    store.put(THIRD, store.get(THIRD).replace(b'"reason":"2"', b'"reason":"7"'))
    with pytest.raises(ArchiveDamaged, match=LAYOUT.log_version(4)):
        a_log(store).read()


def test_a_log_that_was_emptied_under_a_reader(five: ArchiveState, store: FileStore) -> None:
    for version in range(1, 6):
        store.delete(LAYOUT.log_version(version))
    with pytest.raises(ArchiveDamaged, match=LAYOUT.log_version(5)):
        a_log(store).read(five)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format=99, actions="in some new form"),
        lambda d: d.update(actions=[{"action": "teleport", "to": 1}]),
    ],
)
def test_what_a_newer_version_wrote_is_refused(
    five: ArchiveState, store: FileStore, change: Callable[[dict[str, object]], object]
) -> None:
    edit(store, change)
    with pytest.raises(UnknownFormat) as caught:
        a_log(store).read()
    assert "newer" in caught.value.hint


def broken_windows() -> dict[str, tuple[Callable[[ArchiveState], list[Action]], str]]:
    def bent(index: int, **changes: object) -> Callable[[ArchiveState], list[Action]]:
        def build(head: ArchiveState) -> list[Action]:
            actions = window(head)
            actions[index] = replace(actions[index], **changes)  # type: ignore[arg-type]
            return actions

        return build

    def with_segment(head: ArchiveState) -> list[Action]:
        return [SchemaSeen(TABLE.schema_id, 1, TABLE), replace(segment(head), last_seq=99), *window(head)]

    return {
        "hole": (bent(0, first_seq=5, rows=2), "from seq 5 on, after seq 3"),
        "overlap": (bent(0, first_seq=3, rows=4), "from seq 3 on, after seq 3"),
        "rows": (bent(0, rows=2), "2 rows"),
        "times fall": (bent(0, min_cut_at_us=29), "cut time"),
        "covered already": (bent(0, min_cut_at_us=30), "promised as covered"),
        "checkpoint short": (bent(1, seq=5), "checkpoint at seq 5"),
        "checkpoint back": (bent(1, seq=2), "goes back"),
        "coverage back": (bent(1, covered_to_us=1), "goes back"),
        "no checkpoint": (lambda s: window(s)[:1], "checkpoint at seq 3, but transactions to seq 6"),
        "segment outside": (with_segment, "outside its own"),
        "unknown schema": (lambda s: [segment(s), *window(s)], "which no commit holds"),
        "wrong schema": (lambda _: [SchemaSeen("0" * 16, 1, TABLE)], "another definition"),
        "identity twice": (lambda _: [Identity("mysql", "b", 1, "9")], "second time"),
        "generation jumps": (lambda _: [Writer(5, "h", 1, 0)], "generation 5 after generation 1"),
        "snapshot twice": (lambda _: [snapshot("a", 1), snapshot("a", 2)], "repeats a snapshot"),
        "wrong type": (lambda s: [replace(window(s)[0], first_seq="4"), window(s)[1]], "after seq 3|wrong type"),
        "not text": (lambda _: [gap("\udcff")], "utf-8"),
    }


@pytest.mark.parametrize("kind", broken_windows())
def test_what_breaks_the_archive_is_neither_written_nor_read(log: Log, store: FileStore, kind: str) -> None:
    build, message = broken_windows()[kind]
    state = log.start_generation(EMPTY, "h", 1, lambda s: [Identity("mysql", "a", 1, "9"), *window(s)])
    with pytest.raises(ArchiveError, match=f"version 2 of the log was not written: .*({message})") as caught:
        log.commit(state, build)
    assert "bug" in caught.value.hint
    assert log.read() == state
    if kind != "not text":
        bad = Commit(2, "x", None, state.sha256, 0, tuple(build(state)))
        store.put(LAYOUT.log_version(2), bad.to_bytes())
        with pytest.raises(ArchiveDamaged, match=f"{LAYOUT.log_version(2)}.*({message})"):
            log.read()


def test_a_commit_of_a_fenced_generation_is_damage(log: Log, store: FileStore) -> None:
    state = log.start_generation(EMPTY, "h", 1)
    store.put(LAYOUT.log_version(2), Commit(2, "x", 7, state.sha256, 0, (gap("x"),)).to_bytes())
    with pytest.raises(ArchiveDamaged, match="generation 7 while generation 1"):
        log.read()


# --- the fold ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(), max_size=5))))
def test_history_is_an_immutable_sequence(steps: list[tuple[int, list[int]]]) -> None:
    """Grow any earlier version, in any order: each stays what it was. A tuple is the model."""
    made: list[tuple[History[int], tuple[int, ...]]] = [(History(), ())]
    for pick, new in steps:
        history, model = made[pick % len(made)]
        made.append((history.grown(new), model + tuple(new)))
    for history, model in made:
        assert tuple(history) == model
        assert len(history) == len(model)
        assert history == model
        assert history[:] == model
        assert history[-2:] == model[-2:]
        assert [history[i] for i in range(-len(model), len(model))] == [*model, *model]
        with pytest.raises(IndexError):
            history[len(model)]
        with pytest.raises(IndexError):
            history[-len(model) - 1]


def test_growing_a_history_does_not_copy_it() -> None:
    state = EMPTY
    for version in range(1, 20_001):
        state = apply(state, Commit(version, "", None, state.sha256, 0, (gap("x"),), sha256=f"{version}"))
    assert len(state.gaps) == 20_000  # some 0.3 s; with copies it would be minutes
