"""From the bytes that a server sends for a column (text protocol, no character set conversion) to its Arrow array.

Both ways into a baseline end here: a dump file's unescaped literals and our own SELECT. The values equal what capture
makes of a row image (dataflow/values.py), or a restore would see differences that aren't there.

Promises: exact or an error that names the table and column. What the Arrow type can't hold comes as null plus its text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recovery.charset import encode_text, exact_text, label_text, transcode
from recovery.errors import UnsupportedColumn
from recovery.schema import BINARY_TYPES, INTEGER_BITS, Column, Table, arrow_type

Raw: TypeAlias = bytes | None
Exacts: TypeAlias = dict[int, str]  # row number -> text
Converted: TypeAlias = tuple[pa.Array, Exacts]

_TIME: Final = r"^(?P<sign>-?)(?P<h>\d{1,3}):(?P<m>\d\d):(?P<s>\d\d)(?:\.(?P<f>\d{1,6}))?$"
_NOT_A_DATE: Final = r"^0000-|-00"  # a zero or partial date, or the year 0000: capture writes these as text, too
# Sets that are UTF-8 where all bytes are below: utf8mb3 has none of the lead bytes of four.
_UTF8_BELOW: Final = {"utf8mb4": 0x100, "utf8mb3": 0xF0, "utf8": 0xF0, "ascii": 0x80}
INVALID_ENUM: Final = "0"  # the exact text of an ENUM's invalid value, its index


def convert(column: Column, raws: Sequence[Raw], table: Table) -> Converted:
    """The array of `arrow_type(column)` and the exact texts of rows that it can't hold (they are null in the array).

    raws: one item per row, None for NULL. FLOAT comes as the text of a DOUBLE, an ENUM of `enum_by_index` as its index.
    Raises UnsupportedColumn for a value that is not valid in the column's type.
    """
    target = arrow_type(column, table.label)
    try:
        return _converter(column)(column, raws, target)
    except (pa.ArrowInvalid, ValueError) as error:
        raise UnsupportedColumn(
            f"column `{column.name}` of table `{table.label}` holds a value that is not a valid {_describe(column)}",
            hint="Mend the value on the source, or exclude the table with `exclude` in rowback.toml.",
        ) from error


def _describe(column: Column) -> str:
    return f"{column.type} in {column.charset}" if column.charset else column.type


def _converter(column: Column) -> Callable[[Column, Sequence[Raw], pa.DataType], Converted]:
    kind = column.type
    if kind in INTEGER_BITS or kind in ("double", "year"):
        return _parsed
    if kind in ("char", "varchar", "text"):
        return _text
    by_kind: dict[str, Callable[[Column, Sequence[Raw], pa.DataType], Converted]] = {
        "float": _float,
        "decimal": _decimal,
        "date": _dated,
        "datetime": _dated,
        "timestamp": _dated,
        "time": _time,
        "enum": _enum,
        "set": _set,
        "binary": _padded,
        "bit": _bit,
    }
    if kind in by_kind:
        return by_kind[kind]
    return _bytes if kind in BINARY_TYPES else _plain_text


def _strings(raws: Sequence[Raw]) -> Any:
    return pa.array(raws, pa.binary()).cast(pa.string())


def _parsed(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    return _strings(raws).cast(target), {}


def _float(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    """The text is that of a DOUBLE (own reads multiply by 1e0): the server prints a FLOAT with six digits only."""
    return _strings(raws).cast(pa.float64()).cast(target), {}


def _decimal(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    if not pa.types.is_string(target):
        return _parsed(column, raws, target)
    return pa.array([None if raw is None else _plain_number(raw.decode("ascii")) for raw in raws], target), {}


def _plain_number(text: str) -> str:
    """A decimal's text without the zeros that ZEROFILL puts before it."""
    sign = "-" if text.startswith("-") else ""
    whole, point, fraction = text.removeprefix("-").partition(".")
    return f"{sign}{whole.lstrip('0') or '0'}{point}{fraction}"


