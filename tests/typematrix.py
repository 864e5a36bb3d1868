"""Every type with its edge values, as SQL, and how the archive's cell for a value is compared with the server's SELECT.

The oracle is SELECT alone: values are written here as a person would write them, and what a server makes of them (it may
clip, round or refuse) is what the archive must hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from recovery.schema import BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

MYSQL, MARIADB = frozenset({"mysql"}), frozenset({"mariadb"})
BOTH = MYSQL | MARIADB


@dataclass(frozen=True)
class Case:
    """A column type and the SQL of its values. kind: the definition's type, where the binlog can't know it. shown: whether
    the server's information_schema has the definition right."""

    ddl: str
    values: tuple[str, ...]
    flavors: frozenset[str] = BOTH
    kind: str | None = None
    shown: bool = True


def _integers() -> Iterator[Case]:
    for name, bits in (("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64)):
        top = 1 << (bits - 1)
        yield Case(name, tuple(str(v) for v in (-top, -top + 1, -257, -256, -2, -1, 0, 1, 127, 128, 255, top - 1)))
        yield Case(f"{name} UNSIGNED", tuple(str(v) for v in (0, 1, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1)))
    yield Case("BOOLEAN", ("TRUE", "FALSE"))
    yield Case("INT(5) UNSIGNED ZEROFILL", ("7", "4294967295"))


def _decimals() -> Iterator[Case]:
    shapes = (
        (1, 0), (1, 1), (5, 2), (9, 0), (9, 9), (10, 1), (10, 9), (18, 0), (18, 9), (19, 0), (19, 19), (20, 10), (27, 18),
        (28, 1), (36, 9), (37, 18), (38, 0), (38, 30), (38, 10), (39, 0), (40, 30), (65, 0), (65, 30),
    )  # fmt: skip
    for precision, scale in shapes:
        top = "9" * (precision - scale) or "0"
        rest = "9" * scale
        largest = f"{top}.{rest}" if scale else top
        some = [largest, f"-{largest}", "0", "-0", "1", "-1", "0.5", "-0.5", "1e-30", "123456789.987654321"]
        some += [str(10**k) for k in (8, 9, 17, 18, 19, 36) if k < precision - scale]
        some += [f"-{10**k + 1}" for k in (9, 18, 27) if k < precision - scale]
        yield Case(f"DECIMAL({precision},{scale})", tuple(f"'{v}'" for v in some))
    yield Case("DECIMAL(12,3) UNSIGNED", ("'0'", "'999999999.999'", "'1.001'"))


_FLOATS = (
    "0", "-0e0", "1", "-1", "0.1", "16777217", "3.4028234663852886e38", "-3.4028234663852886e38", "1.17549435e-38",
    "1.4e-45", "1e-40", "123456.789", "1e10", "-2.5e-5",
)  # fmt: skip
_DOUBLES = (
    *_FLOATS, "1.7976931348623157e308", "-1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "1e15", "1e16",
    "9007199254740993", "0.30000000000000004",
)  # fmt: skip
_DATES = (
    "2026-02-28", "0001-01-01", "0999-12-31", "1969-12-31", "1970-01-01", "2000-02-29", "1900-03-01", "9999-12-31",
    "0000-00-00", "2026-00-10", "2026-05-00", "2026-00-00", "0000-05-10", "0000-01-00", "2026-02-31",
)  # fmt: skip
_CLOCKS = ("00:00:00", "23:59:59.999999", "12:34:56.789012", "00:00:00.000001", "10:00:00.5")
_TIMES = (
    "838:59:59", "-838:59:59", "838:59:58.999999", "-838:59:58.999999", "-00:00:00.000001", "-00:00:00.01", "-00:00:01",
    "-00:00:00.999999", "00:00:00", "00:00:00.5", "100:00:00", "-100:30:15.25", "-01:00:00.000001", "23:59:59.99",
    "-12:34:56.7", "999:00:00",
)  # fmt: skip
_TIMESTAMPS = (
    "1970-01-01 00:00:01", "2038-01-19 03:14:07", "2038-01-19 03:14:07.999999", "0000-00-00 00:00:00",
    "2026-03-29 02:30:00", "2026-10-25 00:30:00.999999", "2000-01-01 00:00:00.000001", "1970-01-01 00:00:01.5",
)  # fmt: skip


def _temporal() -> Iterator[Case]:
    yield Case("DATE", tuple(f"'{v}'" for v in _DATES))
    yield Case("YEAR", ("'0000'", "1901", "1970", "1999", "2000", "2155", "'0'"))
    points = [f"'{d} {c}'" for i, d in enumerate(_DATES) for c in (_CLOCKS[i % 5], _CLOCKS[(i + 2) % 5])]
    for fsp in range(7):
        yield Case(f"DATETIME({fsp})", tuple(points))
        yield Case(f"TIMESTAMP({fsp})", tuple(f"'{v}'" for v in _TIMESTAMPS))
        yield Case(f"TIME({fsp})", tuple(f"'{v}'" for v in _TIMES))


TEXTS = (
    "''", "'plain'", "'it''s'", "'back\\\\slash'", "'two\\nlines\\r\\n'", "'\\0nul\\Z'", "'trailing  '", "'  leading'",
    "'NULL'", "'null'", "'0x41'", "_utf8mb4 X'C3A92DE282AC'", "_utf8mb4 X'F09F98803C'", "_utf8mb4 X'65CC81'",
    "_utf8mb4 X'C2A0E282AC'", "REPEAT('x', 300)", "REPEAT(_utf8mb4 X'C3A9', 200)",
)  # fmt: skip
_BYTES = ("X''", "X'00'", "X'0000'", "X'01'", "X'0100'", "X'27275C00'", "X'C328'", "X'FFFFFFFF'", "'abc  '", "X'2020'")


def _strings() -> Iterator[Case]:
    for charset in ("utf8mb4", "utf8mb3", "latin1", "ascii"):
        for kind in ("CHAR(0)", "CHAR(20)", "CHAR(255)", "VARCHAR(0)", "VARCHAR(63)", "VARCHAR(400)"):
            yield Case(f"{kind} CHARACTER SET {charset}", TEXTS)
        for kind in ("TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"):
            yield Case(f"{kind} CHARACTER SET {charset}", TEXTS)
    yield Case("LONGTEXT CHARACTER SET utf8mb4", ("REPEAT('x', 70000)", "REPEAT(_utf8mb4 X'F09F9880', 20000)", "'y'"))
    yield Case("VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", TEXTS)
    yield Case("VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci", TEXTS, MARIADB)
    for kind in ("BINARY(4)", "BINARY(255)", "VARBINARY(4)", "VARBINARY(300)", "BINARY(0)"):
        yield Case(kind, _BYTES)
    for kind in ("TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"):
        yield Case(kind, (*_BYTES, "REPEAT(X'00FF', 100)"))
    yield Case("LONGBLOB", ("REPEAT(X'00FF10', 30000)", "X'00'"))


def _labels() -> Iterator[Case]:
    odd = "'a','it''s','0','1','','with space','caf\u00e9','?','comma;x'"
    yield Case(f"ENUM({odd}) CHARACTER SET utf8mb4", (*(str(i) for i in range(10)), "'nothing'", "''", "'0'"))
    # Both servers print labels in utf8mb3: only the binlog has these.
    yield Case("ENUM('\U0001f600','\U0001f601','?') CHARACTER SET utf8mb4", ("0", "1", "2", "3"), shown=False)
    yield Case("SET('\U0001f600','b') CHARACTER SET utf8mb4", ("0", "1", "2", "3"), shown=False)
    yield Case("ENUM('x','\u00e9') CHARACTER SET latin1", ("1", "2", "0"))
    many = ",".join(f"'label {i}'" for i in range(300))
    yield Case(f"ENUM({many})", ("1", "255", "256", "300", "0"))
    yield Case(
        "SET('x','\u00e9','z z','') CHARACTER SET utf8mb4", ("''", "'x,z z'", "1", "2", "8", "15", "'bogus'", "0")
    )
    for count in (8, 9, 16, 17, 24, 25, 32, 33, 63, 64):
        names = ",".join(f"'s{i}'" for i in range(count))
        yield Case(f"SET({names})", ("0", "1", str(1 << (count - 1)), str((1 << count) - 1), "''", "'s0,s7'"))


def _bits() -> Iterator[Case]:
    for count in (1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 48, 56, 63, 64):
        top = 1 << (count - 1)
        yield Case(f"BIT({count})", tuple(str(v) for v in (0, 1, top, 2 * top - 1)))


_JSON = (
    "'null'", "'true'", "'[]'", "'{}'", "'\"\"'", "'0'", "'-1'", "'32767'", "'32768'", "'2147483648'",
    "'-9223372036854775808'", "'18446744073709551615'", "'1.0'", "'1e300'", "'0.1'", "'123456789012345678'",
    """'{"a": 1.0, "b": [null, true, "x"], "": {"k": []}}'""", "_utf8mb4 X'22C3A95C5C5C22275C6E22'",
    "CAST(1.50 AS JSON)", "CAST(CAST('2026-05-02 10:00:00.5' AS DATETIME(6)) AS JSON)",
    "CAST(CAST('-838:59:59' AS TIME) AS JSON)", "CAST(CAST('2026-05-02' AS DATE) AS JSON)",
    "JSON_ARRAY(CAST(-12345.678 AS DECIMAL(20,5)), CAST(X'00FF' AS BINARY))",
    "CONCAT('[', REPEAT('[', 50), REPEAT(']', 50), ']')", "CONCAT('{\"k\": \"', REPEAT('v', 70000), '\"}')",
    "CONCAT('[', REPEAT('1234567890,', 8000), '0]')",
)  # fmt: skip
_SHAPES = (
    "POINT(1 2)", "POINT(-1e300 1e-300)", "LINESTRING(0 0,1 1,2 0)", "POLYGON((0 0,4 0,4 4,0 0))", "MULTIPOINT(1 1,2 2)",
    "MULTILINESTRING((0 0,1 1),(2 2,3 3))", "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))", "GEOMETRYCOLLECTION(POINT(1 1))",
)  # fmt: skip


def _special() -> Iterator[Case]:
    yield Case("JSON", _JSON, MYSQL)
    yield Case("JSON", ("'{\"a\": 1.0}'", "'null'", "'[1,  2]'"), MARIADB)
    shapes = [f"ST_GeomFromText('{s}')" for s in _SHAPES]
    yield Case("GEOMETRY", (*shapes, "ST_GeomFromText('POINT(1 2)', 4326)"))
    yield Case("POINT", (shapes[0], shapes[1]))
    yield Case("VECTOR(3)", ("STRING_TO_VECTOR('[1,-2.5,3e38]')", "STRING_TO_VECTOR('[0,0,0]')"), MYSQL)
    yield Case("VECTOR(16383)", ("STRING_TO_VECTOR(CONCAT('[', REPEAT('1.5,', 9000), '2]'))",), MYSQL)
    uuids = ("123e4567-e89b-12d3-a456-426655440000", "00000000-0000-0000-0000-000000000000",
             "123e4567-e89b-72d3-a456-426655440000", "ffffffff-ffff-ffff-8fff-ffffffffff00",
             "6ccd780c-baba-1026-9564-5b8c656024db")  # fmt: skip
    yield Case("UUID", tuple(f"'{u}'" for u in uuids), MARIADB, "uuid")
    yield Case("INET4", ("'1.2.3.4'", "'0.0.0.0'", "'10.0.0.0'", "'255.255.255.255'"), MARIADB, "inet4")
    addresses = (
        "::", "::1", "1::", "::ffff:1.2.3.4", "::1.2.3.4", "1:0:2:3:4:5:6:7", "1:0:0:2:0:0:0:3", "0:0:1::", "::1:2",
        "2001:db8::ff00:42:8329", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00", "0:1:0:1:0:1:0:1", "::fffe:1.2.3.4",
    )  # fmt: skip
    yield Case("INET6", tuple(f"'{a}'" for a in addresses), MARIADB, "inet6")
    for kind in ("VARCHAR(400) COMPRESSED CHARACTER SET utf8mb4", "TEXT COMPRESSED CHARACTER SET latin1"):
        yield Case(kind, TEXTS, MARIADB)
    for kind in ("VARBINARY(300) COMPRESSED", "BLOB COMPRESSED", "LONGBLOB COMPRESSED"):
        yield Case(kind, (*_BYTES, "REPEAT(X'00FF', 100)"), MARIADB)
    yield Case("LONGTEXT COMPRESSED CHARACTER SET utf8mb4", ("REPEAT('abc', 30000)", "'x'"), MARIADB)


def cases(flavor: str) -> list[Case]:
    every = [
        *_integers(),
        *_decimals(),
        Case("FLOAT", _FLOATS),
        Case("DOUBLE", _DOUBLES),
        Case("FLOAT UNSIGNED", ("1.5",)),
    ]
    every += [*_temporal(), *_strings(), *_labels(), *_bits(), *_special()]
    return [case for case in every if flavor in case.flavors]


# --- comparing --------------------------------------------------------------------------------------------------------


def shown(name: str, column: Column) -> tuple[str, str]:
    """SQL for a column of this name: the value as canonical text, and what tells values with equal text apart."""
    kind = column.type
    if kind in TEXT_TYPES or kind in ("enum", "set"):
        return (
            f"HEX(CONVERT({name} USING utf8mb4))",
            f"HEX({name})" if kind in TEXT_TYPES else f"CAST({name}+0 AS CHAR)",
        )
    if kind in BINARY_TYPES:
        return f"HEX({name})", f"LENGTH({name})"
    if kind in ("float", "double"):
        return f"{name} * 1e0", "1"  # -0 stays -0
    if kind in INTEGER_BITS:
        return f"CAST({name} + 0 AS CHAR)", "1"  # no ZEROFILL
    if kind == "bit":
        return f"CAST({name} + 0 AS UNSIGNED)", "1"
    return f"CAST({name} AS CHAR CHARACTER SET utf8mb4)", "1"


def agrees(column: Column, value: Any, exact: str | None, server: tuple[Any, Any]) -> bool:
    """Whether the archive's cell (its value as Python has it, and its text in `_rb_exact`) is what the server shows."""
    text, second = server
    kind = column.type
    if text is None:
        return value is None and exact is None
    if exact is not None:
        if value is not None:
            return False
        if kind == "enum":
            return exact == "0" == second
        return exact == f"0x{second}" if kind in TEXT_TYPES else exact == text
    if value is None:
        return False
    if kind in TEXT_TYPES or kind in ("enum", "set"):
        return bool(value.encode().hex().upper() == text)
    if kind in BINARY_TYPES:
        return bool(value.hex().upper() == text)
    if kind in ("float", "double"):
        return repr(float(text)) == repr(value)
    return _text(column, value) == str(text)


def _text(column: Column, value: Any) -> str:
    fsp = column.fsp or 0
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        point = f".{value.microsecond:06}"[: fsp + 1] if fsp else ""
        assert fsp == 6 or value.microsecond % 10 ** (6 - fsp) == 0
        return f"{value.year:04}-{value.month:02}-{value.day:02} {value:%H:%M:%S}{point}"
    if isinstance(value, date):
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    if column.type == "time":
        seconds, micros = divmod(abs(value), 1_000_000)
        point = f".{micros:06}"[: fsp + 1] if fsp else ""
        sign = "-" if value < 0 else ""
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}"
    if column.type == "year":
        return f"{value:04}"
    return str(value)
