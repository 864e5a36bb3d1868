"""The live reading: definitions equal the binlog's, and errors say what to do without giving away secrets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pymysql
import pytest
from pydantic import SecretStr
from typecases import cases

from dataflow import tablemap
from recovery import source_tables
from recovery.config import ServerSettings
from recovery.errors import AccessDenied, PrivilegeMissing, SourceError, SourceUnreachable, UnsupportedColumn
from recovery.schema import Column, Table, check_supported
from recovery.source import Connection, Row, binlog_status, connect, fetch, server_info, source_error
from recovery.source_tables import generated_columns, list_tables, parse_labels, read_tables, show_create_table
from testservers import Server, free_port

pytestmark = pytest.mark.sockets
NASTY = ["a/b", "../../etc", "quo\"te'`s", " lead", "dot.ted", "ünïcødé", "sel ect", "A", "a", "%41"]


def settings(server: Server, user: str = "root", password: str = "") -> ServerSettings:
    return ServerSettings(name="s", host=server.host, port=server.port, user=user, password=SecretStr(password))


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_source")
    return found


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with contextlib.closing(connect(settings(server))) as opened:
        yield opened


@pytest.fixture
def database(server: Server, unique_name: Callable[[str], str]) -> Iterator[str]:
    name = unique_name("source")
    server.execute(f"CREATE DATABASE {name}")
    yield name
    server.execute(f"DROP DATABASE {name}")


def test_server_info_and_position(server: Server, connection: Connection) -> None:
    info = server_info(connection)
    assert (info.flavor, info.version_tuple, info.server_id) == (server.flavor, server.version, server.server_id)
    assert info.gtid
    assert (info.server_uuid is None) == (server.flavor == "mariadb")
    status = binlog_status(connection)
    assert status is not None
    assert status[1] > 4


def test_every_type_reads_as_the_archive_knows_it(server: Server, connection: Connection, database: str) -> None:
    expected = [case.column for case in cases(server.flavor)]
    columns = ", ".join(f"c{i} {case.ddl} NULL" for i, case in enumerate(cases(server.flavor)))
    server.execute(f"CREATE TABLE {database}.t (id INT PRIMARY KEY, {columns})")
    (table,) = read_tables(connection, [(database, "t")])
    assert [c.storage for c in table.columns[1:]] == [c.storage for c in expected]
    assert table.key == ("id",)
    check_supported(table)


ODD_TYPES = (
    "BIT", "BIT(10)", "BIT(64)", "GEOMETRY", "POINT", "GEOMETRYCOLLECTION", "VARCHAR(9) CHARACTER SET utf16",
    "CHAR(9) CHARACTER SET ujis", "LONGTEXT CHARACTER SET tis620", "ENUM('a','\u00e9') CHARACTER SET ucs2",
    "ENUM('a') CHARACTER SET binary", "ENUM('x''ff''','0xFF') CHARACTER SET latin1", "SET('a','b') CHARACTER SET cp1251",
)  # fmt: skip
MYSQL_TYPES = ("VECTOR(3)", "CHAR(9) CHARACTER SET gb18030", "ENUM('a',X'F09F9880',X'FF') CHARACTER SET binary")
MARIADB_TYPES = ("VARCHAR(99) COMPRESSED", "TEXT COMPRESSED CHARACTER SET latin7", "BLOB COMPRESSED")


def table_map(server: Server, table: str) -> bytes:
    """The body of the newest TABLE_MAP event of a table, from the binlog file itself."""
    data = server.binlog_files()[-1].read_bytes()
    at, found = 4, b""
    while at < len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        body = data[at + 19 : at + size - 4]
        if data[at + 4] == 19 and table.encode() + b"\0" in body:
            found = body
        at += size
    return found


def test_both_readers_of_a_definition_agree(server: Server, connection: Connection, database: str) -> None:
    ddls = ODD_TYPES + (MYSQL_TYPES if server.flavor == "mysql" else MARIADB_TYPES)
    columns = ", ".join(f"c{i} {ddl} NULL" for i, ddl in enumerate(ddls))
    server.execute(f"CREATE TABLE {database}.readers (id INT PRIMARY KEY, {columns})")
    server.execute(f"INSERT INTO {database}.readers (id) VALUES (1)")
    (table,) = read_tables(connection, [(database, "readers")])
    check_supported(table)
    collations = dict(fetch(connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"))
    logged = tablemap.parse(table_map(server, "readers"), collations, flavor=server.flavor).table
    assert [c.storage for c in logged.columns] == [c.storage for c in table.columns]
    assert logged.key == table.key


def test_a_definition_that_is_no_text_is_named(mariadb_source: Server, unique_name: Callable[[str], str]) -> None:
    name = unique_name("bytes")
    mariadb_source.execute(f"CREATE DATABASE {name}")
    mariadb_source.execute(f"CREATE TABLE {name}.t (a INT, b VARBINARY(5) DEFAULT 0x00ff)")
    with (
        contextlib.closing(connect(settings(mariadb_source))) as opened,
        pytest.raises(SourceError, match="isn't text") as e,
    ):
        show_create_table(opened, name, "t")
    assert f"`{name}.t`" in e.value.message
    mariadb_source.execute(f"ALTER TABLE {name}.t ALTER b SET DEFAULT (UNHEX('00ff'))")
    with contextlib.closing(connect(settings(mariadb_source))) as opened:
        assert "unhex('00ff')" in show_create_table(opened, name, "t")


def test_mariadbs_own_types(mariadb_source: Server, unique_name: Callable[[str], str]) -> None:
    name = unique_name("own")
    mariadb_source.execute(f"CREATE DATABASE {name}")
    mariadb_source.execute(f"CREATE TABLE {name}.t (u UUID PRIMARY KEY, a INET4, b INET6)")
    with contextlib.closing(connect(settings(mariadb_source))) as opened:
        (table,) = read_tables(opened, [(name, "t")])
    assert [c.type for c in table.columns] == ["uuid", "inet4", "inet6"]
    check_supported(table)


@pytest.mark.parametrize("column", [Column("odd", "wire type 99"), Column("odd", "char", charset="martian")])
def test_other_types_are_refused_by_name(column: Column) -> None:
    with pytest.raises(UnsupportedColumn, match=r"`odd` of table `d\.t`"):
        check_supported(Table("d", "t", (column,)))


def test_keys_generated_and_invisible_columns(server: Server, connection: Connection, database: str) -> None:
    server.execute(
        f"CREATE TABLE {database}.t (a INT, b INT, s INT GENERATED ALWAYS AS (a + 1) STORED,"
        " v INT GENERATED ALWAYS AS (a + 2) VIRTUAL, d DATETIME DEFAULT CURRENT_TIMESTAMP, i INT INVISIBLE,"
        " PRIMARY KEY (b, a))"
    )
    server.execute(f"CREATE TABLE {database}.prefix (t VARCHAR(50), PRIMARY KEY (t(5)))")
    server.execute(f"CREATE TABLE {database}.keyless (a INT UNIQUE)")
    first, prefix, keyless = read_tables(connection, [(database, n) for n in ("t", "prefix", "keyless")])
    assert first.key == ("b", "a")
    assert generated_columns(connection, database, "t") == {"s", "v"}
    assert [c.name for c in first.columns if c.invisible] == ["i"]
    assert prefix.key == ()
    assert keyless.key == ()


# Definitions of a table, and what the TABLE_MAP of its rows must name as its key on both servers, unless the case says
# which has it.
KEYS: list[tuple[str, str]] = [
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u2 (b), UNIQUE u1 (a)", "both"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u1 (a), UNIQUE u2 (b)", "both"),
    ("a INT NOT NULL, b INT NULL, c INT NOT NULL, UNIQUE u1 (a, b), UNIQUE u2 (c, a)", "both"),
    (
        "a INT NOT NULL, b INT NOT NULL, c INT NOT NULL, UNIQUE u3 (c), UNIQUE u2 (b, c), KEY k (b), UNIQUE u1 (a)",
        "both",
    ),
    ("a INT NULL, UNIQUE (a)", "both"),
    ("v VARCHAR(50) NOT NULL, a INT NOT NULL, UNIQUE u1 (v(5)), UNIQUE u2 (a)", "both"),
    ("v VARCHAR(50) NOT NULL, a INT NOT NULL, UNIQUE u1 (a, v(5)), UNIQUE u2 (v)", "both"),
    ("v VARCHAR(50) NOT NULL, UNIQUE u1 (v(50))", "both"),
    ("t TINYBLOB NOT NULL, UNIQUE u1 (t(255))", "both"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u1 (b, a DESC)", "both"),
    ("a INT NOT NULL AUTO_INCREMENT, b INT NOT NULL, UNIQUE u2 (b), UNIQUE u1 (a)", "both"),
    ("a INT NOT NULL INVISIBLE DEFAULT 1, b INT NOT NULL, UNIQUE u1 (a), UNIQUE u2 (b)", "both"),
    ("v VARCHAR(50) NOT NULL, a INT NOT NULL, PRIMARY KEY (v(5)), UNIQUE (a)", "both"),
    ("v VARCHAR(50) NOT NULL, a INT NOT NULL, PRIMARY KEY (a, v(5)), UNIQUE (a)", "both"),
    ("a INT NOT NULL, b INT NOT NULL, PRIMARY KEY (b), UNIQUE (a)", "both"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE (a) USING HASH, UNIQUE (b)", "both"),
    ("a INT NOT NULL, UNIQUE (a) USING HASH", "both"),
    ("a INT, g INT AS (a + 1) STORED NOT NULL, b INT NOT NULL, UNIQUE u1 (g), UNIQUE u2 (b)", "mysql"),
    ("a INT, g INT AS (a + 1) VIRTUAL NOT NULL, b INT NOT NULL, UNIQUE u1 (g), UNIQUE u2 (b)", "mysql"),
    ("a INT, g INT AS (a + 1) VIRTUAL NOT NULL, UNIQUE u1 (g)", "mysql"),
    ("a INT NOT NULL, UNIQUE u1 ((a + 1))", "mysql"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u1 (a, (b + 1)), UNIQUE u2 (b)", "mysql"),
    ("a INT, g INT AS (a + 1) VIRTUAL, b INT NOT NULL, UNIQUE u1 (g), UNIQUE u2 (b)", "mariadb"),
    ("t TEXT NOT NULL, UNIQUE u1 (t)", "mariadb"),
    ("t TEXT NOT NULL, a INT NOT NULL, UNIQUE u1 (t), UNIQUE u2 (a)", "mariadb"),
    ("t VARCHAR(3000) NOT NULL, UNIQUE u1 (t)", "mariadb"),
]
ALTERED = [
    ("a INT NOT NULL, b INT NULL, UNIQUE u1 (a, b), UNIQUE u2 (b)", "MODIFY b INT NOT NULL"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u1 (a), UNIQUE u2 (b)", "DROP INDEX u1, ADD UNIQUE u1 (a)"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u2 (b)", "ADD UNIQUE u1 (a)"),
    ("a INT NOT NULL, b INT NOT NULL, UNIQUE u1 (a), UNIQUE u2 (b)", "RENAME INDEX u1 TO u9"),
]


class Collations(dict[int, str]):
    def get(self, number: int, default: object = None) -> str:
        return "binary" if number == 63 else "utf8mb4"


def keys_in_the_binlog(server: Server, db: str) -> dict[str, tuple[str, ...]]:
    """The key of each of the database's tables in the newest binlog file, by table."""
    data = server.binlog_files()[-1].read_bytes()
    found, at = {}, 4
    while at < len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        if data[at + 4] == 19:  # TABLE_MAP
            table = tablemap.parse(data[at + 19 : at + size - 4], Collations(), flavor=server.flavor).table
            if table.db == db:
                found[table.name] = table.key
        at += size
    return found


