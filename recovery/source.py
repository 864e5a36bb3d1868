"""The source server: connecting, errors, and what kind of server it is. Its tables: recovery/source_tables.py.

Promises: nothing here writes to the server. Every session is pinned (UTC, utf8mb4, an empty sql_mode, no statement time
limit), so what it reads doesn't depend on the server's defaults. Every failure of the driver becomes an error of
recovery.errors with a hint; no message holds the password.

Source: MySQL manual "Error Message Reference".
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pymysql
import pymysql.cursors

from recovery.config import ServerSettings
from recovery.errors import (
    AccessDenied,
    ConfigError,
    PrivilegeMissing,
    RowbackError,
    SourceError,
    SourceMisconfigured,
    SourceUnreachable,
    SourceUntrusted,
)
from recovery.lowercase import lowered
from recovery.quoting import quote

SYSTEM_SCHEMAS = frozenset({"mysql", "sys", "performance_schema", "information_schema"})
READ_TIMEOUT_S = 300  # per read from the socket, not per statement; a streamed result sends sooner than that

# Server error numbers (mysqld_error.h) and client ones (errmsg.h).
_DENIED = frozenset({1045, 1698, 1130, 1820, 1862, 3118, 1524, 1251, 2054, 2058, 2059, 2061})
_PRIVILEGE = frozenset({1227, 1142, 1143, 1044, 1370, 1410})
_UNREACHABLE = frozenset({2002, 2003, 2005, 2006, 2012, 2013, 2055, 1040, 1053, 1129, 1203, 1927, 4031})

_SSL_CONNECTION_ERROR = 2026  # CR_SSL_CONNECTION_ERROR: the server offers no TLS and ssl_ca requires it

if TYPE_CHECKING:
    Connection: TypeAlias = pymysql.connections.Connection[Any]
else:  # generic only for the type checker
    Connection = pymysql.connections.Connection
Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class ServerInfo:
    """server_uuid: None on MariaDB, which has none. gtid: gtid_mode is ON (always true on MariaDB). lower_case_table_names:
    1 if names of tables and databases are stored in lower case, and compared so."""

    flavor: str  # "mysql" | "mariadb"
    version: str
    version_tuple: tuple[int, ...]
    server_uuid: str | None
    server_id: int
    gtid: bool
    lower_case_table_names: int = 0


def connect(server: ServerSettings, **kw: Any) -> Connection:
    """A pinned session. `kw` goes to pymysql.connect and wins over the defaults. The caller closes it.

    A host that begins with `/` is a UNIX socket. TLS is used where the server offers it, required and verified if `ssl_ca`
    is given.
    """
    given: dict[str, Any] = {
        "user": server.user,
        "password": server.password.get_secret_value().encode(),  # the driver would encode str as latin1
        "charset": "utf8mb4",
        "autocommit": True,
        "connect_timeout": server.connect_timeout_s,
        "read_timeout": READ_TIMEOUT_S,
        "program_name": "rowback",
    }
    if server.host.startswith("/"):
        given["unix_socket"] = server.host
    else:
        given |= {"host": server.host, "port": server.port}
        given |= _tls(server)
    try:
        connection = _Session(**(given | kw))
    except (pymysql.MySQLError, OSError, RuntimeError, UnicodeError) as error:
        raise source_error(error, server) from error
    try:
        _pin(connection)
    except BaseException:
        connection.close()
        raise
    return connection


class _Session(Connection):
    """The driver's connection, that doesn't read the system's certificates (60 ms) when it won't look at them."""

    def _create_ssl_ctx(self, sslp: dict[str, Any]) -> ssl.SSLContext:
        if sslp:
            return super()._create_ssl_ctx(sslp)  # type: ignore[misc,no-any-return]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def _tls(server: ServerSettings) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if server.ssl_ca:
        given |= {
            "ssl_ca": server.ssl_ca,
            "ssl_verify_cert": True,
            "ssl_verify_identity": server.ssl_verify_identity,
        }
    if server.ssl_cert:
        given |= {"ssl_cert": server.ssl_cert, "ssl_key": server.ssl_key}
    missing = [path for path in given.values() if isinstance(path, str) and not Path(path).is_file()]
    if missing:
        raise ConfigError(
            f"the TLS file `{missing[0]}` of server `{server.name}` isn't there",
            hint="Correct ssl_ca, ssl_cert or ssl_key in rowback.toml; a relative path starts at the working directory.",
        )
    return given


def _pin(connection: Connection) -> None:
    statements = ["SET SESSION time_zone = '+00:00', sql_mode = '', wait_timeout = 28800, net_write_timeout = 3600"]
    if "MariaDB" in handshake_version(connection):
        statements.append("SET SESSION max_statement_time = 0")
    else:
        statements.append("SET SESSION max_execution_time = 0")
    for statement in statements:
        fetch(connection, statement)


def handshake_version(connection: Connection) -> str:
    return str(getattr(connection, "server_version", ""))


def fetch(connection: Connection, sql: str, parameters: Sequence[object] | None = None) -> list[Row]:
    """All rows of one statement, as tuples, whatever cursor class the connection has. Driver errors are mapped."""
    try:
        with connection.cursor(pymysql.cursors.Cursor) as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall() or ())
    except (pymysql.MySQLError, OSError) as error:
        raise source_error(error, connection=connection) from error


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def source_error(
    error: BaseException, server: ServerSettings | None = None, *, connection: Connection | None = None
) -> RowbackError:
    """The error of our tree for a driver's error: unreachable, access denied, a missing privilege, or the rest."""
    number, message = _number_and_message(error)
    where = f"`{server.host}:{server.port}`" if server else "the server"
    if number in _PRIVILEGE:
        user = server.user if server else _text(connection.user) if connection else None
        return _privilege_error(message, _account(message, user))
    if number in _DENIED or (number is None and isinstance(error, RuntimeError | UnicodeError)):
        user = f" as `{server.user}`" if server else ""
        return AccessDenied(
            f"{where} refused the login{user}: {message}",
            hint="Check `user` and `password_env` or `password_file` in rowback.toml, and the account's host part.",
        )
    if trouble := _untrusted(error):
        return SourceUntrusted(
            f"{where} isn't trusted: {trouble}",
            hint="Check `ssl_ca`, and that the certificate names `host` (`ssl_verify_identity`); if both are right, "
            "somebody else answers there.",
        )
    if number in _UNREACHABLE or isinstance(error, OSError | pymysql.err.InterfaceError):
        return SourceUnreachable(
            f"{where} can't be reached: {message or 'the connection is closed'}",
            hint="Check `host` and `port`, that the server runs, and that no firewall stands between.",
        )
    return SourceError(f"{where} answered with error {number}: {message}", hint="See the server's error log.")


