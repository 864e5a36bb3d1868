"""The user's verbs, one function each: what every surface (command line, flows) calls, and what it renders.

Each takes a Context and a frozen request and returns a frozen result; none prints, exits or asks. Errors are those of
recovery.errors. (Starting a capture is recovery/capture_command.py's: it needs no Context.)

Importing this module costs nothing: a verb imports what does its work when it is called. A surface has all verbs in reach
and is asked for one, and DuckDB, sqlglot and the rest of a restore take a second that a `status` would wait for.
tests/test_start.py keeps it so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from recovery.errors import ArchiveMissing, ConfigError, RowbackError, StoreUnavailable, TargetOutsideCoverage
from recovery.gtid import is_gtid
from recovery.output.report import unreported as unwatched

if TYPE_CHECKING:
    from recovery.archive.compaction import CompactionPlan, Merge
    from recovery.archive.compactor import Compacted
    from recovery.archive.rebuild import IndexRebuilt, IndexReport
    from recovery.archive.state import ArchiveState
    from recovery.archive.sweeper import Sweeper, SweepResult
    from recovery.archive.sweeping import SweepPlan
    from recovery.changes import ChangeQuery, ChangesResult
    from recovery.checks import Check
    from recovery.context import Context
    from recovery.doctor import Report as DoctorReport
    from recovery.initialise import Initialised, InitRequest
    from recovery.output.report import Report as RestoreReport
    from recovery.replay import Replays
    from recovery.restore import RestoreRequest, RestoreResult
    from recovery.roll_forward import RollForwardRequest, RollForwardResult
    from recovery.snapshot.request import Progress as SnapshotProgress
    from recovery.snapshot.request import Report, SnapshotRequest, SnapshotResult
    from recovery.status import Live, Status
    from recovery.undo import UndoScript
    from recovery.verify_report import ArchiveReport

Progress = Callable[[str], None]


def silent(line: str) -> None:
    """Progress for callers that show none."""


def unreported(progress: SnapshotProgress) -> None:
    """The same for snapshots, whose progress has numbers."""


# --- looking ----------------------------------------------------------------------------------------------------------


def status(context: Context, *, ask_server: bool = True) -> Status:
    """What the archive covers. The server is asked for its newest position, and a capture on this machine that has a metrics
    port for its state; if one doesn't answer, the result says so."""
    from recovery import status as coverage
    from recovery.capture_process import capture_process
    from recovery.spooled import spool_folder, waiting

    spooled = waiting(
        spool_folder(context.server.spool_folder, context.store.url, context.archive.tenant, context.server.name)
    )
    try:
        state = context.log.read()
    except StoreUnavailable as error:
        if spooled is None:
            raise
        held = f"{spooled.windows} windows wait in the local spool `{spooled.folder}`, not yet safe. "
        raise StoreUnavailable(error.message, hint=held + error.hint) from error
    live, problem = _live(context, state) if ask_server else (None, "not asked to")
    process, process_problem = capture_process(context.settings.capture.metrics_port, context.server.name)
    return coverage.build(
        state,
        server=context.server.name,
        tenant=context.archive.tenant,
        archive=context.store.url,
        now=context.now(),
        live=live,
        live_problem=problem,
        process=process,
        process_problem=process_problem,
        spooled=spooled,
    )


def _live(context: Context, state: ArchiveState) -> tuple[Live | None, str | None]:
    from recovery import source
    from recovery.status import Live, bytes_behind

    try:
        settings = context.source()
        quick = _quick_timeout_s(settings.connect_timeout_s)
        with closing(source.connect(settings, connect_timeout=quick, read_timeout=quick)) as connection:
            position = source.binlog_status(connection)
            logs = source.fetch(connection, "SHOW BINARY LOGS") if position else []
    except RowbackError as error:
        return None, error.message
    if position is None:
        return None, "its binary log is off"
    behind = None
    if state.checkpoint is not None:
        sizes = [(str(row[0]), int(row[1])) for row in logs]
        behind = bytes_behind(sizes, state.checkpoint.file, state.checkpoint.position)
    return Live(*position, behind), None


