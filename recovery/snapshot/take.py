"""Taking a snapshot, from the plan to the commit.

Order of writes: baseline files of tables read by our own connection, the dump directory, its manifest, the other
baselines, the commit. Nothing is visible before the commit, so a failure anywhere leaves at worst objects that nothing
refers to. Promises: the staging folder is gone when this returns or raises, also on SIGTERM and KeyboardInterrupt; a table
that was altered or recreated meanwhile fails the snapshot. A TRUNCATE between the marks either makes the reader of that
table fail or is a DDL action between LOW and HIGH in the archive.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from recovery.archive.actions import Action, Baseline, Snapshot
from recovery.archive.definitions import Definition, write_definitions
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.config import ServerSettings
from recovery.errors import ConfigError, NoSpace, SnapshotError, SourceDiverged
from recovery.lowercase import lowered
from recovery.snapshot.baseline import BaselineWriter
from recovery.snapshot.coordinates import Clock, microseconds
from recovery.snapshot.dumpdir import DumpDirectory
from recovery.snapshot.dumper import find_dumper
from recovery.snapshot.objects import bare_databases, read_definitions, settled, unknown_definitions
from recovery.snapshot.plan import Pair, Plan, PlannedTable, fingerprint, make_plan
from recovery.snapshot.request import Progress, Report, SnapshotRequest, SnapshotResult
from recovery.snapshot.sequences import sequences_of, with_rows
from recovery.snapshot.upload import free_prefix, put_manifest, upload_directory
from recovery.snapshot.window import Reading, Source, read_source
from recovery.source import Connection, ServerInfo, check_names, connect, fetch, server_info

# A compressed dump is rarely larger than half of what the tables take on the server; the rest is watched while it runs.
_SPACE_SHARE: Final = 0.5
_SPACE_MIN: Final = 64 * 1024 * 1024
_PREFIX: Final = "rowback-snapshot-"
_OWNER: Final = "owner"  # holds the pid and the host
_LEFT_S: Final = 86_400.0


def take_snapshot(
    server: ServerSettings,
    store: Store,
    layout: Layout,
    log: Log,
    request: SnapshotRequest,
    *,
    now: Clock,
    progress: Report = lambda _: None,
) -> SnapshotResult:
    """Dump the requested tables, turn them into baselines and commit the snapshot to the log.

    Raises DumperMissing, DumperFailed, LockNotAcquired, NoSpace and other SnapshotErrors, SourceErrors (unreachable,
    access denied, a missing privilege with its GRANT, SourceDiverged for another server than the archive's),
    UnsupportedColumn, UnknownTable and the store's errors.
    """
    begin = time.monotonic()
    started_at = now()
    dumper = find_dumper()
    with _terminable(), _staging(request, started_at.timestamp()) as staging:
        progress(Progress("plan"))
        with closing(connect(server)) as connection:
            info = server_info(connection)
            begun = log.read()
            check_identity(begun, info)
            request = _as_stored(request, info)
            check_begun(begun)
            plan = make_plan(connection, info, server, request)
            _check_space(plan, staging)
            sql_mode = str(fetch(connection, "SELECT @@GLOBAL.sql_mode")[0][0])
            before = fingerprint(connection, [t.pair for t in plan.tables])
            databases = _databases(connection, server, request, plan)
            objects = read_definitions(connection, [db for db, _ in databases])
        snapshot_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"

        def writer(planned: PlannedTable) -> BaselineWriter:
            return BaselineWriter(store, layout, snapshot_id, planned.table, staging)

        source = Source(server, info, dumper, request, now, progress, sequences_of(objects))
        reading = read_source(source, plan, staging, writer)
        _check_unchanged(server, before, reading.plan)
        objects, hidden = _settle_objects(server, info, objects, databases)
        objects = with_rows(objects, reading.sequences)
        prefix = free_prefix(store, layout, started_at)
        files = upload_directory(store, prefix, reading.dump, progress)
        baselines = _load_baselines(reading, writer, progress)
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            mode=reading.mode,
            low=reading.low,
            high=reading.high,
            started_at_us=microseconds(started_at),
            finished_at_us=microseconds(now()),
            path=prefix,
            size_bytes=0,
            databases=databases,
            baselines=baselines,
            skipped=reading.plan.skipped,
            sql_mode=sql_mode,
            cascades=reading.plan.cascades,
            objects=reading.plan.objects,
            definitions=write_definitions(store, layout, snapshot_id, objects),
            scope=request.scope,
        )
        facts = _manifest(snapshot, reading, info, dumper.version_text, time.monotonic() - begin)
        snapshot = _sized(snapshot, put_manifest(store, prefix, files, facts))
        progress(Progress("commit", len(baselines), len(baselines)))
        state = log.commit(log.read(), lambda head: commit_actions(head, snapshot, info))
    return SnapshotResult(
        snapshot=snapshot,
        reason=reading.reason,
        lock_held_s=reading.lock_held_s,
        duration_s=time.monotonic() - begin,
        rows=sum(b.rows for b in baselines),
        dumper_version=dumper.version_text,
        server_version=info.version,
        log_version=state.version,
        warnings=(*_warnings(reading), *hidden),
    )


def _as_stored(request: SnapshotRequest, info: ServerInfo) -> SnapshotRequest:
    """With the names that the user gave as the server has them."""
    if info.lower_case_table_names != 1:
        return request
    tables, databases, exclude = (tuple(map(lowered, g)) for g in (request.tables, request.databases, request.exclude))
    return replace(request, tables=tables, databases=databases, exclude=exclude)


def check_begun(state: ArchiveState) -> None:
    """Raises SnapshotError before the first capture: the changes between such a snapshot and the stream's beginning would
    be missing, and no restore could ever start from it."""
    if state.checkpoint is None:
        raise SnapshotError(
            "capture has not begun: a snapshot taken before it could never be restored from",
            hint="Run `rowback capture` first (with --until-caught-up it ends by itself), then take the snapshot.",
        )


def check_identity(state: ArchiveState, info: ServerInfo) -> None:
    """Raises SourceDiverged if the archive belongs to another server, SourceMisconfigured if it compares names otherwise
    now."""
    check_names(state.lower_case_table_names, info)
    known = state.source
    if known is None:
        return
    same = known.flavor == info.flavor and (
        known.server_uuid == info.server_uuid if info.flavor == "mysql" else known.server_id == info.server_id
    )
    if not same:
        raise SourceDiverged(
            f"this archive belongs to the {known.flavor} server `{known.server_uuid or known.server_id}`, not to"
            f" `{info.server_uuid or info.server_id}`",
            hint="Check the server's host and port in rowback.toml, or give the new server a section of its own.",
        )


def commit_actions(head: ArchiveState, snapshot: Snapshot, info: ServerInfo) -> Sequence[Action]:
    """The snapshot, if the archive is still that of its server. Capture has written the identity."""
    check_identity(head, info)
    return [replace(snapshot, lineage=len(head.failovers))]


def _check_space(plan: Plan, staging: Path) -> None:
    need = int(plan.size_bytes * _SPACE_SHARE) + _SPACE_MIN
    free = shutil.disk_usage(staging).free
    if free < need:
        raise NoSpace(
            f"the staging folder `{staging.parent}` has {free} bytes free, and the dump may need {need}",
            hint="Free space there, or name a larger folder with --staging-dir (or TMPDIR).",
        )


def _check_unchanged(server: ServerSettings, before: dict[Pair, tuple[object, ...]], plan: Plan) -> None:
    """Raises SnapshotError if a table isn't what it was when the snapshot began."""
    pairs = [t.pair for t in plan.tables]
    with closing(connect(server)) as connection:
        after = fingerprint(connection, _still_there(connection, pairs))
    for pair in pairs:
        if before.get(pair) != after.get(pair):
            raise SnapshotError(
                f"table `{pair[0]}.{pair[1]}` was altered or recreated while the snapshot ran",
                hint="Take the snapshot again when the schema change is through.",
            )


def _databases(
    connection: Connection, server: ServerSettings, request: SnapshotRequest, plan: Plan
) -> tuple[tuple[str, str], ...]:
    """The plan's databases, and in a snapshot of everything those that have no table."""
    if request.tables or request.databases:
        return plan.databases

    def wants(db: str, name: str) -> bool:
        return server.wants(db, name) and request.scope.covers(db, name)

    return tuple(sorted((*plan.databases, *bare_databases(connection, wants, [db for db, _ in plan.databases]))))


def _settle_objects(
    server: ServerSettings, info: ServerInfo, before: Sequence[Definition], databases: Sequence[tuple[str, str]]
) -> tuple[tuple[Definition, ...], tuple[str, ...]]:
    """What is known of the databases' views, triggers, routines and events all the while, and warnings for the rest."""
    with closing(connect(server)) as connection:
        found = settled(before, read_definitions(connection, [db for db, _ in databases]))
        return found, tuple(unknown_definitions(connection, info, found))


def _still_there(connection: Connection, pairs: Sequence[Pair]) -> list[Pair]:
    rows = fetch(connection, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES")
    known = {(str(db), str(name)) for db, name in rows}
    return [pair for pair in pairs if pair in known]


def _load_baselines(reading: Reading, writer: Any, progress: Report) -> tuple[Baseline, ...]:
    """Parse the dump's tables, and describe all tables' baselines in the plan's order."""
    directory = DumpDirectory(reading.dump)
    baselines: list[Baseline] = []
    for planned in reading.plan.tables:
        progress(Progress("baseline", len(baselines), len(reading.plan.tables)))
        written: BaselineWriter | None = reading.own.get(planned.pair)
        if written is None:
            written = writer(planned)
            assert written is not None
            directory.load(planned.table, written)
        baselines.append(written.baseline(planned.create_statement))
    return tuple(baselines)


def _sized(snapshot: Snapshot, size_bytes: int) -> Snapshot:
    return replace(snapshot, size_bytes=size_bytes)


def _manifest(
    snapshot: Snapshot, reading: Reading, info: ServerInfo, dumper_version: str, duration_s: float
) -> dict[str, Any]:
    """What manifest.json says beside the files."""
    rows = {(b.db, b.table): b.rows for b in snapshot.baselines}
    return {
        "snapshot_id": snapshot.snapshot_id,
        "mode": snapshot.mode,
        "no_lock_reason": reading.reason,
        "lock_held_s": round(reading.lock_held_s, 6),
        "low": asdict(snapshot.low),
        "high": asdict(snapshot.high),
        "started_at_us": snapshot.started_at_us,
        "finished_at_us": snapshot.finished_at_us,
        "duration_s": round(duration_s, 3),
        "server": {"flavor": info.flavor, "version": info.version, "uuid": info.server_uuid, "id": info.server_id},
        "dumper": {"name": "mydumper", "version": dumper_version},
        "databases": [db for db, _ in snapshot.databases],
        "tables": [
            {
                "db": t.table.db,
                "table": t.table.name,
                "rows": rows[t.pair],
                "in_dump": t.dumped,
                "baseline_from": "source" if t.own_reason else "dump",
                "reason": t.own_reason,
            }
            for t in reading.plan.tables
        ],
        "skipped": [{"db": db, "table": name, "reason": why} for db, name, why in snapshot.skipped],
    }


def _warnings(reading: Reading) -> tuple[str, ...]:
    found = list(reading.plan.warnings)
    found += [
        f"{db}.{name} was left out: {why}" for db, name, why in reading.plan.skipped if why not in ("view", "sequence")
    ]
    found += [
        f"{t.table.label} is in the baseline but not in the dump directory: {t.own_reason}"
        for t in reading.plan.tables
        if not t.dumped
    ]
    if reading.reason:
        found.append(f"taken without a lock: {reading.reason}")
    return tuple(found)


def sweep(parent: Path, now_s: float) -> None:
    """Remove staging folders of snapshots that were killed: ours by name and owner, untouched for a day, and their
    process, on this host, no longer there. now_s: seconds since the epoch."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or now_s - about.st_mtime < _LEFT_S:
                continue
            pid, host = (folder / _OWNER).read_text(encoding="utf-8").split()
            if host == socket.gethostname() and not _alive(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def _staging(request: SnapshotRequest, now_s: float) -> Iterator[Path]:
    """A folder of our own, mode 0700, removed at the end. A full disk becomes NoSpace. Folders that killed snapshots left
    behind are removed first."""
    try:
        if request.staging_dir is not None:
            request.staging_dir.mkdir(parents=True, exist_ok=True)
        parent = request.staging_dir or Path(tempfile.gettempdir())
        sweep(parent, now_s)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        (folder / _OWNER).write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the staging folder `{request.staging_dir or tempfile.gettempdir()}` can't be used: {error.strerror}",
            hint="Name another with --staging-dir (or TMPDIR).",
        ) from error
    try:
        yield folder
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace(
            f"the staging folder `{folder.parent}` is full: {error.strerror}",
            hint="Free space there, or name a larger folder with --staging-dir (or TMPDIR).",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack like Ctrl-C does, if nobody else has a handler and this is the main thread."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
