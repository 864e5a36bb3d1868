"""Where a table's definition takes values of MariaDB's sequences: DEFAULT NEXTVAL(db.s), NEXT VALUE FOR db.s and the like.

A sequence without a database is one of the session's default database, whatever the table's own (measured on MariaDB
10.11), and the server prints it with its name in full. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from recovery.objects.statement import Span, edited
from recovery.quoting import quote
from recovery.sqlscan import scan

Name = tuple[str, str]

_ANY: Final = re.compile(r"\b(?:NEXTVAL|LASTVAL|SETVAL|VALUE\s+FOR)\b", re.IGNORECASE)


def uses(statement: str, default_db: str) -> set[Name]:
    return {name for name, _, _ in _found(statement, default_db)}


def qualified(statement: str, default_db: str, stored: Callable[[str], str] = str) -> str:
    """With the database of each sequence that is named without, and names as the source has them. stored: gives these."""
    changes: list[tuple[Span, str]] = []
    for (db, sequence), span, full in _found(statement, default_db):
        name = stored(db), stored(sequence)
        if db and (not full or name != (db, sequence)):
            changes.append((span, quote(*name)))
    return edited(statement, changes)


def renamed(statement: str, default_db: str, of: Callable[[Name], Name]) -> str:
    """With the names that `of` gives for them."""
    found = _found(statement, default_db)
    return edited(statement, [(span, quote(*of(name))) for name, span, _ in found if of(name) != name])


def _found(statement: str, default_db: str) -> Iterator[tuple[Name, Span, bool]]:
    """Each name, where it stands, and whether it stands with its database."""
    if not _ANY.search(statement):
        return
    words = list(scan(statement))
    for at in range(len(words) - 1):
        calls = words[at].says("NEXTVAL", "LASTVAL", "SETVAL") and words[at + 1].says("(")
        gives = words[at].says("VALUE") and words[at + 1].says("FOR") and at and words[at - 1].says("NEXT", "PREVIOUS")
        if not (calls or gives) or at + 2 >= len(words) or not words[at + 2].names:
            continue
        first = words[at + 2]
        if at + 4 < len(words) and words[at + 3].says(".") and words[at + 4].names:
            last = words[at + 4]
            yield (first.text, last.text), (first.start, last.end), True
        else:
            yield (default_db, first.text), (first.start, first.end), False
