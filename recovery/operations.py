"""The user's verbs, one function each: what every surface (command line, flows) calls, and what it renders.

Each takes a Context and a frozen request and returns a frozen result; none prints, exits or asks. Errors are those of
recovery.errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from recovery import changes as change_history
from recovery import doctor as doctor_checks
from recovery import initialise as initialisation
from recovery import restore as restoring
from recovery import roll_forward as rolling
from recovery import seqrange, source
from recovery import status as coverage
from recovery import undo as undoing
from recovery import verify as verification
from recovery.archive import rebuild as indexing
from recovery.archive.compaction import CompactionPlan, Merge, plan_compaction
from recovery.archive.compactor import Compacted, Compactor
from recovery.archive.rebuild import IndexRebuilt, IndexReport
from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.sweeper import Sweeper, SweepResult
from recovery.archive.sweeping import SweepPlan
from recovery.capture_process import capture_process
from recovery.changes import ChangeQuery, ChangesResult
from recovery.checks import Check
from recovery.context import Context
from recovery.doctor import Report as DoctorReport
from recovery.errors import ArchiveMissing, ConfigError, RowbackError, StoreUnavailable, TargetOutsideCoverage
from recovery.gtid import is_gtid
from recovery.initialise import Initialised, InitRequest
from recovery.output.report import Report as RestoreReport
from recovery.output.report import unreported as unwatched
from recovery.replay import ReplayOptions, Replays
from recovery.restore import RestoreRequest, RestoreResult
from recovery.roll_forward import RollForwardRequest, RollForwardResult
from recovery.snapshot import SnapshotRequest, SnapshotResult, take_snapshot
from recovery.snapshot.request import Progress as SnapshotProgress
from recovery.snapshot.request import Report
from recovery.spooled import spool_folder, waiting
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
        behind = coverage.bytes_behind(sizes, state.checkpoint.file, state.checkpoint.position)
    return Live(*position, behind), None


def _quick_timeout_s(connect_timeout_s: int) -> int:
    """A status must not hang on a server that drops packets."""
    return min(connect_timeout_s, 5)


def doctor(context: Context, on_check: Callable[[Check], None] | None = None) -> DoctorReport:
    """Every check of source, tools and archive. Never raises for what it finds."""
    return doctor_checks.examine(context, on_check)


def initialise(request: InitRequest) -> Initialised:
    """Write a commented rowback.toml."""
    return initialisation.write(request)


# --- taking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CaptureRequest:
    """Where the first start begins (later ones go on at the archive's checkpoint) and when to end. At most one of
    from_gtid, from_position and from_earliest. skip_gap: go on behind the gap that the archive ends in. window_seconds:
    None takes the server section's. servers: several at once, their names; empty for the context's. workers: threads that
    share them; process_id and addresses (`host:port` of each process, the same for all): one of several processes that do.
    metrics_port: None takes the settings' (plus process_id).
    json_errors: an error goes to stderr as a JSON object."""

    until_caught_up: bool = False
    window_seconds: float | None = None
    from_gtid: str | None = None
    from_position: str | None = None
    from_earliest: bool = False
    skip_gap: bool = False
    json_errors: bool = False
    servers: tuple[str, ...] = ()
    workers: int = 1
    process_id: int | None = None
    addresses: tuple[str, ...] = ()
    metrics_port: int | None = None


@dataclass(frozen=True)
class Command:
    """A process to become: argv without secrets, and what to add to the environment."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def capture_command(context: Context, request: CaptureRequest) -> Command:
    """The dataflow as a process of its own. Raises ConfigError for arguments that don't fit together and for a password
    that can't be had, before anything starts."""
    begins = [name for name in ("from_gtid", "from_position", "from_earliest") if getattr(request, name)]
    if len(begins) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in begins)
        raise ConfigError(f"{options} can't be given together", hint="Give one place to begin.")
    if request.from_position is not None:
        file, _, position = request.from_position.rpartition(":")
        if not file or not position.isdigit():
            raise ConfigError(
                f"`{request.from_position}` is no binlog position",
                hint="Write FILE:POSITION, for example binlog.000007:4.",
            )
    servers = request.servers or (context.server.name,)
    _check_shared(request, servers)
    for name in servers:
        context.settings.server(name)
    argv = [sys.executable, "-P", "-m", "dataflow.run"]
    for name in servers:
        argv += ["--server", name]
    if context.settings.path is not None:
        argv += ["--config", str(context.settings.path)]
    if request.until_caught_up:
        argv.append("--until-caught-up")
    if request.window_seconds is not None:
        argv += ["--window-seconds", f"{request.window_seconds:g}"]
    if request.from_gtid is not None:
        argv += ["--from-gtid", request.from_gtid]
    if request.from_position is not None:
        argv += ["--from-position", request.from_position]
    if request.from_earliest:
        argv.append("--from-earliest")
    if request.skip_gap:
        argv.append("--skip-gap")
    if request.json_errors:
        argv += ["--format", "json"]
    if request.workers > 1:
        argv += ["--workers", str(request.workers)]
    if request.process_id is not None:
        argv += ["--process-id", str(request.process_id), "--addresses", ",".join(request.addresses)]
    port = request.metrics_port
    if port is None and context.settings.capture.metrics_port is not None and not request.until_caught_up:
        port = context.settings.capture.metrics_port + (request.process_id or 0)
    if port is not None:
        argv += ["--metrics-port", str(port)]
    return Command(tuple(argv), _environment())


