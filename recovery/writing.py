"""A restore's plan carried out: tables folded (recovery/folding.py) and written.

Promises: a table that is recorded in the journal is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import duckdb

from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.dump import counted
from recovery.failpoint import failpoint
from recovery.folding import Folding, derived_files, emptied, note
from recovery.merge import Merger, engine_error
from recovery.output import manifest as manifests
from recovery.output.files import FileRecord, TableFiles, described, write_text
from recovery.output.journal import Journal
from recovery.output.options import OutputOptions
from recovery.output.report import Report, RestoreProgress
from recovery.output.sql_files import SqlWriter
from recovery.output.story import Story, stories
from recovery.output.writers import Writer, writer_for
from recovery.rename import Renames
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.straddling import straddling


@dataclass(frozen=True)
class Run:
    """What a running restore works with."""

    store: Store
    state: ArchiveState
    options: OutputOptions
    renames: Renames
    memory_limit_bytes: int
    directory: Path
    scratch: Path
    journal: Journal
    progress: Report


def write(
    run: Run, plan: RestorePlan, sequences: Mapping[str, Sequence[str]]
) -> tuple[tuple[TableFiles, ...], tuple[str, ...], tuple[FileRecord, ...]]:
    """The tables in name order, the labels of those that were there, and the other files. sequences: what makes those of
    each database (recovery/sequence_rows.py)."""
    flavor = run.state.identity.flavor if run.state.identity else None
    writer = writer_for(run.options, run.directory, [(t.db, t.table) for t in plan.tables], flavor)
    told = stories_of(run.store, run.state, plan, run.renames) if run.options.format == "sql" else {}
    writer.sequences(sequences)
    writer.objects(plan.objects)
    for db, create_statement in plan.databases:
        writer.database(db, create_statement)
    derived = [derived_files(run.store, run.scratch, d, run.progress) for d in plan.derivations]
    tables: list[TableFiles] = []
    resumed: list[str] = []
    with Merger(run.scratch, run.memory_limit_bytes) as merger:
        folding = Folding(run.store, merger, run.scratch, derived)
        for table in plan.tables:
            facts = {"snapshot_id": table.snapshot_id, "low_seq": table.low_seq, "high_seq": table.high_seq}
            kept = run.journal.finished(f"table {table.label}", facts, partial(note, run.progress))
            if kept is not None:
                tables.append(TableFiles.from_json(kept))
                resumed.append(table.label)
                continue
            report = _reporter(run.progress, table.label, len(tables), len(plan.tables))
            tables.append(_write_table(folding, writer, table, report, told.get((table.db, table.table))))
            failpoint("restore.table-written")
            run.journal.record(
                f"table {table.label}", facts, [*tables[-1].files, *tables[-1].definition], tables[-1].to_json()
            )
            failpoint("restore.table-recorded")
            report(tables[-1].rows, tables[-1].size_bytes, done=True)
    tables.sort(key=lambda t: (t.db, t.table))
    if isinstance(writer, SqlWriter):
        _write_changes(run, writer, told, len(tables))
    writer.finish(tables)
    write_text(run.directory, manifests.CHECK, manifests.check_script(tables))
    document = manifests.manifest(run.state, plan, run.options, tables, run.directory)
    failpoint("restore.manifest")
    run.journal.close()
    manifests.write(run.directory, document)
    files = [*(FileRecord.from_json(f) for f in document["files"]), described(run.directory, manifests.NAME)]
    return tuple(tables), tuple(resumed), tuple(files)


class _Reporter(Protocol):
    def __call__(self, rows: int, size_bytes: int, done: bool = False) -> None: ...


def _reporter(progress: Report, label: str, before: int, total: int) -> _Reporter:
    def report(rows: int, size_bytes: int, done: bool = False) -> None:
        progress(RestoreProgress(label, before + done, total, rows, size_bytes, done))

    return report


def _write_table(
    folding: Folding, writer: Writer, table: TablePlan, report: _Reporter, story: Story | None
) -> TableFiles:
    """With a story, the files have the table as it was where that begins, and the digest is that of its end."""
    report(0, 0)
    merger = folding.merger
    begin, name = (table if story is None else story.base), (table.db, table.table)
    counter = Counter(begin.schema)
    try:
        merged = folding.rows(begin, counter)
        written = writer.table(merger, name, (*begin.schema, *counter.statements(name)), merged, report)
        if story is not None:
            emptied(folding.scratch)
            merged = folding.rows(table, Counter(()))
            written = counted(merger, written, table.schema, merged)
    except duckdb.Error as error:
        raise engine_error(error, table.label) from error
    emptied(folding.scratch)
    return written


def stories_of(store: Store, state: ArchiveState, plan: RestorePlan, renames: Renames) -> dict[tuple[str, str], Story]:
    low_seq = min((t.low_seq for t in plan.tables), default=plan.cut.seq)
    return stories(state, plan, straddling(store, state, low_seq, plan.cut.seq), renames)


def _write_changes(run: Run, writer: SqlWriter, told: Mapping[tuple[str, str], Story], tables: int) -> None:
    facts = {t.label: [t.snapshot_id, t.high_seq] for t in (s.table for s in told.values())}
    kept = run.journal.finished("the changes", facts, partial(note, run.progress))
    if kept is not None:
        writer.script = [FileRecord.from_json(f) for f in kept["files"]]
        return
    files = writer.changes(run.store, told, _reporter(run.progress, "changes", tables, tables))
    run.journal.record("the changes", facts, files, {"files": [f.to_json() for f in files]})
