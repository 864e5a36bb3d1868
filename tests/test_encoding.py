"""Parquet encoding: whatever is chosen for a column, and however it comes, readers get the same types and values."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.archive.actions import Segment
from recovery.archive.encoding import PAGE_ROWS, ROW_GROUP_ROWS, encode_parquet
from recovery.archive.filestore import FileStore
from recovery.archive.names import Layout
from recovery.archive.segments import read_segment, segment_schema, write_segment
from recovery.schema import EXACT_TYPE, Column, Table

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
# A value of each Arrow type that a table's column may have, from a whole number.
TYPES: dict[pa.DataType, Callable[[int], Any]] = {
    pa.int8(): lambda n: n % 256 - 128,
    pa.uint8(): lambda n: n % 256,
    pa.int16(): lambda n: n % 65536 - 32768,
    pa.int32(): lambda n: n % 2**32 - 2**31,
    pa.uint32(): lambda n: n % 2**32,
    pa.int64(): lambda n: n % 2**64 - 2**63,
    pa.uint64(): lambda n: n % 2**64,
    pa.float32(): lambda n: float(n % 4096) / 8,
    pa.float64(): lambda n: n / 7,
    pa.decimal128(9, 2): lambda n: Decimal(n % 10**9 - 5 * 10**8).scaleb(-2),
    pa.decimal128(18, 0): lambda n: Decimal(n % 10**18),
    pa.decimal128(38, 10): lambda n: Decimal(n * 10**19 % 10**38).scaleb(-10),
    pa.date32(): lambda n: date(1000, 1, 1) + timedelta(days=n % 3_000_000),
    pa.timestamp("us"): lambda n: (EPOCH + timedelta(microseconds=n % 10**17)).replace(tzinfo=None),
    pa.timestamp("us", "UTC"): lambda n: EPOCH + timedelta(microseconds=n % 10**17),
    pa.string(): lambda n: f"tëxt {n}",
    pa.binary(): lambda n: n.to_bytes(12, "big"),
    EXACT_TYPE: lambda n: [(f"c{n % 3}", str(n))],
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """(as it is handed over: in chunks, text columns perhaps dictionary-encoded; as it is to be read)."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    lengths = draw(st.lists(st.sampled_from([0, 1, 7, 300, 2500]), min_size=1, max_size=4))
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=8))
    given_columns, plain_columns, fields = [], [], []
    for number, kind in enumerate(kinds):
        different = draw(st.sampled_from([1, 3, 60, 100_000]))
        nulls = draw(st.sampled_from([0.0, 0.4, 1.0]))
        chunks = [
            pa.array(
                [
                    None if rng.random() < nulls else TYPES[kind](rng.randrange(different) * 10**14)
                    for _ in range(length)
                ],
                kind,
            )
            for length in lengths
        ]
        handed = chunks
        if (pa.types.is_string(kind) or pa.types.is_binary(kind)) and draw(st.booleans()):
            handed = [chunk.dictionary_encode() for chunk in chunks]
        # A dot, a quote and a space: MySQL takes any of them in a name.
        name = draw(st.sampled_from([f"c{number}", f"c.{number}", f'ünï "{number}"', "gtid", "seq"]))
        name = name if name not in {f.name for f in fields} else f"c{number}"
        fields.append(pa.field(name, kind))
        plain_columns.append(pa.chunked_array(chunks, kind))
        given_columns.append(pa.chunked_array(handed))
    schema = pa.schema(fields, metadata={b"rowback.format": b"2", b"rowback.table": "ä".encode()})
    handed_schema = pa.schema(
        [f.with_type(c.type) for f, c in zip(fields, given_columns, strict=True)], metadata=schema.metadata
    )
    return pa.table(given_columns, schema=handed_schema), pa.table(plain_columns, schema=schema)


@given(tables())
@settings(max_examples=60, deadline=None)
def test_what_is_read_is_what_was_given(both: tuple[pa.Table, pa.Table]) -> None:
    handed, plain = both
    body = encode_parquet(handed, [plain.schema.names[0]])
    source = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
    assert source.schema_arrow.equals(plain.schema)
    assert source.metadata.metadata.items() >= plain.schema.metadata.items()
    assert source.read().equals(plain)


@given(tables())
@settings(max_examples=25, deadline=None)
def test_duckdb_reads_the_same(tmp_path_factory: pytest.TempPathFactory, both: tuple[pa.Table, pa.Table]) -> None:
    handed, expected = both
    path = tmp_path_factory.mktemp("encoding") / "a.parquet"
    path.write_bytes(encode_parquet(handed))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT * FROM read_parquet('{path}')").to_arrow_table()
        expected = connection.from_arrow(expected).to_arrow_table()
    assert found.schema.equals(expected.schema)
    assert found.to_pylist() == expected.to_pylist()


