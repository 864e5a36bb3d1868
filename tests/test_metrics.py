"""Figures of a running capture: the exposition as text, and the port and `rowback status` against real servers."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rowback import Rowback, drain, wait_for

from dataflow.health import Health, State
from dataflow.metrics import Asked, exposition, report
from recovery.archive.actions import Checkpoint
from recovery.errors import Fenced, StoreUnavailable
from testservers import MySQLServer, free_port

AT = Checkpoint(7, "binlog.000002", 400, "", 5_000_000, 6_000_000)


def test_the_exposition_is_what_prometheus_reads() -> None:
    health = Health(["shop", "elsewhere"])
    shop = health.of("shop")
    shop.running(3, AT)
    shop.read(2, 900)
    shop.committed(replace(AT, covered_to_us=8_000_000), 2, 60)
    shop.spooled(1, 512)
    text = exposition([report(f, Asked(lag_bytes=77, gaps=1), 10_000_000) for f in health.figures()])
    lines = text.splitlines()
    for line in (
        'rowback_capture_state{server="shop",state="running"} 1',
        'rowback_capture_state{server="shop",state="stopped"} 0',
        'rowback_capture_lag_seconds{server="shop"} 2.0',
        'rowback_capture_lag_bytes{server="shop"} 77',
        'rowback_capture_transactions_total{server="shop"} 2',
        'rowback_capture_rows_total{server="shop"} 60',
        'rowback_capture_rows_per_second{server="shop"} 1.0',
        'rowback_capture_spool_bytes{server="shop"} 512',
        'rowback_capture_generation{server="shop"} 3',
        'rowback_capture_gaps{server="shop"} 1',
    ):
        assert line in lines
    assert "elsewhere" not in text, "that server is another process's"
    for line in lines:
        assert line.startswith(("# HELP ", "# TYPE ", "rowback_capture_")), line
    unknown = exposition([report(f, Asked(), 10_000_000) for f in health.figures()])
    assert "rowback_capture_lag_bytes{" not in unknown, "what isn't known isn't given as 0"


def test_health_keeps_what_ended_a_server() -> None:
    health = Health(["a", "b"])
    a, b = health.of("a"), health.of("b")
    a.running(1, AT)
    b.running(4, AT)
    b.stopped(Fenced("gone", hint=""))
    a.failed(1, StoreUnavailable("away", hint=""))
    assert [(name, error.code) for name, error in health.errors()] == [
        ("b", "archive_fenced"),
        ("a", "store_unavailable"),
    ]
    assert a.failure(1) is not None
    a.running(2, AT)
    assert a.failure(2) is None
    assert [name for name, _ in health.errors()] == ["b"], "a new generation goes on where the failed one ended"
    b.now(State.RUNNING)
    assert b.figures().state is State.STOPPED


@pytest.mark.parametrize("extra", ["", "[capture]\nmetrics_port = {port}\n"])
def test_a_running_capture_gives_its_figures(
    tmp_path: Path, mysql_source: MySQLServer, unique_name: Any, extra: str
) -> None:
    port, db = free_port(), unique_name("metrics")
    mysql_source.load(f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY);")
    rowback = Rowback(tmp_path / "rowback", mysql_source, extra=extra.format(port=port))
    process = rowback.start_capture("--window-seconds", "0.3", *(() if extra else ("--metrics-port", str(port))))
    rowback.wait_started(process)
    mysql_source.execute(f"INSERT INTO {db}.t VALUES (1), (2), (3)")

    def health() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            found = json.load(answer)
        assert len(found) == 1
        return dict(found[0])

    wait_for(lambda: health()["rows_total"] == 3, 60, "the window")
    wait_for(lambda: health()["lag_bytes"] is not None and health()["gaps"] == 0, 60, "the source's answer")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'rowback_capture_rows_total{server="shop"} 3' in text
    assert 'rowback_capture_state{server="shop",state="running"} 1' in text
    status = rowback.json("status")
    assert status["live"]["bytes_behind"] is not None
    assert status["rates"]["row_changes_per_s"] > 0
    assert status["last_commit_age_s"] >= 0
    if extra:
        assert status["process"]["state"] == "running"
        assert "capture" in rowback.run("status").stdout
    else:
        assert status["process"] is None
        assert "metrics_port" in status["process_problem"]
    assert drain(process) == 0
    if extra:
        assert "no capture answers" in rowback.json("status")["process_problem"]


def test_a_port_that_is_taken_is_an_error(tmp_path: Path, mysql_source: MySQLServer) -> None:
    rowback = Rowback(tmp_path / "rowback", mysql_source)
    done = rowback.run("capture", "--until-caught-up", "--metrics-port", str(mysql_source.port), check=False)
    assert done.returncode == 2
    assert "can't listen" in done.stderr
