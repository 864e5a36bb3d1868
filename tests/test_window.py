"""The window step: what it closes on, and that no window ever holds a part of a transaction."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from changebatches import Tx, batch, checkpoint, rows_of
from handmade import ITEMS, ORDERS, T0

from dataflow.batches import Dropped, Part, Prepared, Pulse, Stop, Window
from dataflow.window import HOUR_US, Limits, WindowLogic
from recovery.archive.actions import Ddl
from recovery.errors import BinlogDamaged, UnsupportedEvent

FOREVER = Limits(3600, 10**9, 10**12, 3600, 10**12)
SMALL = Limits(3600, 10, 10**12, 3600, 10**12)


def seqs(changes: Any) -> list[int]:
    return [seq for _, batches in changes for rows in batches for seq in rows["_rb_seq"].to_pylist()]


def listed(window: Window) -> list[int]:
    return [seq for part in window.transactions for seq in part["seq"].to_pylist()]


def logic_of(limits: Limits) -> WindowLogic:
    return WindowLogic({"shop": limits})


def run(logic: WindowLogic, *items: Any) -> list[Any]:
    return list(logic.on_batch(list(items))[0])


def end(logic: WindowLogic) -> list[Any]:
    return list(logic.on_eof()[0])


def test_a_window_closes_on_rows_and_the_next_one_follows_it() -> None:
    logic = logic_of(SMALL)
    first, second = run(logic, *(batch(Tx(n, rows=5)) for n in range(1, 5)))
    assert (first.before, first.after) == (checkpoint(0), checkpoint(2))
    assert (second.before, second.after) == (checkpoint(2), checkpoint(4))
    assert listed(first) == [1, 2]
    assert end(logic) == [Pulse("shop", 1, flush=True)]


def test_a_window_closes_on_bytes_of_events_and_of_buffers() -> None:
    by_events = logic_of(Limits(3600, 10**9, 250, 3600, 10**12))
    assert [w.after.seq for w in run(by_events, *(batch(Tx(n)) for n in range(1, 8)))] == [3, 6]
    by_buffers = logic_of(Limits(3600, 10**9, 10**12, 3600, 1))
    assert [w.after.seq for w in run(by_buffers, batch(Tx(1)), batch(Tx(2)))] == [1, 2]


def test_a_window_closes_when_the_hour_changes() -> None:
    logic = logic_of(FOREVER)
    late = (T0 // HOUR_US + 1) * HOUR_US
    out = run(logic, batch(Tx(1)), batch(Tx(2, at_us=late - 1)), batch(Tx(3, at_us=late)), batch(Tx(4, at_us=late)))
    assert [(w.before.seq, w.after.seq) for w in out] == [(0, 2)]
    assert [(w.before.seq, w.after.seq) for w in end(logic)[:-1]] == [(2, 4)]


def test_the_end_leaves_an_open_transaction_out() -> None:
    logic = logic_of(FOREVER)
    assert run(logic, batch(Tx(1, rows=3), Tx(2, rows=4, end=False))) == []
    window, pulse = end(logic)
    assert seqs(window.changes) == [1, 1, 1]
    assert window.after == checkpoint(1)
    assert pulse.flush


def test_a_stop_comes_after_what_is_whole() -> None:
    logic = logic_of(FOREVER)
    stop = Stop("shop", 1, UnsupportedEvent("no", hint=""))
    window, last = run(logic, batch(Tx(1), Tx(2, rows=4, end=False)), stop)
    assert seqs(window.changes) == [1]
    assert last is stop


def test_a_window_closes_inside_a_batch_whose_last_transaction_is_open() -> None:
    logic = logic_of(SMALL)
    (window,) = run(logic, batch(Tx(1, rows=8), Tx(2, rows=4, end=False)))
    assert seqs(window.changes) == [1] * 8
    assert run(logic, batch(Tx(2, rows=2, first=4))) == []
    window, _ = end(logic)
    assert seqs(window.changes) == [2] * 6
    assert listed(window) == [2]


def test_a_huge_transaction_goes_ahead_in_parts() -> None:
    logic = logic_of(SMALL)
    out = run(
        logic,
        batch(Tx(1, rows=2), Tx(2, rows=12, end=False)),
        batch(Tx(2, rows=12, first=12, end=False), after=1),
        batch(Tx(2, rows=3, first=24), Tx(3)),
        batch(Tx(4)),
    )
    before, one, two, last = out
    assert seqs(before.changes) == [1, 1]
    assert before.parts == 0
    assert isinstance(one, Part)
    assert seqs(one.changes) == [2] * 12
    assert isinstance(two, Part)
    assert seqs(two.changes) == [2] * 12
    assert last.parts == 2
    assert listed(last) == [2, 3]
    assert seqs(last.changes) == [2, 2, 2, 3]
    window, _ = end(logic)
    assert window.parts == 0
    assert listed(window) == [4]


def test_a_transaction_that_is_read_again_stands_once() -> None:
    logic = logic_of(FOREVER)
    run(logic, batch(Tx(1), Tx(2, rows=4, end=False)))
    assert run(logic, batch(Tx(2, rows=3, end=False), after=1)) == []  # the source came back and began again
    assert run(logic, batch(Tx(2, rows=3, first=3))) == []
    window, _ = end(logic)
    assert seqs(window.changes) == [1, 2, 2, 2, 2, 2, 2]


def test_parts_of_a_transaction_that_is_read_again_are_dropped() -> None:
    logic = logic_of(SMALL)
    (part,) = run(logic, batch(Tx(1, rows=12, end=False), after=0))
    assert isinstance(part, Part)
    dropped, again = run(logic, batch(Tx(1, rows=12), after=0))
    assert dropped == Dropped("shop", 1)
    assert isinstance(again, Window)
    assert again.parts == 0
    assert len(seqs(again.changes)) == 12


def test_a_long_transaction_of_which_all_rows_turn_out_rolled_back_has_none() -> None:
    """It is read again without them: nothing but its beginning, and then its end, comes a second time."""
    logic = logic_of(SMALL)
    (part,) = run(logic, batch(Tx(1, rows=12, end=False), after=0))
    assert isinstance(part, Part)
    assert run(logic, batch(Tx(1, rows=0, end=False), after=0, is_open=True)) == [Dropped("shop", 1)]
    assert run(logic, batch(Tx(1, rows=0), after=0, continued=True)) == []
    window, _ = end(logic)
    assert (listed(window), window.changes, window.parts) == ([1], (), 0)


def test_a_transaction_that_never_was_is_dropped() -> None:
    """The source crashed before the transaction was durable: what comes next has its seq, or nothing comes."""
    logic = logic_of(FOREVER)
    run(logic, batch(Tx(1), Tx(2, rows=4, end=False)))
    run(logic, batch(after=1, is_open=False))
    window, _ = end(logic)
    assert seqs(window.changes) == [1]
    other = logic_of(FOREVER)
    run(other, batch(Tx(1), Tx(2, rows=4, end=False)))
    run(other, batch(Tx(2, rows=0)))
    window, _ = end(other)
    assert (listed(window), seqs(window.changes)) == ([1, 2], [1])


def prepared(seq: int, rows: int) -> Prepared:
    return Prepared("X'61',X'',1", seq, ((ORDERS, rows_of(Tx(seq, rows=rows))),))


def test_an_xa_transaction_that_never_was_leaves_nothing_to_the_next_one() -> None:
    """Its seq is another one's, which is an ordinary transaction; and the other way round."""
    logic = logic_of(FOREVER)
    run(logic, batch(Tx(1)), batch(after=1, prepared=[prepared(2, 3)], is_open=True))
    run(logic, batch(Tx(2, rows=2)))
    window, _ = end(logic)
    assert (listed(window), seqs(window.changes), window.prepared) == ([1, 2], [1, 2, 2], ())
    other = logic_of(FOREVER)
    run(other, batch(Tx(1), Tx(2, rows=4, end=False)))
    run(other, batch(ends=[Tx(2, rows=0)], prepared=[prepared(2, 3)]))
    window, _ = end(other)
    assert (listed(window), seqs(window.changes), [p.seq for p in window.prepared]) == ([1, 2], [1], [2])