def test_each_column_gets_the_encoding_that_suits_it() -> None:
    rows = 20_000
    table = pa.table(
        {
            "_rb_op": pa.array(["insert", "delete"] * (rows // 2)).dictionary_encode(),
            "_rb_seq": pa.array(range(rows)),
            "_rb_gtid": pa.array(
                [f"3e11fa47-71ca-11e1-9e33-c80aa9429562:{i}" for i in range(rows)]
            ).dictionary_encode(),
            "country": pa.array(["de", "fr", "se", "it"] * (rows // 4)),
            "token": pa.array([f"{i * 7919 % 999_983:x}" for i in range(rows)]),
            "price": pa.array([Decimal(i * 31 % 90_001).scaleb(-2) for i in range(rows)], pa.decimal128(12, 2)),
            "state": pa.array([i % 3 for i in range(rows)]),
            "ratio": pa.array([i / 3 for i in range(rows)]),
        }
    )
    source = pq.ParquetFile(pa.BufferReader(encode_parquet(table)))
    group = source.metadata.row_group(0)
    used = {name: set(group.column(i).encodings) for i, name in enumerate(table.schema.names)}
    with_dictionary = {name for name, encodings in used.items() if "RLE_DICTIONARY" in encodings}
    assert with_dictionary == {"_rb_op", "country", "state"}
    assert "DELTA_BYTE_ARRAY" in used["_rb_gtid"]
    assert "DELTA_LENGTH_BYTE_ARRAY" in used["token"]
    assert "DELTA_BINARY_PACKED" in used["price"] & used["_rb_seq"]
    assert "PLAIN" in used["ratio"]


def test_statistics_of_the_key_and_of_numbers_alone() -> None:
    table = pa.table(
        {"id": [f"k{i}" for i in range(100)], "n": list(range(100)), "note": [f"x{i}" for i in range(100)]}
    )
    group = pq.ParquetFile(pa.BufferReader(encode_parquet(table, ["id"]))).metadata.row_group(0)
    assert [group.column(i).is_stats_set for i in range(3)] == [True, True, False]
    assert (group.column(0).statistics.min, group.column(1).statistics.max) == ("k0", 99)


def test_row_groups_and_pages_are_bounded() -> None:
    rows = ROW_GROUP_ROWS + PAGE_ROWS + 1
    source = pq.ParquetFile(pa.BufferReader(encode_parquet(pa.table({"n": pa.array(range(rows))}))))
    assert [source.metadata.row_group(i).num_rows for i in range(2)] == [ROW_GROUP_ROWS, PAGE_ROWS + 1]


@pytest.mark.parametrize("encoded", [False, True])
def test_a_segment_is_described_alike_whichever_way_its_columns_come(tmp_path: Path, encoded: bool) -> None:
    table = Table(
        "shop", "codes", (Column("code", "varchar", octets=40, charset="utf8mb4", nullable=False),), ("code",)
    )
    rows = [
        {"_rb_op": op, "_rb_seq": seq, "_rb_ordinal": 0, "_rb_committed_at_us": 1, "_rb_cut_at_us": seq,
         "_rb_gtid": None if seq == 2 else f"g:{seq}", "_rb_binlog_file": "binlog.000001", "_rb_binlog_pos": 4,
         "_rb_connection_id": None, "_rb_flags": 1, "_rb_changed": None, "_rb_exact": None, "code": code}
        for seq, op, code in (
            (1, "insert", "b"), (1, "insert", "ß"), (2, "update_before", "b"), (2, "update_after", "b"), (3, "delete", "a")
        )
    ]  # fmt: skip
    plain = pa.Table.from_pylist(rows, schema=segment_schema(table))
    data = plain
    if encoded:  # in two chunks with different dictionaries
        for name in ("_rb_op", "_rb_gtid", "_rb_binlog_file", "code"):
            index = plain.schema.get_field_index(name)
            chunks = [plain[name].slice(0, 2).combine_chunks(), plain[name].slice(2).combine_chunks()]
            column = pa.chunked_array([chunk.dictionary_encode() for chunk in chunks])
            data = data.set_column(index, plain.schema.field(name).with_type(column.type), column)
    store = FileStore(tmp_path)
    written = write_segment(store, Layout("t", "s"), table, data)
    expected: dict[str, Any] = {
        "rows": 5, "inserts": 2, "updates": 1, "deletes": 1, "first_seq": 1, "last_seq": 3,
        "min_cut_at_us": 1, "max_cut_at_us": 3, "key_min": "a", "key_max": "ß",
    }  # fmt: skip
    assert {name: getattr(written, name) for name in expected} == expected
    assert isinstance(written, Segment)
    assert read_segment(store, written).equals(plain)
