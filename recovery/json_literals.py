"""JSON documents as SQL, so that the server prints them again as they were.

The text of a document, cast to JSON, is that document but for one thing: a DECIMAL inside it (1.50, or 25 digits) would
come back as a DOUBLE and print otherwise (1.5, 1.2e24). Such numbers are put into their places as DECIMALs. Dates, times
and binary values inside a document come back as the strings that they print as.

How MySQL prints a DOUBLE in JSON: without an exponent below 1e15, the shortest digits that read back as the same, at
least one of them behind the point (sql-common/json_dom.cc, Json_double; measured on 9.7).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

# What a number that isn't plain has somewhere, as a regular expression for DuckDB: a zero at its end behind the point, many
# digits, or zeros behind the point. Strings may have it, too: `document_sql` looks closer.
SUSPECT: Final = r"\.[0-9]+0([^0-9eE]|$)|[0-9.]{16}|0\.000"
_MAX_DIGITS, _MAX_SCALE = 65, 30  # of a DECIMAL


class _Number(str):
    """A number of the document, as it is printed."""

    __slots__ = ()


def document_sql(text: str) -> str | None:
    """The expression for a document with such numbers; None for one without, whose text is enough.

    Written by hand: a restore may have millions of them.
    """
    found = list(_walk("$", json.loads(text, parse_float=_Number, parse_int=_Number)))
    if not found:
        return None
    placed = ", ".join(f"{_string(path)}, CAST('{number}' AS {_decimal(number)})" for path, number in found)
    return f"JSON_SET(CAST({_string(text)} AS JSON), {placed})"


def _string(text: str) -> str:
    """As recovery.literals.string writes it."""
    if text.isascii() and text.isprintable() and "'" not in text and "\\" not in text:
        return f"'{text}'"
    return f"_utf8mb4 x'{text.encode().hex().upper()}'"


def _decimal(number: str) -> str:
    """The type that holds just this number."""
    whole, _, fraction = number.removeprefix("-").partition(".")
    return f"DECIMAL({len(whole) + len(fraction)}, {len(fraction)})"


def _walk(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, _Number):
        if not _plain(value):
            yield path, str(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(f"{path}.{json.dumps(key, ensure_ascii=False)}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(f"{path}[{index}]", item)


def _plain(number: str) -> bool:
    if "e" in number or "E" in number:
        return True  # only a DOUBLE prints so
    whole, point, fraction = number.removeprefix("-").partition(".")
    if not point:
        return -(2**63) <= int(number) < 2**64
    if len(whole) <= 15 and (float(number) == 0 or abs(float(number)) >= 1e-4):
        return repr(float(number)) == number
    # A DOUBLE below 1e-4 may print like this, too; a DECIMAL of the same digits prints the same.
    return len(whole) + len(fraction) > _MAX_DIGITS or len(fraction) > _MAX_SCALE
