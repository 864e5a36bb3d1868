"""Texts that a collation may take for one another, without emulating any collation: a superset that says too much rather
than too little.

`folded` is equal for two texts whenever a collation of MySQL or MariaDB that isn't binary may find them equal: without case,
accents, width, kana, ignorable characters and spaces at the end (MySQL manual, "Unicode Character Sets"; PAD SPACE in "The
binary Collation Compared to _bin Collations"). Unless the collation is known to be of no language, letters are one that
languages take for two or for each other: ä = ae in german2, ü = y in Swedish, å = aa in Danish. `may_equal` spares texts of
plain ASCII what only others do to them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

import duckdb

# Letters that Unicode doesn't take apart and collations (UCA's, general_ci's) file under others.
_LETTERS: Final = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "ł": "l",
        "ŧ": "t",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
        "\u0131": "i",
        "ŋ": "n",
    }
)
_KANA: Final = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}  # katakana to hiragana
_IGNORED: Final = ("Mn", "Mc", "Me", "Cf", "Cc")
_ALWAYS: Final = (("ss", "s"),)  # of which `ß` may be either
_TAILORED: Final = (*_ALWAYS, ("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a"), ("y", "u"))
_NO_LANGUAGE: Final = frozenset({"general", "unicode", "520", "0900", "uca1400", "nopad", "ai", "as", "ci", "cs"})
_PLAIN: Final = "[ -~]*"
_FUNCTION: Final = "rowback_alike"


def binary(collation: str | None) -> bool:
    """Whether it compares bytes, but for spaces at the end. None: a collation that isn't known."""
    return collation is not None and (collation.endswith("_bin") or collation == "binary")


def folded(text: str, collation: str | None = None) -> str:
    if binary(collation):
        return text.rstrip(" ")
    if re.fullmatch(_PLAIN, text) is None:
        text = text.translate(_APART)
    text = text.lower()
    for letters, one in _pairs(collation):
        text = text.replace(letters, one)
    return text.rstrip(" ")


def may_equal(a: str, b: str, collation: str | None = None) -> bool:
    if re.fullmatch(_PLAIN, a) and re.fullmatch(_PLAIN, b) and not binary(collation):
        a, b = a.rstrip(" "), b.rstrip(" ")
        return a == b if cased(collation) else a.lower() == b.lower()
    return folded(a, collation) == folded(b, collation)


def cased(collation: str | None) -> bool:
    return collation is not None and collation.endswith("_cs")


class _Apart(dict[int, str]):
    """For str.translate: what is left of a character. Each is looked up once."""

    def __missing__(self, code: int) -> str:
        text = unicodedata.normalize("NFKD", chr(code).casefold()).casefold().translate(_LETTERS).translate(_KANA)
        kept = (c for c in text if unicodedata.category(c) not in _IGNORED)
        # The older collations give all characters above U+FFFF one weight.
        self[code] = "".join(c if c <= "\uffff" else "\ufffd" for c in kept)
        return self[code]


_APART: Final = _Apart()


def _pairs(collation: str | None) -> tuple[tuple[str, str], ...]:
    named = collation.split("_")[1:] if collation is not None else []
    return _ALWAYS if named and _NO_LANGUAGE.issuperset(named) else _TAILORED


# --- the same in DuckDB -----------------------------------------------------------------------------------------------


def folded_sql(value: str, collation: str | None = None) -> str:
    """An expression over a VARCHAR expression. Needs `register`."""
    if binary(collation):
        return f"rtrim({value}, ' ')"
    plain = f"lower({value})"
    for letters, one in _pairs(collation):
        plain = f"replace({plain}, '{letters}', '{one}')"
    plain = f"rtrim({plain}, ' ')"
    other = f"{_FUNCTION}({value}, '{collation or ''}')"
    return f"CASE WHEN regexp_full_match({value}, '{_PLAIN}') THEN {plain} ELSE {other} END"


def may_equal_sql(a: str, b: str, collation: str | None = None) -> str:
    """What `may_equal` says besides equal `folded_sql`."""
    if binary(collation):
        return "true"
    one, other = (f"rtrim({v}, ' ')" if cased(collation) else f"lower(rtrim({v}, ' '))" for v in (a, b))
    both = " AND ".join(f"regexp_full_match({v}, '{_PLAIN}')" for v in (a, b))
    return f"({one} = {other} OR NOT ({both}))"


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Names belong to the connection: once per connection."""
    text: Any = duckdb.sqltypes.VARCHAR
    connection.create_function(_FUNCTION, lambda value, collation: folded(value, collation or None), [text, text], text)


def unregister(connection: duckdb.DuckDBPyConnection) -> None:
    connection.remove_function(_FUNCTION)