def ddl(seq: int) -> Ddl:
    at = T0 + seq * 1_000_000
    return Ddl(seq, None, "binlog.000001", 1000 * seq, at, "shop", "CREATE TABLE t", "CREATE TABLE", (("shop", "t"),))


def test_the_ddl_of_an_open_transaction_waits_for_its_end() -> None:
    """CREATE TABLE .. SELECT."""
    logic = logic_of(SMALL)
    (window,) = run(logic, replace(batch(Tx(1, rows=12), Tx(2, rows=4, end=False)), ddl=(ddl(1), ddl(2))))
    assert (window.after.seq, window.ddl) == (1, (ddl(1),))
    run(logic, batch(Tx(2, rows=2, first=4)))
    window, _ = end(logic)
    assert (window.after.seq, window.ddl) == (2, (ddl(2),))


def test_the_ddl_of_a_transaction_that_is_read_again_or_never_was_stands_once_or_not() -> None:
    logic = logic_of(FOREVER)
    run(logic, replace(batch(Tx(1), Tx(2, rows=4, end=False)), ddl=(ddl(1), ddl(2))))
    run(logic, replace(batch(Tx(2, rows=4)), ddl=(ddl(2),)))
    window, _ = end(logic)
    assert window.ddl == (ddl(1), ddl(2))
    other = logic_of(FOREVER)
    run(other, replace(batch(Tx(1), Tx(2, rows=4, end=False)), ddl=(ddl(1), ddl(2))))
    run(other, batch(Tx(2, rows=1)))
    window, _ = end(other)
    assert window.ddl == (ddl(1),)


