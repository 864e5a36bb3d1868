"""One value as SQL and as text: literals that mean the same under every sql_mode, guards that match exactly that value.

Promises, each proved on real servers by tests/test_literals.py and tests/test_undo.py:
- `literal` stores the value again, bit for bit, whatever sql_mode, ANSI_QUOTES and NO_BACKSLASH_ESCAPES included: a
  string literal holds printable ASCII without a quote or a backslash, everything else is `_utf8mb4 X'..'` or `X'..'`.
- `guard` is true for exactly that value: text, GEOMETRY and VECTOR by their stored bytes (a collation takes 'a' for 'A'),
  JSON by its printed text, FLOAT by the double that it widens to (MySQL manual, "Problems with Floating-Point Values":
  FLOAT = 1.1 is false), NULL by `<=>`.
- TIMESTAMP values are UTC: the script that holds them pins time_zone to '+00:00'.

Values are the archive's (recovery.schema.arrow_type, as Python objects); `exact` is the entry of `_rb_exact`, for
values that the type can't hold: zero and partial dates, an ENUM's invalid value (index 0), and stored bytes that have no
text in the column's character set. The latter are written as bytes, where a server takes them so (`NotComputable` else).
Vectorised rendering for dumps is recovery/dump_values.py's; this module is for what a person reviews.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
from sqlglot import exp

from recovery.charset import decode_text, encode_text, exact_bytes, exact_text, is_raw_label, storable
from recovery.errors import NotComputable
from recovery.json_literals import document_sql
from recovery.schema import BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

DIALECT = "mysql"
_UNSAFE = frozenset("'\\")
# Sets in which plain ASCII is the same bytes; for the others a literal says which set it is in itself.
LIKE_ASCII = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "binary"})
_DAY_US = 86_400_000_000


def text_of(column: Column, value: object, exact: str | None = None) -> str | None:
    """The value as SELECT prints it, None for NULL. FLOAT and DOUBLE get the shortest digits that read back as the same
    value (the server prints FLOAT with six and loses some); binary is `0x` and upper-case hex; TIMESTAMP is in UTC."""
    if exact is not None:
        return exact
    if value is None:
        return None
    kind = column.type
    if isinstance(value, bytes):
        return "0x" + value.hex().upper()
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return _float_text(float(value), single=kind == "float")
    if isinstance(value, datetime):
        return _datetime_text(value, column.fsp or 0)
    if isinstance(value, date):
        return f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
    if isinstance(value, int):
        if kind == "time":
            return _time_text(value, column.fsp or 0)
        return f"{value:04d}" if kind == "year" else str(value)
    raise _unknown(column, value)


def literal(column: Column, value: object, exact: str | None = None, *, flavor: str | None = None) -> exp.Expression:
    """An expression that stores this value in this column. An ENUM's invalid value is the number 0, which strict mode
    refuses (`needs_loose_mode`). Raises NotComputable for bytes that no statement can store in a server of this flavor
    (None: in both)."""
    if exact is None and value is None:
        return exp.Null()
    if exact is not None:
        return _exact(column, exact, flavor)
    if isinstance(value, bytes):
        return exp.HexString(this=value.hex().upper())
    if isinstance(value, float):
        return _double(float(value))
    text = text_of(column, value)
    assert text is not None
    if column.type in INTEGER_BITS or column.type in ("decimal", "year", "bit"):
        return _number(text)
    if column.type == "json":
        return _json(text)
    number = label_number(column, text)
    if number is not None:
        return _number(str(number))
    return string(text, column.charset)


def _exact(column: Column, exact: str, flavor: str | None) -> exp.Expression:
    if column.type == "enum":
        return exp.Literal(this="0", is_string=False)
    if column.type not in TEXT_TYPES:
        return string(exact)
    raw = exact_bytes(exact)
    check_storable(column, raw, flavor)
    return exp.HexString(this=raw.hex().upper())


def check_storable(column: Column, raw: bytes, flavor: str | None) -> None:
    """Raises NotComputable for bytes that no statement stores in the column: a server would cut or mend them."""
    if not storable(raw, column.charset or "", flavor):
        raise NotComputable(
            f"column `{column.name}` holds bytes that aren't valid {column.charset}, which no statement can store",
            hint="`rowback changes` shows them. Mend the value on the source, or leave the rows or the table out.",
        )


def _json(text: str) -> exp.Expression:
    special = document_sql(text)
    return exp.Var(this=special) if special else exp.Cast(this=string(text), to=exp.DataType.build("JSON"))


def label_number(column: Column, text: str) -> int | None:
    """The number of an ENUM's or SET's value that can't be written by its labels: one of them is given by its bytes
    (recovery.charset.label_text). None for all other values."""
    if column.type == "enum" and is_raw_label(text):
        return column.labels.index(text) + 1
    labels = text.split(",") if column.type == "set" else []
    if any(map(is_raw_label, labels)):
        return sum(1 << column.labels.index(label) for label in labels)
    return None


def guard(column: Column, value: object, exact: str | None = None) -> exp.Expression:
    """A condition that holds exactly when the column has this value; NULL-safe."""
    name = column_ref(column.name)
    if value is None and exact is None:
        return exp.Is(this=name, expression=exp.Null())
    if column.type == "enum" and (exact is not None or value == ""):
        # '' may be a label beside the invalid value; the number tells them apart (MySQL manual, "The ENUM Type").
        index = 0 if exact is not None else column.labels.index("") + 1
        return _same(exp.Add(this=name, expression=_number("0")), _number(str(index)))
    if column.type in TEXT_TYPES:
        return _same(_as_binary(name), _stored_bytes(column, value, exact))
    if column.type == "json" and isinstance(value, str):
        return _same(_as_binary(name), string(value))  # as JSON, a date in a document isn't equal to its text
    if column.type in ("geometry", "vector"):  # MySQL compares no VECTOR
        return _same(_as_binary(name), literal(column, value))
    if isinstance(value, str) and (number := label_number(column, value)) is not None:
        return _same(exp.Add(this=name, expression=_number("0")), _number(str(number)))
    return _same(name, literal(column, value, exact))


def literal_sql(column: Column, value: object, exact: str | None = None) -> str:
    """`literal` as text."""
    return literal(column, value, exact).sql(dialect=DIALECT)


def needs_loose_mode(column: Column, exact: str | None) -> bool:
    """Whether strict sql_mode refuses to store this value: only an ENUM's invalid one (Field_enum::store in
    sql/field.cc); zero and partial dates are allowed by leaving NO_ZERO_DATE out and ALLOW_INVALID_DATES in."""
    return column.type == "enum" and exact is not None


def identifier(name: str) -> exp.Identifier:
    return exp.Identifier(this=name, quoted=True)


def column_ref(name: str) -> exp.Column:
    return exp.Column(this=identifier(name))


def table_ref(db: str, table: str) -> exp.Table:
    return exp.Table(this=identifier(table), db=identifier(db))


def string(text: str, charset: str | None = None) -> exp.Expression:
    """A string literal that is the same in every sql_mode and under every connection character set. charset: that of
    the column it is for, if it has one."""
    plain = _is_plain(text)
    if plain and (charset is None or charset in LIKE_ASCII):
        return _plain(text)
    body = _plain(text) if plain else exp.HexString(this=text.encode().hex().upper())
    return exp.Introducer(this=exp.Var(this="_utf8mb4"), expression=body)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not _UNSAFE.intersection(text)


def _plain(text: str) -> exp.Literal:
    return exp.Literal(this=text, is_string=True)


def _as_binary(name: exp.Expression) -> exp.Expression:
    return exp.Cast(this=name, to=exp.DataType.build("BINARY", dialect=DIALECT))


def _stored_bytes(column: Column, value: object, exact: str | None) -> exp.Expression:
    """Text as CAST(column AS BINARY) gives it: in the column's own character set."""
    if exact is not None:
        return exp.HexString(this=exact_bytes(exact).hex().upper())
    if not isinstance(value, str):
        raise _unknown(column, value)
    try:
        raw = encode_text(value, column.charset or "utf8mb4")
    except ValueError as error:
        raise _unknown(column, value) from error
    if _is_plain(value) and raw == value.encode():
        return _plain(value)
    return exp.HexString(this=raw.hex().upper())