def _untrusted(error: BaseException | None) -> str:
    """What is wrong with the server's certificate, if that is what failed; the driver wraps it as a lost connection."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message or str(error)
        if isinstance(error, pymysql.MySQLError) and error.args[:1] == (_SSL_CONNECTION_ERROR,):
            return str(error.args[-1])
        error = error.__cause__ or error.__context__
    return ""


def _number_and_message(error: BaseException) -> tuple[int | None, str]:
    arguments = error.args
    if isinstance(error, pymysql.MySQLError) and arguments and isinstance(arguments[0], int):
        return arguments[0], str(arguments[1]) if len(arguments) > 1 else ""
    return None, str(error)


def _privilege_error(message: str, account: str) -> PrivilegeMissing:
    """The GRANT that mends errors 1227 (names privileges that would do), 1142 and 1143 (command), 1044 (database)."""
    needs = re.search(r"at least one of\) the (.+?) privilege", message)
    command = re.search(r"^(?:[A-Z]+, )*([A-Z]+(?: [A-Z]+)*) command denied", message)
    database = re.search(r"to database '([^']*)'", message)
    if needs:
        choices = [name.strip() for name in re.split(r",| or ", needs.group(1))]
        least = [name for name in choices if name not in ("SUPER", "RELOAD")] or [
            "RELOAD" if "RELOAD" in choices else "SUPER"
        ]
        what = f"{least[0]} ON *.*"
    elif command:
        what = f"{'SELECT' if command.group(1) == 'SHOW' else command.group(1)} ON *.*"
    elif database:
        what = f"SELECT, SHOW VIEW, TRIGGER ON {quote(database.group(1))}.*"
    else:
        what = "SELECT ON *.*"
    return PrivilegeMissing(
        f"the account may not do this: {message}",
        hint=f"An administrator runs: GRANT {what} TO {account};",
    )


def _account(message: str, user: str | None) -> str:
    """The account as the server names it in the error; else the user at any host."""
    named = re.search(r"user '([^']*)'@'([^']*)'", message)
    return f"'{named.group(1)}'@'{named.group(2)}'" if named else f"'{user or 'rowback'}'@'%'"


def server_info(connection: Connection) -> ServerInfo:
    version = str(fetch(connection, "SELECT @@version")[0][0])
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    version_tuple = tuple(int(n) for n in numbers.groups()) if numbers else ()
    if "mariadb" in version.lower():
        server_id, case = fetch(connection, "SELECT @@server_id, @@lower_case_table_names")[0]
        return ServerInfo("mariadb", version, version_tuple, None, int(server_id), True, int(case))
    uuid, server_id, mode, case = fetch(
        connection, "SELECT @@server_uuid, @@server_id, @@gtid_mode, @@lower_case_table_names"
    )[0]
    return ServerInfo("mysql", version, version_tuple, str(uuid), int(server_id), str(mode) == "ON", int(case))


def check_names(known: int | None, info: ServerInfo) -> None:
    """Refuse a server that compares names in another way than when they were captured. known: lower_case_table_names then;
    None if that isn't known. Raises SourceMisconfigured."""
    now = info.lower_case_table_names
    if known not in (None, now):
        raise SourceMisconfigured(
            f"the source has lower_case_table_names = `{now}`, and the archive was captured with `{known}`",
            hint=f"Start the server with {known} again. To go on with {now}, begin a new archive (another server name in "
            "rowback.toml) and take a snapshot; this one stays restorable.",
        )


