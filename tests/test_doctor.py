"""Doctor on real servers: what is wrong is found, and the statement that it prints mends it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rowback import Rowback

from recovery import doctor, doctor_server, grants
from recovery.checks import Check, Verdict
from recovery.doctor_server import Facts
from recovery.schema import Column, Table
from testservers import MariaDBServer, MySQLServer, Server

GOOD = Facts(
    flavor="mysql",
    version="9.7.4",
    account="rowback@%",
    variables={
        "log_bin": "ON",
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "binlog_expire_logs_seconds": "2592000",
        "binlog_checksum": "CRC32",
        "gtid_mode": "ON",
        "server_id": "1",
    },
    grants=frozenset(
        {
            "REPLICATION SLAVE",
            "REPLICATION CLIENT",
            "SELECT",
            "FLUSH_TABLES",
            "SHOW VIEW",
            "TRIGGER",
            "EVENT",
            "PROCESS",
        }
    ),
    database_grants={},
    binlog_filters=("", ""),
    clock_difference_s=0.01,
    tables=(Table("shop", "orders", (Column("id", "int"),), ("id",)),),
    data_bytes=1,
)


def named(facts: Facts, name: str) -> Check:
    (found,) = [check for check in doctor_server.checks(facts) if check.name == name]
    return found


def with_variable(name: str, value: str | None) -> Facts:
    variables = {k: v for k, v in GOOD.variables.items() if k != name} | ({} if value is None else {name: value})
    return replace(GOOD, variables=variables)


def test_a_good_server_has_no_complaints() -> None:
    assert {check.verdict for check in doctor_server.checks(GOOD)} == {Verdict.OK}
    assert named(with_variable("lower_case_table_names", "1"), "lower_case_table_names").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("name", "value", "verdict", "fix"),
    [
        ("log_bin", "OFF", Verdict.FAIL, "log_bin = binlog"),
        ("binlog_format", "STATEMENT", Verdict.FAIL, "SET PERSIST binlog_format = 'ROW';"),
        ("binlog_row_image", "MINIMAL", Verdict.FAIL, "SET PERSIST binlog_row_image = 'FULL';"),
        ("lower_case_table_names", "2", Verdict.FAIL, "a server that is initialised with 0 or 1"),
        ("binlog_row_metadata", "MINIMAL", Verdict.ADVICE, "SET PERSIST binlog_row_metadata = 'FULL';"),
        ("binlog_row_metadata", None, Verdict.FAIL, "upgrade"),
        ("server_id", "0", Verdict.FAIL, "SET PERSIST server_id = 1;"),
        ("binlog_checksum", "NONE", Verdict.ADVICE, "SET PERSIST binlog_checksum = 'CRC32';"),
        ("gtid_mode", "OFF", Verdict.ADVICE, "SET PERSIST gtid_mode = ON;"),
    ],
)
def test_variables(name: str, value: str | None, verdict: Verdict, fix: str) -> None:
    check = named(with_variable(name, value), name)
    assert check.verdict is verdict
    assert check.why
    assert fix in check.fix


@pytest.mark.parametrize(("seconds", "verdict"), [("0", "ok"), ("86400", "ok"), ("86399", "advice")])
def test_binlog_expiry(seconds: str, verdict: str) -> None:
    assert named(with_variable("binlog_expire_logs_seconds", seconds), "binlog expiry").verdict == verdict


def test_binlog_filters_fail() -> None:
    check = named(replace(GOOD, binlog_filters=("shop", "")), "binlog filters")
    assert check.verdict is Verdict.FAIL
    assert "binlog_do_db = shop" in check.message


@pytest.mark.parametrize(("difference", "verdict"), [(2.0, "ok"), (-2.5, "advice"), (3600, "advice")])
def test_clock(difference: float, verdict: str) -> None:
    assert named(replace(GOOD, clock_difference_s=difference), "clock").verdict == verdict


@pytest.mark.parametrize("privilege", ["REPLICATION SLAVE", "REPLICATION CLIENT", "SELECT"])
def test_needed_privileges_fail_with_their_grant(privilege: str) -> None:
    check = named(replace(GOOD, grants=GOOD.grants - {privilege}, account="o'b@10.%"), f"privilege {privilege}")
    assert check.verdict is Verdict.FAIL
    assert check.fix == f"GRANT {privilege} ON *.* TO 'o''b'@'10.%';"


@pytest.mark.parametrize("privilege", ["FLUSH_TABLES", "SHOW VIEW", "TRIGGER", "EVENT", "PROCESS"])
def test_other_privileges_are_advised(privilege: str) -> None:
    check = named(replace(GOOD, grants=GOOD.grants - {privilege}), f"privilege {privilege}")
    assert check.verdict is Verdict.ADVICE
    assert f"GRANT {privilege} ON *.*" in check.fix


def test_tables_are_advised_by_name() -> None:
    tables = (
        *GOOD.tables,
        Table("shop", "places", (Column("id", "int"), Column("at", "wire type 99")), ("id",)),
        *(Table("shop", f"log{i}", (Column("line", "text", charset="utf8mb4"),)) for i in range(7)),
    )
    facts = replace(GOOD, tables=tables)
    types, keys = named(facts, "column types"), named(facts, "keys")
    assert types.verdict is keys.verdict is Verdict.ADVICE
    assert "`at` of table `shop.places`" in types.message
    assert 'exclude = ["shop.places"]' in types.fix
    assert "`shop.log0`" in keys.message
    assert "and 2 more" in keys.message


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_cascading_foreign_keys_are_advised_by_name(flavor: str) -> None:
    facts = replace(
        GOOD,
        flavor=flavor,
        tables=(*GOOD.tables, Table("shop", "lines", (Column("id", "int"),), ("id",))),
        cascade_children=(("shop", "lines"), ("not captured", "lines")),
    )
    check = named(facts, "foreign keys")
    assert check.verdict is Verdict.ADVICE
    assert "`shop.lines`" in check.message
    assert "not captured" not in check.message
    assert "no trace in the binlog" in check.why
    native = replace(facts, variables={**GOOD.variables, "innodb_native_foreign_keys": "ON"})
    assert ("innodb_native_foreign_keys = OFF" in named(native, "foreign keys").fix) == (flavor == "mysql")


def test_a_grant_on_a_pattern_of_databases_is_one_on_each() -> None:
    held = grants.Grants(frozenset(), {"shop\\_%": frozenset({"SELECT"}), "a.b": frozenset({"ALL PRIVILEGES"})})
    assert held.held("SELECT", "shop_one")
    assert held.held("EVENT", "a.b")
    assert not held.held("SELECT", "shopxone")
    assert not held.held("SELECT", "axb")
    assert not held.held("SELECT")
    assert grants.Grants(frozenset({"ALL PRIVILEGES"})).held("EVENT", "any")


@pytest.mark.sockets
def test_cascading_foreign_keys_of_a_server(
    request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]
) -> None:
    for flavor, verdict in (("mysql", "ok"), ("mariadb", "advice")):
        server: Server = request.getfixturevalue(f"{flavor}_source")
        db = unique_name("fk")
        server.execute(f"CREATE DATABASE {db}")
        server.execute(f"CREATE TABLE {db}.p (id INT PRIMARY KEY)")
        server.execute(
            f"CREATE TABLE {db}.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES {db}.p (id) ON DELETE CASCADE)"
        )
        try:
            done = Rowback(tmp_path / flavor, server).run("doctor", "--format", "json", check=False)
            checks = {check["name"]: check for check in json.loads(done.stdout)["report"]["checks"]}
            assert checks["foreign keys"]["verdict"] == verdict
            assert (f"`{db}.child`" in checks["foreign keys"]["message"]) == (verdict == "advice")
        finally:
            server.execute(f"DROP DATABASE {db}")


def test_grants_are_read_with_roles_and_odd_names() -> None:
    everywhere, databases = grants.parse_grants(
        [
            "GRANT SELECT, RELOAD ON *.* TO `rb`@`%`",
            "GRANT BACKUP_ADMIN,FLUSH_TABLES ON *.* TO `rb`@`%`",
            "GRANT `bk`@`%` TO `rb`@`%`",
            "GRANT USAGE ON *.* TO `rb`@`%` IDENTIFIED BY PASSWORD '*B69027D44F6E5EDC07F1AEAD1477967B16F28227'",
            "GRANT SELECT ON `a``b`.* TO `rb`@`%`",
            "GRANT SELECT ON `shop`.`orders` TO `rb`@`%`",
        ]
    )
    assert everywhere == {"SELECT", "RELOAD", "BACKUP_ADMIN", "FLUSH_TABLES", "USAGE"}
    assert databases == {"a`b": {"SELECT"}}


def test_staging_space(tmp_path: Path) -> None:
    assert doctor.staging_check(tmp_path, None).verdict is Verdict.OK
    assert doctor.staging_check(tmp_path, 1).verdict is Verdict.OK
    check = doctor.staging_check(tmp_path, 2**62)
    assert check.verdict is Verdict.ADVICE
    assert "TMPDIR" in check.fix


def test_a_missing_mydumper_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdicts = {check.name: check.verdict for check in doctor.dumper_checks()}
    assert verdicts == {"mydumper": Verdict.FAIL, "myloader": Verdict.ADVICE}


def test_an_old_mydumper_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mydumper").write_text("#!/bin/sh\necho mydumper 0.9.5, built against MySQL 5.7\n")
    (tmp_path / "mydumper").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = next(iter(doctor.dumper_checks()))
    assert check.verdict is Verdict.FAIL
    assert "too old" in check.message


# --- real servers -----------------------------------------------------------------------------------------------------


def examined(rowback: Rowback, status: int) -> dict[str, dict[str, Any]]:
    done = rowback.run("doctor", "--format", "json", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["healthy"] == (status == 0)
    return {check["name"]: check for check in result["report"]["checks"]}


def failed(checks: dict[str, dict[str, Any]]) -> set[str]:
    bad = {name for name, check in checks.items() if check["verdict"] == "fail"}
    assert all(checks[name]["why"] and checks[name]["fix"] for name in bad)
    return bad


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_a_good_server_is_ready(flavor: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = request.getfixturevalue(f"{flavor}_source")
    checks = examined(Rowback(tmp_path, server), 0)
    assert "archive put-if-absent" in checks
    assert not list((tmp_path / "archive").rglob("*probe*/*"))


@pytest.mark.usefixtures("mydumper")
def test_misconfiguration_is_mended_by_the_printed_statements(
    fresh_mysql: Callable[..., MySQLServer], tmp_path: Path
) -> None:
    options = {
        "binlog_row_metadata": "MINIMAL",
        "binlog_row_image": "MINIMAL",
        "binlog_transaction_compression": "ON",
        "gtid_mode": "OFF",
        "enforce_gtid_consistency": "OFF",
        "binlog_expire_logs_seconds": 3600,
    }
    server = fresh_mysql(options=options)
    rowback = Rowback(tmp_path, server)
    checks = examined(rowback, 1)
    wrong = {"binlog_row_image"}
    advised = ("gtid_mode", "binlog expiry", "binlog_row_metadata")
    assert failed(checks) == wrong
    assert {checks[name]["verdict"] for name in advised} == {"advice"}
    for name in (*wrong, *advised):
        server.load(checks[name]["fix"])
    mended = examined(rowback, 0)
    assert {mended[name]["verdict"] for name in (*wrong, *advised) if name in mended} == {"ok"}
    text = rowback.run("doctor").stdout
    assert text.splitlines()[-1].startswith("ready: ")


@pytest.mark.usefixtures("mydumper")
def test_misconfigured_mariadb(fresh_mariadb: Callable[..., MariaDBServer], tmp_path: Path) -> None:
    server = fresh_mariadb(
        options={"binlog_row_metadata": "NO_LOG", "log_bin_compress": "ON", "binlog_format": "MIXED"}
    )
    rowback = Rowback(tmp_path, server)
    checks = examined(rowback, 1)
    assert failed(checks) == {"binlog_format"}
    assert checks["binlog_row_metadata"]["verdict"] == "advice"
    for name in (*failed(checks), "binlog_row_metadata"):
        server.execute(checks[name]["fix"].split(";")[0])
    examined(rowback, 0)


def test_binlog_filters_on_a_server(fresh_mysql: Callable[..., MySQLServer], tmp_path: Path) -> None:
    checks = examined(Rowback(tmp_path, fresh_mysql(options={"binlog_do_db": "shop"})), 1)
    assert "binlog filters" in failed(checks)


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_missing_privileges_are_mended_by_the_printed_grants(
    flavor: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_source")
    server.execute("CREATE USER 'poor one'@'127.%' IDENTIFIED BY 'p'")
    try:
        rowback = Rowback(tmp_path, server)
        rowback.environment |= {"ROWBACK_SERVERS__SHOP__USER": "poor one", "ROWBACK_TEST_PASSWORD": "p"}
        checks = examined(rowback, 1)
        client = "REPLICATION CLIENT" if flavor == "mysql" else "BINLOG MONITOR"
        assert failed(checks) == {f"privilege {name}" for name in ("REPLICATION SLAVE", client, "SELECT")}
        for name, check in checks.items():
            if name.startswith("privilege "):
                server.execute(check["fix"])
        mended = {name: check["verdict"] for name, check in examined(rowback, 0).items()}
        mended.pop("durability")  # the test servers don't sync
        assert set(mended.values()) <= {"ok", "advice"}, "what others left on this server may be worth an advice"
    finally:
        server.execute("DROP USER 'poor one'@'127.%'")


@pytest.mark.usefixtures("mydumper")
def test_privileges_through_a_role(mysql_source: MySQLServer, tmp_path: Path) -> None:
    mysql_source.load(
        "CREATE ROLE backup; GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO backup;"
        "CREATE USER roled@'%'; GRANT backup TO roled; SET DEFAULT ROLE backup TO roled;"
    )
    try:
        rowback = Rowback(tmp_path, mysql_source)
        rowback.environment["ROWBACK_SERVERS__SHOP__USER"] = "roled"
        examined(rowback, 0)
    finally:
        mysql_source.load("DROP USER roled; DROP ROLE backup;")


def test_a_server_that_is_down_fails_one_check_and_skips_the_rest(
    fresh_mysql: Callable[..., MySQLServer], tmp_path: Path
) -> None:
    server = fresh_mysql()
    rowback = Rowback(tmp_path, server)
    server.stop()
    checks = examined(rowback, 1)
    assert "reachability" in failed(checks)
    assert checks["server"]["verdict"] == "skipped"
    assert checks["archive put-if-absent"]["verdict"] == "ok"


def test_a_wrong_password(mysql_source: MySQLServer, tmp_path: Path) -> None:
    rowback = Rowback(tmp_path, mysql_source)
    rowback.environment["ROWBACK_TEST_PASSWORD"] = "wr0ng"
    checks = examined(rowback, 1)
    assert "login" in failed(checks)
    assert checks["reachability"]["verdict"] == "ok"
    assert "wr0ng" not in json.dumps(checks)


def test_an_archive_that_can_not_be_written(mysql_source: MySQLServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    checks = examined(Rowback(tmp_path, mysql_source, root=f"file://{tmp_path}/file/archive"), 1)
    assert failed(checks) & {"archive", "archive write"}


@pytest.mark.usefixtures("mydumper")
def test_an_archive_on_s3(mysql_source: MySQLServer, s3_bucket: Any, tmp_path: Path) -> None:
    s3 = f'[archive.s3]\nendpoint_url = "{s3_bucket.endpoint_url}"\nregion = "{s3_bucket.region}"'
    checks = examined(Rowback(tmp_path, mysql_source, root=f"{s3_bucket.url}/prefix", s3=s3), 0)
    assert checks["archive put-if-absent"]["verdict"] == "ok"
    listed = s3_bucket.client().list_objects_v2(Bucket=s3_bucket.name)
    assert listed["KeyCount"] == 0


def test_an_open_password_file_is_advised(mysql_source: MySQLServer, tmp_path: Path) -> None:
    rowback = Rowback(tmp_path, mysql_source)
    secret = tmp_path / "secret"
    secret.write_text("\n")
    rowback.config.write_text(
        rowback.config.read_text().replace('password_env = "ROWBACK_TEST_PASSWORD"', 'password_file = "secret"')
    )
    secret.chmod(0o644)
    check = examined(rowback, 0)["password file"]
    assert check["verdict"] == "advice"
    subprocess.run(["bash", "-c", check["fix"]], check=True)
    assert examined(rowback, 0)["password file"]["verdict"] == "ok"
