"""Binary JSON against the server: what it logs, rendered here, is what it prints."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import jsonlog
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflow import jsonb
from dataflow.jsondiff import apply_diffs
from dataflow.kernels.jsonb import DamagedDocument, render
from testservers import MySQLServer


class Documents:
    """A table of documents on a server, and what the binlog holds of them since the last look."""

    def __init__(self, server: MySQLServer, name: str) -> None:
        self.name = name
        self.server = server
        self.connection = server.connect(autocommit=True)
        self.run(f"CREATE DATABASE {name}")
        self.run(f"CREATE TABLE {name}.t (id INT PRIMARY KEY AUTO_INCREMENT, doc JSON)")
        self.run("SET sql_mode = '', binlog_row_image = FULL, binlog_row_value_options = PARTIAL_JSON")
        self.mark()

    def run(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall() or ())

    def mark(self) -> None:
        name, position, *_ = self.run("SHOW BINARY LOG STATUS")[0]
        self.file = next(f for f in self.server.binlog_files() if f.name == name)
        self.position = int(position)

    def insert(self, *expressions: str) -> None:
        self.run(f"INSERT INTO {self.name}.t (doc) VALUES " + ", ".join(f"({e})" for e in expressions))

    def changes(self) -> list[jsonlog.Cell]:
        found = list(jsonlog.cells(self.file, self.position))
        self.mark()
        return found

    def printed(self) -> dict[int, str | None]:
        return dict(self.run(f"SELECT id, CAST(doc AS CHAR) FROM {self.name}.t"))

    def clear(self) -> None:
        self.run(f"DELETE FROM {self.name}.t")
        self.mark()


@pytest.fixture(scope="module")
def documents(mysql_source: MySQLServer) -> Iterator[Documents]:
    found = Documents(mysql_source, "jsonb_docs")
    yield found
    found.connection.close()


def rendered(cells: list[bytes | None]) -> pa.StringArray:
    """The kernel's texts of documents that lie one behind the other, with a little between them."""
    gap = b"\xff" * 3
    buffer = np.frombuffer(b"".join((cell or b"") + gap for cell in cells), np.uint8)
    sizes = np.array([len(cell or b"") + len(gap) for cell in cells], np.int64)
    lengths = np.array([-1 if cell is None else len(cell) for cell in cells], np.int64)
    return render(buffer, np.cumsum(sizes) - sizes, lengths)


def check(documents: Documents, *expressions: str) -> None:
    documents.clear()
    documents.insert(*expressions)
    printed = documents.printed()
    cells = documents.changes()
    assert len(cells) == len(expressions)
    texts = rendered([cell.after for cell in cells])
    texts.validate(full=True)
    assert texts.to_pylist() == [printed[cell.row_id] for cell in cells]
    for cell in cells:
        text = printed[cell.row_id]
        assert (None if cell.after is None else jsonb.to_text(cell.after)) == text


