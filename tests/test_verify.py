"""`rowback verify --archive`: what is whole is called whole, and whatever is wrong is found and named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhistory import LAYOUT, UUID, LongHistory
from test_compaction import Crashing

from recovery.archive.actions import Action, Checkpoint, Gap, Segment, Transactions
from recovery.archive.compaction import Policy
from recovery.archive.compactor import Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.state import EMPTY
from recovery.archive.store import ObjectInfo, Store, open_store
from recovery.config import ArchiveSettings, S3Settings
from recovery.gtid import MariaDBGtidPosition, MySQLGtidSet
from recovery.verify import verify_archive
from recovery.verify_gtids import GtidAccount
from recovery.verify_report import ArchiveReport
from testservers import S3Bucket


@pytest.fixture
def folder(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


def verify(store: Store, *, quick: bool = False) -> ArchiveReport:
    return verify_archive(store, LAYOUT, Log(store, LAYOUT), quick=quick)


def a_history(store: Store, windows: int = 12, **given: Any) -> LongHistory:
    history = LongHistory(store, 4, **given)
    history.windows(windows // 2)
    history.snapshot("s1")
    history.windows(windows - windows // 2)
    return history


def compact(history: LongHistory) -> None:
    history.idle()
    Compactor(history.store, LAYOUT, history.log, Policy(keyless_days=0)).run(history.state)
    history.state = history.log.read()


def told(report: ArchiveReport) -> dict[str, str]:
    return {f.object: f.problem for f in report.findings}


# --- whole archives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["file", pytest.param("s3", marks=pytest.mark.sockets)])
def test_a_whole_archive(request: pytest.FixtureRequest, tmp_path: Path, where: str) -> None:
    store: Store = FileStore(tmp_path)
    if where == "s3":
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        store = open_store(ArchiveSettings(root=bucket.url, s3=S3Settings(endpoint_url=bucket.endpoint_url)))
    history = a_history(store, index_every=5)
    store.put(LAYOUT.segment("shop", "orders", 0, 1, 1, "0" * 64, "left"), b"by an attempt that failed")
    seen: list[tuple[str, int, int]] = []
    report = verify_archive(store, LAYOUT, history.log, progress=lambda *step: seen.append(step))
    assert report.findings == ()
    assert report.whole
    assert (report.first_version, report.last_version) == (1, history.state.version)
    assert report.indexes == history.state.version // 5
    assert report.transactions == report.gtids == history.seq
    assert report.row_changes == sum(s.inserts + s.updates + s.deletes for s in history.state.segments)
    assert report.snapshots == 2
    assert (report.orphans.objects, report.removed.objects) == (1, 0)
    assert "left" in report.orphans.examples[0]
    assert {phase for phase, _, _ in seen} >= {"transactions", "changes", "baselines", "dumps"}
    quick = verify(store, quick=True)
    assert (quick.whole, quick.row_changes, quick.objects) == (True, None, report.objects)


def test_a_compacted_archive(folder: FileStore) -> None:
    history = a_history(folder, windows=30)
    before = verify(folder)
    compact(history)
    after = verify(folder)
    assert after.findings == ()
    assert (after.gtids, after.row_changes) == (before.gtids, before.row_changes)
    assert after.removed.objects == len(history.state.removed) > 0
    assert after.orphans.objects == 0


def test_a_trimmed_archive(folder: FileStore) -> None:
    history = a_history(folder, windows=30, index_every=10)
    for version in range(1, 15):
        folder.delete(LAYOUT.log_version(version))
    report = verify(folder)
    assert report.findings == (), "the index of version 20 stands for what is gone"
    assert (report.first_version, report.transactions) == (15, history.seq)


def test_a_gap_that_was_skipped_is_no_damage(folder: FileStore) -> None:
    """GTIDs in the gap are in the checkpoint behind it, and in no transaction."""
    history = LongHistory(folder, 1)
    history.windows(3)
    at = history.checkpoint()
    lost = f"{UUID}:1-{history.seq + 50}"
    behind = replace(at, position=77_777, gtid_set=lost)
    gap = Gap(at.seq, at.file, at.position, behind.file, behind.position, 0, "purged")
    history.log.commit(history.log.read(), lambda _: [gap, behind])
    assert verify(folder).findings == ()


def test_a_checkpoint_may_not_jump_without_a_gap(folder: FileStore) -> None:
    history = LongHistory(folder, 1)
    history.windows(3)
    jumped = replace(history.checkpoint(), gtid_set=f"{UUID}:1-{history.seq + 50}")
    history.log.commit(history.log.read(), lambda _: [jumped])
    assert f"{UUID}:1-{history.seq}`" in told(verify(folder))[LAYOUT.log_version(6)]


# --- objects that were harmed -----------------------------------------------------------------------------------------

OBJECTS: dict[str, Callable[[LongHistory], str]] = {
    "change segment": lambda h: h.state.segments[3].path,
    "transactions segment": lambda h: h.state.transactions[2].path,
    "baseline": lambda h: h.state.snapshots[-1].baselines[0].objects[0].path,
    "dump file": lambda h: f"{h.state.snapshots[-1].path}metadata",
}
HARMS: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda body: body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :],
    "shorter": lambda body: body[:-1],
    "longer": lambda body: body + b"x",
    "empty": lambda body: b"",
}


@pytest.mark.parametrize("what", OBJECTS)
@pytest.mark.parametrize("harm", [*HARMS, "missing"])
def test_a_harmed_object_is_named(folder: FileStore, what: str, harm: str) -> None:
    history = a_history(folder)
    victim = OBJECTS[what](history)
    body = folder.get(victim)
    folder.delete(victim)
    if harm != "missing":
        folder.put(victim, HARMS[harm](body))
    report = verify(folder)
    assert set(told(report)) == {victim}, report.findings
    assert not report.whole
    quick = verify(folder, quick=True)
    assert set(told(quick)) == (set() if harm == "flipped" else {victim})


def test_a_flipped_bit_anywhere_is_found(folder: FileStore) -> None:
    """In any object but the newest commit and the hint, which nothing else stands for, and columns of an index that nobody
    reads."""
    history = a_history(folder, windows=6)
    keys = [i.key for i in folder.list("") if i.key != LAYOUT.log_version(history.state.version)]
    keys = [k for k in keys if not k.endswith("manifest.json")]
    pick = random.Random(5)
    for key in pick.sample(keys, min(25, len(keys))):
        body = folder.get(key)
        at = pick.randrange(len(body))
        folder.put(key, body[:at] + bytes([body[at] ^ (1 << pick.randrange(8))]) + body[at + 1 :])
        assert not verify(folder).whole, (key, at)
        folder.put(key, body)
    assert verify(folder).whole


def test_a_missing_manifest(folder: FileStore) -> None:
    history = a_history(folder)
    name = f"{history.state.snapshots[0].path}manifest.json"
    folder.put(name, b"{")
    assert "is no manifest" in told(verify(folder))[name]
    folder.delete(name)
    assert told(verify(folder, quick=True)) == {name: "is missing"}


def test_many_findings_are_cut(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recovery.verify_report.MAX_FINDINGS", 3)
    history = a_history(folder)
    for segment in history.state.segments:
        folder.delete(segment.path)
    report = verify(folder, quick=True)
    assert (len(report.findings), report.truncated) == (3, True)


# --- a log that was harmed --------------------------------------------------------------------------------------------


def test_a_log_with_a_hole(folder: FileStore) -> None:
    a_history(folder, windows=10)
    folder.delete(LAYOUT.log_version(4))
    report = verify(folder, quick=True)
    assert "versions between are missing" in told(report)[LAYOUT.log_version(3)]
    assert not report.whole


def test_a_log_whose_chain_is_broken(folder: FileStore) -> None:
    history = a_history(folder, windows=10, index_every=8)
    name = LAYOUT.log_version(3)
    folder.put(name, folder.get(name).replace(b'"host":"h"', b'"host":"x"') + b" ")
    report = verify(folder)
    assert "chain hash" in told(report)[LAYOUT.log_version(4)]
    assert report.last_version == history.state.version, "the index still gives readers the state, which was checked"
    assert len(report.findings) == 1


def test_a_log_that_lost_its_newest_versions(folder: FileStore) -> None:
    history = a_history(folder, windows=10, index_every=1)
    head = history.state.version
    folder.delete(LAYOUT.log_version(head))
    assert "newer than the log" in told(verify(folder, quick=True))[LAYOUT.index(head)]


def test_an_index_that_says_something_else(folder: FileStore) -> None:
    history = a_history(folder, windows=10)
    lying = replace(history.state, segments=history.state.segments[1:])
    history.log.index.write(lying)
    assert told(verify(folder, quick=True))[LAYOUT.index(lying.version)] == "holds another state than the log gives"
    folder.put(LAYOUT.index(lying.version), b"PAR1")
    assert "is damaged" in told(verify(folder, quick=True))[LAYOUT.index(lying.version)]


# --- logs that lie ----------------------------------------------------------------------------------------------------


def bending(kind: type[Action], **changes: Callable[[Any], object]) -> Callable[[list[Action]], list[Action]]:
    """Changes the first such action of each window."""

    def bend(actions: list[Action]) -> list[Action]:
        at = next((i for i, a in enumerate(actions) if isinstance(a, kind) and fits(a)), None)
        if at is None:
            return actions
        bent = replace(actions[at], **{k: make(actions[at]) for k, make in changes.items()})  # type: ignore[arg-type]
        return [*actions[:at], bent, *actions[at + 1 :]]

    def fits(action: Any) -> bool:
        return getattr(action, "key_min", "") is not None

    return bend


LIES: dict[str, tuple[Callable[[list[Action]], list[Action]], str]] = {
    "rows": (bending(Segment, rows=lambda s: s.rows + 1), "its rows is"),
    "inserts": (bending(Segment, inserts=lambda s: s.inserts + 1), "its inserts is"),
    "deletes": (bending(Segment, deletes=lambda s: s.deletes + 1), "its deletes is"),
    "updates": (bending(Segment, updates=lambda s: s.updates + 1), "its updates is"),
    "key": (bending(Segment, key_max=lambda s: s.key_max + "9"), "its keys go from"),
    "first cut": (bending(Segment, min_cut_at_us=lambda s: s.min_cut_at_us - 1), "its min_cut_at_us is"),
    "last cut": (bending(Segment, max_cut_at_us=lambda s: s.max_cut_at_us + 1), "its max_cut_at_us is"),
    "hours": (bending(Segment, max_cut_at_us=lambda s: s.max_cut_at_us + 3_600_000_000), "two hours"),
    "a table twice": (lambda actions: [*actions[:-1], *twice(actions), actions[-1]], "row changes, and the change segments"),
    "position": (bending(Transactions, first_position=lambda t: t.first_position + 1), "its first_position is"),
    "end": (bending(Transactions, last_file=lambda t: "binlog.000009"), "its last_file is"),
    "gtid left out": (
        bending(Checkpoint, gtid_set=lambda c: f"{UUID}:1-{c.seq - 1}" if c.seq > 1 else c.gtid_set), "add up to",
    ),
    "gtid too many": (bending(Checkpoint, gtid_set=lambda c: f"{UUID}:1-{c.seq + 1}"), "add up to"),
}  # fmt: skip


def twice(actions: list[Action]) -> Iterator[Action]:
    return (a for a in actions if isinstance(a, Segment))


@pytest.mark.parametrize("kind", LIES)
def test_a_log_that_says_something_else_than_its_objects(folder: FileStore, kind: str) -> None:
    bend, message = LIES[kind]
    a_history(folder, bend=bend)
    report = verify(folder)
    assert any(message in f.problem for f in report.findings), report.findings


def test_a_gtid_that_stands_twice(folder: FileStore) -> None:
    history = a_history(folder, gtid=lambda seq: f"{UUID}:{min(seq, 9)}")
    problems = [f.problem for f in verify(folder).findings]
    assert history.seq > 10
    assert any("twice" in p for p in problems)


def test_seqs_that_are_not_in_order_inside_an_object(folder: FileStore) -> None:
    history = a_history(folder)
    victim = next(t for t in history.state.transactions if t.rows > 2)
    from recovery.archive.segments import read_transactions
    from recovery.verify_objects import check_transactions

    data = next(iter(read_transactions(folder, [victim])))
    assert list(check_transactions(victim, data, 0)) == []
    swapped = data.take(pa.array([1, 0, *range(2, data.num_rows)]))
    assert any("one after the other" in p for p in check_transactions(victim, swapped, 0))
    assert any("cut times fall" in p for p in check_transactions(victim, data, victim.min_cut_at_us + 1))


# --- while others work ------------------------------------------------------------------------------------------------


def test_capture_may_go_on_meanwhile(folder: FileStore) -> None:
    history = a_history(folder)

    class Busy(FileStore):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            if prefix.endswith("changes/"):
                history.windows(3)
            yield from super().list(prefix, start_after)

    report = verify(Busy(Path(folder.root)))
    assert (report.findings, report.orphans.objects) == ((), 0)


def test_a_sweep_may_go_on_meanwhile(folder: FileStore) -> None:
    """Objects that were live when the log was read, and were removed and deleted since, are not missing."""
    history = a_history(folder, windows=30)

    class Swept(FileStore):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            if prefix.endswith("changes/") and not history.state.removed:
                compact(history)
                for removed in history.state.removed:
                    folder.delete(removed.path)
            yield from super().list(prefix, start_after)

    report = verify(Swept(Path(folder.root)), quick=True)
    assert report.findings == ()


# --- the account of GTIDs ---------------------------------------------------------------------------------------------


def account_of(flavor: str, start: str, windows: list[list[str | None]], bend: str | None = None) -> list[str]:
    """What is wrong with these transactions, each window with a right checkpoint behind it."""
    total: Any = (MariaDBGtidPosition if flavor == "mariadb" else MySQLGtidSet).parse(start)
    points, tables, seq = [Checkpoint(0, "b.1", 4, start, 0, 0)], [], 0
    for window in windows:
        first = seq + 1
        for gtid in window:
            seq += 1
            if gtid:
                total.add(gtid)
        points.append(Checkpoint(seq, "b.1", seq, str(total), 0, 0))
        tables.append(
            pa.table({"seq": pa.array(range(first, seq + 1), pa.int64()), "gtid": pa.array(window, pa.string())})
        )
    if bend is not None:
        points[-1] = replace(points[-1], gtid_set=bend)
    account = GtidAccount(flavor, points, ())
    # One segment may hold several windows, after compaction.
    joined = pa.concat_tables(tables[:2]) if len(tables) > 1 else tables[0]
    return [p for t in [joined, *tables[2:]] for p in account.add(t)] + list(account.finish())


SOURCES = [UUID, f"{UUID}:tag", "ffffffff-0000-1111-2222-bbbbbbbbbbbb"]
MYSQL = st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(1, 40)), min_size=1, max_size=40, unique=True)
CUTS = st.lists(st.integers(1, 6), min_size=1, max_size=10)


def cut(gtids: list[str | None], sizes: list[int]) -> list[list[str | None]]:
    """Whole windows, none of them empty."""
    result, at = [], 0
    for size in [*sizes, len(gtids)]:
        if gtids[at : at + size]:
            result.append(gtids[at : at + size])
        at += size
    return result


@given(MYSQL, CUTS, st.integers(0, 5))
def test_any_order_and_holes_of_mysql_gtids_add_up(pairs: list[tuple[str, int]], sizes: list[int], before: int) -> None:
    gtids: list[str | None] = [f"{source}:{number}" for source, number in pairs[before:]] + [None]
    start: Any = MySQLGtidSet()
    for source, number in pairs[:before]:
        start.add(f"{source}:{number}")
    assert account_of("mysql", str(start), cut(gtids, sizes)) == []
    for gtid in [g for g in gtids[:1] if g] + [f"{s}:{n}" for s, n in pairs[:before][:1]]:
        assert any("twice" in p for p in account_of("mysql", str(start), cut([*gtids, gtid], sizes)))
    assert any("add up" in p for p in account_of("mysql", str(start), cut(gtids, sizes), bend=f"{UUID}:1-99"))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 30)), min_size=1, unique=True), CUTS)
def test_mariadb_gtids_add_up(triples: list[tuple[int, int, int]], sizes: list[int]) -> None:
    gtids: list[str | None] = [f"{d}-{s}-{n}" for d, s, n in triples]
    assert account_of("mariadb", "", cut(gtids, sizes)) == []
    assert any("twice" in p for p in account_of("mariadb", "", cut([*gtids, gtids[0]], sizes)))
    assert any("add up" in p for p in account_of("mariadb", "", cut(gtids, sizes), bend="7-7-7"))


def test_the_result_is_plain_data(folder: FileStore) -> None:
    from recovery.plain import to_plain

    a_history(folder, windows=2)
    assert json.loads(json.dumps(to_plain(verify(folder))))["findings"] == []


# --- kills while capture commits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
def test_a_kill_at_any_write_of_a_capture_leaves_a_whole_archive(tmp_path: Path, done: bool) -> None:
    """Segments, commits, indexes and the hint at them: each write is the last one once."""
    for at in range(1000):
        root = tmp_path / f"{at}"
        try:
            history = LongHistory(Crashing(root, at, done=done), 6, index_every=2)
            history.windows(3)
        except KeyboardInterrupt:
            store = FileStore(root)
            assert verify_archive(store, LAYOUT, Log(store, LAYOUT)).findings == ()
            state = Log(store, LAYOUT).read()
            assert state == (list(Log(store, LAYOUT).walk()) or [(None, EMPTY)])[-1][1]
            state = Log(store, LAYOUT, index_every=2).start_generation(state, "next", 2)
            assert Log(store, LAYOUT).read() == state
            continue
        break
    assert 20 < at < 999
