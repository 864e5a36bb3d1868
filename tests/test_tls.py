"""TLS to real servers: the certificate is verified on every connection, the binlog stream included."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rowback import Rowback, drain, wait_for

from recovery.context import open_context
from testservers import Server


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, in a folder."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def issue(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """(certificate, key) files for `name`, good for these IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self.certificate.subject, key)
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return _write(self.folder, f"{self.name}-{name}", certificate, key)


def _builder(name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
    )


def _write(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    pem, private = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return pem, private


def authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    constraint = x509.BasicConstraints(ca=True, path_length=None)
    certificate = _builder(name, None, key).add_extension(constraint, critical=True).sign(key, hashes.SHA256())
    _write(folder, name, certificate, key)
    return Authority(folder, name, key, certificate)


@dataclass(frozen=True)
class World:
    source: Server
    good: Authority
    other: Authority
    folder: Path

    def rowback(self, name: str, **settings: str) -> Rowback:
        """Logs in as `secure`, who may only come over TLS."""
        extra = "".join(f"{key} = {value}\n" for key, value in settings.items())
        found = Rowback(self.folder / name, self.source, extra=extra)
        found.config.write_text(found.config.read_text().replace('user = "root"', 'user = "secure"'))
        found.environment["ROWBACK_TEST_PASSWORD"] = "Secret-1"
        return found


@pytest.fixture(params=["mysql", "mariadb"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    good, other = authority(tmp_path, "good"), authority(tmp_path, "other")
    certificate, key = good.issue("server", "127.0.0.1")
    options = {"ssl_ca": str(good.file), "ssl_cert": str(certificate), "ssl_key": str(key)}
    source = request.getfixturevalue(f"fresh_{request.param}")(name="tls", options=options)
    client = "REPLICATION CLIENT" if request.param == "mysql" else "BINLOG MONITOR"
    source.load(
        "CREATE USER secure@'%' IDENTIFIED BY 'Secret-1' REQUIRE SSL;"
        f"GRANT REPLICATION SLAVE, {client}, SELECT ON *.* TO secure@'%';"
        "CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY);"
    )
    return World(source, good, other, tmp_path)


@pytest.mark.sockets
def test_a_verified_server_is_captured_over_tls_and_others_are_refused(world: World) -> None:
    rowback = world.rowback("right", ssl_ca=f'"{world.good.file}"')
    process = rowback.start_capture("--window-seconds", "0.3")
    rowback.wait_started(process)
    world.source.execute("INSERT INTO d.t VALUES (1)")
    archive = open_context(rowback.config).log
    wait_for(lambda: sum(s.inserts for s in archive.read().segments) == 1, 60, "the window")
    if world.source.flavor == "mysql":
        types = world.source.execute(
            "SELECT DISTINCT CONNECTION_TYPE FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE 'Binlog Dump%'"
        )
        assert types == (("SSL/TLS",),)
    assert drain(process) == 0
    assert "reachability" in rowback.run("doctor", check=False).stdout

    wrong = world.rowback("wrong", ssl_ca=f'"{world.other.file}"')
    done = wrong.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "ERROR [source_untrusted]" in done.stderr
    assert open_context(wrong.config).log.read().version == 0

    missing = world.rowback("missing", ssl_ca='"/nowhere/ca.pem"')
    assert missing.run("capture", "--until-caught-up", check=False).returncode == 2


@pytest.mark.sockets
def test_a_certificate_for_another_name_needs_to_be_allowed(world: World) -> None:
    certificate, key = world.good.issue("elsewhere", "192.0.2.1")
    world.source.restart(options={"ssl_cert": str(certificate), "ssl_key": str(key)})
    strict = world.rowback("strict", ssl_ca=f'"{world.good.file}"')
    done = strict.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "ERROR [source_untrusted]" in done.stderr
    assert "ssl_verify_identity" in done.stderr
    strict = world.rowback("lenient", ssl_ca=f'"{world.good.file}"', ssl_verify_identity="false")
    strict.run("capture", "--until-caught-up")


@pytest.mark.sockets
def test_an_account_may_require_a_client_certificate(world: World) -> None:
    world.source.execute("ALTER USER secure@'%' REQUIRE X509")
    certificate, key = world.good.issue("rowback")
    without = world.rowback("without", ssl_ca=f'"{world.good.file}"')
    done = without.run("capture", "--until-caught-up", check=False)
    assert "ERROR [source_access_denied]" in done.stderr
    given = world.rowback("given", ssl_ca=f'"{world.good.file}"', ssl_cert=f'"{certificate}"', ssl_key=f'"{key}"')
    given.run("capture", "--until-caught-up")


def test_a_server_without_tls_is_refused_when_it_is_required(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql(name="plain", options={"tls_version": ""})
    rowback = Rowback(tmp_path / "rowback", source, extra=f'ssl_ca = "{authority(tmp_path, "ca").file}"')
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "ERROR [source_untrusted]" in done.stderr
