"""The sweep: what nobody can need goes, nothing else does, and a kill at any moment leaves a whole archive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhistory import LAYOUT, TABLES, LongHistory
from test_compaction import ANY_AGE, Crashing, told

from recovery.archive import sweeping
from recovery.archive.actions import Pending, PendingObject, SchemaSeen
from recovery.archive.compactor import Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.rebuild import base_of
from recovery.archive.state import ArchiveState
from recovery.archive.store import ObjectInfo, Store, open_store
from recovery.archive.sweeper import Sweeper
from recovery.archive.sweeping import KEEP_INDEXES, plan_objects, plan_trim
from recovery.changes import ChangeQuery, changes
from recovery.config import ArchiveSettings, S3Settings
from recovery.errors import ArchiveDamaged, Fenced
from recovery.render import changes_json
from recovery.verify import verify_archive
from testservers import S3Bucket

DAY = timedelta(days=1)
AT_ONCE = timedelta(seconds=-10)  # whatever was written counts as old
NOW = datetime(2026, 5, 9, 12, tzinfo=UTC)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.sockets)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return FileStore(tmp_path / "archive")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return open_store(ArchiveSettings(root=bucket.url, s3=S3Settings(endpoint_url=bucket.endpoint_url)))


@pytest.fixture
def folder(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "archive")


def compacted(store: Store, windows: int = 16, index_every: int = 0) -> LongHistory:
    history = LongHistory(store, 2, index_every=index_every)
    history.windows(windows)
    history.idle()
    Compactor(store, LAYOUT, history.log, ANY_AGE).run(history.state)
    history.state = history.log.read()
    return history


def names(store: Store) -> set[str]:
    return {info.key for info in store.list("")}


def age(store: FileStore, prefix: str, days: float) -> None:
    """Make objects older by the store's clock, which for a folder is the files'."""
    for info in store.list(prefix):
        path = Path(store.root) / info.key
        then = path.stat().st_mtime - days * 86_400
        os.utime(path, (then, then))


# --- objects ----------------------------------------------------------------------------------------------------------


def test_removed_objects_and_orphans_go_and_nothing_else(store: Store) -> None:
    history = compacted(store)
    before, state = told(store, history.state), history.state
    orphans = [LAYOUT.segment("shop", "x", 0, 1, 1, "0" * 64, "a"), LAYOUT.transactions(0, 1, 1, "0" * 64, "a")]
    orphans += [LAYOUT.pending(1, "0" * 64, "a"), f"{LAYOUT.prefix}probe/x"]
    for name in orphans:
        store.put(name, b"x")
    everything = names(store)
    fresh = Sweeper(store, LAYOUT, history.log).plan()
    assert fresh.doomed == ()
    assert sum(k.objects for k in fresh.kept) == len(orphans) + len(state.removed)
    assert names(store) == everything
    done = Sweeper(store, LAYOUT, history.log, AT_ONCE).run()
    assert everything - names(store) == {r.path for r in state.removed} | set(orphans)
    assert done.objects == len(state.removed) + len(orphans)
    after = history.log.read()
    assert (after.version, len(after.removed)) == (state.version + 1, 0)
    assert told(store, after) == before
    assert verify_archive(store, LAYOUT, history.log).findings == ()
    again = Sweeper(store, LAYOUT, history.log, AT_ONCE).run()
    assert (again.objects, again.version) == (0, None)
    assert history.log.read() == after


def test_a_removed_object_stays_for_the_grace_time_whatever_its_own_age(folder: FileStore) -> None:
    history = compacted(folder)
    age(folder, "default/shop/changes/", days=90)
    age(folder, "default/shop/transactions/", days=90)
    assert Sweeper(folder, LAYOUT, history.log).plan().doomed == ()
    age(folder, "default/shop/log/", days=0.9)
    assert Sweeper(folder, LAYOUT, history.log).plan().doomed == ()
    age(folder, "default/shop/log/", days=0.2)
    plan = Sweeper(folder, LAYOUT, history.log).plan()
    assert {d.path for d in plan.doomed} == {r.path for r in history.state.removed}
    assert plan.swept == history.state.removed[-1].version


def test_only_the_commits_that_are_old_enough_count(folder: FileStore) -> None:
    """Of two compactions one is old: its objects go, and the log says so of that version alone."""
    history = compacted(folder)
    first = history.state
    age(folder, "default/shop/log/", days=2)
    history.windows(12)
    history.idle()
    Compactor(folder, LAYOUT, history.log, ANY_AGE).run(history.state)
    done = Sweeper(folder, LAYOUT, history.log).run()
    assert done.plan.swept == first.version
    state = history.log.read()
    assert (
        {r.version for r in state.removed} == {r.version for r in state.removed if r.version > first.version} != set()
    )
    assert all(folder.stat(r.path) for r in state.removed)
    assert not any(folder.stat(r.path) for r in first.removed)


def test_orphaned_baselines_wait_longer_and_dumps_are_left(folder: FileStore) -> None:
    history = compacted(folder)
    baseline = LAYOUT.baseline("s9", "shop", "orders", 0)
    for name in (baseline, "backups/default/shop/2026-01-01/000000/metadata"):
        folder.put(name, b"x")
    age(folder, "", days=5)
    assert baseline not in {d.path for d in Sweeper(folder, LAYOUT, history.log).plan().doomed}
    age(folder, "", days=3)
    Sweeper(folder, LAYOUT, history.log).run()
    assert folder.stat(baseline) is None
    assert folder.stat("backups/default/shop/2026-01-01/000000/metadata") is not None


def test_what_a_capture_may_still_commit_stays_however_old(folder: FileStore) -> None:
    """It lost the store between its uploads and its commit, a month ago."""
    history = compacted(folder)
    next_seq = history.seq + 1
    ahead = [LAYOUT.segment("shop", "orders", 0, next_seq, next_seq + 1, "0" * 64, "cafecafe")]
    ahead += [LAYOUT.transactions(0, next_seq, next_seq, "1" * 64, "cafecafe"), LAYOUT.pending(next_seq, "2" * 64, "a")]
    behind = LAYOUT.segment("shop", "orders", 0, next_seq - 1, next_seq - 1, "0" * 64, "cafecafe")
    for name in (*ahead, behind):
        folder.put(name, b"x")
    age(folder, "", days=31)
    plan = Sweeper(folder, LAYOUT, history.log).plan()
    assert behind in {d.path for d in plan.doomed}
    assert not set(ahead) & {d.path for d in plan.doomed}
    assert [k.objects for k in plan.kept if "aren't committed yet" in k.reason] == [3]
    history.window(2)
    age(folder, "", days=1)
    assert set(ahead) <= {d.path for d in Sweeper(folder, LAYOUT, history.log).plan().doomed}


def test_pending_objects_are_named(folder: FileStore) -> None:
    history = LongHistory(folder, 1)
    history.windows(8)
    one = PendingObject("default/shop/pending/9-a-b.parquet", "shop", "orders", "0" * 16, 1, 1, "0" * 64, 1, 0, 0)
    state = replace(history.state, pending=(Pending("X'01',X'',1", 9, 1, (one,)),))
    listed = [ObjectInfo(one.path, 1, NOW - 30 * DAY)]
    assert plan_objects(state, LAYOUT, listed, {}, NOW, DAY)[0] == ()
    assert plan_objects(history.state, LAYOUT, listed, {}, NOW, DAY)[0][0].path == one.path
    assert SchemaSeen.kind == "schema"


def test_nothing_that_came_in_between_is_swept(folder: FileStore) -> None:
    """A commit after the listing names objects that the listing doesn't have, or has as orphans."""
    history = compacted(folder)

    class Slow(FileStore):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            yield from list(super().list(prefix, start_after))
            if prefix.endswith("changes/"):
                history.windows(2)

    done = Sweeper(Slow(Path(folder.root)), LAYOUT, Log(folder, LAYOUT), AT_ONCE).run()
    assert done.objects > 0
    assert verify_archive(folder, LAYOUT, history.log).findings == ()


