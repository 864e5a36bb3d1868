"""The life of a connection to a source: taking its archive over, opening the stream, opening it again after a loss.

Promises: nothing here runs in the dataflow's own thread (`Attempt`), so one server that doesn't answer holds up no other.
Each opening proves that the source is still the one in the archive; one that can't go on leaves a recorded gap.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from dataflow.failover import follow
from dataflow.framer import Framer
from dataflow.health import ServerHealth
from dataflow.resume import (
    Begin,
    StreamStart,
    behind_torn,
    check_identity,
    check_settings,
    collations,
    first_checkpoint,
    identity_of,
    record_gap,
    same_server,
    stream_start,
)
from dataflow.rollbacks import Span
from dataflow.scan import replica_id
from dataflow.sink import Archive
from dataflow.skip_gap import behind_gap
from dataflow.spool import Spool, replay
from dataflow.stream import EventStream
from dataflow.torn import Torn
from recovery.archive.actions import Action, Checkpoint
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import BinlogPurged, CommitConflict, ConfigError, SourceDiverged, SourceMoved
from recovery.failpoint import failpoint
from recovery.source import (
    Connection,
    ServerInfo,
    binlog_status,
    check_filter,
    check_names,
    connect,
    server_info,
    utc_since_us,
)

RECONNECT_S = 600  # how long a lost source is tried for before a capture of this server alone ends with an error
RECONNECT_ONCE_S = 30  # the same with --until-caught-up
QUERY_S = 30  # a server that answers nothing for this long is taken for lost
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
log = logging.getLogger("rowback.capture")
T = TypeVar("T")


@dataclass(frozen=True)
class Capture:
    """One server to capture. server(): its settings with the password. until_caught_up: end at the position that the
    source has when capture starts. keeps_trying: what may pass by itself (a source or store that is away) doesn't end the
    capture, because other servers are captured beside it; it is tried again for as long as the process runs."""

    server: Callable[[], ServerSettings]
    archive: Callable[[], Archive]
    begin: Begin
    until_caught_up: bool
    health: Callable[[], ServerHealth]
    keeps_trying: bool = False

    def patience_s(self) -> float:
        """How long a lost source is tried for."""
        if self.until_caught_up:
            return RECONNECT_ONCE_S
        return float("inf") if self.keeps_trying else RECONNECT_S


@dataclass(frozen=True)
class Opened:
    """A stream that runs, and all that the partition needs to go on with it. target: where --until-caught-up ends."""

    server: ServerSettings
    archive: Archive
    info: ServerInfo
    charsets: Mapping[int, str]
    generation: int
    checkpoint: Checkpoint
    stream: EventStream
    framer: Framer
    target: tuple[str, int] | None = None
    asked_at_us: int = 0


def start(capture: Capture) -> Opened:
    """Take the archive over and open the stream where it ends. Raises RowbackError."""
    server, archive = capture.server(), capture.archive()
    if archive.spool_folder is not None:
        replay(archive, Spool(archive.spool_folder, archive.spool_bytes))
    state = archive.log.read()
    target, asked_at_us = None, 0
    with closing(connect(server, read_timeout=QUERY_S)) as connection:
        info = server_info(connection)
        check_settings(connection, info)
        charsets = collations(connection, info)
        if capture.until_caught_up:
            asked_at_us = time.time_ns() // 1000
            target = binlog_status(connection)
        state = _take_over(server, archive, connection, info, state, capture.begin)
        assert state.checkpoint is not None
        try:
            stream, framer = _open(server, connection, info, charsets, state.checkpoint)
        except (BinlogPurged, SourceDiverged) as error:
            record_gap(archive.log, state, state.generation, error.message)
            raise
    at = state.checkpoint
    log.info(
        "capture started server=%s generation=%d file=%s position=%d seq=%d",
        server.name, state.generation, at.file, at.position, at.seq,
    )  # fmt: skip
    return Opened(server, archive, info, charsets, state.generation, at, stream, framer, target, asked_at_us)


def reopen(lost: Opened, checkpoint: Checkpoint, rolled_back: Sequence[Span] = (), torn: Torn | None = None) -> Opened:
    """The stream again, behind the last transaction that was emitted; checkpoint: there. rolled_back: see Framer. torn: what
    to go behind. Raises RowbackError; SourceMoved if another server answers that may be followed once all of this is in the
    archive."""
    with closing(connect(lost.server, read_timeout=QUERY_S)) as connection:
        info = server_info(connection)
        if lost.server.failover and not same_server(identity_of(lost.info), info):
            raise SourceMoved(f"another server answers for `{lost.server.name}`", hint="Capture follows by itself.")
        check_identity(identity_of(lost.info), info)
        check_names(lost.info.lower_case_table_names, info)
        stream, framer = _open(lost.server, connection, lost.info, lost.charsets, checkpoint, rolled_back, torn)
    at = checkpoint if torn is None else framer
    log.info("source back server=%s file=%s position=%d", lost.server.name, at.file, at.position)
    return replace(lost, checkpoint=checkpoint, stream=stream, framer=framer)


def _take_over(
    server: ServerSettings,
    archive: Archive,
    connection: Connection,
    info: ServerInfo,
    state: ArchiveState,
    begin: Begin,
) -> ArchiveState:
    """Fence other captures. An empty archive also gets its identity and first checkpoint; one whose server another has taken
    the place of, a failover if that is allowed and proved. Raises SourceDiverged, BinlogPurged."""
    moved = state.source is not None and not same_server(state.source, info)
    if moved and not server.failover:
        check_identity(state.source, info)  # type: ignore[arg-type]
    check_names(state.lower_case_table_names, info)
    check_filter(server, info.lower_case_table_names)
    first: list[Action] = []
    now_us = time.time_ns() // 1000
    if state.checkpoint is None:
        first = [first_checkpoint(server, connection, info, begin, now_us)]
    elif moved:
        first = _followed(server, archive, connection, info, state, begin)
    elif begin.skip_gap:
        first = [*behind_gap(server, connection, info, state, begin, now_us)]
    elif begin.given:
        raise ConfigError(
            f"the archive of `{server.name}` has begun already; it goes on at "
            f"{state.checkpoint.file}:{state.checkpoint.position}",
            hint="Leave out --from-...; to give up what lies in a gap at its end, add --skip-gap.",
        )

    def extra(head: ArchiveState) -> Sequence[Action]:
        if head.source is not None and not moved:
            check_identity(head.source, info)
        check_names(head.lower_case_table_names, info)
        if first and head.checkpoint != state.checkpoint:
            raise CommitConflict(
                "another capture committed while this one was starting",
                hint="Only one can run; start again if it ended.",
            )
        return first if head.identity else [identity_of(info), *first]

    failpoint("capture.before-generation")
    taken = archive.log.start_generation(
        state,
        socket.gethostname(),
        os.getpid(),
        extra,
        include=server.include,
        exclude=server.exclude,
        lower_case_table_names=info.lower_case_table_names,
    )
    failpoint("capture.generation")
    return taken


def _followed(
    server: ServerSettings,
    archive: Archive,
    connection: Connection,
    info: ServerInfo,
    state: ArchiveState,
    begin: Begin,
) -> list[Action]:
    """The failover and its checkpoint. What can't be followed leaves a recorded gap."""
    if begin.given or begin.skip_gap:
        raise ConfigError(
            f"another server answers for `{server.name}` than the archive's",
            hint="Leave out --from-... and --skip-gap: a failover goes on where the archive ends, or not at all.",
        )
    try:
        failover, checkpoint = follow(server, connection, info, archive.store, state)
    except (BinlogPurged, SourceDiverged) as error:
        record_gap(archive.log, state, None, error.message)
        raise
    log.info(
        "failover server=%s uuid=%s file=%s position=%d proof=%s",
        server.name, failover.server_uuid, checkpoint.file, checkpoint.position, failover.proof.replace(" ", "-"),
    )  # fmt: skip
    return [failover, checkpoint]


