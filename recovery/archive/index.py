"""The index table: the state of the log at one version as a Parquet object, so that opening an archive needs one object and
the short tail of the log behind it.

    index/<version>.parquet   one row per item of the state; the footer has the rest, the chain hash and a digest
    index/_latest.json        a hint at the newest one, and the only object of an archive that is ever overwritten

Promises: what `decode` gives equals the fold of the log up to that version, or it raises: the digest covers every value.
An index is never the only place of anything as long as the log is whole; where the log was trimmed, it stands for what is
gone. Writing one is repeatable: the same version has the same rows.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recovery.archive.actions import (
    Checkpoint,
    Ddl,
    Failover,
    Gap,
    Identity,
    Pending,
    SchemaSeen,
    Segment,
    Snapshot,
    Transactions,
    Writer,
    action_from_json,
    action_to_json,
)
from recovery.archive.names import Layout
from recovery.archive.replacing import Removed
from recovery.archive.sequences import History, Live, Rows
from recovery.archive.state import ArchiveState
from recovery.archive.store import ObjectInfo, Store
from recovery.errors import ArchiveDamaged, ObjectNotFound, UnknownFormat
from recovery.schema import FORMAT, Table

_TYPES: Final = {int: pa.int64(), str: pa.string(), str | None: pa.string(), int | None: pa.int64()}
_ROW_GROUP: Final = 131_072
_JSON: Final = "json"
# Columns that indexes of earlier formats don't have; their items have None there.
_LATER: Final = frozenset({"file_begun_at_us"})


@dataclass(frozen=True)
class Section:
    """One kind of item. columns: of the index table, in the order of the class's fields; for kinds that aren't flat the
    single column `json` holds the action as in the log."""

    name: str
    cls: type[Any]
    flat: bool

    @property
    def schema(self) -> pa.Schema:
        if not self.flat:
            return pa.schema([pa.field(_JSON, pa.string())])
        hints = get_type_hints(self.cls)
        return pa.schema([pa.field(f.name, _TYPES[hints[f.name]]) for f in fields(self.cls)])

    @property
    def make(self) -> Callable[..., Any]:
        return _maker(self.cls) if self.flat else lambda text: action_from_json(json.loads(text))

    def table(self, items: Sequence[Any]) -> pa.Table:
        if not self.flat:
            return pa.table([pa.array([_as_json(item) for item in items], pa.string())], schema=self.schema)
        columns = [pa.array([getattr(i, f.name) for i in items], f.type) for f in self.schema]
        return pa.table(columns, schema=self.schema)


SECTIONS: Final = (
    Section("writers", Writer, flat=False),
    Section("checkpoints", Checkpoint, flat=True),
    Section("schemas", SchemaSeen, flat=False),
    Section("segments", Segment, flat=True),
    Section("transactions", Transactions, flat=True),
    Section("ddls", Ddl, flat=False),
    Section("snapshots", Snapshot, flat=False),
    Section("gaps", Gap, flat=False),
    Section("failovers", Failover, flat=False),
    Section("removed", Removed, flat=True),
    Section("pending", Pending, flat=False),
)
# All columns of all kinds; a row has those of its own kind.
INDEX_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        *{field.name: field for section in SECTIONS for field in section.schema}.values(),
    ]
)


def _maker(cls: type[Any]) -> Callable[..., Any]:
    """Builds a flat frozen dataclass without its __init__, which would cost three times as much: 100,000 of them count."""
    names = [f.name for f in fields(cls)]
    new = object.__new__

    def make(*values: Any) -> Any:
        item = new(cls)
        item.__dict__.update(zip(names, values, strict=True))
        return item

    return make


def _as_json(item: Any) -> str:
    return json.dumps(action_to_json(item), ensure_ascii=False, separators=(",", ":"))


# --- the object -------------------------------------------------------------------------------------------------------


def encode(state: ArchiveState) -> bytes:
    """The index object of a state."""
    tables = {section.name: _table_of(state, section) for section in SECTIONS}
    facts: dict[str, Any] = {
        "format": FORMAT,
        "version": state.version,
        "sha256": state.sha256,
        "generation": state.generation,
        "updated_at_us": state.updated_at_us,
        "identity": None if state.identity is None else action_to_json(state.identity),
        "sections": {},
    }
    groups = 0
    for name, table in tables.items():
        count = -(-table.num_rows // _ROW_GROUP)
        facts["sections"][name] = {"first_row_group": groups, "row_groups": count, "rows": table.num_rows}
        groups += count
    facts["digest"] = _digest(facts, tables)
    schema = INDEX_SCHEMA.with_metadata(
        {b"rowback.format": str(FORMAT).encode(), b"rowback.index": json.dumps(facts, ensure_ascii=False).encode()}
    )
    sink = io.BytesIO()
    paths = {"path": "DELTA_BYTE_ARRAY"}
    plain = [f.name for f in INDEX_SCHEMA if f.name not in (*paths, "sha256", _JSON)]
    with pq.ParquetWriter(
        sink, schema, compression="zstd", compression_level=1, use_dictionary=plain, column_encoding=paths,
        write_page_checksum=True,
    ) as writer:  # fmt: skip
        for name, table in tables.items():
            if table.num_rows:  # an empty one would begin a row group all the same
                writer.write_table(_sparse(name, table, schema), row_group_size=_ROW_GROUP)
    return sink.getvalue()


def decode(body: bytes, name: str) -> ArchiveState:
    """The state in an index object called `name`. Raises UnknownFormat for a newer one, ArchiveDamaged for anything that
    isn't whole."""
    try:
        source = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True, pre_buffer=False)
        facts = json.loads((source.schema_arrow.metadata or {})[b"rowback.index"])
        if facts["format"] > FORMAT:
            raise UnknownFormat(
                f"`{name}` has format {facts['format']}; this version knows formats up to {FORMAT}",
                hint="Use the Rowback version that wrote this archive, or a newer one.",
            )
        tables = {section.name: _read(source, section, facts["sections"][section.name]) for section in SECTIONS}
        if _digest(facts, tables) != facts["digest"]:
            raise ValueError("its digest is another one")
        return _state(facts, {s.name: _completed(tables[s.name], s.schema) for s in SECTIONS})
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pa.ArrowException) as error:
        raise ArchiveDamaged(
            f"index `{name}` is damaged: {error}",
            hint="Run `rowback index rebuild`: it makes a new one from the log.",
        ) from error


