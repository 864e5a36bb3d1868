"""A restore's plan carried out: objects fetched and verified, tables folded stage by stage and written.

Promises: only copies with the recorded bytes are read (BadObject names the others); a table that is recorded in the journal
is not written again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow.parquet as pq

from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.convert import check_rows, convert, finished
from recovery.derive_files import Files, derived_changes, write_changes
from recovery.derive_plan import Derivation
from recovery.dump import counted
from recovery.errors import ArchiveDamaged, NoSpace, ObjectNotFound, StoreFull
from recovery.except_unique import check_unique
from recovery.failpoint import failpoint
from recovery.merge import MergedTable, Merger, engine_error
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


class BadObject(Exception):
    """An object that isn't what the log recorded; error: what to raise if there is no way around it."""

    def __init__(self, key: str, error: ArchiveDamaged) -> None:
        super().__init__(str(error))
        self.key, self.error = key, error


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


def write(run: Run, plan: RestorePlan) -> tuple[tuple[TableFiles, ...], tuple[str, ...], tuple[FileRecord, ...]]:
    """The tables in name order, the labels of those that were there, and the other files."""
    flavor = run.state.identity.flavor if run.state.identity else None
    writer = writer_for(run.options, run.directory, [(t.db, t.table) for t in plan.tables], flavor)
    told = stories_of(run.store, run.state, plan, run.renames) if run.options.format == "sql" else {}
    writer.objects(plan.objects)
    for db, create_statement in plan.databases:
        writer.database(db, create_statement)
    derived = [_derived(run, d) for d in plan.derivations]
    tables: list[TableFiles] = []
    resumed: list[str] = []
    with Merger(run.scratch, run.memory_limit_bytes) as merger:
        for table in plan.tables:
            facts = {"snapshot_id": table.snapshot_id, "low_seq": table.low_seq, "high_seq": table.high_seq}
            kept = run.journal.finished(f"table {table.label}", facts, partial(note, run.progress))
            if kept is not None:
                tables.append(TableFiles.from_json(kept))
                resumed.append(table.label)
                continue
            report = _reporter(run.progress, table.label, len(tables), len(plan.tables))
            tables.append(_write_table(run, merger, writer, table, derived, report, told.get((table.db, table.table))))
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


def note(progress: Report, text: str) -> None:
    progress(RestoreProgress(note=text))


class _Reporter(Protocol):
    def __call__(self, rows: int, size_bytes: int, done: bool = False) -> None: ...


def _reporter(progress: Report, label: str, before: int, total: int) -> _Reporter:
    def report(rows: int, size_bytes: int, done: bool = False) -> None:
        progress(RestoreProgress(label, before + done, total, rows, size_bytes, done))

    return report


def _write_table(
    run: Run,
    merger: Merger,
    writer: Writer,
    table: TablePlan,
    derived: Sequence[_DerivedFiles],
    report: _Reporter,
    story: Story | None,
) -> TableFiles:
    """With a story, the files have the table as it was where that begins, and the digest is that of its end."""
    report(0, 0)
    begin, name = (table if story is None else story.base), (table.db, table.table)
    counter = Counter(begin.schema)
    try:
        merged = _through_stages(run.store, begin, merger, run.scratch, derived, counter)
        written = writer.table(merger, name, (*begin.schema, *counter.statements(name)), merged, report)
        if story is not None:
            _empty_of_parquet(run.scratch)
            merged = _through_stages(run.store, table, merger, run.scratch, derived, Counter(()))
            written = counted(merger, written, table.schema, merged)
    except duckdb.Error as error:
        raise engine_error(error, table.label) from error
    _empty_of_parquet(run.scratch)
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


def _empty_of_parquet(scratch: Path) -> None:
    for path in scratch.glob("*.parquet"):
        path.unlink()


@dataclass(frozen=True)
class _DerivedFiles:
    """Change segments of what foreign keys did, by table."""

    of: Derivation
    files: Mapping[tuple[str, str], Path]

    def file(self, table: TablePlan) -> Path | None:
        if table.origin is None or table.snapshot_id != self.of.snapshot_id:
            return None
        return self.files.get(table.origin)