# --- the log ----------------------------------------------------------------------------------------------------------


@given(
    oldest=st.integers(1, 50),
    ages=st.lists(st.floats(0, 30), min_size=1, max_size=60),
    indexes=st.lists(st.integers(1, 120), max_size=6, unique=True),
    keep=st.integers(1, 30),
    grace=st.integers(0, 20),
)
def test_trimming_keeps_what_it_must(oldest: int, ages: list[float], indexes: list[int], keep: int, grace: int) -> None:
    versions = [(oldest + n, NOW - DAY * a) for n, a in enumerate(sorted(ages, reverse=True))]
    whole = sorted(indexes, reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "KEEP_VERSIONS", keep)
        trim = plan_trim(versions, whole, NOW, DAY * grace)
    gone, left = set(trim.versions), [v for v in versions if v[0] not in trim.versions]
    assert trim.reason
    assert list(trim.versions) == [v for v, _ in versions[: len(gone)]], "from the oldest on"
    assert len(left) >= min(keep, len(versions))
    assert all(NOW - at > max(7, grace + 1) * DAY for v, at in versions if v in gone)
    if gone:
        assert max(gone) < whole[KEEP_INDEXES - 1], "three whole indexes have their whole log behind them"
        following = left[0] if left else None
        bounds = [whole[2], versions[-1][0] - keep + 1]
        young = following is not None and NOW - following[1] <= max(7, grace + 1) * DAY
        assert young or (following is not None and following[0] == min(bounds)) or max(gone) + 1 >= min(bounds)


