"""What a running capture on this machine says about itself: the answer of its metrics port, read.

It knows what no archive can tell: why it isn't running, what waits in its spool. The port is loopback's only.
"""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from typing import Any, Final

from recovery.status import Process

TIMEOUT_S: Final = 2
PROCESSES: Final = 8  # of a capture that several processes share: the ports after the configured one


def capture_process(port: int | None, server: str) -> tuple[Process | None, str | None]:
    """(what it says about `server`, None), or (None, why that isn't known). port: None if none is configured."""
    if port is None:
        return None, "no metrics_port is configured"
    answered = 0
    for number in range(PROCESSES):
        reports = _ask(port + number)
        if reports is None:
            break
        answered += 1
        for report in reports:
            if report.get("server") == server:
                return _process(report), None
    if not answered:
        return None, f"no capture answers on 127.0.0.1:{port}"
    return None, "the capture on this machine doesn't have this server"


def _ask(port: int) -> list[dict[str, Any]] | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=TIMEOUT_S) as answer:
            reports = json.load(answer)
    except (OSError, HTTPException, ValueError):
        return None
    return [report for report in reports if isinstance(report, dict)] if isinstance(reports, list) else None


def _process(report: dict[str, Any]) -> Process:
    return Process(
        state=str(report.get("state")),
        reason=str(report.get("reason", "")),
        reconnects=int(report.get("reconnects_total", 0)),
        spool_windows=int(report.get("spool_windows", 0)),
        spool_bytes=int(report.get("spool_bytes", 0)),
        pending_xa=int(report.get("pending_xa", 0)),
        transactions_per_s=float(report.get("transactions_per_second", 0)),
        rows_per_s=float(report.get("rows_per_second", 0)),
    )
