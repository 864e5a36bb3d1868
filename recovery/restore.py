"""Restore: resolve the target, plan, fetch and verify, merge, write. Never touches a database server.

Promises: the directory appears whole or not at all (it is built beside as DIR.partial and renamed); an object that
isn't what the log recorded stops the restore with its name (ArchiveDamaged); only verified local copies are read. A
dry run returns the very plan that a run walks. With resume, tables that an interrupted run finished aren't written again,
after their files' digests are checked (recovery/output/journal.py).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import duckdb
import pyarrow.parquet as pq

from recovery import except_, tiers
from recovery.archive.definitions import read_definitions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.cascades import boundary_changes
from recovery.convert import check_rows, convert, finished
from recovery.derive_files import Files, derived_changes, write_changes
from recovery.derive_plan import Derivation
from recovery.dump import counted
from recovery.errors import (
    ArchiveDamaged,
    ConfigError,
    NoSpace,
    ObjectArchived,
    ObjectNotFound,
    StoreFull,
    TargetError,
    UnknownTable,
)
from recovery.except_report import REFUSE
from recovery.except_unique import check_unique
from recovery.failpoint import failpoint
from recovery.marks import SnapshotRange, locate_snapshot
from recovery.merge import MergedTable, Merger, engine_error
from recovery.objects.choose import Known
from recovery.output import journal as journals
from recovery.output import manifest as manifests
from recovery.output.building import building, output_full
from recovery.output.files import FileRecord, TableFiles, described, write_text
from recovery.output.journal import Journal
from recovery.output.options import OutputOptions
from recovery.output.report import Report, RestoreProgress, unreported
from recovery.output.sql_files import SqlWriter
from recovery.output.story import Story, stories
from recovery.output.writers import Writer, writer_for
from recovery.plan import RestorePlan, TablePlan, plan_restore
from recovery.program import in_place
from recovery.rename import parse_renames, renamed
from recovery.straddling import straddling
from recovery.target import Cut, Target, cut_of, format_us, known_until, missing_after, parse_target, resolve

DEFAULT_MEMORY_LIMIT_BYTES = 1024**3
MIN_MEMORY_LIMIT_BYTES = 64 * 1024**2  # DuckDB's two threads need some for their vectors
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?", re.IGNORECASE)


@dataclass(frozen=True)
class RestoreRequest:
    """to: a target's text (recovery/target.py). tables: patterns (recovery/scope.py), empty for all; exclude: patterns of
    tables to leave out. leave_out: transactions to leave out and except_conflicts: what then becomes of later ones that need
    them (recovery/except_.py). rename: rules `old=new` for names in the output (recovery/rename.py). output: a directory
    that is empty or new; not needed for a dry run. memory_limit_bytes: of the merge. scratch_dir: where copies and spilled
    data go, by default the system's. options: the format and its files. resume: go on in what an interrupted restore of
    the same target and options left; if this one ends badly, leave it likewise. events_disabled: create events DISABLED,
    however they were. thaw: how to ask for objects in an archive tier; without it they are refused by name."""

    to: str
    tables: tuple[str, ...] = ()
    output: Path | None = None
    dry_run: bool = False
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES
    scratch_dir: Path | None = None
    exclude: tuple[str, ...] = ()
    options: OutputOptions = field(default_factory=OutputOptions)
    resume: bool = False
    leave_out: tuple[str, ...] = ()
    except_conflicts: str = REFUSE
    rename: tuple[str, ...] = ()
    events_disabled: bool = False
    thaw: tiers.Thaw | None = None


@dataclass(frozen=True)
class RestoreResult:
    """output, tables and files are empty after a dry run. resumed: labels of tables that an interrupted run had finished.
    files: those that hold no table's rows, the manifest among them."""

    plan: RestorePlan
    output: Path | None
    tables: tuple[TableFiles, ...]
    resumed: tuple[str, ...] = ()
    files: tuple[FileRecord, ...] = ()

    @property
    def rows(self) -> int:
        return sum(t.rows for t in self.tables)