def _bytes(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    return pa.array(raws, target), {}


def _padded(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    width = column.octets or 0
    return pa.array([None if raw is None else raw.ljust(width, b"\0") for raw in raws], target), {}


def _bit(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    """Both servers send the bits as bytes, the highest first."""
    return pa.array([None if raw is None else int.from_bytes(raw, "big") for raw in raws], target), {}


def _plain_text(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    """JSON travels as utf8mb4, UUID and INET as ASCII."""
    return _strings(raws), {}


def _text(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    """Text in the column's character set; what has no text goes out as its bytes."""
    charset = column.charset or ""
    stored = pa.array(raws, pa.binary())
    texts, bad = _transcoded(stored, charset)
    if column.type == "char":  # the server strips them when it stores; PAD_CHAR_TO_FULL_LENGTH brings them back
        texts = pc.utf8_rtrim(texts, characters=" ")
    return texts, {int(row): exact_text(_unpadded(column, stored[int(row)].as_py())) for row in bad}


def _transcoded(stored: Any, charset: str) -> tuple[Any, Any]:
    """The texts, and the rows without one. UTF-8 that is valid as it is needs no compiled loop."""
    _, offsets, data = stored.buffers()
    buffer = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    if charset in _UTF8_BELOW and (buffer.max(initial=0) < _UTF8_BELOW[charset]):
        try:
            return stored.cast(pa.string()), ()
        except pa.ArrowInvalid:
            pass  # somewhere; the loop finds the rows
    ends = np.frombuffer(offsets, np.int32, len(stored) + 1, stored.offset * 4).astype(np.int64)
    lengths = np.where(np.asarray(stored.is_valid()), np.diff(ends), -1)
    return transcode(buffer, ends[:-1], lengths, charset)


def _unpadded(column: Column, raw: bytes) -> bytes:
    if column.type == "char":
        space = encode_text(" ", column.charset or "")
        while raw.endswith(space) and not (len(raw) % len(space)):
            raw = raw[: -len(space)]
    return raw


def enum_by_index(column: Column) -> bool:
    """An ENUM with an empty label: its invalid value prints as '' as well, only the index tells them apart."""
    return column.type == "enum" and "" in column.labels


def _enum_indexes(column: Column, raws: Sequence[Raw]) -> Converted:
    if "?" in "".join(column.labels):
        raise ValueError("a label that information_schema may not show")  # see recovery.source_tables.parse_labels
    indexes = [None if raw is None else int(raw) for raw in raws]
    labels = (None, *column.labels)
    texts = pa.array([None if i is None else labels[i] for i in indexes], pa.string())
    return texts, {row: INVALID_ENUM for row, i in enumerate(indexes) if i == 0}


def _enum(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    if enum_by_index(column):
        return _enum_indexes(column, raws)
    known = set(column.labels)

    def label(raw: bytes) -> str | None:
        text = label_text(raw, column.charset or "")
        if text not in known and raw:
            raise ValueError("not a label")
        return text if raw else None

    values = pa.array(raws, pa.binary())
    texts = _each(values, label)
    rows = pc.indices_nonzero(pc.and_(values.is_valid(), texts.is_null())).to_pylist()
    return texts, dict.fromkeys(rows, INVALID_ENUM)


def _set(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    charset = column.charset or ""
    known, comma = set(column.labels), encode_text(",", charset)

    def label(raw: bytes) -> str:
        labels = [label_text(part, charset) for part in _split(raw, comma)] if raw else []
        if not known.issuperset(labels):
            raise ValueError("not a label")
        return ",".join(labels)

    return _each(pa.array(raws, pa.binary()), label), {}


def _each(values: Any, text: Callable[[bytes], str | None]) -> Any:
    """`text` of every value, called once for equal ones."""
    encoded = values.dictionary_encode()
    texts = pa.array([text(raw) for raw in encoded.dictionary.to_pylist()], pa.string())
    return texts.take(encoded.indices)


def _split(raw: bytes, comma: bytes) -> list[bytes]:
    """The labels of a SET: in the sets of more than one byte per character only whole characters are looked at. (No
    label has a comma; in the sets of mixed width a comma's byte is part of no other character.)"""
    width, parts, start = len(comma), [], 0
    for at in range(0, len(raw), width):
        if raw[at : at + width] == comma:
            parts.append(raw[start:at])
            start = at + width
    return [*parts, raw[start:]]


def _dated(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    """DATE, DATETIME and TIMESTAMP; zero, partial and impossible dates go out as text."""
    texts = _strings(raws)
    bad = pc.fill_null(pc.match_substring_regex(texts, _NOT_A_DATE), False)
    naive = pa.timestamp("us") if pa.types.is_timestamp(target) else target
    null = pa.scalar(None, pa.string())
    try:
        values = pc.if_else(bad, null, texts).cast(naive)
    except pa.ArrowInvalid:  # somewhere a 2024-02-31: ALLOW_INVALID_DATES is or was in the sql_mode
        flags = [text is not None and not _is_date(text[:10]) for text in texts.to_pylist()]
        bad = pa.array(flags, pa.bool_())
        values = pc.if_else(bad, null, texts).cast(naive)
    rows = pc.indices_nonzero(bad).to_pylist()
    exact = {row: text for row in rows if (text := texts[row].as_py()) is not None}
    return (values.cast(pa.int64()).cast(target) if naive != target else values), exact


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _time(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    """Microseconds, negative for a negative time."""
    texts = _strings(raws)
    parts = pc.extract_regex(texts, _TIME)
    if parts.null_count != texts.null_count:
        raise ValueError("not a time")
    valid = texts.is_valid()

    def number(name: str) -> Any:
        field = pc.struct_field(parts, name)
        return pc.if_else(valid, field, "0").cast(pa.int64())

    fraction = pc.utf8_rpad(pc.if_else(valid, pc.struct_field(parts, "f"), "0"), 6, "0").cast(pa.int64())
    seconds = pc.add(pc.add(pc.multiply(number("h"), 3600), pc.multiply(number("m"), 60)), number("s"))
    micros = pc.add(pc.multiply(seconds, 1_000_000), fraction)
    signed = pc.if_else(pc.equal(pc.struct_field(parts, "sign"), "-"), pc.negate(micros), micros)
    return pc.if_else(valid, signed, pa.scalar(None, pa.int64())), {}
