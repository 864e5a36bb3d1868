"""The source server: connecting, what kind of server it is, and the definitions of its tables.

Promises: nothing here writes to the server. Every session is pinned (UTC, utf8mb4, an empty sql_mode, no statement time
limit), so what it reads doesn't depend on the server's defaults. Every failure of the driver becomes an error of
recovery.errors with a hint; no message holds the password.

`read_tables` gives the same `Column.storage` as the binlog's TABLE_MAP metadata with binlog_row_metadata=FULL. It
doesn't judge types: a column that the archive can't hold comes back under its type's name, and
recovery.schema.arrow_type refuses it. The key is the one that TABLE_MAP names, see `promoted_key`. No foreign key, other
index or default is read here.

Sources: MySQL manual "Error Message Reference", information_schema COLUMNS and STATISTICS; MariaDB's the same.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pymysql
import pymysql.cursors

from recovery.charset import encode_text, is_raw_label, label_text
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
    UnsupportedColumn,
)
from recovery.lowercase import lowered
from recovery.quoting import quote
from recovery.schema import Column, Table

SYSTEM_SCHEMAS = frozenset({"mysql", "sys", "performance_schema", "information_schema"})
READ_TIMEOUT_S = 300  # per read from the socket, not per statement; a streamed result sends sooner than that

# Server error numbers (mysqld_error.h) and client ones (errmsg.h).
_DENIED = frozenset({1045, 1698, 1130, 1820, 1862, 3118, 1524, 1251, 2054, 2058, 2059, 2061})
_PRIVILEGE = frozenset({1227, 1142, 1143, 1044, 1370, 1410})
_UNREACHABLE = frozenset({2002, 2003, 2005, 2006, 2012, 2013, 2055, 1040, 1053, 1129, 1203, 1927, 4031})

_FAMILY = {"integer": "int", "numeric": "decimal"}
_FAMILY |= dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), "text")
_FAMILY |= dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), "blob")
_FAMILY |= dict.fromkeys(
    (
        "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection",
        "geometrycollection",
    ),
    "geometry",
)  # fmt: skip
_SIGNED = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double"})
_SIZED = frozenset({"char", "varchar", "binary", "varbinary"})
_CHARACTER = frozenset({"char", "varchar", "text", "enum", "set"})
_LABEL = re.compile(r"(x?)'((?:[^'\\]|''|\\.)*)'(?:,|\)|$)", re.DOTALL)
_UNESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
_NO_SUCH_TABLE = 1146  # ER_NO_SUCH_TABLE
_SSL_CONNECTION_ERROR = 2026  # CR_SSL_CONNECTION_ERROR: the server offers no TLS and ssl_ca requires it
_PERIOD = "PERIOD"  # stands for the EXTRA of a period's columns
TABLE_TYPES = frozenset(
    {"BASE TABLE", "SYSTEM VERSIONED"}
)  # those of information_schema.TABLES that have rows of their own
_BATCH = 200  # tables per information_schema query

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
    if "MariaDB" in _handshake_version(connection):
        statements.append("SET SESSION max_statement_time = 0")
    else:
        statements.append("SET SESSION max_execution_time = 0")
    for statement in statements:
        fetch(connection, statement)


def _handshake_version(connection: Connection) -> str:
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
    zone, now = fetch(connection, "SELECT @@system_time_zone, CAST(UNIX_TIMESTAMP() AS UNSIGNED)")[0]
    if zone != "UTC":
        return None
    uptime = fetch(connection, "SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]
    return (int(now) - int(uptime) + 2) * 1_000_000  # both are whole seconds


def binlog_status(connection: Connection) -> tuple[str, int] | None:
    """The binlog's current file and end position; None if the binlog is off. It runs ahead of what readers see, so it
    is never a LOW mark by itself. SHOW MASTER STATUS is gone since MySQL 8.4, its new name came with 8.2."""
    info = _handshake_version(connection)
    numbers = re.match(r"(\d+)\.(\d+)", info)
    new = "MariaDB" not in info and numbers is not None and (int(numbers[1]), int(numbers[2])) >= (8, 2)
    rows = fetch(connection, "SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")
    return (str(rows[0][0]), int(rows[0][1])) if rows else None


def list_tables(connection: Connection) -> list[tuple[str, str, str]]:
    """(database, name, type) of everything outside the system schemas: type as in information_schema (`BASE TABLE`,
    `VIEW`, `SEQUENCE`, `SYSTEM VERSIONED`), sorted by name."""
    rows = fetch(connection, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES")
    found = [(str(db), str(name), str(kind)) for db, name, kind in rows]
    return sorted(row for row in found if row[0].lower() not in SYSTEM_SCHEMAS)


def read_tables(connection: Connection, tables: Sequence[tuple[str, str]] | None = None) -> list[Table]:
    """The definitions of these (database, table) pairs in their order, of all base tables with None. Names that don't
    exist, or that the account may not see, are left out: the caller compares."""
    if tables is None:
        tables = [(db, name) for db, name, kind in list_tables(connection) if kind in TABLE_TYPES]
    found: dict[tuple[str, str], Table] = {}
    for start in range(0, len(tables), _BATCH):
        found |= _read_batch(connection, tables[start : start + _BATCH])
    return [found[pair] for pair in tables if pair in found]


def _read_batch(connection: Connection, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Table]:
    # information_schema compares names without case and trailing spaces: the exact pairs are picked here.
    wanted = set(tables)
    where = " OR ".join(["(TABLE_SCHEMA = %s AND TABLE_NAME = %s)"] * len(tables))
    names = [name for pair in tables for name in pair]
    columns: dict[tuple[str, str], list[Column]] = {}
    virtual: dict[tuple[str, str], frozenset[str]] = {}
    periods: set[tuple[str, str]] = set()
    for db, table, *rest in fetch(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_OCTET_LENGTH,"
        " NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_SET_NAME, IS_NULLABLE,"
        # The columns of a system-versioned table's period can be written, in a way.
        f" CASE WHEN GENERATION_EXPRESSION IN ('ROW START', 'ROW END') THEN '{_PERIOD}' ELSE EXTRA END"
        f" FROM information_schema.COLUMNS WHERE {where} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        names,
    ):
        if (db, table) in wanted:
            columns.setdefault((db, table), []).append(_column(*rest))
            if "VIRTUAL" in str(rest[-1]).upper():
                virtual[(db, table)] = virtual.get((db, table), frozenset()) | {str(rest[0])}
            if rest[-1] == _PERIOD:
                periods.add((db, table))
    _check_names_of_hashes(connection, columns)
    unique = {
        (str(db), str(table))
        for db, table in fetch(
            connection,
            f"SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND ({where})",
            names,
        )
    }
    keys = {pair: _read_key(connection, pair, virtual.get(pair, frozenset())) for pair in columns if pair in unique}
    for pair in _versioned(connection, columns) - periods:
        # Nothing shows these columns but the binlog, in which row_end is a part of every unique key, too.
        columns[pair] += [Column(name, "timestamp", fsp=6, invisible=True) for name in ("row_start", "row_end")]
        key = keys.get(pair)
        keys[pair] = (*key, "row_end") if key else key or ()
    return {
        pair: Table(pair[0], pair[1], tuple(found), key)
        for pair, found in columns.items()
        if (key := keys.get(pair, ())) is not None
    }


def _check_names_of_hashes(connection: Connection, tables: Mapping[tuple[str, str], Sequence[Column]]) -> None:
    """MariaDB's binlog also has columns that nothing else shows, the hashes of unique keys that are too long for an index:
    they are told by their names (dataflow/tablemap.py). Raises UnsupportedColumn for one that a user named so."""
    if "MariaDB" not in _handshake_version(connection):
        return
    for (db, table), columns in tables.items():
        found = next((c.name for c in columns if re.fullmatch(r"DB_ROW_HASH_\d+", c.name)), None)
        if found is not None:
            raise UnsupportedColumn(
                f"column `{found}` of table `{db}.{table}` has the name of a column that MariaDB makes itself",
                hint=f"Give it another name: ALTER TABLE {quote(db, table)} RENAME COLUMN {quote(found)} TO ...",
            )


def _versioned(connection: Connection, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the tables that MariaDB keeps the history of."""
    if "MariaDB" not in _handshake_version(connection):
        return set()
    sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'SYSTEM VERSIONED'"
    return {(str(db), str(name)) for db, name in fetch(connection, sql)}.intersection(pairs)


