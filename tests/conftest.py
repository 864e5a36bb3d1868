"""Fixtures: real servers, started when a test first asks for them, and no sockets for a test that doesn't.

Each pytest-xdist worker has servers of its own. The session's servers are shared by the tests of a worker: a test makes
its own database (`unique_name`) or takes a server of its own (`fresh_mysql`, `fresh_mariadb`). A server that isn't
provisioned skips the test and names the command that provides it; with CI set in the environment it fails it.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testservers import MariaDBServer, MotoServer, MySQLServer, Options, S3Bucket, Server, ServerMissingError, require

USES_SOCKETS = frozenset(
    {
        "mysql_source",
        "mysql_target",
        "mariadb_source",
        "mariadb_target",
        "fresh_mysql",
        "fresh_mariadb",
        "fresh_source",
        "moto",
        "s3_bucket",
    }
)
# Modules that take minutes, the longest first: one that is begun last leaves the other test processes without work.
LONGEST = (
    "test_faults_store", "test_oracle", "test_types_restore", "test_replay", "test_roll_forward", "test_derived_cascades",
    "test_undo_source", "test_compaction", "test_damage_real", "test_faults_kill", "test_minimal_metadata",
    "test_capture_faults", "test_archive_matrix", "test_redefined_columns", "test_events", "test_failover",
    "test_faults_control", "test_restore_ddl", "test_faults_source", "test_partitions", "test_cli_upkeep",
    "test_capture_large", "test_capture_spool", "test_faults_network", "test_replay_lives",
)  # fmt: skip
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Within a module the order stays."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


def provide(what: str) -> None:
    """Skip, or in CI fail, the test that asks for `what` ("mysql", "mariadb", "mydumper") if it isn't here."""
    try:
        require(what)
    except ServerMissingError as error:
        missing = str(error)
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without a server fixture or the `sockets` marker can't connect anywhere (from Python, in its process).

    A server fixture fetched with `request.getfixturevalue` isn't seen here: such a test carries the marker.
    """
    if request.node.get_closest_marker("sockets") or USES_SOCKETS.intersection(request.fixturenames):
        return

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a unit test connects to {address!r}: use a server fixture, or @pytest.mark.sockets")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture
def unique_name() -> Callable[[str], str]:
    """`unique_name("shop")` is a name no other test of this worker has: for databases, buckets, server names."""
    return lambda prefix: f"{prefix}{next(_numbers)}"


# --- databases --------------------------------------------------------------------------------------------------------


def _session_server(
    kind: type[Server], tmp_path_factory: pytest.TempPathFactory, name: str, *, binlog: bool
) -> Iterator[Any]:
    provide(kind.flavor)
    with kind(tmp_path_factory.mktemp(name), name=name, binlog=binlog) as server:
        yield server


@pytest.fixture(scope="session")
def mysql_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MySQLServer]:
    """A MySQL to capture from: row format, FULL image and metadata, GTIDs."""
    yield from _session_server(MySQLServer, tmp_path_factory, "mysql-source", binlog=True)


@pytest.fixture(scope="session")
def mysql_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MySQLServer]:
    """A second MySQL without a binlog, to load restores into and to compare with."""
    yield from _session_server(MySQLServer, tmp_path_factory, "mysql-target", binlog=False)


@pytest.fixture(scope="session")
def mariadb_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    """A MariaDB to capture from: row format, FULL image and metadata."""
    yield from _session_server(MariaDBServer, tmp_path_factory, "mariadb-source", binlog=True)


@pytest.fixture(scope="session")
def mariadb_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    """A second MariaDB without a binlog."""
    yield from _session_server(MariaDBServer, tmp_path_factory, "mariadb-target", binlog=False)


def _factory(kind: type[Server], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    provide(kind.flavor)
    servers: list[Server] = []

    def start(*, options: Options | None = None, name: str | None = None, binlog: bool = True) -> Server:
        name = name or f"{kind.flavor}-{next(_numbers)}"
        server = kind(tmp_path / name, options=options, name=name, binlog=binlog)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def fresh_mysql(tmp_path: Path) -> Iterator[Callable[..., MySQLServer]]:
    """`fresh_mysql(options={...}, name="b", binlog=True)` starts a MySQL for this test alone."""
    yield from _factory(MySQLServer, tmp_path)


@pytest.fixture
def fresh_mariadb(tmp_path: Path) -> Iterator[Callable[..., MariaDBServer]]:
    """`fresh_mariadb(options={...}, name="b", binlog=True)` starts a MariaDB for this test alone."""
    yield from _factory(MariaDBServer, tmp_path)


@pytest.fixture(params=[MySQLServer, MariaDBServer], ids=["mysql", "mariadb"])
def fresh_source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`fresh_source(options={...})` starts a server for this test alone; the test runs once with each kind."""
    yield from _factory(request.param, tmp_path)


@pytest.fixture
def mydumper() -> None:
    """For tests that run mydumper or myloader."""
    provide("mydumper")


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """An S3 stand-in in its own process."""
    with MotoServer(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def s3_bucket(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A new bucket, with credentials for it in the environment (the endpoint is not: configure it)."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_access_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", moto.region)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    bucket = S3Bucket(f"bucket-{os.getpid()}-{next(_numbers)}", moto)
    moto.create_bucket(bucket.name)
    return bucket
