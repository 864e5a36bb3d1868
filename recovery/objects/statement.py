"""What a CREATE, ALTER or DROP of a view, trigger, routine or event says: its name, and where its clauses stand in the text.

Reads the words in front of a body, never the body. The text itself is the server's and stays so: `edited` replaces spans.
Sources: MySQL manual, "Data Definition Statements"; MariaDB knowledge base, "CREATE TRIGGER", "CREATE PACKAGE".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from recovery.sqlscan import Word, scan

Span = tuple[int, int]
Name = tuple[str, str]

KINDS: Final = ("view", "trigger", "procedure", "function", "package", "package body", "event")
_WORDS: Final = ("VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "PACKAGE", "EVENT")


@dataclass(frozen=True)
class ObjectStatement:
    """verb: CREATE, ALTER or DROP. name: (db, name). conditional: IF [NOT] EXISTS. or_replace, named, definer, order: where
    these stand in the text; None without. named: the name with its database. order: a trigger's FOLLOWS or PRECEDES, which
    is (word, other's name). table, on: a trigger's table, and where it stands. words: all words behind the name."""

    verb: str
    kind: str
    name: Name
    named: Span
    conditional: bool
    or_replace: Span | None
    definer: Span | None
    words: tuple[Word, ...]
    table: Name | None = None
    on: Span | None = None
    order: tuple[str, str] | None = None
    order_at: Span | None = None


def parse(text: str, default_db: str, sql_mode: int = 0) -> ObjectStatement | None:
    """None for a statement of another kind, such as a loadable function's (SONAME)."""
    words = list(scan(text, sql_mode))
    try:
        return _Reader(words, default_db).read()
    except IndexError:
        return None


def dropped(text: str, default_db: str, sql_mode: int = 0) -> tuple[Name, ...]:
    """The names in DROP VIEW, which may be several; of the other kinds one."""
    reader = _Reader(list(scan(text, sql_mode)), default_db)
    while not reader.here().says(*_WORDS):
        reader.at += 1
    reader.at += 1
    reader.take("BODY")
    reader.take("IF", "EXISTS")
    found = [reader.name()[0]]
    while reader.take(","):
        found.append(reader.name()[0])
    return tuple(found)


def edited(text: str, changes: Iterable[tuple[Span, str]]) -> str:
    """The text with these spans replaced."""
    for (start, end), new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


class _Reader:
    def __init__(self, words: Sequence[Word], db: str) -> None:
        self.words, self.db, self.at = words, db, 0

    def here(self) -> Word:
        return self.words[self.at]

    def take(self, *words: str) -> bool:
        """Step over these words if they all stand here."""
        found = self.words[self.at : self.at + len(words)]
        if len(found) == len(words) and all(w.says(t) for w, t in zip(found, words, strict=True)):
            self.at += len(words)
            return True
        return False

    def name(self) -> tuple[Name, Span]:
        first = self.here()
        self.at += 1
        if self.at + 1 < len(self.words) and self.here().says(".") and self.words[self.at + 1].kind != "sign":
            second = self.words[self.at + 1]
            self.at += 2
            return (first.text, second.text), (first.start, second.end)
        return (self.db, first.text), (first.start, first.end)

    def read(self) -> ObjectStatement | None:
        verb = self.here().text.upper()
        if verb not in ("CREATE", "ALTER", "DROP"):
            return None
        self.at = 1
        or_replace = self._span(1) if self.take("OR", "REPLACE") else None
        definer = self._to_kind()
        kind = self.here().text.lower()
        self.at += 1
        if kind == "package" and self.take("BODY"):
            kind = "package body"
        conditional = self.take("IF", "NOT", "EXISTS") or self.take("IF", "EXISTS")
        name, named = self.name()
        rest = tuple(self.words[self.at :])
        if kind == "function" and any(w.says("SONAME") for w in rest):
            return None
        table = on = order = order_at = None
        if kind == "trigger" and verb == "CREATE":
            while not self.take("ON"):
                self.at += 1
            table, on = self.name()
            self.at += 3  # FOR EACH ROW
            if self.here().says("FOLLOWS", "PRECEDES"):
                word = self.here()
                other = self.words[self.at + 1]
                order, order_at = (word.text.upper(), other.text), (word.start, self.words[self.at + 2].start)
        return ObjectStatement(
            verb, kind, name, named, conditional, or_replace, definer, rest, table, on, order, order_at
        )

    def _span(self, since: int) -> Span:
        """From a word to the beginning of the one here."""
        return self.words[since].start, self.here().start

    def _to_kind(self) -> Span | None:
        """Step to the word that says the kind; gives where the DEFINER clause stands."""
        definer = None
        while not self.here().says(*_WORDS):
            if self.here().says("DEFINER") and not self.words[self.at - 1].says("SECURITY"):
                start = self.at
                self.at += 3 if self.words[self.at + 1].says("=") else 2  # DEFINER = user
                if self.here().says("@") or self.here().says("("):
                    self.at += 2
                definer = self.words[start].start, self.words[self.at - 1].end
            elif self.here().says("TABLE", "INDEX", "DATABASE", "SCHEMA", "USER", "ROLE", "SERVER"):
                raise IndexError
            else:
                self.at += 1
        return definer


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventClauses:
    """Where the clauses of CREATE EVENT and ALTER EVENT stand, in this order: what comes before the status, the status, what
    comes behind it. rename: the new name in ALTER .. RENAME TO, and where it stands. status: ENABLE, DISABLE or DISABLE ON
    SLAVE and the like; None if the statement has none. place: where it stands, or would have to."""

    rename: Name | None
    rename_at: Span | None
    status: str | None
    place: Span


def event_clauses(statement: ObjectStatement, text: str) -> EventClauses:
    """Raises IndexError never; what isn't there is None."""
    words = statement.words
    rename, rename_at = None, None
    place: Span | None = None
    status = None
    at = 0
    while at < len(words):
        word = words[at]
        if word.says("DO"):
            break
        if word.says("COMMENT") and at + 1 < len(words) and words[at + 1].kind == "string":
            break
        if word.says("RENAME") and at + 2 < len(words) and words[at + 1].says("TO"):
            reader = _Reader(words, statement.name[0])
            reader.at = at + 2
            rename, rename_at = reader.name()
            at = reader.at
            continue
        if word.says("ENABLE", "DISABLE"):
            end = at
            if word.says("DISABLE") and at + 2 < len(words) and words[at + 1].says("ON"):
                end = at + 2
            place = (word.start, words[end].end)
            status = text[slice(*place)]
            at = end + 1
            continue
        at += 1
    if place is None:
        where = words[at].start if at < len(words) else len(text)
        place = (where, where)
    return EventClauses(rename, rename_at, status, place)
