"""The main promise: under concurrent load, with snapshots in both lock modes, the state restored at any transaction equals
what an independent server holds that replayed the same binlog to that transaction."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import workload
from oracle import Oracle, load_with_client, load_with_myloader
from rowback import Rowback, drain, wait_for

from recovery.archive.segments import read_transactions
from recovery.context import open_context
from testservers import Server

# Flavor, server options, commit points to compare, commits before the snapshots and in all. Every sixth point is loaded
# by myloader, and each point's name is of another kind than the last one's.
LONG = (24, (600, 1800, 4000))
POINTS = LONG if os.environ.get("ROWBACK_CAMPAIGN") else (12, (400, 1200, 2500))
CASES = {
    "mysql": ("mysql", {}, *POINTS),
    "mariadb": ("mariadb", {}, *POINTS),
    "mysql without GTIDs and checksums": (
        "mysql",
        {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF", "binlog_checksum": "NONE"},
        8,
        (300, 700, 1500),
    ),
}


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
def test_restored_states_equal_the_oracle(
    case: str, tmp_path: Path, request: pytest.FixtureRequest, mydumper: Any
) -> None:
    flavor, options, count, commits = CASES[case]
    fresh = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="source", options=options)
    oracle = Oracle(source, fresh(name="oracle", options=options))
    target: Server = fresh(name="restored", binlog=False)
    workload.create(source)
    rowback = Rowback(tmp_path / "rowback", source)
    capture = rowback.start_capture("--window-seconds", "0.5")
    rowback.wait_started(capture)

    load = workload.Load(source, writers=4, transactions=1_000_000, seed=7, pause_s=0.004).start()
    try:
        wait_for(lambda: load.committed > commits[0], 120, "some load")
        brief = rowback.json("snapshot", "--lock", "brief")["snapshot"]
        source.execute("FLUSH BINARY LOGS")
        wait_for(lambda: load.committed > commits[1], 120, "more load")
        none = rowback.json("snapshot", "--lock", "none", "--exclude", f"shop.{workload.KEYLESS}")["snapshot"]
        wait_for(lambda: load.committed > commits[2], 120, "more load")
    finally:
        load.stop()
    assert drain(capture) == 0, rowback.capture_log()[-3000:]
    rowback.run("capture", "--until-caught-up")
    assert load.rolled_back > commits[2] / 40

    assert {brief["mode"], none["mode"]} == {"brief", "none"}
    points = choose_points(rowback, random.Random(3), count)
    used: Counter[str] = Counter()
    for number, point in enumerate(points):
        output = tmp_path / f"restored-{number}"
        plan = rowback.json("restore", "--to", point["to"], "--output", str(output))["plan"]
        assert plan["cut"]["seq"] == point["seq"]
        used.update(table["snapshot_id"] for table in plan["tables"])
        oracle.advance((point["file"], point["end"]))
        target.execute("DROP DATABASE IF EXISTS shop")
        (load_with_myloader if number % 6 == 5 else load_with_client)(target, output)
        compare(target, oracle.server, point)
    assert len(used) == 2, f"both snapshots were meant to be used: {used}"


def choose_points(rowback: Rowback, rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Random transactions at or after the first snapshot's mark, in order, named by GTID, position or time."""
    context = open_context(rowback.config)
    state = context.log.read()
    transactions = [row for part in read_transactions(context.store, state.transactions) for row in part.to_pylist()]
    first = state.snapshots[0].high
    after = [t for t in transactions if (t["binlog_file"], t["end_position"]) >= (first.file, first.position)]
    chosen = sorted(rng.sample(after[:-1], count - 1), key=lambda t: t["seq"]) + after[-1:]
    last_at: dict[int, int] = {t["cut_at_us"]: t["seq"] for t in transactions}
    points = []
    for number, t in enumerate(chosen):
        kinds = (
            (["gtid"] if t["gtid"] else []) + ["position"] + (["time"] if last_at[t["cut_at_us"]] == t["seq"] else [])
        )
        kind = kinds[number % len(kinds)]
        seconds, micros = divmod(t["cut_at_us"], 1_000_000)
        to = {
            "gtid": t["gtid"],
            "position": f"{t['binlog_file']}:{t['end_position']}",
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06}Z",
        }[kind]
        points.append({"to": to, "seq": t["seq"], "file": t["binlog_file"], "end": t["end_position"]})
    return points


def compare(restored: Server, oracle: Server, point: dict[str, Any]) -> None:
    tables = [row[0] for row in oracle.execute("SHOW TABLES FROM shop")]
    assert sorted(row[0] for row in restored.execute("SHOW TABLES FROM shop")) == sorted(tables)
    ours, theirs = workload.checksums(restored, tuple(tables)), workload.checksums(oracle, tuple(tables))
    for table in tables:
        if ours[table] != theirs[table]:
            mine, others = workload.rows(restored, table), workload.rows(oracle, table)
            pytest.fail(
                f"at {point}: table {table} differs\nonly restored: {[r for r in mine if r not in others][:3]}\n"
                f"only in the oracle: {[r for r in others if r not in mine][:3]}"
            )
        assert workload.rows(restored, table) == workload.rows(oracle, table)
