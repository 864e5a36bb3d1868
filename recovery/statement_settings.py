"""Settings of the session that ran a statement on a table, without which a server would make something else of it.

They stand as a comment in front of the statement's text, so that whatever reads or rewrites the text need not know of them;
what is written for a server has them as SET statements around it. Sources: the MySQL manual, "Server SQL Modes", "Connection
Character Sets and Collations", "MySQL Server Time Zone Support"; MariaDB's "explicit_defaults_for_timestamp".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from recovery.archive.actions import Ddl, Session

SQL_MODE: Final = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"
"""Of the files that a restore writes: strict modes are off (the source may hold what they refuse), a 0 in an AUTO_INCREMENT
column stays 0, and invalid dates are let through (MySQL manual, "Server SQL Modes")."""
EXPLICIT: Final = "explicit_defaults_for_timestamp"

_TEXT: Final = r"'[\w+:/,-]*'"
_ALTER_HISTORY: Final = "system_versioning_alter_history"
_SETTING: Final = (
    rf"(?:sql_mode={_TEXT}|time_zone={_TEXT}|collation_connection=\d+|{EXPLICIT}=[01]|{_ALTER_HISTORY}=KEEP|"
    r"timestamp=\d+\.\d+)"
)
_NOTE: Final = re.compile(rf"/\*rowback ({_SETTING}(?:; {_SETTING})*)\*/ ")

# Generated columns, checks, defaults that are expressions (MariaDB's also without parentheses), keys on expressions.
_COMPUTED: Final = re.compile(r"\b(?:AS|CHECK|DEFAULT(?:\s+\w+)?)\s*\(|\(\s*\(", re.IGNORECASE)
_NOT: Final = re.compile(r"\bNOT\b(?!\s+(?:NULL|EXISTS|ENFORCED)\b)", re.IGNORECASE)
_MODES: Final = (  # bits of sql_mode that change how an expression is read, and where
    (2, "PIPES_AS_CONCAT", re.compile(r"\|\|")),
    (1 << 29, "HIGH_NOT_PRECEDENCE", _NOT),
)
# A moment as text or number: the default of a TIMESTAMP, an argument of UNIX_TIMESTAMP.
_MOMENT: Final = re.compile(
    r"\bTIMESTAMP\b[^,]*\bDEFAULT\s+(?:TIMESTAMP\s*)?(?!'0000-00-00|0\b)['\d]|"
    r"\bUNIX_TIMESTAMP\s*\(\s*['\d]|\bSET\s+DEFAULT\b",
    re.IGNORECASE,
)
# A TIMESTAMP column that doesn't say NULL, nor NOT NULL and a default: MariaDB manual, "explicit_defaults_for_timestamp".
_IMPLICIT_TIMESTAMP: Final = re.compile(
    r"(?<!`)\bTIMESTAMP\b(?:\s*\(\s*\d+\s*\))?+(?!\s*(?:NULL\b|NOT\s+NULL\s+DEFAULT\b))", re.IGNORECASE
)
_ZONE: Final = re.compile(r"[\w+:/-]+")
_DEFAULT_COLLATIONS: Final = {
    "mysql": 255,
    "mariadb": 45,
}  # what SET NAMES utf8mb4 gives: utf8mb4_0900_ai_ci, _general_ci

_USUAL: Final = {
    "sql_mode": f"'{SQL_MODE}'", "time_zone": "'+00:00'", EXPLICIT: "DEFAULT", "timestamp": "DEFAULT",
    _ALTER_HISTORY: "DEFAULT",
}  # fmt: skip


def implicit_timestamp(text: str) -> bool:
    """Whether it may make a TIMESTAMP column of which explicit_defaults_for_timestamp decides what it is."""
    return _IMPLICIT_TIMESTAMP.search(text) is not None


def implicitly(ddl: Ddl) -> bool:
    """Whether a statement of MariaDB made a TIMESTAMP column other than it says: NOT NULL, with a default."""
    return ddl.session is not None and ddl.session.explicit_timestamps is False and implicit_timestamp(ddl.statement)


def computed(text: str) -> bool:
    """Whether it may have expressions. Says yes in doubt."""
    return _COMPUTED.search(text) is not None


def in_unknown_zone(text: str, session: Session) -> bool:
    """Whether it has moments of a time zone that can't be named. Only events of statements that read the zone have it."""
    return session.zone == "SYSTEM" and _MOMENT.search(text) is not None


def _zone(text: str, session: Session) -> str | None:
    """The time zone that the text needs, as SET takes it. A named one, which not every server knows, only if it must be."""
    zone = session.zone
    if zone is None or zone == "SYSTEM" or not _ZONE.fullmatch(zone):
        return None
    return zone if zone[0] in "+-" or _MOMENT.search(text) else None


def with_settings(statement: str, session: Session | None, flavor: str | None, *, versioned: bool = False) -> str:
    """The text with what it needs of the session, and nothing else in that form. versioned: whether it may be an ALTER of a
    table with MariaDB's SYSTEM VERSIONING, which the event doesn't say under which setting it was let through."""
    statement = _NOTE.sub("", statement, count=1) if _NOTE.match(statement) else statement
    if session is None:
        return statement
    found: dict[str, str] = {}
    expressions = computed(statement)
    modes = [name for bit, name, text in _MODES if session.sql_mode & bit and expressions and text.search(statement)]
    if modes:
        found["sql_mode"] = f"'{','.join([SQL_MODE, *modes])}'"
    if expressions and "'" in statement and session.collation != _DEFAULT_COLLATIONS.get(flavor or ""):
        found["collation_connection"] = f"{session.collation}"
    zone = _zone(statement, session)
    if zone is not None and zone != "+00:00":
        found["time_zone"] = f"'{zone}'"
    if flavor == "mariadb" and session.explicit_timestamps is not None and implicit_timestamp(statement):
        found[EXPLICIT] = f"{session.explicit_timestamps:d}"
    if versioned and statement.lstrip()[:5].upper() == "ALTER":
        found[_ALTER_HISTORY] = "KEEP"
    return _noted(found, statement)


def at_its_moment(text: str, session: Session) -> str:
    """The same text, to be run as if it were the moment at which the session ran it."""
    us = session.started_at_us
    found = {**settings_of(text), "timestamp": f"{us // 1_000_000}.{us % 1_000_000:06}"}
    return _noted(found, _NOTE.sub("", text, count=1))


def settings_of(text: str) -> Mapping[str, str]:
    """What stands in front of it: names of system variables and values as SET takes them."""
    note = _NOTE.match(text)
    return dict(setting.split("=", 1) for setting in note[1].split("; ")) if note is not None else {}


def as_statements(text: str) -> tuple[str, ...]:
    """The statement without a semicolon, with what sets its settings in front and what takes them back behind."""
    note = _NOTE.match(text)
    body = text[note.end() if note is not None else 0 :].strip().rstrip(";")
    settings = settings_of(text)
    if not settings:
        return (body,)
    back = {name: _USUAL[name] for name in settings if name in _USUAL}
    names = ("SET NAMES utf8mb4",) if "collation_connection" in settings else ()
    return (_set(settings), body, *names, *((_set(back),) if back else ()))


def _set(settings: Mapping[str, str]) -> str:
    return "SET SESSION " + ", ".join(f"{name} = {value}" for name, value in settings.items())


def _noted(settings: Mapping[str, str], statement: str) -> str:
    if not settings:
        return statement
    return f"/*rowback {'; '.join(f'{name}={value}' for name, value in settings.items())}*/ {statement}"
