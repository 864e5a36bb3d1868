"""Column types with their nasty values: the SQL that a person would write, and the archive's value for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from synthetic import Exact

from recovery.schema import Column


@dataclass(frozen=True)
class Case:
    """values: (SQL in default sql_mode without strictness, the archive's value). mysql_only: MariaDB has no such type."""

    ddl: str
    column: Column
    values: tuple[tuple[str, Any], ...]
    mysql_only: bool = False


def _f32(value: float) -> float:
    return float(np.float32(value))


TEXTS = (
    ("'plain'", "plain"),
    ("''", ""),
    ("'it''s'", "it's"),
    ("'back\\\\slash'", "back\\slash"),
    ("'two\\nlines\\r\\n'", "two\nlines\r\n"),
    ("'\\0nul\\Z'", "\0nul\x1a"),
    ("'; DROP TABLE x; -- /* \"`'", '; DROP TABLE x; -- /* "`'),
    ("'%_'", "%_"),
    ("'NULL'", "NULL"),
    ("'PLAIN'", "PLAIN"),
    ("_utf8mb4 X'C3A92DE282AC'", "é-€"),
)
WIDE_TEXTS = (*TEXTS, ("_utf8mb4 X'F09F98803C'", "\N{GRINNING FACE}<"), ("_utf8mb4 X'65CC81'", "e\u0301"))

_CASES = (
    ("TINYINT", Column("c", "tinyint"), (("-128", -128), ("127", 127), ("0", 0))),
    ("BIGINT UNSIGNED", Column("c", "bigint", unsigned=True), (("18446744073709551615", 2**64 - 1), ("0", 0))),
    ("BIGINT", Column("c", "bigint"), (("-9223372036854775808", -(2**63)), ("7", 7))),
    ("MEDIUMINT", Column("c", "mediumint"), (("-8388608", -8388608), ("5", 5))),
    (
        "DECIMAL(38,10)",
        Column("c", "decimal", precision=38, scale=10),
        (
            ("-9999999999999999999999999999.9999999999", Decimal("-9999999999999999999999999999.9999999999")),
            ("0", Decimal("0.0000000000")),
            ("1.5", Decimal("1.5000000000")),
        ),
    ),
    (
        "DECIMAL(65,30)",
        Column("c", "decimal", precision=65, scale=30),
        (
            ("-12345678901234567890123456789012345.123456789012345678901234567890",) * 2,
            ("0.5", "0.500000000000000000000000000000"),
        ),
    ),
    (
        "FLOAT",
        Column("c", "float"),
        (
            ("1.1", _f32(1.1)),
            ("16777217", _f32(16777217)),
            ("3.4028234663852886e38", _f32(3.4028234663852886e38)),
            ("1.4e-45", _f32(1.4e-45)),
            ("-0.1", _f32(-0.1)),
            ("1e10", _f32(1e10)),
            ("0", 0.0),
        ),
    ),
    (
        "DOUBLE",
        Column("c", "double"),
        (
            ("0.1", 0.1),
            ("1.7976931348623157e308", 1.7976931348623157e308),
            ("5e-324", 5e-324),
            ("-123456789.12345679", -123456789.12345679),
            ("1e15", 1e15),
            ("1e16", 1e16),
            ("0", 0.0),
        ),
    ),
    ("CHAR(40) CHARACTER SET utf8mb4", Column("c", "char", octets=160, charset="utf8mb4"), WIDE_TEXTS),
    ("VARCHAR(60) CHARACTER SET utf8mb4", Column("c", "varchar", octets=240, charset="utf8mb4"), WIDE_TEXTS),
    ("TEXT CHARACTER SET utf8mb3", Column("c", "text", charset="utf8mb3"), TEXTS),
    (
        "VARCHAR(60) CHARACTER SET latin1",
        Column("c", "varchar", octets=60, charset="latin1"),
        (*TEXTS, ("_latin1 X'8190'", "\x81\x90"), ("'trailing  '", "trailing  ")),
    ),
    ("VARCHAR(60) CHARACTER SET ascii", Column("c", "varchar", octets=60, charset="ascii"), TEXTS[:-1]),
    ("BINARY(4)", Column("c", "binary", octets=4), (("X'01'", b"\x01\0\0\0"), ("X'27275C00'", b"''\\\0"))),
    ("VARBINARY(20)", Column("c", "varbinary", octets=20), (("X''", b""), ("X'00FF'", b"\0\xff"), ("'abc'", b"abc"))),
    ("BLOB", Column("c", "blob"), (("X'0A27'", b"\n'"), ("X'C328'", b"\xc3\x28"))),
    (
        "DATE",
        Column("c", "date"),
        (
            ("'2026-02-28'", date(2026, 2, 28)),
            ("'0001-01-01'", date(1, 1, 1)),
            ("'9999-12-31'", date(9999, 12, 31)),
            ("'0000-00-00'", Exact("0000-00-00")),
            ("'2026-00-10'", Exact("2026-00-10")),
            ("'2026-02-31'", Exact("2026-02-31")),
        ),
    ),
    (
        "TIME(6)",
        Column("c", "time", fsp=6),
        (
            ("'-838:59:59'", -(838 * 3600 + 59 * 60 + 59) * 1_000_000),
            ("'838:59:59'", (838 * 3600 + 59 * 60 + 59) * 1_000_000),
            ("'-00:00:00.000001'", -1),
            ("'00:00:00'", 0),
        ),
    ),
    ("TIME", Column("c", "time", fsp=0), (("'12:34:56'", 45_296_000_000),)),
    (
        "DATETIME(3)",
        Column("c", "datetime", fsp=3),
        (
            ("'2026-05-02 10:00:00.123'", datetime.fromisoformat("2026-05-02T10:00:00.123")),
            ("'1000-01-01 00:00:00'", datetime.fromisoformat("1000-01-01")),
            ("'0000-00-00 00:00:00'", Exact("0000-00-00 00:00:00.000")),
            ("'2026-10-00 10:00:00.5'", Exact("2026-10-00 10:00:00.500")),
        ),
    ),
    (
        "TIMESTAMP(6)",
        Column("c", "timestamp", fsp=6),
        (
            ("'1970-01-01 00:00:01'", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
            ("'2026-10-25 00:30:00.999999'", datetime(2026, 10, 25, 0, 30, 0, 999999, tzinfo=UTC)),
            ("'0000-00-00 00:00:00'", Exact("0000-00-00 00:00:00.000000")),
        ),
    ),
    ("YEAR", Column("c", "year"), (("'0000'", 0), ("1901", 1901), ("2155", 2155), ("'2000'", 2000))),
    (
        "ENUM('a','it''s','0','1','') CHARACTER SET utf8mb4",
        Column("c", "enum", charset="utf8mb4", labels=("a", "it's", "0", "1", "")),
        (("'a'", "a"), ("'it''s'", "it's"), ("'0'", "0"), ("'1'", "1"), ("5", ""), ("0", Exact(""))),
    ),
    (
        "SET('x','\u00e9','z') CHARACTER SET utf8mb4",
        Column("c", "set", charset="utf8mb4", labels=("x", "\u00e9", "z")),
        (("''", ""), ("'x,z'", "x,z"), ("_utf8mb4 X'782CC3A9'", "x,\u00e9")),
    ),
)
_MYSQL_CASES = (
    (
        "JSON",
        Column("c", "json"),
        (
            ('\'{"a": 1.0, "b": [null, true, "x"]}\'', '{"a": 1.0, "b": [null, true, "x"]}'),
            ("'null'", "null"),
            ("_utf8mb4 X'22C3A95C5C5C22275C6E22'", '"\u00e9\\\\\\"\'\\n"'),
            ("'18446744073709551615'", "18446744073709551615"),
            ("'{}'", "{}"),
        ),
    ),
)


def cases(flavor: str) -> list[Case]:
    """Every case that this flavor ("mysql" | "mariadb") has, columns named c0, c1, ..."""
    every = [(*case, False) for case in _CASES] + [(*case, True) for case in _MYSQL_CASES]
    found = []
    for ddl, column, values, mysql_only in every:
        if flavor == "mysql" or not mysql_only:
            named = Column(**{**column.__dict__, "name": f"c{len(found)}"})
            found.append(Case(ddl, named, values, mysql_only))
    return found
