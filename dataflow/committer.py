"""Windows become objects and commits in the background, while the worker goes on decoding.

    put(window) -> encode and upload in threads, any order -> one thread commits, strictly in the order of `put`

Promises: at most `memory_bytes` of rows wait or are being encoded (one item that is larger alone excepted) and at most
MAX_WINDOWS windows wait for their commit: `put` blocks until there is room. A window's commit is begun only when all its
objects and those of its Parts are uploaded, and stands before the next one is begun. The first error ends it: nothing
behind it is committed, and `put`, `check` and `flush` raise it from then on. What was uploaded and not committed is an
orphan, and the next start reads the source from the last commit again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dataflow import drain
from dataflow.batches import Part, Window
from dataflow.commits import Archive, Closed, close, commit, counted, ready
from dataflow.health import ServerHealth
from dataflow.uploads import Uploaded, jobs
from recovery.archive.state import ArchiveState
from recovery.errors import BinlogDamaged, StoreUnavailable
from recovery.failpoint import failpoint

UPLOADS = 4  # threads that encode and upload: more than the cores, for uploads wait for the network
MAX_WINDOWS = 8
MEMORY_BYTES = 128 * 1024 * 1024
DRAIN_PATIENCE_S = 20  # how long a store may be away once capture was asked to end
STORE_PATIENCE_S = 300  # how long it may be away before capture gives up; the source keeps its binlog meanwhile
T = TypeVar("T")
log = logging.getLogger("rowback.capture")


class Committer:
    """One server's pipeline. Its methods are called from one thread, the worker's."""

    def __init__(self, archive: Archive, health: ServerHealth, memory_bytes: int = MEMORY_BYTES) -> None:
        self._archive = archive
        self._health = health
        self._memory_bytes = memory_bytes
        self._pool = ThreadPoolExecutor(UPLOADS, thread_name_prefix="rowback-upload")
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        # Below: only with the lock.
        self._queue: deque[tuple[Closed, Sequence[Future[Uploaded]]]] = deque()
        self._parts: list[tuple[Part, Sequence[Future[Uploaded]]]] = []
        self._held_bytes = 0
        self._error: BaseException | None = None
        self._closed = False
        # The committing thread's own, and the worker's after `flush`.
        self._state: ArchiveState | None = None

    def put(self, item: Window | Part) -> None:
        """Take an item in; blocks while there is no room. Raises the error that ended the background, if one did."""
        failpoint("sink.window")
        todo = [(n, partial(with_patience, job)) for n, job in jobs(item, self._archive.store, self._archive.layout)]
        size = sum(n for n, _ in todo)
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._room(size))
            self._raise()
            self._held_bytes += size
        uploads = [self._submit(n, job) for n, job in todo]
        if isinstance(item, Part):
            self._parts.append((without_rows(item), uploads))
            return
        if item.parts != len(self._parts):
            raise BinlogDamaged(
                f"the window to seq {item.after.seq} has {item.parts} parts, and {len(self._parts)} came",
                hint="Nothing of it was committed. Start capture again; report this if it recurs.",
            )
        closed = close(item, [part for part, _ in self._parts])
        ahead = [upload for _, part in self._parts for upload in part]
        self._parts = []
        with self._changed:
            self._queue.append((closed, [*ahead, *uploads]))
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rowback-commit", daemon=True)
            self._thread.start()

    def drop_parts(self) -> None:
        """The Parts since the last window are void: their objects stay as orphans."""
        self._parts = []

    def check(self) -> None:
        """Raise the error that ended the background, if one did."""
        with self._changed:
            self._raise()

    def flush(self) -> ArchiveState:
        """Wait until every window is committed, and return the archive's state as of the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not self._queue)
            self._raise()
        if self._state is None:
            self._state = self._archive.log.read()
        return self._state

    def close(self) -> None:
        """End the threads; what isn't committed is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            self._thread.join(timeout=DRAIN_PATIENCE_S)

    def _room(self, size: int) -> bool:
        fits = self._held_bytes == 0 or self._held_bytes + size <= self._memory_bytes
        return fits and len(self._queue) < MAX_WINDOWS

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _submit(self, size: int, job: Callable[[], Uploaded]) -> Future[Uploaded]:
        future = self._pool.submit(job)

        def done(_: Future[Uploaded]) -> None:
            with self._changed:
                self._held_bytes -= size
                self._changed.notify_all()

        future.add_done_callback(done)
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                closed, uploads = self._queue[0]
            try:
                uploaded = [upload.result() for upload in uploads]
                failpoint("sink.uploaded")
                if self._state is None:
                    self._state = with_patience(self._archive.log.read)
                self._state = self._commit(self._state, closed, uploaded)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends capture
                with self._changed:
                    self._error = error
                    self._queue.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()

    def _commit(self, state: ArchiveState, closed: Closed, uploaded: Sequence[Uploaded]) -> ArchiveState:
        what = with_patience(partial(ready, self._archive, state, closed, uploaded))
        after = with_patience(partial(commit, self._archive.log, state, what))
        failpoint("sink.committed")
        transactions, rows, objects = counted(what)
        log.info(
            "window committed version=%d seq=%d rows=%d segments=%d seconds=%.3f",
            after.version, closed.after.seq, rows, objects, time.monotonic() - closed.began,
        )  # fmt: skip
        self._health.committed(closed.after, transactions, rows)
        self._health.pending(len(after.pending))
        return after


def without_rows(part: Part) -> Part:
    """What is left of a part once its rows are on their way."""
    tables = [table for table, _ in part.changes] + [table for p in part.prepared for table, _ in p.changes]
    prepared = tuple(replace(p, changes=()) for p in part.prepared)
    return replace(part, changes=tuple((table, ()) for table in tables), prepared=prepared)


def with_patience(action: Callable[[], T]) -> T:
    """Repeat while the store is unavailable, for a while."""
    started = time.monotonic()
    pause = 0.5
    while True:
        try:
            return action()
        except StoreUnavailable as error:
            patience = DRAIN_PATIENCE_S if drain.requested() else STORE_PATIENCE_S
            if time.monotonic() + pause > started + patience:
                raise
            log.warning("store unavailable code=%s retry_seconds=%.1f", error.code, pause)
            time.sleep(pause)
            pause = min(pause * 2, 15)
