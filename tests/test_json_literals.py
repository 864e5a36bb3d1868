"""recovery/json_literals.py: documents as SQL print on a real MySQL as they did, DECIMALs included."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recovery.json_literals import SUSPECT, document_sql
from recovery.literals import guard, literal_sql
from recovery.schema import Column

COLUMN = Column("j", "json")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1.0}', "1.5", "0.1", "100000000000000.0", "1e15", "-0.0", "18446744073709551615", "-9223372036854775808",
        "1.2345678901234568e20", '"1.50"', "[]", "null", "0.0001", "123456789012.5",
    ],
)  # fmt: skip
def test_what_a_cast_brings_back_is_left_alone(text: str) -> None:
    assert document_sql(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.50", "JSON_SET(CAST('1.50' AS JSON), '$', CAST('1.50' AS DECIMAL(3, 2)))"),
        ('{"a": [1, -0.10]}', """JSON_SET(CAST('{"a": [1, -0.10]}' AS JSON), '$."a"[1]', CAST('-0.10' AS DECIMAL(3, 2)))"""),
        ("99999999999999999999", f"JSON_SET(CAST('{'9' * 20}' AS JSON), '$', CAST('{'9' * 20}' AS DECIMAL(20, 0)))"),
    ],
)  # fmt: skip
def test_decimals_are_put_in_place(text: str, expected: str) -> None:
    assert document_sql(text) == expected
    assert re.search(SUSPECT, text), "the dump looks only at such documents"


DECIMALS = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=30
) | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=2)
NUMBERS = (
    DECIMALS.map(lambda d: f"CAST('{d:f}' AS DECIMAL(65,{-int(d.as_tuple().exponent)}))")
    | st.integers(-(2**63), 2**64 - 1).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda f: f"{f!r}e0" if "e" not in repr(f) else repr(f))
    | st.integers(0, 10**64).map(lambda i: f"CAST('{i}' AS DECIMAL(65,0))")
)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)


def _string(text: str) -> str:
    return f"_utf8mb4 X'{text.encode().hex()}'"


VALUES = st.recursive(
    NUMBERS | KEYS.map(_string),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"JSON_ARRAY({', '.join(items)})")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda d: f"JSON_OBJECT({', '.join(f'{_string(k)}, {v}' for k, v in d.items())})"
        )
    ),
    max_leaves=8,
)


@pytest.mark.sockets
def test_documents_print_as_they_did(mysql_source: Any, unique_name: Callable[[str], str]) -> None:
    db = unique_name("json")
    mysql_source.execute(f"CREATE DATABASE {db}")
    mysql_source.execute(f"CREATE TABLE {db}.t (id INT PRIMARY KEY, j JSON)")
    connection = mysql_source.connect(autocommit=True)
    cursor = connection.cursor()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(VALUES)
    def check(made: str) -> None:
        cursor.execute(f"REPLACE INTO {db}.t SELECT 1, JSON_ARRAY({made})")
        cursor.execute(f"SELECT CAST(j AS CHAR) FROM {db}.t")
        (text,) = cursor.fetchone()
        if document_sql(text):
            assert re.search(SUSPECT, text), "the dump looks only at such documents"
        cursor.execute(f"REPLACE INTO {db}.t SELECT 1, {literal_sql(COLUMN, text)}")
        cursor.execute(f"SELECT CAST(j AS CHAR) FROM {db}.t WHERE {guard(COLUMN, text).sql(dialect='mysql')}")
        assert cursor.fetchall() == ((text,),)

    check()
    connection.close()
    mysql_source.execute(f"DROP DATABASE {db}")
