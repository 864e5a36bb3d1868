"""BinlogSource: each configured server is a partition that emits whole transactions in binlog order."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflow import drain
from dataflow.batches import EventBatch, Stop
from dataflow.framer import Diverged, Framer
from dataflow.resume import (
    Begin,
    check_identity,
    check_settings,
    collations,
    diverged,
    first_checkpoint,
    identity_of,
    record_gap,
    replica_id,
    stream_start,
)
from dataflow.sink import Archive
from dataflow.skip_gap import behind_gap
from dataflow.stream import EventStream
from recovery.archive.actions import Action, Checkpoint
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import BinlogPurged, CommitConflict, ConfigError, RowbackError, SourceDiverged, SourceUnreachable
from recovery.failpoint import failpoint
from recovery.gtid import binlog_order
from recovery.source import Connection, binlog_status, connect, server_info

BATCH_BYTES = 8 * 1024 * 1024
POLL_S = 0.02
RECONNECT_S = 600  # how long a lost source is tried for before capture ends with an error
RECONNECT_CONNECT_S = 3  # an attempt holds the worker up for this long at most
RECONNECT_ONCE_S = 30  # the same with --until-caught-up
log = logging.getLogger("rowback.capture")


@dataclass(frozen=True)
class Capture:
    """One server to capture. server(): its settings with the password. until_caught_up: end at the position that the
    source has when capture starts."""

    server: Callable[[], ServerSettings]
    archive: Callable[[], Archive]
    begin: Begin
    until_caught_up: bool


class BinlogSource(FixedPartitionedSource[tuple[str, EventBatch | Stop], None]):
    """Reads the binlogs of the given servers, each from where its archive ends.

    There is no resume state: the archive's own checkpoint is the only one.
    """

    def __init__(self, captures: dict[str, Capture]) -> None:
        self._captures = captures

    def list_parts(self) -> list[str]:
        return sorted(self._captures)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _ServerPartition:
        return _ServerPartition(self._captures[for_part])


class _ServerPartition(StatefulSourcePartition[tuple[str, EventBatch | Stop], None]):
    def __init__(self, capture: Capture) -> None:
        self._server = capture.server()
        self._archive = capture.archive()
        self._stop: RowbackError | None = None
        self._lost: SourceUnreachable | None = None
        self._finished = False
        self._idle = False
        self._pause_s = self._try_at = self._give_up_at = 0.0
        self._target: tuple[str, int] | None = None
        self._asked_at_us = 0
        state = self._archive.log.read()
        with closing(connect(self._server)) as connection:
            self._info = server_info(connection)
            check_settings(connection, self._info)
            self._charsets = collations(connection, self._info)
            if capture.until_caught_up:
                self._asked_at_us = _now_us()
                self._target = binlog_status(connection)
            state = self._take_over(connection, state, capture.begin)
            self._generation = state.generation
            assert state.checkpoint is not None
            self._checkpoint: Checkpoint = state.checkpoint
            self._stream, self._framer = self._open(connection, state)
        log.info(
            "capture started server=%s generation=%d file=%s position=%d seq=%d",
            self._server.name, self._generation, self._checkpoint.file, self._checkpoint.position, self._checkpoint.seq,
        )  # fmt: skip

    def next_batch(self) -> Iterable[tuple[str, EventBatch | Stop]]:
        if self._stop is not None and not self._finished:
            self._finished = True
            return [(self._server.name, Stop(self._server.name, self._generation, self._stop))]
        if self._finished or drain.requested():
            raise StopIteration
        if self._lost is not None:
            self._reconnect()
            return []
        try:
            self._feed()
        except SourceUnreachable as error:
            self._lose(error)
        except Diverged as error:
            self._stop = diverged(f"the transaction at {error} is another one")
        except RowbackError as error:
            self._stop = error
        return self._emit()

    def next_awake(self) -> datetime | None:
        waits = self._idle or self._lost is not None
        return datetime.now(UTC) + timedelta(seconds=POLL_S) if waits else None

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._stream.close()

    def _take_over(self, connection: Connection, state: ArchiveState, begin: Begin) -> ArchiveState:
        """Fence other captures. An empty archive also gets its identity and first checkpoint."""
        if state.identity is not None:
            check_identity(state.identity, self._info)
        first: list[Action] = []
        if state.checkpoint is None:
            first = [first_checkpoint(self._server, connection, self._info, begin, _now_us())]
        elif begin.skip_gap:
            first = [*behind_gap(self._server, connection, self._info, state, begin, _now_us())]
        elif begin.given:
            raise ConfigError(
                f"the archive of `{self._server.name}` has begun already; it goes on at "
                f"{state.checkpoint.file}:{state.checkpoint.position}",
                hint="Leave out --from-...; to give up what lies in a gap at its end, add --skip-gap.",
            )

        def extra(head: ArchiveState) -> Sequence[Action]:
            if head.identity is not None:
                check_identity(head.identity, self._info)
            if first and head.checkpoint != state.checkpoint:
                raise CommitConflict(
                    "another capture committed while this one was starting",
                    hint="Only one can run; start again if it ended.",
                )
            return first if head.identity else [identity_of(self._info), *first]

        failpoint("capture.before-generation")
        taken = self._archive.log.start_generation(
            state,
            socket.gethostname(),
            os.getpid(),
            extra,
            include=self._server.include,
            exclude=self._server.exclude,
        )
        failpoint("capture.generation")
        return taken

    def _open(self, connection: Connection, state: ArchiveState | None) -> tuple[EventStream, Framer]:
        """The stream and framer from `self._checkpoint` on. A source that can't go on there leaves a recorded gap."""
        try:
            start = stream_start(connection, self._info, self._checkpoint)
        except (BinlogPurged, SourceDiverged) as error:
            if state is not None:
                record_gap(self._archive.log, state, self._generation, error.message)
            raise
        number = replica_id(self._server, self._info)
        stream = EventStream(self._server, self._info.flavor, number, start.file, start.position)
        framer = Framer(
            self._info.flavor,
            self._checkpoint,
            file=start.file,
            position=start.position,
            expect=start.expect,
            checksummed=stream.checksummed,
            charsets=self._charsets,
        )
        return stream, framer

    def _feed(self) -> None:
        events = self._stream.take(BATCH_BYTES)
        self._idle = not events
        for raw, arrived_at_us in events:
            self._framer.feed(raw, arrived_at_us)
        if self._framer.in_transaction:
            failpoint("source.mid-transaction")

    def _emit(self) -> list[tuple[str, EventBatch | Stop]]:
        """What the framer has complete, the idle mark, and the end if that was all that was asked for."""
        transactions = tuple(self._framer.take())
        covered = None if self._framer.in_transaction else self._framer.idle_since_us
        self._framer.idle_since_us = None
        caught_up = self._stop is None and self._caught_up()
        if caught_up:
            covered = max(covered or 0, self._asked_at_us)
            self._finished = True
        if not transactions and covered is None:
            return []
        before, self._checkpoint = self._checkpoint, self._framer.checkpoint(covered)
        failpoint("source.emit")
        batch = EventBatch(
            server=self._server.name,
            flavor=self._info.flavor,
            generation=self._generation,
            before=before,
            after=self._checkpoint,
            transactions=transactions,
            charsets=self._charsets,
        )
        return [(self._server.name, batch)]

    def _caught_up(self) -> bool:
        if self._target is None or self._framer.in_transaction:
            return False
        return binlog_order(self._framer.file, self._framer.position) >= binlog_order(*self._target)

    def _lose(self, error: SourceUnreachable) -> None:
        now = time.monotonic()
        self._lost = error
        self._pause_s = 0.5
        self._try_at = now + self._pause_s
        self._give_up_at = now + (RECONNECT_ONCE_S if self._target else RECONNECT_S)
        log.warning("source lost code=%s", error.code)

    def _reconnect(self) -> None:
        """One attempt, when its time has come: connect, prove that it is the same binlog, go on behind the last transaction
        that was emitted. Between attempts the worker is free to close windows and to drain."""
        now = time.monotonic()
        if now < self._try_at:
            return
        self._stream.close()
        try:
            with closing(connect(self._server, connect_timeout=RECONNECT_CONNECT_S)) as connection:
                check_identity(identity_of(self._info), server_info(connection))
                self._stream, self._framer = self._open(connection, None)
            self._lost = None
            log.info("source back file=%s position=%d", self._checkpoint.file, self._checkpoint.position)
        except SourceUnreachable as error:
            self._pause_s = min(self._pause_s * 2, 15)
            self._try_at = now + self._pause_s
            if now > self._give_up_at:
                self._stop, self._lost = error, None
        except RowbackError as error:
            self._stop, self._lost = error, None


def _now_us() -> int:
    return time.time_ns() // 1000
