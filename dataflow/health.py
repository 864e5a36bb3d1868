"""How each captured server is doing: what the steps of the dataflow tell each other and the process about it.

One Health per process, shared by its workers' threads. A server's source and sink always stand on the same worker
(Bytewax deals partitions out in the order of their names, for each step alike), so the sink can tell the source here that
it gave up, and one server's end needn't end the others: an exception would end every worker.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from recovery.archive.actions import Checkpoint
from recovery.errors import RowbackError, SourceMoved

RATE_S: Final = 60


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    RECONNECTING = "reconnecting"
    PAUSED = "paused"  # the store is away and the spool is full
    STOPPED = "stopped"  # by an error, for good
    ENDED = "ended"  # drained or caught up


@dataclass(frozen=True)
class Figures:
    """One server at one moment. Counters are of this process. read_*: what came from the source; committed_*: what is in
    the archive. Times are microseconds since the epoch, 0: not yet."""

    server: str
    state: State
    reason: str
    generation: int
    reconnects: int
    read_transactions: int
    read_bytes: int
    committed_transactions: int
    committed_rows: int
    last_commit_us: int
    covered_to_us: int
    file: str
    position: int
    spool_windows: int
    spool_bytes: int
    pending_xa: int
    transactions_per_s: float  # committed, mean of the last RATE_S seconds
    rows_per_s: float


class ServerHealth:
    """One server's. Every method may be called from any thread."""

    def __init__(self, server: str, *, raises: bool = False) -> None:
        self._server = server
        self._raises = raises
        self._lock = threading.Lock()
        self._state, self._reason = State.STARTING, ""
        self._generation = 0
        self._failed: tuple[int, float, RowbackError] | None = None
        self._error: tuple[float, RowbackError] | None = None
        self._counts = dict.fromkeys(
            ("reconnects", "read_transactions", "read_bytes", "committed_transactions", "committed_rows"), 0
        )
        self._last_commit_us = 0
        self._at: Checkpoint | None = None
        self._spool = (0, 0)
        self._pending_xa = 0
        self._commits: deque[tuple[float, int, int]] = deque()  # (when, transactions, rows) of the last RATE_S seconds

    # --- told by the source

    def now(self, state: State, reason: str = "") -> None:
        """A new state, unless an error has ended this server."""
        with self._lock:
            if self._error is None:
                self._state, self._reason = state, reason

    def running(self, generation: int, at: Checkpoint) -> None:
        with self._lock:
            self._generation, self._at = generation, self._at or at
        self.now(State.RUNNING)

    def reconnected(self) -> None:
        with self._lock:
            self._counts["reconnects"] += 1

    def read(self, transactions: int, size_bytes: int) -> None:
        with self._lock:
            self._counts["read_transactions"] += transactions
            self._counts["read_bytes"] += size_bytes

    def stopped(self, error: RowbackError) -> None:
        """This server has ended with an error, which is raised if that is wanted. A later one is the more precise: the sink
        knows of the fence."""
        with self._lock:
            self._error = (self._error[0] if self._error else time.monotonic(), error)
            self._state, self._reason = State.STOPPED, f"[{error.code}] {error.message}"
        if self._raises:
            raise error

    # --- told by the sink

    def committed(self, after: Checkpoint, transactions: int, rows: int) -> None:
        with self._lock:
            self._at = after
            self._counts["committed_transactions"] += transactions
            self._counts["committed_rows"] += rows
            self._last_commit_us = time.time_ns() // 1000
            self._commits.append((time.monotonic(), transactions, rows))
            self._forget()

    def spooled(self, windows: int, size_bytes: int) -> None:
        """What waits in the spool now."""
        with self._lock:
            self._spool = (windows, size_bytes)

    def pending(self, xa_transactions: int) -> None:
        """XA transactions that are prepared in the archive and not resolved."""
        with self._lock:
            self._pending_xa = xa_transactions

    def failed(self, generation: int, error: RowbackError) -> None:
        """The sink can write nothing more of this generation."""
        with self._lock:
            self._failed = (generation, time.monotonic(), error)
        if self._raises and not isinstance(error, SourceMoved):
            raise error

    def _forget(self) -> None:
        while self._commits and self._commits[0][0] < time.monotonic() - RATE_S:
            self._commits.popleft()

    # --- asked

    def failure(self, generation: int | None) -> RowbackError | None:
        """Why the sink gave this generation up, if it did."""
        with self._lock:
            return self._failed[2] if self._failed and self._failed[0] == generation else None

    @property
    def ended(self) -> RowbackError | None:
        """What ended this server for good."""
        with self._lock:
            return self._error[1] if self._error else None

    @property
    def error(self) -> tuple[float, RowbackError] | None:
        """What ended this server, and when (monotonic): for good, or with the last generation that it had."""
        with self._lock:
            last = self._failed and self._failed[0] == self._generation
            if self._error is None and self._failed and last and not isinstance(self._failed[2], SourceMoved):
                return self._failed[1:]
            return self._error

    def figures(self) -> Figures:
        with self._lock:
            at = self._at
            self._forget()
            return Figures(
                server=self._server,
                state=self._state,
                reason=self._reason,
                generation=self._generation,
                last_commit_us=self._last_commit_us,
                covered_to_us=at.covered_to_us if at else 0,
                file=at.file if at else "",
                position=at.position if at else 0,
                spool_windows=self._spool[0],
                spool_bytes=self._spool[1],
                pending_xa=self._pending_xa,
                transactions_per_s=sum(c[1] for c in self._commits) / RATE_S,
                rows_per_s=sum(c[2] for c in self._commits) / RATE_S,
                **self._counts,
            )


class Health:
    """All servers of a flow; those that another process has have no figures here. raises: an error that ends a server is
    raised where it is told, which ends every worker."""

    def __init__(self, servers: Iterable[str], *, raises: bool = False) -> None:
        self._servers = {name: ServerHealth(name, raises=raises) for name in servers}
        self._here: set[str] = set()

    def of(self, server: str) -> ServerHealth:
        """The server's, on the process that has it."""
        self._here.add(server)
        return self._servers[server]

    def figures(self) -> list[Figures]:
        return [self._servers[name].figures() for name in sorted(self._here)]

    def errors(self) -> list[tuple[str, RowbackError]]:
        """(server, error) of those that ended with one, the first first."""
        found = [(error, name) for name, health in self._servers.items() if (error := health.error) is not None]
        return [(name, error[1]) for error, name in sorted(found, key=lambda pair: pair[0][0])]
