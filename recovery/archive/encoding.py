"""How rows become Parquet bytes: which encoding each column gets, judged from a sample of its values.

What a reader sees doesn't depend on it: names, logical types and values are those of the given schema, and a column that
comes dictionary-encoded (Arrow's DictionaryArray, for values that repeat from row to row) is written as the plain type of
its values. Figures behind the choices are in docs/BENCHMARKS.md; every encoding here is one that DuckDB, pyarrow and Spark
read.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP_ROWS: Final = 256 * 1024
# A page is a unit of compression with a context of its own: not too small. Wide columns end pages by size (1 MiB) before.
PAGE_ROWS: Final = 64 * 1024
LOOKUP_GROUP_ROWS: Final = 64 * 1024
LOOKUP_PAGE_ROWS: Final = 4 * 1024
SAMPLE_ROWS: Final = 2048
SAMPLE_SLICES: Final = 8
# A dictionary for texts and floats pays while the sample shows repetition: at 0.9 there are about 10,000 different values,
# which still fit a dictionary page. For integers only if they are few: deltas and bit widths serve them else.
REPEATED_SHARE: Final = 0.9
FEW: Final = 64
# A DictionaryArray stays one while its dictionary is this much shorter than its rows.
ROWS_PER_ENTRY: Final = 4
_MAX_INT_DECIMAL: Final = 18  # decimal digits that Parquet stores as INT32 or INT64
_DELTA_INTS: Final = "DELTA_BINARY_PACKED"
_DELTA_LENGTHS: Final = "DELTA_LENGTH_BYTE_ARRAY"
_SHARED_PREFIXES: Final = "DELTA_BYTE_ARRAY"
# Sorted, or as good as: deltas are best whatever the sample says. (A table may have columns of these names, of any type.)
_ASCENDING: Final = frozenset({
    "_rb_seq", "_rb_ordinal", "_rb_committed_at_us", "_rb_cut_at_us", "_rb_binlog_pos", "_rb_connection_id",
    "seq", "committed_at_us", "cut_at_us", "start_position", "end_position", "connection_id", "row_changes",
})  # fmt: skip
_GTIDS: Final = frozenset({"_rb_gtid", "gtid"})


def encode_parquet(data: pa.Table, indexed: Collection[str] = (), sorted_by: Sequence[str] = ()) -> bytes:
    """The Parquet bytes of a table: zstd, page index, page checksums, an encoding that fits each column.

    indexed: text columns that get statistics all the same (a table's key). Those of others cost a tenth of the encoding
    and serve nobody: the rows are in the order of time. sorted_by: columns that rows are looked up by; they get statistics
    and bloom filters, in row groups and pages of which a lookup reads few.
    """
    schema = _without_dictionaries(data.schema)
    data = _settled(data)
    dictionaries, encodings = _choose(data)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        data.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=dictionaries or False,
        column_encoding=encodings,
        write_statistics=[f.name for f in schema if f.name in (*indexed, *sorted_by) or not _is_text(f.type)],
        max_rows_per_page=LOOKUP_PAGE_ROWS if sorted_by else PAGE_ROWS,
        sorting_columns=[pq.SortingColumn(schema.get_field_index(name)) for name in sorted_by] or None,
        bloom_filter_options={name: _filter_of(data[name]) for name in sorted_by} or None,
        write_page_index=True,
        write_page_checksum=True,
        store_decimal_as_integer=True,
        store_schema=False,
    ) as writer:
        # As pyarrow writes it with store_schema, but with the types that readers are to see.
        described = {b"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes())}
        writer.add_key_value_metadata((schema.metadata or {}) | described)
        writer.write_table(data, row_group_size=LOOKUP_GROUP_ROWS if sorted_by else ROW_GROUP_ROWS)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _filter_of(column: pa.ChunkedArray) -> dict[str, float]:
    """A bloom filter's size is fixed beforehand: as many different values as a row group may have."""
    different = pc.count_distinct(column).as_py()
    return {"ndv": max(1, min(different, LOOKUP_GROUP_ROWS)), "fpp": 0.01}


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema], schema.metadata
    )


def _settled(data: pa.Table) -> pa.Table:
    """The same rows; each dictionary-encoded column with one dictionary for all its chunks, or dense if it wouldn't pay."""
    dense = False
    for index, field in enumerate(data.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        dense = True
        column = data.column(index)
        entries = sum(len(chunk.dictionary) for chunk in column.chunks)
        if entries * ROWS_PER_ENTRY > data.num_rows:
            values = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], field.type.value_type)
            data = data.set_column(index, field.with_type(field.type.value_type), values)
    return data.unify_dictionaries() if dense else data


def _choose(data: pa.Table) -> tuple[list[str], dict[str, str]]:
    """The columns with a dictionary, and the encodings of the others that aren't written plain."""
    dictionaries: list[str] = []
    encodings: dict[str, str] = {}
    judged: list[pa.Field] = []
    for field in data.schema:
        if pa.types.is_nested(field.type):
            continue
        if pa.types.is_dictionary(field.type):
            dictionaries.append(field.name)
        elif field.name in _ASCENDING and _is_integer(field.type):
            encodings[field.name] = _DELTA_INTS
        elif field.name in _GTIDS and _is_text(field.type):
            encodings[field.name] = _SHARED_PREFIXES
        else:
            judged.append(field)
    sample = _sample(data.select([field.name for field in judged]))
    for field in judged:
        if _repeats(field.type, sample[field.name]):
            dictionaries.append(field.name)
        elif _is_integer(field.type):
            encodings[field.name] = _DELTA_INTS
        elif _is_text(field.type):
            encodings[field.name] = _DELTA_LENGTHS
    return dictionaries, encodings


def _sample(data: pa.Table) -> pa.Table:
    """About SAMPLE_ROWS rows in slices from all over the table: slices cost nothing, single rows are gathered one by one.
    The two images of an update stand side by side in it, so that a text key of an update counts twice; a dictionary for it
    is a small waste."""
    if data.num_rows <= SAMPLE_ROWS:
        return data
    length = SAMPLE_ROWS // SAMPLE_SLICES
    step = (data.num_rows - length) // (SAMPLE_SLICES - 1)
    return pa.concat_tables([data.slice(n * step, length) for n in range(SAMPLE_SLICES)]).combine_chunks()


def _repeats(kind: pa.DataType, values: pa.ChunkedArray) -> bool:
    present = len(values) - values.null_count
    different = pc.count_distinct(values).as_py() if present else 0
    return bool(different <= FEW if _is_integer(kind) else different <= REPEATED_SHARE * present)


def _is_integer(kind: pa.DataType) -> bool:
    """Whether Parquet stores it as INT32 or INT64."""
    if pa.types.is_decimal(kind):
        return bool(kind.precision <= _MAX_INT_DECIMAL)
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))
