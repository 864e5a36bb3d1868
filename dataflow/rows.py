"""Row events to Arrow columns: `RowDecoder` decodes the row events of one table definition, many at once.

The walk kernel finds the cells of all row images, one builder per column makes the Arrow array. Nothing outside this file,
dataflow/columns/ and dataflow/kernels/ knows how a row image is laid out. A decoder holds no state between calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataflow import tablemap as tm
from dataflow.columns import builder, width
from dataflow.columns.cells import DAMAGED_HINT, Bytes, CellFault, Cells, Ints, Longs, Odd
from dataflow.jsondiff import apply_diffs
from dataflow.kernels import fixed
from dataflow.kernels import walk as kernel
from dataflow.tablemap import TableMap
from recovery.errors import BinlogDamaged, CaptureError, UnsupportedEvent
from recovery.schema import EXACT_TYPE, Column

INSERT, DELETE, UPDATE_BEFORE, UPDATE_AFTER = kernel.INSERT, kernel.DELETE, kernel.BEFORE, kernel.AFTER

_PARTIAL_UPDATE = 39
# Cells that one call of the walk kernel makes room for. Columns are gathered one after the other from the same stretch of
# the buffer: a stretch that stays in the processor's cache is worth more than fewer calls (measured, 30 %).
_CELLS_AT_ONCE = 160_000
_IMAGES_AT_LEAST = 512
_PARTIAL_HINT = (
    "Run `SET GLOBAL binlog_row_image = FULL` on the source, let its sessions reconnect, go on with "
    "`rowback capture --skip-gap`, and take a new snapshot."
)


@dataclass(frozen=True)
class RowEvents:
    """Row events of one table definition inside one buffer, in binlog order. start, end: offsets of each event's body,
    behind the 19-byte header and before the checksum. type: 23-25, 30-32, 39."""

    buffer: Bytes
    start: Longs
    end: Longs
    type: Bytes


@dataclass(frozen=True)
class RowImages:
    """A stretch of row images, one entry per image, in order; an update is two, before and after.

    event: index into RowEvents; change: number of the row change within its event, from 0, shared by both images of an
    update; op: INSERT, DELETE, UPDATE_BEFORE, UPDATE_AFTER; changed and exact: `_rb_changed` and `_rb_exact`; columns: the
    table's, of the types of recovery.schema.arrow_type. A before image holds the key and the changed cells.
    """

    event: Longs
    change: Longs
    op: npt.NDArray[np.int8]
    changed: pa.Array
    exact: pa.Array
    columns: tuple[pa.Array, ...]


class RowFault(Exception):
    """Row event `event` can't be decoded. error, text, hint: what to raise, once file and position are added."""

    def __init__(self, event: int, error: type[CaptureError], text: str, hint: str) -> None:
        super().__init__(text)
        self.event, self.error, self.text, self.hint = event, error, text, hint


@dataclass(frozen=True)
class _Walked:
    """What one call of the walk kernel found; matrices are columns x images."""

    event: Longs
    change: Longs
    op: npt.NDArray[np.int8]
    offsets: Longs
    lengths: Ints
    changed: Bytes
    diffs: Longs


