"""literals.py: text, literals and guards, as values and on real servers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import Exact
from typecases import cases

from recovery.errors import NotComputable
from recovery.literals import guard, literal, literal_sql, parse_value, text_of
from recovery.quoting import quote
from recovery.schema import Column

VARCHAR = Column("c", "varchar", octets=40, charset="utf8mb4")


def _split(value: Any) -> tuple[Any, str | None]:
    return (None, value.text) if isinstance(value, Exact) else (value, None)


@pytest.mark.parametrize(
    ("column", "value", "text", "sql"),
    [
        (VARCHAR, None, None, "NULL"),
        (VARCHAR, "paid", "paid", "'paid'"),
        (VARCHAR, "it's", "it's", "_utf8mb4 x'69742773'"),
        (VARCHAR, "a\\b", "a\\b", "_utf8mb4 x'615C62'"),
        (VARCHAR, "é", "é", "_utf8mb4 x'C3A9'"),
        (VARCHAR, "a\nb", "a\nb", "_utf8mb4 x'610A62'"),
        (Column("c", "blob"), b"", "0x", "x''"),
        (Column("c", "blob"), b"\xab", "0xAB", "x'AB'"),
        (Column("c", "int"), -5, "-5", "-5"),
        (Column("c", "year"), 0, "0000", "0000"),
        (Column("c", "decimal", precision=10, scale=2), Decimal("-1.50"), "-1.50", "-1.50"),
        (Column("c", "decimal", precision=30, scale=20), Decimal("1E-20"), "0.00000000000000000001", None),
        (Column("c", "double"), -0.0, "-0", "-0e0"),
        (Column("c", "double"), 1e16, "1e16", "1e+16"),
        (Column("c", "double"), -1.5, "-1.5", "-1.5e0"),
        (Column("c", "float"), struct.unpack("f", struct.pack("f", 1.1))[0], "1.1", "1.100000023841858e0"),
        (Column("c", "time", fsp=0), -3_661_000_000, "-01:01:01", "'-01:01:01'"),
        (Column("c", "time", fsp=3), -1_500, "-00:00:00.001", None),
        (Column("c", "datetime", fsp=6), datetime.fromisoformat("0001-02-03"), "0001-02-03 00:00:00.000000", None),
        (
            Column("c", "timestamp", fsp=0),
            datetime(2026, 5, 2, 12, tzinfo=timezone(timedelta(hours=2))),
            "2026-05-02 10:00:00",
            "'2026-05-02 10:00:00'",
        ),
        (Column("c", "date"), date(26, 1, 2), "0026-01-02", "'0026-01-02'"),
        (Column("c", "json"), "{}", "{}", "CAST('{}' AS JSON)"),
        (Column("c", "enum", charset="utf8mb4", labels=("a",)), Exact(""), "", "0"),
        (Column("c", "date"), Exact("0000-00-00"), "0000-00-00", "'0000-00-00'"),
    ],
)
def test_text_and_literal(column: Column, value: Any, text: str | None, sql: str | None) -> None:
    assert text_of(column, *_split(value)) == text
    if sql is not None:
        assert literal_sql(column, *_split(value)) == sql


@pytest.mark.parametrize(
    ("column", "value", "sql"),
    [
        (VARCHAR, None, "`c` IS NULL"),
        (VARCHAR, "paid", "CAST(`c` AS BINARY) <=> 'paid'"),
        (Column("c", "varchar", charset="latin1"), "é€\x81", "CAST(`c` AS BINARY) <=> x'E98081'"),
        (Column("c", "int"), 1, "`c` <=> 1"),
        (Column("c", "json"), "[]", "CAST(`c` AS BINARY) <=> '[]'"),
        (Column("c", "enum", charset="utf8mb4", labels=("a",)), Exact(""), "`c` + 0 <=> 0"),
    ],
)
def test_guard(column: Column, value: Any, sql: str) -> None:
    assert guard(column, *_split(value)).sql(dialect="mysql") == sql


@pytest.mark.parametrize(
    ("charset", "raw", "flavors"),
    [
        ("sjis", "5C", ("mysql", "mariadb", None)),
        ("ascii", "E9", ("mariadb",)),  # MySQL stores no byte above 7F there
        ("utf8mb4", "EDA080", ("mariadb",)),  # a surrogate
        ("ujis", "8EA0", ("mysql",)),
        ("utf8mb4", "FF", ()),
    ],
)
def test_bytes_without_a_text_are_stored_where_the_server_takes_them(
    charset: str, raw: str, flavors: tuple[str | None, ...]
) -> None:
    column = Column("c", "varchar", charset=charset)
    for flavor in ("mysql", "mariadb", None):
        if flavor in flavors:
            assert literal(column, None, f"0x{raw}", flavor=flavor).sql(dialect="mysql") == f"x'{raw}'"
        else:
            with pytest.raises(NotComputable, match=f"`c` holds bytes that aren't valid {charset}"):
                literal(column, None, f"0x{raw}", flavor=flavor)
    assert guard(column, None, f"0x{raw}").sql(dialect="mysql") == f"CAST(`c` AS BINARY) <=> x'{raw}'"


def test_identifiers_are_quoted() -> None:
    assert quote("a`b", "../x\n; DROP") == "`a``b`.`../x\n; DROP`"


@pytest.mark.parametrize("case", cases("mysql"), ids=lambda c: c.ddl)
def test_parse_value_is_the_inverse_of_text(case: Any) -> None:
    for _, value in case.values:
        given_value, exact = _split(value)
        text = text_of(case.column, given_value, exact)
        assert text is not None
        parsed = parse_value(case.column, text)
        if case.column.type == "float":
            assert text_of(case.column, *parsed) == text
        elif value == "0x615C":
            assert parsed == (None, text)  # taken for bytes, which in sjis have no text
        elif case.column.type != "enum":
            assert parsed == (given_value, exact)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_source")


WITHOUT_TEXT = ("float", "double", "binary", "varbinary", "blob", "bit", "geometry", "vector")


def is_raw(value: Any) -> bool:
    """Whether the archive has the value, or a label in it, by its bytes."""
    return str(value.text if isinstance(value, Exact) else value).startswith("0x") or "x'" in str(value)


SQL_MODES = ["", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"]


@pytest.mark.sockets
@pytest.mark.parametrize("sql_mode", SQL_MODES)
def test_every_type_on_a_server(server: Any, unique_name: Callable[[str], str], sql_mode: str) -> None:
    """A literal stores what a person's SQL stored, a guard finds it and nothing else, text is what SELECT prints."""
    db = unique_name("lit")
    server.execute(f"CREATE DATABASE {db}")
    with server.connect(autocommit=True) as conn, conn.cursor() as cur:
        cur.execute("SET time_zone = '+00:00', NAMES utf8mb4")
        for case in cases(server.flavor):
            name = case.column.name
            null = "NULL" if case.ddl.startswith("TIMESTAMP") else ""
            numeric = case.column.type not in ("geometry", "vector", "uuid", "inet4", "inet6")
            same_number = f"a.{name}+0 <=> b.{name}+0" if numeric else "1"
            as_text = f"CAST(CAST(a.{name} AS CHAR) AS BINARY)" if case.column.type not in WITHOUT_TEXT else "NULL"
            cur.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
            cur.execute(f"CREATE TABLE {db}.{name} (id INT PRIMARY KEY, {name} {case.ddl} {null})")
            for i, (sql, _) in enumerate(case.values):
                cur.execute(f"INSERT INTO {db}.{name} VALUES ({i}, {sql})")
            cur.execute(f"INSERT INTO {db}.{name} VALUES (99, NULL)")
            cur.execute(f"SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,{sql_mode}'")
            for i, (_, value) in enumerate(case.values):
                found = guard(case.column, *_split(value)).sql(dialect="mysql")
                cur.execute(f"SELECT id FROM {db}.{name} WHERE {found}")
                assert cur.fetchall() == ((i,),), (case.ddl, value, found)
                cur.execute(
                    f"INSERT INTO {db}.{name} SELECT {100 + i}, {literal_sql(case.column, *_split(value))} FROM DUAL"
                )
                cur.execute(
                    f"SELECT HEX(a.{name}), HEX(b.{name}), {same_number}, {as_text} "
                    f"FROM {db}.{name} a, {db}.{name} b WHERE a.id = {i} AND b.id = {100 + i}"
                )
                hex_a, hex_b, same, text = cur.fetchone()
                assert (hex_a, same) == (hex_b, 1), (case.ddl, value)
                if case.column.type not in WITHOUT_TEXT and case.column.charset != "binary" and not is_raw(value):
                    assert text_of(case.column, *_split(value)) == text.decode()
                cur.execute(f"DELETE FROM {db}.{name} WHERE id = {100 + i}")
            found = guard(case.column, None).sql(dialect="mysql")
            cur.execute(f"SELECT id FROM {db}.{name} WHERE {found}")
            assert cur.fetchall() == ((99,),)
    server.execute(f"DROP DATABASE {db}")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
