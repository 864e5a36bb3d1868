"""What a dry run does beside planning: fold the tables of which only the rows tell whether they can be restored.

Those are tables that a transaction is left out of (`--except`), tables on which a statement asks something of the rows
before it (NOT NULL, another character set, removed partitions), and children of foreign keys whose actions aren't logged.
Nothing is written but local copies, which go away again.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.folding import (
    BadObject,
    DerivedFiles,
    Folding,
    derived_files,
    emptied,
    no_space,
    note,
    scratch_folder,
    without,
)
from recovery.merge import Merger, engine_error
from recovery.output.report import Report
from recovery.restore_plan import RestorePlan, TablePlan


@dataclass(frozen=True)
class Rehearsal:
    """replan: the plan that does without the damaged snapshots (snapshot_id: reason), for the same cut."""

    store: Store
    state: ArchiveState
    memory_limit_bytes: int
    scratch_dir: Path | None
    replan: Callable[[dict[str, str]], RestorePlan]
    progress: Report

    def of(self, plan: RestorePlan) -> RestorePlan:
        """The plan that a run would walk to its end: this one, or one with older snapshots. Raises what the run would
        raise: NotComputable, DdlInRange, ArchiveDamaged, NoSpace."""
        if not plan.derivations and not _in_question(plan, ()):
            return plan
        damaged: dict[str, str] = {}
        with scratch_folder(self.scratch_dir) as scratch:
            while True:
                _check_space(plan, scratch)
                try:
                    self._fold(plan, scratch)
                    return plan
                except BadObject as bad:
                    plan = without(bad, self.state, damaged, lambda: self.replan(damaged))
                    emptied(scratch)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise no_space(f"no space left in `{scratch}`") from error
                    raise

    def _fold(self, plan: RestorePlan, scratch: Path) -> None:
        derived = [derived_files(self.store, scratch, d, self.progress) for d in plan.derivations]
        with Merger(scratch, self.memory_limit_bytes) as merger:
            folding = Folding(self.store, merger, scratch, derived)
            for table in _in_question(plan, derived):
                note(
                    self.progress,
                    f"table {table.label}: its rows tell whether it can be restored, so they are looked at",
                )
                try:
                    folding.rows(table, Counter(()))
                except duckdb.Error as error:
                    raise engine_error(error, table.label) from error
                emptied(scratch)


def _in_question(plan: RestorePlan, derived: Sequence[DerivedFiles]) -> list[TablePlan]:
    return [t for t in plan.tables if t.undone or _asks(t) or any(d.file(t) is not None for d in derived)]


def _asks(table: TablePlan) -> bool:
    staged = table.staged
    return bool(staged.checks) or any(
        stage.removed or any(source.checks for source in stage.sources) for stage in staged.stages[1:]
    )


def _check_space(plan: RestorePlan, scratch: Path) -> None:
    largest = max((t.size_bytes for t in plan.tables), default=0) + sum(d.size_bytes for d in plan.derivations)
    free = shutil.disk_usage(scratch).free
    if free < largest:
        raise no_space(
            f"`{scratch.parent}` has {free} bytes free, and copies of the largest table need at least {largest}"
        )
