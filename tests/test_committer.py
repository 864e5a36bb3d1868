"""The background committer: order, bounds, errors, and a crash at every write."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from changebatches import LAYOUT, TestingStore, Tx, batch, new_archive
from rowback import wait_for

from dataflow import committer as committing
from dataflow.batches import Window
from dataflow.committer import Archive, Committer
from dataflow.health import ServerHealth
from dataflow.window import Limits, WindowLogic
from recovery.archive.log import Log
from recovery.archive.segments import read_segment, read_transactions
from recovery.archive.state import ArchiveState
from recovery.errors import CommitConflict, Fenced, StoreError, StoreUnavailable

SMALL = Limits(3600, 10, 10**12, 3600, 10**12)


def items(*batches: Any, limits: Limits = SMALL) -> list[Any]:
    """What the window step makes of them, the last pulse left out."""
    logic = WindowLogic({"shop": limits})
    return [*logic.on_batch(list(batches))[0], *list(logic.on_eof()[0])[:-1]]


def windows(count: int, rows: int = 10) -> list[Window]:
    return items(*(batch(Tx(seq, rows=rows)) for seq in range(1, count + 1)))


@pytest.fixture
def made() -> Iterator[Callable[..., Committer]]:
    all_of_them: list[Committer] = []

    def make(archive: Archive, *arguments: Any) -> Committer:
        all_of_them.append(Committer(archive, ServerHealth("shop"), *arguments))
        return all_of_them[-1]

    yield make
    for one in all_of_them:
        one.close()


def captured(archive: Archive) -> tuple[ArchiveState, list[int], list[tuple[int, int]]]:
    """The state, the seqs of its transactions, and (seq, ordinal) of its row changes, sorted."""
    state = Log(archive.store, LAYOUT).read()
    seqs = [s for part in read_transactions(archive.store, state.transactions) for s in part["seq"].to_pylist()]
    rows: list[tuple[int, int]] = []
    for segment in state.segments:
        data = read_segment(archive.store, segment)
        rows += zip(data["_rb_seq"].to_pylist(), data["_rb_ordinal"].to_pylist(), strict=True)
    return state, seqs, sorted(rows)


def test_commits_stand_in_order_however_long_uploads_take(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    rng = random.Random(1)
    store.before_put = lambda key: time.sleep(rng.uniform(0, 0.02))
    committer = made(archive)
    for window in windows(20):
        committer.put(window)
    assert committer.flush().last_seq == 20
    logged = [key for key in store.written if "/log/" in key]
    assert logged == sorted(logged)
    assert len(logged) == 20
    _, seqs, rows = captured(archive)
    assert seqs == list(range(1, 21))
    assert rows == [(seq, n) for seq in range(1, 21) for n in range(10)]


def test_objects_are_written_before_the_commit_that_names_them(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    committer = made(archive)
    for window in windows(8):
        committer.put(window)
    committer.flush()
    for number, key in enumerate(store.written):
        if "/log/" in key:
            for action in Log(store, LAYOUT).read().segments:
                if action.last_seq <= int(key.rpartition("/")[2].split(".")[0]) - 1:
                    assert action.path in store.written[:number]


def test_the_worker_is_held_back_by_what_is_not_uploaded(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    gate = threading.Event()
    store.before_put = lambda key: None if "/log/" in key else (gate.wait(60), None)[1]
    made_windows = windows(6, rows=400)
    size = sum(rows.nbytes for _, batches in made_windows[0].changes for rows in batches)
    committer = made(archive, 3 * size + size // 2)
    put: list[int] = []

    def work() -> None:
        for number, window in enumerate(made_windows):
            committer.put(window)
            put.append(number)

    worker = threading.Thread(target=work)
    worker.start()
    wait_for(lambda: len(put) == 3, 30, "three windows to be taken in")
    time.sleep(0.2)
    assert len(put) == 3
    assert committer._held_bytes <= 3 * size + size // 2
    gate.set()
    worker.join(60)
    assert committer.flush().last_seq == 6
    assert committer._held_bytes == 0


def test_the_number_of_windows_that_wait_is_bounded(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    gate = threading.Event()
    store.before_put = lambda key: (gate.wait(60), None)[1] if "/log/" in key else None
    committer = made(archive)
    put: list[int] = []

    def work() -> None:
        for number, window in enumerate(windows(committing.MAX_WINDOWS + 4)):
            committer.put(window)
            put.append(number)

    worker = threading.Thread(target=work)
    worker.start()
    wait_for(lambda: len(put) == committing.MAX_WINDOWS, 30, "windows to be taken in")
    time.sleep(0.2)
    assert len(put) == committing.MAX_WINDOWS
    gate.set()
    worker.join(60)
    assert committer.flush().last_seq == committing.MAX_WINDOWS + 4


def test_a_window_is_committed_though_nothing_else_comes(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    committer = made(archive)
    committer.put(windows(1)[0])
    wait_for(lambda: any("/log/" in key for key in store.written), 30, "the commit")
    committer.check()


def test_the_first_error_ends_it_and_comes_up_at_the_next_call(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)

    def refuse(key: str) -> None:
        if "/3-3-" in key:
            raise StoreError("refused", hint="")

    store.before_put = refuse
    committer = made(archive)
    with pytest.raises(StoreError, match="refused"):
        for window in windows(30):
            committer.put(window)
            time.sleep(0.01)
    with pytest.raises(StoreError, match="refused"):
        committer.check()
    with pytest.raises(StoreError, match="refused"):
        committer.flush()
    assert captured(archive)[1] == [1, 2]


def test_another_capture_fences_it(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    committer = made(archive)
    first, second = windows(2)
    committer.put(first)
    state = committer.flush()
    archive.log.start_generation(state, "there", 2)
    committer.put(second)
    with pytest.raises(Fenced):
        committer.flush()
    assert captured(archive)[1] == [1]


def test_a_window_that_doesn_t_follow_the_archive_is_refused(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    _, second = windows(2)
    committer = made(archive)
    committer.put(second)
    with pytest.raises(CommitConflict, match="is at seq 0 and this window follows on seq 1"):
        committer.flush()


def test_parts_become_visible_with_their_window_alone(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    begun = [
        batch(Tx(1, rows=3), Tx(2, rows=12, end=False)),
        *(batch(Tx(2, rows=12, first=12 * n, end=False), after=1) for n in range(1, 9)),
    ]
    made_items = items(*begun, batch(Tx(2, rows=1, first=108)))
    committer = made(archive)
    for item in made_items[:-1]:
        committer.put(item)
    committer.flush()
    wait_for(lambda: sum("/changes/" in key for key in store.written) == 10, 30, "the parts")
    assert captured(archive)[1] == [1]
    committer.put(made_items[-1])
    committer.flush()
    state, seqs, rows = captured(archive)
    assert seqs == [1, 2]
    assert rows == [(1, n) for n in range(3)] + [(2, n) for n in range(109)]
    assert state.version == 3, "one commit for all the parts"


def test_dropped_parts_are_orphans(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    made_items = items(batch(Tx(1, rows=12, end=False), after=0), batch(Tx(1, rows=12)))
    committer = made(archive)
    for item in made_items:
        if hasattr(item, "changes"):
            committer.put(item)
        else:
            committer.drop_parts()
    committer.flush()
    assert captured(archive)[2] == [(1, n) for n in range(12)]


class Killed(BaseException):
    """The process died: nothing of it goes on."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_loses_and_doubles_nothing(
    when: str, tmp_path: Path, made: Callable[..., Committer]
) -> None:
    """Each life dies at a write, ahead of it or behind it, a little later than the one before; the next one goes on where
    the archive ends, until all is there."""
    total = 12
    sizes = [3, 25, 1, 10, 40, 2, 2, 30, 1, 5, 11, 4]
    for nth in range(1, 10):
        root = tmp_path / f"{nth}"
        archive, store = new_archive(root)
        for life in range(200):
            state = Log(store, LAYOUT).read()
            if state.last_seq == total:
                break
            state = archive.log.start_generation(state, "here", 1)
            if _one_life(made(archive), store, state, sizes, when, nth + life):
                break
        assert life > 1
        _, seqs, rows = captured(archive)
        assert seqs == list(range(1, total + 1))
        assert rows == [(seq, n) for seq, size in enumerate(sizes, 1) for n in range(size)]


