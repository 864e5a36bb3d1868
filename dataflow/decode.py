"""The decode step: pieces of a stream to record batches, one per table definition, with the metadata of each row image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from dataflow.batches import ChangeBatch, EventBatch, Prepared, Resolved, Stop
from dataflow.decoders import Decoders, Dictionary, Refused, TableDecoder
from dataflow.grammar import PREPARE
from dataflow.kernels import transactions as tk
from dataflow.pieces import Piece, used_definitions
from dataflow.rows import UPDATE_AFTER, RowEvents, RowFault, RowImages
from recovery.archive import segments
from recovery.archive.segments import METADATA_FIELDS, TRANSACTIONS_SCHEMA
from recovery.errors import CaptureError
from recovery.schema import EXACT, Table

_OPERATIONS: Final = pa.array([segments.INSERT, segments.DELETE, segments.UPDATE_BEFORE, segments.UPDATE_AFTER])


class Decoder:
    """Decodes the pieces of one server, in order. Keeps its decoders, and how many row changes the transaction that is
    open has had."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._decoders = Decoders(dictionary)
        self._open_changes = 0

    def decode(self, batch: EventBatch) -> list[ChangeBatch | Stop]:
        """The batch decoded; if a transaction in it can't be, what stands before it and then the stop."""
        piece = batch.piece
        self._decoders.begin(batch)
        stop: list[Stop] = []
        while True:
            try:
                return [self._decode(batch, piece), *stop]
            except Refused as refused:  # another definition's may come earlier: again without
                stop = [Stop(batch.server, batch.generation, refused.error)]
                if refused.tx == 0:
                    return [*stop]
                piece = piece.upto(refused.tx, batch.flavor)

    def _decode(self, batch: EventBatch, piece: Piece) -> ChangeBatch:
        decoded = list(self._images(batch, piece))
        ordinals, row_changes = self._count(piece, decoded)
        pending = {x.tx: x.xid for x in piece.xa if x.kind == PREPARE}
        changes: list[tuple[Table, pa.RecordBatch]] = []
        prepared: dict[int, list[tuple[Table, pa.RecordBatch]]] = {tx: [] for tx in pending}
        for each in decoded:
            rows = _record_batch(piece, each, ordinals)
            for tx, part in _apart(rows, piece.rows[each.events[each.images.event], tk.ROW_TX], pending):
                (changes if tx is None else prepared[tx]).append((each.of.table, part))
        seq = piece.transactions.first_seq
        row_changes[list(pending)] = 0
        return ChangeBatch(
            server=batch.server,
            generation=batch.generation,
            before=piece.before,
            after=piece.after,
            changes=tuple(changes),
            transactions=_transactions(piece, row_changes),
            ddl=tuple(ddl for _, ddl in piece.ddl),
            size_bytes=piece.size_bytes,
            open=piece.open,
            continued=piece.continued,
            prepared=tuple(Prepared(pending[tx], seq + tx, tuple(rows)) for tx, rows in prepared.items()),
            resolved=tuple(_resolved(piece)),
        )

    def _images(self, batch: EventBatch, piece: Piece) -> Iterator[_Decoded]:
        """All row events' images by definition, in runs between DDL statements."""
        start = 0
        borders = [(n, ddl) for n, ddl in piece.ddl if ddl.tables != ()]
        for run, (end, ddl) in enumerate([*borders, (len(piece.rows), None)]):
            definition = piece.rows[start:end, tk.ROW_DEFINITION]
            events = {n: start + np.flatnonzero(definition == n) for n in used_definitions(piece.rows[start:end])}
            for number, decoder in self._decoders.of_run(batch, piece, run, events).items():
                if decoder is not None:
                    for images in _decode_events(piece, decoder, events[number]):
                        yield _Decoded(decoder, events[number], images)
            if ddl is not None:
                self._decoders.cross(run, ddl)
                start = end

    def _count(self, piece: Piece, decoded: list[_Decoded]) -> tuple[np.ndarray, np.ndarray]:
        """The ordinal of each row event's first change, and how many changes each transaction has."""
        changes = np.zeros(len(piece.rows), np.int64)
        for each in decoded:
            counted = each.images.event[each.images.op != UPDATE_AFTER]
            changes[each.events] += np.bincount(counted, minlength=len(each.events))
        tx = piece.rows[:, tk.ROW_TX]
        total = np.bincount(tx, weights=changes, minlength=len(piece.transactions)).astype(np.int64)
        before = np.cumsum(changes) - changes
        ordinals = before - before[np.searchsorted(tx, tx)]
        if piece.continued:
            ordinals[tx == 0] += self._open_changes
            total[0] += self._open_changes
        self._open_changes = int(total[0]) if piece.open else 0
        return ordinals, total


@dataclass(frozen=True)
class _Decoded:
    """events: numbers of the row events in the piece; images: a stretch of theirs."""

    of: TableDecoder
    events: np.ndarray
    images: RowImages


