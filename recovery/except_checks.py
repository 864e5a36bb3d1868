"""Whether rows that are only so without a transaction left out fit what the table demands of its rows at the cut: its unique
keys (recovery/except_unique.py), CHECK constraints and partitions.

A row as the source had it once fits what had been demanded since before then. Looked at are rows that differ from the
source's at the cut in a column that is concerned, where the demand is newer, or where other columns were set later. What
can't be computed then is refused: the load would fail on it.
"""

from __future__ import annotations

from collections.abc import Collection

from recovery.alter import (
    ChangeColumn,
    ConvertCharset,
    EmptyPartitions,
    RemoveRows,
    ReorganizePartitions,
    Repartition,
)
from recovery.archive.actions import Ddl
from recovery.archive.store import Store
from recovery.constraints import CHECK, Constraint
from recovery.except_since import Otherwise
from recovery.except_unique import check_unique
from recovery.lineage import Lineage, partitioning_at
from recovery.merge import MergedTable, Merger
from recovery.numeric import condition_sql
from recovery.partitions import NotFolded, Partitioning, rows_of
from recovery.removed_rows import condition, why_not
from recovery.restore_plan import TablePlan
from recovery.schema import TEXT_TYPES

_REDEFINING = (ConvertCharset, EmptyPartitions, RemoveRows, ReorganizePartitions, Repartition)


def check_undone(store: Store, merger: Merger, merged: MergedTable, table: TablePlan) -> None:
    """merged: the finished rows of a table whose fold was corrected. Raises NotComputable, and duckdb.Error."""
    if table.lineage is None or not table.undone:
        return
    rows = Otherwise(store, merger, merged, table)
    for constraint in rows.definition.finished():
        (_check if constraint.kind == CHECK else check_unique)(rows, constraint)
    _partitions(rows)


def _check(rows: Otherwise, check: Constraint) -> None:
    undone = rows.touched(check.reads, mixed=rows.old(check.since))
    if not undone:
        return
    among = rows.among(undone)
    since = None if rows.old(check.since) else check.since
    test = condition_sql(check.expression or "", rows.values)
    found = rows.shown(among if test is None else f"SELECT * FROM ({among}) WHERE NOT {test}")
    if found:
        would = "would" if test is not None else "may"
        raise rows.refuse(f"{would} have rows ({found}) that violate its {check.text} without the transaction", since)


def _partitions(rows: Otherwise) -> None:
    lineage = rows.table.lineage
    assert lineage is not None
    partitioning, why = None, None
    try:
        partitioning = partitioning_at(lineage.create, lineage.program)
        if partitioning is None or not partitioning.method:
            return
    except NotFolded as error:
        why = str(error)
    names = set(rows.definition.columns) if partitioning is None else {n.casefold() for n in partitioning.mentioned}
    since = _since(lineage, names)
    undone = rows.touched(rows.definition.plain(names), mixed=rows.old(since))
    if not undone:
        return
    since = None if rows.old(since) else since
    among = rows.among(undone)
    outside = f"SELECT * FROM ({among})"
    if partitioning is not None:
        try:
            outside += f" WHERE NOT coalesce(({_held(rows, partitioning)}), false)"
            if any(rows.values[n.casefold()][0].type in TEXT_TYPES for n in partitioning.columns):
                why = "unless a collation takes their texts for ones that are listed"
        except NotFolded as error:
            why = str(error)
    if found := rows.shown(outside):
        would, reason = ("would", "") if why is None else ("may", f" ({why})")
        what = f"{would} have rows ({found}) that none of its partitions holds without the transaction{reason}"
        raise rows.refuse(what, since)


def _since(lineage: Lineage, names: Collection[str]) -> Ddl | None:
    """The last statement that gave the table other partitions, or one of these columns another definition."""
    found = None
    for step in lineage.program:
        for one in step.operations:
            redefined = isinstance(one, ChangeColumn) and one.spec.column.name.casefold() in names
            if redefined or isinstance(one, _REDEFINING):
                found = step.ddl
    return found


def _held(rows: Otherwise, partitioning: Partitioning) -> str:
    """Raises NotFolded."""
    test = rows_of(partitioning, [part.name for part in partitioning.parts])
    known = [rows.values.get(name.casefold()) for name in test.columns]
    if None in known:
        raise NotFolded("they are by a column that was added behind the last change")
    columns = [found[0] for found in known if found is not None]
    if (why := why_not(test, columns)) is not None:
        raise NotFolded(why)
    indexes = tuple(rows.indexes[name.casefold()] for name in test.columns)
    return condition(rows.merged, test, indexes)
