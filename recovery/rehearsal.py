"""What a dry run does beside planning: look at rows where only they tell whether a table can be restored.

Tables that a transaction is left out of (`--except`) are folded, and tables on which a statement asks something of the
rows before it (NOT NULL, another character set, removed partitions); what foreign keys did without the server logging it is
derived. Nothing is written but local copies, which go away again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.folding import (
    Folding,
    Replan,
    around_damage,
    check_scratch,
    derived_files,
    emptied,
    note,
    scratch_folder,
)
from recovery.merge import Merger, engine_error
from recovery.output.report import Report
from recovery.restore_plan import RestorePlan, TablePlan


@dataclass(frozen=True)
class Room:
    """What a fold may take: see RestoreRequest."""

    memory_limit_bytes: int
    scratch_dir: Path | None


def rehearsed(
    store: Store, state: ArchiveState, plan: RestorePlan, room: Room, replan: Replan, progress: Report
) -> RestorePlan:
    """The plan that a run would walk to its end: this one, or one with older snapshots. Raises what the run would raise:
    NotComputable, DdlInRange, ArchiveDamaged, NoSpace."""
    if not plan.derivations and not _in_question(plan):
        return plan
    with scratch_folder(room.scratch_dir) as scratch:

        def fold(plan: RestorePlan) -> None:
            check_scratch(plan, scratch)
            derived = [derived_files(store, scratch, d, progress) for d in plan.derivations]
            with Merger(scratch, room.memory_limit_bytes) as merger:
                folding = Folding(store, merger, scratch, derived)
                for table in _in_question(plan):
                    note(progress, f"table {table.label}: looking at its rows, which tell whether it can be restored")
                    _fold(folding, table)

        return around_damage(state, plan, scratch, replan, progress, fold)[0]


def _fold(folding: Folding, table: TablePlan) -> None:
    try:
        folding.rows(table, Counter(()))
    except duckdb.Error as error:
        raise engine_error(error, table.label) from error
    emptied(folding.scratch)


def _in_question(plan: RestorePlan) -> list[TablePlan]:
    return [t for t in plan.tables if t.undone or _asks(t)]


def _asks(table: TablePlan) -> bool:
    staged = table.staged
    return bool(staged.checks) or any(
        stage.removed or any(source.checks for source in stage.sources) for stage in staged.stages[1:]
    )
