"""A sink partition that keeps its errors to its own server.

Promises: what fails is told to the server's source (dataflow/health.py) instead of being raised, which would end every
worker; from then on nothing of that generation is written, whatever still comes through. A Stop of the source ends here:
the error that the sink makes of it is the one that the user is shown. A Stop for a failover only says that all before it
is committed. Errors that aren't ours still end the process.
"""

from __future__ import annotations

from collections.abc import Callable

from bytewax.outputs import StatefulSinkPartition

from dataflow.batches import Item, Stop
from dataflow.health import ServerHealth
from recovery.errors import RowbackError, SourceMoved


class GuardedPartition(StatefulSinkPartition[Item, None]):
    """build: makes the partition that does the work; again for each generation that follows on a failed one."""

    def __init__(self, build: Callable[[], StatefulSinkPartition[Item, None]], health: ServerHealth) -> None:
        self._build = build
        self._health = health
        self._inner: StatefulSinkPartition[Item, None] | None = None
        self._failed = -1

    def write_batch(self, values: list[Item]) -> None:
        for value in values:
            if value.generation <= self._failed:
                continue
            if self._inner is None:
                self._inner = self._build()
            try:
                self._inner.write_batch([value])
            except RowbackError as error:
                self._fail(value, error)

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def _fail(self, value: Item, error: RowbackError) -> None:
        self._failed = value.generation
        if isinstance(value, Stop) and not isinstance(value.error, SourceMoved):
            self._health.stopped(error)
        else:
            self._health.failed(value.generation, error)
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()
