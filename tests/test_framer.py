"""The framer on hand-made events: completeness, numbering, and what it refuses; and on whole binlogs of real servers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import events as ev
from dataflow.framer import REWIND_BYTES, Diverged, Framer
from dataflow.pieces import Piece
from dataflow.rollbacks import ReadAgain, Span
from dataflow.torn import Behind, Torn
from recovery.archive.actions import Checkpoint
from recovery.errors import BinlogDamaged, RowbackError, UnsupportedEvent

START = 1000


def event(kind: int, body: bytes, end: int, timestamp: int = 1_700_000_000, flags: int = 0) -> bytes:
    size = 19 + len(body) + 4
    head = struct.pack("<IBIIIH", timestamp, kind, 1, size, end, flags) + body
    return head + zlib.crc32(head).to_bytes(4, "little")


def packets(events: Iterable[bytes]) -> np.ndarray:
    out = bytearray()
    for each in events:
        data = b"\0" + each
        while True:
            part, data = data[:0xFFFFFF], data[0xFFFFFF:]
            out += len(part).to_bytes(3, "little") + b"\1" + part
            if len(part) < 0xFFFFFF:
                break
    return np.frombuffer(bytes(out), np.uint8)


def framer(expect: str | None = None, position: int = START) -> Framer:
    checkpoint = Checkpoint(0, "binlog.000001", position, "", 5, 5)
    return Framer("mysql", checkpoint, file="binlog.000001", position=position, expect=expect)


def mariadb_framer(known: Sequence[Span] | None = (), at: Checkpoint | None = None) -> Framer:
    at = at or Checkpoint(0, "binlog.000001", START, "", 5, 5)
    return Framer("mariadb", at, file=at.file, position=at.position, expect=None, rolled_back=known)


def gtid_body(number: int, sequence: int | None = None) -> bytes:
    """flags, uuid, number, type, last committed, sequence number, commit time."""
    sequence = number if sequence is None else sequence
    return (
        b"\1" + bytes(16) + number.to_bytes(8, "little") + b"\2" + bytes(8) + sequence.to_bytes(8, "little")
        + (10**15 + number).to_bytes(7, "little")
    )  # fmt: skip


def query(text: bytes, db: bytes = b"d", status: bytes = b"") -> bytes:
    return struct.pack("<IIBHH", 7, 0, len(db), 0, len(status)) + status + db + b"\0" + text


class Binlog:
    """Events one behind the other."""

    def __init__(self, position: int = START, flavor: str = "mysql") -> None:
        self.position, self.flavor = position, flavor
        self.events: list[bytes] = []

    def gtid(self, number: int) -> Binlog:
        """MariaDB's: number, domain, flags, and nothing for the rest."""
        if self.flavor == "mysql":
            return self.add(ev.GTID, gtid_body(number)).add(ev.QUERY, query(b"BEGIN"))
        return self.add(ev.MARIADB_GTID, number.to_bytes(8, "little") + bytes(4) + b"\0" + bytes(6))

    def add(self, kind: int, body: bytes) -> Binlog:
        self.position += 19 + len(body) + 4
        self.events.append(event(kind, body, self.position & 0xFFFFFFFF))
        return self

    def transaction(self, number: int, *between: tuple[int, bytes]) -> Binlog:
        self.gtid(number)
        for kind, body in between:
            self.add(kind, body)
        return self.add(ev.XID, bytes(8))

    @property
    def bytes(self) -> np.ndarray:
        return packets(self.events)


def table_map(columns: int = 1, name: bytes = b"t") -> bytes:
    return (
        (7).to_bytes(6, "little") + b"\1\0" + b"\1d\0" + bytes([len(name)]) + name + b"\0"
        + bytes([columns]) + b"\3" * columns + b"\0" + b"\0"
    )  # fmt: skip


def rows(payload: bytes) -> bytes:
    return (7).to_bytes(6, "little") + b"\1\0\2\0\1\1" + payload


def fed(f: Framer, data: np.ndarray, arrived_at_us: int = 2 * 10**15) -> list[Piece]:
    """Feed, and raise why it stopped."""
    pieces = f.feed(data, arrived_at_us)
    if f.failure is not None:
        raise f.failure
    return pieces


