"""One transaction read again from a server's binlog: its digest, and whether its rows are those that the archive holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataflow.batches import EventBatch, Stop
from dataflow.decode import Decoder
from dataflow.decoders import Dictionary
from dataflow.framer import Framer
from dataflow.pieces import Piece
from dataflow.resume import diverged
from dataflow.scan import replica_id
from dataflow.stream import EventStream
from recovery.archive.actions import Checkpoint
from recovery.archive.segments import METADATA_FIELDS, read_segment
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.config import ServerSettings
from recovery.errors import SourceUnreachable
from recovery.schema import EXACT
from recovery.source import ServerInfo

PROOF_S = 60
MOST_ROWS = 200_000  # row images of one transaction that are compared; a larger one can't be proved by them
_KEPT = ("_rb_op", "_rb_ordinal", "_rb_changed", EXACT)
_DROPPED = [field.name for field in METADATA_FIELDS if field.name not in _KEPT]


@dataclass(frozen=True)
class Logged:
    """A transaction as a server has it: undecoded. digest: as in a checkpoint. charsets: of the server, by collation id."""

    flavor: str
    charsets: Mapping[int, str]
    digest: str
    pieces: tuple[Piece, ...]


def logged_transaction(
    server: ServerSettings, info: ServerInfo, charsets: Mapping[int, str], file: str, position: int
) -> Logged:
    """The transaction that starts there. Raises SourceUnreachable, SourceDiverged if none does."""
    nothing = Checkpoint(0, file, position, "", 0, 0)
    pieces: list[Piece] = []
    with closing(EventStream(server, info.flavor, replica_id(server, info, scanning=True), file, position)) as stream:
        framer = Framer(info.flavor, nothing, file=file, position=position, expect=None)
        deadline = time.monotonic() + PROOF_S
        while time.monotonic() < deadline:
            for data, arrived_at_us in stream.take(1 << 20):
                for piece in framer.feed(data, arrived_at_us):
                    if len(piece.transactions):
                        pieces.append(piece)
                    if pieces and not pieces[-1].open:
                        return Logged(info.flavor, charsets, pieces[-1].transactions.digest(0), tuple(pieces))
            if framer.failure is not None:
                raise diverged(f"the transaction at {file}:{position} can't be read: {framer.failure}")
            if framer.ending is not None:
                raise stream.ended(framer.ending, began=True)
            time.sleep(0.005)
    raise SourceUnreachable("the source doesn't send its binlog", hint="Try again.")


def same_rows(store: Store, state: ArchiveState, seq: int, logged: Logged) -> bool:
    """Whether a transaction has the archive's row images of `seq`, and at least one; only tables that the archive has."""
    held = _archived(store, state, seq)
    if not held or sum(rows.num_rows for rows in held.values()) > MOST_ROWS:
        return False
    found = _decoded(logged, held)
    return found is not None and found.keys() == held.keys() and all(found[k].equals(held[k]) for k in held)


def _archived(store: Store, state: ArchiveState, seq: int) -> dict[tuple[str, str], pa.Table]:
    held: dict[tuple[str, str], list[pa.Table]] = {}
    for segment in state.segments:
        if segment.first_seq <= seq <= segment.last_seq:
            rows = read_segment(store, segment)
            rows = rows.filter(pc.equal(rows["_rb_seq"], seq))
            if rows.num_rows:
                held.setdefault((segment.db, segment.table), []).append(rows)
    return {table: _comparable(parts) for table, parts in held.items()}


def _decoded(logged: Logged, wanted: Mapping[tuple[str, str], pa.Table]) -> dict[tuple[str, str], pa.Table] | None:
    """The rows of the first transaction; None if they can't be decoded."""
    decoder = Decoder(Dictionary(lambda _: {}, lambda db, table: (db, table) in wanted))
    found: dict[tuple[str, str], list[pa.Table]] = {}
    for piece in logged.pieces:
        first = piece.transactions.first_seq
        only = piece if piece.open else piece.upto(1, logged.flavor)
        for batch in decoder.decode(EventBatch("", logged.flavor, 0, only, logged.charsets)):
            if isinstance(batch, Stop):
                return None
            for table, rows in batch.changes:
                part = pa.Table.from_batches([rows])
                part = part.filter(pc.equal(part["_rb_seq"], first))
                if part.num_rows:
                    found.setdefault((table.db, table.name), []).append(part)
    return {table: _comparable(parts) for table, parts in found.items()}


def _comparable(parts: list[pa.Table]) -> pa.Table:
    """In the order of the changes, without what another server has otherwise, as plain types."""
    tables = [part.drop_columns([name for name in _DROPPED if name in part.schema.names]) for part in parts]
    plain = [pa.table({name: _plain(part[name]) for name in part.schema.names}) for part in tables]
    joined = pa.concat_tables(plain).combine_chunks()
    keys = pa.table({"ordinal": joined["_rb_ordinal"], "after": pc.equal(joined["_rb_op"], "update_after")})
    order = pc.sort_indices(keys, sort_keys=[("ordinal", "ascending"), ("after", "ascending")])
    return joined.take(pa.array(np.asarray(order)))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
