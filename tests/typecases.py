"""Column types with their nasty values: the SQL that a person would write, and the archive's value for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from synthetic import Exact

from recovery.schema import Column


@dataclass(frozen=True)
class Case:
    """values: (SQL in default sql_mode without strictness, the archive's value)."""

    ddl: str
    column: Column
    values: tuple[tuple[str, Any], ...]


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

POINT = bytes.fromhex("000000000101000000000000000000F03F0000000000000040")  # POINT(1 2)
LINE = bytes.fromhex("E6100000010200000002000000") + bytes(16) + b"\0\0\0\0\0\0\xf0?" * 2  # SRID 4326
EMPTY_COLLECTION = bytes.fromhex("00000000010700000000000000")

DOCUMENT = (
    "JSON_OBJECT('d', CAST(1.50 AS DECIMAL(5,2)), 'at', CAST('2026-01-02 03:04:05.5' AS DATETIME(6)),"
    " 'l', JSON_ARRAY(CAST('1234567890123456789012345.10' AS DECIMAL(30,2)), 1e100, 'x'))"
)

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
_ODD_CASES = (
    ("BIT(1)", Column("c", "bit", precision=1), (("b'0'", 0), ("1", 1))),
    ("BIT(12)", Column("c", "bit", precision=12), (("b'101000100111'", 0xA27), ("0", 0), ("4095", 4095))),
    ("BIT(64)", Column("c", "bit", precision=64), (("X'FFFFFFFFFFFFFFFF'", 2**64 - 1), ("1 << 63", 2**63), ("10", 10))),
    (
        "GEOMETRY",
        Column("c", "geometry"),
        (
            ("ST_GeomFromText('POINT(1 2)')", POINT),
            (f"X'{LINE.hex()}'", LINE),
            (f"X'{EMPTY_COLLECTION.hex()}'", EMPTY_COLLECTION),
        ),
    ),
    (
        "VARCHAR(30) CHARACTER SET sjis",
        Column("c", "varchar", octets=60, charset="sjis"),
        (
            ("_sjis X'93FA967B'", "\u65e5\u672c"),
            ("'abc'", "abc"),
            ("X'615C'", Exact("0x615C")),  # the servers read this backslash, and write another code for it
            ("X'815F'", "\\"),
            ("X'81AD'", Exact("0x81AD")),
            ("'0x615C'", "0x615C"),
            ("''", ""),
        ),
    ),
    (
        "CHAR(9) CHARACTER SET utf16",
        Column("c", "char", octets=36, charset="utf16"),
        (("'abc'", "abc"), ("_utf8mb4 X'F09F98803C'", "\U0001f600<"), ("'it''s'", "it's"), ("'a '", "a")),
    ),
    (
        "CHAR(9) CHARACTER SET utf16le",
        Column("c", "char", octets=36, charset="utf16le"),
        (("'abc'", "abc"), ("''", "")),
    ),
    (
        "TEXT CHARACTER SET ucs2",
        Column("c", "text", charset="ucs2"),
        (
            ("'a\\n'", "a\n"),
            ("_utf8mb4 X'E282AC'", "\u20ac"),
            ("X'0041D800'", Exact("0x0041D800")),
            ("X'2020'", "\u2020"),
        ),
    ),
    ("TEXT CHARACTER SET utf32", Column("c", "text", charset="utf32"), (("'ab'", "ab"), ("'\\\\'", "\\"))),
    (
        "VARCHAR(9) CHARACTER SET swe7",
        Column("c", "varchar", octets=9, charset="swe7"),
        (("X'5B5C5D'", "\u00c4\u00d6\u00c5"), ("'abc'", "abc"), ("X'C4'", Exact("0xC4"))),
    ),
    (
        "VARCHAR(9) CHARACTER SET cp1251",
        Column("c", "varchar", octets=9, charset="cp1251"),
        (("_utf8mb4 X'D096D0B6'", "\u0416\u0436"), ("X'98'", Exact("0x98")), ("'\\\\'", "\\")),
    ),
    (
        "TEXT CHARACTER SET gbk",
        Column("c", "text", charset="gbk"),
        (("_utf8mb4 X'E4B8ADE69687'", "\u4e2d\u6587"), ("X'A2A1'", "\u2170"), ("X'A2AB'", Exact("0xA2AB"))),
    ),
    ("TEXT CHARACTER SET big5", Column("c", "text", charset="big5"), (("X'A5405C'", "\u4e16\\"),)),
    ("TEXT CHARACTER SET ujis", Column("c", "text", charset="ujis"), (("X'8FB0A1C6FC8EB1'", "\u4e02\u65e5\uff71"),)),
    (
        "VARCHAR(9) CHARACTER SET tis620",
        Column("c", "varchar", octets=9, charset="tis620"),
        (("X'A1'", "\u0e01"), ("X'FC'", Exact("0xFC"))),
    ),
    (
        "ENUM('\u00e9','a') CHARACTER SET utf16",
        Column("c", "enum", charset="utf16", labels=("\u00e9", "a")),
        (("1", "\u00e9"), ("'a'", "a"), ("0", Exact(""))),
    ),
    (
        "SET('\u00e9','a','x''ff''') CHARACTER SET ucs2",
        Column("c", "set", charset="ucs2", labels=("\u00e9", "a", "x'00780027006600660027'")),
        (("3", "\u00e9,a"), ("0", ""), ("7", "\u00e9,a,x'00780027006600660027'")),
    ),
)
_MARIADB_CASES = (
    (
        "UUID",
        Column("c", "uuid"),
        (
            ("'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
            ("'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            ("'00000000-0000-0000-0000-000000000000'", "00000000-0000-0000-0000-000000000000"),
        ),
    ),
    ("INET4", Column("c", "inet4"), (("'1.2.3.4'", "1.2.3.4"), ("'0.0.0.0'", "0.0.0.0"))),
    (
        "INET6",
        Column("c", "inet6"),
        (("'::'", "::"), ("'::ffff:1.2.3.4'", "::ffff:1.2.3.4"), ("'2001:DB8::1'", "2001:db8::1")),
    ),
    (
        "VARCHAR(300) COMPRESSED CHARACTER SET latin1",
        Column("c", "varchar", octets=300, charset="latin1"),
        (("REPEAT('ab', 140)", "ab" * 140), ("''", ""), ("X'E9'", "\u00e9")),
    ),
    ("BLOB COMPRESSED", Column("c", "blob"), (("REPEAT(X'00', 200)", bytes(200)), ("''", b""))),
)
_MYSQL_CASES = (
    (
        "VECTOR(2)",
        Column("c", "vector"),
        (("X'0000803F00000040'", b"\0\0\x80?\0\0\0@"), ("STRING_TO_VECTOR('[0]')", bytes(4))),
    ),
    ("POINT SRID 4326", Column("c", "geometry"), ((f"X'E6100000{POINT[4:].hex()}'", b"\xe6\x10\0\0" + POINT[4:]),)),
    (
        "VARCHAR(9) CHARACTER SET gb18030",
        Column("c", "varchar", octets=36, charset="gb18030"),
        (("X'D6D0'", "\u4e2d"), ("_utf8mb4 X'F09F9880'", "\U0001f600"), ("X'8431A530'", Exact("0x8431A530"))),
    ),
    (
        "ENUM('a',X'FF','b,\u00e9') CHARACTER SET binary",
        Column("c", "enum", charset="binary", labels=("a", "x'ff'", "b,\u00e9")),
        (("1", "a"), ("2", "x'ff'"), ("3", "b,\u00e9")),
    ),
    (
        "JSON",
        Column("c", "json"),
        (
            ('\'{"a": 1.0, "b": [null, true, "x"]}\'', '{"a": 1.0, "b": [null, true, "x"]}'),
            ("'null'", "null"),
            ("_utf8mb4 X'22C3A95C5C5C22275C6E22'", '"\u00e9\\\\\\"\'\\n"'),
            ("'18446744073709551615'", "18446744073709551615"),
            ("'{}'", "{}"),
            (
                DOCUMENT,
                '{"d": 1.50, "l": [1234567890123456789012345.10, 1e100, "x"], "at": "2026-01-02 03:04:05.500000"}',
            ),
            ("CAST(CAST('-0.10' AS DECIMAL(5,2)) AS JSON)", "-0.10"),
        ),
    ),
)


def cases(flavor: str) -> list[Case]:
    """Every case that this flavor ("mysql" | "mariadb") has, columns named c0, c1, ..."""
    every = _CASES + _ODD_CASES + (_MYSQL_CASES if flavor == "mysql" else _MARIADB_CASES)
    return [Case(ddl, replace(column, name=f"c{number}"), values) for number, (ddl, column, values) in enumerate(every)]


def exact_cells(columns: Iterable[Column]) -> str:
    """A select list with every cell exactly: its bytes, and where it has them its number and its text."""
    cells = []
    for column in columns:
        name = "`" + column.name.replace("`", "``") + "`"
        cells.append(f"HEX({name})")
        if column.type not in ("geometry", "vector"):
            cells.append(f"CAST(CAST({name} AS CHAR) AS BINARY)")
        if column.type not in ("geometry", "vector", "uuid", "inet4", "inet6"):
            cells.append(f"{name} + 0e0")
    return ", ".join(cells)