OPAQUE = (
    "CAST('2026-05-02' AS DATE)", "CAST('0001-01-01' AS DATE)", "DATE'9999-12-31'", "CAST('-12:34:56.5' AS TIME(1))",
    "CAST('00:00:00' AS TIME)", "CAST('-838:59:59' AS TIME)", "CAST('838:59:59.999999' AS TIME(6))",
    "CAST('-00:00:00.000001' AS TIME(6))", "TIMESTAMP'2026-05-02 10:00:00.123456'", "CAST('2026-05-02' AS DATETIME)",
    "CAST('9999-12-31 23:59:59.999' AS DATETIME(3))", "FROM_UNIXTIME(1.5)", "CAST(1.50 AS DECIMAL(10,2))", "-0.5", "0.0",
    "CAST(0 AS DECIMAL(65,30))", "99999999999999999999999999999999999999999999999999999999999999999",
    "-12345678901234567890123456789012345.123456789012345678901234567890", "0.000000000000000000000000000001", "123456789.0",
    "1234567890.123456789", "-1.10", "X'00ff'", "b'1010'", "''", "_binary ''", "CAST('a' AS BINARY(3))",
    "REPEAT(X'01', 56)", "REPEAT(X'01', 57)", "REPEAT(X'01', 58)", "REPEAT(X'FE', 200)", "CAST(2026 AS YEAR)",
    "ST_AsBinary(ST_GeomFromText('POINT(1 2)'))", "ST_GeomFromText('POINT(1 2)')", "NULL", "TRUE", "JSON_ARRAY()",
    "JSON_OBJECT()", "18446744073709551615", "9223372036854775808", "9223372036854775807", "-9223372036854775808",
    "32767", "32768", "-32768", "-32769", "65535", "65536", "2147483647", "2147483648", "-2147483648", "-2147483649",
    "4294967295", "4294967296",
)  # fmt: skip
DOUBLES = (
    1.0, -0.0, 0.1, 1e14, 1e15, 1e16, 1e21, 1e22, 1e23, 123456789012345680.0, 1125899906842624.5, 4503599627370495.5,
    9007199254740991.0, 9007199254740993.0, 1e-14, 1e-15, 1e-16, 1.2345678901234567e-15, -1.2345678901234567e-15,
    0.30000000000000004, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2.0**-44, 2.0**63, 2.0**64, 9.5e-7,
    999999999999999.9, 1000000000000000.5, -1000000000000000.25, 52.520008, 13.404954, 3.0e-5,
)  # fmt: skip


def test_every_kind_of_value(documents: Documents) -> None:
    check(documents, *(f"JSON_ARRAY({e})" for e in OPAQUE), *(f"JSON_OBJECT('k', {e})" for e in OPAQUE))
    check(
        documents,
        "NULL",
        "'null'",
        "'true'",
        "'[]'",
        "'{}'",
        "'\"\"'",
        "'1'",
        "'-1.5'",
        "CAST(DATE'2026-01-01' AS JSON)",
    )
    check(documents, "JSON_ARRAY(" + ", ".join(OPAQUE) + ")")


def test_column_values_made_json(documents: Documents) -> None:
    documents.run(
        f"CREATE TABLE {documents.name}.kinds (a BIT(9), b YEAR, c ENUM('x','y'), d SET('p','q'), e TIMESTAMP(3) NULL,"
        " f VARBINARY(9), g BINARY(4), h BLOB, i DECIMAL(20,6), j TIME(3), k CHAR(3) CHARACTER SET latin1, l FLOAT,"
        " m TINYINT UNSIGNED, n DATETIME, o GEOMETRY, p TINYTEXT, q VECTOR(2))"
    )
    documents.run(
        f"INSERT INTO {documents.name}.kinds VALUES (b'100000001', 2026, 'y', 'p,q', '2026-05-02 10:00:00.125', X'0001',"
        " 'ab', X'FFFE', -12.5, '-01:02:03.004', _latin1 X'E9', 1.1, 255, '0000-00-00', ST_GeomFromText('POINT(1 2)'), 't',"
        " TO_VECTOR('[1,2]'))"
    )
    for column in "abcdefghijklmnop":
        documents.clear()
        documents.run(
            f"INSERT INTO {documents.name}.t (doc) SELECT JSON_OBJECT('v', {column}) FROM {documents.name}.kinds"
        )
        (cell,) = documents.changes()
        assert cell.after is not None
        assert jsonb.to_text(cell.after) == documents.printed()[cell.row_id], column


def test_doubles(documents: Documents) -> None:
    source = random.Random(7)
    bits = [struct.unpack("<d", struct.pack("<Q", source.getrandbits(64)))[0] for _ in range(2000)]
    near = [source.uniform(-1, 1) * 10 ** source.randint(-20, 20) for _ in range(2000)]
    short = [round(source.uniform(-1, 1) * 10 ** source.randint(0, 16), source.randint(0, 6)) for _ in range(2000)]
    powers = [2.0**n for n in range(-1074, 1024)]
    values = [*DOUBLES, *powers, *near, *short, *(b for b in bits if b == b and abs(b) != float("inf"))]
    for start in range(0, len(values), 500):
        check(
            documents, *(f"JSON_ARRAY({value!r}{'' if 'e' in repr(value) else 'e0'})" for value in values[start:][:500])
        )