def _quick_timeout_s(connect_timeout_s: int) -> int:
    """A status must not hang on a server that drops packets."""
    return min(connect_timeout_s, 5)


def doctor(context: Context, on_check: Callable[[Check], None] | None = None) -> DoctorReport:
    """Every check of source, tools and archive. Never raises for what it finds."""
    from recovery.doctor import examine

    return examine(context, on_check)


def initialise(request: InitRequest) -> Initialised:
    """Write a commented rowback.toml."""
    from recovery.initialise import write

    return write(request)


# --- taking -----------------------------------------------------------------------------------------------------------


def snapshot(context: Context, request: SnapshotRequest, progress: Report = unreported) -> SnapshotResult:
    """Take a snapshot and commit it to the archive."""
    from recovery.snapshot.take import take_snapshot

    return take_snapshot(
        context.source(), context.store, context.layout, context.log, request, now=context.now, progress=progress
    )


# --- giving back ------------------------------------------------------------------------------------------------------


def table_name(state: ArchiveState, text: str) -> tuple[str, str]:
    """(database, table) of `db.table`. A name with dots in it is found if the archive holds it; backticks make it plain:
    `a.b`.`c.d`. Raises ConfigError for text without a dot; an unknown name is left to the operation to report."""
    from recovery.changes import known_tables

    known, text = known_tables(state), state.stored_name(text)
    if text.startswith("`"):
        parts = [part.replace("``", "`") for part in text[1:-1].split("`.`")]
        if len(parts) == 2 and text.endswith("`"):
            return parts[0], parts[1]
    splits = [(text[:at], text[at + 1 :]) for at, char in enumerate(text) if char == "."]
    splits = [pair for pair in splits if all(pair)]
    if not splits:
        raise ConfigError(f"`{text}` is no table's name", hint="Write database.table, for example shop.orders.")
    found = [pair for pair in splits if pair in known]
    if len(found) > 1:
        raise ConfigError(f"`{text}` may be several tables", hint="Put both names in backticks: '`a.b`.`c`'.")
    return found[0] if found else splits[0]


def read_archive(context: Context) -> ArchiveState:
    """The archive's state. Raises ArchiveMissing when nothing was ever committed there."""
    state = context.log.read()
    if state.version == 0:
        raise _no_archive(context)
    return state


def _no_archive(context: Context) -> ArchiveMissing:
    return ArchiveMissing(
        f"no archive of server `{context.server.name}` at `{context.store.url}`",
        hint="Start `rowback capture` first, or check `root` and `tenant` under [archive] in rowback.toml.",
    )


def changes(context: Context, table: str, query: ChangeQuery) -> ChangesResult:
    """The change history of a table. query.table is taken from `table`."""
    from recovery import changes as history

    state = read_archive(context)
    return history.changes(context.store, state, replace(query, table=table_name(state, table)))


def restore(context: Context, request: RestoreRequest, progress: RestoreReport = unwatched) -> RestoreResult:
    """The tables at the target in a directory, in the request's format; with dry_run the plan alone."""
    from recovery import restore as restoring

    with _replays(context, request, progress) as replays:
        return replays.run(lambda store, state: restoring.restore(store, state, request, progress))


def roll_forward(
    context: Context, request: RollForwardRequest, progress: RestoreReport = unwatched
) -> RollForwardResult:
    """The tables at the target as a new snapshot, made without the source; with dry_run the plan alone."""
    from recovery import roll_forward as rolling

    archive = context.store, context.layout, context.log
    with _replays(context, request, progress) as replays:
        return replays.run(
            lambda store, state: rolling.roll_forward(
                store, state, *archive, request, now=context.now, progress=progress
            )
        )


def _replays(context: Context, request: RestoreRequest | RollForwardRequest, progress: RestoreReport) -> Replays:
    """The archive, with statements replayed where that is needed and a scratch server is configured."""
    from recovery.replay import ReplayOptions, Replays

    options = ReplayOptions(request.dry_run, request.memory_limit_bytes, request.scratch_dir, request.thaw)
    state = read_archive(context)
    return Replays(context.store, state, context.layout, context.scratch, options, context.now, progress)


