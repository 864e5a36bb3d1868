"""Reading mydumper's files: golden files of real versions, the inverse of its rendering, and damage of every kind."""

from __future__ import annotations

import gzip
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.errors import DumperFailed, UnsupportedColumn
from recovery.schema import Column, Table, baseline_schema
from recovery.snapshot.baseline import to_arrow
from recovery.snapshot.dumpdir import parse_metadata
from recovery.snapshot.dumpfile import literals, read_chunks
from recovery.snapshot.values import convert

GOLDEN = Path(__file__).parent / "golden"
V1 = GOLDEN / "mydumper-1.0"


def rows(path: Path, table: str, width: int, **limits: int) -> list[tuple[Any, ...]]:
    return [row for chunk in read_chunks(path, table, width, **limits) for row in zip(*chunk.values, strict=True)]


def column(kind: str, **given: Any) -> Column:
    return Column("c", kind, **given)


def value(col: Column, raw: bytes | None) -> Any:
    """The archive's value of one cell; ("exact", text) for one in the side column."""
    array, exact = convert(col, [raw], Table("d", "t", (col,)))
    return ("exact", exact[0]) if 0 in exact else array[0].as_py()


# --- golden files -----------------------------------------------------------------------------------------------------


def test_v1_all_types() -> None:
    first, *others = rows(V1 / "tort.t_basic.00000.sql", "t_basic", 23)
    assert first[:7] == (b"1", b"255", b"1", b"-2147483648", b"1.5", b"1e308", b"-12345678901234567890.0123456789")
    assert first[8].decode() == "emoji 😀 \"q\" 's' \\ \n \t \0 end"
    assert first[17].decode() == '{"a": [1, 2.5, null, "😀", "q\\"x"], "big": 12345678901234567890}'
    assert first[18:22] == (
        bytes([0, 255, *range(1, 7)]),
        b"\0\xff'\"\n\r\\\x1a",
        b"\x89PNG\r\n\x1a\n\0\xff",
        b"\x02\xaa",
    )
    assert others[0] == (b"2", *[None] * 22)
    assert others[1][8] == b""
    assert others[2][17] == b'"str"'


def test_v1_column_list_latin1_and_zero_dates() -> None:
    (chunk,) = read_chunks(V1 / "tort.t_gen.00000.sql", "t_gen", 5)
    assert chunk.columns == ("a", "b", "c")
    assert rows(V1 / "tort.t_latin.00000.sql", "t_latin", 2) == [(b"1", b"caf\xe9")]
    assert rows(V1 / "tort.t_zero.00000.sql", "t_zero", 4)[1][1:] == (
        b"2024-00-00", b"2024-01-00 00:00:00", b"2024-01-01 00:00:00",
    )  # fmt: skip


def test_v1_metadata_maps_odd_names_and_counts_rows() -> None:
    entries = parse_metadata((V1 / "metadata").read_text())
    assert entries is not None
    assert entries["tort", "odd name.with-dot$"].file_name == "tort.mydumper_0"
    assert entries["tort", "ünïcødé?"].rows == 1
    assert entries["tort", "t_basic"].rows == 4
    assert rows(V1 / "tort.mydumper_0.00000.sql", "odd name.with-dot$", 3) == [(b"1", b"2", b"3")]


def test_v0_metadata_lists_no_tables() -> None:
    assert parse_metadata((GOLDEN / "mydumper-0.10" / "metadata").read_text()) is None


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_v0_all_types(flavor: str) -> None:
    (chunk,) = read_chunks(GOLDEN / "mydumper-0.10" / f"{flavor}.allt.sql", "allt", 26)
    assert chunk.columns is not None
    first, second, third = (dict(zip(chunk.columns, row, strict=True)) for row in zip(*chunk.values, strict=True))
    assert "gen" not in first
    assert (first["tx"], first["lt"]) == (b"NULL", b"x\0\x1ay'\"\n\r\t\\")
    assert (first["bn"], first["bl"], first["cl"]) == (b"\0\xff\0\0\0", b"\xff'\"\\", b"\xe9\x80")
    assert second["js"] == b"null"
    assert (second["yr"], second["e"], second["ts"]) == (b"0000", b"", b"0000-00-00 00:00:00.00")
    assert set(third.values()) == {b"3", None}


def test_compressed_files_are_the_same(tmp_path: Path) -> None:
    plain = V1 / "tort.t_basic.00000.sql"
    expected = rows(plain, "t_basic", 23)
    zipped, zstd = tmp_path / "a.sql.gz", tmp_path / "a.sql.zst"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    with pa.CompressedOutputStream(pa.OSFile(str(zstd), "wb"), "zstd") as out:
        out.write(plain.read_bytes())
    assert rows(zipped, "t_basic", 23) == rows(zstd, "t_basic", 23) == expected