def parse_size(option: str, text: str) -> int:
    """Bytes of a size like `512MiB`, `2GB` (powers of ten without the i) or `1000000000`. Raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"`{text}` is no size", hint=f"Write it like `{option} 512MiB` or `{option} 2GiB`.")
    base = 1024 if match.group(3) else 1000
    return int(float(match.group(1)) * base ** " KMGT".index((match.group(2) or " ").upper()))


def parse_memory(text: str) -> int:
    """The size that `--memory` gives. Raises ConfigError for one that no merge fits into, too."""
    limit_bytes = parse_size("--memory", text)
    if limit_bytes < MIN_MEMORY_LIMIT_BYTES:
        raise ConfigError(f"`--memory {text}` is too little for a merge", hint="Give it at least 64MiB.")
    return limit_bytes


def plan_for(
    store: Store,
    state: ArchiveState,
    to: str,
    tables: Sequence[str] = (),
    exclude: Sequence[str] = (),
    damaged: Mapping[str, str] = MappingProxyType({}),
    cut: Cut | None = None,
    leave_out: Sequence[str] = (),
    except_conflicts: str = REFUSE,
    events_disabled: bool = False,
) -> RestorePlan:
    """Resolve and plan. Reads transactions segments, and of tables whose changes the server passes on by foreign keys
    without logging them the segments at the range's ends; with transactions to leave out, the changes behind them. damaged:
    snapshots to pass over, by id, with the reason. cut: what `to` was resolved to before."""
    target = parse_target(to)
    cut = cut or resolve(store, state, target)
    without = except_.resolve(store, state, leave_out, cut)
    before_seq = without[0] if without else None
    ranges = _locate(store, state, cut.seq, damaged, before_seq)
    boundary = boundary_changes(store, state, cut.seq, ranges)
    warnings = [*_time_warnings(state, target), *_stop_warnings(state, target, cut)]
    warnings += [f"snapshot {name} was passed over: {why}" for name, why in damaged.items()]
    seqs = straddling(store, state, min((r.low_seq for r in ranges.values()), default=cut.seq), cut.seq)
    plan = plan_restore(
        state,
        target.text,
        cut,
        ranges,
        tables,
        warnings,
        exclude=exclude,
        boundary=boundary,
        seqs=seqs,
        before_seq=before_seq,
        definitions=_definitions(store, state, ranges),
        events_disabled=events_disabled,
        place=partial(_place, store, state),
    )
    return except_.without(store, state, plan, without, except_conflicts, ranges) if without else plan


def _place(store: Store, state: ArchiveState, seq: int) -> str:
    """`5, <GTID>, which ends at binlog.000001:4242`, for a message."""
    cut = cut_of(store, state, seq)
    gtid = f", {cut.gtid}" if cut.gtid else ""
    return f"{seq}{gtid}, which ends at {cut.file}:{cut.position},"


def _planned(
    store: Store,
    state: ArchiveState,
    request: RestoreRequest,
    damaged: Mapping[str, str] = MappingProxyType({}),
    cut: Cut | None = None,
) -> RestorePlan:
    renames = parse_renames(request.rename)
    plan = plan_for(
        store,
        state,
        request.to,
        request.tables,
        request.exclude,
        damaged,
        cut,
        leave_out=request.leave_out,
        except_conflicts=request.except_conflicts,
        events_disabled=request.events_disabled,
    )
    return _in_order(renamed(plan, renames), state)


def _planned_thawed(
    store: Store, state: ArchiveState, request: RestoreRequest, cut: Cut | None, progress: Report
) -> RestorePlan:
    """The plan. What planning reads is asked for first where it lies in an archive tier and the request says so."""
    try:
        return _planned(store, state, request, cut=cut)
    except ObjectArchived:
        if request.thaw is None:
            raise
        tiers.make_readable(store, tiers.read_by_planning(state), request.thaw, partial(_note, progress))
        return _planned(store, state, request, cut=cut)


def _in_order(plan: RestorePlan, state: ArchiveState) -> RestorePlan:
    """With the tables' statements as servers take them in any order of the tables."""
    flavor = state.identity.flavor if state.identity else None
    schemas = in_place({(t.db, t.table): t.schema for t in plan.tables}, flavor)
    return replace(plan, tables=tuple(replace(t, schema=schemas[t.db, t.table]) for t in plan.tables))


