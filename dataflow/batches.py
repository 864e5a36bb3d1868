"""What flows between the steps: event batches, change batches, windows, and the stop that follows an error.

Each carries the server's name, the writer's generation and a checkpoint, so that every step can be on another worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from dataflow.pieces import Piece
from recovery.archive.actions import Checkpoint, Ddl
from recovery.errors import RowbackError
from recovery.schema import Table

Changes: TypeAlias = tuple[tuple[Table, tuple[pa.RecordBatch, ...]], ...]


@dataclass(frozen=True)
class EventBatch:
    """A piece of a source's stream, undecoded. charsets: the server's character set names by collation id."""

    server: str
    flavor: str
    generation: int
    piece: Piece
    charsets: Mapping[int, str]


@dataclass(frozen=True)
class Prepared:
    """Row images of an XA transaction that is prepared and neither committed nor rolled back.

    xid: as the binlog writes it, `X'<gtrid>',X'<bqual>',<format>`. seq: of the PREPARE, which is a transaction without
    rows of its own; the images carry it and the PREPARE's GTID and times until XA COMMIT gives them others. One XA
    transaction may come in several of these, and one that changed nothing that is captured comes with no images: its
    COMMIT must be told from that of one which was never seen.
    """

    xid: str
    seq: int
    changes: tuple[tuple[Table, pa.RecordBatch], ...]


@dataclass(frozen=True)
class Resolved:
    """XA COMMIT (committed) or XA ROLLBACK of a prepared transaction, itself the transaction `seq`.

    With a commit the pending images become visible under this seq, GTID, connection and these times; their ordinals and
    row event positions stay, and the row of this transaction counts them.
    """

    xid: str
    committed: bool
    seq: int
    gtid: str | None
    committed_at_us: int
    cut_at_us: int
    connection_id: int | None


@dataclass(frozen=True)
class ChangeBatch:
    """Decoded transactions: one record batch per table definition, one row per transaction in `transactions`.

    open: the batch ends inside a transaction. Its images so far are in `changes` (or `prepared`) under the seq that it will
    have, but it is not in `transactions`, and `after` doesn't cover it: only a batch that isn't open may end a commit.
    continued: the batch begins inside the transaction with which the one before it ended. If it doesn't though that one was
    open, the source reads again from that transaction's beginning.
    """

    server: str
    generation: int
    before: Checkpoint
    after: Checkpoint
    changes: tuple[tuple[Table, pa.RecordBatch], ...]
    transactions: pa.RecordBatch
    ddl: tuple[Ddl, ...]
    size_bytes: int
    open: bool = False
    continued: bool = False
    prepared: tuple[Prepared, ...] = ()
    resolved: tuple[Resolved, ...] = ()


@dataclass(frozen=True)
class Window:
    """What one log commit takes in. changes: per table definition, its record batches in order. prepared, resolved: XA
    transactions that don't both begin and end here. parts: how many Parts of its last transaction went ahead of it; they
    become visible with this commit."""

    server: str
    generation: int
    before: Checkpoint
    after: Checkpoint
    changes: Changes
    transactions: tuple[pa.RecordBatch, ...]
    ddl: tuple[Ddl, ...]
    prepared: tuple[Prepared, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    parts: int = 0


@dataclass(frozen=True)
class Part:
    """Rows of one transaction that is too large to be held until its end: uploaded now, committed with its Window."""

    server: str
    generation: int
    changes: Changes
    prepared: tuple[Prepared, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """The Parts since the last window are void: the source reads their transaction again from its beginning."""

    server: str
    generation: int


@dataclass(frozen=True)
class Pulse:
    """Lets errors of the background surface when nothing else comes. flush: also wait until all is committed."""

    server: str
    generation: int
    flush: bool


@dataclass(frozen=True)
class Stop:
    """The stream can't go on: everything before has been passed on, `error` ends the dataflow once that is committed."""

    server: str
    generation: int
    error: RowbackError


Item: TypeAlias = Window | Part | Dropped | Pulse | Stop  # what goes from the window step to the sink


def buffered(rows: pa.RecordBatch | pa.Table) -> int:
    """The bytes that these rows keep in memory; a slice keeps all that it was cut from. (`nbytes`, exact for slices, takes
    seventy times as long.)"""
    size: int = rows.get_total_buffer_size()
    return size
