"""Where capture begins: the first start's position, or the archive's checkpoint proved against the server.

Promises: a server that isn't the one in the archive, or whose binlog no longer holds what the archive ends with, is
refused with a recorded gap; capture never begins at a place that merely looks alike.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from dataflow import events as ev
from dataflow.reader import EventReader
from dataflow.stream import EventStream
from recovery.archive.actions import Action, Checkpoint, Gap, Identity
from recovery.archive.log import Log
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import BinlogPurged, ConfigError, RowbackError, SourceDiverged, SourceMisconfigured
from recovery.failpoint import failpoint
from recovery.gtid import GtidSet, binlog_order, is_subset, parse_gtid_set
from recovery.source import Connection, ServerInfo, fetch

SCAN_SILENCE_S = 10


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
    """Refuse a source whose binlog wouldn't hold whole, typed row images. Raises SourceMisconfigured with the statement."""
    wanted = {"log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL", "binlog_row_metadata": "FULL"}
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
    """Raises SourceDiverged unless it is the same server: by uuid on MySQL, by server_id on MariaDB."""
    same = identity.flavor == info.flavor and (
        identity.server_uuid == info.server_uuid if info.server_uuid else identity.server_id == info.server_id
    )
    if not same:
        mine = identity.server_uuid or f"server_id {identity.server_id}"
        theirs = info.server_uuid or f"server_id {info.server_id}"
        raise SourceDiverged(
            f"this archive belongs to the {identity.flavor} server `{mine}`, and the source is the {info.flavor} server "
            f"`{theirs}`",
            hint="Give the other server a section of its own in rowback.toml; one archive holds one server.",
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
                f"the source has purged `{checkpoint.file}`, which capture has not read to its end",
                hint="What is missing is recorded as a gap. Keep binlogs longer (binlog_expire_logs_seconds), go on with "
                "`rowback capture --skip-gap`, and take a new snapshot; what was captured stays restorable.",
            )
        raise diverged(f"the server has no binlog file `{checkpoint.file}`")
    if logs[checkpoint.file] < checkpoint.position:
        raise diverged(f"`{checkpoint.file}` ends at {logs[checkpoint.file]}, before {checkpoint.position}")
    if checkpoint.transaction_file in logs and checkpoint.transaction_position is not None:
        return StreamStart(checkpoint.transaction_file, checkpoint.transaction_position, checkpoint.transaction_digest)
    return StreamStart(checkpoint.file, checkpoint.position, None)


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
        return (Gap(at.seq, at.file, at.position, None, None, time.time_ns() // 1000, reason),)

    failpoint("gap.before")
    return log.commit(state, build, generation=generation)


def first_checkpoint(
    server: ServerSettings, connection: Connection, info: ServerInfo, begin: Begin, now_us: int
) -> Checkpoint:
    """The checkpoint that an empty archive starts with. Reads the binlog file from its beginning up to the position, for
    only that tells exactly which GTIDs stand before it."""
    logs = binary_logs(connection)
    if not logs:
        raise SourceMisconfigured("the source has no binlog", hint="Add `log_bin` to its configuration and restart it.")
    if begin.from_gtid is not None:
        return _after_gtids(server, info, logs, begin.from_gtid)
    if begin.from_earliest:
        with closing(_Scan(server, info, logs[0][0])) as scan:
            scan.until(lambda s: s.began)
            return scan.checkpoint(None)
    if begin.from_position is not None:
        return _at_position(server, info, logs, begin.from_position)
    file, position = logs[-1]
    with closing(_Scan(server, info, file)) as scan:
        scan.until(lambda s: binlog_order(s.file, s.position) >= binlog_order(file, position))
        return scan.checkpoint(now_us)


def _at_position(server: ServerSettings, info: ServerInfo, logs: Sequence[tuple[str, int]], text: str) -> Checkpoint:
    file, _, offset = text.rpartition(":")
    if not file or not offset.isdigit():
        raise ConfigError(f"`{text}` is not a position", hint="Write FILE:POSITION, such as binlog.000012:4711.")
    if file not in dict(logs):
        raise BinlogPurged(f"the source has no binlog file `{file}`", hint=f"It has `{logs[0][0]}` to `{logs[-1][0]}`.")
    target = (file, int(offset))
    with closing(_Scan(server, info, file)) as scan:
        scan.until(lambda s: binlog_order(s.file, s.position) >= binlog_order(*target))
        if (scan.file, scan.position) != target or not (scan.at_transaction or scan.ended):
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
        with closing(_Scan(server, info, file)) as scan:
            scan.until(lambda s: s.began)
            if scan.gtids.issubset(wanted):  # type: ignore[arg-type]
                scan.until(lambda s: s.next_gtid is not None and not wanted.contains(s.next_gtid))
                return scan.checkpoint(None)
    raise BinlogPurged(
        "the source's binlogs begin after that GTID set",
        hint=f"Its oldest file is `{logs[0][0]}`; start with --from-earliest to take all that is left.",
    )


class _Scan:
    """Reads a file from its beginning for GTIDs and transaction starts only.

    Its fields describe the place in front of the next event: whether a transaction starts there, with which GTID, and the
    GTIDs of everything before it.
    """

    def __init__(self, server: ServerSettings, info: ServerInfo, file: str) -> None:
        self.info = info
        self.file, self.position = file, 4
        self.gtids: GtidSet = parse_gtid_set("", info.flavor)
        self.began = False  # the file's list of earlier GTIDs has been read
        self.at_transaction = False
        self.next_gtid: str | None = None
        self.ended = False  # the server has nothing more to send
        self._created_at_us = 0
        self._waiting: deque[ev.Event] = deque()
        self._stream = EventStream(server, info.flavor, replica_id(server, info, scanning=True), file, 4)
        self._reader = EventReader(checksummed=self._stream.checksummed)

    def close(self) -> None:
        self._stream.close()

    def until(self, reached: Callable[[_Scan], bool]) -> None:
        """Go on until `reached` holds in front of an event, or the end of what the server has now."""
        deadline = time.monotonic() + SCAN_SILENCE_S
        while not self.ended:
            if not self._waiting:
                for data, _ in self._stream.take(1 << 20):
                    self._waiting.extend(self._reader.feed(data))
                if self._reader.ending is not None and not self._waiting:
                    raise self._stream.ended(self._reader.ending, began=True)
                if self._waiting:
                    deadline = time.monotonic() + SCAN_SILENCE_S
                elif time.monotonic() > deadline:
                    self.ended = True
                else:
                    time.sleep(0.005)
                continue
            event = self._waiting[0]
            self.ended = event.type in (ev.HEARTBEAT, ev.HEARTBEAT_V2)
            self._look(event)
            if self.ended or reached(self):
                return
            self._waiting.popleft()
            self._pass(event)

    def checkpoint(self, moment_us: int | None) -> Checkpoint:
        """An empty archive's checkpoint here. moment_us: None for the time at which the file was begun."""
        moment = self._created_at_us if moment_us is None else moment_us
        return Checkpoint(0, self.file, self.position, str(self.gtids), moment, moment)

    def _look(self, event: ev.Event) -> None:
        self.next_gtid = None
        self.at_transaction = event.type in (ev.GTID, ev.GTID_TAGGED, ev.ANONYMOUS_GTID, ev.MARIADB_GTID)
        if event.type == ev.MARIADB_GTID:
            self.next_gtid = ev.mariadb_gtid_text(event)
        elif self.at_transaction:
            self.next_gtid = ev.mysql_gtid(event)

    def _pass(self, event: ev.Event) -> None:
        if event.type == ev.ROTATE:
            self.file, self.position = ev.rotate(event)
            return
        if event.type == ev.FORMAT_DESCRIPTION:
            self._created_at_us = self._created_at_us or event.timestamp * 1_000_000
        elif event.type in (ev.PREVIOUS_GTIDS, ev.MARIADB_GTID_LIST):
            mysql = event.type == ev.PREVIOUS_GTIDS
            text = ev.previous_gtids(event) if mysql else ",".join(ev.mariadb_gtid_list(event))
            self.gtids = self.gtids.union(parse_gtid_set(text, self.info.flavor))  # type: ignore[arg-type]
            self.began = True
        elif self.next_gtid is not None:
            self.gtids.add(self.next_gtid)
        if not event.artificial:
            self.position += event.size  # its own end wraps at 4 GiB


def replica_id(server: ServerSettings, info: ServerInfo, *, scanning: bool = False) -> int:
    """The server id that capture registers with: unlike the source's and stable for a configured server, since a source
    ends the older of two replicas with one id. A scan beside a capture takes another one."""
    base = sum(server.name.encode()) * 131 + info.server_id * 7
    return 2_000_000_000 + base % 100_000_000 + (100_000_000 if scanning else 0)