def _table_of(state: ArchiveState, section: Section) -> pa.Table:
    items: Sequence[Any]
    if section.name == "schemas":
        return section.table([SchemaSeen(schema_id, 0, table) for schema_id, table in state.schemas.items()])
    items = getattr(state, section.name)
    if isinstance(items, Live) and (base := items.arrow(section.schema)) is not None:
        return pa.concat_tables([base, section.table(items.appended)])
    if (
        isinstance(items, History)
        and isinstance(items.base, Rows)
        and items.base.table.schema.names == section.schema.names
    ):
        return pa.concat_tables([items.base.table, section.table(list(items.tail))])
    return section.table(list(items))


def _sparse(kind: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    rows = table.num_rows
    columns = [pa.array([kind] * rows, pa.string())]
    columns += [table[f.name] if f.name in table.schema.names else pa.nulls(rows, f.type) for f in list(schema)[1:]]
    return pa.table(columns, schema=schema)


def _read(source: pq.ParquetFile, section: Section, where: Mapping[str, int]) -> pa.Table:
    groups = range(where["first_row_group"], where["first_row_group"] + where["row_groups"])
    if not groups:
        return section.schema.empty_table()
    held = source.schema_arrow.names
    schema = pa.schema([field for field in section.schema if field.name in held or field.name not in _LATER])
    table = source.read_row_groups(list(groups), columns=schema.names, use_threads=False)
    if table.num_rows != where["rows"]:
        raise ValueError(f"it has {table.num_rows} {section.name} instead of {where['rows']}")
    return table.select(schema.names).cast(schema)


def _completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for i, field in enumerate(schema):
        if field.name not in table.schema.names:
            table = table.add_column(i, field, pa.nulls(table.num_rows, field.type))
    return table


def _state(facts: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> ArchiveState:
    rows: dict[str, Rows[Any]] = {s.name: Rows(tables[s.name], s.make) for s in SECTIONS}
    checkpoints: History[Checkpoint] = History((), rows["checkpoints"])
    schemas: dict[str, Table] = {seen.schema_id: seen.table for seen in rows["schemas"]}
    identity = None if facts["identity"] is None else action_from_json(facts["identity"])
    if identity is not None and not isinstance(identity, Identity):
        raise ValueError("its identity is something else")
    return ArchiveState(
        version=facts["version"],
        sha256=facts["sha256"],
        identity=identity,
        generation=facts["generation"],
        writers=History((), rows["writers"]),
        start=checkpoints[0] if checkpoints else None,
        checkpoint=checkpoints[-1] if checkpoints else None,
        checkpoints=checkpoints,
        schemas=schemas,
        segments=Live(base=rows["segments"]),
        transactions=Live(base=rows["transactions"], by_seq=True),
        ddls=History((), rows["ddls"]),
        snapshots=tuple(rows["snapshots"]),
        gaps=History((), rows["gaps"]),
        failovers=History((), rows["failovers"]),
        removed=History((), rows["removed"]),
        pending=tuple(rows["pending"]),
        updated_at_us=facts["updated_at_us"],
    )


def _digest(facts: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 over the facts and every value (docs/FORMAT.md, "Index"): the same for the same state, however it came
    about."""
    digest = hashlib.sha256()
    told = {k: v for k, v in facts.items() if k not in ("digest", "sections")}
    digest.update(json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode())
    for section in SECTIONS:
        table = tables[section.name]
        digest.update(f"\n{section.name} {table.num_rows}\n".encode())
        for name in table.schema.names:
            _digest_column(digest, table[name])
    return digest.hexdigest()


def _digest_column(digest: Any, column: pa.ChunkedArray) -> None:
    """A byte 1 or 0 per row for "has a value"; then integers as 8 bytes little endian (0 without a value), or of text the
    lengths in bytes as such integers and then the bytes themselves."""
    for chunk in column.chunks:
        digest.update(chunk.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
    if pa.types.is_integer(column.type):
        for chunk in column.chunks:
            digest.update(chunk.fill_null(0).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        return
    texts = [chunk.fill_null("") for chunk in column.chunks]
    spans = [np.frombuffer(t.buffers()[1], "<i4", count=len(t) + 1, offset=4 * t.offset) for t in texts if len(t)]
    for span in spans:
        digest.update(np.diff(span).astype("<i8").tobytes())
    for text, span in zip((t for t in texts if len(t)), spans, strict=True):
        data = text.buffers()[2]
        if data is not None:
            digest.update(memoryview(data)[int(span[0]) : int(span[-1])])


# --- where they lie ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hint:
    """What index/_latest.json says: the newest index, and its object's size and SHA-256."""

    format: int
    version: int
    path: str
    size_bytes: int
    sha256: str


class IndexFiles:
    """The index objects of one server."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    def write(self, state: ArchiveState) -> Hint:
        """Write the index of a state, then the hint at it. The same version may be written again."""
        body = encode(state)
        path = self._layout.index(state.version)
        self._store.put(path, body)
        hint = Hint(FORMAT, state.version, path, len(body), hashlib.sha256(body).hexdigest())
        self._store.put(self._layout.index_latest, json.dumps(asdict(hint), separators=(",", ":")).encode())
        return hint

    def latest(self) -> Hint | None:
        """The hint; None if there is none or it can't be read: then listing tells."""
        try:
            hint = Hint(**json.loads(self._store.get(self._layout.index_latest)))
        except (ObjectNotFound, ValueError, TypeError):
            return None
        return hint if self._layout.parse_index(hint.path) == hint.version else None

    def objects(self) -> list[tuple[ObjectInfo, int]]:
        """Those that are there, with their versions, newest first."""
        found = [(info, self._layout.parse_index(info.key)) for info in self._store.list(self._layout.index_prefix)]
        return [(info, version) for info, version in reversed(found) if version is not None]

    def versions(self) -> list[int]:
        return [version for _, version in self.objects()]

    def read(self, version: int) -> ArchiveState:
        """Raises ObjectNotFound, ArchiveDamaged, UnknownFormat."""
        path = self._layout.index(version)
        state = decode(self._store.get(path), path)
        if state.version != version:
            raise ArchiveDamaged(
                f"index `{path}` is damaged: it is that of version {state.version}",
                hint="Run `rowback index rebuild`: it makes a new one from the log.",
            )
        return state

    def newest(self) -> Iterator[ArchiveState]:
        """The states of the indexes that can be read, newest first; damaged ones are passed over, for an older one or the
        log itself serves as well."""
        tried: set[int] = set()
        hint = self.latest()
        for version in [hint.version] if hint else []:
            tried.add(version)
            if (state := self._whole(version)) is not None:
                yield state
        for version in self.versions():
            if version not in tried and (state := self._whole(version)) is not None:
                yield state

    def _whole(self, version: int) -> ArchiveState | None:
        try:
            return self.read(version)
        except (ObjectNotFound, ArchiveDamaged):
            return None

    def delete(self, version: int) -> None:
        self._store.delete(self._layout.index(version))


__all__ = ["INDEX_SCHEMA", "Hint", "IndexFiles", "decode", "encode"]