def _number(text: str) -> exp.Expression:
    # Not Literal.number: that normalises, and loses the exponent of "-1.5e0".
    if text.startswith("-"):
        return exp.Neg(this=exp.Literal(this=text[1:], is_string=False))
    return exp.Literal(this=text, is_string=False)


def _double(value: float) -> exp.Expression:
    """With an exponent, so that the server reads a DOUBLE and not a DECIMAL. A FLOAT comes here widened, exactly."""
    text = repr(value)
    return _number(text if "e" in text else f"{text.removesuffix('.0')}e0")


def _same(left: exp.Expression, right: exp.Expression) -> exp.Expression:
    return exp.NullSafeEQ(this=left, expression=right)


def _float_text(value: float, *, single: bool) -> str:
    text = str(np.float32(value)) if single else repr(value)
    mantissa, _, exponent = text.removesuffix(".0").partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _fraction(microsecond: int, fsp: int) -> str:
    return f".{microsecond:06d}"[: fsp + 1] if fsp else ""


def _datetime_text(value: datetime, fsp: int) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(UTC)
    day = f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
    return f"{day} {value.hour:02d}:{value.minute:02d}:{value.second:02d}{_fraction(value.microsecond, fsp)}"


def _time_text(value_us: int, fsp: int) -> str:
    seconds, microsecond = divmod(abs(value_us), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    sign = "-" if value_us < 0 else ""
    return f"{sign}{hours:02d}:{minute:02d}:{second:02d}{_fraction(microsecond, fsp)}"


def parse_value(column: Column, text: str) -> tuple[object, str | None]:
    """The inverse of `text_of`, for keys that a person types: (value, exact). Raises ValueError.

    `0x..` for a text column is taken for stored bytes if these have no text; who looks for it should look for the text, too.
    """
    kind = column.type
    if kind in INTEGER_BITS or kind in ("year", "bit"):
        return int(text), None
    if kind == "decimal":
        assert column.precision is not None
        number = Decimal(text)
        return (number, None) if column.precision <= 38 else (text, None)
    if kind in ("float", "double"):
        return float(text), None
    if kind in BINARY_TYPES:
        raw = bytes.fromhex(text[2:]) if text[:2].lower() == "0x" else text.encode()
        return (raw.ljust(column.octets or 0, b"\0") if kind == "binary" else raw), None
    if kind == "time":
        return _parse_time(text), None
    if kind in ("date", "datetime", "timestamp"):
        return _parse_moment(kind, text)
    if kind in TEXT_TYPES and _has_no_text(column, text):
        return None, text
    return (None, "") if kind == "enum" and not text and "" not in column.labels else (text, None)


def _has_no_text(column: Column, text: str) -> bool:
    """Whether this is how the archive gives bytes that have no text (it may all the same be a text that looks so)."""
    try:
        raw = exact_bytes(text)
    except ValueError:
        return False
    try:
        decode_text(raw, column.charset or "")
    except ValueError:
        return text == exact_text(raw)
    return False


def _parse_moment(kind: str, text: str) -> tuple[object, str | None]:
    try:
        if kind == "date":
            return date.fromisoformat(text), None
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, text  # a zero or partial date
    if kind == "timestamp":
        return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)), None
    return moment.replace(tzinfo=None), None


def _parse_time(text: str) -> int:
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text)
    clock, _, fraction = rest.partition(".")
    hours, minutes, seconds = (int(part) for part in [*clock.split(":"), "0", "0"][:3])
    total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((fraction + "000000")[:6])
    return sign * total


def _unknown(column: Column, value: object) -> NotComputable:
    return NotComputable(
        f"column `{column.name}` of type `{column.type}` holds a value of kind `{type(value).__name__}`",
        hint="The archive was written by another version: use the version that wrote it.",
    )
