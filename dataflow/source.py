"""BinlogSource: each configured server is a partition that emits whole transactions in binlog order.

An error of one server ends that server's partition only: it goes through the dataflow as a Stop behind everything that was
read before it, and what ended it stands in dataflow/health.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflow import drain
from dataflow.batches import EventBatch, Stop
from dataflow.framed import PieceStream
from dataflow.health import State
from dataflow.lifecycle import Attempt, Backoff, Capture, Opened, reopen, start
from dataflow.rollbacks import ReadAgain, Span
from dataflow.torn import Torn
from recovery.errors import RowbackError, SourceMoved, SourceUnreachable
from recovery.failpoint import failpoint

FIRST_POLL_S, POLL_S = 0.001, 0.02  # pauses while nothing comes: they double
OPENING_POLL_S = 0.005  # while an opening is under way
log = logging.getLogger("rowback.capture")


class BinlogSource(FixedPartitionedSource[tuple[str, EventBatch | Stop], None]):
    """Reads the binlogs of the given servers, each from where its archive ends.

    There is no resume state: the archive's own checkpoint is the only one.
    """

    def __init__(self, captures: dict[str, Capture]) -> None:
        self._captures = captures

    def list_parts(self) -> list[str]:
        return sorted(self._captures)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _ServerPartition:
        return _ServerPartition(for_part, self._captures[for_part])


class _ServerPartition(StatefulSourcePartition[tuple[str, EventBatch | Stop], None]):
    def __init__(self, name: str, capture: Capture) -> None:
        self._name = name
        self._capture = capture
        self._health = capture.health()
        self._stop: RowbackError | None = None
        self._finished = False
        self._idle_s = 0.0
        self._opened: Opened | None = None
        self._lost = False
        self._rolled_back: tuple[Span, ...] = ()
        self._torn: Torn | None = None
        self._moved: SourceMoved | None = None
        self._flushing = False
        self._backoff = Backoff()
        self._attempt: Attempt[Opened] | None = None
        self._try_at = 0.0
        self._give_up_at = float("inf") if capture.keeps_trying else 0.0

    def next_batch(self) -> Iterable[tuple[str, EventBatch | Stop]]:
        if self._stop is not None and not self._finished:
            return self._end(self._stop)
        if self._finished or drain.requested():
            if self._stop is None:
                self._health.now(State.ENDED)
            raise StopIteration
        if (refused := self._health.ended) is not None:  # decoding refused what was emitted; the sink has recorded it
            self._finished = True
            log.error("capture stopped server=%s code=%s", self._name, refused.code)
            raise StopIteration
        failure = self._health.failure(self._generation) if self._opened else None
        if failure is not None:
            return self._give_up_generation(failure)
        if self._moved:
            return self._flush_before_failover()
        if self._opened is None or self._lost:
            self._connect()
            return []
        try:
            return self._take()
        except ReadAgain as rollback:
            self._read_again(rollback)
        except Torn as torn:
            self._go_behind(torn)
        except SourceUnreachable as error:
            self._lose(error)
        except RowbackError as error:
            self._stop = error
        return []

    def next_awake(self) -> datetime | None:
        wait_s = self._idle_s
        if self._attempt is not None:
            wait_s = OPENING_POLL_S
        elif self._lost or self._opened is None:
            wait_s = POLL_S
        return datetime.now(UTC) + timedelta(seconds=wait_s) if wait_s and not self._finished else None

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        if self._attempt is not None:
            self._attempt.abandon()
        if self._opened is not None:
            self._pieces.close()

    # --- the connection's life

    def _connect(self) -> None:
        """One step of opening the stream, the first time or again, without ever waiting for it."""
        now = time.monotonic()
        if self._attempt is None:
            if now < self._try_at:
                return
            action = partial(start, self._capture)
            if self._opened is not None and self._lost:
                action = partial(reopen, self._opened, self._checkpoint, self._rolled_back, self._torn)
            self._attempt = Attempt(action, lambda opened: opened.stream.close())
        if not self._attempt.done:
            return
        attempt, self._attempt = self._attempt, None
        try:
            self._adopt(attempt.result())
        except SourceMoved as error:
            self._moved = error
        except RowbackError as error:
            if not error.retryable or now >= self._give_up_at:
                self._fail(error)
                return
            self._try_at = now + self._backoff.pause_s()
            self._health.now(State.RECONNECTING, error.message)
            log.warning(
                "source not reached server=%s code=%s retry_seconds=%.1f", self._name, error.code, self._try_at - now
            )

    def _adopt(self, opened: Opened) -> None:
        if self._lost:
            self._health.reconnected()
        self._opened, self._lost, self._torn = opened, False, None
        self._server, self._info, self._charsets = opened.server, opened.info, opened.charsets
        self._generation, self._checkpoint = opened.generation, opened.checkpoint
        self._pieces = PieceStream(opened.stream, opened.framer, opened.target, opened.asked_at_us)
        self._backoff.reset()
        self._health.running(self._generation, self._checkpoint)

    def _lose(self, error: SourceUnreachable) -> None:
        """The connection is gone. What was read stays good; the worker is free to close windows and to drain meanwhile."""
        self._pieces.close()
        self._lost = True
        now = time.monotonic()
        self._try_at = now + self._backoff.pause_s()
        self._give_up_at = now + self._capture.patience_s()
        self._health.now(State.RECONNECTING, error.message)
        log.warning("source lost server=%s code=%s", self._name, error.code)

    def _read_again(self, rollback: ReadAgain) -> None:
        """A long transaction, of which a part has been passed on, rolled rows of it back: the steps behind drop that part
        when its first rows come again."""
        self._pieces.close()
        self._lost, self._rolled_back = True, rollback.spans
        self._try_at = time.monotonic()
        self._give_up_at = self._try_at + self._capture.patience_s()
        log.info("reading a transaction again server=%s rolled_back=%s", self._name, rollback)

    def _go_behind(self, torn: Torn) -> None:
        """The server died inside the last transaction of a file: on with the next file, whose beginning proves it. The
        steps behind drop what was passed on of that transaction."""
        self._pieces.close()
        self._lost, self._torn, self._rolled_back = True, torn, ()
        self._try_at = time.monotonic()
        self._give_up_at = self._try_at + self._capture.patience_s()
        log.warning("a transaction without its end server=%s file=%s", self._name, torn.file)

    def _fail(self, error: RowbackError) -> None:
        """An opening failed for good."""
        if self._opened is not None:
            self._stop = error
            return
        self._finished = True
        log.error("capture stopped server=%s code=%s", self._name, error.code)
        self._health.stopped(error)

    def _end(self, error: RowbackError) -> list[tuple[str, EventBatch | Stop]]:
        """The stop goes behind everything that was emitted; the sink records the gap and may know a better reason."""
        self._finished = True
        self._health.now(State.STOPPED, error.message)
        log.error("capture stopped server=%s code=%s", self._name, error.code)
        return [(self._name, Stop(self._name, self._generation, error))]

    def _give_up_generation(self, error: RowbackError) -> list[tuple[str, EventBatch | Stop]]:
        """The sink can't write any more. Its Stop clears the steps between; then, if it may pass, a new generation begins
        where the archive ends."""
        moved, self._moved, self._flushing = isinstance(error, SourceMoved), None, False
        if not moved and not (error.retryable and self._capture.keeps_trying):
            self._health.stopped(error)
            return self._end(error)
        self._pieces.close()
        stop = Stop(self._name, self._generation, error)
        self._opened, self._lost = None, False
        now = time.monotonic()
        self._try_at = now if moved else now + self._backoff.pause_s()
        self._give_up_at = now + self._capture.patience_s() if moved else float("inf")
        self._health.now(State.RECONNECTING, error.message)
        log.warning("capture begins again server=%s code=%s", self._name, error.code)
        return [(self._name, stop)]

    def _flush_before_failover(self) -> list[tuple[str, EventBatch | Stop]]:
        """Another server answers: what was read from the old one is committed first. The sink says when that is done."""
        if self._flushing or self._moved is None:
            return []
        self._flushing = True
        return [(self._name, Stop(self._name, self._generation, self._moved))]

    # --- reading

    def _take(self) -> list[tuple[str, EventBatch | Stop]]:
        """The pieces that are ready, and the end if that was all that was asked for."""
        pieces = self._pieces.take()
        self._idle_s = 0.0 if pieces else min(max(2 * self._idle_s, FIRST_POLL_S), POLL_S)
        if self._pieces.complete:
            self._finished = True
        if not pieces:
            return []
        self._checkpoint = pieces[-1].after
        failpoint("source.emit")
        self._health.read(sum(len(p.transactions) - p.open for p in pieces), sum(p.size_bytes for p in pieces))
        return [
            (self._name, EventBatch(self._name, self._info.flavor, self._generation, piece, self._charsets))
            for piece in pieces
        ]
