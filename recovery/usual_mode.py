"""Statements on tables and databases, as they are written under the usual sql_mode.

What another mode makes of quotes, backslashes and REAL is a matter of text, and is written anew; what it makes of `||` or
`-` isn't, and stays (recovery/other_settings.py). A statement of which a part isn't certain keeps its mode. Those on views,
triggers, routines and events aren't touched: they run under the mode that they were made with. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from recovery.archive.actions import Session
from recovery.quoting import quote
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES, Word, scan
from recovery.statement_settings import computed

REAL_AS_FLOAT: Final = 1
_ORACLE: Final = 512
_TEXTUAL: Final = REAL_AS_FLOAT | ANSI_QUOTES | NO_BACKSLASH_ESCAPES
_VERBS: Final = frozenset({
    "CREATE TABLE", "ALTER TABLE", "CREATE INDEX", "DROP INDEX", "DROP TABLE", "RENAME TABLE", "TRUNCATE TABLE",
    "CREATE DATABASE", "ALTER DATABASE", "DROP DATABASE", "CREATE SEQUENCE", "ALTER SEQUENCE", "DROP SEQUENCE",
})  # fmt: skip


def in_usual_mode(statement: str, verb: str, session: Session) -> tuple[str, Session]:
    """The statement, and the session with the sql_mode that it is to be read under. verb: as `recovery.ddl.classify` has
    it."""
    mode = session.sql_mode
    if not mode & _TEXTUAL or mode & _ORACLE or verb not in _VERBS:
        return statement, session
    if mode & NO_BACKSLASH_ESCAPES and "\\" in statement and computed(statement):
        # MySQL keeps an expression printed with two backslashes, which a session in that mode reads again as two; and a
        # pattern (LIKE) has no escape character in that mode.
        return statement, session
    found, at = [], 0
    for word, text in _changed(statement, mode):
        found += [statement[at : word.start], text]
        at = word.end
    return "".join([*found, statement[at:]]), replace(session, sql_mode=mode & ~_TEXTUAL)


def _changed(statement: str, mode: int) -> Iterator[tuple[Word, str]]:
    for word in scan(statement, mode):
        if word.kind == "name" and statement[word.start] == '"':
            yield word, quote(word.text)
        elif word.kind == "string" and mode & NO_BACKSLASH_ESCAPES and "\\" in word.text:
            yield word, statement[word.start : word.end].replace("\\", "\\\\")
        elif mode & REAL_AS_FLOAT and word.says("REAL"):
            yield word, "FLOAT"