def restore(store: Store, state: ArchiveState, request: RestoreRequest, progress: Report = unreported) -> RestoreResult:
    """Write the tables at the target in the format that the request's options name.

    A snapshot with a damaged object is passed over for an older one, with a warning in the plan. Raises TargetError,
    ArchiveDamaged, StoreFull (the output's disk), NoSpace (the scratch directory's, or the memory
    limit), ConfigError (an output directory that isn't empty, a resume of another restore) and StoreError; nothing is left
    behind then but what `resume` asks for.
    """
    if request.dry_run:
        plan = _planned(store, state, request)
        if request.options.format == "sql":
            _stories(store, state, plan, request)
        away = tiers.notes(tiers.held_back(store, tiers.read_by(plan)))
        return RestoreResult(replace(plan, warnings=(*plan.warnings, *away)), None, ())
    if request.output is None:
        raise ConfigError(
            "a restore needs an output directory", hint="Give `--output DIR`, or `--dry-run` for the plan."
        )
    output = request.output.absolute()
    plan = _planned_thawed(store, state, request, _begun(output, state, request), progress)
    if plan.exclusion is not None:
        plan.exclusion.check()
    with building(output, resume=request.resume) as directory, _scratch(request.scratch_dir) as scratch:
        run = _Run(
            store, state, request, directory, scratch, Journal(directory, _header(state, request, plan.cut)), progress
        )
        damaged: dict[str, str] = {}
        try:
            while True:
                _check_space(plan, scratch, directory)
                tiers.make_readable(store, tiers.read_by(plan), request.thaw, partial(_note, progress))
                try:
                    tables, resumed, files = _write(run, plan)
                    break
                except _BadObject as bad:
                    plan = _without(bad, store, state, request, damaged, plan.cut)
                    progress(RestoreProgress(note=f"going back to an older snapshot: {bad.error.message}"))
                    _empty(scratch)
                    run.journal.tidy()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise output_full(f"no space left while writing `{output}`") from error
            raise
    return RestoreResult(plan, output, tables, resumed, files)


def _header(state: ArchiveState, request: RestoreRequest, cut: Cut) -> dict[str, Any]:
    """What must be the same for a restore to go on, and the cut that its target meant."""
    identity = state.identity
    return {
        "format": journals.FORMAT,
        "server": [identity.flavor, identity.server_uuid, identity.server_id] if identity else [],
        "target": request.to,
        "tables": {"tables": sorted(request.tables), "exclude": sorted(request.exclude)},
        "except": [*sorted(request.leave_out), request.except_conflicts] if request.leave_out else None,
        "rename": sorted(request.rename) or None,
        "events_disabled": request.events_disabled,
        "options": request.options.to_json(),
        "cut": asdict(cut),
    }


def _begun(output: Path, state: ArchiveState, request: RestoreRequest) -> Cut | None:
    """The cut of the restore to go on with: `latest` means what it meant then. Raises ConfigError if it was another one."""
    left = output.with_name(output.name + ".partial")
    header = journals.header_of(left) if request.resume else None
    if header is None:
        return None
    cut = Cut(**header["cut"])
    journals.check_same(header, _header(state, request, cut), left)
    return cut