# --- the inverse of mydumper's rendering ------------------------------------------------------------------------------

ESCAPES = {0: b"\\0", 10: b"\\n", 13: b"\\r", 26: b"\\Z", 34: b'\\"', 39: b"\\'", 92: b"\\\\"}
CELLS = st.one_of(
    st.none(), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=40), st.sampled_from([b"NULL", b"),(", b"\n);\n"])
)


def escape(raw: bytes) -> bytes:
    """mysql_real_escape_string in the character set binary (mysys/charset.c, escape_string_for_mysql)."""
    return b"".join(ESCAPES.get(b, bytes([b])) for b in raw)


def render(cell: bytes | int | None, prefix: bytes, suffix: bytes) -> bytes:
    if cell is None:
        return b"NULL"
    return str(cell).encode() if isinstance(cell, int) else prefix + b'"' + escape(cell) + b'"' + suffix


@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=12)),
    st.sampled_from(["0.10", "1.x"]),
    st.sampled_from([(b"", b""), (b"_binary ", b""), (b"CONVERT(", b" USING UTF8MB4)")]),
    st.sampled_from(["t", "we`ird", "a.b", "ü"]),
    st.integers(1, 5),
)
def test_parse_is_the_inverse_of_rendering(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[Any]], version: str, wrap: tuple[bytes, bytes], name: str, per_statement: int,
) -> None:  # fmt: skip
    body = b"/*!40101 SET NAMES binary*/;\n/*!40103 SET TIME_ZONE='+00:00' */;\n"
    quoted = name.replace("`", "``").encode()
    for start in range(0, len(table), per_statement):
        lines = [b"(" + b",".join(render(c, *wrap) for c in row) + b")" for row in table[start : start + per_statement]]
        head = b"INSERT INTO `" + quoted + b"` VALUES"
        body += head + (b"\n" + b",\n".join(lines) + b";\n" if version == "0.10" else b"\n,".join(lines) + b"\n;\n")
    path = tmp_path_factory.mktemp("dump") / "d.t.sql"
    path.write_bytes(body)
    expected = [tuple(str(c).encode() if isinstance(c, int) else c for c in row) for row in table]
    assert rows(path, name, len(table[0]), max_rows=3) == expected


def test_hex_literals() -> None:
    assert literals([b"0x00fF", b"X'41'", b"0x", b"NULL", b'""', b'"NULL"']) == [
        b"\0\xff",
        b"A",
        b"",
        None,
        b"",
        b"NULL",
    ]


# --- damage -----------------------------------------------------------------------------------------------------------

GOOD = b'/*!40101 SET NAMES binary*/;\nINSERT INTO `t` VALUES\n(1,"a"),\n(2,"b");\n'


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (GOOD.replace(b'(2,"b");\n', b""), "ends inside a statement"),
        (GOOD.replace(b'(2,"b");\n', b'(2,"b'), "is not a row of 2 values"),
        (GOOD.replace(b'"a"', b'"a",NULL'), "is not a row of 2 values"),
        (GOOD.replace(b'"a"', b"a"), "is not a row of 2 values"),
        (GOOD.replace(b"`t`", b"`u`"), "is not an INSERT into the file's table"),
        (GOOD + b"DROP TABLE t;\n", "is neither an INSERT nor a known header"),
    ],
)
def test_damage_is_an_error_with_file_and_line(tmp_path: Path, body: bytes, complaint: str) -> None:
    path = tmp_path / "d.t.sql"
    path.write_bytes(body)
    with pytest.raises(DumperFailed, match=rf"`d\.t\.sql`, line \d+: {re.escape(complaint)}"):
        rows(path, "t", 2)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "d.t.sql.gz"
    path.write_bytes(gzip.compress(GOOD * 1000)[:-20])
    with pytest.raises(DumperFailed, match="can't be read to its end"):
        rows(path, "t", 2)


# --- values -----------------------------------------------------------------------------------------------------------

ENUM = column("enum", charset="utf8mb4", labels=("a", "it's"))


