"""The value that rows get which are there when a column is added: the DEFAULT as the server stores it, so that it equals
what later row images have. Whatever the server may have bent (in a mode that isn't strict, by the session's time zone or
date rules) is None: not known.

Sources: MySQL manual, "Data Type Default Values", "Date and Time Literals", "The SET Type", "The CHAR and VARCHAR Types".
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from math import isfinite
from typing import Final

from recovery.fixed_digits import as_stored, fixed_digits
from recovery.schema import INTEGER_BITS, Column

_DATE: Final = re.compile(r"[1-9]\d{3}-\d\d-\d\d")
_DATETIME: Final = re.compile(rf"{_DATE.pattern}(?: \d\d:\d\d:\d\d(?:\.(\d{{1,6}}))?)?")
_TIME: Final = re.compile(r"(-?)(\d{1,3}):([0-5]\d):([0-5]\d)(?:\.(\d{1,6}))?")
_WIDE: Final = Context(prec=300)
# Of a NOT NULL column without DEFAULT. A date without digits depends on the session's modes, so it isn't here.
_IMPLICIT: Final = {"char": "", "varchar": "", "text": "", "varbinary": "", "blob": "", "set": "", "time": "00:00:00"}


def stored(column: Column, literal: str) -> str | None:
    """A DEFAULT's literal (without quotes) as the archive writes the column's value, in the text that DuckDB casts to it:
    microseconds for TIME. None if that isn't known."""
    if column.type in ("decimal", *INTEGER_BITS):
        return _number(column, literal)
    if column.type in ("float", "double"):
        return _floating(column, literal)
    if column.type in ("char", "varchar", "text"):
        return _text(column, literal)
    if column.type in ("varbinary", "blob"):
        return literal if literal.isascii() and len(literal) <= (column.octets or len(literal)) else None
    if column.type == "enum":
        return _label(column, literal)
    if column.type == "set":
        labels = [_label(column, part) for part in literal.split(",")] if literal else []
        known = None not in labels
        return ",".join(label for label in column.labels if label in labels) if known else None
    return _temporal(column, literal)


def implicit(column: Column) -> str | None:
    """The same for NOT NULL without DEFAULT (implicit defaults)."""
    if column.type == "enum":
        return column.labels[0]
    if column.type in ("decimal", "float", "double", *INTEGER_BITS):
        return stored(column, "0")
    if column.type == "year":
        return "0"
    literal = _IMPLICIT.get(column.type)
    return stored(column, literal) if literal is not None else None


def _number(column: Column, literal: str) -> str | None:
    try:
        value = Decimal(literal.strip())
    except InvalidOperation:
        return None
    scale = column.scale or 0 if column.type == "decimal" else 0
    digits = len(value.as_tuple().digits) + scale + abs(value.adjusted())
    if not value.is_finite() or digits > 200:
        return None
    with_scale = _rounded(value, scale)
    if column.type == "decimal":
        fits = abs(with_scale) < Decimal(10) ** ((column.precision or 0) - scale)
    else:
        bits = INTEGER_BITS[column.type]
        low, high = (0, 2**bits - 1) if column.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        fits = low <= with_scale <= high
    if column.unsigned and with_scale < 0:
        fits = False
    return f"{abs(with_scale) if with_scale == 0 else with_scale:f}" if fits else None


def _floating(column: Column, literal: str) -> str | None:
    """FLOAT as the double that it is, for it may have become one since."""
    if not re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", literal):
        return None
    value, digits = float(literal), fixed_digits(column)
    if value == 0 and literal.startswith("-") and digits is None:
        return None  # MySQL has a negative zero there, MariaDB hasn't
    if not isfinite(value) or (column.unsigned and value < 0):
        return None
    held = digits.stored(value) if digits is not None else as_stored(column.type, value)
    return repr(held) if held is not None else None


def _rounded(value: Decimal, scale: int) -> Decimal:
    shifted = value.scaleb(scale, context=_WIDE).quantize(Decimal(1), ROUND_HALF_UP, context=_WIDE)
    return shifted.scaleb(-scale, context=_WIDE)


def _text(column: Column, literal: str) -> str | None:
    text = literal.rstrip(" ") if column.type == "char" else literal
    narrow = column.charset in ("utf8mb3", "utf8", "ucs2") and max(text, default="") <= "\uffff"
    western = column.charset == "latin1" and all(ord(c) < 0x80 or 0xA0 <= ord(c) <= 0xFF for c in text)
    wide = column.charset in ("utf8mb4", "utf16", "utf16le", "utf32")
    if not (text.isascii() or narrow or western or wide):
        return None
    return text


def _label(column: Column, literal: str) -> str | None:
    if literal in column.labels:
        return literal
    alike = [label for label in column.labels if label.casefold() == literal.casefold()]
    return alike[0] if len(alike) == 1 and literal.isascii() else None


def _temporal(column: Column, literal: str) -> str | None:
    """Dates as they are, if they are dates and there is nothing to make of them, as of two digits for a year."""
    fsp = column.fsp or 0
    if column.type == "date":
        return literal if _DATE.fullmatch(literal) and _exists(literal) else None
    if column.type == "year":
        return literal if re.fullmatch(r"19\d\d|20\d\d|21[0-4]\d", literal) else None
    if column.type == "datetime":
        found = _DATETIME.fullmatch(literal)
        exact = found is not None and len((found.group(1) or "").rstrip("0")) <= fsp
        return literal if exact and _exists(literal.partition(".")[0]) else None
    if column.type == "time" and (parts := _TIME.fullmatch(literal)) and int(parts[2]) <= 838:
        fraction = (parts[5] or "").rstrip("0")
        us = ((int(parts[2]) * 60 + int(parts[3])) * 60 + int(parts[4])) * 1_000_000 + int(fraction.ljust(6, "0") or 0)
        return f"{'-' if parts[1] and us else ''}{us}" if len(fraction) <= fsp and us <= 3_020_399_000_000 else None
    return None


def _exists(moment: str) -> bool:
    try:
        datetime.fromisoformat(moment)
    except ValueError:
        return False
    return True
