"""Statements of a server with lower_case_table_names=1, with the names of tables and databases as it stores them.

Such a server stores `Orders` as `orders`, and its row events say `orders`, but its binlog has statements as they were
typed. So capture writes each statement's names anew, once, and nothing behind it has to know of case. Names of columns,
indexes, constraints, triggers, routines and events stay, and so do the bodies of the last three, which the server keeps as
typed. Pure; recovery/lowercase.py has the letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from recovery.ddl import Classified, name_words
from recovery.lowercase import certain, lowered
from recovery.objects.references import references
from recovery.objects.statement import Span, event_clauses, parse
from recovery.sqlscan import Word, scan

_TABLES: Final = ("TABLE", "SEQUENCE", "INDEX", "DATABASE")


def in_lower_case(statement: str, default_db: str, found: Classified, sql_mode: int = 0) -> tuple[str, str, Classified]:
    """The statement, its default database and its tables, with their names in lower case. Where that isn't certain the
    statement stays, and may touch any table: a restore then refuses it."""
    if found.tables is None:
        return statement, lowered(default_db), found
    words = [w for w in scan(statement, sql_mode) if not w.says(";")]
    kind = found.verb.partition(" ")[2]
    if kind in _TABLES:
        named = _of_table(words, default_db)
    else:
        named = _of_object(statement, words, default_db, sql_mode) if found.tables == () else []
    if not all(certain(word.text) for word in named) or not certain(default_db):
        return statement, lowered(default_db), replace(found, tables=None)
    text = statement
    for word in named:  # each letter becomes one, so nothing moves
        text = text[: word.start] + lowered(text[word.start : word.end]) + text[word.end :]
    tables = tuple((lowered(db), lowered(table)) for db, table in found.tables)
    return text, lowered(default_db), replace(found, tables=tables)


def _of_table(words: Sequence[Word], default_db: str) -> list[Word]:
    """Of a statement on tables or databases: the names that it is about, models, parents, and what qualifies a column."""
    at, behind = name_words(words, default_db)
    found = {*at}
    like = behind + words[behind].says("(") if behind < len(words) else behind
    if like + 1 < len(words) and words[like].says("LIKE"):
        found.add(like + 1)
    found |= {i + 1 for i, word in enumerate(words[:-1]) if word.says("REFERENCES")}
    # `a.b`, also behind LIKE and REFERENCES: b isn't a column's name where a is a database.
    found |= {i + 2 for i in tuple(found) if i + 2 < len(words) and words[i + 1].says(".")}
    found |= {i for i, word in enumerate(words[:-1]) if word.names and words[i + 1].says(".")}
    return [words[i] for i in sorted(found) if words[i].names]


def _of_object(statement: str, words: Sequence[Word], default_db: str, sql_mode: int) -> list[Word]:
    """Of a statement on views, triggers, routines or events. Of the last three only the database's name is folded."""
    parsed = parse(statement, default_db, sql_mode)
    if parsed is None:
        return []
    name = _within(words, parsed.named)
    if parsed.kind == "view":
        if parsed.verb == "DROP":
            rest = [w for w in parsed.words if w.names and not w.says("RESTRICT", "CASCADE")]
        else:
            rest = [*references(parsed.words, default_db).named]
        return [*name, *rest]
    found = name[:1] if len(name) > 1 else []
    if parsed.kind == "event" and (renamed := event_clauses(parsed, statement).rename_at) is not None:
        new = _within(words, renamed)
        found += new[:1] if len(new) > 1 else []
    return [*found, *(_within(words, parsed.on) if parsed.on is not None else ())]


def _within(words: Sequence[Word], span: Span) -> list[Word]:
    return [w for w in words if span[0] <= w.start < span[1] and w.names]
