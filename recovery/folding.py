"""A plan's tables folded: objects fetched and verified, then merged stage by stage up to the cut.

Promises: only copies with the recorded bytes are read; BadObject names the others.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import pyarrow.parquet as pq

from recovery.archive.actions import DataObject, Segment
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.convert import check_rows, convert, finished
from recovery.derive_files import Files, derived_changes, write_changes
from recovery.derive_plan import Derivation
from recovery.errors import ArchiveDamaged, ConfigError, NoSpace, ObjectNotFound, StoreFull, TargetError, UnknownTable
from recovery.except_checks import check_undone
from recovery.merge import MergedTable, Merger
from recovery.output.report import Report, RestoreProgress
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.target import Cut

T = TypeVar("T")


class BadObject(Exception):
    """An object that isn't what the log recorded; error: what to raise if there is no way around it."""

    def __init__(self, key: str, error: ArchiveDamaged) -> None:
        super().__init__(str(error))
        self.key, self.error = key, error


def note(progress: Report, text: str) -> None:
    progress(RestoreProgress(note=text))


@dataclass(frozen=True)
class DerivedFiles:
    """Change segments of what foreign keys did, by table."""

    of: Derivation
    files: Mapping[tuple[str, str], Path]

    def file(self, table: TablePlan) -> Path | None:
        if table.origin is None or table.snapshot_id != self.of.snapshot_id:
            return None
        return self.files.get(table.origin)


def derived_files(store: Store, scratch: Path, of: Derivation, progress: Report) -> DerivedFiles:
    """Work out what unlogged foreign keys did. Raises NotComputable, ArchiveDamaged and BadObject."""
    folder = Path(tempfile.mkdtemp(prefix="derived-", dir=scratch))
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
        note(progress, f"table {name[0]}.{name[1]}: {len(changes)} changes by foreign keys derived")
    return DerivedFiles(of, written)


@dataclass(frozen=True)
class Folding:
    """What a plan's tables are folded with. scratch: for copies of objects, and rows between stages; derived: of all."""

    store: Store
    merger: Merger
    scratch: Path
    derived: Sequence[DerivedFiles]

    def rows(self, table: TablePlan, counter: Counter) -> MergedTable | None:
        """The table's rows at the cut, as it was defined then; None if it surely has none. Raises DdlInRange, BadObject,
        ArchiveDamaged and duckdb.Error as it comes."""
        merged = self.last_stage(table, counter)
        if merged is None:
            return None
        done = finished(merged, table.staged, (table.db, table.table))
        if table.corrections:
            check_undone(self.store, self.merger, done, table)
        return done

    def last_stage(self, table: TablePlan, counter: Counter) -> MergedTable | None:
        """The same under the definition of the last changes: statements behind them haven't been carried out, only checked.
        What was derived is of the first stage: it reaches no further than the first statement on the table."""
        added = [(d.of.high_seq, path) for d in self.derived if (path := d.file(table)) is not None]
        merged: MergedTable | None = None
        bases = [self._fetched(o, f"base-{n}") for n, o in enumerate(table.objects)]
        counting = table.staged.indexes(counter.column)
        for number, stage in enumerate(table.staged.stages):
            if merged is not None:
                converted = self.scratch / f"stage-{number}.parquet"
                convert(self.merger, merged, stage.definition, stage.sources, converted, stage.removed)
                for path in bases:
                    path.unlink()
                bases = [converted]
            segments = dict.fromkeys(stage.segments)
            changes = [self._fetched(s, f"change-{number}-{n}") for n, s in enumerate(segments)]
            high_seq, derives = stage.high_seq, number == 0 and bool(added)
            if derives:
                changes += [path for _, path in added]
                high_seq = max(high_seq, *(seq for seq, _ in added))
            if number in table.corrections:
                changes.append(self.scratch / f"correction-{number}.parquet")
                pq.write_table(table.corrections[number], changes[-1])
            merged = self.merger.merge(stage.definition, bases, changes, stage.low_seq, high_seq, derived=derives)
            counter.look(self.merger, stage.definition, counting[number])
        if merged is None:
            return None
        for index, check, ddl in table.staged.checks:
            check_rows(self.merger, merged, index, check, ddl, (table.db, table.table))
        return merged

    def _fetched(self, held: DataObject | Segment, name: str) -> Path:
        return fetch(self.store, held.path, held.sha256, self.scratch / f"{name}.parquet")


Replan: TypeAlias = Callable[[Mapping[str, str], Cut], RestorePlan]
"""The plan for the same cut that does without the damaged snapshots (snapshot_id: reason)."""


def around_damage(
    state: ArchiveState,
    plan: RestorePlan,
    scratch: Path,
    replan: Replan,
    progress: Report,
    run: Callable[[RestorePlan], T],
) -> tuple[RestorePlan, T]:
    """What `run` makes of the plan, or of one with older snapshots where it comes on a bad object; and that plan. Raises the
    object's own error if no snapshot goes around it."""
    damaged: dict[str, str] = {}
    while True:
        try:
            return plan, run(plan)
        except BadObject as bad:
            plan = _without(bad, state, damaged, partial(replan, damaged, plan.cut))
            note(progress, f"going back to an older snapshot: {bad.error.message}")
            emptied(scratch)


def _without(
    bad: BadObject, state: ArchiveState, damaged: dict[str, str], replan: Callable[[], RestorePlan]
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
        return replan()
    except (TargetError, UnknownTable) as error:
        raise bad.error from error


@contextlib.contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A folder for copies and spilled data, removed at the end. parent: None is the system's. Raises ConfigError, and
    NoSpace for an OSError that says so."""
    try:
        path = Path(tempfile.mkdtemp(prefix="rowback-restore-", dir=parent))
    except OSError as error:
        raise ConfigError(
            f"no scratch directory can be made in `{parent or tempfile.gettempdir()}`: {error.strerror}",
            hint="Name a writable directory with `--scratch`.",
        ) from error
    try:
        yield path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(f"no space left in `{path}`") from error
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)


def check_scratch(plan: RestorePlan, scratch: Path, more_bytes: int = 0) -> None:
    """Refuse early what surely doesn't fit. more_bytes: what is written there besides copies. Raises NoSpace."""
    free = shutil.disk_usage(scratch).free
    if free < plan.largest_bytes + more_bytes:
        raise no_space(
            f"`{scratch.parent}` has {free} bytes free, and copies of the largest table need at least {plan.largest_bytes}"
        )


def emptied(scratch: Path) -> None:
    """Take the copies away."""
    for path in scratch.glob("*.parquet"):
        path.unlink()


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
