"""From the bytes that a server sends for a column (text protocol, no character set conversion) to its Arrow array.

Both ways into a baseline end here: a dump file's unescaped literals and our own SELECT. The values equal what capture
makes of a row image (dataflow/values.py), or a restore would see differences that aren't there.

Promises: exact or an error that names the table and column. What the Arrow type can't hold comes as null plus its text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from recovery.charset import decode_text
from recovery.errors import UnsupportedColumn
from recovery.schema import INTEGER_BITS, Column, Table, arrow_type

Raw: TypeAlias = bytes | None
Exacts: TypeAlias = dict[int, str]  # row number -> text
Converted: TypeAlias = tuple[pa.Array, Exacts]

_TIME: Final = r"^(?P<sign>-?)(?P<h>\d{1,3}):(?P<m>\d\d):(?P<s>\d\d)(?:\.(?P<f>\d{1,6}))?$"
_NOT_A_DATE: Final = r"^0000-|-00"  # a zero or partial date, or the year 0000: capture writes these as text, too
INVALID_ENUM: Final = "0"  # the exact text of an ENUM's invalid value, its index


def convert(column: Column, raws: Sequence[Raw], table: Table) -> Converted:
    """The array of `arrow_type(column)` and the exact texts of rows that it can't hold (they are null in the array).

    raws: one item per row, None for NULL. FLOAT comes as the text of a DOUBLE, an ENUM of `enum_by_index` as its index.
    Raises UnsupportedColumn for a value that is not valid in the column's type or character set.
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
    }
    if kind in by_kind:
        return by_kind[kind]
    return _bytes if kind in ("varbinary", "blob") else _text


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


def _decoded(column: Column, raws: Sequence[Raw]) -> Any:
    """Text in the column's character set as an Arrow string array; JSON travels as utf8mb4."""
    charset = column.charset or "utf8mb4"
    if charset in ("utf8mb4", "utf8mb3", "utf8"):
        return _strings(raws)
    return pa.array([None if raw is None else decode_text(raw, charset) for raw in raws], pa.string())


def _text(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    texts = _decoded(column, raws)
    if column.type == "char":  # the server strips them when it stores; PAD_CHAR_TO_FULL_LENGTH brings them back
        texts = pc.utf8_rtrim(texts, characters=" ")
    return texts, {}


def enum_by_index(column: Column) -> bool:
    """An ENUM with an empty label: its invalid value prints as '' as well, only the index tells them apart."""
    return column.type == "enum" and "" in column.labels


def _enum_indexes(column: Column, raws: Sequence[Raw]) -> Converted:
    if "?" in "".join(column.labels) and column.charset == "utf8mb4":
        raise ValueError("a label that information_schema may not show")  # see recovery.source.parse_labels
    indexes = [None if raw is None else int(raw) for raw in raws]
    labels = (None, *column.labels)
    texts = pa.array([None if i is None else labels[i] for i in indexes], pa.string())
    return texts, {row: INVALID_ENUM for row, i in enumerate(indexes) if i == 0}


def _enum(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    if enum_by_index(column):
        return _enum_indexes(column, raws)
    texts = _decoded(column, raws)
    present = {value for value in texts.unique().to_pylist() if value is not None}
    unknown = present - set(column.labels)
    if unknown - {""}:
        raise ValueError("not a label")
    if "" not in unknown:
        return texts, {}
    invalid = pc.fill_null(pc.equal(texts, ""), False)
    rows = pc.indices_nonzero(invalid).to_pylist()
    return pc.if_else(invalid, pa.scalar(None, pa.string()), texts), dict.fromkeys(rows, INVALID_ENUM)


def _set(column: Column, raws: Sequence[Raw], target: pa.DataType) -> Converted:
    texts = _decoded(column, raws)
    known = set(column.labels)
    for value in texts.unique().to_pylist():
        if value and not known.issuperset(value.split(",")):
            raise ValueError("not a label")
    return texts, {}


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
