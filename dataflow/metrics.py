"""Figures of a running capture on a loopback port: Prometheus text at /metrics, JSON at /health. Only when asked for.

Promises: a request is answered from memory, whatever the sources do; the port is bound to 127.0.0.1 only; no value of a row
and no secret is in any answer. A second thread asks each source how much binlog it has, and the archive for its gaps.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from dataflow.health import Figures, Health, State
from dataflow.resume import binary_logs
from recovery.archive.log import Log
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import ConfigError, RowbackError
from recovery.source import connect
from recovery.status import bytes_behind

LOOPBACK: Final = "127.0.0.1"
POLL_S: Final = 15
ARCHIVE_POLL_S: Final = 60
SOURCE_TIMEOUT_S: Final = 5
log = logging.getLogger("rowback.capture")

# name, type, help; the value's place in Report. Names follow Prometheus' conventions (base units, _total for counters).
_METRICS: Final = (
    ("lag_seconds", "gauge", "Age of what the archive is known to cover."),
    ("lag_bytes", "gauge", "Binlog of the source that isn't in the archive yet."),
    ("last_commit_age_seconds", "gauge", "Time since this process last committed a window."),
    ("transactions_total", "counter", "Transactions committed to the archive by this process."),
    ("rows_total", "counter", "Row images committed to the archive by this process."),
    ("read_transactions_total", "counter", "Transactions read from the source by this process."),
    ("read_bytes_total", "counter", "Binlog read from the source by this process."),
    ("transactions_per_second", "gauge", "Committed transactions, mean of the last minute."),
    ("rows_per_second", "gauge", "Committed row images, mean of the last minute."),
    ("reconnects_total", "counter", "Connections to the source that were lost and made again."),
    ("generation", "gauge", "The capture's generation in the archive."),
    ("spool_windows", "gauge", "Closed windows that wait for the store."),
    ("spool_bytes", "gauge", "Their size."),
    ("pending_xa", "gauge", "Prepared XA transactions without an end."),
    ("gaps", "gauge", "Gaps of the archive behind which something is missing."),
)


@dataclass(frozen=True)
class Asked:
    """What the source and the archive said last. None: not known."""

    lag_bytes: int | None = None
    gaps: int | None = None


@dataclass(frozen=True)
class Target:
    """One server to report on."""

    source: Callable[[], ServerSettings]
    log: Log


class MetricsServer:
    """Serves until the process ends. Raises ConfigError if the port can't be had."""

    def __init__(self, health: Health, port: int, targets: Mapping[str, Target]) -> None:
        self._health = health
        self._targets = targets
        self._asked: dict[str, Asked] = {}
        self._states: dict[str, ArchiveState] = {}
        server = self

        class Handler(_Handler):
            owner = server

        try:
            self._http = ThreadingHTTPServer((LOOPBACK, port), Handler)
        except OSError as error:
            raise ConfigError(
                f"can't listen on {LOOPBACK}:{port}: {error.strerror}",
                hint="Choose another --metrics-port; each process needs one of its own.",
            ) from error
        self._http.daemon_threads = True
        self.port = int(self._http.server_address[1])
        threading.Thread(target=self._http.serve_forever, name="metrics-http", daemon=True).start()
        threading.Thread(target=self._poll, name="metrics-poll", daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reports(self, now_us: int) -> list[dict[str, object]]:
        return [report(figures, self._asked.get(figures.server, Asked()), now_us) for figures in self._health.figures()]

    def _poll(self) -> None:
        read_at = 0.0
        while True:
            archive_too = time.monotonic() - read_at >= ARCHIVE_POLL_S or not read_at
            for figures in self._health.figures():
                self._ask(figures, archive_too=archive_too)
            if archive_too and self._asked:
                read_at = time.monotonic()
            time.sleep(POLL_S if self._asked else 1)

    def _ask(self, figures: Figures, *, archive_too: bool) -> None:
        target, known = self._targets[figures.server], self._asked.get(figures.server, Asked())
        try:
            if archive_too:
                state = target.log.read(self._states.get(figures.server))
                self._states[figures.server] = state
                known = replace(known, gaps=len(state.holes))
            known = replace(known, lag_bytes=_lag_bytes(target, figures))
        except RowbackError as error:
            log.debug("metrics not known server=%s code=%s", figures.server, error.code)
            known = replace(known, lag_bytes=None)
        self._asked[figures.server] = known


def _lag_bytes(target: Target, figures: Figures) -> int | None:
    if not figures.file:
        return None
    with closing(connect(target.source(), connect_timeout=SOURCE_TIMEOUT_S, read_timeout=SOURCE_TIMEOUT_S)) as source:
        return bytes_behind(binary_logs(source), figures.file, figures.position)


def report(figures: Figures, asked: Asked, now_us: int) -> dict[str, object]:
    """One server's metrics by name, without their prefix, and its state. None: not known."""
    return {
        "server": figures.server,
        "state": str(figures.state),
        "reason": figures.reason,
        "lag_seconds": _age(figures.covered_to_us, now_us),
        "lag_bytes": asked.lag_bytes,
        "last_commit_age_seconds": _age(figures.last_commit_us, now_us),
        "transactions_total": figures.committed_transactions,
        "rows_total": figures.committed_rows,
        "read_transactions_total": figures.read_transactions,
        "read_bytes_total": figures.read_bytes,
        "transactions_per_second": figures.transactions_per_s,
        "rows_per_second": figures.rows_per_s,
        "reconnects_total": figures.reconnects,
        "generation": figures.generation,
        "spool_windows": figures.spool_windows,
        "spool_bytes": figures.spool_bytes,
        "pending_xa": figures.pending_xa,
        "gaps": asked.gaps,
    }


def _age(moment_us: int, now_us: int) -> float | None:
    return max(0, now_us - moment_us) / 1_000_000 if moment_us else None


def exposition(reports: list[dict[str, object]]) -> str:
    """Prometheus' text format 0.0.4. What isn't known has no line."""
    return "\n".join([*_states(reports), *_values(reports), ""])


def _states(reports: list[dict[str, object]]) -> Iterator[str]:
    yield "# HELP rowback_capture_state 1 for the state that the server's capture is in."
    yield "# TYPE rowback_capture_state gauge"
    for found in reports:
        for state in State:
            yield f'rowback_capture_state{{server="{found["server"]}",state="{state}"}} {int(found["state"] == state)}'


def _values(reports: list[dict[str, object]]) -> Iterator[str]:
    for name, kind, text in _METRICS:
        yield f"# HELP rowback_capture_{name} {text}"
        yield f"# TYPE rowback_capture_{name} {kind}"
        for found in reports:
            if found[name] is not None:
                yield f'rowback_capture_{name}{{server="{found["server"]}"}} {found[name]}'


class _Handler(BaseHTTPRequestHandler):
    owner: MetricsServer

    def do_GET(self) -> None:
        reports = self.owner.reports(time.time_ns() // 1000)
        if self.path == "/metrics":
            self._answer("text/plain; version=0.0.4; charset=utf-8", exposition(reports))
        elif self.path == "/health":
            self._answer("application/json", json.dumps(reports))
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        log.debug("metrics request")

    def _answer(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