def _decode_events(piece: Piece, decoder: TableDecoder, events: np.ndarray) -> list[RowImages]:
    rows = piece.rows[events]
    try:
        return decoder.rows.decode(
            RowEvents(
                piece.buffer,
                np.ascontiguousarray(rows[:, tk.ROW_BODY]),
                np.ascontiguousarray(rows[:, tk.ROW_END]),
                rows[:, tk.ROW_TYPE].astype(np.uint8),
            )
        )
    except RowFault as fault:
        row = rows[fault.event]
        where = f"{piece.transactions.file}:{row[tk.ROW_POSITION]}"
        error = fault.error(f"{where} holds {fault.text}", hint=fault.hint)
        raise Refused(int(row[tk.ROW_TX]), error) from fault
    except CaptureError as error:
        raise Refused(int(rows[0, tk.ROW_TX]), error) from error


def _record_batch(piece: Piece, decoded: _Decoded, ordinals: np.ndarray) -> pa.RecordBatch:
    images, transactions = decoded.images, piece.transactions
    event = decoded.events[images.event]
    tx = piece.rows[event, tk.ROW_TX]
    metadata = {
        "_rb_op": pa.DictionaryArray.from_arrays(pa.array(images.op), _OPERATIONS),
        "_rb_seq": pa.array(transactions.first_seq + tx),
        "_rb_ordinal": pa.array(ordinals[event] + images.change),
        "_rb_committed_at_us": pa.array(transactions.committed_at_us[tx]),
        "_rb_cut_at_us": pa.array(transactions.cut_at_us[tx]),
        "_rb_gtid": _gtids(piece, tx),
        "_rb_binlog_file": _constant(transactions.file, len(tx)),
        "_rb_binlog_pos": pa.array(piece.rows[event, tk.ROW_POSITION]),
        "_rb_connection_id": _connections(transactions.connection[tx]),
        "_rb_flags": pa.array(_flags(piece, decoded.events)[images.event]),
        "_rb_changed": images.changed,
        EXACT: images.exact,
    }
    columns = [*(metadata[f.name] for f in METADATA_FIELDS), *images.columns]
    return pa.RecordBatch.from_arrays(columns, schema=decoded.of.schema)


def _flags(piece: Piece, events: np.ndarray) -> np.ndarray:
    """Of row events: two bytes behind the table's id (Rows_event's post header)."""
    at = piece.rows[events, tk.ROW_BODY] + 6
    flags: np.ndarray = piece.buffer[at].astype(np.uint16) | piece.buffer[at + 1].astype(np.uint16) << 8
    return flags


def _gtids(piece: Piece, tx: np.ndarray) -> pa.DictionaryArray:
    begins = np.flatnonzero(np.diff(tx, prepend=-1))  # numbers of transactions ascend
    used, index = tx[begins], np.repeat(np.arange(len(begins)), np.diff(begins, append=len(tx)))
    known = piece.transactions.source[used] >= 0
    mask = None if known.all() else ~known[index]
    texts = piece.transactions.gtids().take(pa.array(used))
    if mask is not None:
        texts = texts.fill_null("")
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32), mask=mask), texts)


def _constant(text: str, length: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int8)), pa.array([text], pa.string()))


def _connections(connection: np.ndarray) -> pa.Array:
    unknown = connection < 0
    return pa.array(connection, mask=unknown if unknown.any() else None)


def _apart(
    rows: pa.RecordBatch, tx: np.ndarray, pending: Mapping[int, str]
) -> Iterator[tuple[int | None, pa.RecordBatch]]:
    """The rows in slices: with a transaction's number where it is pending, with None where it isn't."""
    start = 0
    for each in sorted(pending):
        first, end = np.searchsorted(tx, [each, each + 1]).tolist()
        if start < first:
            yield None, rows.slice(start, first - start)
        if first < end:
            yield each, rows.slice(first, end - first)
        start = end
    if start < len(tx):
        yield None, rows.slice(start)


def _transactions(piece: Piece, row_changes: np.ndarray) -> pa.RecordBatch:
    found = piece.transactions
    count = 0 if piece.open else len(found)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(found.first_seq, found.first_seq + count)),
            found.gtids().slice(0, count),
            pa.array(found.committed_at_us[:count]),
            pa.array(found.cut_at_us[:count]),
            pa.array([found.file], pa.string()).take(pa.array(np.zeros(count, np.int64))),
            pa.array(found.start[:count]),
            pa.array(found.end[:count]),
            _connections(found.connection[:count]),
            pa.array(row_changes[:count]),
        ],
        schema=TRANSACTIONS_SCHEMA,
    )


def _resolved(piece: Piece) -> Iterator[Resolved]:
    found = piece.transactions
    for each in piece.xa:
        if each.kind == PREPARE:
            continue
        connection = int(found.connection[each.tx])
        yield Resolved(
            xid=each.xid,
            committed=each.kind == "commit",
            seq=found.first_seq + each.tx,
            gtid=found.gtid(each.tx),
            committed_at_us=int(found.committed_at_us[each.tx]),
            cut_at_us=int(found.cut_at_us[each.tx]),
            connection_id=None if connection < 0 else connection,
        )
