"""Doctor's checks of what leaves changes out of the binlog: as a function of the answers, and on real servers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rowback import Rowback
from test_doctor import GOOD

from recovery import doctor_binlog
from recovery.checks import Verdict
from recovery.doctor_server import Facts


def verdicts(facts: Facts) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in doctor_binlog.checks(facts)}


def report(rowback: Rowback) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = json.loads(rowback.run("doctor", "--format", "json", check=False).stdout)["report"][
        "checks"
    ]
    return checks


def variables(**given: str) -> Facts:
    return replace(GOOD, variables={**GOOD.variables, **given})


def test_a_good_server_has_nothing_to_mend() -> None:
    assert set(verdicts(variables(binlog_error_action="ABORT_SERVER")).values()) == {Verdict.OK}


@pytest.mark.parametrize(
    ("facts", "name", "verdict"),
    [
        (variables(binlog_error_action="IGNORE_ERROR"), "binlog_error_action", Verdict.FAIL),
        (variables(sync_binlog="0"), "durability", Verdict.ADVICE),
        (variables(innodb_flush_log_at_trx_commit="2"), "durability", Verdict.ADVICE),
        (replace(variables(log_replica_updates="OFF"), replica=True), "log_replica_updates", Verdict.FAIL),
        (replace(variables(log_slave_updates="OFF"), replica=True), "log_slave_updates", Verdict.FAIL),
        (replace(variables(log_replica_updates="ON"), replica=True), "log_replica_updates", Verdict.OK),
        (variables(init_connect="SET sql_log_bin = 0"), "sql_log_bin", Verdict.FAIL),
        (replace(GOOD, unlogging=("event `d.purge`",)), "sql_log_bin", Verdict.ADVICE),
        (replace(GOOD, engines={"MEMORY": ("d.m",)}), "storage engines", Verdict.ADVICE),
        (variables(max_binlog_cache_size="4096"), "max_binlog_cache_size", Verdict.ADVICE),
        (variables(max_binlog_total_size="1000000"), "max_binlog_total_size", Verdict.ADVICE),
    ],
)
def test_findings(facts: Facts, name: str, verdict: Verdict) -> None:
    assert verdicts(facts)[name] is verdict
    (found,) = [check for check in doctor_binlog.checks(facts) if check.name == name]
    assert verdict is Verdict.OK or (found.why and found.fix)


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (GOOD, Verdict.OK),
        (variables(gtid_mode="OFF_PERMISSIVE"), Verdict.FAIL),
        (replace(GOOD, flavor="mariadb"), Verdict.FAIL),
    ],
)
def test_a_failover_needs_gtids(facts: Facts, verdict: Verdict) -> None:
    assert doctor_binlog.failover_check(facts).verdict is verdict


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_a_real_server_is_asked(flavor: str, tmp_path: Path, request: pytest.FixtureRequest, unique_name: Any) -> None:
    source, db = request.getfixturevalue(f"{flavor}_source"), unique_name("doctor")
    source.load(
        f"CREATE DATABASE {db}; CREATE TABLE {db}.m (a int PRIMARY KEY) ENGINE = MEMORY;"
        f"CREATE PROCEDURE {db}.quiet() SET SESSION sql_log_bin = 0;"
    )
    rowback = Rowback(tmp_path / "rowback", source)
    found = {check["name"]: check for check in report(rowback)}
    assert found["storage engines"]["verdict"] == "advice"
    assert f"{db}.m" in found["storage engines"]["message"]
    assert f"`{db}.quiet`" in found["sql_log_bin"]["message"]
    assert found["durability"]["verdict"] == "advice", "the test servers run with weak durability"
    source.execute(f"DROP DATABASE {db}")


def test_a_replica_without_its_own_log_fails(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql(name="replica", options={"log_replica_updates": "OFF", "skip_replica_start": True})
    source.execute("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1")
    rowback = Rowback(tmp_path / "rowback", source)
    found = {check["name"]: check for check in report(rowback)}
    assert found["log_replica_updates"]["verdict"] == "fail"
