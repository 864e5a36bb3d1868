"""Which decoder the rows of a TABLE_MAP have, at each place of the stream: definitions, from the binlog or proved elsewhere.

A piece falls into runs between the DDL statements in it; within a run equal TABLE_MAP bodies mean the same table. It may
be decoded more than once: its runs are found as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from dataflow import tablemap
from dataflow.batches import EventBatch
from dataflow.definitions import Name, needs_proof, touches
from dataflow.kernels import transactions as tk
from dataflow.live_schema import Definitions
from dataflow.pieces import Piece
from dataflow.rows import RowDecoder
from dataflow.tablemap import TableMap
from recovery.archive.actions import Checkpoint, Ddl
from recovery.archive.segments import METADATA_FIELDS
from recovery.errors import RowbackError
from recovery.schema import Table, table_metadata, value_fields

# Few different values: as dictionaries they cost next to nothing until the Parquet writer, which takes them as they are.
_DICTIONARIES: Final = {
    "_rb_op": pa.dictionary(pa.int8(), pa.string()),
    "_rb_gtid": pa.dictionary(pa.int32(), pa.string()),
    "_rb_binlog_file": pa.dictionary(pa.int8(), pa.string()),
}


@dataclass(frozen=True)
class Dictionary:
    """What the binlog doesn't say about its tables.

    generated: the names of tables' generated columns as the live server has them now, by db and name, none of a table that
    looks different there; None if it can't be asked. It is advice for undo, which proves it again. wants: the capture
    filter. definitions: what proves the columns of tables that the binlog doesn't name, from a checkpoint on; without it
    they are refused.
    """

    generated: Callable[[Sequence[Table]], Mapping[Name, frozenset[str]] | None]
    wants: Callable[[str, str], bool]
    definitions: Callable[[Checkpoint, Mapping[int, str]], Definitions] | None = None


class TableDecoder:
    """The row decoder of a table's definition, and the schema of its record batches."""

    def __init__(self, table_map: TableMap) -> None:
        self.rows = RowDecoder(table_map)
        self.table = self.rows.table
        fields = [f.with_type(_DICTIONARIES.get(f.name, f.type)) for f in METADATA_FIELDS]
        self.schema = pa.schema([*fields, *value_fields(self.table)], metadata=table_metadata(self.table))


class Refused(Exception):
    """Transaction `tx` of a piece can't be decoded."""

    def __init__(self, tx: int, error: RowbackError) -> None:
        super().__init__(str(error))
        self.tx, self.error = tx, error


class Decoders:
    """The decoders of one server, in the stream's order."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._definitions: Definitions | None = None
        # For each run of the piece so far, the decoders by TABLE_MAP body; None for a table that the filter leaves out.
        self._runs: list[dict[bytes, TableDecoder | None]] = [{}]
        self._doubtful: set[bytes] = set()  # bodies of tables whose generated columns the server couldn't be asked for

    def begin(self, batch: EventBatch) -> None:
        """A piece has come."""
        piece = batch.piece
        if self._definitions is None and self._dictionary.definitions is not None:
            self._definitions = self._dictionary.definitions(piece.before, batch.charsets)
        if self._definitions is not None:
            self._definitions.arrived([ddl for _, ddl in piece.ddl], piece.after)
        self._runs = [{body: d for body, d in self._runs[-1].items() if body not in self._doubtful}]
        self._doubtful.clear()

    def of_run(
        self, batch: EventBatch, piece: Piece, run: int, events: Mapping[int, np.ndarray]
    ) -> Mapping[int, TableDecoder | None]:
        """The decoder of each definition in a run. events: the run's row events by definition. Raises Refused."""
        decoders = self._runs[run]
        new: dict[int, TableMap] = {}
        number = 0
        try:
            for number in events:
                if piece.definitions[number] not in decoders:
                    new[number] = tablemap.parse(
                        piece.definitions[number], batch.charsets, flavor=batch.flavor, need_names=False
                    )
            wanted = {n: m for n, m in new.items() if self._dictionary.wants(m.table.db, m.table.name)}
            unproved = [(m.table.db, m.table.name) for m in wanted.values() if needs_proof(m, batch.flavor)]
            # All at once: each asking is a connection.
            named = [m.table for m in wanted.values() if m.named]
            generated = self._dictionary.generated(named) if named else {}
            for number in new:
                body, position = piece.definitions[number], piece.rows[events[number][0], tk.ROW_POSITION]
                where = f"{piece.transactions.file}:{position}"
                found = wanted.get(number)
                decoder = self._decoder(found, where, unproved, generated or {}, batch.flavor) if found else None
                decoders[body] = decoder
                if generated is None and found is not None and found.named:
                    self._doubtful.add(body)
        except RowbackError as error:
            raise Refused(int(piece.rows[events[number][0], tk.ROW_TX]), error) from error
        return {number: decoders[piece.definitions[number]] for number in events}

    def _decoder(
        self,
        found: TableMap,
        where: str,
        unproved: Sequence[Name],
        generated: Mapping[Name, frozenset[str]],
        flavor: str,
    ) -> TableDecoder:
        """The decoder of a TABLE_MAP. unproved: all tables of the run that need a proof. generated: see Dictionary."""
        table = found.table
        if self._definitions is not None and needs_proof(found, flavor):
            table = self._definitions.table(found, where, unproved)
        if table is not found.table:
            return TableDecoder(replace(found, table=table, named=True))
        columns = generated.get((table.db, table.name), frozenset())
        return TableDecoder(replace(found, table=table.with_generated(columns)))

    def cross(self, run: int, ddl: Ddl) -> None:
        """Go past the DDL behind a run, once however often the piece is decoded."""
        if run + 1 < len(self._runs):
            return
        if self._definitions is not None:
            self._definitions.cross(ddl)
        self._runs.append(
            {
                body: decoder
                for body, decoder in self._runs[run].items()
                if decoder is None or not touches(ddl, (decoder.table.db, decoder.table.name))
            }
        )