@pytest.mark.parametrize(
    ("col", "raw", "expected"),
    [
        (column("bigint", unsigned=True), b"18446744073709551615", 2**64 - 1),
        (column("tinyint", unsigned=True), b"007", 7),
        (column("year"), b"0000", 0),
        (column("decimal", precision=65, scale=2), b"-000123.40", "-123.40"),
        (column("char", octets=9, charset="utf8mb4"), b"a  ", "a"),
        (column("varchar", octets=9, charset="utf8mb4"), b"a  ", "a  "),
        (column("varchar", octets=9, charset="latin1"), b"\x80\x81\xe9", "€\x81é"),
        (column("varchar", octets=9, charset="utf8mb4"), b"a\xff", ("exact", "0x61FF")),
        (column("varchar", octets=9, charset="utf8mb3"), "é\U0001f600".encode(), ("exact", "0xC3A9F09F9880")),
        (column("varchar", octets=9, charset="ascii"), b"\xe9", ("exact", "0xE9")),
        (column("text", charset="sjis"), b"\x93\xfa\x96{", "日本"),
        (column("text", charset="sjis"), b"a\\", ("exact", "0x615C")),
        (column("char", octets=16, charset="utf16"), b"\0a\xd8\x3d\xde\0\0 \0 ", "a\U0001f600"),
        (column("char", octets=16, charset="ucs2"), b"\xd8\x3d\0 \0 ", ("exact", "0xD83D")),
        (column("char", octets=16, charset="ucs2"), b"\x20\0\0 ", "\u2000"),
        (column("bit", precision=1), b"\1", 1),
        (column("bit", precision=12), b"\x0f\xff", 4095),
        (column("bit", precision=64), b"\xff" * 8, 2**64 - 1),
        (column("geometry"), b"\xe6\x10\0\0\1", b"\xe6\x10\0\0\1"),
        (column("vector"), b"\0\0\x80?", b"\0\0\x80?"),
        (column("uuid"), b"123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-12d3-a456-426655440000"),
        (column("inet6"), b"::1", "::1"),
        (column("enum", charset="binary", labels=("a", "x'ff'")), b"\xff", "x'ff'"),
        (column("enum", charset="utf16", labels=("é",)), b"\0\xe9", "é"),
        (column("enum", charset="cp1251", labels=("Ж",)), b"\xc6", "Ж"),
        (column("set", charset="utf16", labels=("a", "\u2c00")), b"\0a\0,\x2c\0", "a,\u2c00"),
        (column("set", charset="binary", labels=("a", "x'ff'")), b"a,\xff", "a,x'ff'"),
        (column("binary", octets=3), b"\0", b"\0\0\0"),
        (column("date"), b"2024-02-29", date(2024, 2, 29)),
        (column("date"), b"2024-00-10", ("exact", "2024-00-10")),
        (column("date"), b"0000-05-05", ("exact", "0000-05-05")),
        (column("date"), b"2024-02-31", ("exact", "2024-02-31")),
        (column("datetime", fsp=3), b"0000-00-00 00:00:00.000", ("exact", "0000-00-00 00:00:00.000")),
        (column("datetime", fsp=0), b"9999-12-31 23:59:59", datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001
        (column("timestamp", fsp=2), b"2024-01-01 10:00:00.50", datetime(2024, 1, 1, 10, 0, 0, 500000, tzinfo=UTC)),
        (column("time", fsp=6), b"-838:59:59.000000", -3_020_399_000_000),
        (column("time", fsp=1), b"-00:00:01.5", -1_500_000),
        (column("time", fsp=0), b"00:00:00", 0),
        (ENUM, b"it's", "it's"),
        (ENUM, b"", ("exact", "0")),
        (column("enum", charset="utf8mb4", labels=("", "x")), b"0", ("exact", "0")),
        (column("enum", charset="utf8mb4", labels=("", "x")), b"1", ""),
        (column("set", charset="utf8mb4", labels=("x", "é")), "x,é".encode(), "x,é"),
        (column("float"), b"0.10000000149011612", 0.10000000149011612),
        (column("json"), b'{"a": 1.0}', '{"a": 1.0}'),
    ],
)
def test_values(col: Column, raw: bytes, expected: Any) -> None:
    assert value(col, raw) == expected
    assert value(col, None) is None


@pytest.mark.parametrize(
    ("col", "raw"),
    [
        (column("enum", charset="utf8mb4", labels=("a",)), b"\xff"),
        (column("uuid"), b"\xff"),
        (column("tinyint"), b"128"),
        (column("time", fsp=0), b"25"),
        (ENUM, b"b"),
        (column("set", charset="utf8mb4", labels=("x",)), b"y"),
    ],
)
def test_values_that_do_not_fit_name_the_column(col: Column, raw: bytes) -> None:
    with pytest.raises(UnsupportedColumn, match=r"`c` of table `d\.t`"):
        value(col, raw)


def test_exact_texts_of_one_row_are_one_map() -> None:
    table = Table("d", "t", (Column("a", "date"), Column("_rb_x", "date")))
    data = to_arrow(table, baseline_schema(table), [[None, b"2024-00-01"], [b"2024-01-01", b"0000-00-00"]])
    assert data.to_pylist() == [
        {"_rb_exact": None, "a": None, "_rb_col_rb_x": date(2024, 1, 1)},
        {"_rb_exact": [("a", "2024-00-01"), ("_rb_x", "0000-00-00")], "a": None, "_rb_col_rb_x": None},
    ]
