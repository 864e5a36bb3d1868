"""The local spool: what is closed while the store is away is committed in order when it is back, exactly once, whoever dies
in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from changebatches import LAYOUT, TestingStore, Tx, batch, new_archive
from rowback import wait_for
from test_committer import captured, items, windows
from test_xa import EVERY, prepare, resolve, visible, xa

from dataflow import committer as committing
from dataflow import drain, uplink
from dataflow.batches import Window
from dataflow.commits import Archive
from dataflow.committer import Committer
from dataflow.health import ServerHealth, State
from dataflow.spool import Spool, replay
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.errors import ArchiveDamaged, StoreFull, StoreUnavailable
from recovery.spooled import spool_folder, waiting

LIMIT = 100 * 1024 * 1024


class Outage:
    """A store that can be away."""

    def __init__(self, store: TestingStore) -> None:
        self.away = False
        self.tripped = False
        store.before_put = lambda key: self._refuse()
        get, stat, listed = store.inner.get, store.inner.stat, store.inner.list
        store.get = lambda key: self._refuse() or get(key)  # type: ignore[method-assign]
        store.stat = lambda key: self._refuse() or stat(key)  # type: ignore[method-assign]
        store.list = lambda prefix, start_after="": self._refuse() or listed(prefix, start_after)  # type: ignore[method-assign]

    def _refuse(self) -> None:
        if self.away:
            raise StoreUnavailable("away", hint="")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink, "RETRY_S", 0.05)
    monkeypatch.setattr(committing, "RETRY_S", 0.05)


@pytest.fixture
def made() -> Iterator[Callable[..., Committer]]:
    all_of_them: list[Committer] = []

    def make(archive: Archive, health: ServerHealth | None = None) -> Committer:
        all_of_them.append(Committer(archive, health or ServerHealth("shop")))
        return all_of_them[-1]

    yield make
    for one in all_of_them:
        one.close()


def with_spool(tmp_path: Path, limit: int = LIMIT) -> tuple[Archive, TestingStore, Outage, Path]:
    archive, store = new_archive(tmp_path / "archive")
    folder = spool_folder(str(tmp_path / "spool"), store.url, "default", "shop")
    return replace(archive, spool_folder=folder, spool_bytes=limit), store, Outage(store), folder


def spooled(folder: Path) -> int:
    return len(list((folder / "windows").glob("*.json"))) if folder.exists() else 0


def test_windows_wait_in_the_spool_and_are_committed_in_order(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store, outage, folder = with_spool(tmp_path)
    health = ServerHealth("shop")
    committer = made(archive, health)
    todo = windows(20)
    committer.put(todo[0])
    committer.flush()
    outage.away = True
    for window in todo[1:12]:
        committer.put(window)
    wait_for(lambda: spooled(folder) == 11, 30, "windows in the spool")
    assert health.figures().spool_windows == 11
    assert health.figures().spool_bytes > 0
    found = waiting(folder)
    assert found is not None
    assert found.windows == 11
    assert found.size_bytes > health.figures().spool_bytes  # the windows' own files count too
    outage.away = False
    for window in todo[12:]:
        committer.put(window)
    assert committer.flush().last_seq == 20
    state, seqs, rows = captured(archive)
    assert seqs == list(range(1, 21))
    assert rows == [(seq, n) for seq in range(1, 21) for n in range(10)]
    assert state.version == 21
    assert spooled(folder) == 0
    assert waiting(folder) is None
    assert not list((folder / "objects").rglob("*.parquet"))
    assert health.figures().spool_windows == 0
    logged = [key for key in store.written if "/log/" in key]
    assert logged == sorted(logged)


def test_the_next_life_commits_what_was_spooled(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    for window in windows(5):
        committer.put(window)
    wait_for(lambda: spooled(folder) == 5, 30, "windows in the spool")
    committer.close()
    with pytest.raises(StoreUnavailable):
        replay(archive, Spool(folder, LIMIT))
    assert spooled(folder) == 5
    outage.away = False
    assert replay(archive, Spool(folder, LIMIT)) == (5, 0)
    assert captured(archive)[1] == [1, 2, 3, 4, 5]
    assert spooled(folder) == 0
    assert replay(archive, Spool(folder, LIMIT)) == (0, 0)


def test_another_capture_s_archive_gets_nothing_from_the_spool(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    todo = windows(5)
    for window in todo:
        committer.put(window)
    wait_for(lambda: spooled(folder) == 5, 30, "windows in the spool")
    committer.close()
    outage.away = False
    state = archive.log.start_generation(archive.log.read(), "there", 2)
    assert replay(archive, Spool(folder, LIMIT)) == (0, 5)
    other = made(archive)
    for window in todo:
        other.put(replace(window, generation=state.generation))
    other.flush()
    assert captured(archive)[1] == [1, 2, 3, 4, 5]


def test_a_process_that_lives_keeps_its_spool(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    for window in windows(3):
        committer.put(window)
    wait_for(lambda: spooled(folder) == 3, 30, "windows in the spool")
    assert replay(archive, Spool(folder, LIMIT)) == (0, 0)
    outage.away = False
    committer.flush()
    assert captured(archive)[1] == [1, 2, 3]


def test_a_bent_object_in_the_spool_is_not_committed(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    for window in windows(3):
        committer.put(window)
    wait_for(lambda: spooled(folder) == 3, 30, "windows in the spool")
    committer.close()
    outage.away = False
    victim = next(p for p in (folder / "objects").rglob("2-2-*.parquet"))
    body = bytearray(victim.read_bytes())
    body[100] ^= 1
    victim.write_bytes(body)
    assert replay(archive, Spool(folder, LIMIT)) == (1, 2)
    assert captured(archive)[1] == [1]
    assert spooled(folder) == 0


def test_an_answer_that_was_lost_is_not_a_second_commit(tmp_path: Path, made: Callable[..., Committer]) -> None:
    """The commit lands, the store is away from then on, and this life ends, or not."""
    for dies in (False, True):
        archive, store, outage, folder = with_spool(tmp_path / str(dies))
        committer = made(archive)
        todo = windows(5)
        committer.put(todo[0])
        committer.flush()

        def trip(key: str, outage: Outage = outage) -> None:
            if "/log/" in key and not outage.tripped:
                outage.away = outage.tripped = True
                raise StoreUnavailable("the answer was lost", hint="")

        store.after_put = trip
        for window in todo[1:]:
            committer.put(window)
        wait_for(lambda f=folder: spooled(f) == 4, 30, "windows in the spool")
        if dies:
            committer.close()
        outage.away = False
        if dies:
            assert replay(archive, Spool(folder, LIMIT)) == (3, 0)
        else:
            committer.flush()
        state, seqs, _ = captured(archive)
        assert seqs == [1, 2, 3, 4, 5]
        assert state.version == 6


@pytest.mark.parametrize("how", ["limit", "disk"])
def test_a_full_spool_pauses_capture_until_the_store_is_back(
    how: str, tmp_path: Path, made: Callable[..., Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, _, outage, folder = with_spool(tmp_path, 30_000 if how == "limit" else LIMIT)
    health = ServerHealth("shop")
    committer = made(archive, health)
    if how == "disk":
        put = FileStore.put

        def full(self: FileStore, key: str, body: bytes) -> None:
            if self.root.startswith(str(folder)) and spooled(folder) >= 3:
                raise StoreFull("no space left on device", hint="")
            put(self, key, body)

        monkeypatch.setattr(FileStore, "put", full)
    outage.away = True
    done: list[int] = []

    def work() -> None:
        for window in windows(40, rows=30):
            committer.put(window)
            done.append(1)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    wait_for(lambda: health.figures().state == State.PAUSED, 60, "capture to pause")
    time.sleep(0.5)
    held = len(done)
    assert held < 40
    size = sum(p.stat().st_size for p in (folder / "objects").rglob("*.parquet"))
    assert size <= (30_000 if how == "limit" else LIMIT)
    time.sleep(0.5)
    assert len(done) == held, "it goes on though the spool is full"
    outage.away = False
    worker.join(60)
    assert committer.flush().last_seq == 40
    assert health.figures().state == State.RUNNING
    _, seqs, rows = captured(archive)
    assert seqs == list(range(1, 41))
    assert len(rows) == len(set(rows)) == 1200


def test_a_drain_says_what_is_left_in_the_spool(
    tmp_path: Path, made: Callable[..., Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    for window in windows(2):
        committer.put(window)
    wait_for(lambda: spooled(folder) == 2, 30, "windows in the spool")
    monkeypatch.setattr(drain, "requested", lambda: True)
    monkeypatch.setattr(committing, "DRAIN_PATIENCE_S", 0.2)
    with pytest.raises(StoreUnavailable, match="2 windows wait in the spool"):
        committer.flush()


def test_a_huge_transaction_in_an_outage(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    parts = [batch(Tx(1, rows=12, first=12 * n, end=False), after=0) for n in range(5)]
    todo = items(*parts, batch(Tx(1, rows=1, first=60)), batch(Tx(2)))
    for number, item in enumerate(todo):
        outage.away = number >= 2
        committer.put(item)
        if number == 1:
            time.sleep(0.3)
    wait_for(lambda: spooled(folder) == 2, 30, "the windows in the spool")
    committer.close()
    outage.away = False
    assert replay(archive, Spool(folder, LIMIT)) == (2, 0)
    assert captured(archive)[2] == [(1, n) for n in range(61)] + [(2, 0)]


def test_xa_in_an_outage(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    todo = items(xa(1, prepare(1)), batch(Tx(2)), xa(3, None, resolve(3)), batch(Tx(4)), limits=EVERY)
    outage.away = True
    for window in todo:
        committer.put(window)
    wait_for(lambda: spooled(folder) == 2, 30, "the windows in the spool")
    outage.away = False
    committer.flush()
    assert visible(archive) == {("orders", 2): [0], ("orders", 3): [0, 1, 2], ("orders", 4): [0]}


def test_a_damaged_archive_leaves_the_spool_alone(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, outage, folder = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    for window in windows(2):
        committer.put(window)
    wait_for(lambda: spooled(folder) == 2, 30, "windows in the spool")
    committer.close()
    outage.away = False
    (victim,) = (tmp_path / "archive").rglob("log/*.json")
    body = victim.read_bytes()
    victim.write_bytes(body[:-5])
    with pytest.raises(ArchiveDamaged):
        replay(archive, Spool(folder, LIMIT))
    victim.write_bytes(body)
    assert replay(archive, Spool(folder, LIMIT)) == (2, 0)


def test_no_outage_no_folder(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _, _, folder = with_spool(tmp_path)
    committer = made(archive)
    for window in windows(3):
        committer.put(window)
    committer.flush()
    assert not folder.exists()


def test_a_drain_ends_a_capture_that_is_held_back(
    tmp_path: Path, made: Callable[..., Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of an XA transaction waits for the store, windows behind it wait for that, and the worker for them."""
    archive, _, outage, _ = with_spool(tmp_path)
    committer = made(archive)
    outage.away = True
    later = [batch(Tx(seq)) for seq in range(3, 3 + 2 * committing.MAX_WINDOWS)]
    todo = items(xa(1, prepare(1)), xa(2, None, resolve(2)), *later, limits=EVERY)
    put: list[int] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            for number, window in enumerate(todo):
                committer.put(window)
                put.append(number)
        except StoreUnavailable as error:
            raised.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    wait_for(lambda: len(put) == committing.MAX_WINDOWS + 1, 60, "the worker to be held back")
    time.sleep(1)
    assert worker.is_alive()
    monkeypatch.setattr(committing, "DRAIN_PATIENCE_S", 0.2)
    monkeypatch.setattr(drain, "requested", lambda: True)
    worker.join(30)
    assert len(raised) == 1
    monkeypatch.setattr(drain, "requested", lambda: False)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["store", "spool"])
