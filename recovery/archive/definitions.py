"""What a snapshot's databases hold beside tables, as the server said it: one small Parquet object per snapshot.

    type           string   view | trigger | procedure | function | package | package body | event
    db, name       string
    table          string   the trigger's; else ""
    statement      string   SHOW CREATE; null if it isn't known
    sql_mode       string   names, as the server prints them
    charset        string   character_set_client
    collation      string   collation_connection
    db_collation   string   the database's when it was created ("" of views)
    time_zone      string   the event's; else ""
    problem        string   why the definition isn't known; else ""

Triggers stand in the order in which the server carries them out. docs/FORMAT.md specifies it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from recovery.archive.actions import DataObject
from recovery.archive.names import Layout
from recovery.archive.segments import read_verified
from recovery.archive.store import Puts, Store
from recovery.errors import ArchiveDamaged
from recovery.schema import FORMAT


@dataclass(frozen=True)
class Definition:
    """See this module's docstring."""

    type: str
    db: str
    name: str
    table: str = ""
    statement: str | None = None
    sql_mode: str = ""
    charset: str = ""
    collation: str = ""
    db_collation: str = ""
    time_zone: str = ""
    problem: str = ""


_SCHEMA: Final = pa.schema(
    [pa.field(f.name, pa.string(), nullable=f.name == "statement") for f in fields(Definition)],
    metadata={b"rowback.format": str(FORMAT).encode()},
)


def write_definitions(store: Puts, layout: Layout, snapshot_id: str, definitions: Sequence[Definition]) -> DataObject:
    """Upload them; nothing refers to the object before the commit."""
    columns = [pa.array([getattr(d, f.name) for d in definitions], pa.string()) for f in _SCHEMA]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), sink, compression="zstd", write_page_checksum=True)
    body = sink.getvalue().to_pybytes()
    key = layout.definitions(snapshot_id)
    store.put(key, body)
    return DataObject(key, len(definitions), len(body), hashlib.sha256(body).hexdigest())


def read_definitions(store: Store, one: DataObject) -> tuple[Definition, ...]:
    """Raises ArchiveDamaged if the object is missing or isn't what the log recorded."""
    data = read_verified(store, one.path, one.sha256)
    for problem in check_definitions(one, data):
        raise ArchiveDamaged(f"object `{one.path}`: {problem}", hint="Please report this: it was written wrong.")
    return tuple(Definition(**row) for row in data.to_pylist())


def check_definitions(one: DataObject, data: pa.Table) -> Iterator[str]:
    """What is wrong with the object's content, in words."""
    if data.schema.names != _SCHEMA.names or data.schema.types != _SCHEMA.types:
        yield "its columns aren't those of definitions"
    if data.num_rows != one.rows:
        yield f"its rows is {data.num_rows}, and the log says {one.rows}"