def test_transactions_get_consecutive_seqs_and_rising_times() -> None:
    log = Binlog().transaction(1).transaction(2).transaction(3)
    (piece,) = fed(framer(), log.bytes)
    found = piece.transactions
    assert (found.first_seq, len(found)) == (1, 3)
    assert all(a <= b for a, b in pairwise(found.cut_at_us.tolist()))
    assert found.gtids().to_pylist() == [f"00000000-0000-0000-0000-000000000000:{n}" for n in (1, 2, 3)]
    assert found.connection.tolist() == [7, 7, 7]
    assert piece.after.position == log.position
    assert piece.after.gtid_set == "00000000-0000-0000-0000-000000000000:1-3"


def rolled(log: Binlog, number: int, end: bytes, *before: int) -> Binlog:
    """A transaction: an INSERT of each size, with SAVEPOINT s behind the first one, and `end`."""
    log.gtid(number)
    for i, size in enumerate(before):
        log.add(ev.TABLE_MAP, table_map()).add(ev.WRITE_ROWS, rows(bytes(size)))
        if i == 0:
            log.add(ev.QUERY, query(b"SAVEPOINT `s`"))
    return log.add(ev.QUERY, query(end))


def sizes_of(pieces: list[Piece]) -> list[tuple[int, int]]:
    """(seq, size) of the row events."""
    return [(p.transactions.first_seq + int(r[4]), int(r[2] - r[1]) - 12) for p in pieces for r in p.rows]


def gtid_list(*gtids: tuple[int, int, int]) -> bytes:
    return len(gtids).to_bytes(4, "little") + b"".join(struct.pack("<IIQ", *gtid) for gtid in gtids)


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ([(0, 1, 4), (0, 7, 3)], None),
        ([(0, 7, 3), (0, 1, 4)], None),
        ([(0, 7, 3), (0, 1, 5)], "002` says that `0-1-5,0-7-3` stand before it, and up to there it was `0-1-4,0-7-3`"),
        ([(0, 1, 4), (0, 7, 2)], "says that `0-1-4,0-7-2` stand before it"),  # numbers went back: not in any order
        ([], "says that `` stand before it"),  # of a server that was reset
        ([(0, 1, 4), (0, 7, 3), (1, 1, 1)], "says that `0-1-4,0-7-3,1-1-1` stand before it"),
        (None, "^cut short"),  # a transaction comes without a list before it
    ],
)
def test_a_torn_file_is_passed_over_only_if_the_next_one_lists_what_was_read(
    listed: list[tuple[int, int, int]] | None, says: str | None
) -> None:
    at = Checkpoint(4, "binlog.000002", 4, "0-1-4", 5, 5)
    behind = Behind(Torn("binlog.000001", BinlogDamaged("cut short", hint="")), frozenset({"0-1-4", "0-7-3"}))
    f = Framer("mariadb", at, file=at.file, position=4, expect=None, behind=behind)
    assert not f.proved
    log = Binlog(4, "mariadb")
    if listed is not None:
        log.add(ev.MARIADB_GTID_LIST, gtid_list(*listed))
    log.transaction(5)
    if says is None:
        (piece,) = fed(f, log.bytes)
        assert f.proved
        assert (piece.transactions.first_seq, piece.after.gtid_set) == (5, "0-1-5")
        return
    with pytest.raises(BinlogDamaged, match=says):
        fed(f, log.bytes)
    assert not f.proved


@pytest.mark.parametrize(("flavor", "proved"), [("mysql", True), ("mariadb", True), ("mariadb", False)])
def test_a_file_that_ends_inside_a_transaction_is_torn(flavor: str, proved: bool) -> None:
    """Only a MariaDB server leaves that behind, and only a stream that is proved to be the captured one says so."""
    log = Binlog(flavor=flavor).transaction(1).gtid(2)
    rotate = event(ev.ROTATE, (4).to_bytes(8, "little") + b"binlog.000002", 0, flags=0x20)
    at = Checkpoint(0, "binlog.000001", START, "", 5, 5, file_begun_at_us=None if proved else 1)
    f = Framer(flavor, at, file="binlog.000001", position=START, expect=None)
    pieces = f.feed(packets([*log.events, rotate]), 2 * 10**15)
    assert [len(p.transactions) for p in pieces if not p.open] == [1]
    assert isinstance(f.failure, Torn if flavor == "mariadb" and proved else BinlogDamaged)


