"""The rows of a folded table that are otherwise without the transactions left out, and which later changes set values in its
rows: the facts by which recovery/except_checks.py and except_unique.py decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from recovery.archive.actions import Ddl
from recovery.archive.store import Store
from recovery.constraints import Definition, definition_of
from recovery.errors import NotComputable
from recovery.except_rows import ALL, Undone, key_indexes, keys_of, matching, of_transactions, paired, rows_at, setting
from recovery.merge import MergedTable, Merger
from recovery.refused import before_option, just_before, shown
from recovery.restore_plan import TablePlan
from recovery.schema import Column
from recovery.scope import spelled
from recovery.stages import Stage

SHOWN = 3  # rows in an error's text


@dataclass(frozen=True)
class Otherwise:
    """merged: the table's rows at the cut, folded with its corrections."""

    store: Store
    merger: Merger
    merged: MergedTable
    table: TablePlan

    @cached_property
    def definition(self) -> Definition:
        assert self.table.lineage is not None
        return definition_of(self.table.lineage)

    @cached_property
    def last(self) -> Stage:
        return self.table.staged.stages[-1]

    @cached_property
    def indexes(self) -> Mapping[str, int]:
        """Columns by their folded names at the cut -> position in the last stage and in `merged`."""
        return {name.casefold(): i for i, name in enumerate(self.table.staged.final) if name is not None}

    @cached_property
    def values(self) -> Mapping[str, tuple[Column, str]]:
        """By the same names: the column, and its value in DuckDB."""
        return {n: (self.merged.table.columns[i], f"v{i}") for n, i in self.indexes.items() if i in self.merged.columns}

    def old(self, since: Ddl | None) -> bool:
        """Whether it had been so before the first transaction left out."""
        return since is None or since.seq < min(self.table.left_out)

    def touched(self, columns: Collection[str], *, mixed: bool = False) -> list[Undone]:
        """The rows that differ in one of these columns. mixed: only those of which later changes set another one: no moment
        of the source had their values together."""
        wanted = set(columns)
        found = [u for u in self.table.undone if wanted and (u.columns is ALL or self._named(u.columns) & wanted)]
        return [u for u in found if not mixed or self._named(u.later) & wanted]

    def _named(self, columns: Collection[str]) -> set[str]:
        """Columns of the last stage by their names at the cut."""
        names = [c.name for c in self.last.definition.columns]
        return {name for name, i in self.indexes.items() if names[i] in columns}

    def among(self, undone: Sequence[Undone]) -> str:
        """A query of the rows of `merged` that are among these. Valid until the next call."""
        self.register("undone_key", pa.concat_tables([u.keys for u in undone]))
        same = " AND ".join(f"r.v{i} IS NOT DISTINCT FROM u.k{n}" for n, i in enumerate(self.key))
        return f"SELECT r.* FROM ({self.merged.sql}) AS r SEMI JOIN undone_key AS u ON {same}"

    def register(self, name: str, data: pa.Table) -> None:
        self.merger.connection.execute(f"DROP TABLE IF EXISTS {name}")
        self.merger.connection.register(f"{name}_arrow", data)
        self.merger.connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM {name}_arrow")
        self.merger.connection.unregister(f"{name}_arrow")

    @property
    def key(self) -> list[int]:
        return key_indexes(self.last.definition)

    def shown(self, query: str) -> str:
        """The keys of some rows of a query over `merged`."""
        values = ", ".join(f"v{i}::VARCHAR" for i in self.key)
        rows = self.merger.connection.execute(f"SELECT {values} FROM ({query}) ORDER BY ALL LIMIT {SHOWN}").fetchall()
        return "; ".join(f"`{', '.join(map(str, row))}`" for row in rows)

    def set_since(self, wanted: pa.Table | None, columns: Collection[str], *, by_all: bool) -> pa.Table:
        """Of rows with these keys (`keys_of`; None for all), those in which changes behind the first transaction left out
        set one of the columns (names at the cut), or which got their key by them: k0, k1, .., and each change's seq, gtid,
        file and position. by_all: by the transactions left out, too."""
        first, parts = min(self.table.left_out), [_none(self.table.undone[0].keys)]
        for stage, places in self._places():
            indexes = key_indexes(stage.definition)
            of_these = [places[i] for name, i in self.indexes.items() if name in columns and i in places]
            for segment in dict.fromkeys(stage.segments):
                pairs = paired(self.store, segment, stage, first)
                if not by_all:
                    pairs = of_transactions(pairs, self.table.left_out, inverse=True)
                pairs = pairs.filter(setting(pairs, stage.definition, of_these))
                if pairs.num_rows and wanted is not None:
                    pairs = rows_at(pairs, matching(keys_of(pairs, indexes, "a"), wanted))
                if pairs.num_rows:
                    parts.append(_found(pairs, indexes))
        return pa.concat_tables(parts)

    def _places(self) -> list[tuple[Stage, dict[int, int]]]:
        """The stages, each with the positions of the last one's columns in it."""
        places = {i: i for i in range(len(self.last.definition.columns))}
        found = []
        for stage in reversed(self.table.staged.stages):
            found.append((stage, places))
            back = {i: s.index for i, s in enumerate(stage.sources) if s.index is not None}
            places = {last: back[i] for last, i in places.items() if i in back}
        return found

    def refuse(self, what: str, since: Ddl | None = None, set_by: pa.Table | None = None) -> NotComputable:
        """since: the statement that demands it. set_by: changes (`set_since`) of which the last one stands in the way."""
        then = "Restore to before the transaction"
        if since is not None:
            what += f"; that it has since `{shown(since)}` at {since.file}:{since.position}"
            then = f"Restore to just before that statement with `{just_before(since)}`"
        last = set_by.sort_by([("seq", "descending")]).slice(0, 1).to_pylist() if set_by is not None else []
        for change in last:
            who, place = change["gtid"] or f"transaction {change['seq']}", f"{change['file']}:{change['position']}"
            what += f"; {who} at {place} set it later"
            if since is None:
                option = before_option(change["gtid"], change["file"], change["position"])
                then = f"Restore to just before that with `{option}`"
        name = spelled((self.table.db, self.table.table))
        return NotComputable(
            f"table `{self.table.label}` {what}",
            hint=f"{then}, or leave the table out with `--exclude '{name}'` and take its rows over by hand.",
        )


_WHO = {"seq": "_rb_seq", "gtid": "_rb_gtid", "file": "_rb_binlog_file", "position": "_rb_binlog_pos"}


def _found(pairs: pa.Table, indexes: Sequence[int]) -> pa.Table:
    keys: dict[str, Any] = {f"k{n}": pairs[f"a{i}"] for n, i in enumerate(indexes)}
    return pa.table({**keys, **{name: pairs[column] for name, column in _WHO.items()}})


def _none(keys: pa.Table) -> pa.Table:
    kinds = (pa.int64(), pa.string(), pa.string(), pa.int64())
    return pa.schema([*keys.schema, *(pa.field(n, k) for n, k in zip(_WHO, kinds, strict=True))]).empty_table()