def _read_key(connection: Connection, pair: tuple[str, str], virtual: frozenset[str]) -> tuple[str, ...] | None:
    """What TABLE_MAP names as a table's primary key; None if the table is gone by now."""
    try:
        rows = fetch(connection, f"SHOW KEYS FROM {quote(pair[1])} FROM {quote(pair[0])}")
    except SourceError as error:
        if isinstance(error.__cause__, pymysql.MySQLError) and error.__cause__.args[0] == _NO_SUCH_TABLE:
            return None
        raise
    keys: dict[str, list[KeyPart]] = {}
    for _, non_unique, name, _, column, _, _, prefix, _, null, kind, *_ in rows:
        if not int(non_unique):
            whole = column is not None and prefix is None and kind != "HASH"
            part = KeyPart("" if column is None else str(column), whole, null == "YES" or column in virtual)
            keys.setdefault(str(name), []).append(part)
    return promoted_key(keys)


@dataclass(frozen=True)
class KeyPart:
    """One part of a unique key. whole: a column, not a prefix, a hash or an expression. weak: nullable or virtual."""

    column: str
    whole: bool = True
    weak: bool = False


def promoted_key(keys: Mapping[str, Sequence[KeyPart]]) -> tuple[str, ...]:
    """The columns of the key that the server takes for the primary one, as the binlog does; () if there is none.

    keys: the unique keys in the server's own order. That is the primary key, if only over prefixes: then two rows may
    differ and share a key, and there is none. Without one it is the first whose parts are all whole, NOT NULL and not
    virtual (MySQL's sql/dd_table_share.cc, prepare_share; MariaDB's sql/table.cc, TABLE_SHARE::init_from_binary_frm_image;
    measured on 9.7 and 10.11 with what tests/test_source.py has).
    """
    candidates = [keys["PRIMARY"]] if "PRIMARY" in keys else list(keys.values())
    for parts in candidates:
        if all(part.whole and not part.weak for part in parts):
            return tuple(part.column for part in parts)
    return ()