def _check_shared(request: CaptureRequest, servers: tuple[str, ...]) -> None:
    """Raises ConfigError where options for one server meet several, and for a half or wrong description of processes."""
    if len(set(servers)) < len(servers):
        raise ConfigError("a server is named twice", hint="Name each server once.")
    one = request.from_gtid or request.from_position or request.from_earliest or request.skip_gap
    if one and len(servers) > 1:
        raise ConfigError(
            "--from-... and --skip-gap are for one server at a time",
            hint="Run that server's first capture alone with --until-caught-up, then all of them together.",
        )
    addresses, number = request.addresses, request.process_id
    if (number is None) != (not addresses):
        raise ConfigError(
            "--process-id and --addresses go together",
            hint="Give every process the same --addresses HOST:PORT,HOST:PORT and its own --process-id from 0 on.",
        )
    if number is None:
        return
    if any(not host or not port.isdigit() for host, _, port in (a.rpartition(":") for a in addresses)):
        raise ConfigError(f"`{','.join(addresses)}` are no addresses", hint="Write HOST:PORT,HOST:PORT.")
    if not 0 <= number < len(addresses):
        raise ConfigError(
            f"--process-id {number} is none of the {len(addresses)} processes", hint="They count from 0 on."
        )


def _environment() -> dict[str, str]:
    """Bytewax's engine prints a backtrace of its own on every error unless told not to.

    -P keeps a folder named like a package of ours in the working directory from being run instead. A checkout that is
    not installed then needs its root named.
    """
    root = Path(__file__).resolve().parent.parent
    quiet = {"RUST_BACKTRACE": "0"}
    if "site-packages" in root.parts:
        return quiet
    return quiet | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))}


def snapshot(context: Context, request: SnapshotRequest, progress: Report = unreported) -> SnapshotResult:
    """Take a snapshot and commit it to the archive."""
    return take_snapshot(
        context.source(), context.store, context.layout, context.log, request, now=context.now, progress=progress
    )


# --- giving back ------------------------------------------------------------------------------------------------------


def table_name(state: ArchiveState, text: str) -> tuple[str, str]:
    """(database, table) of `db.table`. A name with dots in it is found if the archive holds it; backticks make it plain:
    `a.b`.`c.d`. Raises ConfigError for text without a dot; an unknown name is left to the operation to report."""
    known = change_history.known_tables(state)
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
    state = read_archive(context)
    return change_history.changes(context.store, state, replace(query, table=table_name(state, table)))


def restore(context: Context, request: RestoreRequest, progress: RestoreReport = unwatched) -> RestoreResult:
    """The tables at the target in a directory, in the request's format; with dry_run the plan alone."""
    with _replays(context, request, progress) as replays:
        return replays.run(lambda store, state: restoring.restore(store, state, request, progress))


def roll_forward(
    context: Context, request: RollForwardRequest, progress: RestoreReport = unwatched
) -> RollForwardResult:
    """The tables at the target as a new snapshot, made without the source; with dry_run the plan alone."""
    archive = context.store, context.layout, context.log
    with _replays(context, request, progress) as replays:
        return replays.run(
            lambda store, state: rolling.roll_forward(
                store, state, *archive, request, now=context.now, progress=progress
            )
        )


def _replays(context: Context, request: RestoreRequest | RollForwardRequest, progress: RestoreReport) -> Replays:
    """The archive, with statements replayed where that is needed and a scratch server is configured."""
    options = ReplayOptions(request.dry_run, request.memory_limit_bytes, request.scratch_dir, request.thaw)
    state = read_archive(context)
    return Replays(context.store, state, context.layout, context.scratch, options, context.now, progress)


def undo(context: Context, table: str, query: ChangeQuery) -> UndoScript:
    """The inverse of the selected changes. query.table is taken from `table`. Nothing is applied anywhere."""
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
    hint = "`rowback changes` shows the GTID of each change; for the state at a time give `--to`."
    if not is_gtid(gtid) or _is_time(gtid):  # a date has the form of a MariaDB GTID
        raise ConfigError(f"`{gtid}` is no GTID", hint=hint)
    state = read_archive(context)
    try:
        seq = seqrange.seq_of_gtid(context.store, state, gtid)
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
    report = indexing.examine(context.log, context.server.name)
    if not report.log_version:
        raise _no_archive(context)
    return report


def index_rebuild(context: Context, on_version: Callable[[int], None] = lambda _: None) -> IndexRebuilt:
    """A new index at the log's head, made from the log alone. on_version: told how far the fold is."""
    if not context.log.newest():
        raise _no_archive(context)
    return indexing.rebuild(context.log, context.server.name, on_version)


def compact_plan(context: Context) -> CompactionPlan:
    """What `compact` would do now."""
    return plan_compaction(read_archive(context))


def compact(context: Context, on_merge: Callable[[Merge, int], None] = lambda merge, size: None) -> Compacted:
    """Small segments of hours that are over become larger ones. on_merge: told of each new file and the bytes read."""
    compactor = Compactor(context.store, context.layout, context.log, on_merge=on_merge)
    return compactor.run(read_archive(context))


def verify_archive(
    context: Context, *, quick: bool = False, progress: verification.Progress = verification.silent
) -> ArchiveReport:
    """Proof from the bucket alone that the archive is whole. Damage is in the result."""
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
    return Sweeper(context.store, context.layout, context.log, timedelta(hours=grace_hours), on_delete)