@pytest.fixture
def old(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> LongHistory:
    """An archive whose log may be trimmed below the version before the last ten."""
    monkeypatch.setattr(sweeping, "KEEP_VERSIONS", 10)
    history = compacted(folder, windows=40, index_every=5)
    age(folder, "", days=30)
    return history


def test_a_trimmed_log_reads_the_same(old: LongHistory) -> None:
    store, state = old.store, old.state
    before, indexes = told(store, state), old.log.index.versions()
    done = Sweeper(store, LAYOUT, old.log).run()
    assert len(old.log.index.versions()) >= KEEP_INDEXES
    assert done.plan.trim == tuple(range(1, min(indexes[2], state.version - 9)))
    assert done.indexes > 0
    after = Log(store, LAYOUT).read()
    assert told(store, after) == before
    assert replace(after, version=0, sha256="", updated_at_us=0, removed=()) == replace(
        state, version=0, sha256="", updated_at_us=0, removed=()
    )
    report = verify_archive(store, LAYOUT, Log(store, LAYOUT))
    assert (report.findings, report.first_version) == ((), done.plan.trim[-1] + 1)
    assert base_of(Log(store, LAYOUT)).version >= done.plan.trim[-1]
    Sweeper(store, LAYOUT, Log(store, LAYOUT)).run()  # the first one's own commit may have made an index
    assert Sweeper(store, LAYOUT, Log(store, LAYOUT)).run().trimmed == 0


def test_every_index_that_is_left_reads_the_archive_alone(old: LongHistory) -> None:
    Sweeper(old.store, LAYOUT, old.log).run()
    expected = Log(old.store, LAYOUT).read()
    versions = old.log.index.versions()
    for kept in versions:
        copy = FileStore(Path(f"{old.store.root}-{kept}"))  # type: ignore[attr-defined]
        shutil.copytree(old.store.root, copy.root)  # type: ignore[attr-defined]
        for version in versions:
            if version != kept:
                copy.delete(LAYOUT.index(version))
        assert Log(copy, LAYOUT).read() == expected


def test_versions_are_deleted_one_by_one_from_the_oldest_on(old: LongHistory) -> None:
    seen: list[str] = []
    Sweeper(old.store, LAYOUT, old.log, on_delete=seen.append).run()
    versions = [v for name in seen if (v := LAYOUT.parse_log_version(name))]
    assert versions == sorted(versions) == list(range(1, len(versions) + 1)) != []
    objects = [n for n, name in enumerate(seen) if "/changes/" in name]
    assert (
        max(objects)
        < min(n for n, name in enumerate(seen) if "/log/" in name)
        < max(n for n, name in enumerate(seen) if "/index/" in name)
    ), "objects, then the log, then indexes"


def test_a_writer_that_slept_through_it_stops(old: LongHistory) -> None:
    slept = next(s for _, s in old.log.walk() if s.version == 12)
    Sweeper(old.store, LAYOUT, old.log).run()
    before = Log(old.store, LAYOUT).read()
    assert Log(old.store, LAYOUT).oldest() > 13
    old.state = slept
    with pytest.raises(Fenced, match="trimmed"):
        old.window(2)
    assert Log(old.store, LAYOUT).read() == before


def test_nothing_is_trimmed_without_three_whole_indexes(old: LongHistory) -> None:
    for version in old.log.index.versions()[:-2]:
        old.store.put(LAYOUT.index(version), b"damaged")
    done = Sweeper(old.store, LAYOUT, old.log).run()
    assert (done.trimmed, done.indexes) == (0, 0)
    assert "fewer than 3" in done.plan.trim_reason


def test_a_damaged_index_among_the_newest_does_not_count(old: LongHistory) -> None:
    newest = old.log.index.versions()
    old.store.put(LAYOUT.index(newest[0]), b"damaged")
    done = Sweeper(old.store, LAYOUT, old.log).run()
    assert done.plan.trim[-1] < newest[3]
    assert verify_archive(old.store, LAYOUT, Log(old.store, LAYOUT)).first_version <= newest[3]


def test_a_log_that_is_not_its_index_s_is_not_trimmed(old: LongHistory) -> None:
    name = LAYOUT.log_version(old.log.index.versions()[1])
    old.store.put(name, old.store.get(name) + b" ")
    with pytest.raises(ArchiveDamaged, match=name):
        Sweeper(old.store, LAYOUT, old.log).run()
    assert Log(old.store, LAYOUT).oldest() == 1


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
def test_a_kill_at_any_moment_leaves_a_whole_archive(
    folder: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    monkeypatch.setattr(sweeping, "KEEP_VERSIONS", 4)
    history = compacted(folder, windows=8, index_every=2)
    age(folder, "", days=30)
    before = history_of(folder, history.state)
    for at in range(200):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(folder.root, copy, copy_function=shutil.copy2)
        crashing = Crashing(copy, at, done=done)
        try:
            Sweeper(crashing, LAYOUT, Log(crashing, LAYOUT, index_every=2)).run()
        except KeyboardInterrupt:
            check(FileStore(copy), before)
            shutil.rmtree(copy)
            continue
        break
    assert 10 < at < 199


def history_of(store: Store, state: ArchiveState) -> list[str]:
    return [changes_json(changes(store, state, ChangeQuery(("shop", t.name)))) for t in TABLES]


def check(store: FileStore, before: list[str]) -> None:
    """Whole after the kill, whole after the next sweep, and then nothing is left to sweep."""
    state: ArchiveState = Log(store, LAYOUT).read()
    assert history_of(store, state) == before
    assert verify_archive(store, LAYOUT, Log(store, LAYOUT), quick=True).findings == ()
    Sweeper(store, LAYOUT, Log(store, LAYOUT, index_every=2), AT_ONCE).run()
    state = Log(store, LAYOUT).read()
    assert history_of(store, state) == before
    assert not state.removed
    report = verify_archive(store, LAYOUT, Log(store, LAYOUT))
    assert (report.findings, report.orphans.objects) == ((), 0)