def _one_life(
    committer: Committer, store: TestingStore, state: ArchiveState, sizes: list[int], when: str, nth: int
) -> bool:
    """Whether it lived to the end of the input."""
    left = [nth]
    lock = threading.Lock()

    def die(key: str) -> None:
        with lock:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed  # and every later write of this life too

    def nothing(key: str) -> None:
        pass

    store.before_put, store.after_put = (die, nothing) if when == "before" else (nothing, die)
    batches: list[Any] = []
    for seq in range(state.last_seq + 1, len(sizes) + 1):
        size, done = sizes[seq - 1], 0
        while size - done > 12:
            batches.append(batch(Tx(seq, rows=12, first=done, end=False), after=seq - 1))
            done += 12
        batches.append(batch(Tx(seq, rows=size - done, first=done)))
    try:
        for item in items(*batches):
            committer.put(replace(item, generation=state.generation))
        committer.flush()
        return True
    except Killed:
        return False
    finally:
        committer.close()
        store.before_put = store.after_put = nothing


def test_a_store_that_is_away_for_a_moment_is_waited_for(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    failures = [3]

    def away(key: str) -> None:
        if failures[0]:
            failures[0] -= 1
            raise StoreUnavailable("away", hint="")

    store.before_put = away
    committer = made(archive)
    for window in windows(3):
        committer.put(window)
    assert committer.flush().last_seq == 3
    assert captured(archive)[1] == [1, 2, 3]
