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
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow as pa

from dataflow import drain
from dataflow.batches import Changes, Part, Window
from dataflow.health import ServerHealth
from recovery.archive.actions import Action, Checkpoint, SchemaSeen, Segment, Transactions
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import write_segment, write_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import BinlogDamaged, CommitConflict, StoreUnavailable
from recovery.failpoint import failpoint
from recovery.schema import Table

UPLOADS = 4  # threads that encode and upload: more than the cores, for uploads wait for the network
MAX_WINDOWS = 8
MEMORY_BYTES = 128 * 1024 * 1024
DRAIN_PATIENCE_S = 20  # how long a store may be away once capture was asked to end
STORE_PATIENCE_S = 300  # how long it may be away before capture gives up; the source keeps its binlog meanwhile
HOUR_US = 3_600_000_000
T = TypeVar("T")
Uploaded = Segment | Transactions
log = logging.getLogger("rowback.capture")


@dataclass(frozen=True)
class Archive:
    """One server's archive."""

    store: Store
    layout: Layout
    log: Log


@dataclass(frozen=True)
class _Pending:
    """A window whose objects are on their way."""

    window: Window
    uploads: Sequence[Future[Uploaded]]
    began: float


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
        self._queue: deque[_Pending] = deque()
        self._parts: list[Sequence[Future[Uploaded]]] = []
        self._held_bytes = 0
        self._error: BaseException | None = None
        self._closed = False
        # The committing thread's own, and the worker's after `flush`.
        self._state: ArchiveState | None = None

    def put(self, item: Window | Part) -> None:
        """Take an item in; blocks while there is no room. Raises the error that ended the background, if one did."""
        failpoint("sink.window")
        jobs = list(self._jobs(item))
        size = sum(n for n, _ in jobs)
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._room(size))
            self._raise()
            self._held_bytes += size
        uploads = [self._submit(n, job) for n, job in jobs]
        if isinstance(item, Part):
            self._parts.append(uploads)
            return
        if item.parts != len(self._parts):
            raise BinlogDamaged(
                f"the window to seq {item.after.seq} has {item.parts} parts, and {len(self._parts)} came",
                hint="Nothing of it was committed. Start capture again; report this if it recurs.",
            )
        ahead = [upload for part in self._parts for upload in part]
        self._parts = []
        with self._changed:
            self._queue.append(_Pending(item, [*ahead, *uploads], time.monotonic()))
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
                pending = self._queue[0]
            try:
                uploaded = [upload.result() for upload in pending.uploads]
                failpoint("sink.uploaded")
                if self._state is None:
                    self._state = with_patience(self._archive.log.read)
                self._state = commit_window(self._archive, self._state, pending.window, uploaded, pending.began)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends capture
                with self._changed:
                    self._error = error
                    self._queue.clear()
                    self._changed.notify_all()
                return
            self._tell(pending.window, uploaded)
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()

    def _tell(self, window: Window, uploaded: Sequence[Uploaded]) -> None:
        rows = sum(a.rows for a in uploaded if isinstance(a, Segment))
        self._health.committed(window.after, sum(t.num_rows for t in window.transactions), rows)

    def _jobs(self, item: Window | Part) -> Iterator[tuple[int, Callable[[], Uploaded]]]:
        """(bytes of rows held, upload) for each object of the item."""
        store, layout = self._archive.store, self._archive.layout
        for table, data in _segments(item.changes):
            yield data.nbytes, partial(with_patience, partial(write_segment, store, layout, table, data))
        if isinstance(item, Window) and item.transactions:
            for data in by_hour(pa.Table.from_batches(item.transactions), "cut_at_us"):
                yield data.nbytes, partial(with_patience, partial(write_transactions, store, layout, data))


def commit_window(
    archive: Archive, state: ArchiveState, window: Window, uploaded: Sequence[Uploaded], began: float
) -> ArchiveState:
    """Commit a window whose objects are uploaded. Raises Fenced if another capture has taken over, CommitConflict if the
    archive doesn't end where the window begins, StoreError if the store stays away; nothing is visible then."""

    def build(head: ArchiveState) -> Sequence[Action]:
        check_follows(head, window.before)
        schemas = {table.schema_id: table for table, _ in window.changes}
        new = [
            SchemaSeen(schema_id, window.before.seq + 1, table)
            for schema_id, table in schemas.items()
            if schema_id not in head.schemas
        ]
        return [*new, *uploaded, *window.ddl, window.after]

    commit_id = secrets.token_hex(16)
    after = with_patience(lambda: archive.log.commit(state, build, generation=window.generation, commit_id=commit_id))
    failpoint("sink.committed")
    rows = sum(a.rows for a in uploaded if isinstance(a, Segment))
    log.info(
        "window committed version=%d seq=%d rows=%d segments=%d seconds=%.3f",
        after.version, window.after.seq, rows, len(uploaded), time.monotonic() - began,
    )  # fmt: skip
    return after


def check_follows(head: ArchiveState, before: Checkpoint) -> None:
    """Raises CommitConflict unless the archive ends exactly where a window begins. Positions aren't compared: the GTIDs and
    seq say more, and a source that takes over from another has positions of its own."""
    at = head.checkpoint
    if at is not None and _place(at) == _place(before):
        return
    raise CommitConflict(
        f"the archive is at seq {at.seq if at else 0} and this window follows on seq {before.seq}",
        hint="Another capture wrote in between; start again, it resumes from the archive.",
    )


def _place(at: Checkpoint) -> tuple[int, int, int, str]:
    return at.seq, at.cut_at_us, at.covered_to_us, at.gtid_set


def _segments(changes: Changes) -> Iterator[tuple[Table, pa.Table]]:
    for table, batches in changes:
        for data in by_hour(pa.Table.from_batches(batches), "_rb_cut_at_us"):
            yield table, data


def by_hour(data: pa.Table, column: str) -> Iterator[pa.Table]:
    """The data in parts that each lie within one hour. Cut times ascend, so each is a slice, and nearly always the only
    one: the window step closes at the hour."""
    times = data[column]
    first, last = times[0].as_py() // HOUR_US, times[len(times) - 1].as_py() // HOUR_US
    if first == last:
        yield data
        return
    hours = times.to_numpy() // HOUR_US
    starts = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(hours)]
    for start, end in pairwise(starts):
        yield data.slice(start, end - start)


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