def test_what_is_rolled_back_counts_for_nothing() -> None:
    log = rolled(Binlog(flavor="mariadb"), 1, b"ROLLBACK", 10, 20)
    rolled(log, 2, b"ROLLBACK TO `S`", 30, 40).add(ev.WRITE_ROWS, rows(bytes(50))).add(ev.XID, bytes(8))
    log.transaction(3, (ev.TABLE_MAP, table_map()), (ev.WRITE_ROWS, rows(bytes(60))))
    (piece,) = fed(mariadb_framer(), log.bytes)
    assert len(piece.transactions) == 3
    assert sizes_of([piece]) == [(2, 30), (2, 50), (3, 60)]


@pytest.mark.parametrize("end", [b"ROLLBACK", b"ROLLBACK TO `s`"])
def test_a_transaction_of_which_a_part_is_out_is_read_again_once_its_end_has_come(end: bytes) -> None:
    log = rolled(Binlog(flavor="mariadb").transaction(1), 2, end, 10, REWIND_BYTES, 20)
    if end != b"ROLLBACK":
        log.add(ev.WRITE_ROWS, rows(bytes(30))).add(ev.QUERY, query(b"ROLLBACK TO `s`"))
        log.add(ev.WRITE_ROWS, rows(bytes(40))).add(ev.XID, bytes(8))
    log.transaction(3)
    f, data = mariadb_framer(), log.bytes
    cut = len(packets(log.events[:9]))  # behind the long row event and one more
    first = f.feed(data[:cut], 2 * 10**15)
    assert sizes_of(first) == [(2, 10), (2, REWIND_BYTES)]
    assert f.feed(data[cut:], 2 * 10**15) == []
    assert isinstance(f.failure, ReadAgain)
    again = mariadb_framer(f.failure.spans, first[-1].after)
    behind = len(packets(log.events[:2]))
    found = [*again.feed(data[behind:cut], 2 * 10**15), *again.feed(data[cut:], 2 * 10**15)]
    assert again.failure is None
    assert sizes_of(found) == ([] if end == b"ROLLBACK" else [(2, 10), (2, 40)])
    assert found[-1].after.seq == 3
    # Who doesn't look at rows isn't asked to read again.
    careless = mariadb_framer(None)
    assert sizes_of(fed(careless, data[:cut])) == sizes_of(first)
    assert fed(careless, data[cut:])[-1].after.seq == 3


@pytest.mark.parametrize("end", [b"ROLLBACK TO `other`", b"ROLLBACK AND CHAIN"])
def test_a_rollback_that_is_not_understood_stops_the_stream(end: bytes) -> None:
    with pytest.raises(UnsupportedEvent, match=end.decode()):
        fed(mariadb_framer(), rolled(Binlog(flavor="mariadb"), 1, end, 10, 20).bytes)


def test_mysql_goes_back_to_no_savepoint_in_its_binlog() -> None:
    with pytest.raises(UnsupportedEvent, match="ROLLBACK TO `s`"):
        fed(framer(), rolled(Binlog(), 1, b"ROLLBACK TO `s`", 10, 20).bytes)


def test_a_transaction_is_not_seen_before_its_end() -> None:
    f = framer()
    assert fed(f, packets(Binlog().transaction(1).events[:-1])) == []
    assert f.in_transaction


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.sampled_from(["mysql", "mariadb"]))
def test_the_cuts_of_the_input_change_nothing(sizes: list[int], flavor: str) -> None:
    log, new = Binlog(flavor=flavor), framer if flavor == "mysql" else mariadb_framer
    for number in range(1, 8):
        log.transaction(number, (ev.TABLE_MAP, table_map(number % 3 + 1)), (ev.WRITE_ROWS, rows(bytes(40 * number))))
    rolled(log, 8, b"ROLLBACK", 40, 50)
    if flavor == "mariadb":
        rolled(log, 9, b"ROLLBACK TO `s`", 10, 20, 30).add(ev.XID, bytes(8))
    whole = fed(new(), log.bytes)
    f, found, at = new(), [], 0
    while at < len(log.bytes):
        size = sizes[at % len(sizes)]
        found += fed(f, log.bytes[at : at + size])
        at += size
    ends = [found[-1].after, whole[-1].after]
    if flavor == "mariadb":  # of whole seconds each piece makes times of its own
        ends = [replace(end, cut_at_us=0, covered_to_us=0) for end in ends]
    assert ends[0] == ends[1]

    def contents(pieces: list[Piece]) -> list[tuple[int, bytes, bytes, int]]:
        return [
            (
                p.transactions.first_seq + int(row[4]),
                p.definitions[int(row[0])],
                p.buffer[row[1] : row[2]].tobytes(),
                int(row[5]),
            )
            for p in pieces
            for row in p.rows
        ]

    assert contents(found) == contents(whole)
    assert len(contents(found)) == (7 if flavor == "mysql" else 8)


