"""The decode step: event batches to change batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

import pyarrow as pa

from dataflow import tablemap
from dataflow.batches import ChangeBatch, EventBatch, Stop, checkpoint_after
from dataflow.events import TABLE_MAP
from dataflow.framer import DdlStatement, Transaction
from dataflow.rows import TableRows
from dataflow.tablemap import TableMap
from recovery.archive.actions import Ddl
from recovery.archive.segments import TRANSACTIONS_SCHEMA
from recovery.errors import BinlogDamaged, CaptureError, SourceMisconfigured
from recovery.schema import Table


@dataclass(frozen=True)
class Dictionary:
    """What the binlog doesn't say about its tables.

    generated: the names of a table's generated columns as the live server has them now, None if it can't be asked or the
    table looks different there; it is advice for undo, which proves it again. wants: the capture filter.
    """

    generated: Callable[[Table], frozenset[str] | None]
    wants: Callable[[str, str], bool]


class Decoder:
    """Decodes the batches of one server, in order. Keeps only a cache of table definitions."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._maps: dict[bytes, TableMap | None] = {}

    def decode(self, batch: EventBatch) -> list[ChangeBatch | Stop]:
        """The batch decoded; if a transaction in it can't be, what stands before it and then the stop."""
        decoding = _Decoding(partial(self._table_map, batch.charsets, batch.flavor))
        for done, transaction in enumerate(batch.transactions):
            try:
                decoding.add(transaction)
            except (CaptureError, SourceMisconfigured) as error:
                stop = Stop(batch.server, batch.generation, error)
                if done == 0:
                    return [stop]
                whole = batch.transactions[:done]
                # Again without the transaction that failed half-way: its rows must not come along.
                part = replace(batch, after=checkpoint_after(batch.before, batch.flavor, whole), transactions=whole)
                return [*self.decode(part), stop]
            if any(d.tables != () for d in transaction.ddl):
                self._maps.clear()  # a column may have become a generated one, or the other way round
        return [decoding.result(batch)]

    def _table_map(self, charsets: Mapping[int, str], flavor: str, body: bytes) -> TableMap | None:
        """The definition of a TABLE_MAP body; None for a table that the filter leaves out."""
        # The table id (6 bytes) changes when the server reopens a table; the rest is the definition.
        definition = body[6:]
        if definition in self._maps:
            return self._maps[definition]
        found: TableMap | None = tablemap.parse(body, charsets, flavor=flavor)
        assert found is not None
        if not self._dictionary.wants(found.table.db, found.table.name):
            found = None
        else:
            generated = self._dictionary.generated(found.table)
            if generated is None:
                return found  # ask again at the next event
            found = replace(found, table=found.table.with_generated(generated))
        self._maps[definition] = found
        return found


class _Decoding:
    def __init__(self, table_map: Callable[[bytes], TableMap | None]) -> None:
        self._table_map = table_map
        self._tables: dict[str, TableRows] = {}
        self._transactions: list[tuple[object, ...]] = []
        self._ddl: list[Ddl] = []
        self._size = 0

    def add(self, transaction: Transaction) -> None:
        ordinal = 0
        current: dict[int, TableRows | None] = {}
        for rows in transaction.rows:
            number = tablemap.table_id(rows.body)
            if rows.type == TABLE_MAP:
                found = self._table_map(rows.body)
                current[number] = None if found is None else self._rows_of(found)
            elif number in current:
                target = current[number]
                if target is not None:
                    ordinal = target.add(transaction, rows, ordinal)
            elif number != 0xFFFFFF:  # a dummy event that only ends a statement
                _raise_unmapped(transaction, rows.start)
        self._ddl.extend(_ddl_action(transaction, d) for d in transaction.ddl)
        self._size += transaction.size_bytes
        self._transactions.append(
            (
                transaction.seq,
                transaction.gtid,
                transaction.committed_at_us,
                transaction.cut_at_us,
                transaction.file,
                transaction.start,
                transaction.end,
                transaction.connection_id,
                ordinal,
            )
        )

    def _rows_of(self, found: TableMap) -> TableRows:
        key = found.table.schema_id
        if key not in self._tables:
            self._tables[key] = TableRows(found)
        return self._tables[key]

    def result(self, batch: EventBatch) -> ChangeBatch:
        columns = list(zip(*self._transactions, strict=True)) or [()] * len(TRANSACTIONS_SCHEMA)
        transactions = pa.RecordBatch.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, TRANSACTIONS_SCHEMA, strict=True)], schema=TRANSACTIONS_SCHEMA
        )
        changes = tuple((rows.table, rows.batch()) for rows in self._tables.values() if len(rows))
        return ChangeBatch(
            batch.server,
            batch.generation,
            batch.before,
            batch.after,
            changes,
            transactions,
            tuple(self._ddl),
            self._size,
        )


def _ddl_action(transaction: Transaction, ddl: DdlStatement) -> Ddl:
    return Ddl(
        seq=transaction.seq,
        gtid=transaction.gtid,
        file=transaction.file,
        position=ddl.start,
        cut_at_us=transaction.cut_at_us,
        default_db=ddl.default_db,
        statement=ddl.statement,
        verb=ddl.verb,
        tables=ddl.tables,
    )


def _raise_unmapped(transaction: Transaction, start: int) -> NoReturn:
    raise BinlogDamaged(
        f"the row event at {transaction.file}:{start} has no TABLE_MAP before it",
        hint="Start capture again; report this if it recurs.",
    )
