"""Definitions that mean something else without the settings of the session that ran them.

A restore runs the logged statements under the target's usual settings. What those would make another table of is refused;
but for explicit_defaults_for_timestamp, which MariaDB's statements can bring along (MySQL asks a privilege for it).
Bits of sql_mode: MySQL's sql/system_variables.h and MariaDB's sql/sql_class.h, which agree on these.
"""

from __future__ import annotations

import re
from typing import Final

from recovery.archive.actions import Ddl, Session
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES

_REAL_AS_FLOAT: Final = 1
_PIPES_AS_CONCAT: Final = 2
_NO_UNSIGNED_SUBTRACTION: Final = 64
_ORACLE: Final = 512
_HIGH_NOT_PRECEDENCE: Final = 1 << 29
_EMPTY_STRING_IS_NULL: Final = 1 << 32

# Generated columns, checks, defaults that are expressions (MariaDB's also without parentheses), keys on expressions.
_COMPUTED: Final = re.compile(r"\b(?:AS|CHECK|DEFAULT(?:\s+\w+)?)\s*\(|\(\s*\(", re.IGNORECASE)
_NOT: Final = re.compile(r"\bNOT\b(?!\s+(?:NULL|EXISTS|ENFORCED)\b)", re.IGNORECASE)
_MODES: Final = (
    (_REAL_AS_FLOAT, "REAL_AS_FLOAT", re.compile(r"\bREAL\b", re.IGNORECASE)),
    (_PIPES_AS_CONCAT, "PIPES_AS_CONCAT", re.compile(r"\|\|")),
    (ANSI_QUOTES, "ANSI_QUOTES", re.compile('"')),
    (_ORACLE, "ORACLE", re.compile("")),
    (NO_BACKSLASH_ESCAPES, "NO_BACKSLASH_ESCAPES", re.compile(r"\\")),
    (_EMPTY_STRING_IS_NULL, "EMPTY_STRING_IS_NULL", re.compile("''")),
)
_IN_EXPRESSIONS: Final = (
    (_NO_UNSIGNED_SUBTRACTION, "NO_UNSIGNED_SUBTRACTION", re.compile("-")),
    (_HIGH_NOT_PRECEDENCE, "HIGH_NOT_PRECEDENCE", _NOT),
)
_UNUSUAL: Final = re.compile(r"\b(?:TIMESTAMP|UTF8MB4)\b", re.IGNORECASE)
# A TIMESTAMP column that doesn't say NULL, nor NOT NULL and a default: MariaDB manual, "explicit_defaults_for_timestamp".
_IMPLICIT_TIMESTAMP: Final = re.compile(
    r"(?<!`)\bTIMESTAMP\b(?:\s*\(\s*\d+\s*\))?+(?!\s*(?:NULL\b|NOT\s+NULL\s+DEFAULT\b))", re.IGNORECASE
)
_SET_STATEMENT: Final = re.compile(r"\s*SET\s+STATEMENT\s+", re.IGNORECASE)
_EXPLICIT: Final = "explicit_defaults_for_timestamp"


def other_settings(ddl: Ddl, flavor: str | None) -> str | None:
    """Why a statement on a table may not make the same definition again; None if it does, as far as is known, once it is
    written `with_settings`."""
    session, text = ddl.session, ddl.statement
    if session is None or ddl.verb.startswith(("DROP", "RENAME", "TRUNCATE")):
        return None
    for bit, name, found in _MODES:
        if session.sql_mode & bit and found.search(text):
            return f"it ran under sql_mode {name}"
    if _COMPUTED.search(text):
        for bit, name, found in _IN_EXPRESSIONS:
            if session.sql_mode & bit and found.search(text):
                return f"it ran under sql_mode {name}"
        if not text.isascii() and not _unicode(session):
            return f"its expressions have text in the client's character set {session.charset or '(unknown)'}"
    if not session.complete and _UNUSUAL.search(text):
        return "it may have run under an explicit_defaults_for_timestamp or default_collation_for_utf8mb4 of its own"
    if flavor == "mariadb" and session.explicit_timestamps is None and _IMPLICIT_TIMESTAMP.search(text):
        return f"what a TIMESTAMP without NULL or DEFAULT is goes by {_EXPLICIT}, which the binlog doesn't have"
    return None


def implicit_timestamps(ddl: Ddl) -> bool:
    """Whether the statement may make a TIMESTAMP column other than it says: NOT NULL, with a default."""
    explicit = ddl.session is not None and ddl.session.explicit_timestamps
    return explicit is False and _IMPLICIT_TIMESTAMP.search(ddl.statement) is not None


def with_settings(statement: str, session: Session | None, flavor: str | None) -> str:
    """The statement of a table, with what it needs of the session that ran it."""
    explicit = None if session is None else session.explicit_timestamps
    if flavor != "mariadb" or explicit is None or not _IMPLICIT_TIMESTAMP.search(statement):
        return statement
    own = _SET_STATEMENT.match(statement)
    if own is None:
        return f"SET STATEMENT {_EXPLICIT}={int(explicit)} FOR {statement}"
    return f"SET STATEMENT {_EXPLICIT}={int(explicit)}, {statement[own.end() :]}"


def _unicode(session: Session) -> bool:
    return session.charset in ("utf8mb4", "utf8mb3", "utf8")