def undo(context: Context, table: str, query: ChangeQuery) -> UndoScript:
    """The inverse of the selected changes. query.table is taken from `table`. Nothing is applied anywhere."""
    from recovery import undo as undoing

    state = read_archive(context)
    return undoing.undo(context.store, state, replace(query, table=table_name(state, table)))


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def just_before(context: Context, gtid: str) -> str:
    """The target that stands for "everything up to the transaction before this one": where it starts in the binlog."""
    from recovery.archive.segments import read_transactions
    from recovery.seqrange import seq_of_gtid

    hint = "`rowback changes` shows the GTID of each change; for the state at a time give `--to`."
    if not is_gtid(gtid) or _is_time(gtid):  # a date has the form of a MariaDB GTID
        raise ConfigError(f"`{gtid}` is no GTID", hint=hint)
    state = read_archive(context)
    try:
        seq = seq_of_gtid(context.store, state, gtid)
    except TargetOutsideCoverage as error:
        raise TargetOutsideCoverage(error.message, hint=hint) from error
    segments = [s for s in state.transactions if s.first_seq <= seq <= s.last_seq]
    for rows in read_transactions(context.store, segments):
        row = rows.slice(seq - segments[0].first_seq, 1).to_pylist()[0]
        return f"{row['binlog_file']}:{row['start_position']}"
    raise TargetOutsideCoverage(f"transaction `{gtid}` is not in the archive", hint="See `rowback status`.")


# --- upkeep -----------------------------------------------------------------------------------------------------------


def index_show(context: Context) -> IndexReport:
    """The archive's indexes, each read and checked."""
    from recovery.archive.rebuild import examine

    report = examine(context.log, context.server.name)
    if not report.log_version:
        raise _no_archive(context)
    return report


def index_rebuild(context: Context, on_version: Callable[[int], None] = lambda _: None) -> IndexRebuilt:
    """A new index at the log's head, made from the log alone. on_version: told how far the fold is."""
    from recovery.archive.rebuild import rebuild

    if not context.log.newest():
        raise _no_archive(context)
    return rebuild(context.log, context.server.name, on_version)


def compact_plan(context: Context) -> CompactionPlan:
    """What `compact` would do now."""
    from recovery.archive.compaction import plan_compaction

    return plan_compaction(read_archive(context))


def compact(context: Context, on_merge: Callable[[Merge, int], None] = lambda merge, size: None) -> Compacted:
    """Small segments of hours that are over become larger ones. on_merge: told of each new file and the bytes read."""
    from recovery.archive.compactor import Compactor

    compactor = Compactor(context.store, context.layout, context.log, on_merge=on_merge)
    return compactor.run(read_archive(context))


def verify_archive(
    context: Context, *, quick: bool = False, progress: Callable[[str, int, int], None] = lambda *_: None
) -> ArchiveReport:
    """Proof from the bucket alone that the archive is whole. Damage is in the result. progress: told phase, done, total."""
    from recovery import verify as verification

    if not context.log.newest():
        raise _no_archive(context)
    return verification.verify_archive(context.store, context.layout, context.log, quick=quick, progress=progress)


def sweep_plan(context: Context, *, grace_hours: float = 24) -> SweepPlan:
    """What `sweep` would delete now."""
    read_archive(context)
    return _sweeper(context, grace_hours, silent).plan()


def sweep(context: Context, *, grace_hours: float = 24, on_delete: Progress = silent) -> SweepResult:
    """Delete what compaction removed and attempts left, once the grace time is over, and trim the log."""
    read_archive(context)
    return _sweeper(context, grace_hours, on_delete).run()


def _sweeper(context: Context, grace_hours: float, on_delete: Progress) -> Sweeper:
    from recovery.archive.sweeper import Sweeper

    return Sweeper(context.store, context.layout, context.log, timedelta(hours=grace_hours), on_delete)
