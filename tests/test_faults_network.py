"""The network between source and capture breaks in every way while writers go on: capture mends it by itself."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import workload
from altered_capture import command
from exactness import assert_exact, executed
from rowback import Rowback, drain, wait_for
from tcpproxy import TcpProxy

from dataflow.resume import binary_logs
from dataflow.scan import Scan
from recovery.context import open_context
from recovery.errors import SourceUnreachable
from recovery.source import connect, server_info
from testservers import Server

Fresh = Callable[..., Server]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_resets_cuts_and_stalls(tmp_path: Path, fresh_source: Fresh) -> None:
    source = fresh_source(name="far")
    workload.create(source)
    rng = random.Random(4)
    start = executed(source)
    with TcpProxy(source.host, source.port) as proxy:
        rowback = Rowback(tmp_path / "rowback", source, port=proxy.port)
        rowback.run("capture", "--until-caught-up")
        capture = rowback.start_capture("--window-seconds", "0.2", command=command("silence=6"))
        rowback.wait_started(capture)
        load = workload.Load(source, writers=4, transactions=100_000, seed=3, pause_s=0.02).start()
        try:
            for _ in range(6):  # in the middle of a packet, mostly
                once(rowback, capture, proxy, lambda: proxy.cut_after(rng.randint(1, 20_000)))
            for _ in range(2):
                once(rowback, capture, proxy, proxy.reset)
            once(rowback, capture, proxy, lambda: (proxy.refuse(), time.sleep(2), proxy.resume()))
            once(rowback, capture, proxy, lambda: (proxy.throttle(50_000), time.sleep(2), proxy.cut_after(20_000)))
            proxy.resume()
            # A dead router: no end of the connection is seen, only that the heartbeats stop.
            lost = rowback.capture_log().count("source lost")
            proxy.blackhole()
            wait_for(lambda: rowback.capture_log().count("source lost") > lost, 60, "the silence to be noticed")
            once(rowback, capture, proxy, proxy.resume)
        finally:
            load.stop()
        assert drain(capture) == 0, rowback.capture_log()[-2000:]
        rowback.catch_up()
    assert proxy.cuts >= 10
    found = assert_exact(rowback, source, start)
    assert found.gaps == 0
    assert found.generations == 3, "one process went through all of it"


def once(rowback: Rowback, capture: subprocess.Popen[bytes], proxy: TcpProxy, fault: Callable[[], object]) -> None:
    """Let a fault happen, and wait until capture is back and has committed something."""
    back = rowback.capture_log().count("source back")
    fault()

    def recovered() -> bool:
        assert capture.poll() is None, rowback.capture_log()[-2000:]
        log = rowback.capture_log()
        return log.count("source back") > back and "window committed" in log.rpartition("source back")[2]

    wait_for(recovered, 90, "capture to come back")


def test_silence_is_not_the_end_of_the_binlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that falls silent while the place to begin at is looked for: nothing is concluded from what it has sent."""

    class Silent:
        def __init__(self, *_: object) -> None:
            pass

        def take(self, _: int) -> list[object]:
            return []

    monkeypatch.setattr("dataflow.scan.EventStream", Silent)
    monkeypatch.setattr("dataflow.scan.SCAN_SILENCE_S", 0.1)
    monkeypatch.setattr("dataflow.scan.replica_id", lambda *_, **__: 1)
    scan = Scan(cast(Any, None), cast(Any, SimpleNamespace(flavor="mysql")), "binlog.000007")
    with pytest.raises(SourceUnreachable, match=r"sent nothing .* in the middle of `binlog.000007`"):
        scan.until(lambda s: s.began)


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_the_end_of_an_idle_source_needs_no_heartbeat(
    flavor: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture's first start looks for it; nothing behind it tells that it has been reached."""
    source: Server = request.getfixturevalue(f"{flavor}_source")
    monkeypatch.setenv("ROWBACK_TEST_PASSWORD", source.password)
    server = open_context(Rowback(tmp_path / "rowback", source).config).source()
    with closing(connect(server)) as connection:
        info, logs = server_info(connection), binary_logs(connection)
    with closing(Scan(server, info, logs[-1][0])) as scan:
        scan.to(*logs[-1])
        assert (scan.file, scan.position, scan.ended) == (*logs[-1], False)


@pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "plain"])
def test_a_bit_that_flips_on_the_way_is_seen(encrypted: bool, tmp_path: Path, fresh_mysql: Fresh) -> None:
    """With TLS the connection is lost and made again. Without, the event's checksum is the last defence: the stream ends
    with a recorded gap, and nothing bent is kept."""
    source = fresh_mysql(name="bent", options={} if encrypted else {"tls_version": ""})
    workload.create(source)
    start = executed(source)
    with TcpProxy(source.host, source.port) as proxy:
        rowback = Rowback(tmp_path / "rowback", source, port=proxy.port)
        rowback.run("capture", "--until-caught-up")
        capture = rowback.start_capture("--window-seconds", "0.2")
        rowback.wait_started(capture)
        noticed = (
            (lambda: "source back" in rowback.capture_log()) if encrypted else (lambda: capture.poll() is not None)
        )
        for _ in range(5):  # one bit in a hundred means nothing: a packet's number, which nobody needs
            proxy.flip_after(100_000)
            workload.Load(source, writers=4, transactions=200, seed=3, keyless=False).start().wait()
            deadline = time.monotonic() + 10
            while not noticed() and time.monotonic() < deadline:
                time.sleep(0.1)
            if noticed():
                break
        if encrypted:
            assert drain(capture) == 0, rowback.capture_log()[-2000:]
        else:
            assert capture.poll() == 6, rowback.capture_log()[-2000:]
            assert len(open_context(rowback.config).log.read().holes) == 1
        rowback.catch_up()
    found = assert_exact(rowback, source, start)
    assert found.gaps == 0, "capture went on where it had stopped"
