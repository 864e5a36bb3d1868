"""Capture of a real server while the store is away: nothing is lost or doubled, whoever is killed meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from faultproxy import Fault, FaultProxy
from rowback import Rowback, drain, wait_for

from recovery.archive.segments import read_segment, read_transactions
from recovery.context import Context, open_context
from testservers import MySQLServer, S3Bucket


def away(proxy: FaultProxy) -> None:
    for method in ("PUT", "GET", "HEAD"):
        proxy.fail(method, "", Fault.CUT_BEFORE, times=10**9)


def back(proxy: FaultProxy) -> None:
    with proxy._lock:
        proxy._orders.clear()


def inserted(context: Context, db: str) -> list[int]:
    """The keys that the archive says were inserted; its transactions are checked to be whole and single."""
    state = context.log.read()
    gtids = [g for part in read_transactions(context.store, state.transactions) for g in part["gtid"].to_pylist()]
    assert len(gtids) == len(set(gtids)) == state.last_seq
    found = [key for s in state.segments if s.db == db for key in read_segment(context.store, s)["a"].to_pylist()]
    return sorted(found)


@pytest.mark.parametrize("killed", [False, True])
def test_a_store_that_is_away_for_a_while(
    killed: bool, tmp_path: Path, mysql_source: MySQLServer, s3_bucket: S3Bucket, unique_name: Any
) -> None:
    db = unique_name("spooled")
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        s3 = f'[archive.s3]\nendpoint_url = "{proxy.url}"\nregion = "{s3_bucket.region}"\n'
        rowback = Rowback(
            tmp_path / "rowback",
            mysql_source,
            root=f"s3://{s3_bucket.name}/backup",
            s3=s3,
            extra=f'spool_folder = "{tmp_path}/spool"',
        )
        rowback.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        process = rowback.start_capture("--window-seconds", "0.2")
        rowback.wait_started(process)
        mysql_source.load(f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY);")
        mysql_source.execute(f"INSERT INTO {db}.t VALUES (0)")
        wait_for(lambda: "window committed" in rowback.capture_log(), 60, "the first window")
        away(proxy)
        for number in range(1, 6):
            mysql_source.execute(f"INSERT INTO {db}.t VALUES ({number})")
            wait_for(
                lambda n=number: len(list((tmp_path / "spool").glob("*/windows/*.json"))) >= n, 60, "a spooled window"
            )
        if killed:
            process.kill()
            process.wait()
            mysql_source.execute(f"INSERT INTO {db}.t VALUES (6)")
            failed = rowback.run("capture", "--until-caught-up", check=False)
            assert failed.returncode == 4, failed.stderr
            told = rowback.run("status", check=False)
            assert told.returncode == 4
            assert "wait in the local spool" in told.stderr
            back(proxy)
            assert rowback.json("status")["spooled"]["windows"] >= 5
            mysql_source.execute(f"INSERT INTO {db}.t VALUES (7)")
            rowback.run("capture", "--until-caught-up")
        else:
            back(proxy)
            mysql_source.execute(f"INSERT INTO {db}.t VALUES (6), (7)")
            assert drain(process) == 0, rowback.capture_log()[-3000:]
            assert not list((tmp_path / "spool").glob("*/windows/*.json"))
            rowback.run("capture", "--until-caught-up")
        assert inserted(open_context(rowback.config), db) == [
            row[0] for row in mysql_source.execute(f"SELECT a FROM {db}.t ORDER BY a")
        ]
        assert not list((tmp_path / "spool").glob("*/windows/*.json"))
        assert not list((tmp_path / "spool").glob("*/objects/**/*.parquet"))


@pytest.mark.parametrize(
    "place", ["spool.append:1", "spool.append:3", "spool.appended:2", "spool.uploaded:2", "spool.committed:1"]
)
def test_a_kill_at_each_place_of_the_spool(
    place: str, tmp_path: Path, mysql_source: MySQLServer, s3_bucket: S3Bucket, unique_name: Any
) -> None:
    db = unique_name("spooled")
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        s3 = f'[archive.s3]\nendpoint_url = "{proxy.url}"\nregion = "{s3_bucket.region}"\n'
        extra = f'spool_folder = "{tmp_path}/spool"'
        rowback = Rowback(tmp_path / "rowback", mysql_source, root=f"s3://{s3_bucket.name}/backup", s3=s3, extra=extra)
        rowback.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        rowback.environment["ROWBACK_FAILPOINT"] = f"{place}:kill"
        process = rowback.start_capture("--window-seconds", "0.2")
        del rowback.environment["ROWBACK_FAILPOINT"]
        rowback.wait_started(process)
        mysql_source.load(f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY);")
        # The first batch of a stream looks into the archive: a store that is away then ends capture (status 4).
        wait_for(lambda: "window committed" in rowback.capture_log(), 60, "the first window")
        away(proxy)
        for number in range(4):
            mysql_source.execute(f"INSERT INTO {db}.t VALUES ({number})")
            wait_for(
                lambda n=number: (
                    process.poll() is not None or len(list((tmp_path / "spool").glob("*/windows/*.json"))) >= n
                ),
                60,
                "a spooled window",
            )
        back(proxy)
        assert process.wait(90) == -9, rowback.capture_log()[-2000:]
        rowback.run("capture", "--until-caught-up")
        assert inserted(open_context(rowback.config), db) == [0, 1, 2, 3]
        assert not list((tmp_path / "spool").glob("*/windows/*.json"))


def test_a_drain_while_the_store_is_away_keeps_the_spool(
    tmp_path: Path, mysql_source: MySQLServer, s3_bucket: S3Bucket, unique_name: Any
) -> None:
    db = unique_name("spooled")
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        s3 = f'[archive.s3]\nendpoint_url = "{proxy.url}"\nregion = "{s3_bucket.region}"\n'
        extra = f'spool_folder = "{tmp_path}/spool"'
        rowback = Rowback(tmp_path / "rowback", mysql_source, root=f"s3://{s3_bucket.name}/backup", s3=s3, extra=extra)
        rowback.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        process = rowback.start_capture("--window-seconds", "0.2")
        rowback.wait_started(process)
        mysql_source.load(f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY);")
        # The first batch of a stream looks into the archive: a store that is away then ends capture (status 4).
        wait_for(lambda: "window committed" in rowback.capture_log(), 60, "the first window")
        away(proxy)
        mysql_source.execute(f"INSERT INTO {db}.t VALUES (1)")
        wait_for(lambda: list((tmp_path / "spool").glob("*/windows/*.json")), 60, "a spooled window")
        assert drain(process, timeout=120) == 4
        assert "wait in the spool" in rowback.capture_log()
        back(proxy)
        rowback.run("capture", "--until-caught-up")
        assert inserted(open_context(rowback.config), db) == [1]
