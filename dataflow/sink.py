"""SegmentSink: each window becomes change segments, a transactions segment and one log commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflow.batches import Dropped, Item, Part, Pulse, Stop, Window
from dataflow.commits import Archive as Archive  # other steps know it from here
from dataflow.committer import Committer
from dataflow.guard import GuardedPartition
from dataflow.health import Health, ServerHealth
from dataflow.resume import record_gap
from recovery.errors import BinlogPurged, CaptureError, SourceDiverged, SourceMisconfigured, StoreError

# Errors after which something of the source's history isn't in the archive.
LEAVES_A_GAP = (CaptureError, SourceMisconfigured, SourceDiverged, BinlogPurged)


class SegmentSink(FixedPartitionedSink[Item, None]):
    """Writes each server's windows to its archive, one partition a server. memory_bytes: of rows, by server. kept_s: asks
    for how long a server keeps its binlog."""

    def __init__(
        self,
        archives: Mapping[str, Callable[[], Archive]],
        health: Health,
        memory_bytes: Mapping[str, int],
        kept_s: Mapping[str, Callable[[], float | None]],
    ) -> None:
        self._kept_s = kept_s
        self._archives = archives
        self._health = health
        self._memory_bytes = memory_bytes

    def list_parts(self) -> list[str]:
        return sorted(self._archives)

    def part_fn(self, item_key: str) -> int:
        return self.list_parts().index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> GuardedPartition:
        health, memory = self._health.of(for_part), self._memory_bytes[for_part]
        kept = self._kept_s[for_part]
        return GuardedPartition(lambda: _ArchivePartition(self._archives[for_part](), health, memory, kept), health)


class _ArchivePartition(StatefulSinkPartition[Item, None]):
    """Hands windows to the background, which commits them in order; its errors come up at the next item, and the window
    step sends a Pulse where no other item comes. Nothing is flushed in `close`, which Bytewax also calls after an error."""

    def __init__(
        self, archive: Archive, health: ServerHealth, memory_bytes: int, kept_s: Callable[[], float | None]
    ) -> None:
        self._archive = archive
        self._committer = Committer(archive, health, memory_bytes, kept_s)

    def write_batch(self, values: list[Item]) -> None:
        for value in values:
            if isinstance(value, Stop):
                self._stop(value)
                continue
            try:
                self._take(value)
            except LEAVES_A_GAP as error:
                record_gap(self._archive.log, self._archive.log.read(), value.generation, error.message)
                raise

    def _take(self, value: Window | Part | Dropped | Pulse) -> None:
        if isinstance(value, Dropped):
            self._committer.drop_parts()
        elif isinstance(value, Window | Part):
            self._committer.put(value)
        elif value.flush:
            self._committer.flush()
        else:
            self._committer.check()

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._committer.close()

    def _stop(self, stop: Stop) -> None:
        """Commit what came before, then raise the error, with a gap recorded if it leaves one."""
        state = self._committer.flush()
        self._check_fence(stop)
        if isinstance(stop.error, LEAVES_A_GAP):
            record_gap(self._archive.log, state, stop.generation, stop.error.message)
        raise stop.error

    def _check_fence(self, stop: Stop) -> None:
        """Raises Fenced if another capture has taken over, for then that is the reason why the source's stream ended: it
        serves only one replica of a server id."""
        with suppress(StoreError):
            self._archive.log.commit(self._archive.log.read(), lambda _: (), generation=stop.generation)