def test_a_crash_at_any_write_of_an_outage(
    where: str, tmp_path: Path, made: Callable[..., Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A life that sees an outage and its end dies at its n-th write, to the store or to the spool's disk; then lives without
    outages go on, each replaying and taking over first, until all is there."""
    total, deaths = 8, 0
    left = [10**9]
    lock = threading.Lock()

    def die() -> None:
        with lock:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed

    put, delete = FileStore.put, FileStore.delete
    folder_of = [Path("/nowhere")]

    def watched(action: Any) -> Any:
        def call(self: FileStore, *arguments: Any) -> None:
            if where == "spool" and self.root.startswith(str(folder_of[0])):
                die()
            action(self, *arguments)

        return call

    monkeypatch.setattr(FileStore, "put", watched(put))
    monkeypatch.setattr(FileStore, "delete", watched(delete))
    for nth in range(1, 40, 2):
        archive, store, outage, folder = with_spool(tmp_path / f"{nth}")
        folder_of[0] = folder
        if where == "store":
            before = store.before_put
            store.before_put = lambda key, refuse=before: (refuse(key), die())[1]
        left[0] = nth
        committer = made(archive)
        try:
            todo = windows(total)
            for number, window in enumerate(todo):
                outage.away = number >= 2
                committer.put(window)
                time.sleep(0.005)
            outage.away = False
            committer.flush()
        except Killed:
            deaths += 1
        committer.close()
        left[0] = 10**9
        outage.away = False
        replay(archive, Spool(folder, LIMIT))
        state = archive.log.start_generation(Log(store, LAYOUT).read(), "there", 2)
        following = made(archive)
        for window in windows(total)[state.last_seq :]:
            following.put(replace(window, generation=state.generation))
        following.flush()
        _, seqs, rows = captured(archive)
        assert seqs == list(range(1, total + 1))
        assert rows == [(seq, n) for seq in range(1, total + 1) for n in range(10)]
        assert isinstance(window, Window)
    assert deaths >= 5
