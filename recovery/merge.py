"""The merge: a table's baseline and its row images, folded into the rows at the cut, out of core in DuckDB.

Promises: for a table with a key, the last image per key in (low_seq, cut_seq] wins over the baseline: `update_before`
and `delete` are tombstones of their key, `insert` and `update_after` are upserts, so an update that changes the key
needs no rule of its own. Keys are compared by their stored bytes, with the exact text of a value that the column's
type can't hold; no collation is emulated. A table without a key folds as a multiset of whole rows; a row removed more
often than it was there raises ArchiveDamaged. No row passes through Python: the result is a query, for
recovery/dump.py to render.

Reads only local, verified copies (recovery/folding.py makes them). Columns are addressed by position (v0, v1, ...):
DuckDB folds the case of identifiers, and a column may be named like anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recovery.archive.segments import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, segment_schema
from recovery.errors import ArchiveDamaged, NoSpace, RowbackError
from recovery.schema import BINARY_TYPES, EXACT, EXACT_TYPE, INTEGER_BITS, Table, value_fields

_META = ("_rb_op", "_rb_seq", "_rb_ordinal", EXACT)
# DuckDB keeps vectors of 2,048 rows per thread, outside its limit: a thread more for each of these keeps the limit honest.
THREAD_BYTES = 512 * 1024**2
MIN_THREADS = 2
# What a restoring process holds besides DuckDB's buffers: interpreter, Arrow, readers' and allocators' pages. Chosen
# beforehand; two restores of 20 million rows then took 302 and 331 MiB more than the engine's limit (docs/BENCHMARKS.md).
RESERVE_BYTES = 384 * 1024**2
ENGINE_MIN_BYTES = 64 * 1024**2


def engine_limit_bytes(memory_limit_bytes: int, held_bytes: int = 0) -> int:
    """DuckDB's share of the memory that the process may take: the limit less the reserve and what else is held, but at least
    half of it (small limits then hold for the merge alone)."""
    return max(memory_limit_bytes - RESERVE_BYTES - held_bytes, memory_limit_bytes // 2, ENGINE_MIN_BYTES)


def threads_for(memory_limit_bytes: int) -> int:
    """How many threads merge: as many as this process has processors, if the limit has room for them."""
    return max(MIN_THREADS, min(len(os.sched_getaffinity(0)), memory_limit_bytes // THREAD_BYTES))


@dataclass(frozen=True)
class MergedTable:
    """The rows at the cut, as a query over temporary tables of the connection: `sql` yields v<i> for each index in
    `columns` (positions in table.columns; generated columns are left out unless they are in the key) and `e`, the map
    of exact texts, in the order of the key, or of all columns for a table without one. recoded: columns, by name, that may
    have another character set at the cut than the definition here says."""

    table: Table
    columns: tuple[int, ...]
    sql: str
    order_by: str
    recoded: frozenset[str] = frozenset()


class Merger:
    """One DuckDB in memory with a limit; what doesn't fit goes to `scratch`. A context manager. memory_limit_bytes: of the
    whole process, of which DuckDB gets a part; held_bytes: what whoever reads the rows keeps of them.

    Merging the next table invalidates the last one's query.
    """

    def __init__(self, scratch: Path, memory_limit_bytes: int, held_bytes: int = 0) -> None:
        self._scratch = scratch
        self.connection = duckdb.connect(":memory:")
        settings = {
            "memory_limit": f"{engine_limit_bytes(memory_limit_bytes, held_bytes)}B",
            "temp_directory": str(scratch / "duckdb"),
            "threads": threads_for(memory_limit_bytes),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "enable_progress_bar": False,
            "arrow_large_buffer_size": True,
        }
        for name, value in settings.items():
            self.connection.execute(f"SET {name} = {literal(value) if isinstance(value, str) else value}")

    def __enter__(self) -> Merger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def merge(
        self,
        table: Table,
        bases: Sequence[Path],
        changes: Sequence[Path],
        low_seq: int,
        cut_seq: int,
        *,
        derived: bool = False,
    ) -> MergedTable:
        """bases, changes: local Parquet files of the table's baseline and change segments. derived: whether changes of
        several rows may share one seq and ordinal (`recovery.derive_files.write_changes`). Raises ArchiveDamaged for
        files that don't have the table's columns, for a key without a value and for a negative count; NoSpace."""
        columns = tuple(i for i, c in enumerate(table.columns) if not c.generated or c.name in table.key)
        try:
            self._view("base", table, bases, columns, ())
            self._view("image", table, changes, columns, _META)
            self.connection.execute(_CHANGES.format(low=int(low_seq), cut=int(cut_seq)))
            return self._keyed(table, columns, derived) if table.key else self._multiset(table, columns)
        except duckdb.Error as error:
            raise engine_error(error, table.label) from error

    def _view(
        self, name: str, table: Table, paths: Sequence[Path], columns: Sequence[int], extra: Sequence[str]
    ) -> None:
        """A view with v<i>, e and the wanted metadata columns (without their prefix), whatever the files' column
        order."""
        parts = []
        for names, files in check_files(table, list(paths) or [self._empty(table)], extra).items():
            given = ", ".join(f"f{i}" for i in range(len(names)))
            index = {n: i for i, n in enumerate(names)}
            wanted = [f"f{index[table.columns[i].archive_name]} AS v{i}" for i in columns]
            wanted += [f"f{index[m]} AS {m.removeprefix('_rb_')}" for m in extra if m != EXACT]
            wanted.append(_exact_column(table, columns, f"f{index[EXACT]}" if EXACT in index else None))
            listed = ", ".join(literal(glob_safe(path)) for path in files)
            source = f"read_parquet([{listed}], hive_partitioning = false) AS file({given})"
            parts.append(f"SELECT {', '.join(wanted)} FROM {source}")
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {' UNION ALL '.join(parts)}")

    def _empty(self, table: Table) -> Path:
        path = self._scratch / "empty.parquet"
        pq.write_table(segment_schema(table).empty_table(), path)
        return path

    def _keyed(self, table: Table, columns: tuple[int, ...], derived: bool) -> MergedTable:
        keys = [f"k{n}" for n in range(len(table.key))]
        given = ", ".join(
            f"{expression} AS {key}" for key, expression in zip(keys, self._key_expressions(table), strict=True)
        )
        execute = self.connection.execute
        execute(
            f"CREATE OR REPLACE TEMP TABLE latest AS SELECT {given}, max(version) AS version "
            f"FROM change GROUP BY {', '.join(keys)}"
        )
        values = ", ".join([*(f"v{i}" for i in columns), "e"])
        matched = " AND ".join(f"b.{key} = l.{key}" for key in keys)
        images, same = "change", "c.version = l.version"
        if derived:
            images = f"(SELECT *, {given} FROM change)"
            same += "".join(f" AND c.{key} = l.{key}" for key in keys)
        sql = (
            f"SELECT {values} FROM (SELECT *, {given} FROM base) AS b ANTI JOIN latest AS l ON {matched} "
            f"UNION ALL SELECT {values} FROM (SELECT c.* FROM {images} AS c SEMI JOIN latest AS l ON {same}) "
            f"WHERE op IN ('{INSERT}', '{UPDATE_AFTER}')"
        )
        order = ", ".join(f"v{_index(table, name)} NULLS FIRST" for name in table.key)
        return MergedTable(table, columns, sql, order)

    def _key_expressions(self, table: Table) -> list[str]:
        """The key's columns; one that has nulls somewhere (a zero date, say) as text, the exact text taking the null's
        place. The first letter keeps the two kinds apart."""
        result = []
        for name in table.key:
            column, value = table.column(name), f"v{_index(table, name)}"
            if not self._has(f"{value} IS NULL"):
                result.append(value)
                continue
            text = f"hex({value})" if column.type in BINARY_TYPES else f"{value}::VARCHAR"
            expression = f"coalesce('v' || {text}, 'x' || e[{literal(name)}])"
            if column.type in INTEGER_BITS or self._has(f"{expression} IS NULL"):
                raise _damaged(table, f"a row without a value in key column `{name}`")
            result.append(expression)
        return result

    def _has(self, condition: str) -> bool:
        found = self.connection.execute(
            f"SELECT EXISTS (SELECT 1 FROM base WHERE {condition}) OR EXISTS (SELECT 1 FROM change WHERE {condition})"
        ).fetchall()
        return bool(found[0][0])

    def _multiset(self, table: Table, columns: tuple[int, ...]) -> MergedTable:
        """Floating-point columns also group by their sign bit: 0.0 and -0.0 are equal to DuckDB, not to a reader."""
        values = [f"v{i}" for i in columns]
        signs = [f"signbit(v{i})" for i in columns if table.columns[i].type in ("float", "double")]
        grouped = ", ".join([*values, *signs, "x"])
        rows = ", ".join([*values, "list_sort(map_entries(e)) AS x"])
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE folded AS SELECT {', '.join(values)}, x, sum(weight) AS copies FROM ("
            f"SELECT {rows}, 1 AS weight FROM base UNION ALL "
            f"SELECT {rows}, CASE WHEN op IN ('{INSERT}', '{UPDATE_AFTER}') THEN 1 ELSE -1 END FROM change"
            f") GROUP BY {grouped} HAVING sum(weight) <> 0"
        )
        negative = self.connection.execute("SELECT count(*) FROM folded WHERE copies < 0").fetchall()
        if negative[0][0]:
            raise _damaged(table, f"{negative[0][0]} rows that were removed more often than they were there")
        exact = "CASE WHEN x IS NOT NULL THEN map_from_entries(x) END AS e"
        sql = f"SELECT {', '.join(values)}, {exact} FROM (SELECT *, unnest(range(copies::BIGINT)) FROM folded)"
        return MergedTable(table, columns, sql, ", ".join(f"{v} NULLS FIRST" for v in values))


# version orders all images of a table: seq, then the ordinal in the transaction, then before and after of one change.
_CHANGES = f"""
CREATE OR REPLACE TEMP VIEW change AS
SELECT *, seq::HUGEINT * 18446744073709551616 + ordinal::HUGEINT * 2
       + CASE WHEN op IN ('{UPDATE_BEFORE}', '{DELETE}') THEN 0 ELSE 1 END AS version
