"""Which tables, views and functions a view names, read from its text.

The server's own parser has accepted the text, so this need not know SQL's whole grammar: tables stand behind FROM and JOIN
of a SELECT and behind the commas between them. A FROM within EXTRACT, TRIM and the like is in a parenthesis without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from recovery.sqlscan import Word

Name = tuple[str, str]

_ENDS: Final = (
    "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "WINDOW", "FOR", "PROCEDURE", "INTO",
)  # fmt: skip
_NO_TABLE: Final = ("SELECT", "LATERAL", "JSON_TABLE", "DUAL", "VALUES", "WITH")
_NO_ALIAS: Final = (
    *_ENDS, "ON", "USING", "JOIN", "INNER", "CROSS", "LEFT", "RIGHT", "NATURAL", "STRAIGHT_JOIN", "USE", "FORCE", "IGNORE",
    "PARTITION", "AND", "OR", "IS", "IN", "LIKE", "BETWEEN", "NOT",
)  # fmt: skip
# A `*` behind one of these is all columns; behind anything else it multiplies or counts.
_BEFORE_STAR: Final = (
    "SELECT", "DISTINCT", "ALL", "DISTINCTROW", ",", ".", "HIGH_PRIORITY", "STRAIGHT_JOIN", "SQL_SMALL_RESULT",
    "SQL_BIG_RESULT", "SQL_BUFFER_RESULT", "SQL_NO_CACHE", "SQL_CACHE", "SQL_CALC_FOUND_ROWS",
)  # fmt: skip


@dataclass(frozen=True)
class References:
    """tables: tables and views, without the query's own names. functions: those called with their database, and all other
    names that stand before a parenthesis, in `default_db`. star: the columns of a table are not spelt out, so that the text
    alone doesn't say which the view has. named: the words that name tables and databases: those of FROM, what they are
    called in the query, the names behind WITH, and what qualifies a column."""

    tables: frozenset[Name]
    functions: frozenset[Name]
    called: frozenset[Name]
    star: bool
    named: tuple[Word, ...] = ()


@dataclass
class _Level:
    """Of a parenthesis: whether a SELECT began in it, whether its FROM clause is open."""

    selects: bool = False
    tables: bool = False


@dataclass
class _Found:
    tables: set[Name] = field(default_factory=set)
    queries: set[str] = field(default_factory=set)
    functions: set[Name] = field(default_factory=set)
    called: set[Name] = field(default_factory=set)
    star: bool = False
    named: list[Word] = field(default_factory=list)


def references(words: Sequence[Word], default_db: str) -> References:
    """words: of a view's statement, behind its name."""
    found = _Found()
    levels = [_Level()]
    expected = False  # a table may stand here
    at = 0
    while at < len(words):
        word = words[at]
        if expected and word.names and not word.says(*_NO_TABLE):
            at = _table(words, at, default_db, found)
            _alias(words, at, found)
            expected = False
            continue
        if word.says("("):
            levels.append(_Level(tables=expected))
            at += 1
            continue
        expected = _step(words, at, levels, default_db, found)
        at += 1
    tables = frozenset(t for t in found.tables if not (t[0] == default_db and t[1].casefold() in found.queries))
    return References(tables, frozenset(found.functions), frozenset(found.called), found.star, tuple(found.named))


def _step(words: Sequence[Word], at: int, levels: list[_Level], db: str, found: _Found) -> bool:
    """Look at one word; whether a table may stand behind it."""
    word, level = words[at], levels[-1]
    following = words[at + 1] if at + 1 < len(words) else None
    if word.says(")"):
        if len(levels) > 1:
            levels.pop()
        if levels[-1].tables:
            _alias(words, at + 1, found)
        return False
    if word.says("SELECT"):
        level.selects, level.tables = True, False
        return False
    if word.says("FROM"):
        level.tables = level.selects
        return level.selects
    if word.says("TABLE"):  # MySQL's TABLE t is SELECT * FROM t
        found.star = level.selects = level.tables = True
        return True
    if word.says("JOIN", "STRAIGHT_JOIN") and level.tables:
        return True
    if word.says(",") and level.tables:
        return True
    if word.says(*_ENDS) and not (word.says("FOR") and following is not None and following.says("SYSTEM_TIME")):
        level.tables = False
        return False
    if word.says("NATURAL"):
        found.star = True
    if word.says("*") and at and words[at - 1].says(*_BEFORE_STAR):
        found.star = True
    if word.names and following is not None:
        if following.says("."):
            found.named.append(word)
        elif following.says("("):
            _call(words, at, db, found)
        elif following.says("AS") and at + 2 < len(words) and words[at + 2].says("("):
            found.queries.add(word.text.casefold())  # WITH name AS (
            found.named += [] if level.selects else [word]  # a window's name stands behind a SELECT
    return False


def _call(words: Sequence[Word], at: int, db: str, found: _Found) -> None:
    """A name before a parenthesis: a function, or WITH name (columns) AS."""
    if at >= 2 and words[at - 1].says(".") and words[at - 2].names:
        found.functions.add((words[at - 2].text, words[at].text))
        return
    close = next((i for i in range(at + 2, len(words)) if words[i].says(")")), len(words))
    if close + 2 < len(words) and words[close + 1].says("AS") and words[close + 2].says("("):
        found.queries.add(words[at].text.casefold())
        found.named.append(words[at])
    found.called.add((db, words[at].text))


def _table(words: Sequence[Word], at: int, default_db: str, found: _Found) -> int:
    """A table's name; gives where it ends."""
    if at + 2 < len(words) and words[at + 1].says(".") and words[at + 2].names:
        found.tables.add((words[at].text, words[at + 2].text))
        found.named += [words[at], words[at + 2]]
        return at + 3
    if at + 1 < len(words) and words[at + 1].says("("):  # a table function
        return at + 1
    found.tables.add((default_db, words[at].text))
    found.named.append(words[at])
    return at + 1


def _alias(words: Sequence[Word], at: int, found: _Found) -> None:
    """What a table is called in the query, behind its name or a parenthesis. It may be a keyword that isn't on the list: to
    those that look at names in the text, keywords are the same in any case."""
    at += at < len(words) and words[at].says("AS")
    if at < len(words) and words[at].names and not words[at].says(*_NO_ALIAS):
        found.named.append(words[at])
