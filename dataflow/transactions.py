"""The transactions of one piece of a stream as arrays, their GTIDs as text, and the checkpoint behind them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from dataflow.kernels import gtids as gk
from recovery.archive.actions import Checkpoint
from recovery.gtid import GtidSet, MySQLGtidSet

_ARRAYS = (
    "source",
    "number",
    "committed_at_us",
    "cut_at_us",
    "start",
    "end",
    "connection",
    "first_event",
    "last_event",
)


@dataclass(frozen=True)
class Transactions:
    """Transactions in binlog order, all of one file; one array entry each.

    first_seq: of the first one; the others count on. source: index into `sources`, -1 without a GTID; sources: what stands
    before a GTID's number, its separator included (`<uuid>:`, `<uuid>:<tag>:`, `<domain>-<server>-`). start, end: positions
    of the first event's first byte and behind the last event (0 while it is open). connection: -1 if unknown.
    crcs: the CRC-32 of each event of the piece; first_event, last_event: a transaction's events among them; earlier_crcs:
    those of the first transaction's events in earlier pieces. file_begun_at_us: see `recovery.archive.actions.Checkpoint`.
    """

    file: str
    first_seq: int
    source: np.ndarray
    sources: tuple[str, ...]
    number: np.ndarray
    committed_at_us: np.ndarray
    cut_at_us: np.ndarray
    start: np.ndarray
    end: np.ndarray
    connection: np.ndarray
    crcs: np.ndarray
    first_event: np.ndarray
    last_event: np.ndarray
    earlier_crcs: bytes = b""
    file_begun_at_us: int | None = None

    def __len__(self) -> int:
        return len(self.number)

    def gtid(self, index: int) -> str | None:
        source = int(self.source[index])
        return None if source < 0 else f"{self.sources[source]}{self.number[index]}"

    def gtids(self) -> pa.StringArray:
        """All GTIDs as text. Each table of the piece asks for them: built once."""
        return self._texts

    @cached_property
    def _texts(self) -> pa.StringArray:
        prefixes = [prefix.encode() for prefix in self.sources]
        starts = np.cumsum([0, *map(len, prefixes)])
        ends = np.empty(len(self) + 1, np.int32)
        text = np.empty(len(self) * (max(map(len, prefixes), default=0) + gk.NUMBER_BYTES), np.uint8)
        end = gk.write(self.source, self.number, np.frombuffer(b"".join(prefixes), np.uint8), starts, ends, text)
        known = self.source >= 0
        valid = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
        return pa.StringArray.from_buffers(len(self), pa.py_buffer(ends), pa.py_buffer(text[:end]), valid)

    def add_to(self, gtids: GtidSet, count: int) -> None:
        """Add the first `count` transactions' GTIDs to a set."""
        source, number = self.source[:count], self.number[:count]
        for i, prefix in enumerate(self.sources):
            numbers = np.sort(number[source == i])
            if not len(numbers):
                continue
            if not isinstance(gtids, MySQLGtidSet):
                gtids.add(f"{prefix}{numbers[-1]}")  # a position: the last one stands for all before it
                continue
            breaks = np.flatnonzero(np.diff(numbers) > 1)
            firsts = numbers[np.concatenate(([0], breaks + 1))]
            lasts = numbers[np.concatenate((breaks, [len(numbers) - 1]))]
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                gtids.add_interval(prefix.removesuffix(":"), first, last)

    def behind_first(self) -> Transactions:
        """All but the first, which takes no seq."""
        return replace(self, earlier_crcs=b"", **{name: getattr(self, name)[1:] for name in _ARRAYS})

    def upto(self, count: int) -> Transactions:
        """The first `count`."""
        return replace(self, **{name: getattr(self, name)[:count] for name in _ARRAYS})

    def digest(self, index: int) -> str:
        """SHA-256 over the CRC-32s (4 bytes each, little endian) of a transaction's events: what proves that a binlog still
        holds the same transaction."""
        first, last = int(self.first_event[index]), int(self.last_event[index])
        earlier = self.earlier_crcs if index == 0 else b""
        return hashlib.sha256(earlier + self.crcs[first : last + 1].astype("<u4").tobytes()).hexdigest()

    def checkpoint(self, before: Checkpoint, gtids: GtidSet, count: int) -> Checkpoint:
        """The checkpoint behind the first `count` of these transactions, which follow on `before`; gtids: the set that holds
        them already."""
        if count == 0:
            return before
        last = count - 1
        cut_at_us = int(self.cut_at_us[last])
        return replace(
            before,
            seq=self.first_seq + last,
            file=self.file,
            position=int(self.end[last]),
            gtid_set=str(gtids),
            cut_at_us=cut_at_us,
            covered_to_us=max(cut_at_us, before.covered_to_us),
            transaction_file=self.file,
            transaction_position=int(self.start[last]),
            transaction_digest=self.digest(last),
            file_begun_at_us=self.file_begun_at_us,
        )
