"""A source's pieces, made in a thread of their own: while one batch is decoded, the next is framed.

Promises: pieces come out in the stream's order, and what ended the stream comes up behind everything that stood before it.
At most one batch is made ahead of what was taken, so a stream that only trickles isn't cut into tiny pieces: what arrives
meanwhile is gathered, up to BATCH_BYTES.
"""

from __future__ import annotations

import threading
from typing import Final

from dataflow.framer import Diverged, Framer
from dataflow.pieces import Piece
from dataflow.resume import diverged
from dataflow.stream import EventStream
from dataflow.torn import CUT_SHORT, Torn
from recovery.errors import RowbackError
from recovery.failpoint import failpoint
from recovery.gtid import binlog_order

BATCH_BYTES: Final = 8 * 1024 * 1024
_WAIT_S: Final = 0.5  # how long a wait for bytes lasts before it looks whether the stream was closed


class PieceStream:
    """target: (file, position) at which the stream is complete, None for one without an end; asked_at_us: when the server
    said that it was its end. `take` never blocks; `close` ends the threads and the connection."""

    def __init__(
        self, stream: EventStream, framer: Framer, target: tuple[str, int] | None = None, asked_at_us: int = 0
    ) -> None:
        self._stream, self._framer = stream, framer
        self._target, self._asked_at_us = target, asked_at_us
        self._asked_for = (framer.file, framer.position)
        self._changed = threading.Condition()
        # Below: only with the lock.
        self._ready: list[Piece] = []
        self._closed = self._complete = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="binlog-framer", daemon=True)
        self._thread.start()

    def take(self) -> list[Piece]:
        """The pieces of the next batch; none if none is ready. Raises what ended the stream once all have been taken."""
        with self._changed:
            if self._ready:
                pieces, self._ready = self._ready, []
                self._changed.notify_all()
                return pieces
            if self._error is not None:
                raise self._error
            return []

    @property
    def complete(self) -> bool:
        """Whether everything up to the target has been taken."""
        with self._changed:
            return self._complete and not self._ready

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stream.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            while self._wait_for_room():
                pieces = self._next()
                with self._changed:
                    self._ready = pieces
                    if self._reached():
                        self._complete = True
                        return
        except BaseException as error:  # noqa: BLE001  (raised again where the pieces are taken)
            with self._changed:
                self._error = error

    def _wait_for_room(self) -> bool:
        """Until the next batch may be made; False once the stream is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._ready)
            return not self._closed

    def _next(self) -> list[Piece]:
        """What the next bytes hold, and the idle mark. What stands before a failure comes first, then the failure."""
        framer = self._framer
        self._raise_failure()
        taken = self._stream.take(BATCH_BYTES, _WAIT_S)
        pieces: list[Piece] = []
        if taken:
            # One arrival for all: the last, for a commit that is read can't be later than it.
            pieces = framer.feed([chunk for chunk, _ in taken], taken[-1][1])
        if framer.in_transaction:
            failpoint("source.mid-transaction")
        covered = None if framer.in_transaction else framer.idle_since_us
        framer.idle_since_us = None
        if self._reached():
            covered = max(covered or 0, self._asked_at_us)
        if covered is not None and framer.failure is None:
            pieces.append(framer.idle(covered))
        if not pieces:
            self._raise_failure()
        return pieces

    def _raise_failure(self) -> None:
        framer = self._framer
        if isinstance(framer.failure, Diverged):
            raise diverged(str(framer.failure))
        if framer.failure is not None:
            raise framer.failure
        if framer.ending is not None:
            raise ended(self._stream, framer, began=(framer.file, framer.position) != self._asked_for)

    def _reached(self) -> bool:
        framer = self._framer
        if self._target is None or framer.failure is not None or framer.in_transaction or not framer.proved:
            return False
        return binlog_order(framer.file, framer.position) >= binlog_order(*self._target)


def ended(stream: EventStream, framer: Framer, *, began: bool) -> RowbackError | Torn:
    """What the packet means with which the server ended the stream. began: see `EventStream.ended`."""
    assert framer.ending is not None
    error = stream.ended(framer.ending, began=began)
    if framer.flavor == "mariadb" and framer.proved and CUT_SHORT in framer.ending:
        return Torn(framer.file, error)
    return error
