"""Definitions that mean something else without the settings of the session that ran them: what can't be made again.

What a statement can be given along is recovery/statement_settings.py's. Bits of sql_mode: MySQL's sql/system_variables.h and
MariaDB's sql/sql_class.h, which agree on these.
"""

from __future__ import annotations

import re
from typing import Final

from recovery.archive.actions import Ddl
from recovery.kept_bytes import bytes_matter
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES
from recovery.statement_settings import EXPLICIT, computed, implicit_timestamp, in_unknown_zone
from recovery.usual_mode import REAL_AS_FLOAT

_NO_UNSIGNED_SUBTRACTION: Final = 64  # goes by the session that computes, not by the one that defines
_PAD_CHAR_TO_FULL_LENGTH: Final = 1 << 31  # so does this one
_ORACLE: Final = 512
_EMPTY_STRING_IS_NULL: Final = 1 << 32
_MODES: Final = (
    (REAL_AS_FLOAT, "REAL_AS_FLOAT", re.compile(r"\bREAL\b", re.IGNORECASE)),
    (ANSI_QUOTES, "ANSI_QUOTES", re.compile('"')),
    (_ORACLE, "ORACLE", re.compile("")),
    (NO_BACKSLASH_ESCAPES, "NO_BACKSLASH_ESCAPES", re.compile(r"\\")),
    (_EMPTY_STRING_IS_NULL, "EMPTY_STRING_IS_NULL", re.compile("''")),
)
_CHAR: Final = re.compile(r"\b(?:N?CHAR|CHARACTER|NATIONAL)\b", re.IGNORECASE)
_UNUSUAL: Final = re.compile(r"\b(?:TIMESTAMP|UTF8MB4)\b", re.IGNORECASE)


def other_settings(ddl: Ddl, flavor: str | None) -> str | None:
    """Why a statement on a table may not make the same definition again, given its settings; None if it does, as far as is
    known."""
    session, text = ddl.session, ddl.statement
    if session is None or ddl.verb.startswith(("DROP", "RENAME", "TRUNCATE")):
        return None
    for bit, name, found in _MODES:
        if session.sql_mode & bit and found.search(text):
            return f"it ran under sql_mode {name}"
    if (why := computed_otherwise(ddl)) is not None:
        return why
    if not session.charset and not text.isascii():
        return "its text is in a character set of the client that isn't known"
    if (why := bytes_matter(text, session.charset, session.sql_mode)) is not None:
        return why
    if not session.complete and _UNUSUAL.search(text):
        return "it may have run under an explicit_defaults_for_timestamp or default_collation_for_utf8mb4 of its own"
    if flavor == "mariadb" and session.explicit_timestamps is None and implicit_timestamp(text):
        return f"what a TIMESTAMP without NULL or DEFAULT is goes by {EXPLICIT}, which the binlog doesn't have"
    if in_unknown_zone(text, session):
        return "its moments are in the time zone of the source's operating system, which isn't known"
    return None


def computed_otherwise(ddl: Ddl) -> str | None:
    """Why an expression may have other values on a server that computes it later; None if it hasn't."""
    text, mode = ddl.statement, 0 if ddl.session is None else ddl.session.sql_mode
    if not mode & (_NO_UNSIGNED_SUBTRACTION | _PAD_CHAR_TO_FULL_LENGTH) or not computed(text):
        return None
    if mode & _NO_UNSIGNED_SUBTRACTION and "-" in text:
        return "it ran under sql_mode NO_UNSIGNED_SUBTRACTION"
    padded = ddl.verb != "CREATE TABLE" or _CHAR.search(text)  # others don't say of which types the columns are
    return "it ran under sql_mode PAD_CHAR_TO_FULL_LENGTH" if mode & _PAD_CHAR_TO_FULL_LENGTH and padded else None