F32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
F64 = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.sockets
def test_round_trip_through_a_server(server: Any, unique_name: Callable[[str], str]) -> None:
    """What `literal` stores is what the driver reads back, and the guard holds for it, in every sql_mode."""
    db = unique_name("round")
    server.execute(f"CREATE DATABASE {db}")
    columns = [
        Column("t", "text", charset="utf8mb4"),
        Column("b", "blob"),
        Column("f", "float"),
        Column("d", "double"),
        Column("n", "decimal", precision=30, scale=10),
        Column("m", "datetime", fsp=6),
        Column("s", "time", fsp=6),
    ]
    conn = server.connect(autocommit=True)
    cur = conn.cursor()
    cur.execute("SET time_zone = '+00:00'")
    cur.execute(
        f"CREATE TABLE {db}.x (t TEXT CHARACTER SET utf8mb4, b BLOB, f FLOAT, d DOUBLE, n DECIMAL(30,10), m DATETIME(6), "
        "s TIME(6))"
    )

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        TEXT,
        st.binary(max_size=12),
        F32,
        F64,
        st.decimals(-(10**19), 10**19, places=10),
        st.datetimes(datetime.fromisoformat("1000-01-01")),
        st.integers(-(838 * 3600) * 10**6, 838 * 3600 * 10**6),
        st.sampled_from(["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]),
    )
    def check(t: str, b: bytes, f: float, d: float, n: Decimal, m: datetime, s: int, mode: str) -> None:
        values = [t, b, f, d, n, m, s]
        cur.execute(f"SET sql_mode = 'STRICT_ALL_TABLES,{mode}'")
        cur.execute(f"DELETE FROM {db}.x")
        literals = ", ".join(literal_sql(c, v) for c, v in zip(columns, values, strict=True))
        cur.execute(f"INSERT INTO {db}.x SELECT {literals}")
        cur.execute(f"SELECT t, b, f + 0e0, d, n, m, TIME_TO_SEC(s) * 1000000 FROM {db}.x")
        row = cur.fetchone()
        assert [row[0], row[1], *row[2:6]] == [t, b, f, d, n, m]
        assert abs(int(row[6]) - s) < 1_000_000
        for column, value in zip(columns, values, strict=True):
            cur.execute(f"SELECT COUNT(*) FROM {db}.x WHERE {guard(column, value).sql(dialect='mysql')}")
            assert cur.fetchone() == (1,), (column, value)

    check()
    conn.close()
    server.execute(f"DROP DATABASE {db}")


def test_timestamps_are_utc() -> None:
    column = Column("c", "timestamp", fsp=6)
    assert text_of(column, datetime(2026, 5, 2, 10, tzinfo=UTC)) == "2026-05-02 10:00:00.000000"