class RowDecoder:
    """Decodes the row events of one table definition. Raises UnsupportedColumn if one of its columns can't be captured, and
    SourceMisconfigured if the definition isn't complete."""

    def __init__(self, table_map: TableMap) -> None:
        self.table = table_map.table
        if not table_map.named:
            raise tm.unnamed(self.table.label)
        shown, hidden = self.table.columns, table_map.wire[len(self.table.columns) :]
        self._builders = [
            builder(column, wire, self.table.label)
            for column, wire in zip(shown, table_map.wire[: len(shown)], strict=True)
        ]
        columns = (*shown, *(Column("", "bigint", unsigned=True) for _ in hidden))
        self._widths = np.array([width(c, w) for c, w in zip(columns, table_map.wire, strict=True)], np.int64)
        # Without a key, every column identifies the row, so before images stay whole.
        key = self.table.key_indexes if self.table.key else range(len(shown))
        self._keep = np.zeros(len(columns), np.int64)
        self._keep[list(key)] = 1
        self._json = np.array([i for i, wire in enumerate(table_map.wire) if wire.type == tm.JSON], np.int64)
        self._names = pa.array([column.name for column in self.table.columns], pa.string())

    def decode(self, events: RowEvents) -> list[RowImages]:
        """All row images, in stretches. Raises RowFault for the first event that can't be decoded exactly; nothing is given
        then."""
        state = np.zeros(kernel.STATE_SLOTS, np.int64)
        stretches = []
        more = True
        while more:
            walked, more = self._walk(events, state)
            stretches.append(self._images(events, walked))
        return stretches

    def _walk(self, events: RowEvents, state: Longs) -> tuple[_Walked, bool]:
        columns = len(self._widths)
        bitmap = (columns + 7) // 8
        rest = int((events.end[state[kernel.EVENT] :] - events.start[state[kernel.EVENT] :]).sum())
        # An image has at least its NULL bits.
        room = max(2, min(max(_IMAGES_AT_LEAST, _CELLS_AT_ONCE // columns), rest // bitmap + 1))
        offsets = np.empty((columns, room), np.int64)
        lengths = np.empty((columns, room), np.int32)
        changed = np.zeros((room, bitmap), np.uint8)
        partial = bool((events.type == _PARTIAL_UPDATE).any())
        diffs = np.empty((room * len(self._json) if partial else 0, 2), np.int64)
        event, change, op = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int8)
        state[kernel.IMAGES] = state[kernel.DIFFS] = 0
        status = kernel.walk(
            events.buffer, events.start, events.end, events.type, self._widths, self._keep, self._json, state,
            event, change, op, offsets, lengths, changed, diffs,
        )  # fmt: skip
        if status not in (kernel.DONE, kernel.FULL):
            raise self._fault(int(state[kernel.EVENT]), status)
        n = int(state[kernel.IMAGES])
        found = _Walked(event[:n], change[:n], op[:n], offsets, lengths, changed, diffs[: state[kernel.DIFFS]])
        return found, status == kernel.FULL

    def _materialise(self, events: RowEvents, walked: _Walked) -> dict[int, tuple[list[int], list[str]]]:
        """Of PARTIAL_UPDATE_ROWS events: applies the diffs in after images to the documents in the before images, and
        compares the images. Gives rows and texts by column; those cells are NULL in the matrix then."""
        texts: dict[int, tuple[list[int], list[str]]] = {}
        different = []
        for row, column in walked.diffs.tolist():
            before, after = Cells(events.buffer, walked.offsets[column], walked.lengths[column]), walked.lengths[column]
            if before.lengths[row - 1] < 0 or after[row] < 0:
                raise self._damaged(int(walked.event[row]), "it has a difference to a document that is NULL")
            if after[row] == 0:  # no difference: the document is that of the before image
                walked.offsets[column, row] = walked.offsets[column, row - 1]
                after[row] = after[row - 1]
                continue
            try:
                text = apply_diffs(before.value(row - 1), before.value(row))
            except ValueError as error:
                raise self._damaged(int(walked.event[row]), str(error)) from error
            rows, found = texts.setdefault(column, ([], []))
            rows.append(row)
            found.append(text)
            different.append((row, column, after[row - 1]))
        kernel.compare_partial(
            events.buffer,
            events.type,
            self._keep,
            walked.event,
            walked.op,
            walked.offsets,
            walked.lengths,
            walked.changed,
        )
        for row, column, length in different:  # whatever its bytes are
            walked.changed[row - 1 : row + 1, column // 8] |= 1 << column % 8
            walked.lengths[column, row - 1] = length
            walked.lengths[column, row] = kernel.NULL
        return texts

    def _damaged(self, event: int, what: str) -> RowFault:
        text = f"a row event for table `{self.table.label}` that doesn't parse: {what}"
        return RowFault(event, BinlogDamaged, text, DAMAGED_HINT)

    def _fault(self, event: int, status: int) -> RowFault:
        if status == kernel.PARTIAL_IMAGE:
            return RowFault(
                event, UnsupportedEvent, f"a partial row image of table `{self.table.label}`", _PARTIAL_HINT
            )
        if status == kernel.UNKNOWN_OPTION:
            text = f"a partial update of table `{self.table.label}` in a form that this version doesn't know"
            return RowFault(event, UnsupportedEvent, text, _PARTIAL_HINT)
        what = {
            kernel.CUT_SHORT: "a value reaches beyond its event",
            kernel.COLUMNS_DIFFER: "it has another number of columns than its TABLE_MAP",
            kernel.UNKNOWN_TYPE: "its type is unknown",
        }[status]
        return self._damaged(event, what)

    def _images(self, events: RowEvents, walked: _Walked) -> RowImages:
        n = len(walked.op)
        updated = self._materialise(events, walked) if (events.type == _PARTIAL_UPDATE).any() else {}
        columns: list[pa.Array] = []
        odd: list[tuple[int, Odd]] = []
        for i, build in enumerate(self._builders):
            cells = Cells(events.buffer, walked.offsets[i, :n], walked.lengths[i, :n])
            try:
                built, found = build(cells)
            except CellFault as fault:
                text = f"a row of table `{self.table.label}` whose column `{self.table.columns[i].name}` {fault.what}"
                raise RowFault(int(walked.event[fault.row]), fault.error, text, fault.hint) from fault
            if i in updated:
                rows, texts = updated[i]
                mask = np.zeros(n, bool)
                mask[rows] = True
                built = pc.replace_with_mask(built, pa.array(mask), pa.array(texts, pa.string()))
            columns.append(built)
            if found is not None:
                odd.append((i, found))
        changed = _changed(walked.op, self._of_shown(walked.changed[:n]))
        return RowImages(walked.event, walked.change, walked.op, changed, self._exact(n, odd), tuple(columns))

    def _of_shown(self, bits: Bytes) -> Bytes:
        """Bits per column without those of hidden columns, which stand behind the others."""
        shown = len(self._builders)
        if shown == len(self._widths):
            return bits
        bits = np.ascontiguousarray(bits[:, : (shown + 7) // 8])
        if shown % 8:
            bits[:, -1] &= (1 << shown % 8) - 1
        return bits

    def _exact(self, images: int, odd: list[tuple[int, Odd]]) -> pa.Array:
        if not odd:
            return pa.nulls(images, EXACT_TYPE)
        rows = np.concatenate([found.rows for _, found in odd])
        names = np.concatenate([np.full(len(found.rows), column) for column, found in odd])
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=images)
        offsets = np.zeros(images + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        keys = self._names.take(pa.array(names[order]))
        texts = pa.concat_arrays([found.texts for _, found in odd]).take(pa.array(order))
        return pa.MapArray.from_arrays(pa.array(offsets), keys, texts, mask=pa.array(counts == 0))


def _changed(op: npt.NDArray[np.int8], bits: Bytes) -> pa.Array:
    """`_rb_changed`: of updates the bits, of the others null."""
    bitmap, ends = np.empty((len(op) + 7) // 8, np.uint8), np.empty(len(op) + 1, np.int32)
    out = np.empty(bits.size, np.uint8)
    missing = fixed.bits_of(op, UPDATE_BEFORE, bits, bitmap, ends, out)
    if missing == len(op):
        return pa.nulls(len(op), pa.binary())
    valid = pa.py_buffer(bitmap) if missing else None
    data = pa.py_buffer(out[: ends[-1]])
    return pa.Array.from_buffers(pa.binary(), len(op), [valid, pa.py_buffer(ends), data], missing)