def _without(
    bad: _BadObject, store: Store, state: ArchiveState, request: RestoreRequest, damaged: dict[str, str], cut: Cut
) -> RestorePlan:
    """The plan that does without the snapshot with this object, which is added to `damaged`. Raises the object's own error
    if there is none: a change segment, or the last snapshot that serves."""
    owner = next(
        (s.snapshot_id for s in state.snapshots for b in s.baselines if any(o.path == bad.key for o in b.objects)), None
    )
    if owner is None:
        raise bad.error
    damaged[owner] = bad.error.message
    try:
        return _planned(store, state, request, damaged, cut)
    except (TargetError, UnknownTable) as error:
        raise bad.error from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def _locate(
    store: Store,
    state: ArchiveState,
    cut_seq: int,
    damaged: Collection[str] = (),
    before_seq: int | None = None,
) -> dict[str, SnapshotRange]:
    """Snapshots' places in the stream, newest first, until those that serve the cut hold every table there is. before_seq:
    of a transaction that they mustn't hold."""
    ranges: dict[str, SnapshotRange] = {}
    missing = {(b.db, b.table) for s in state.snapshots for b in s.baselines}
    for snapshot in reversed(state.snapshots):
        if snapshot.snapshot_id in damaged:
            continue
        found = locate_snapshot(store, state, snapshot)
        ranges[snapshot.snapshot_id] = found
        serves = found.high_seq is not None and found.high_seq <= cut_seq and not found.before_start
        serves = serves and (before_seq is None or (found.high_seq or 0) < before_seq)
        if serves and not state.gaps:
            # A table without a key may need an older snapshot; one with a key takes this.
            missing -= {(b.db, b.table) for b in snapshot.baselines if b.definition.key or snapshot.mode == "brief"}
        if not missing:
            break
    return ranges


def _definitions(store: Store, state: ArchiveState, ranges: Collection[str]) -> dict[str, Known]:
    """What these snapshots say of views, triggers, routines and events; a reason where that can't be read. Tables are
    restored all the same."""
    found: dict[str, Known] = {}
    for snapshot in state.snapshots:
        if snapshot.snapshot_id in ranges and snapshot.definitions is not None:
            try:
                found[snapshot.snapshot_id] = read_definitions(store, snapshot.definitions)
            except ArchiveDamaged as error:
                found[snapshot.snapshot_id] = error.message
    return found


def _time_warnings(state: ArchiveState, target: Target) -> list[str]:
    if target.kind == "time" and state.identity is not None and state.identity.flavor == "mariadb":
        return ["this source logs commit times in whole seconds; name a GTID to cut between transactions of one second"]
    return []


def _stop_warnings(state: ArchiveState, target: Target, cut: Cut) -> list[str]:
    """For `latest`, where the stream is known to go on behind it: what is restored isn't what the source holds now."""
    gap = missing_after(state, cut) if target.kind == "latest" else None
    if gap is None:
        return []
    where, known = f"{gap.from_file}:{gap.from_position}", format_us(known_until(state, gap))
    what = f"capture stopped at {where} ({gap.reason}): nothing after it is in the archive"
    return [f"{what}, and the source's state is known up to {known} only"]


class _BadObject(Exception):
    """An object that isn't what the log recorded; error: what to raise if there is no way around it."""

    def __init__(self, key: str, error: ArchiveDamaged) -> None:
        super().__init__(str(error))
        self.key, self.error = key, error


# --- running the plan -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """What a running restore works with."""

    store: Store
    state: ArchiveState
    request: RestoreRequest
    directory: Path
    scratch: Path
    journal: Journal
    progress: Report


def _write(run: _Run, plan: RestorePlan) -> tuple[tuple[TableFiles, ...], tuple[str, ...], tuple[FileRecord, ...]]:
    """The tables in name order, the labels of those that were there, and the other files."""
    flavor = run.state.identity.flavor if run.state.identity else None
    writer = writer_for(run.request.options, run.directory, [(t.db, t.table) for t in plan.tables], flavor)
    told = _stories(run.store, run.state, plan, run.request) if run.request.options.format == "sql" else {}
    writer.objects(plan.objects)
    for db, create_statement in plan.databases:
        writer.database(db, create_statement)
    derived = [_derived(run, d) for d in plan.derivations]
    tables: list[TableFiles] = []
    resumed: list[str] = []
    with Merger(run.scratch, run.request.memory_limit_bytes) as merger:
        for table in plan.tables:
            facts = {"snapshot_id": table.snapshot_id, "low_seq": table.low_seq, "high_seq": table.high_seq}
            note = partial(_note, run.progress)
            kept = run.journal.finished(f"table {table.label}", facts, note)
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
    document = manifests.manifest(run.state, plan, run.request.options, tables, run.directory)
    failpoint("restore.manifest")
    run.journal.close()
    manifests.write(run.directory, document)
    files = [*(FileRecord.from_json(f) for f in document["files"]), described(run.directory, manifests.NAME)]
    return tuple(tables), tuple(resumed), tuple(files)