def test_a_long_transaction_comes_in_open_parts_with_its_final_numbers() -> None:
    events = [(ev.TABLE_MAP, table_map()), *((ev.WRITE_ROWS, rows(bytes(8000))) for _ in range(400))]
    log = Binlog().transaction(1).transaction(2, *events).transaction(3)
    f, pieces = framer(), []
    for at in range(0, len(log.bytes), REWIND_BYTES + 999):
        pieces += fed(f, log.bytes[at : at + REWIND_BYTES + 999])
    whole = fed(framer(), log.bytes)
    parts = [p for p in pieces if p.open]
    assert len(parts) >= 2
    assert all(len(p.transactions) == 1 and p.transactions.first_seq == 2 for p in parts)
    assert {p.after.seq for p in parts} == {1}
    assert sum(len(p.rows) for p in pieces) == 400
    last = next(p for p in pieces if p.after.seq >= 2)
    assert last.continued
    assert {p.transactions.cut_at_us[0] for p in parts} == {last.transactions.cut_at_us[0]}
    assert pieces[-1].after == whole[-1].after, "the same digest and GTIDs, however it was cut"


def test_an_event_of_more_than_16_mib() -> None:
    log = (
        Binlog()
        .transaction(1, (ev.TABLE_MAP, table_map()), (ev.WRITE_ROWS, rows(bytes(0xFFFFFF * 2 - 43))))
        .transaction(2)
    )
    f, pieces = framer(), []
    for at in range(0, len(log.bytes), 5_000_000):
        pieces += fed(f, log.bytes[at : at + 5_000_000])
    assert pieces[-1].after.seq == 2
    (long,) = (p for p in pieces if len(p.rows))
    assert long.rows[0, 2] - long.rows[0, 1] == 0xFFFFFF * 2 - 31


def test_positions_beyond_4_gib() -> None:
    """The position in an event's header has 32 bits."""
    start = (1 << 32) - 200
    log = Binlog(start).transaction(1).transaction(2).transaction(3)
    (piece,) = fed(framer(position=start), log.bytes)
    assert piece.after.position == log.position > 1 << 32
    assert piece.transactions.start.tolist() == [start, start + 146, start + 292]


def test_later_transactions_are_cut_above_what_was_promised() -> None:
    f = framer()
    promised = f.idle(3 * 10**15).after.covered_to_us
    (piece,) = fed(f, Binlog().transaction(1).bytes, 4 * 10**15)
    assert piece.transactions.committed_at_us[0] < promised < piece.transactions.cut_at_us[0]


def test_the_transaction_that_the_archive_has_is_proved_and_takes_no_seq() -> None:
    log = Binlog().transaction(1).transaction(2)
    (first,) = fed(framer(), packets(log.events[:3]))
    digest = first.after.transaction_digest
    f = framer(expect=digest)
    (piece,) = fed(f, log.bytes)
    assert (piece.transactions.first_seq, len(piece.transactions)) == (1, 1)
    assert piece.transactions.gtid(0) == "00000000-0000-0000-0000-000000000000:2"
    other = framer(expect="0" * 64)
    with pytest.raises(Diverged):
        fed(other, log.bytes)


def head(seconds: int, file: bytes = b"binlog.000001", position: int = START) -> list[bytes]:
    """What a dump from the middle of a file begins with: ROTATE and the file's FORMAT_DESCRIPTION, both without a place."""
    rotate = position.to_bytes(8, "little") + file
    return [event(ev.ROTATE, rotate, 0, flags=0x20), event(ev.FORMAT_DESCRIPTION, bytes(60) + b"\1", 0, seconds)]


def resumed(begun_at_us: int | None, file: str = "binlog.000001", expect: str | None = None) -> Framer:
    at = Checkpoint(0, file, START, "", 5, 5, file_begun_at_us=begun_at_us)
    return Framer("mysql", at, file="binlog.000001", position=START, expect=expect)


