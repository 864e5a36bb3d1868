"""Pieces: runs of whole transactions, or a part of a long one, as the framer hands them on to decoding.

`Numbering` gives transactions their seq, GTID and two times. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dataflow import events as ev
from dataflow.grammar import Grammar, Statement, Xa, damaged
from dataflow.kernels import gtids as gk
from dataflow.kernels import transactions as tk
from dataflow.transactions import Transactions
from recovery.archive.actions import Checkpoint, Ddl
from recovery.gtid import GtidSet, parse_gtid_set


@dataclass(frozen=True)
class Piece:
    """A run of transactions of one binlog file, its row events undecoded.

    rows: int64, one row of ROW_* fields (dataflow/kernels/transactions.py) per row event: offsets into `buffer` (uint8),
    ROW_DEFINITION into `definitions` (TABLE_MAP bodies), ROW_TX into `transactions`. open: the one transaction in it has not
    ended; `after` doesn't cover it. continued: the first transaction began in an earlier, open piece. ddl: with, for each
    statement, how many of the row events come before it. xa: what XA statements say of these transactions.
    """

    buffer: np.ndarray
    rows: np.ndarray
    transactions: Transactions
    open: bool
    continued: bool
    before: Checkpoint
    after: Checkpoint
    definitions: Mapping[int, bytes]
    ddl: tuple[tuple[int, Ddl], ...]
    xa: tuple[Xa, ...]
    size_bytes: int

    def upto(self, count: int, flavor: str) -> Piece:
        """The piece as if its first `count` transactions were all."""
        gtids = parse_gtid_set(self.before.gtid_set, flavor)
        kept = self.transactions.upto(count)
        kept.add_to(gtids, count)
        return replace(
            self,
            rows=self.rows[self.rows[:, tk.ROW_TX] < count],
            transactions=kept,
            open=False,
            after=kept.checkpoint(self.before, gtids, count),
            ddl=tuple((n, d) for n, d in self.ddl if d.seq < kept.first_seq + count),
            xa=tuple(x for x in self.xa if x.tx < count),
        )


def used_definitions(rows: np.ndarray) -> list[int]:
    """Numbers of the definitions that row events (ROW_* fields) have, ascending."""
    # They are few and small: counting takes a fifth of what np.unique does.
    used: list[int] = np.flatnonzero(np.bincount(rows[:, tk.ROW_DEFINITION])).tolist()
    return used


def ddl_action(statement: Statement, found: Transactions, tx: int, utc_since_us: int | None) -> Ddl:
    """What the log says of a statement of transaction `tx`. utc_since_us: see recovery/source.py."""
    session = statement.session
    in_utc = utc_since_us is not None and found.committed_at_us[tx] >= utc_since_us
    if session is not None and session.time_zone == "SYSTEM" and in_utc:
        session = replace(session, system_zone="+00:00")
    return Ddl(
        seq=found.first_seq + tx,
        gtid=found.gtid(tx),
        file=found.file,
        position=statement.position,
        cut_at_us=int(found.cut_at_us[tx]),
        default_db=statement.default_db,
        statement=statement.text,
        verb=statement.verb,
        tables=statement.tables,
        session=session,
        logged=statement.logged,
    )


class Numbering:
    """Counts transactions on from a checkpoint. The last number given may be that of an open transaction, whose next part
    gets it again."""

    def __init__(self, resume: Checkpoint, flavor: str) -> None:
        self.seq = resume.seq
        self.cut_at_us = resume.cut_at_us
        self.covered_to_us = resume.covered_to_us
        self.gtids: GtidSet = parse_gtid_set(resume.gtid_set, flavor)
        self._sequence = 0  # MySQL's sequence_number of the last transaction of the file; 0: not known
        self._open: Transactions | None = None

    def enter_file(self) -> None:
        self._sequence = 0

    def number(
        self,
        grammar: Grammar,
        buffer: np.ndarray,
        span: tuple[int, int],
        crcs: np.ndarray,
        *,
        first_event: int,
        arrived_at_us: int,
    ) -> Transactions:
        """The transactions span[0] to span[1] of a grammar. crcs: of the piece's events, of which `first_event` is the
        first. Their seqs are provisional until `took`."""
        raw = grammar.transactions[slice(*span)]
        sources, source, number, committed = self._gtids(grammar, buffer, raw, span[0])
        carried = self._open if span[0] == 0 else None
        floor = max(self.cut_at_us, self.covered_to_us + 1)
        # A commit can't have been later than its arrival; what says so was forged or comes from a clock that is wrong.
        cuts = np.minimum(committed, arrived_at_us)
        earlier = b""
        if carried is not None:
            earlier = carried.earlier_crcs
            sources = (*sources, *carried.sources)
            source[0] = len(sources) - 1 if carried.sources else -1
            number[0], committed[0], cuts[0] = carried.number[0], carried.committed_at_us[0], carried.cut_at_us[0]
        cuts = np.maximum.accumulate(np.maximum(cuts, floor))
        return Transactions(
            file=grammar.file,
            first_seq=self.seq + 1,
            source=source,
            sources=sources,
            number=number,
            committed_at_us=committed,
            cut_at_us=cuts,
            start=raw[:, tk.TX_START].copy(),
            end=raw[:, tk.TX_END].copy(),
            connection=raw[:, tk.TX_CONNECTION].copy(),
            crcs=crcs,
            first_event=raw[:, tk.TX_FIRST] - first_event,
            last_event=raw[:, tk.TX_LAST] - first_event,
            earlier_crcs=earlier,
            file_begun_at_us=grammar.file_begun_at_us,
        )

    def took(self, transactions: Transactions) -> None:
        """These are whole and emitted."""
        self._open = None
        count = len(transactions)
        if count:
            transactions.add_to(self.gtids, count)
            self.seq = transactions.first_seq + count - 1
            self.cut_at_us = int(transactions.cut_at_us[-1])
            # The checkpoint behind them may be committed, and promises that no later transaction is cut there: on MariaDB,
            # where commit times have whole seconds, the next one might be.
            self.covered_to_us = max(self.covered_to_us, self.cut_at_us)

    @property
    def carries(self) -> bool:
        """Whether there is an open transaction that goes on."""
        return self._open is not None

    def keep_open(self, transactions: Transactions) -> None:
        """This one is open: what its next part, or nothing of it, needs."""
        first = int(transactions.first_event[0])
        seen = transactions.crcs[first:].astype("<u4").tobytes()
        kept = transactions.source[0]
        sources = (transactions.sources[kept],) if kept >= 0 else ()
        self._open = replace(transactions, sources=sources, earlier_crcs=transactions.earlier_crcs + seen)

    def drop_open(self) -> None:
        """The open one is not to be numbered: the archive has it."""
        self._open = None

    def _gtids(
        self, grammar: Grammar, buffer: np.ndarray, raw: np.ndarray, offset: int
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
        """(sources, source, number, committed_at_us) of raw transactions. Raises BinlogDamaged."""
        source, number, committed, sequence, firsts = np.empty((5, len(raw)), np.int64)
        count = gk.read(buffer, raw, source, number, committed, sequence, firsts)
        sources = [_source(buffer, raw[first]) for first in firsts[:count]]
        for tx, gtid in grammar.known.items():
            i = tx - offset
            if not 0 <= i < len(raw):
                continue
            if gtid.source is not None:
                source[i], number[i] = len(sources), gtid.number
                sources.append(gtid.source)
            if gtid.committed_at_us is not None:
                committed[i] = gtid.committed_at_us
            sequence[i] = gtid.sequence
        if len(raw):
            self._check_sequence(grammar.file, sequence, raw[:, tk.TX_START], carried=offset == 0 and self.carries)
        return tuple(sources), source, number, committed

    def _check_sequence(self, file: str, sequence: np.ndarray, start: np.ndarray, *, carried: bool) -> None:
        """MySQL numbers a file's transactions 1, 2, 3 ... (sequence_number); 0 is not a number. carried: the first one was
        checked when its first part came."""
        if carried:
            sequence[0], self._sequence = self._sequence, 0
        before = np.concatenate(([self._sequence], sequence[:-1]))
        wrong = np.flatnonzero((before > 0) & (sequence > 0) & (sequence != before + 1))
        if len(wrong):
            i = int(wrong[0])
            raise damaged(
                f"the transaction at {file}:{start[i]} has sequence number {sequence[i]}, and the one before it {before[i]}"
            )
        self._sequence = int(sequence[-1])


def _source(buffer: np.ndarray, transaction: np.ndarray) -> str:
    """What stands before the number in the GTID of a transaction (TX_* fields)."""
    body = int(transaction[tk.TX_GTID])
    if transaction[tk.TX_TYPE] != ev.MARIADB_GTID:
        return f"{ev.uuid_text(buffer[body + 1 : body + 17].tobytes())}:"
    domain = int.from_bytes(buffer[body + 8 : body + 12].tobytes(), "little")
    return f"{domain}-{transaction[tk.TX_SERVER_ID]}-"
