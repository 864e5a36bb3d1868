"""Strings of a client that doesn't speak UTF-8, of which the server takes the bytes and not the characters.

The archive has statements as characters, and they are run again in UTF-8: what stands in a VARBINARY or behind an introducer
would be other bytes. Comments and names are characters whatever the client speaks. Pure. Sources: the MySQL manual,
"Character Set Introducers", "Connection Character Sets and Collations" (`binary`: no conversion).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recovery.sqlscan import Word, scan

_UTF8: Final = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_BINARY: Final = ("BINARY", "VARBINARY", "BYTE", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB")


def bytes_matter(text: str, charset: str, sql_mode: int) -> str | None:
    """Why a statement of a client in this character set may not be the same in UTF-8. Says so in doubt."""
    if charset in _UTF8 or text.isascii():
        return None
    words = list(scan(text, sql_mode))
    values = [
        at
        for at, word in enumerate(words)
        if word.kind == "string" and not text[word.start : word.end].isascii() and not _comments(words, at)
    ]
    if not values:
        return None
    if charset == "binary":
        return "its strings are bytes of a client in the character set binary"
    if any(_introduced(words, at) for at in values):
        return f"an introducer stands before a string of a client in {charset}"
    # An ALTER that gives a default or partitions doesn't say of which type the column is.
    if any(word.says(*_BINARY) for word in words) or (
        words[0].says("ALTER") and any(word.says("VALUES") or _sets_default(words, at) for at, word in enumerate(words))
    ):
        return f"a string of a client in {charset} may be that of a binary column"
    return None


def _comments(words: Sequence[Word], at: int) -> bool:
    before = at - 2 if at > 1 and words[at - 1].says("=") else at - 1
    return before >= 0 and words[before].says("COMMENT")


def _introduced(words: Sequence[Word], at: int) -> bool:
    """N'..' is one too."""
    while at and words[at - 1].kind == "string":  # 'a' 'b' is one string
        at -= 1
    before = words[at - 1] if at else None
    if before is None or before.kind != "word":
        return False
    return before.text.startswith("_") or (before.says("N") and before.end == words[at].start)


def _sets_default(words: Sequence[Word], at: int) -> bool:
    return at > 0 and words[at - 1].says("SET") and words[at].says("DEFAULT")