def test_a_checkpoint_says_when_its_file_was_begun() -> None:
    f = resumed(None)
    assert f.proved, "an archive of an earlier version says nothing"
    (piece,) = fed(f, packets([*head(1_700_000_000), *Binlog().transaction(1).events]))
    assert piece.after.file_begun_at_us == 1_700_000_000_000_000
    assert f.idle(3 * 10**15).after == replace(piece.after, covered_to_us=3 * 10**15)
    quiet = resumed(None)
    fed(quiet, packets(head(1_700_000_000)))
    assert quiet.idle(6).after.file_begun_at_us == 1_700_000_000_000_000
    again = resumed(1_700_000_000_000_000)
    assert not again.proved
    (same,) = fed(again, packets([*head(1_700_000_000), *Binlog().transaction(1).events]))
    assert again.proved
    assert same.after == piece.after


def test_a_file_that_was_begun_anew_is_another_one() -> None:
    f = resumed(1_700_000_000_000_000)
    with pytest.raises(Diverged, match=r"`binlog\.000001` has been begun anew"):
        fed(f, packets([*head(1_700_000_001), *Binlog().transaction(1).events]))
    assert not f.proved


def test_the_checkpoints_file_is_told_where_the_last_transaction_stands_in_the_one_before() -> None:
    log = Binlog().transaction(1)
    digest = fed(framer(), log.bytes)[0].after.transaction_digest
    next_file = head(1_700_000_500, b"binlog.000002", 4)
    f = resumed(1_700_000_500_000_000, "binlog.000002", digest)
    assert fed(f, packets([*head(1_700_000_000), *log.events])) == []
    assert (f.expect, f.proved) == (None, False)
    assert fed(f, packets(next_file)) == []
    assert f.proved
    f = resumed(1_700_000_499_000_000, "binlog.000002", digest)
    with pytest.raises(Diverged, match=r"`binlog\.000002` has been begun anew"):
        fed(f, packets([*head(1_700_000_000), *log.events, *next_file]))


@pytest.mark.parametrize("position", range(4, 160, 11))
def test_a_flipped_bit_is_found(position: int) -> None:
    data = Binlog().transaction(1).bytes.copy()
    data[position] ^= 4
    with pytest.raises((BinlogDamaged, UnsupportedEvent)):
        assert fed(framer(), data) == []
        raise BinlogDamaged("it waits for more: a packet's length was bent", hint="")


@pytest.mark.parametrize("position", range(3))
def test_a_bent_length_is_found_without_waiting_for_the_bytes(position: int) -> None:
    data = Binlog().transaction(1).bytes.copy()
    data[position] ^= 0x40
    with pytest.raises(BinlogDamaged, match="not a binlog event"):
        fed(framer(), data[:40])


def test_what_stands_before_the_damage_is_good() -> None:
    log = Binlog().transaction(1).transaction(2)
    data = log.bytes.copy()
    data[-1] ^= 1
    f = framer()
    (piece,) = f.feed(data, 2 * 10**15)
    assert piece.after.seq == 1
    assert isinstance(f.failure, BinlogDamaged)
    assert f.feed(data, 2 * 10**15) == []


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_or_waits(noise: bytes, at: int) -> None:
    good = Binlog().transaction(1, (ev.TABLE_MAP, table_map()), (ev.WRITE_ROWS, rows(b"\0\0\0\0\0"))).bytes.tobytes()
    f = framer()
    pieces = f.feed(np.frombuffer(good[:at] + noise + good[at + len(noise) :], np.uint8), 2 * 10**15)
    assert f.failure is None or isinstance(f.failure, RowbackError)
    assert sum(len(p.transactions) for p in pieces) <= 1


def test_a_missing_event_is_found() -> None:
    log = Binlog().transaction(1)
    with pytest.raises(BinlogDamaged, match="hole"):
        fed(framer(), packets([log.events[0], log.events[2]]))


def test_a_missing_sequence_number_is_found() -> None:
    log = Binlog().transaction(1)
    log.add(ev.GTID, gtid_body(2, sequence=3)).add(ev.QUERY, query(b"BEGIN")).add(ev.XID, bytes(8))
    with pytest.raises(BinlogDamaged, match="sequence number 3"):
        fed(framer(), log.bytes)


