"""The benchmark on a small scale: that what it measures is right and that it says so when it isn't. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import provide

import bench
import bench_report
import bench_verify

SCALE = 0.004


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What the benchmark found, and the folder with its archives. The small binlogs are cached like the large ones."""
    provide("mysql")
    kept = tmp_path_factory.mktemp("bench")
    return bench.run(("bulk", "oltp"), SCALE, 1, tuple(bench.CONTENDERS), kept), kept


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["bulk", "oltp"])
def test_the_archive_it_measures_holds_what_the_server_said(measured: tuple[dict[str, Any], Path], name: str) -> None:
    report, _ = measured
    one = report["sets"][name]
    assert one["check"]["different"] == {}
    assert one["check"]["changes_bytes"] > 0
    assert one["row_changes"] > 3000
    assert set(one["runs"]) == {"raw fetch", "mysqlbinlog --raw", "mysqlbinlog -vv", "mysql-replication", "rowback"}
    for runs in one["runs"].values():
        for run in runs:
            assert run["seconds"] > 0
            assert run["cpu_s"] > 0
            assert run["peak_rss_bytes"] > 1 << 20
    assert one["runs"]["mysql-replication"][0]["rows"] >= one["row_changes"] // 2


@pytest.mark.sockets
def test_a_row_too_few_is_found(measured: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    _, kept = measured
    archive = kept / "oltp" / "archive"
    named = [a for a in bench_verify.actions(archive) if a["action"] == "segment" and a["table"] == "accounts"]
    counted = bench_verify._counted([str(archive / a["path"]) for a in named])
    facts: dict[str, Any] = {
        "transactions": 0,
        "changes": {"accounts": {**counted, "insert": counted["insert"] + 1}},
        "final": {"accounts": ["1", "2", "3"]},
    }
    assert set(bench_verify.verify(archive, facts)["different"]) == {
        "transactions",
        "accounts changes",
        "accounts rows",
    }


@pytest.mark.sockets
def test_the_report_names_every_contender_and_every_target(
    measured: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    report, _ = measured
    text = bench_report.text(report)
    for needed in (
        "raw fetch",
        "mysqlbinlog -vv",
        "mysql-replication",
        "rowback",
        "bytes per change",
        report["machine"],
    ):
        assert needed in text
    assert text.count("reached ") + text.count("MISSED ") == len(bench_report.TARGETS) + 3

    written = tmp_path / "bench.json"
    written.write_text(json.dumps(report))
    bench_report.plot(json.loads(written.read_text()), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
