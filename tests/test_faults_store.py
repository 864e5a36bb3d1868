"""The store loses answers, refuses, stalls, goes away and is full while writers go on: the archive is exact afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import workload
from altered_capture import command
from exactness import assert_exact, executed
from faultproxy import Fault, FaultProxy
from rowback import Rowback, drain, wait_for

from testservers import MySQLServer, S3Bucket

Fresh = Callable[..., MySQLServer]
ATTEMPTS = 3  # of boto3 for one call: so many faults in a row reach Rowback

TIMES = [1, ATTEMPTS] if os.environ.get("ROWBACK_CAMPAIGN") else [ATTEMPTS]

# Which request meets what, and how many times in a row.
FAULTS = [
    *itertools.product(["PUT"], ["/log/"], [
        Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.STALL_AFTER, Fault.UNAVAILABLE, Fault.UNAVAILABLE_AFTER, Fault.CONFLICT,
        Fault.CONFLICT_AFTER,
    ], TIMES),
    *itertools.product(["PUT"], ["/changes/", "/transactions/"], [Fault.CUT_AFTER, Fault.UNAVAILABLE], TIMES),
    ("PUT", "/changes/", Fault.STALL_AFTER, 1),
]  # fmt: skip
# A lost answer of a commit, and then the reading back fails too.
READ_BACK = [
    *itertools.product([Fault.CUT_BODY, Fault.UNAVAILABLE, Fault.CUT_BEFORE], TIMES),
]


def s3_rowback(folder: Path, source: MySQLServer, bucket: S3Bucket, proxy: FaultProxy, extra: str = "") -> Rowback:
    s3 = f'[archive.s3]\nendpoint_url = "{proxy.url}"\nregion = "{bucket.region}"\n'
    rowback = Rowback(folder, source, root=f"s3://{bucket.name}/backup", s3=s3, extra=extra)
    rowback.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
    return rowback


def wait_commit(rowback: Rowback, capture: subprocess.Popen[bytes], more: int = 1) -> None:
    done = rowback.capture_log().count("window committed")

    def committed() -> bool:
        assert capture.poll() is None, rowback.capture_log()[-3000:]
        return rowback.capture_log().count("window committed") >= done + more

    wait_for(committed, 90, "a commit")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lost_and_refused_answers_under_load(tmp_path: Path, fresh_mysql: Fresh, s3_bucket: S3Bucket) -> None:
    source = fresh_mysql(name="lossy")
    workload.create(source)
    start = executed(source)
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        rowback = s3_rowback(tmp_path / "rowback", source, s3_bucket, proxy)
        rowback.run("capture", "--until-caught-up")
        # Windows of half a second: behind each fault the store gets what has gathered, and shorter ones say nothing more.
        capture = rowback.start_capture("--window-seconds", "0.5", command=command("impatient=2"))
        rowback.wait_started(capture)
        load = workload.Load(source, writers=4, transactions=100_000, seed=12, pause_s=0.1).start()
        try:
            for method, part, fault, times in FAULTS:
                proxy.fail(method, part, fault, times)
                wait_for(lambda: proxy.pending() == 0, 60, f"{fault} of {method} {part}")
                wait_commit(rowback, capture)
            for fault, times in READ_BACK:
                proxy.fail("PUT", "/log/", Fault.CUT_AFTER, ATTEMPTS)
                proxy.fail("GET", "/log/", fault, times)
                wait_for(lambda: proxy.pending() == 0, 60, f"{fault} of a commit's reading back")
                wait_commit(rowback, capture)
        finally:
            load.stop()
        assert drain(capture) == 0, rowback.capture_log()[-2000:]
        rowback.catch_up()
        met = [fault for _, _, fault in proxy.served if fault]
        assert len(met) >= sum(times for *_, times in FAULTS) + len(READ_BACK) * ATTEMPTS
        found = assert_exact(rowback, source, start)
    assert (found.gaps, found.generations) == (0, 3)


@pytest.mark.slow
def test_a_store_that_is_away_for_a_while(tmp_path: Path, fresh_mysql: Fresh, s3_bucket: S3Bucket) -> None:
    """ROWBACK_TEST_AWAY_S: for how long (the campaign takes longer). A capture is killed meanwhile, too."""
    away_s = float(os.environ.get("ROWBACK_TEST_AWAY_S", "10"))
    source = fresh_mysql(name="alone")
    workload.create(source)
    start = executed(source)
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        rowback = s3_rowback(tmp_path / "rowback", source, s3_bucket, proxy)
        rowback.run("capture", "--until-caught-up")
        capture = rowback.start_capture("--window-seconds", "0.5")
        rowback.wait_started(capture)
        load = workload.Load(source, writers=4, transactions=100_000, seed=12, pause_s=0.05).start()
        try:
            wait_commit(rowback, capture)
            proxy.away(True)
            time.sleep(away_s)
            assert capture.poll() is None, rowback.capture_log()[-2000:]
            proxy.away(False)
            wait_commit(rowback, capture, 2)
            proxy.away(True)
            time.sleep(away_s / 2)
            capture.kill()
            capture.wait()
            refused = rowback.start_capture("--until-caught-up")
            time.sleep(2)
            proxy.away(False)
            refused.wait(120)
        finally:
            load.stop()
            capture.kill()
        rowback.catch_up()
        found = assert_exact(rowback, source, start)
    assert found.gaps == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB. Needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "rowback-test", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system isn't permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_below_the_spool(tmp_path: Path, small_disk: Path, fresh_mysql: Fresh, s3_bucket: S3Bucket) -> None:
    source = fresh_mysql(name="full")
    workload.create(source)
    start = executed(source)
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        extra = f'spool_folder = "{small_disk}/spool"'
        rowback = s3_rowback(tmp_path / "rowback", source, s3_bucket, proxy, extra)
        rowback.run("capture", "--until-caught-up")
        capture = rowback.start_capture("--window-seconds", "0.1")
        rowback.wait_started(capture)
        load = workload.Load(source, writers=4, transactions=100_000, seed=14, pause_s=0.01).start()
        try:
            wait_commit(rowback, capture)
            proxy.away(True)
            wait_for(lambda: free_bytes(small_disk) < 50_000 or capture.poll() is not None, 120, "the disk to be full")
            time.sleep(5)
            assert capture.poll() is None, rowback.capture_log()[-2000:]
            proxy.away(False)
            wait_commit(rowback, capture, 3)
        finally:
            load.stop()
        assert drain(capture) == 0, rowback.capture_log()[-2000:]
        rowback.catch_up()
        found = assert_exact(rowback, source, start)
    assert found.gaps == 0


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.slow
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "asleep"])
def test_a_spool_that_another_machine_has_overtaken(
    killed: bool, tmp_path: Path, fresh_mysql: Fresh, s3_bucket: S3Bucket
) -> None:
    """One machine spools while the store is away and is killed, or sleeps. Another captures everything. Then the first one
    comes back with its spool, whose windows the archive has by now: nothing of it may be committed."""
    source = fresh_mysql(name="overtaken")
    workload.create(source)
    start = executed(source)
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        first = s3_rowback(tmp_path / "first", source, s3_bucket, proxy)
        second = s3_rowback(tmp_path / "second", source, s3_bucket, proxy)
        first.run("capture", "--until-caught-up")
        capture = first.start_capture("--window-seconds", "0.2")
        first.wait_started(capture)
        load = workload.Load(source, writers=4, transactions=100_000, seed=15, pause_s=0.02).start()
        try:
            wait_commit(first, capture)
            proxy.away(True)
            wait_for(lambda: len(list(first.folder.glob("spool/*/windows/*.json"))) >= 3, 90, "some spooled windows")
            capture.send_signal(signal.SIGKILL if killed else signal.SIGSTOP)
            proxy.away(False)
            second.catch_up()
            if killed:
                capture.wait()
                first.catch_up()
            else:
                capture.send_signal(signal.SIGCONT)
                assert capture.wait(120) == 5, first.capture_log()[-2000:]
                assert "ERROR [archive_fenced]" in first.capture_log()
        finally:
            load.stop()
            capture.kill()
            capture.wait()
        first.catch_up()
        found = assert_exact(first, source, start)
    assert found.gaps == 0


@pytest.mark.slow
def test_a_full_disk_below_the_archive(tmp_path: Path, small_disk: Path, fresh_mysql: Fresh) -> None:
    source = fresh_mysql(name="full")
    workload.create(source)
    start = executed(source)
    rowback = Rowback(tmp_path / "rowback", source, root=f"file://{small_disk}/archive")
    rowback.run("capture", "--until-caught-up")
    load = workload.Load(source, writers=4, transactions=100_000, seed=13, pause_s=0.01).start()
    try:
        capture = rowback.start_capture("--window-seconds", "0.1")
        status = capture.wait(120)
    finally:
        load.stop()
    assert status == 4, rowback.capture_log()[-2000:]
    assert "ERROR [store_full]" in rowback.capture_log()
    again = rowback.run("capture", "--until-caught-up", check=False)
    assert again.returncode == 4, "it is still full"
    subprocess.run(["mount", "-o", "remount,size=256m", str(small_disk)], check=True)
    rowback.catch_up()
    found = assert_exact(rowback, source, start)
    assert found.gaps == 0
