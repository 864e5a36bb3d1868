"""XA transactions between PREPARE and COMMIT: never visible before the commit, whole after it, wherever windows and
processes end in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from changebatches import LAYOUT, TestingStore, Tx, batch, new_archive, rows_of
from handmade import ITEMS, ORDERS, T0, UUID

from dataflow.batches import ChangeBatch, Prepared, Resolved
from dataflow.commits import Archive
from dataflow.committer import Committer
from dataflow.health import ServerHealth
from dataflow.window import Limits, WindowLogic
from recovery.archive import index
from recovery.archive.actions import PendingEnd
from recovery.archive.log import Log
from recovery.archive.segments import read_segment, read_transactions
from recovery.archive.state import ArchiveState
from recovery.errors import ArchiveError, UnsupportedEvent

ONE = "X'31',X'',1"
TWO = "X'32',X'',1"
EVERY = Limits(3600, 1, 10**12, 3600, 10**12)  # each batch is a window
NEVER = Limits(3600, 10**9, 10**12, 3600, 10**12)


def prepare(seq: int, xid: str = ONE, rows: int = 3, first: int = 0, tables: Sequence[Any] = (ORDERS,)) -> Prepared:
    made = [(t, rows_of(Tx(seq, rows=rows, first=first + n * rows, table=t))) for n, t in enumerate(tables)]
    return Prepared(xid, seq, tuple(made) if rows else ())


def resolve(seq: int, xid: str = ONE, committed: bool = True) -> Resolved:
    at = T0 + seq * 1_000_000
    return Resolved(xid, committed, seq, f"{UUID}:{seq}", at, at, 7)


def xa(seq: int, prepared: Prepared | None = None, resolved: Resolved | None = None) -> ChangeBatch:
    """A batch of one transaction, a PREPARE, a COMMIT or a ROLLBACK."""
    return batch(
        ends=[Tx(seq, rows=0)],
        prepared=[prepared] if prepared else (),
        resolved=[resolved] if resolved else (),
    )


@pytest.fixture
def made() -> Iterator[Callable[[Archive], Committer]]:
    all_of_them: list[Committer] = []

    def make(archive: Archive) -> Committer:
        all_of_them.append(Committer(archive, ServerHealth("shop")))
        return all_of_them[-1]

    yield make
    for one in all_of_them:
        one.close()


def capture(archive: Archive, committer: Committer, limits: Limits, *batches: ChangeBatch, generation: int = 1) -> None:
    logic = WindowLogic({"shop": limits})
    for item in [*logic.on_batch(list(batches))[0], *list(logic.on_eof()[0])[:-1]]:
        if hasattr(item, "changes"):
            committer.put(replace(item, generation=generation))
        else:
            committer.drop_parts()
    committer.flush()


def visible(archive: Archive) -> dict[tuple[str, int], list[int]]:
    """(table, seq) -> ordinals of the rows that readers see, with what they must carry checked."""
    state = Log(archive.store, LAYOUT).read()
    found: dict[tuple[str, int], list[int]] = {}
    listed = {r["seq"]: r for p in read_transactions(archive.store, state.transactions) for r in p.to_pylist()}
    for segment in state.segments:
        data = read_segment(archive.store, segment)
        assert data["_rb_seq"].to_pylist() == sorted(data["_rb_seq"].to_pylist())
        for row in data.to_pylist():
            own = listed[row["_rb_seq"]]
            assert row["_rb_gtid"] == own["gtid"]
            assert (row["_rb_cut_at_us"], row["_rb_committed_at_us"]) == (own["cut_at_us"], own["committed_at_us"])
            assert row["_rb_connection_id"] == own["connection_id"]
            found.setdefault((segment.table, row["_rb_seq"]), []).append(row["_rb_ordinal"])
    for seq, own in listed.items():
        assert own["row_changes"] == sum(len(v) for (_, s), v in found.items() if s == seq), seq
    return found


def test_within_one_window_it_is_an_ordinary_transaction(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    both = prepare(1, tables=(ORDERS, ITEMS))
    last = batch(Tx(3, rows=2), Tx(5, rows=1), ends=[Tx(4, rows=0)], resolved=[resolve(4)])
    capture(archive, made(archive), NEVER, xa(1, both), batch(Tx(2, rows=2)), last)
    assert visible(archive) == {
        ("orders", 2): [0, 1],
        ("orders", 3): [0, 1],
        ("orders", 4): [0, 1, 2],
        ("items", 4): [3, 4, 5],
        ("orders", 5): [0],
    }
    assert not any("/pending/" in key for key in store.written)
    assert len(archive.log.read().segments) == 2


def test_across_windows_it_is_pending_until_its_commit(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    committer = made(archive)
    first = [xa(1, prepare(1, tables=(ORDERS, ITEMS))), batch(Tx(2, rows=2))]
    capture(archive, committer, EVERY, *first)
    state = archive.log.read()
    assert visible(archive) == {("orders", 2): [0, 1]}
    (pending,) = state.pending
    assert (pending.xid, pending.seq, pending.row_changes) == (ONE, 1, 6)
    assert {o.table for o in pending.objects} == {"orders", "items"}
    capture(archive, committer, EVERY, xa(3, None, resolve(3)), batch(Tx(4)))
    state = archive.log.read()
    assert not state.pending
    assert {r.path for r in state.removed} == {o.path for o in pending.objects}
    assert visible(archive) == {
        ("orders", 2): [0, 1],
        ("orders", 3): [0, 1, 2],
        ("items", 3): [3, 4, 5],
        ("orders", 4): [0],
    }


def test_another_process_commits_what_one_prepared(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    capture(archive, made(archive), EVERY, xa(1, prepare(1)))
    state = archive.log.start_generation(archive.log.read(), "there", 2)
    capture(archive, made(archive), EVERY, xa(2, None, resolve(2)), generation=state.generation)
    assert visible(archive) == {("orders", 2): [0, 1, 2]}


@pytest.mark.parametrize("limits", [EVERY, NEVER])
def test_a_rollback_drops_it(limits: Limits, tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    rolled_back = xa(2, None, resolve(2, committed=False))
    capture(archive, made(archive), limits, xa(1, prepare(1)), rolled_back, batch(Tx(3)))
    assert visible(archive) == {("orders", 3): [0]}
    assert not archive.log.read().pending


@pytest.mark.parametrize("limits", [EVERY, NEVER, Limits(3600, 4, 10**12, 3600, 10**12)])
def test_an_xid_may_be_used_again_and_two_may_be_open(
    limits: Limits, tmp_path: Path, made: Callable[..., Committer]
) -> None:
    archive, _ = new_archive(tmp_path)
    capture(
        archive,
        made(archive),
        limits,
        xa(1, prepare(1)),
        xa(2, prepare(2, TWO, rows=2)),
        xa(3, None, resolve(3)),
        xa(4, prepare(4, rows=1)),
        xa(5, None, resolve(5, TWO)),
        xa(6, None, resolve(6)),
    )
    assert visible(archive) == {("orders", 3): [0, 1, 2], ("orders", 5): [0, 1], ("orders", 6): [0]}


def test_a_huge_one_is_prepared_in_parts(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, store = new_archive(tmp_path)
    limits = Limits(3600, 10, 10**12, 3600, 10**12)
    batches = [
        batch(Tx(1)),
        *(batch(after=1, prepared=[prepare(2, rows=12, first=12 * n)], is_open=True) for n in range(3)),
        batch(ends=[Tx(2, rows=0)], prepared=[prepare(2, rows=2, first=36)]),
    ]
    committer = made(archive)
    capture(archive, committer, limits, *batches)
    assert visible(archive) == {("orders", 1): [0]}
    assert archive.log.read().pending[0].row_changes == 38
    capture(archive, committer, limits, xa(3, None, resolve(3)))
    assert visible(archive) == {("orders", 1): [0], ("orders", 3): list(range(38))}
    assert sum("/pending/" in key for key in store.written) == 4


def test_one_phase_after_parts(tmp_path: Path, made: Callable[..., Committer]) -> None:
    """XA COMMIT ... ONE PHASE: what began as a PREPARE commits itself."""
    archive, _ = new_archive(tmp_path)
    limits = Limits(3600, 10, 10**12, 3600, 10**12)
    begun = [batch(after=0, prepared=[prepare(1, rows=12, first=12 * n)], is_open=True) for n in range(2)]
    ended = batch(ends=[Tx(1, rows=0)], prepared=[prepare(1, rows=2, first=24)], resolved=[resolve(1)])
    capture(archive, made(archive), limits, *begun, ended)
    assert visible(archive) == {("orders", 1): list(range(26))}
    assert not archive.log.read().pending


def test_a_commit_of_what_was_never_captured_is_refused(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    with pytest.raises(UnsupportedEvent, match="prepared before this archive begins"):
        capture(archive, made(archive), EVERY, xa(1, None, resolve(1)))
    capture(archive, made(archive), EVERY, xa(1, None, resolve(1, committed=False)))
    assert archive.log.read().last_seq == 1


def test_one_without_captured_rows(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    capture(archive, made(archive), EVERY, xa(1, prepare(1, rows=0)), xa(2, None, resolve(2)))
    assert visible(archive) == {}


def test_the_index_holds_what_is_pending(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    capture(archive, made(archive), EVERY, xa(1, prepare(1)), xa(2, prepare(2, TWO, tables=(ORDERS, ITEMS))))
    state = archive.log.read()
    again = index.decode(index.encode(state), "")
    assert again.pending == state.pending
    assert len(again.pending) == 2


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_leaves_it_pending_or_whole(
    when: str, tmp_path: Path, made: Callable[..., Committer]
) -> None:
    script = {
        1: xa(1, prepare(1, tables=(ORDERS, ITEMS))),
        2: xa(2, prepare(2, TWO)),
        3: xa(3, None, resolve(3)),
        4: batch(Tx(4, rows=2)),
        5: xa(5, None, resolve(5, TWO, committed=False)),
    }
    expected = {("orders", 3): [0, 1, 2], ("items", 3): [3, 4, 5], ("orders", 4): [0, 1]}
    deaths = 0
    for nth in range(1, 16):
        archive, store = new_archive(tmp_path / f"{nth}")
        state = archive.log.read()
        deaths += _live(archive, store, made(archive), script, state, when, nth)
        state = archive.log.start_generation(Log(store, LAYOUT).read(), "there", 2)
        assert set(visible(archive)) <= set(expected)
        _live(archive, store, made(archive), script, state, when, 10**9)
        assert visible(archive) == expected
        assert not archive.log.read().pending
    assert deaths >= 10


def _live(
    archive: Archive,
    store: TestingStore,
    committer: Committer,
    script: dict[int, ChangeBatch],
    state: ArchiveState,
    when: str,
    nth: int,
) -> bool:
    """Whether it died."""
    left, lock = [nth], threading.Lock()

    def die(key: str) -> None:
        with lock:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed

    def nothing(key: str) -> None:
        pass

    store.before_put, store.after_put = (die, nothing) if when == "before" else (nothing, die)
    try:
        todo = [one for seq, one in script.items() if seq > state.last_seq]
        capture(archive, committer, EVERY, *todo, generation=state.generation)
        return False
    except Killed:
        return True
    finally:
        committer.close()
        store.before_put = store.after_put = nothing


def test_the_log_refuses_what_can_t_be(tmp_path: Path, made: Callable[..., Committer]) -> None:
    archive, _ = new_archive(tmp_path)
    capture(archive, made(archive), EVERY, xa(1, prepare(1)))
    state = archive.log.read()
    (pending,) = state.pending
    for action, text in [
        (pending, "a second time"),
        (replace(pending, xid=TWO), "isn't its own"),
        (PendingEnd(TWO, 1, 2, committed=False), "isn't pending"),
        (PendingEnd(ONE, 1, 1, committed=False), "isn't its own"),
    ]:
        with pytest.raises(ArchiveError, match=text):
            archive.log.commit(state, lambda _, a=action: [a])
