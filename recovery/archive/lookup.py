"""The rows of one key from a change segment of a local archive, without reading all of it.

Row groups whose smallest and largest key exclude the value are passed over: a compacted segment is sorted by key, so that
one or two of its groups of 65,536 rows are left. Of those that remain only the key's columns are decoded, and the other
columns only where the key was found. Bloom filters aren't asked: pyarrow doesn't read them, and in a sorted file they
save one group.

Promises: page checksums are verified for all that is read, and the file has the recorded size. Its SHA-256 is not
computed (that would be to read it all): damage elsewhere in the file stays unseen, as docs/FORMAT.md allows for queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from recovery.archive.actions import Segment
from recovery.archive.filestore import FileStore
from recovery.archive.segments import UPDATE_AFTER, UPDATE_BEFORE, with_flags
from recovery.archive.store import Store
from recovery.errors import ArchiveDamaged

pc: Any = compute  # the stubs miss most of what a kernel accepts


def key_rows(store: Store, segment: Segment, key: Mapping[str, pa.Scalar[Any]]) -> pa.Table | None:
    """All images of the changes of which one image has these values. None if only the whole segment can tell: the store
    isn't a local folder, a file lacks the columns, or an update moved a row from or to the key (its other image stands
    elsewhere).

    key: values by column name as in the file; not empty. Raises ArchiveDamaged naming the object.
    """
    path = store.local_path(segment.path) if isinstance(store, FileStore) else None
    if path is None:
        return None  # a missing object is the reader's error to tell
    try:
        return _found(path, segment, key)
    except (pa.ArrowInvalid, OSError) as error:
        raise ArchiveDamaged(
            f"object `{segment.path}` is not a readable Parquet file: {error}",
            hint="Bring it back from the store's own versioning or a copy; a restore that doesn't need it still works.",
        ) from error


def _found(path: Path, segment: Segment, key: Mapping[str, pa.Scalar[Any]]) -> pa.Table | None:
    if path.stat().st_size != segment.size_bytes:
        raise ArchiveDamaged(
            f"object `{segment.path}` doesn't have the bytes that were recorded for it",
            hint="Bring it back from the store's own versioning or a copy; a restore that doesn't need it still works.",
        )
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        schema = file.schema_arrow
        if any(name not in schema.names or schema.field(name).type != value.type for name, value in key.items()):
            return None
        parts = [part for group in range(file.num_row_groups) if (part := _in_group(file, group, key)) is not None]
    if not parts:
        return schema.empty_table()
    found = with_flags(pa.concat_tables(parts))
    return None if _moved(found) else found


def _in_group(file: pq.ParquetFile, group: int, key: Mapping[str, pa.Scalar[Any]]) -> pa.Table | None:
    if _excluded(file, group, key):
        return None
    cells = file.read_row_group(group, columns=list(key), use_threads=False)
    mask: Any = None
    for name, value in key.items():
        same = pc.fill_null(pc.equal(cells[name], value), False)
        mask = same if mask is None else pc.and_(mask, same)
    if not pc.any(mask).as_py():
        return None
    return file.read_row_group(group, use_threads=False).filter(mask)


def _excluded(file: pq.ParquetFile, group: int, key: Mapping[str, pa.Scalar[Any]]) -> bool:
    """Whether the group's smallest and largest values leave no room for one of these."""
    columns = file.metadata.row_group(group)
    for at in range(columns.num_columns):
        column = columns.column(at)
        value = key.get(column.path_in_schema)
        if value is None or not column.is_stats_set or not column.statistics.has_min_max:
            continue
        low, high, wanted = column.statistics.min, column.statistics.max, value.as_py()
        if isinstance(wanted, str) and isinstance(low, str) and isinstance(high, str):
            low, high, wanted = low.encode(), high.encode(), wanted.encode()  # Parquet orders text by its bytes
        elif not (isinstance(wanted, int) and isinstance(low, int) and isinstance(high, int)):
            continue
        if wanted < low or wanted > high:
            return True
    return False


def _moved(found: pa.Table) -> bool:
    """Whether an update has one image here alone."""

    def places(op: str) -> set[tuple[int, int]]:
        rows = found.filter(pc.equal(found["_rb_op"], op))
        return set(zip(rows["_rb_seq"].to_pylist(), rows["_rb_ordinal"].to_pylist(), strict=True))

    return places(UPDATE_BEFORE) != places(UPDATE_AFTER)
