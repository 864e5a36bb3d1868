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

from dataflow import drain
from dataflow.batches import Part, Window
from dataflow.commits import Archive, Closed, Ready, close, commit, counted, ready
from dataflow.health import ServerHealth
from dataflow.spool import paths_of, send
from dataflow.uplink import DRAIN_PATIENCE_S, RETRY_S, STORE_PATIENCE_S, Uplink, Waiting
from dataflow.uploads import Uploaded, jobs
from recovery.archive.state import EMPTY, ArchiveState
from recovery.errors import BinlogDamaged, StoreFull, StoreUnavailable
from recovery.failpoint import failpoint

UPLOADS = 4  # threads that encode and upload: more than the cores, for uploads wait for the network
MAX_WINDOWS = 8
MEMORY_BYTES = 128 * 1024 * 1024
log = logging.getLogger("rowback.capture")


class Committer:
    """One server's pipeline. Its methods are called from one thread, the worker's."""

    def __init__(
        self,
        archive: Archive,
        health: ServerHealth,
        memory_bytes: int = MEMORY_BYTES,
        kept_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        if archive.spool_folder and archive.spool_bytes:
            # A store that doesn't answer costs minutes an attempt: after one the window goes to the spool.
            archive = replace(archive, log=archive.log.with_attempts(1))
        self._archive = archive
        self._uplink = Uplink(archive, health, kept_s)
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
        self._drainer: threading.Thread | None = None  # while windows wait in the spool
        self._progress_at = time.monotonic()
        # The committing thread's own while there is no drainer, else the drainer's; the worker's after `flush`.
        self._state: ArchiveState | None = None

    def put(self, item: Window | Part) -> None:
        """Take an item in; blocks while there is no room. Raises the error that ended the background, if one did."""
        failpoint("sink.window")
        todo = [*jobs(item, self._uplink, self._archive.layout)]
        size = sum(n for n, _ in todo)
        with self._changed:
            self._wait(lambda: self._room(size), float("inf"))
            self._held_bytes += size
        uploads = [self._submit(n, job) for n, job in todo]
        if isinstance(item, Part):
            self._parts.append((without_rows(item), uploads))
            failpoint("sink.part")
            return
        if item.parts != len(self._parts):
            raise BinlogDamaged(
                f"the window to seq {item.after.seq} has {item.parts} parts, and {len(self._parts)} came",
                hint="Nothing of it was committed. Start capture again; report this if it recurs.",
            )
        closed = close(item, [part for part, _ in self._parts])
        ahead = [upload for _, part in self._parts for upload in part]
        self._parts = []
        self._uplink.reached_us = item.after.covered_to_us
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
            self._wait(lambda: not self._queue and self._drainer is None, STORE_PATIENCE_S)
        if self._state is None:
            self._state = self._archive.log.read()
        return self._state

    def close(self) -> None:
        """End the threads; what isn't committed is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._uplink.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for thread in (self._thread, self._drainer):
            if thread is not None:
                thread.join(timeout=DRAIN_PATIENCE_S)
        self._uplink.spool.release()

    def _wait(self, done: Callable[[], bool], patience_s: float) -> None:
        """Wait with the lock. Raises the error of the background, and StoreUnavailable if the store stays away for longer
        than that without a commit, or for longer than DRAIN_PATIENCE_S once capture was asked to end."""
        began = time.monotonic()
        while self._error is None and not done():
            self._changed.wait(0.5)
            patience = DRAIN_PATIENCE_S if drain.requested() else patience_s
            stuck = self._drainer is not None or self._uplink.away
            if stuck and time.monotonic() > max(began, self._progress_at) + patience:
                raise self._still_away()
        self._raise()

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
                self._settle(closed, uploaded)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends capture
                self._fail(error)
                return
            with self._changed:
                if self._error is not None:  # the spool's thread met one, and emptied the queue
                    return
                self._queue.popleft()
                self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._queue.clear()
            self._changed.notify_all()

    def _settle(self, closed: Closed, uploaded: Sequence[Uploaded]) -> None:
        """Bring a window's commit into the archive, or into the spool if the store is away or others wait there."""
        uplink = self._uplink
        if closed.resolved:  # what it ends must be in the archive, and is read there
            with self._changed:
                self._changed.wait_for(lambda: self._drainer is None or self._error is not None or self._closed)
                self._raise()
                if self._closed:
                    raise StoreUnavailable("capture ended", hint="Start it again.")
        self._know_head(needed=bool(closed.resolved))
        what = uplink.patiently(partial(ready, self._archive, self._state or EMPTY, closed, uploaded))
        wait = Waiting(uplink)
        while True:
            with self._changed:
                direct = self._drainer is None and not len(uplink.spool)
            if direct and self._state is not None and not any(uplink.spool.has(path) for path in paths_of(what)):
                try:
                    self._committed(commit(self._archive.log, self._state, what), what, closed.began)
                    return
                except StoreUnavailable as error:
                    uplink.lost(error)
                    wait.error = error
            if uplink.spooling():
                try:
                    uplink.spool.append(what)
                except StoreFull as error:
                    uplink.full(error)
                else:
                    self._drain_from_now()
                    return
            wait.next()

    def _know_head(self, *, needed: bool) -> None:
        """Read the archive's head, once. What is made up for the spool doesn't need it."""
        if self._state is not None:
            return
        try:
            self._state = self._archive.log.read()
        except StoreUnavailable as error:
            self._uplink.lost(error)
            if needed or not self._uplink.spooling():
                self._state = self._uplink.patiently(self._archive.log.read)

    def _committed(self, after: ArchiveState, what: Ready, began: float) -> None:
        failpoint("sink.committed")
        self._state = after
        transactions, rows, objects = counted(what)
        log.info(
            "window committed version=%d seq=%d rows=%d segments=%d seconds=%.3f",
            after.version, what.after.seq, rows, objects, time.monotonic() - began,
        )  # fmt: skip
        self._health.committed(what.after, transactions, rows)
        self._health.pending(len(after.pending))
        with self._changed:
            self._progress_at = time.monotonic()

    # --- the spool

    def _drain_from_now(self) -> None:
        """A window is in the spool: see to it that a thread brings it to the archive."""
        self._health.spooled(len(self._uplink.spool), self._uplink.spool.size_bytes)
        with self._changed:
            if self._drainer is None:
                self._progress_at = time.monotonic()
                self._drainer = threading.Thread(target=self._drain, name="rowback-spool", daemon=True)
                self._drainer.start()

    def _drain(self) -> None:
        """Commit what is in the spool, in order, whenever the store answers. Ends when the spool is empty: until then no
        other thread commits."""
        spool, pause_s = self._uplink.spool, 1.0
        while True:
            with self._changed:
                entry = spool.first()
                if entry is None or self._closed:
                    self._drainer = None
                    self._changed.notify_all()
                    return
            began = time.monotonic()
            try:
                if self._state is None:
                    self._state = self._archive.log.read()
                after = send(self._archive, spool, entry, self._state)
            except StoreUnavailable as error:
                self._uplink.lost(error)
                self._uplink.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_S)
                continue
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends capture
                self._fail(error)
                return
            pause_s = 1.0
            self._uplink.back()
            self._committed(after, entry.what, began)
            self._health.spooled(len(spool), spool.size_bytes)

    def _still_away(self) -> StoreUnavailable:
        spool = self._uplink.spool
        return StoreUnavailable(
            f"the store is away, and {len(spool)} windows wait in the spool `{spool.folder}`",
            hint="The next `rowback capture` commits them once the store answers; until then the source's binlog and this "
            "folder are all that has them.",
        )


def without_rows(part: Part) -> Part:
    """What is left of a part once its rows are on their way."""
    tables = [table for table, _ in part.changes] + [table for p in part.prepared for table, _ in p.changes]
    prepared = tuple(replace(p, changes=()) for p in part.prepared)
    return replace(part, changes=tuple((table, ()) for table in tables), prepared=prepared)