def _derived(run: Run, of: Derivation) -> _DerivedFiles:
    """Work out what unlogged foreign keys did. Raises NotComputable, ArchiveDamaged and BadObject."""
    store, folder = run.store, Path(tempfile.mkdtemp(prefix="derived-", dir=run.scratch))
    local = {
        table.name: Files(
            table.definition,
            [fetch(store, o.path, o.sha256, folder / f"base-{n}-{i}.parquet") for i, o in enumerate(table.objects)],
            [fetch(store, s.path, s.sha256, folder / f"change-{n}-{i}.parquet") for i, s in enumerate(table.segments)],
            of.low_seq,
            of.high_seq,
        )
        for n, table in enumerate(of.tables)
    }
    found = derived_changes(local, of.edges, of.unique)
    for files in local.values():
        for path in (*files.bases, *files.changes):
            path.unlink()
    written: dict[tuple[str, str], Path] = {}
    for n, (name, changes) in enumerate(found.items()):
        written[name] = folder / f"derived-{n}.parquet"
        write_changes(local[name].definition, changes, written[name])
        note(run.progress, f"table {name[0]}.{name[1]}: {len(changes)} changes by foreign keys derived")
    return _DerivedFiles(of, written)


def _through_stages(
    store: Store,
    table: TablePlan,
    merger: Merger,
    scratch: Path,
    derived: Sequence[_DerivedFiles],
    counter: Counter,
) -> MergedTable | None:
    """The table's rows at the cut, folded stage by stage; None if it surely has none. What was derived is of the first
    stage: it reaches no further than the first statement on the table."""
    added = [(d.of.high_seq, path) for d in derived if (path := d.file(table)) is not None]
    merged: MergedTable | None = None
    bases = [fetch(store, o.path, o.sha256, scratch / f"base-{n}.parquet") for n, o in enumerate(table.objects)]
    for number, stage in enumerate(table.staged.stages):
        if merged is not None:
            converted = scratch / f"stage-{number}.parquet"
            convert(merger, merged, stage.definition, stage.sources, converted, stage.removed)
            for path in bases:
                path.unlink()
            bases = [converted]
        changes = [
            fetch(store, s.path, s.sha256, scratch / f"change-{number}-{n}.parquet")
            for n, s in enumerate(dict.fromkeys(stage.segments))
        ]
        high_seq, derives = stage.high_seq, number == 0 and bool(added)
        if derives:
            changes += [path for _, path in added]
            high_seq = max(high_seq, *(seq for seq, _ in added))
        if number in table.corrections:
            changes.append(scratch / f"correction-{number}.parquet")
            pq.write_table(table.corrections[number], changes[-1])
        merged = merger.merge(stage.definition, bases, changes, stage.low_seq, high_seq, derived=derives)
        counter.look(merger, stage.definition)
    if merged is None:
        return None
    for index, check, ddl in table.staged.checks:
        check_rows(merger, merged, index, check, ddl, (table.db, table.table))
    done = finished(merged, table.staged, (table.db, table.table))
    if table.corrections:
        check_unique(merger, done, table.schema, (table.db, table.table))
    return done


def fetch(store: Store, key: str, sha256: str, path: Path) -> Path:
    """Copy an object to a local file and check the copy against the log. Raises BadObject with the ArchiveDamaged that
    names it."""
    hint = "Bring it back from the store's own versioning or a copy, or restore other tables with `--tables`."
    try:
        store.download(key, path)
    except ObjectNotFound as error:
        raise BadObject(key, ArchiveDamaged(f"object `{key}` is missing from the archive", hint=hint)) from error
    except StoreFull as error:  # the local side of the copy
        raise no_space(f"no space left in `{path.parent}` for a copy of `{key}`") from error
    with path.open("rb") as copy:
        digest = hashlib.file_digest(copy, "sha256").hexdigest()
    if digest != sha256:
        path.unlink()
        text = f"object `{key}` doesn't have the bytes that were recorded for it"
        raise BadObject(key, ArchiveDamaged(text, hint=hint))
    return path


def no_space(message: str) -> NoSpace:
    return NoSpace(message, hint="Free some space there, or name another directory with `--scratch` (or TMPDIR).")
