"""What the account lets mydumper dump: where a privilege is missing, that part is left out with a warning.

Tables without SELECT are refused with the GRANT. mydumper itself would end with an error at the first view without SHOW VIEW
or database without EVENT, and leave triggers out without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recovery.errors import PrivilegeMissing, RowbackError, SourceError
from recovery.grants import Grants, account_sql
from recovery.quoting import quote
from recovery.source import Connection, fetch

Pair = tuple[str, str]


@dataclass(frozen=True)
class Rights:
    """events: whether mydumper may be asked for events. hidden_views: those it can't dump. warnings: what is missing."""

    events: bool
    hidden_views: frozenset[Pair]
    warnings: tuple[str, ...]


def account_of(connection: Connection) -> str:
    """The account as a GRANT names it."""
    return account_sql(str(fetch(connection, "SELECT CURRENT_USER()")[0][0]))


def missing_select(connection: Connection, what: str, db: str | None) -> PrivilegeMissing:
    """The error for a table, database or pattern that the server doesn't show to an account without SELECT there."""
    scope = "*.*" if db is None else f"{quote(db)}.*"
    return PrivilegeMissing(
        f"the account may not read {what}, or there is none",
        hint=f"An administrator runs: GRANT SELECT ON {scope} TO {account_of(connection)};",
    )


def check_readable(connection: Connection, grants: Grants, pairs: Sequence[Pair]) -> None:
    """Raises PrivilegeMissing naming a table that the account sees but may not read."""
    for db, name in pairs:
        if not grants.held("SELECT", db):
            try:
                fetch(connection, f"SELECT 1 FROM {quote(db, name)} LIMIT 0")
            except PrivilegeMissing as error:
                raise missing_select(connection, f"table `{db}.{name}`", db) from error


def look_at_rights(connection: Connection, grants: Grants, databases: Sequence[str], views: Sequence[Pair]) -> Rights:
    """databases: those that mydumper dumps, and their views."""
    grant = f"GRANT {{}} ON *.* TO {account_of(connection)};"
    warnings: list[str] = []
    no_events = [db for db in databases if not events_shown(connection, db)]
    if no_events:
        warnings.append(_without("events", "EVENT", no_events, grant))
    no_triggers = [db for db in databases if not grants.held("TRIGGER", db)]
    if no_triggers:
        warnings.append(_without("triggers", "TRIGGER", no_triggers, grant))
    hidden = frozenset(pair for pair in views if not _view_shown(connection, pair))
    if hidden:
        warnings.append(_without("views", "SHOW VIEW", [f"{db}.{name}" for db, name in sorted(hidden)], grant))
    return Rights(not no_events, hidden, tuple(warnings))


def _without(kind: str, privilege: str, where: Sequence[str], grant: str) -> str:
    named = ", ".join(f"`{name}`" for name in where[:5]) + (", ..." if len(where) > 5 else "")
    return f"the snapshot is without {kind}, for lack of {privilege} on {named}: {grant.format(privilege)}"


def events_shown(connection: Connection, db: str) -> bool:
    """Whether SHOW EVENTS works on a database: without EVENT it is an error, and mydumper's end."""
    return _works(connection, f"SHOW EVENTS FROM {quote(db)}")


def _view_shown(connection: Connection, pair: Pair) -> bool:
    return _works(connection, f"SHOW CREATE VIEW {quote(*pair)}")


def _works(connection: Connection, sql: str) -> bool:
    try:
        fetch(connection, sql)
    except SourceError as error:
        if _lost(error):
            raise
        return False
    return True


def _lost(error: RowbackError) -> bool:
    return error.retryable