def test_a_transaction_that_ends_with_other_changes_than_came_is_refused() -> None:
    logic = logic_of(FOREVER)
    run(logic, batch(Tx(1, rows=4, end=False), after=0))
    with pytest.raises(BinlogDamaged, match="9 row changes, and 6 came"):
        run(logic, batch(Tx(1, rows=2, first=4, counted=9)))


def test_little_is_held_for_longer_and_much_isn_t() -> None:
    limits = Limits(10, 10**9, 10**12, 300, 10**12)
    assert limits.age_s(3, 100) == 10
    assert limits.age_s(52, 100) == 104
    assert limits.age_s(500, 100) == 300
    assert limits.age_s(52, 64 * 1024 * 1024) == 10
    assert Limits(10, 10**9, 10**12, 10, 10**12).age_s(500, 100) == 10


def test_the_age_counts_from_the_first_transaction() -> None:
    logic = logic_of(Limits(0.0001, 10**9, 10**12, 0.0001, 10**12))
    assert logic.notify_at() is None
    run(logic, batch(Tx(1)))
    due = logic.notify_at()
    assert due is not None
    time.sleep(0.01)
    (window,) = list(logic.on_notify()[0])
    assert isinstance(window, Window)
    again = logic.notify_at()
    assert again is not None
    assert again > due
    assert list(logic.on_notify()[0]) == []


def test_an_open_transaction_alone_asks_for_no_notification() -> None:
    logic = logic_of(Limits(0.0001, 10**9, 10**12, 0.0001, 10**12))
    run(logic, batch(Tx(1, rows=2, end=False), after=0))
    assert logic.notify_at() is None


@pytest.mark.parametrize("rows", [1, 3, 7, 25, 60])
def test_no_row_is_lost_or_doubled_whatever_the_limits(rows: int) -> None:
    """Transactions of many sizes over two tables, cut into batches anywhere, windows anywhere."""
    logic = logic_of(Limits(3600, rows, 10**12, 3600, 10**12))
    sizes = [1, 9, 0, 30, 2, 2, 17, 1]
    out: list[Any] = []
    for seq, size in enumerate(sizes, 1):
        table = ORDERS if seq % 2 else ITEMS
        done = 0
        while size - done > 7:
            out += run(logic, batch(Tx(seq, rows=5, first=done, end=False), after=seq - 1))
            done += 5
        out += run(logic, batch(Tx(seq, rows=size - done, first=done, table=ORDERS if done else table)))
    out += end(logic)
    found: list[int] = []
    ahead: list[int] = []
    for item in out:
        if isinstance(item, Part):
            ahead += seqs(item.changes)
        elif isinstance(item, Window):
            mine = sorted(ahead + seqs(item.changes)) if item.parts else seqs(item.changes)
            assert set(mine) <= set(listed(item))
            found += sorted(mine)
            ahead = []
    assert found == [seq for seq, size in enumerate(sizes, 1) for _ in range(size)]