def _column(
    name: str, data_type: str, column_type: str, octets: int | None, precision: int | None, scale: int | None,
    fsp: int | None, charset: str | None, nullable: str, extra: str,
) -> Column:  # fmt: skip
    kind = _FAMILY.get(data_type.lower(), data_type.lower())
    labelled = kind in ("enum", "set")
    return Column(
        name=name,
        type=kind,
        unsigned=kind in _SIGNED and " unsigned" in column_type.lower(),
        octets=int(octets) if kind in _SIZED and octets is not None else None,
        precision=int(precision) if kind in ("decimal", "bit") and precision is not None else None,
        scale=int(scale) if kind == "decimal" and scale is not None else None,
        fsp=int(fsp or 0) if kind in ("time", "datetime", "timestamp") else None,
        charset=_charset(charset) if kind in _CHARACTER else None,
        labels=parse_labels(column_type, _charset(charset)) if labelled else (),
        nullable=nullable == "YES",
        generated=bool(re.search(r"\b(VIRTUAL|STORED|PERSISTENT)\b", extra, re.IGNORECASE)),
        invisible=bool(re.search(r"\bINVISIBLE\b", extra, re.IGNORECASE)),
    )


def _charset(name: str | None) -> str:
    """An ENUM or SET of character set binary has none in MySQL's information_schema."""
    return "binary" if name is None else "utf8mb3" if name == "utf8" else str(name)


def parse_labels(column_type: str, charset: str = "utf8mb4") -> tuple[str, ...]:
    """The labels of `enum('a','it''s')`. Escapes: `''`, `\\\\`, `\\n`, `\\r`, `\\0` (append_unescaped, sql/unireg.cc); MySQL
    prints labels of character set binary that aren't ASCII as `x'f09f'`.

    The servers print what they can't show here as `?`: characters outside the basic plane, and on MariaDB bytes of
    character set binary. Only the binlog knows such a label.
    """
    body = column_type[column_type.index("(") + 1 :]
    return tuple(_label(in_hex, text, charset) for in_hex, text in _LABEL.findall(body))


def _label(in_hex: str, text: str, charset: str) -> str:
    if in_hex:
        return label_text(bytes.fromhex(text), charset)
    label = _UNESCAPE.sub(_unescape, text)
    return label_text(encode_text(label, charset), charset) if is_raw_label(label) else label


def _unescape(match: re.Match[str]) -> str:
    return "'" if match.group(1) is None else _ESCAPES.get(match.group(1), match.group(1))


def generated_columns(connection: Connection, db: str, table: str) -> frozenset[str]:
    """The names of a table's generated columns, virtual and stored; empty if there is no such table."""
    return frozenset(c.name for t in read_tables(connection, [(db, table)]) for c in t.columns if c.generated)


def show_create_table(connection: Connection, db: str, table: str) -> str:
    try:
        return str(fetch(connection, f"SHOW CREATE TABLE {quote(db, table)}")[0][1])
    except UnicodeDecodeError as error:  # MariaDB prints the bytes of a binary default as they are
        raise SourceError(
            f"the definition of table `{db}.{table}` isn't text: a column has bytes as its DEFAULT",
            hint="Write it as an expression, such as `ALTER TABLE t ALTER c SET DEFAULT (UNHEX('00ff'))`, or leave "
            "the table out of the snapshot with `--exclude`.",
        ) from error


def show_create_database(connection: Connection, db: str) -> str:
    return str(fetch(connection, f"SHOW CREATE DATABASE {quote(db)}")[0][1])