def test_a_missing_file_is_found_by_its_list_of_gtids() -> None:
    rotate = event(ev.ROTATE, (4).to_bytes(8, "little") + b"binlog.000002", START + 44)
    body = (1).to_bytes(8, "little") + bytes(16) + (1).to_bytes(8, "little") + struct.pack("<QQ", 1, 5)
    previous = event(ev.PREVIOUS_GTIDS, body, 4 + 19 + len(body) + 4)
    with pytest.raises(BinlogDamaged, match="didn't bring them all"):
        fed(framer(), packets([rotate, previous]))


@pytest.mark.parametrize(
    ("kind", "what"), [(ev.INTVAR, "statement-format"), (ev.INCIDENT, "INCIDENT"), (200, "unknown type 200")]
)
def test_events_that_are_not_known_stop_the_stream(kind: int, what: str) -> None:
    with pytest.raises(UnsupportedEvent, match=what):
        fed(framer(), packets([event(kind, bytes(8), START + 31)]))


def test_a_statement_format_change_stops_the_stream() -> None:
    log = Binlog().transaction(1)
    log = Binlog().add(ev.GTID, gtid_body(1)).add(ev.QUERY, query(b"BEGIN")).add(ev.QUERY, query(b"UPDATE t SET a = 1"))
    with pytest.raises(UnsupportedEvent, match="UPDATE t"):
        fed(framer(), log.bytes)


def test_a_statement_in_another_character_set_is_decoded_or_may_touch_anything() -> None:
    checkpoint = Checkpoint(0, "binlog.000001", START, "", 5, 5)
    f = Framer(
        "mysql", checkpoint, file="binlog.000001", position=START, expect=None, charsets={51: "cp1251", 999: "martian"}
    )
    log = Binlog()
    for number, collation in ((1, 51), (2, 999)):
        status = b"\x04" + collation.to_bytes(2, "little") + bytes(4)
        text = "TRUNCATE TABLE shop.`заказы`".encode("cp1251")
        log.add(ev.GTID, gtid_body(number)).add(ev.QUERY, query(text, b"shop", status))
    (piece,) = fed(f, log.bytes)
    assert [d.tables for _, d in piece.ddl] == [(("shop", "заказы"),), None]


def test_the_systems_time_zone_is_noted_for_statements_younger_than_the_server() -> None:
    checkpoint = Checkpoint(0, "binlog.000001", START, "", 5, 5)
    for since_us, expected in ((None, [None] * 4), (10**15 + 2, [None, "+00:00", "+00:00", None])):
        f = Framer("mysql", checkpoint, file="binlog.000001", position=START, expect=None, charsets={45: "utf8mb4"},
                   utc_since_us=since_us)  # fmt: skip
        log = Binlog()
        for number, zone in ((1, b"SYSTEM"), (2, b"SYSTEM"), (3, b"SYSTEM"), (4, b"+02:00")):
            status = (
                b"\x01" + bytes(8) + b"\x04" + struct.pack("<HHH", 45, 45, 45) + b"\x05" + bytes([len(zone)]) + zone
            )
            log.add(ev.GTID, gtid_body(number)).add(ev.QUERY, query(b"TRUNCATE TABLE t", status=status))
        (piece,) = fed(f, log.bytes)
        sessions = [d.session for _, d in piece.ddl]
        assert [s and s.system_zone for s in sessions] == expected
        assert [s and s.time_zone for s in sessions] == ["SYSTEM"] * 3 + ["+02:00"]


def test_a_heartbeat_covers_only_what_was_read_before_it() -> None:
    beat = event(ev.HEARTBEAT, b"binlog.000001", 0)
    log = Binlog().transaction(1)
    f = framer()
    fed(f, packets([*log.events, beat]), 7 * 10**15)
    assert f.idle_since_us == 7 * 10**15
    f = framer()
    fed(f, packets([beat, *log.events]), 7 * 10**15)
    assert f.idle_since_us is None


def test_a_piece_can_be_cut_short_at_any_transaction() -> None:
    log = Binlog().transaction(1).transaction(2).transaction(3)
    (piece,) = fed(framer(), log.bytes)
    for count in range(4):
        part = piece.upto(count, "mysql")
        (alone,) = fed(framer(), packets(log.events[: 3 * count])) or [replace(piece, after=piece.before)]
        assert part.after == alone.after
