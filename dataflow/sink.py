"""SegmentSink: each window becomes change segments, a transactions segment and one log commit."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflow import drain
from dataflow.batches import Stop, Window
from dataflow.guard import GuardedPartition
from dataflow.health import Health, ServerHealth
from dataflow.resume import record_gap
from recovery.archive.actions import Action, SchemaSeen, Segment, Transactions
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import write_segment, write_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import (
    BinlogPurged,
    CaptureError,
    CommitConflict,
    SourceDiverged,
    SourceMisconfigured,
    StoreError,
    StoreUnavailable,
)
from recovery.failpoint import failpoint

UPLOADS = 4
DRAIN_PATIENCE_S = 20  # the same once it was asked to end
STORE_PATIENCE_S = 300  # how long a store may be away before capture gives up; the source keeps its binlog meanwhile
# Errors after which something of the source's history isn't in the archive.
LEAVES_A_GAP = (CaptureError, SourceMisconfigured, SourceDiverged, BinlogPurged)
HOUR_US = 3_600_000_000
T = TypeVar("T")
log = logging.getLogger("rowback.capture")


@dataclass(frozen=True)
class Archive:
    """One server's archive."""

    store: Store
    layout: Layout
    log: Log


class SegmentSink(FixedPartitionedSink[Window | Stop, None]):
    """Writes each server's windows to its archive, one partition a server."""

    def __init__(self, archives: Mapping[str, Callable[[], Archive]], health: Health) -> None:
        self._archives = archives
        self._health = health

    def list_parts(self) -> list[str]:
        return sorted(self._archives)

    def part_fn(self, item_key: str) -> int:
        return self.list_parts().index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> GuardedPartition:
        health = self._health.of(for_part)
        return GuardedPartition(lambda: _ArchivePartition(self._archives[for_part](), health), health)


class _ArchivePartition(StatefulSinkPartition[Window | Stop, None]):
    def __init__(self, archive: Archive, health: ServerHealth) -> None:
        self._archive = archive
        self._health = health
        self._state: ArchiveState | None = None

    def write_batch(self, values: list[Window | Stop]) -> None:
        for value in values:
            if self._state is None:
                self._state = self._archive.log.read()
            if isinstance(value, Window):
                self._state = commit_window(self._archive, self._state, value)
                rows = sum(batch.num_rows for _, batches in value.changes for batch in batches)
                self._health.committed(value.after, sum(t.num_rows for t in value.transactions), rows)
                continue
            self._check_fence(value)
            if isinstance(value.error, LEAVES_A_GAP):
                record_gap(self._archive.log, self._state, value.generation, value.error.message)
            raise value.error

    def snapshot(self) -> None:
        return None

    def _check_fence(self, stop: Stop) -> None:
        """Raises Fenced if another capture has taken over, for then that is the reason why the source's stream ended: it
        serves only one replica of a server id."""
        with suppress(StoreError):
            self._archive.log.commit(self._archive.log.read(), lambda _: (), generation=stop.generation)


def commit_window(archive: Archive, state: ArchiveState, window: Window) -> ArchiveState:
    """Upload the window's objects, then commit them. Raises Fenced if another capture has taken over, StoreError if the
    store stays away; nothing is visible then, and the next start reads the source from the last commit again."""
    started = time.monotonic()
    failpoint("sink.window")
    uploaded = _with_patience(lambda: _upload(archive, window))
    failpoint("sink.uploaded")

    def build(head: ArchiveState) -> Sequence[Action]:
        at = head.checkpoint
        if at is None or (at.seq, at.covered_to_us) > (window.before.seq, window.before.covered_to_us):
            raise CommitConflict(
                f"the archive is at seq {at.seq if at else 0} and this window follows on seq {window.before.seq}",
                hint="Another capture wrote in between; start again, it resumes from the archive.",
            )
        schemas = {table.schema_id: table for table, _ in window.changes}
        new = [
            SchemaSeen(schema_id, window.before.seq + 1, table)
            for schema_id, table in schemas.items()
            if schema_id not in head.schemas
        ]
        return [*new, *uploaded, *window.ddl, window.after]

    commit_id = secrets.token_hex(16)
    after = _with_patience(lambda: archive.log.commit(state, build, generation=window.generation, commit_id=commit_id))
    failpoint("sink.committed")
    rows = sum(a.rows for a in uploaded if isinstance(a, Segment))
    log.info(
        "window committed version=%d seq=%d rows=%d segments=%d seconds=%.3f",
        after.version, window.after.seq, rows, len(uploaded), time.monotonic() - started,
    )  # fmt: skip
    return after


def _upload(archive: Archive, window: Window) -> list[Segment | Transactions]:
    jobs: list[Callable[[], Segment | Transactions]] = [
        partial(write_segment, archive.store, archive.layout, table, part)
        for table, batches in window.changes
        for part in _by_hour(pa.Table.from_batches(batches), "_rb_cut_at_us")
    ]
    if window.transactions:
        jobs += [
            partial(write_transactions, archive.store, archive.layout, part)
            for part in _by_hour(pa.Table.from_batches(window.transactions), "cut_at_us")
        ]
    if not jobs:
        return []
    with ThreadPoolExecutor(max_workers=UPLOADS) as pool:
        return list(pool.map(lambda job: job(), jobs))


def _by_hour(data: pa.Table, column: str) -> Iterator[pa.Table]:
    """The data in parts that each lie within one hour; cut times ascend, so each part is a slice."""
    hours = pc.divide(data[column], HOUR_US)  # of integers: rounds down
    for run in pc.value_counts(hours):
        yield data.filter(pc.equal(hours, run["values"]))


def _with_patience(action: Callable[[], T]) -> T:
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
