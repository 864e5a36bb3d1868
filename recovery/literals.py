"""One value as SQL and as text: literals that mean the same under every sql_mode, guards that match exactly that value.

Promises, each proved on real servers by tests/test_literals.py and tests/test_undo.py:
- `literal` stores the value again, bit for bit, whatever sql_mode, ANSI_QUOTES and NO_BACKSLASH_ESCAPES included: a
  string literal holds printable ASCII without a quote or a backslash, everything else is `_utf8mb4 X'..'` or `X'..'`.
- `guard` is true for exactly that value: text by its stored bytes (a collation takes 'a' for 'A'), FLOAT by the double
  that it widens to (MySQL manual, "Problems with Floating-Point Values": FLOAT = 1.1 is false), NULL by `<=>`.
- TIMESTAMP values are UTC: the script that holds them pins time_zone to '+00:00'.
A guard for JSON compares as JSON, for which 1.0 equals 1, and 0.0 equals -0.0 for the servers: both are accepted.

Values are the archive's (recovery.schema.arrow_type, as Python objects); `exact` is the entry of `_rb_exact`, for
values that the type can't hold: zero and partial dates, and the empty text of an ENUM's invalid value (index 0).
Vectorised rendering for dumps is recovery/dump.py's; this module is for what a person reviews.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
from sqlglot import exp

from recovery.charset import encode_text
from recovery.errors import NotComputable
from recovery.schema import BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

DIALECT = "mysql"
_UNSAFE = frozenset("'\\")
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


def literal(column: Column, value: object, exact: str | None = None) -> exp.Expression:
    """An expression that stores this value in this column. An ENUM's invalid value is the number 0, which strict mode
    refuses (`needs_loose_mode`)."""
    if exact is None and value is None:
        return exp.Null()
    if exact is not None:
        return exp.Literal(this="0", is_string=False) if column.type == "enum" else string(exact)
    if isinstance(value, bytes):
        return exp.HexString(this=value.hex().upper())
    if isinstance(value, float):
        return _double(float(value))
    text = text_of(column, value)
    assert text is not None
    if column.type in INTEGER_BITS or column.type in ("decimal", "year"):
        return _number(text)
    if column.type == "json":
        return exp.Cast(this=string(text), to=exp.DataType.build("JSON"))
    return string(text)


def guard(column: Column, value: object, exact: str | None = None) -> exp.Expression:
    """A condition that holds exactly when the column has this value; NULL-safe."""
    name = column_ref(column.name)
    if value is None and exact is None:
        return exp.Is(this=name, expression=exp.Null())
    if column.type == "enum" and (exact is not None or value == ""):
        # '' may be a label beside the invalid value; the number tells them apart (MySQL manual, "The ENUM Type").
        index = 0 if exact is not None else column.labels.index("") + 1
        return _same(exp.Add(this=name, expression=_number("0")), _number(str(index)))
    if column.type in TEXT_TYPES and isinstance(value, str):
        stored = exp.Cast(this=name, to=exp.DataType.build("BINARY", dialect=DIALECT))
        return _same(stored, _plain(value) if _is_plain(value) else _stored_bytes(column, value))
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


def identifier_sql(*parts: str) -> str:
    """Quoted and dotted: "`shop`.`orders`"."""
    return ".".join(identifier(part).sql(dialect=DIALECT) for part in parts)


def string(text: str) -> exp.Expression:
    """A string literal that is the same in every sql_mode and under every connection character set."""
    if _is_plain(text):
        return _plain(text)
    return exp.Introducer(this=exp.Var(this="_utf8mb4"), expression=exp.HexString(this=text.encode().hex().upper()))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not _UNSAFE.intersection(text)


def _plain(text: str) -> exp.Literal:
    return exp.Literal(this=text, is_string=True)


def _stored_bytes(column: Column, text: str) -> exp.Expression:
    """The text in the column's own character set, as CAST(column AS BINARY) gives it."""
    return exp.HexString(this=encode_text(text, column.charset or "utf8mb4").hex().upper())


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
    """The inverse of `text_of`, for keys that a person types: (value, exact). Raises ValueError."""
    kind = column.type
    if kind in INTEGER_BITS or kind == "year":
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
    return (None, "") if kind == "enum" and not text and "" not in column.labels else (text, None)


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
