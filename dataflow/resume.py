"""Where capture begins: the first start's position, or the archive's checkpoint proved against the server.

Promises: a server that isn't the one in the archive, or whose binlog no longer holds what the archive ends with, is
refused with a recorded gap; capture never begins at a place that merely looks alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from dataflow.scan import Scan
from dataflow.torn import Behind, Torn
from recovery.archive.actions import Action, Checkpoint, Gap, Identity
from recovery.archive.log import Log
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import BinlogPurged, ConfigError, RowbackError, SourceDiverged, SourceMisconfigured
from recovery.failpoint import failpoint
from recovery.gtid import binlog_order, is_subset, parse_gtid_set
from recovery.source import Connection, ServerInfo, fetch


@dataclass(frozen=True)
class Begin:
    """Where the first capture of an archive begins; at most one is given, else the source's current position. skip_gap: the
    same for an archive that ends in a gap, which is then given up."""

    from_gtid: str | None = None
    from_position: str | None = None
    from_earliest: bool = False
    skip_gap: bool = False

    @property
    def given(self) -> bool:
        return bool(self.from_gtid or self.from_position or self.from_earliest)


@dataclass(frozen=True)
class StreamStart:
    """Where to ask the server to begin, and the digest that the first transaction there must have (None: it is new)."""

    file: str
    position: int
    expect: str | None


def check_settings(connection: Connection, info: ServerInfo) -> None:
    """Refuse a source whose binlog wouldn't hold whole row images. Raises SourceMisconfigured with the statement. Columns'
    names may be missing from it (binlog_row_metadata): dataflow/live_schema.py finds them."""
    wanted = {"log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL"}
    names = ", ".join(f"'{name}'" for name in wanted)
    found = {
        str(name).lower(): str(value).upper()
        for name, value in fetch(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    }
    for name, value in wanted.items():
        have = found.get(name, "missing")
        if have in (value, "1" if value == "ON" else value):
            continue
        if name == "log_bin":
            hint = "Add `log_bin` to the server's configuration file and restart it."
        else:
            hint = (
                f"Run `SET GLOBAL {name} = {value};` on the source and set it in its configuration file; sessions that "
            )
            hint += "are already connected keep the old value."
        raise SourceMisconfigured(f"the source has {name} = `{have}`, and capture needs `{value}`", hint=hint)
    if info.lower_case_table_names not in (0, 1):
        raise SourceMisconfigured(
            f"the source has lower_case_table_names = `{info.lower_case_table_names}`, and capture needs `0` or `1`",
            hint="Such a server stores names as they were typed and compares them in lower case, so its binlog doesn't tell "
            "which table a name means. Move the data to a server that is initialised with 0 or 1.",
        )


def binary_logs(connection: Connection) -> list[tuple[str, int]]:
    """(file, size in bytes) in order."""
    return [(str(row[0]), int(row[1])) for row in fetch(connection, "SHOW BINARY LOGS")]


def collations(connection: Connection, info: ServerInfo) -> dict[int, str]:
    """Collation id -> character set name. MariaDB's context-dependent collations have their ids in another view."""
    if info.flavor == "mariadb":
        view = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
    else:
        view = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"
    try:
        rows = fetch(connection, view)
    except RowbackError:  # MariaDB before 10.10 has no ID there
        rows = fetch(connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS")
    return {
        int(number): "utf8mb3" if charset == "utf8" else str(charset) for number, charset in rows if number is not None
    }


def identity_of(info: ServerInfo) -> Identity:
    return Identity(info.flavor, info.server_uuid, info.server_id, info.version)


def check_identity(identity: Identity, info: ServerInfo) -> None:
    """Raises SourceDiverged unless it is the same server."""
    if not same_server(identity, info):
        mine = identity.server_uuid or f"server_id {identity.server_id}"
        theirs = info.server_uuid or f"server_id {info.server_id}"
        raise SourceDiverged(
            f"this archive belongs to the {identity.flavor} server `{mine}`, and the source is the {info.flavor} server "
            f"`{theirs}`",
            hint="Give the other server a section of its own in rowback.toml; one archive holds one server. If it has taken "
            "the old one's place in a replication group, set `failover = true` in this section.",
        )


def same_server(identity: Identity, info: ServerInfo) -> bool:
    """By uuid on MySQL, by server_id on MariaDB, which has no uuid."""
    return identity.flavor == info.flavor and (
        identity.server_uuid == info.server_uuid if info.server_uuid else identity.server_id == info.server_id
    )


def stream_start(connection: Connection, info: ServerInfo, checkpoint: Checkpoint) -> StreamStart:
    """Where to go on after a checkpoint. The last captured transaction is read again, so that its digest proves that the
    binlog is still the same one. Raises BinlogPurged or SourceDiverged."""
    logs = dict(binary_logs(connection))
    if info.flavor == "mysql" and info.gtid and checkpoint.gtid_set:
        executed = str(fetch(connection, "SELECT @@global.gtid_executed")[0][0])
        if not is_subset(checkpoint.gtid_set, executed, "mysql"):
            raise diverged("the server has not executed all the GTIDs that the archive holds")
    if checkpoint.file not in logs:
        if logs and binlog_order(checkpoint.file, 0) < binlog_order(next(iter(logs)), 0):
            raise BinlogPurged(
                f"the source has purged `{checkpoint.file}`, which capture has not read to its end; its oldest binlog is "
                f"`{next(iter(logs))}`",
                hint="What is missing is recorded as a gap. Keep binlogs longer (binlog_expire_logs_seconds), go on with "
                "`rowback capture --skip-gap`, and take a new snapshot; what was captured stays restorable.",
            )
        raise diverged(f"the server has no binlog file `{checkpoint.file}`")
    if logs[checkpoint.file] < checkpoint.position:
        raise diverged(f"`{checkpoint.file}` ends at {logs[checkpoint.file]}, before {checkpoint.position}")
    if checkpoint.transaction_file in logs and checkpoint.transaction_position is not None:
        return StreamStart(checkpoint.transaction_file, checkpoint.transaction_position, checkpoint.transaction_digest)
    return StreamStart(checkpoint.file, checkpoint.position, None)


def behind_torn(
    server: ServerSettings,
    connection: Connection,
    info: ServerInfo,
    torn: Torn,
    checkpoint: Checkpoint,
    *,
    scanning: bool = False,
) -> tuple[Checkpoint, Behind]:
    """The checkpoint, at the end of a torn file's last whole transaction, as if it stood in front of the file that follows,
    and what proves that. Reads the torn file's GTIDs again; scanning: see `Scan`. Raises BinlogDamaged if no file follows or
    what is skipped may have taken effect."""
    files = [name for name, _ in binary_logs(connection)]
    if torn.file not in files[:-1]:
        raise torn.error
    synced = int(fetch(connection, "SELECT @@global.sync_binlog")[0][0])
    if synced != 1:
        raise torn.refused(f"the server has sync_binlog = {synced}: its tables may hold what its binlog has lost")
    with closing(Scan(server, info, torn.file, scanning=scanning)) as scan:
        if checkpoint.file == torn.file and checkpoint.position > 4:
            scan.to(checkpoint.file, checkpoint.position)
        else:  # it has no whole transaction
            scan.until(lambda _: False, lambda s: s.began)
        state = frozenset(scan.newest.values())
        scan.until(lambda s: s.at_transaction)
        if scan.file != torn.file:
            raise torn.error
        torn.check_tail(scan.next_flags)
    following = replace(
        checkpoint,
        file=files[files.index(torn.file) + 1],
        position=4,
        # All that is known of that file is when it was begun, which it will say; and the torn one isn't read again.
        file_begun_at_us=None,
        transaction_file=None,
        transaction_position=None,
        transaction_digest=None,
    )
    return following, Behind(torn, state)


def diverged(what: str) -> SourceDiverged:
    return SourceDiverged(
        f"the source's binlog is not the one that this archive was captured from: {what}",
        hint="The server was reset or restored from a backup. Start a new archive (another tenant or server name) and take "
        "a snapshot; this one stays restorable up to its last checkpoint.",
    )


def record_gap(log: Log, state: ArchiveState, generation: int | None, reason: str) -> ArchiveState:
    """Commit a gap behind the newest checkpoint, once for each reason."""

    def build(head: ArchiveState) -> Sequence[Action]:
        at = head.checkpoint
        if at is None or any(g.after_seq == at.seq and g.reason == reason for g in head.gaps):
            return ()
        now_us = time.time_ns() // 1000
        return (Gap(at.seq, at.file, at.position, None, None, now_us, reason, lineage=len(head.failovers)),)

    failpoint("gap.before")
    return log.commit(state, build, generation=generation)


def first_checkpoint(
    server: ServerSettings, connection: Connection, info: ServerInfo, begin: Begin, now_us: int
) -> Checkpoint:
    """The checkpoint that an empty archive starts with. Reads the binlog file from its beginning up to the position, for
    only that, with what was purged, tells exactly which GTIDs stand before it."""
    # Asked first: what is purged stands before every file that is still there. A cloned server's first file doesn't list it.
    purged = gtid_purged(connection, info)
    found = _first_checkpoint(server, connection, info, begin, now_us)
    gtids = parse_gtid_set(found.gtid_set, info.flavor).union(parse_gtid_set(purged, info.flavor))  # type: ignore[arg-type]
    return replace(found, gtid_set=str(gtids))


def gtid_purged(connection: Connection, info: ServerInfo) -> str:
    """The GTIDs of MySQL's transactions that no binlog file holds any more; empty without GTIDs and on MariaDB."""
    if info.flavor != "mysql":
        return ""
    return str(fetch(connection, "SELECT @@global.gtid_purged")[0][0])


def _first_checkpoint(
    server: ServerSettings, connection: Connection, info: ServerInfo, begin: Begin, now_us: int
) -> Checkpoint:
    logs = binary_logs(connection)
    if not logs:
        raise SourceMisconfigured("the source has no binlog", hint="Add `log_bin` to its configuration and restart it.")
    if begin.from_gtid is not None:
        return _after_gtids(server, info, logs, begin.from_gtid)
    if begin.from_earliest:
        with closing(Scan(server, info, logs[0][0])) as scan:
            scan.until(lambda s: s.began)
            return scan.checkpoint(None)
    if begin.from_position is not None:
        return _at_position(server, info, logs, begin.from_position)
    file, position = logs[-1]
    with closing(Scan(server, info, file)) as scan:
        scan.to(file, position)
        return scan.checkpoint(now_us)


def _at_position(server: ServerSettings, info: ServerInfo, logs: Sequence[tuple[str, int]], text: str) -> Checkpoint:
    file, _, offset = text.rpartition(":")
    if not file or not offset.isdigit():
        raise ConfigError(f"`{text}` is not a position", hint="Write FILE:POSITION, such as binlog.000012:4711.")
    if file not in dict(logs):
        raise BinlogPurged(f"the source has no binlog file `{file}`", hint=f"It has `{logs[0][0]}` to `{logs[-1][0]}`.")
    target = (file, int(offset))
    with closing(Scan(server, info, file)) as scan:
        scan.until(lambda s: binlog_order(s.file, s.position) >= binlog_order(*target))
        if (scan.file, scan.position) != target or not (scan.between_transactions or scan.ended):
            raise ConfigError(
                f"`{text}` is not the start of a transaction",
                hint="Choose a position that `mysqlbinlog` shows in front of a GTID event, or the file's end.",
            )
        return scan.checkpoint(None)


def _after_gtids(server: ServerSettings, info: ServerInfo, logs: Sequence[tuple[str, int]], text: str) -> Checkpoint:
    try:
        wanted = parse_gtid_set(text, info.flavor)
    except ValueError as error:
        raise ConfigError(f"{error}", hint="Give a GTID set such as the source's @@gtid_executed shows.") from error
    for file, _ in reversed(logs):
        with closing(Scan(server, info, file)) as scan:
            scan.until(lambda s: s.began)
            if scan.gtids.issubset(wanted):  # type: ignore[arg-type]
                scan.until(lambda s: s.next_gtid is not None and not wanted.contains(s.next_gtid))
                return scan.checkpoint(None)
    raise BinlogPurged(
        "the source's binlogs begin after that GTID set",
        hint=f"Its oldest file is `{logs[0][0]}`; start with --from-earliest to take all that is left.",
    )