def _open(
    server: ServerSettings,
    connection: Connection,
    info: ServerInfo,
    charsets: Mapping[int, str],
    checkpoint: Checkpoint,
    rolled_back: Sequence[Span] = (),
    torn: Torn | None = None,
) -> tuple[EventStream, Framer]:
    """The stream and framer from the checkpoint on. Raises BinlogPurged and SourceDiverged if it can't be had."""
    behind = None
    if torn is not None:
        checkpoint, behind = behind_torn(server, connection, info, torn, checkpoint)
        begin = StreamStart(checkpoint.file, checkpoint.position, None)
    else:
        begin = stream_start(connection, info, checkpoint)
    stream = EventStream(server, info.flavor, replica_id(server, info), begin.file, begin.position)
    framer = Framer(
        info.flavor,
        checkpoint,
        file=begin.file,
        position=begin.position,
        expect=begin.expect,
        charsets=charsets,
        utc_since_us=utc_since_us(connection),
        rolled_back=rolled_back,
        lower_case=info.lower_case_table_names == 1,
        behind=behind,
    )
    return stream, framer


class Attempt(Generic[T]):
    """An action in a thread of its own. discard: what to do with a result that nobody takes any more."""

    def __init__(self, action: Callable[[], T], discard: Callable[[T], None]) -> None:
        self._action, self._discard = action, discard
        self._lock = threading.Lock()
        self._abandoned = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._done = False
        threading.Thread(target=self._run, name="binlog-connect", daemon=True).start()

    @property
    def done(self) -> bool:
        with self._lock:
            return self._done

    def result(self) -> T:
        """Of an attempt that is done; raises what the action raised."""
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            result = self._result
        if result is not None:
            self._discard(result)

    def _run(self) -> None:
        try:
            result = self._action()
        except BaseException as error:  # noqa: BLE001  (raised again where the result is taken)
            with self._lock:
                self._error, self._done = error, True
            return
        with self._lock:
            self._result, self._done = result, True
            unwanted = self._abandoned
        if unwanted:
            self._discard(result)


class Backoff:
    """Growing pauses between attempts, with a random part so that many captures don't come back all at once."""

    def __init__(self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> None:
        self._first_s = self._next_s = first_s
        self._longest_s = longest_s

    def reset(self) -> None:
        self._next_s = self._first_s

    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        pause, self._next_s = self._next_s, min(self._next_s * 2, self._longest_s)
        return pause * random.uniform(0.75, 1.0)
