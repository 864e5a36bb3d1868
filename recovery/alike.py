"""Texts that a collation may take for one another, without emulating any collation.

Servers compare keys by collation, and archives hold text without one. `loose` maps texts that the collation might take for
equal to one text, and says None where that isn't known: two keys with different bytes that have equal forms, or one of which
has none, are ambiguous, and whoever depends on which it is must refuse. tests/test_derive.py asks the servers.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

import duckdb

# Collations that order Unicode by the default table; others have rules of one language (Swedish: `ü` is `y`).
_PLAIN: Final = re.compile(
    r"utf8(mb[34])?_(general|unicode|unicode_520|0900|uca1400)(_(ai|as|nopad))*_(ci|cs|bin)|utf8(mb[34])?_bin|ascii_\w+"
)
# Collations that take different letters of ASCII for equal (Latin: `i` and `j`; Lithuanian: `c` and `ch`; Big5: `e` and a
# backquote), as the servers' weights show.
_ODD: Final = re.compile(
    r"(big5|gbk|gb2312|geostd8|koi8u|macce|swe7)_\w*|cp1251_ukrainian_\w+|\w+_(lithuanian|roman)_\w+|\w+_la_0900_\w+"
)
# Letters whose equals are known (tests/test_derive.py asks the servers): Latin with its accents, Greek, Cyrillic, Han,
# Hangul, and what lies beyond the basic plane.
_KNOWN: Final = re.compile(
    "[\x20-\x7e\xa1-\u017f\u0386-\u03ce\u0400-\u045f\u0490\u0491\u4e00-\u9fff\uac00-\ud7a3\U00010000-\U0010ffff]*"
)
_LETTERS: Final = str.maketrans({
    "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "\u0131": "i", "þ": "th", "ŋ": "n", "ŧ": "t",
    "\u0491": "\u0433", "·": "", "w": "v", "y": "i",  # the last two in Swedish, in Lithuanian
})  # fmt: skip
_PRINTED: Final = "[ -~]*"  # ASCII that has nothing to leave out
_FUNCTION: Final = "rowback_loose"


def loose(text: str, collation: str | None) -> str | None:
    """A text that is the same for all texts that this collation may take for equal; None if that can't be said. collation:
    None if it isn't known."""
    if _odd(collation):
        return None
    if _binary(collation):
        return text.rstrip(" ")  # PAD SPACE
    if not text.isascii():
        if not (_plain(collation) and _KNOWN.fullmatch(text)):
            return None
        text = unicodedata.normalize("NFKD", text)
    letters = (c for c in text.casefold() if unicodedata.category(c)[0] not in "MC")
    # One weight for all that lies beyond the basic plane in the older collations.
    folded = "".join("\ufffd" if c > "\uffff" else c for c in letters).translate(_LETTERS)
    # utf8mb4_general_ci takes one `s` for a sharp s, which casefold makes two of.
    return re.sub("s+", "s", folded).rstrip(" ")


def may_equal(a: str, b: str, collation: str | None) -> bool:
    """Of two texts with equal loose forms. Collations of no language take nothing but the case of ASCII for equal."""
    if not _plain(collation) or _binary(collation) or not (re.fullmatch(_PRINTED, a) and re.fullmatch(_PRINTED, b)):
        return True
    a, b = a.rstrip(" "), b.rstrip(" ")
    return a == b if _cased(collation) else a.lower() == b.lower()


def _odd(collation: str | None) -> bool:
    return collation is not None and _ODD.fullmatch(collation) is not None


def _plain(collation: str | None) -> bool:
    return collation is not None and _PLAIN.fullmatch(collation) is not None


def _binary(collation: str | None) -> bool:
    return collation is not None and (collation.endswith("_bin") or collation == "binary")


def _cased(collation: str | None) -> bool:
    return collation is not None and collation.endswith("_cs")


# --- the same in DuckDB -----------------------------------------------------------------------------------------------


def loose_sql(value: str, collation: str | None) -> str:
    """An expression over a VARCHAR expression; NULL also where `loose` is None. Needs `register`."""
    if _odd(collation):
        return f"nullif({value}, {value})"
    if _binary(collation):
        return f"rtrim({value}, ' ')"
    printed = f"rtrim(regexp_replace(translate(lower({value}), 'wy', 'vi'), 's+', 's', 'g'), ' ')"
    other = f"{_FUNCTION}({value}, '{collation or ''}')"
    return f"CASE WHEN regexp_full_match({value}, '{_PRINTED}') THEN {printed} ELSE {other} END"


def may_equal_sql(a: str, b: str, collation: str | None) -> str:
    """As `may_equal`."""
    if not _plain(collation) or _binary(collation):
        return "true"
    one, other = (f"rtrim({v}, ' ')" if _cased(collation) else f"lower(rtrim({v}, ' '))" for v in (a, b))
    both = " AND ".join(f"regexp_full_match({v}, '{_PRINTED}')" for v in (a, b))
    return f"({one} = {other} OR NOT ({both}))"


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Names belong to the connection: once per connection."""
    text: Any = duckdb.sqltypes.VARCHAR
    special: Any = "special"  # it takes and gives NULL

    def form(value: str | None, collation: str) -> str | None:
        return None if value is None else loose(value, collation or None)

    connection.create_function(_FUNCTION, form, [text, text], text, null_handling=special)


def unregister(connection: duckdb.DuckDBPyConnection) -> None:
    connection.remove_function(_FUNCTION)