def _note(progress: Report, text: str) -> None:
    progress(RestoreProgress(note=text))


class _Reporter(Protocol):
    def __call__(self, rows: int, size_bytes: int, done: bool = False) -> None: ...


def _reporter(progress: Report, label: str, before: int, total: int) -> _Reporter:
    def report(rows: int, size_bytes: int, done: bool = False) -> None:
        progress(RestoreProgress(label, before + done, total, rows, size_bytes, done))

    return report


def _write_table(
    run: _Run,
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


def _stories(
    store: Store, state: ArchiveState, plan: RestorePlan, request: RestoreRequest
) -> dict[tuple[str, str], Story]:
    low_seq = min((t.low_seq for t in plan.tables), default=plan.cut.seq)
    return stories(state, plan, straddling(store, state, low_seq, plan.cut.seq), parse_renames(request.rename))


def _write_changes(run: _Run, writer: SqlWriter, told: Mapping[tuple[str, str], Story], tables: int) -> None:
    facts = {t.label: [t.snapshot_id, t.high_seq] for t in (s.table for s in told.values())}
    kept = run.journal.finished("the changes", facts, partial(_note, run.progress))
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


def _derived(run: _Run, of: Derivation) -> _DerivedFiles:
    """Work out what unlogged foreign keys did. Raises NotComputable, ArchiveDamaged and _BadObject."""
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
        _note(run.progress, f"table {name[0]}.{name[1]}: {len(changes)} changes by foreign keys derived")
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
    """Copy an object to a local file and check the copy against the log. Raises _BadObject with the ArchiveDamaged that
    names it."""
    hint = "Bring it back from the store's own versioning or a copy, or restore other tables with `--tables`."
    try:
        store.download(key, path)
    except ObjectNotFound as error:
        raise _BadObject(key, ArchiveDamaged(f"object `{key}` is missing from the archive", hint=hint)) from error
    except StoreFull as error:  # the local side of the copy
        raise _no_space(f"no space left in `{path.parent}` for a copy of `{key}`") from error
    with path.open("rb") as copy:
        digest = hashlib.file_digest(copy, "sha256").hexdigest()
    if digest != sha256:
        path.unlink()
        text = f"object `{key}` doesn't have the bytes that were recorded for it"
        raise _BadObject(key, ArchiveDamaged(text, hint=hint))
    return path


@contextlib.contextmanager
def _scratch(parent: Path | None) -> Iterator[Path]:
    try:
        path = Path(tempfile.mkdtemp(prefix="rowback-restore-", dir=parent))
    except OSError as error:
        raise ConfigError(
            f"no scratch directory can be made in `{parent or tempfile.gettempdir()}`: {error.strerror}",
            hint="Name a writable directory with `--scratch`.",
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _check_space(plan: RestorePlan, scratch: Path, output: Path) -> None:
    """Refuse early what surely doesn't fit: copies of the largest table, and the dump, which is no smaller than the
    compressed baseline. What is estimated too low still ends in an error, later."""
    largest = max((t.size_bytes for t in plan.tables), default=0) + sum(d.size_bytes for d in plan.derivations)
    dump = sum(o.size_bytes for t in plan.tables for o in t.objects) // 2
    shared = scratch.stat().st_dev == output.stat().st_dev
    free = shutil.disk_usage(output).free
    if free < (needed := dump + (largest if shared else 0)):
        raise output_full(f"`{output.parent}` has {free} bytes free, and the restore needs at least {needed}")
    free = shutil.disk_usage(scratch).free
    if not shared and free < largest:
        raise _no_space(f"`{scratch.parent}` has {free} bytes free, and the restore's copies need at least {largest}")


def _no_space(message: str) -> NoSpace:
    return NoSpace(message, hint="Free some space there, or name another directory with `--scratch` (or TMPDIR).")
