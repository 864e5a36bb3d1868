"""Restore: resolve the target, plan, fetch and verify, merge, write. Never touches a database server.

Promises: the directory appears whole or not at all (it is built beside as DIR.partial and renamed); an object that
isn't what the log recorded stops the restore with its name (ArchiveDamaged); only verified local copies are read. A
dry run returns the very plan that a run walks, and refuses what it would refuse. With resume, tables that an interrupted
run finished aren't written again, after their files' digests are checked (recovery/output/journal.py).
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from recovery import tiers
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ConfigError, ObjectArchived
from recovery.except_report import REFUSE
from recovery.folding import around_damage, check_scratch, note, scratch_folder
from recovery.output import journal as journals
from recovery.output.building import building, output_full
from recovery.output.files import FileRecord, TableFiles
from recovery.output.journal import Journal
from recovery.output.options import OutputOptions
from recovery.output.report import Report, unreported
from recovery.output.writers import check_definitions
from recovery.planning import plan_for
from recovery.program import in_place
from recovery.rehearsal import Room, rehearsed
from recovery.rename import parse_renames, renamed
from recovery.restore_plan import RestorePlan
from recovery.sequence_rows import with_sequences
from recovery.sizes import DEFAULT_MEMORY_LIMIT_BYTES
from recovery.target import Cut
from recovery.writing import Run, stories_of, write


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


def _planned(
    store: Store,
    state: ArchiveState,
    request: RestoreRequest,
    damaged: Mapping[str, str] = MappingProxyType({}),
    cut: Cut | None = None,
) -> RestorePlan:
    renames = parse_renames(request.rename, state.stored_name)
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
        tiers.make_readable(store, tiers.read_by_planning(state), request.thaw, partial(note, progress))
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
        return RestoreResult(_rehearsed(store, state, request, progress), None, ())
    if request.output is None:
        raise ConfigError(
            "a restore needs an output directory", hint="Give `--output DIR`, or `--dry-run` for the plan."
        )
    output = request.output.absolute()
    plan = _planned_thawed(store, state, request, _begun(output, state, request), progress)
    if plan.exclusion is not None:
        plan.exclusion.check()
    with building(output, resume=request.resume) as directory, scratch_folder(request.scratch_dir) as scratch:
        journal = Journal(directory, _header(state, request, plan.cut))
        renames, limit_bytes = parse_renames(request.rename, state.stored_name), request.memory_limit_bytes
        run = Run(store, state, request.options, renames, limit_bytes, directory, scratch, journal, progress)

        def make(plan: RestorePlan) -> RestoreResult:
            _check_space(plan, scratch, directory)
            tiers.make_readable(store, tiers.read_by(plan), request.thaw, partial(note, progress))
            journal.tidy()
            plan, statements = with_sequences(store, plan)
            return RestoreResult(plan, output, *write(run, plan, statements))

        try:
            replan = partial(_planned, store, state, request)
            return around_damage(state, plan, scratch, replan, progress, make)[1]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise output_full(f"no space left while writing `{output}`") from error
            raise


def _rehearsed(store: Store, state: ArchiveState, request: RestoreRequest, progress: Report) -> RestorePlan:
    """The plan of a dry run. What can't be read now, or is refused for its conflicts, isn't rehearsed."""
    plan = _planned(store, state, request)
    check_definitions(request.options, [(t.schema, t.label) for t in plan.tables])
    if request.options.format == "sql":
        stories_of(store, state, plan, parse_renames(request.rename, state.stored_name))
    away = tiers.notes(tiers.held_back(store, tiers.read_by(plan)))
    if away or (plan.exclusion is not None and plan.exclusion.refused):
        return replace(plan, warnings=(*plan.warnings, *away))
    room = Room(request.memory_limit_bytes, request.scratch_dir)
    plan = rehearsed(store, state, plan, room, partial(_planned, store, state, request), progress)
    return with_sequences(store, plan)[0]


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


def _check_space(plan: RestorePlan, scratch: Path, output: Path) -> None:
    """Refuse early what surely doesn't fit: copies of the largest table, and the dump, which is no smaller than the
    compressed baseline. What is estimated too low still ends in an error, later."""
    dump = sum(o.size_bytes for t in plan.tables for o in t.objects) // 2
    shared = scratch.stat().st_dev == output.stat().st_dev
    free = shutil.disk_usage(output).free
    if free < (needed := dump + (plan.largest_bytes if shared else 0)):
        raise output_full(f"`{output.parent}` has {free} bytes free, and the restore needs at least {needed}")
    if not shared:
        check_scratch(plan, scratch)