def test_keys_are_those_of_the_binlog(server: Server, connection: Connection, database: str) -> None:
    cases = [(ddl, "") for ddl, where in KEYS if where in ("both", server.flavor)] + ALTERED
    server.execute("FLUSH BINARY LOGS")
    for i, (ddl, change) in enumerate(cases):
        server.execute(f"CREATE TABLE {database}.t{i} ({ddl})")
        if change:
            server.execute(f"ALTER TABLE {database}.t{i} {change}")
        with contextlib.closing(server.connect(database=database)) as writer, writer.cursor() as cursor:
            cursor.execute("SET sql_mode = ''")
            column = "v" if ddl.startswith("v") else "t" if ddl.startswith("t") else "a"
            cursor.execute(f"INSERT INTO t{i} ({column}) VALUES (1)")
            writer.commit()
    logged = keys_in_the_binlog(server, database)
    tables = {t.name: t for t in read_tables(connection, [(database, f"t{i}") for i in range(len(cases))])}
    for i, case in enumerate(cases):
        assert tables[f"t{i}"].key == logged[f"t{i}"], case
    assert sum(bool(key) for key in logged.values()) > 10


def test_columns_beside_geometry_and_vector_keep_their_character_sets(
    server: Server, connection: Connection, database: str
) -> None:
    """Each server counts one of these types among those with a character set, which shifts those of the others."""
    odd = "TINYTEXT, v VECTOR(2)" if server.flavor == "mysql" else "TINYTEXT, v INET4"
    server.execute("FLUSH BINARY LOGS")
    server.execute(
        f"CREATE TABLE {database}.t (id INT PRIMARY KEY, g GEOMETRY, a VARCHAR(9) CHARACTER SET latin1, h POINT, b {odd},"
        " c VARBINARY(9), d CHAR(3) CHARACTER SET ascii, e VARCHAR(9) CHARACTER SET latin1)"
    )
    server.execute(f"CREATE TABLE {database}.u (id INT PRIMARY KEY, g GEOMETRY, a VARCHAR(9), b TEXT)")
    server.execute(f"INSERT INTO {database}.t (id) VALUES (1)")
    server.execute(f"INSERT INTO {database}.u (id) VALUES (1)")
    names = dict(fetch(connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"))
    data, at = server.binlog_files()[-1].read_bytes(), 4
    live = {t.name: t for t in read_tables(connection, [(database, "t"), (database, "u")])}
    seen = 0
    while at < len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        if data[at + 4] == 19:  # TABLE_MAP
            table = tablemap.parse(data[at + 19 : at + size - 4], names, flavor=server.flavor).table
            charsets = {c.name: c.charset for c in table.columns}
            assert charsets == {c.name: c.charset for c in live[table.name].columns if c.name in charsets}
            seen += 1
        at += size
    assert seen == 2


def test_a_table_that_goes_away_between_two_questions_is_left_out(
    server: Server, connection: Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stays", "goes"):
        server.execute(f"CREATE TABLE {database}.{name} (a INT PRIMARY KEY)")
    real = fetch

    def fetch_late(opened: Connection, sql: str, parameters: Sequence[object] | None = None) -> list[Row]:
        if sql.startswith("SHOW KEYS FROM `goes`"):
            server.execute(f"DROP TABLE {database}.goes")
        return real(opened, sql, parameters)

    monkeypatch.setattr(source_tables, "fetch", fetch_late)
    assert [t.name for t in read_tables(connection, [(database, "stays"), (database, "goes")])] == ["stays"]


def test_names_are_exact(server: Server, connection: Connection, database: str) -> None:
    for name in NASTY:
        quoted = name.replace("`", "``")
        server.execute(f"CREATE TABLE `{database}`.`{quoted}` (`c.{quoted}` INT PRIMARY KEY)".replace("%", "%%"), ())
    found = {t.name: t for t in read_tables(connection, [(database, name) for name in NASTY])}
    assert list(found) == NASTY
    assert all(found[name].columns[0].name == f"c.{name}" for name in NASTY)
    assert {name for db, name, _ in list_tables(connection) if db == database} == set(NASTY)
    assert "CREATE TABLE" in show_create_table(connection, database, NASTY[2])
    assert read_tables(connection, [(database, "b")]) == []  # not `B`, not `a`


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("enum('a','b')", ("a", "b")),
        (r"enum('it''s','b\\c','','x,y','new\nline','\0')", ("it's", "b\\c", "", "x,y", "new\nline", "\0")),
        ("set('(',')')", ("(", ")")),
    ],
)
def test_labels(text: str, labels: tuple[str, ...]) -> None:
    assert parse_labels(text) == labels


def test_wrong_password_is_not_repeated(server: Server) -> None:
    for password in ("hunter2", "pässwörd€", "😀"):
        with pytest.raises(AccessDenied) as caught:
            connect(settings(server, "root", password))
        assert password not in str(caught.value)
        assert "password_env" in caught.value.hint


def test_non_latin_password_works(server: Server, unique_name: Callable[[str], str]) -> None:
    user = unique_name("user")
    server.execute(f"CREATE USER {user} IDENTIFIED BY 'pässwörd€'")
    with contextlib.closing(connect(settings(server, user, "pässwörd€"))) as opened:
        assert fetch(opened, "SELECT 1") == [(1,)]
    server.execute(f"DROP USER {user}")


def test_nobody_listens() -> None:
    with pytest.raises(SourceUnreachable, match="can't be reached"):
        connect(ServerSettings(name="s", port=free_port(), connect_timeout_s=2))


def test_missing_privileges_name_the_grant(server: Server, database: str, unique_name: Callable[[str], str]) -> None:
    user = unique_name("low")
    server.execute(f"CREATE USER {user} IDENTIFIED BY 'x'")
    server.execute(f"CREATE TABLE {database}.t (a INT)")
    with contextlib.closing(connect(settings(server, user, "x"))) as opened:
        for statement, grant in [
            ("FLUSH TABLES WITH READ LOCK", f"GRANT {'FLUSH_TABLES' if server.flavor == 'mysql' else 'RELOAD'} ON *.*"),
            (f"SELECT * FROM {database}.t", "GRANT SELECT ON *.*"),
            (f"USE {database}", f"ON `{database}`.*"),
        ]:
            with pytest.raises(PrivilegeMissing) as caught:
                fetch(opened, statement)
            assert grant in caught.value.hint
            assert f"'{user}'@" in caught.value.hint
    server.execute(f"DROP USER {user}")


def test_the_session_does_not_depend_on_the_servers_settings(server: Server) -> None:
    server.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES'")
    try:
        with contextlib.closing(connect(settings(server))) as opened:
            assert fetch(opened, "SELECT @@sql_mode, @@time_zone, @@autocommit") == [("", "+00:00", 1)]
    finally:
        server.execute("SET GLOBAL sql_mode = DEFAULT")


def test_other_errors_keep_the_servers_words() -> None:
    error = source_error(pymysql.err.ProgrammingError(1064, "You have an error"))
    assert type(error) is SourceError
    assert "1064" in error.message
    assert type(source_error(TimeoutError("timed out"))) is SourceUnreachable