def test_nesting_and_size(documents: Documents) -> None:
    for depth in (1, 50, 99, 100):
        check(
            documents,
            "'" + "[" * depth + "]" * depth + "'",
            "'" + '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1) + "'",
        )
    wide = json.dumps({f"key{i}": i * 7919 for i in range(20_000)})  # over 64 KiB: the large format
    check(documents, f"'{wide}'")
    check(documents, "'" + json.dumps([70_000, -70_000, 2**40, "x" * 70_000, 1, None, [1.5] * 300]) + "'")
    check(documents, "'" + json.dumps({"k" * 65_535: 1, "": 2, "b": 3, "aa": 4, "\u00e9": 5}) + "'")
    for size in (127, 128, 16_383, 16_384, 2_097_152):  # a length takes another byte
        check(documents, f"JSON_ARRAY(REPEAT('\u00e9', {size // 2}), REPEAT('x', {size}))")


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), texts,
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
    max_leaves=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(trees, min_size=1, max_size=25))
def test_any_document(documents: Documents, batch: list[Any]) -> None:
    documents.clear()
    rows = [json.dumps(tree) for tree in batch]
    documents.run(f"INSERT INTO {documents.name}.t (doc) VALUES " + ", ".join(["(%s)"] * len(rows)), *rows)
    printed = documents.printed()
    cells = documents.changes()
    assert rendered([cell.after for cell in cells]).to_pylist() == [printed[cell.row_id] for cell in cells]
    for cell in cells:
        assert cell.after is not None
        assert jsonb.to_text(cell.after) == printed[cell.row_id]


# --- partial updates --------------------------------------------------------------------------------------------------

UPDATES = (
    "JSON_SET(doc, '$.a', 1)", "JSON_SET(doc, '$.new', JSON_OBJECT('x', 1.5))", "JSON_SET(doc, '$.\"odd \\\\\" key\"', 'v')",
    "JSON_SET(doc, '$.list[1]', CAST('2026-05-02' AS DATE))", "JSON_SET(doc, '$.list[99]', 'end')",
    "JSON_REPLACE(doc, '$.list[last]', NULL)", "JSON_REPLACE(doc, '$.list[last-1]', REPEAT('y', 300))",
    "JSON_REPLACE(doc, '$.missing', 1)", "JSON_REMOVE(doc, '$.a')", "JSON_REMOVE(doc, '$.list[0]')",
    "JSON_REMOVE(doc, '$.deep.b[0].c')", "JSON_SET(doc, '$.deep.b[0].c', -1.25, '$.deep.z', TRUE, '$.aa', 'k')",
    "JSON_SET(JSON_REMOVE(doc, '$.a', '$.list[2]'), '$.list[0]', 7, '$.\u00e9', X'00')", "JSON_SET(doc, '$.deep', '{}')",
    "JSON_ARRAY_INSERT(doc, '$.list[1]', 'in')", "JSON_SET(doc, '$', 5)", "JSON_SET(doc, '$.list', JSON_ARRAY(doc))",
    "JSON_SET(doc, '$.$dollar', 1, '$.\"a.b\"', 2, '$.\"\"', 3)", "JSON_MERGE_PATCH(doc, '{\"a\": 2}')", "NULL",
)  # fmt: skip
BASE = {
    "a": "A" * 400, "list": [1, 2.5, "x", None, [], {}], "deep": {"b": [{"c": 1}, 2], "text": "t" * 200}, "\u00e9": 1,
    "$dollar": 0, "a.b": 0, "": 0, 'odd " key': 0, "new\n": 1,
}  # fmt: skip


def follow(documents: Documents) -> int:
    """Check the changes since the last look; how many were partial."""
    printed = documents.printed()
    partial = 0
    for cell in documents.changes():
        if cell.diffs is not None:
            partial += 1
            assert cell.before is not None
            assert apply_diffs(cell.before, cell.diffs) == printed[cell.row_id]
        else:
            assert (None if cell.after is None else jsonb.to_text(cell.after)) == printed[cell.row_id]
    return partial