def check_filter(server: ServerSettings, lower_case_table_names: int) -> None:
    """Refuse patterns that fit no table of a server that has all names in lower case. Raises ConfigError."""
    wrong = next((p for p in (*server.include, *server.exclude) if p != lowered(p)), None)
    if lower_case_table_names == 1 and wrong is not None:
        raise ConfigError(
            f"the pattern `{wrong}` of server `{server.name}` fits no table: the source has all names in lower case",
            hint=f"Write `{lowered(wrong)}` in `include` or `exclude`.",
        )


def utc_since_us(connection: Connection) -> int | None:
    """The moment (microseconds since the epoch, by the server's clock) from which on its time zone SYSTEM has been UTC: its
    start, for it asks the operating system once. None if it isn't UTC, or may not be: `GMT` is also London's in winter."""
    uptime = fetch(connection, "SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]
    zone, now = fetch(connection, "SELECT @@system_time_zone, CAST(UNIX_TIMESTAMP() AS UNSIGNED)")[0]
    if zone != "UTC":
        return None
    return (int(now) - int(uptime) + 1) * 1_000_000  # whole seconds, of which the uptime's may be earlier ones


def binlog_status(connection: Connection) -> tuple[str, int] | None:
    """The binlog's current file and end position; None if the binlog is off. It runs ahead of what readers see, so it
    is never a LOW mark by itself. SHOW MASTER STATUS is gone since MySQL 8.4, its new name came with 8.2."""
    info = handshake_version(connection)
    numbers = re.match(r"(\d+)\.(\d+)", info)
    new = "MariaDB" not in info and numbers is not None and (int(numbers[1]), int(numbers[2])) >= (8, 2)
    rows = fetch(connection, "SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")
    return (str(rows[0][0]), int(rows[0][1])) if rows else None
