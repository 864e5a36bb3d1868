"""Throw-away database servers and an S3 stand-in on loopback, for the tests and the demo.

Each server is a real one: a copy of the data directory that `deploy/provision.sh` prepared, started on a free port of
127.0.0.1 in under a second, with root without a password. It keeps nothing outside its folder, and it dies with the
process that started it, also when that one is killed. Only processes started here are ever ended, by their id.

    with MySQLServer(tmp / "shop") as server:
        server.execute("CREATE DATABASE shop")
        server.load(b"INSERT INTO shop.orders VALUES (1);")
        server.kill()       # as the power cut would
        server.start()      # same data, same port

Not for production, and not a way to install MySQL: durability settings favour speed (they survive a killed process,
not a lost machine), and the accounts are open to everyone on this machine.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import pymysql
import pymysql.cursors

PROVISION = "deploy/provision.sh"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0

Options = Mapping[str, str | int | bool | None]
"""Server options by name, `_` or `-` alike. True is a bare flag; None takes a default of this module away."""


class ServerMissingError(RuntimeError):
    """The server or tool isn't on this machine; the message names the command that provides it."""


class ServerStartError(RuntimeError):
    """A server didn't come up; the message ends with the tail of its log."""


# --- what provisioning found ------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """The folder that `deploy/provision.sh` fills."""
    if own := os.environ.get("ROWBACK_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rowback"


def provisioned() -> dict[str, str]:
    """What provisioning found, as it stands in `servers.env`; empty if it never ran."""
    try:
        lines = (cache_dir() / "servers.env").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def require(what: str) -> dict[str, str]:
    """The facts about `what` ("mysql", "mariadb" or "mydumper").

    Raises ServerMissingError, naming the command to run, if provisioning didn't find it or if it is gone since.
    """
    facts = provisioned()
    program = facts.get("MYDUMPER" if what == "mydumper" else f"{what.upper()}_SERVER")
    if program is None or not Path(program).exists():
        raise ServerMissingError(f"{what} is not provisioned on this machine: run `{PROVISION}`")
    return facts


def has_mysql() -> bool:
    return _has("mysql")


def has_mariadb() -> bool:
    return _has("mariadb")


def has_mydumper() -> bool:
    """Whether mydumper and myloader are here."""
    return _has("mydumper")


def _has(what: str) -> bool:
    try:
        require(what)
    except ServerMissingError:
        return False
    return True


# --- processes --------------------------------------------------------------------------------------------------------

# PR_SET_PDEATHSIG fires when the *thread* that forked ends (prctl(2)), so all processes are started from one thread
# that lives as long as this process does; a server may then be restarted from any thread of a test.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testservers")


def _spawn(argv: Sequence[str], log: IO[bytes], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that is killed when this one ends. setpriv execs, so the pid is the server's own."""
    setpriv = shutil.which("setpriv")
    command = [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else list(argv)
    return _spawner.submit(
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        start_new_session=True,  # Ctrl-C at the terminal is for the test, which then stops its servers in order
    ).result()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now.

    Chosen below the kernel's ephemeral range (32768 and up on Linux), so that no outgoing connection takes the port of
    a server while it is down for a restart.
    """
    for _ in range(1000):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerStartError("no free port on 127.0.0.1 in 1,000 attempts")


def _tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


class _Connection(pymysql.connections.Connection):  # type: ignore[type-arg]
    """Over TLS where the server offers it. One that verifies nothing doesn't read the system's certificates, which pymysql
    does each time: 40 ms of processor time, more than most statements take."""

    def _create_ssl_ctx(self, sslp: dict[str, Any]) -> ssl.SSLContext:
        return super()._create_ssl_ctx(sslp) if sslp else _unverified()  # type: ignore[misc,no-any-return]


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --- the servers ------------------------------------------------------------------------------------------------------

_server_ids = itertools.count(random.randrange(1_000, 1_000_000_000))


class Server:
    """What MySQLServer and MariaDBServer have in common.

    base_dir: a folder of its own, created if needed; the data stays in `base_dir/data` until `close()`.
    options: server options over the defaults (see `default_options`).
    binlog: False for a plain target that logs nothing.
    """

    flavor: ClassVar[str]
    user = "root"
    password = ""
    host = "127.0.0.1"

    def __init__(
        self, base_dir: str | Path, *, options: Options | None = None, name: str | None = None, binlog: bool = True
    ) -> None:
        self._facts = require(self.flavor)
        self.base_dir = Path(base_dir)
        self.name = name or self.base_dir.name
        self.data_dir = self.base_dir / "data"
        self.log_file = self.base_dir / "server.log"
        self.binlog = binlog
        self.server_id = next(_server_ids)
        self.options: dict[str, str | int | bool | None] = {**self._common_options(), **self.default_options()}
        self.options.update({key.replace("-", "_"): value for key, value in (options or {}).items()})
        self.port = free_port()
        # A socket's path may have 107 bytes (unix(7)), and the servers add ".lock" to it.
        short = len(os.fsencode(self.base_dir.absolute())) < 90
        self._run_dir = self.base_dir.absolute() if short else Path(tempfile.mkdtemp(prefix="rowback-", dir="/tmp"))
        self.socket = str(self._run_dir / "socket")
        self._process: subprocess.Popen[bytes] | None = None
        self._version = ""

    # --- life

    def start(self) -> Self:
        """Start, and return when the server answers. Keeps data, port and server_id of an earlier start."""
        if self.running:
            return self
        self._run_dir.mkdir(parents=True, exist_ok=True)
        (self.base_dir / "tmp").mkdir(parents=True, exist_ok=True)
        first = not self.data_dir.exists()
        if first:
            self._copy_template()
        for attempt in range(5):
            with self.log_file.open("ab") as log:
                self._process = _spawn(self.server_command(), log)
            if self._wait_until_up():
                break
            self._reap()
            # Another process may have taken the port since it was chosen: only then, and only before anyone knows
            # the port, is another one better than an error.
            if not (first and attempt < 4 and "ddress already in use" in _tail(self.log_file, 40)):
                raise ServerStartError(f"{self!r} did not start\n{_tail(self.log_file)}")
            self.port = free_port()
        rows = self.execute("SELECT VERSION()")
        self._version = str(rows[0][0])
        return self

    def stop(self) -> None:
        """Shut down cleanly: the binlog ends with a STOP event. The data stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reap()

    def kill(self) -> None:
        """SIGKILL: no shutdown, nothing flushed. The data stays, and the next start recovers it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._reap()

    def restart(self, *, options: Options | None = None) -> None:
        """Stop cleanly and start again on the same port, with `options` changed from now on."""
        self.stop()
        self.options.update({key.replace("-", "_"): value for key, value in (options or {}).items()})
        self.start()

    def close(self) -> None:
        """End the server and delete its data and socket. Its log stays."""
        self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        for name in ("socket", "socket.lock", "pid"):
            (self._run_dir / name).unlink(missing_ok=True)
        if self._run_dir != self.base_dir.absolute():
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.host}:{self.port})"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id. Raises if it isn't running."""
        if self._process is None or self._process.poll() is not None:
            raise ServerStartError(f"{self!r} is not running")
        return self._process.pid

    @property
    def version(self) -> tuple[int, int, int]:
        """For example (9, 7, 4). Known after the first start."""
        major, minor, patch = self._version.split("-")[0].split(".")[:3]
        return int(major), int(minor), int(patch)

    @property
    def version_text(self) -> str:
        """VERSION(), as the server says it."""
        return self._version

    # --- SQL

    def connect(self, **kwargs: Any) -> pymysql.connections.Connection[Any]:
        """A new connection over TCP as root, in autocommit mode; pymysql's arguments change any of it."""
        defaults: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "charset": "utf8mb4",
            "autocommit": True,
            "connect_timeout": 10,
        }
        return _Connection(**{**defaults, **kwargs})

    def execute(self, sql: str, args: Sequence[Any] | None = None) -> tuple[tuple[Any, ...], ...]:
        """Run one statement on a connection of its own; the rows, or () if it gives none."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql, args)
            return tuple(cursor.fetchall())

    def load(self, sql: bytes | str, *, database: str | None = None) -> None:
        """Pipe SQL through this server's own `mysql` client, as a person would. Raises with its stderr on failure."""
        arguments = [f"--database={database}"] if database else []
        self.run(self.client_command("--binary-mode", *arguments), sql)

    def dump(self, *args: str) -> bytes:
        """What this server's own mysqldump prints."""
        return self.run(self.dump_command(*args))

    @staticmethod
    def run(command: Sequence[str], stdin: bytes | str = b"") -> bytes:
        """Run a client command to its end and return its stdout. Raises RuntimeError with its stderr on failure."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"exit {done.returncode} from {command[-1]!r}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    # --- the client programs

    def client_command(self, *args: str) -> list[str]:
        """The argv of this server's own `mysql` client, connected as root in utf8mb4."""
        return [*self._tool("mysql"), *self._login(), "--default-character-set=utf8mb4", *self._PACKET, *args]

    def dump_command(self, *args: str) -> list[str]:
        """The argv of this server's own `mysqldump`."""
        return [*self._tool("mysqldump"), *self._login(), "--default-character-set=utf8mb4", *self._PACKET, *args]

    def mysqlbinlog_command(self, *args: str, remote: bool = False) -> list[str]:
        """The argv of this server's own `mysqlbinlog`: for files by default (see `binlog_files`), `remote` reads over
        the network, where the arguments are binlog names."""
        login = ["--read-from-remote-server", *self._login()] if remote else []
        return [*self._tool("mysqlbinlog"), *login, *args]

    def binlog_files(self) -> list[Path]:
        """The binlog files on disk, oldest first."""
        return sorted(path for path in self.data_dir.glob("binlog.*") if path.suffix[1:].isdigit())

    _PACKET = ("--max-allowed-packet=1G",)

    def _login(self) -> list[str]:
        return ["--protocol=TCP", f"--host={self.host}", f"--port={self.port}", f"--user={self.user}"]

    def _tool(self, program: str) -> list[str]:
        raise NotImplementedError

    # --- the server program

    def server_command(self) -> list[str]:
        """The argv of the server with its options as they are now."""
        own: dict[str, str | int | bool | None] = {
            "datadir": str(self.data_dir.absolute()),
            "socket": self.socket,
            "pid_file": str(self._run_dir / "pid"),
            "port": self.port,
            "bind_address": self.host,
        }
        if os.geteuid() == 0:
            own["user"] = "root"  # mysqld refuses to run as root unless told
        return [*self._program(), *_as_arguments({**self.options, **own})]

    def default_options(self) -> dict[str, str | int | bool | None]:
        """The flavour's own options."""
        raise NotImplementedError

    def _program(self) -> list[str]:
        raise NotImplementedError

    def _common_options(self) -> dict[str, str | int | bool | None]:
        """Small memory, and a binlog that keeps what a process had written when it was killed."""
        common: dict[str, str | int | bool | None] = {
            "server_id": self.server_id,
            # A MariaDB that starts deletes every `#sql*` file in its tmpdir, other servers' too.
            "tmpdir": str(self.base_dir / "tmp"),
            "secure_file_priv": "",
            "max_allowed_packet": "1G",
            "max_connections": 100,
            "table_open_cache": 400,
            "table_definition_cache": 500,
            "innodb_buffer_pool_size": "48M",
            "innodb_log_buffer_size": "4M",
            "key_buffer_size": "1M",
            "innodb_flush_log_at_trx_commit": 2,
        }
        if self.binlog:
            common |= {
                "log_bin": "binlog",
                "sync_binlog": 0,
                "binlog_format": "ROW",
                "binlog_row_image": "FULL",
                "binlog_row_metadata": "FULL",
            }
        return common

    def _copy_template(self) -> None:
        self.base_dir.mkdir(parents=True, exist_ok=True)
        # Into place with a rename: a copy that was cut off is never taken for a data directory.
        partial = self.data_dir.with_name("data.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self._facts[f"{self.flavor.upper()}_TEMPLATE"], partial)
        partial.rename(self.data_dir)

    def _wait_until_up(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.running:
            try:
                # Not TCP: another process's server might answer there.
                self.connect(unix_socket=self.socket, connect_timeout=5).close()
            except pymysql.err.OperationalError:
                time.sleep(0.05)
            else:
                return True
        return False

    def _reap(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
        self._process = None


def _as_arguments(options: Options) -> list[str]:
    arguments = []
    for key, value in options.items():
        option = "--" + key.replace("_", "-")
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            arguments.append(f"{option}={value}")
        elif value is False:
            arguments.append(f"{option}=0")
    return arguments


class MySQLServer(Server):
    """MySQL 8 or later, with GTIDs on."""

    flavor = "mysql"

    def default_options(self) -> dict[str, str | int | bool | None]:
        options: dict[str, str | int | bool | None] = {
            "mysqlx": "OFF",
            "innodb_redo_log_capacity": "32M",
            "performance_schema_max_digest_length": 0,
            "performance_schema_digests_size": 0,
            "performance_schema_max_table_instances": 500,
        }
        if self.binlog:
            options |= {"gtid_mode": "ON", "enforce_gtid_consistency": "ON"}
        else:
            options |= {"disable_log_bin": True}
        return options

    def _copy_template(self) -> None:
        if not self.options.get("lower_case_table_names"):
            super()._copy_template()
            return
        # It is fixed when a data directory is made (manual, "Identifier Case Sensitivity").
        options = {"datadir": str(self.data_dir.absolute()), "initialize_insecure": True, "mysqlx": "OFF"}
        options["lower_case_table_names"] = self.options["lower_case_table_names"]
        if os.geteuid() == 0:
            options["user"] = "root"
        self.run([*self._program(), *_as_arguments(options)])
        (self.data_dir / "auto.cnf").unlink(missing_ok=True)  # each server has a uuid of its own

    def _program(self) -> list[str]:
        command = [*self._loader(), self._facts["MYSQL_SERVER"], "--no-defaults"]
        if root := self._facts.get("MYSQL_ROOT"):
            command += [
                f"--basedir={root}/usr",
                f"--lc-messages-dir={root}/usr/share/mysql",
                f"--character-sets-dir={root}/usr/share/mysql/charsets",
                f"--plugin-dir={root}/usr/lib/mysql/plugin",
            ]
        return command

    def _tool(self, program: str) -> list[str]:
        command = [*self._loader(), self._facts[f"MYSQL_TOOL_{program}"], "--no-defaults"]
        if root := self._facts.get("MYSQL_ROOT"):
            command.append(f"--character-sets-dir={root}/usr/share/mysql/charsets")
        return command

    def _loader(self) -> list[str]:
        """An unpacked MySQL runs through the dynamic loader and the libraries that came with it."""
        if loader := self._facts.get("MYSQL_LOADER"):
            return [loader, "--library-path", self._facts["MYSQL_LIBRARIES"]]
        return []


class MariaDBServer(Server):
    """MariaDB as it comes, but for FULL binlog metadata: performance_schema is off, GTIDs are domain-based."""

    flavor = "mariadb"

    def default_options(self) -> dict[str, str | int | bool | None]:
        options: dict[str, str | int | bool | None] = {
            "innodb_log_file_size": "32M",
            "aria_pagecache_buffer_size": "8M",
            "character_set_server": "utf8mb4",  # as Debian's configuration has it; the program's own default is latin1
        }
        return options | {"gtid_domain_id": 0} if self.binlog else options | {"skip_log_bin": True}

    def _program(self) -> list[str]:
        return [self._facts["MARIADB_SERVER"], "--no-defaults"]

    def _tool(self, program: str) -> list[str]:
        return [self._facts[f"MARIADB_TOOL_{program}"], "--no-defaults"]


# --- S3 ---------------------------------------------------------------------------------------------------------------


class MotoServer:
    """An S3 stand-in in a process of its own. It takes any credentials and keeps its data in memory."""

    host = "127.0.0.1"
    region = "us-east-1"
    access_key_id = "testing"
    secret_access_key = "testing"

    def __init__(self, base_dir: str | Path) -> None:
        self.base_dir = Path(base_dir)
        self.log_file = self.base_dir / "moto.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 needs in the environment to reach it without further configuration."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
        }

    def start(self) -> Self:
        """Start, and return when it answers. After `stop()` it comes back empty, on the same port."""
        if self.running:
            return self
        self.base_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            command = [sys.executable, str(Path(__file__).parent / "moto_server.py"), str(self.port)]
            self._process = _spawn(command, log)
        deadline = time.monotonic() + START_TIMEOUT_S
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through the machine's proxy
        while time.monotonic() < deadline and self.running:
            try:
                opener.open(f"{self.endpoint_url}/moto-api/", timeout=5).close()
            except urllib.error.HTTPError:
                return self
            except OSError:
                time.sleep(0.1)
            else:
                return self
        self.stop()
        raise ServerStartError(f"moto did not start on port {self.port}\n{_tail(self.log_file)}")

    def stop(self) -> None:
        """End it; its data is gone."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
        self._process = None

    def suspend(self) -> None:
        """Freeze it: connections are accepted by the kernel and never answered, as in a network outage."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def client(self, **kwargs: Any) -> Any:
        """A boto3 S3 client for it."""
        import boto3  # here, because the servers above are useful without it

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            **kwargs,
        )

    def create_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"MotoServer({self.endpoint_url})"


@dataclass(frozen=True)
class S3Bucket:
    """A bucket of a MotoServer; `url` is an archive root."""

    name: str
    moto: MotoServer

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def endpoint_url(self) -> str:
        return self.moto.endpoint_url

    @property
    def region(self) -> str:
        return self.moto.region

    def client(self, **kwargs: Any) -> Any:
        return self.moto.client(**kwargs)