@pytest.mark.parametrize("update", UPDATES)
def test_partial_updates(documents: Documents, update: str) -> None:
    documents.clear()
    documents.run(f"INSERT INTO {documents.name}.t (doc) VALUES (%s)", json.dumps(BASE))
    documents.mark()
    documents.run(f"UPDATE {documents.name}.t SET doc = {update}")
    follow(documents)


def test_partial_updates_in_a_row(documents: Documents) -> None:
    source = random.Random(3)
    documents.clear()
    documents.run(f"INSERT INTO {documents.name}.t (doc) VALUES (%s), (%s)", json.dumps(BASE), json.dumps([BASE, BASE]))
    documents.mark()
    partial = 0
    for _ in range(150):
        steps = ", ".join(
            f"'$.{source.choice(('a', 'k1', 'kk', 'list[1]', 'list[9]', 'deep.b[0].c', 'deep.q'))}', "
            f"{source.choice(('1', '2.5', '1e30', chr(39) + 'w' * 50 + chr(39), 'JSON_OBJECT(1, 2)', 'NOW(6)'))}"
            for _ in range(source.randint(1, 3))
        )
        removed = source.choice(("$.k1", "$.list[0]", "$.deep.q", "$[0]", "$.nothing", "$[1].list[0]"))
        documents.run(
            f"UPDATE {documents.name}.t SET doc = "
            + source.choice(
                (f"JSON_SET(doc, {steps})", f"JSON_REMOVE(doc, '{removed}')", f"JSON_REPLACE(doc, {steps})")
            )
        )
        partial += follow(documents)
    assert partial > 50


def test_a_difference_that_does_not_apply_is_refused(documents: Documents) -> None:
    documents.clear()
    documents.run(f"INSERT INTO {documents.name}.t (doc) VALUES ('[1, {{\"a\": 2}}]')")
    (cell,) = documents.changes()
    assert cell.after is not None
    value = b"\x03\x05\x07\x00"  # an INT16 document, behind its length
    replace, insert, remove = b"\x00", b"\x01", b"\x02"
    assert apply_diffs(cell.after, replace + b"\x06$[1].a" + value + insert + b"\x04$[0]" + value) == '[7, 1, {"a": 7}]'
    for bad in (
        replace + b"\x06$[1].b" + value, replace + b"\x04$[2]" + value, insert + b"\x06$[1].a" + value,
        insert + b"\x07$[0][0]" + value, remove + b"\x04$[2]", remove + b"\x06$[0].a", replace + b"\x01$" + value,
        b"\x03\x04$[0]" + value, replace + b"\x05$[**]" + value,
        replace + b"\x04$[0]", replace, b"\x00\xff", b"\x00\xfe\x01",
    ):  # fmt: skip
        with pytest.raises(ValueError):
            apply_diffs(cell.after, bad)


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(document: bytes, source: random.Random) -> bytes:
    data = bytearray(document)
    for _ in range(source.randint(1, 4)):
        if data and source.random() < 0.15:
            del data[source.randrange(len(data)) :]
        elif data:
            data[source.randrange(len(data))] = source.choice((0, 1, 2, 3, 15, 127, 128, 255, source.randrange(256)))
    return bytes(data)


def test_damaged_documents_raise_value_error_or_print(documents: Documents) -> None:
    documents.clear()
    documents.insert(
        f"'{json.dumps([BASE, BASE])}'".replace("\\", "\\\\"), "JSON_ARRAY(" + ", ".join(OPAQUE) + ")", "'[[[[[[]]]]]]'"
    )
    sound = [cell.after for cell in documents.changes() if cell.after is not None]
    source = random.Random(11)
    refused = 0
    for _ in range(6000):
        data = damaged(source.choice(sound), source)
        try:
            text = jsonb.to_text(data)
        except ValueError:
            refused += 1
        else:
            assert len(text) <= jsonb.MAX_GROWTH * len(data) + 64
    assert refused > 1000


