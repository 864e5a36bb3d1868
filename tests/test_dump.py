"""The dump directory: what it holds, and that myloader and the mysql client bring back exactly the rows it was made from.

The reference for a value is a literal written by hand into a table of its own; CHECKSUM TABLE compares stored bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from handmade import ORDERS, Archive, Row, column, insert, table
from oracle import load_with_client, load_with_myloader, load_with_myloader_1x

from recovery.dump import DumpWriter
from recovery.errors import ArchiveDamaged, NotComputable
from recovery.merge import Merger
from recovery.output.options import MIN_STATEMENT_BYTES, OutputOptions
from recovery.quoting import quote
from recovery.restore import RestoreRequest, restore
from recovery.schema import Table
from testservers import Server

Cell = tuple[Any, str | None]  # value, exact text
Load = Callable[[Server, Path], None]


def write(root: Path, archive: Archive, *baselines: Any) -> Path:
    """A snapshot of these baselines, restored whole."""
    archive.snapshot("s1", archive.mark(0), archive.mark(0), *baselines)
    output = root / "out"
    restore(archive.store, archive.state, RestoreRequest("latest", output=output))
    return output


# --- values -----------------------------------------------------------------------------------------------------------

TEXTS = [
    "",
    "plain",
    "it's",
    'say "hi"',
    "back\\slash",
    "line\nend;\n",
    "tab\t\0nul",
    "grüße",
    "-- x",
    "/*!1*/",
    "%s",
    "a`b",
]


def _text_cases() -> list[tuple[Cell, str]]:
    return [((t, None), f"_utf8mb4 X'{t.encode().hex()}'" if t else "''") for t in TEXTS]


def naive(*parts: int) -> datetime:
    """A DATETIME has no time zone."""
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


# column, its SQL type, [(archive cell, hand-written SQL)]
TYPES: list[tuple[Any, str, list[tuple[Cell, str]]]] = [
    (column("ti", "tinyint"), "tinyint", [((-128, None), "-128"), ((127, None), "127")]),
    (
        column("bu", "bigint", unsigned=True),
        "bigint unsigned",
        [((2**64 - 1, None), "18446744073709551615"), ((0, None), "0")],
    ),
    (column("bi", "bigint"), "bigint", [((-(2**63), None), "-9223372036854775808")]),
    (
        column("de", "decimal", precision=38, scale=10),
        "decimal(38,10)",
        [((Decimal("-1234567890123456789012345678.0123456789"), None), "-1234567890123456789012345678.0123456789")],
    ),
    (
        column("dw", "decimal", precision=60, scale=5),
        "decimal(60,5)",
        [(("1" * 55 + ".12345", None), "1" * 55 + ".12345")],
    ),
    (
        column("fl", "float"),
        "float",
        [
            ((16777217.0, None), "16777216"),
            ((0.1, None), "0.1"),
            ((-0.0, None), "-0e0"),
            ((3.4028235e38, None), "3.4028235e38"),
            ((1.1754944e-38, None), "1.1754944e-38"),
            ((123456.79, None), "123456.79"),
        ],
    ),
    (
        column("do", "double"),
        "double",
        [
            ((0.1 + 0.2, None), "0.30000000000000004"),
            ((1.7976931348623157e308, None), "1.7976931348623157e308"),
            ((5e-320, None), "5e-320"),
            ((-0.0, None), "-0e0"),
            ((1e22, None), "1e22"),
            ((123456789012345680.0, None), "123456789012345680e0"),
        ],
    ),
    (
        column("da", "date"),
        "date",
        [
            ((date(1, 1, 1), None), "'0001-01-01'"),
            ((None, "0000-00-00"), "'0000-00-00'"),
            ((None, "2026-02-00"), "'2026-02-00'"),
        ],
    ),
    (
        column("tm", "time", fsp=6),
        "time(6)",
        [
            ((-1, None), "'-00:00:00.000001'"),
            ((3020399 * 10**6, None), "'838:59:59'"),
            ((-3020399 * 10**6, None), "'-838:59:59'"),
        ],
    ),
    (
        column("dt", "datetime", fsp=6),
        "datetime(6)",
        [
            ((naive(9999, 12, 31, 23, 59, 59, 999999), None), "'9999-12-31 23:59:59.999999'"),
            ((naive(999, 1, 1), None), "'0999-01-01'"),
            ((None, "0000-00-00 00:00:00.000000"), "'0000-00-00 00:00:00'"),
        ],
    ),
    (
        column("ts", "timestamp", fsp=3),
        "timestamp(3) null",
        [
            ((datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None), "'1970-01-01 00:00:01'"),
            ((datetime(2026, 3, 29, 1, 30, 0, 125000, UTC), None), "'2026-03-29 01:30:00.125'"),
            ((None, "0000-00-00 00:00:00"), "'0000-00-00 00:00:00'"),
        ],
    ),
    (column("ye", "year"), "year", [((0, None), "0"), ((1901, None), "1901"), ((2155, None), "2155")]),
    (
        column("en", "enum", labels=("", "1", "it's", "ü")),
        "enum('','1','it''s','ü')",
        [(("", None), "1"), (("1", None), "2"), (("it's", None), "3"), (("ü", None), "4"), ((None, "0"), "0")],
    ),
    (column("se", "set", labels=("a", "ü")), "set('a','ü')", [(("", None), "0"), (("a,ü", None), "3")]),
    (column("vc", "varchar"), "varchar(100)", _text_cases()),
    (
        column("la", "varchar", charset="latin1"),
        "varchar(100) character set latin1",
        [(("é€\x81", None), "_latin1 X'E98081'"), (("x'", None), "'x'''")],
    ),
    (column("em", "text"), "mediumtext", [(("💾" * 30000, None), "repeat(_utf8mb4 X'F09F92BE', 30000)")]),
    (
        column("bn", "binary", octets=4),
        "binary(4)",
        [((b"a\0\0\0", None), "X'61'"), ((b"';\n\xff", None), "X'273B0AFF'")],
    ),
    (
        column("bl", "blob"),
        "longblob",
        [((b"", None), "''"), ((bytes(range(256)), None), f"X'{bytes(range(256)).hex()}'")],
    ),
]
JSON = (
    column("js", "json"),
    "json",
    [
        (('{"a": 1, "b": [true, null, "x\\"y"], "ü": "\\\\"}', None),
         "json_object('a',1,'b',json_array(true,null,'x\"y'),'ü','\\\\')"),
        (("1.0", None), "cast(1e0 as json)"),
        (("18446744073709551615", None), "cast(18446744073709551615 as json)"),
        (("1e20", None), "cast(1e20 as json)"),
        (("null", None), "cast('null' as json)"),
        (("0.1", None), "cast(1e-1 as json)"),
    ],
)  # fmt: skip


def types_of(flavor: str) -> list[tuple[Any, str, list[tuple[Cell, str]]]]:
    return [*TYPES, JSON] if flavor == "mysql" else TYPES


def reference(types: list[Any]) -> tuple[Table, str, list[tuple[Row, dict[str, str]]], list[str]]:
    """(table, CREATE body, archive rows, INSERTs by hand): row i holds case i of each type, NULL beyond its last."""
    of = table("d", "t", column("id"), *(c for c, _, _ in types))
    create = ", ".join(["`id` int primary key", *(f"{quote(c.name)} {kind}" for c, kind, _ in types)])
    rows, inserts = [], []
    for i in range(max(len(cases) for _, _, cases in types) + 1):
        row: Row = {"id": i}
        exact: dict[str, str] = {}
        written = [str(i)]
        for c, _, cases in types:
            (value, text), literal = cases[i] if i < len(cases) else ((None, None), "NULL")
            row[c.name] = value
            if text is not None:
                exact[c.name] = text
            written.append(literal)
        rows.append((row, exact))
        inserts.append(f"({', '.join(written)})")
    return of, create, rows, inserts


@pytest.mark.sockets
@pytest.mark.parametrize("load", [load_with_myloader, load_with_myloader_1x, load_with_client])
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_every_value_comes_back(
    flavor: str, load: Load, tmp_path: Path, request: pytest.FixtureRequest, mydumper: None, unique_name: Any
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_target")
    of, create, rows, inserts = reference(types_of(flavor))
    db = unique_name("values")
    of = Table(db, of.name, of.columns, of.key)
    archive = Archive(tmp_path / "archive")
    baseline = archive.baseline("s1", of, rows, f"CREATE TABLE `t` ({create}) DEFAULT CHARSET=utf8mb4", files=2)
    output = write(tmp_path, archive, baseline)
    load(server, output)
    server.load(
        "SET sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00';\n"
        f"CREATE TABLE {db}.ref ({create}) DEFAULT CHARSET=utf8mb4;\n"
        f"INSERT INTO {db}.ref VALUES {', '.join(inserts)};\n"
    )
    for c in of.columns:
        sql = "SELECT id, HEX(CAST({0} AS CHAR)), {0} IS NULL FROM {1}.{2} ORDER BY id"
        found, wanted = (server.execute(sql.format(quote(c.name), db, name)) for name in ("t", "ref"))
        assert found == wanted, c.name
    checksums = server.execute(f"CHECKSUM TABLE {db}.t, {db}.ref")
    assert checksums[0][1] == checksums[1][1]
    if flavor == "mysql":
        types = "SELECT id, JSON_TYPE(js) FROM {}.{} ORDER BY id"
        assert server.execute(types.format(db, "t")) == server.execute(types.format(db, "ref"))


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    *("plain", "Plain", "a.b", "../../etc", "a/b", "..", "q`t", 'say "hi" it\'s', "grüße", "x-schema", "mydumper_0"),
    *("select", "$1", "semi;colon", "back\\slash"),
]


@pytest.mark.sockets
@pytest.mark.parametrize("load", [load_with_myloader, load_with_myloader_1x, load_with_client])
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.parametrize("odd_db", ["", ".o d/ü`\"'"])
def test_odd_names(
    flavor: str,
    load: Load,
    odd_db: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    mydumper: None,
    unique_name: Any,
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("n") + odd_db
    archive = Archive(tmp_path / "archive")
    baselines = []
    for n, name in enumerate(NAMES):
        of = table(db, name, column("id"), column(name, "varchar"))
        create = (
            f"CREATE TABLE {quote(name)} (`id` int PRIMARY KEY, {quote(name)} varchar(99) COMMENT 'ü;') CHARSET=utf8mb4"
        )
        baselines.append(archive.baseline("s1", of, [({"id": n, name: name}, {})], create))
    output = write(tmp_path, archive, *baselines)
    before = server.execute("SHOW DATABASES")
    load(server, output)
    for n, name in enumerate(NAMES):
        assert server.execute(f"SELECT * FROM {quote(db, name)}".replace("%", "%%")) == ((n, name),)
    assert set(server.execute("SHOW DATABASES")) - set(before) == {(db,)}
    assert all(p.name.isascii() and "/" not in p.name for p in output.iterdir())


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_statements_and_manifest(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    archive.window(insert(ORDERS, id=1, v="x" * 50), insert(ORDERS, id=2, v=None))
    baseline = archive.baseline("s1", ORDERS, [], "CREATE TABLE `orders` (`id` int)")
    output = write(tmp_path, archive, baseline)
    assert sorted(p.name for p in output.iterdir()) == [
        "check.mysql",
        "load.mysql",
        "metadata",
        "rowback-manifest.json",
        "shop-schema-create.sql",
        "shop.orders-schema.sql",
        "shop.orders.00000.sql",
    ]
    data = (output / "shop.orders.00000.sql").read_text()
    assert data.endswith(f"INSERT INTO `orders` (`id`, `v`) VALUES\n(1,'{'x' * 50}'),\n(2,NULL);\n")
    manifest = json.loads((output / "rowback-manifest.json").read_text())
    assert manifest["cut"]["seq"] == 2
    assert manifest["tables"][0]["rows"] == 2
    assert (output / "metadata").read_text().startswith("[config]\nquote-character = BACKTICK\n")


def test_what_myloader_1x_reads_otherwise(tmp_path: Path) -> None:
    """It runs statements as they are if they have a version comment, and takes names from metadata to its end of line."""
    tables = [("d`b", "orders"), ("d`b", " lead"), ("d`b", "q`t"), ("d`b", "two\nlines")]
    writer = DumpWriter(tmp_path, tables, flavor="mariadb")
    with Merger(tmp_path, 512 * 1024**2) as merger:
        made = [
            writer.table(merger, table, ["CREATE TABLE `t` (`id` int)", "ALTER TABLE `t` ADD KEY (`id`)"], None)
            for table in tables
        ]
    writer.database("d`b", "")
    writer.database("bare", "")
    writer.finish(made)
    for path in tmp_path.glob("*-schema.sql"):
        assert all(line.startswith("/*!40") for line in path.read_text().splitlines()), path.name
    names = re.findall("real_table_name=(.*)", (tmp_path / "metadata").read_text())
    assert names == ["orders", "mydumper_0", "q``t", "mydumper_2", "rowback_none"]


@pytest.mark.parametrize(("statement_bytes", "file_bytes"), [(1024, 1), (2000, 3000), (10**6, 10**9)])
@pytest.mark.parametrize("rows_per_file", [None, 1, 7])
def test_rows_are_cut_into_statements_and_files(
    tmp_path: Path, statement_bytes: int, file_bytes: int, rows_per_file: int | None
) -> None:
    archive = Archive(tmp_path / "archive")
    assert statement_bytes >= MIN_STATEMENT_BYTES
    archive.window(*(insert(ORDERS, id=i, v=f"value {i}" + "." * 90) for i in range(50)))
    directory = tmp_path / "out"
    directory.mkdir()
    options = OutputOptions(statement_bytes=statement_bytes, file_bytes=file_bytes, rows_per_file=rows_per_file)
    writer = DumpWriter(directory, [("shop", "orders")], options)
    with Merger(tmp_path, 512 * 1024**2) as merger:
        paths = [tmp_path / "archive" / s.path for s in archive.state.segments]
        files = writer.table(
            merger, ("shop", "orders"), ["CREATE TABLE `orders` (`id` int)"], merger.merge(ORDERS, [], paths, 0, 99)
        ).files
    text = "".join((directory / file.name).read_text() for file in files)
    rows = [line.rstrip(",;") for line in text.splitlines() if line.startswith("(")]
    assert rows == [f"({i},'value {i}{'.' * 90}')" for i in range(50)]
    assert sum(file.rows or 0 for file in files) == 50
    assert rows_per_file is None or max(file.rows or 0 for file in files) == rows_per_file
    assert max(len(statement) for statement in text.split(";\n")) < statement_bytes + 250
    assert text.count(";\n") == text.count("INSERT INTO") + 4 * len(files)


def test_an_empty_table_has_a_definition_and_no_data_file(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    output = write(tmp_path, archive, archive.baseline("s1", ORDERS, [], "CREATE TABLE `orders` (`id` int)"))
    assert (output / "shop.orders-schema.sql").exists()
    assert not list(output.glob("*.00000.sql"))


def test_a_definition_that_no_loader_reads_whole_is_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    baseline = archive.baseline("s1", ORDERS, [], "CREATE TABLE `orders` (`id` int, `a;\nb` int)")
    with pytest.raises(NotComputable, match=r"shop\.orders.*semicolon"):
        write(tmp_path, archive, baseline)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("out")]


@pytest.mark.parametrize(
    ("charset", "raw", "kept"),
    [
        ("utf8mb4", "61FF", False),
        ("utf16", "D83D", False),
        ("sjis", "815C5C", True),  # a backslash, which is stored but read back as another code
        ("ucs2", "D83D", True),
        ("gbk", "A2AB", True),
        ("gbk", "A2", False),
    ],
)
def test_bytes_without_a_text_are_written_as_bytes_or_refused(
    tmp_path: Path, charset: str, raw: str, kept: bool
) -> None:
    archive = Archive(tmp_path / "archive")
    of = table("shop", "orders", column("id"), column("v", "varchar", charset=charset))
    rows = [({"id": 1, "v": None}, {"v": f"0x{raw}"}), ({"id": 2, "v": f"0x{raw}"}, {}), ({"id": 3, "v": None}, {})]
    baseline = archive.baseline("s1", of, rows, "CREATE TABLE `orders` (`id` int)")
    if kept:
        data = (write(tmp_path, archive, baseline) / "shop.orders.00000.sql").read_text()
        assert data.endswith(f"(1,X'{raw}'),\n(2,_utf8mb4 '0x{raw}'),\n(3,NULL);\n")
        return
    with pytest.raises(NotComputable, match=rf"`shop\.orders`: column `v` holds bytes that aren't valid {charset}"):
        write(tmp_path, archive, baseline)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("out")]


def test_a_label_that_the_definition_lacks_is_no_null(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    of = table("shop", "orders", column("id"), column("v", "enum", charset="binary", labels=("x'ff'", "a")))
    rows = [({"id": 1, "v": "b"}, {})]
    with pytest.raises(ArchiveDamaged, match="label"):
        write(tmp_path, archive, archive.baseline("s1", of, rows, "CREATE TABLE `orders` (`id` int)"))