FROM image WHERE seq > {{low}} AND seq <= {{cut}}
"""


def check_files(table: Table, files: Sequence[Path], extra: Sequence[str] = ()) -> dict[tuple[str, ...], list[Path]]:
    """The files by their column names, which differ between versions of the format. Raises ArchiveDamaged unless all hold
    the table's columns with the types of this version (docs/FORMAT.md), and the metadata columns that are asked for."""
    found: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(table, f"a Parquet file that can't be read: {error}") from error
        for field in value_fields(table):
            if field.name not in schema.names or schema.field(field.name).type != field.type:
                raise _damaged(table, f"an object whose column `{field.name}` is missing or isn't {field.type}")
        if EXACT in schema.names and not schema.field(EXACT).type.equals(EXACT_TYPE):
            raise _damaged(table, f"an object whose column `{EXACT}` isn't {EXACT_TYPE}")
        missing = [name for name in extra if name not in schema.names]
        if missing:
            raise _damaged(table, f"no column `{missing[0]}`")
        found.setdefault(tuple(schema.names), []).append(path)
    return found


def _exact_column(table: Table, columns: Sequence[int], source: str | None) -> str:
    """The map of exact texts as `e`: null when empty, without the entries of columns that are left out."""
    if source is None:
        return "NULL::MAP(VARCHAR, VARCHAR) AS e"
    if len(columns) < len(table.columns):
        kept = ", ".join(literal(table.columns[i].name) for i in columns)
        source = f"map_from_entries(list_filter(map_entries({source}), lambda p: list_contains([{kept}], p.key)))"
    return f"CASE WHEN cardinality({source}) > 0 THEN {source} END AS e"


def _index(table: Table, name: str) -> int:
    return next(i for i, c in enumerate(table.columns) if c.name == name)


def literal(text: str) -> str:
    """A DuckDB string literal."""
    return "'" + text.replace("'", "''") + "'"


def glob_safe(path: Path) -> str:
    """The path with DuckDB's wildcards taken literally."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def engine_error(error: duckdb.Error, label: str) -> RowbackError:
    """What a failure of DuckDB means to the user."""
    text = str(error).splitlines()[0]
    if "No space left" in text or "temp_directory" in text or "max_temp_directory_size" in text:
        return NoSpace(
            f"no space left for merging table `{label}`: {text}",
            hint="Free space on the scratch disk or choose another with `--scratch`.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return NoSpace(
            f"merging table `{label}` doesn't fit into the memory limit: {text}",
            hint="Give it more with `--memory`; a gigabyte is the default.",
        )
    return ArchiveDamaged(
        f"table `{label}` can't be merged: {text}",
        hint="The objects have their recorded bytes, so this is unexpected: please report it.",
    )


def _damaged(table: Table, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"the archive of table `{table.label}` holds {what}",
        hint="Restore from another snapshot, or take a new one; please report this with `rowback status`.",
    )