def test_damaged_documents_in_the_kernel(documents: Documents) -> None:
    """The kernel prints what the exact path prints, and what that refuses is refused with its index."""
    documents.clear()
    documents.insert(
        f"'{json.dumps([BASE, BASE, 0.1, 2**63, -(2**63), 70000])}'".replace("\\", "\\\\"), '\'[[[{}, "", "a"]]]\''
    )
    sound = [cell.after for cell in documents.changes() if cell.after is not None]
    source = random.Random(12)
    good: list[bytes | None] = [None]
    texts: list[str | None] = [None]
    for _ in range(4000):
        data = damaged(source.choice(sound), source)
        try:
            texts.append(jsonb.to_text(data))
        except ValueError as error:
            if "overlap" not in str(error):  # the kernel counts the text's bytes, the exact path estimates them
                with pytest.raises(DamagedDocument) as refused:
                    rendered([sound[0], None, data, sound[1]])
                assert refused.value.index == 2
        else:
            good.append(data)
    assert len(good) > 500
    found = rendered(good)
    found.validate(full=True)
    assert found.to_pylist() == texts


def test_doubles_in_the_kernel_are_those_of_the_exact_path() -> None:
    """That one prints what Python's repr finds, and is compared with the server above."""
    source = random.Random(17)
    bits = [source.getrandbits(64) for _ in range(30_000)]
    for exponent in range(2047):  # the powers of two, where the spacing changes, and their neighbours
        bits += [(exponent << 52) + d for d in (-1, 0, 1) if exponent << 52]
    values = [struct.unpack("<d", struct.pack("<Q", b))[0] for b in bits]
    values += [round(source.uniform(-1, 1) * 10 ** source.randint(0, 16), source.randint(0, 6)) for _ in range(20_000)]
    values += [10.0**n for n in range(-320, 309)] + [source.randrange(2**54) / 4 for _ in range(5000)]
    finite = [v for v in values if abs(v) < float("inf")]
    found = rendered([b"\x0b" + struct.pack("<d", v) for v in finite]).to_pylist()
    assert found == [jsonb.double_text(v) for v in finite]


def test_any_bytes() -> None:
    source = random.Random(13)
    for _ in range(20_000):
        data = bytes(
            source.choice((0, 1, 2, 3, 4, 5, 12, 15, 255, source.randrange(256))) for _ in range(source.randrange(30))
        )
        try:
            text = jsonb.to_text(data)
        except ValueError:
            continue
        assert rendered([data]).to_pylist() == [text]


def test_no_documents_and_places_outside_the_buffer() -> None:
    empty = np.empty(0, np.int64)
    assert render(np.empty(0, np.uint8), empty, empty).to_pylist() == []
    assert rendered([None, b"", None]).to_pylist() == [None, "null", None]
    for start, length in ((0, 5), (-1, 2), (5, 0)):
        with pytest.raises(ValueError):
            render(np.zeros(4, np.uint8), np.array([start]), np.array([length]))


def test_texts_that_outgrow_their_buffer() -> None:
    text = "\x01" * 1000
    document = b"\x0c" + bytes([0x80 | len(text) & 127, len(text) >> 7]) + text.encode()
    many: list[bytes | None] = [document] * 500
    assert rendered(many).to_pylist() == [jsonb.quote(text)] * 500


def test_a_document_that_names_one_part_over_and_over_is_refused() -> None:
    # Ten arrays, each holding the next one ten times: 10**10 elements in under 400 bytes.
    levels, size = 10, 4 + 10 * 3
    total = levels * size
    body = b"".join(
        struct.pack("<HH", 10, total - level * size) + struct.pack("<BH", 2, size) * 10 for level in range(levels - 1)
    )
    bomb = b"\x02" + body + struct.pack("<HH", 10, size) + struct.pack("<BH", 4, 0) * 10
    with pytest.raises(ValueError, match="overlap"):
        jsonb.to_text(bomb)


def test_a_document_inside_itself_is_refused() -> None:
    with pytest.raises(ValueError):
        jsonb.to_text(b"\x02\x01\x00\x07\x00\x02\x00\x00")
