"""Restores of many rows and changes, the large run on a small scale: the rows, the memory, the cost that the plan names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from handmade import ORDERS, Archive

import bench_archive
import bench_restore
from recovery.archive.filestore import FileStore
from recovery.cost import Cost, TableCost, cost_of
from recovery.merge import ENGINE_MIN_BYTES, RESERVE_BYTES, Merger, engine_limit_bytes, threads_for
from recovery.restore import RestoreRequest, restore
from recovery.roll_forward import RollForwardRequest, roll_forward

MIB = 1024**2


def test_rows_after_many_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over ids, numbers and texts of the INSERT files are those that NumPy followed."""
    monkeypatch.setattr(bench_archive, "SEGMENT_CHANGES", 30_000)
    monkeypatch.setattr(bench_archive, "BASE_OBJECT_ROWS", 20_000)
    state, truth = bench_archive.build(tmp_path / "archive", 50_000, 120_000)
    assert (truth.version > 0).sum() > 20_000
    request = RestoreRequest("latest", output=tmp_path / "output", memory_limit_bytes=256 * MIB)
    restore(FileStore(tmp_path / "archive"), state, request)
    assert bench_archive.counted(tmp_path / "output") == truth.sums()
    path = next((tmp_path / "output").glob("bench.big.0*.sql"))
    text = path.read_text()
    at = text.index("note ")
    path.write_text(text[:at] + text[at:].replace("1", "2", 1))
    assert bench_archive.counted(tmp_path / "output") != truth.sums()


@pytest.mark.parametrize(
    ("memory", "processors", "threads"), [(64, 1, 2), (1024, 16, 2), (2048, 16, 4), (4096, 3, 3), (65_536, 16, 16)]
)
def test_threads_by_processors_and_memory(
    memory: int, processors: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(processors)))
    assert threads_for(memory * MIB) == threads


def test_the_benchmark_checks_what_it_measured(tmp_path: Path) -> None:
    found = bench_restore.synthetic(tmp_path, 20_000, 30_000)
    assert found["right"]
    assert found["roll_forward"]["right"]
    assert found["roll_forward"]["rows"] == found["rows"]
    assert 50 * MIB < found["peak_rss_bytes"] < 1024 * MIB
    assert json.dumps(found)


@pytest.mark.parametrize(("memory", "engine"), [(64, 64), (256, 128), (1024, 640), (4096, 3712)])
def test_the_engine_gets_what_the_process_leaves(tmp_path: Path, memory: int, engine: int) -> None:
    assert engine_limit_bytes(memory * MIB) == engine * MIB
    with Merger(tmp_path, memory * MIB) as merger:
        found = merger.connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]
        folder = merger.connection.execute("SELECT current_setting('temp_directory')").fetchall()[0][0]
    number, unit = found.split()
    assert float(number) * {"MiB": 1, "GiB": 1024}[unit] == pytest.approx(engine, rel=0.05)
    assert folder == str(tmp_path / "duckdb")
    assert engine_limit_bytes(1) == ENGINE_MIN_BYTES < RESERVE_BYTES
    assert engine_limit_bytes(2**30, 2**27) == 2**30 - RESERVE_BYTES - 2**27


def test_a_roll_forward_leaves_room_for_the_file_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path / "archive")
    baseline = archive.baseline("s", ORDERS, [], "CREATE TABLE `orders` (`id` int)")
    archive.snapshot("s", archive.mark(0), archive.mark(0), baseline)
    found: list[str] = []

    class Watched(Merger):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            ((limit,),) = self.connection.execute("SELECT current_setting('memory_limit')").fetchall()
            found.append(limit)

    monkeypatch.setattr("recovery.roll_forward.Merger", Watched)
    request = RollForwardRequest("latest", memory_limit_bytes=2**30)
    parts = archive.store, archive.layout, archive.log
    roll_forward(archive.store, archive.state, *parts, request, now=lambda: datetime.now(UTC))
    assert found == [f"{(2**30 - RESERVE_BYTES) / 2**20 - 128:.1f} MiB"]


def test_the_plan_names_its_cost(tmp_path: Path) -> None:
    state, _ = bench_archive.build(tmp_path, 2_000, 3_000)
    plan = restore(FileStore(tmp_path), state, RestoreRequest("latest", dry_run=True)).plan
    images = sum(s.rows for s in state.segments)
    size = sum(s.size_bytes for s in state.segments) + sum(
        o.size_bytes for b in state.snapshots[0].baselines for o in b.objects
    )
    assert (plan.cost.rows, plan.cost.read_bytes, plan.cost.scratch_bytes) == (2_000 + images, size, size)
    assert f"{2_000 + images} rows and row images to fold, {size} bytes to read" in "\n".join(plan.explain())
    assert plan.to_json()["cost"]["read_bytes"] == size


def test_a_larger_restore_costs_more() -> None:
    small, large = TableCost(1_000, 1_000, 10_000), TableCost(20_000_000, 37_000_000, 600_000_000)
    both = cost_of([small, large])
    assert both.scratch_bytes == large.scratch_bytes == 4_800_000_000
    assert both.seconds > large.seconds > 50 > small.seconds
    assert cost_of([]) == Cost(0, 0, 0, 1.0)
