"""Foreign keys that a table had for a while: which of its statements make keys that a later one drops.

Their parents need not be any more what they were, so nothing can be made to refer to them again; but the key leaves its
index behind. Names: `CONSTRAINT name`, else `<table>_ibfk_<n>` with the number behind the largest one that the table has
(MySQL: generate_fk_name; MariaDB: dict_table_get_highest_foreign_id), which follows the table's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.retarget import NotRewritten, named_table
from recovery.sqlscan import bare
from recovery.tokens import tokens_of

_Key: TypeAlias = str | int  # a name without case, or the number of a generated one
_QUOTED = (TokenType.IDENTIFIER, TokenType.STRING)


def dropped(statements: Sequence[tuple[str, str]]) -> list[frozenset[int]]:
    """statements: (text, default database) in order, CREATE TABLE first. Of each: which of its REFERENCES, counted from 0,
    make keys that are dropped before the end. All empty where the names aren't certain; then nothing may be left out."""
    played = _played(statements)
    return [frozenset[int]()] * len(statements) if played is None else [frozenset(each) for each in played[0]]


def live(statements: Sequence[tuple[str, str]]) -> list[str] | None:
    """The names of the keys that there are behind the last of these statements, if the server gave all of them. None where
    they aren't certain, or a statement gave one: it may be in use elsewhere, and a database has each name once."""
    played = _played(statements)
    if played is None or any(_gives_a_name(text, default_db) for text, default_db in statements):
        return None
    child = named_table(bare(statements[-1][0]), statements[-1][1])[1]
    return [f"{child}_ibfk_{key}" for key in played[1]]


def _gives_a_name(text: str, default_db: str) -> bool:
    tokens, words = _tokens(bare(text))
    if "REFERENCES" not in words:
        return False
    child = named_table(bare(text), default_db)[1]
    return any(name is not None and not isinstance(_key(name, child), int) for name in _made(words, tokens) or ())


def _played(statements: Sequence[tuple[str, str]]) -> tuple[list[set[int]], dict[_Key, tuple[int, int]]] | None:
    """(which REFERENCES make dropped keys, by statement; the keys that are left); None where names aren't certain."""
    gone: list[set[int]] = [set() for _ in statements]
    there: dict[_Key, tuple[int, int]] = {}
    for number, (text, default_db) in enumerate(statements):
        tokens, words = _tokens(bare(text))
        if "REFERENCES" not in words and "DROP" not in words:
            continue
        child = named_table(bare(text), default_db)[1]
        made = _made(words, tokens)
        if made is None:
            return None
        largest = max((key for key in there if isinstance(key, int)), default=0)
        for name, must_exist in _drops(words, tokens):
            key = _key(name, child)
            if key in there:
                at, which = there.pop(key)
                gone[at].add(which)
                if isinstance(key, int) and None in made:  # whether its number counts differs
                    return None
            elif must_exist:
                return None
        for which, given in enumerate(made):
            largest += given is None
            there[largest if given is None else _key(given, child)] = number, which
    return gone, there


def adds_unnamed_key(statement: str) -> bool:
    """Whether it is an ALTER TABLE that leaves a foreign key's name to the server. Raises NotRewritten."""
    tokens, words = _tokens(statement)
    made = _made(words, tokens)
    return words[:1] == ["ALTER"] and (made is None or None in made)


def _made(words: Sequence[str], tokens: Sequence[Token]) -> list[str | None] | None:
    """The names that a statement's foreign keys are given; None if one is a column's own REFERENCES, which not every
    version takes for a key."""
    names: list[str | None] = []
    behind = 0
    for at in (i for i, word in enumerate(words) if word == "REFERENCES"):
        keyword = next((i for i in range(at - 1, behind, -1) if words[i : i + 2] == ["FOREIGN", "KEY"]), None)
        if keyword is None:
            return None
        named = words[keyword - 2] == "CONSTRAINT" and words[keyword - 1] != "CONSTRAINT"
        names.append(tokens[keyword - 1].text if named else None)
        behind = at
    return names


def _drops(words: Sequence[str], tokens: Sequence[Token]) -> list[tuple[str, bool]]:
    """(name, whether a foreign key of this name must be there)."""
    found = []
    for i, word in enumerate(words):
        if word != "DROP":
            continue
        foreign = words[i + 1 : i + 3] == ["FOREIGN", "KEY"]
        if not foreign and words[i + 1 : i + 2] != ["CONSTRAINT"]:
            continue
        at = i + (3 if foreign else 2)
        optional = words[at : at + 2] == ["IF", "EXISTS"]
        at += 2 * optional
        if at < len(tokens):
            found.append((tokens[at].text, foreign and not optional))
    return found


def _key(name: str, child: str) -> _Key:
    generated = re.fullmatch(rf"{re.escape(child)}_ibfk_(\d+)", name, re.IGNORECASE)
    return int(generated[1]) if generated else name.casefold()


def _tokens(text: str) -> tuple[list[Token], list[str]]:
    try:
        tokens = tokens_of(text)
    except SqlglotError as error:
        raise NotRewritten(str(error)) from error
    return tokens, ["" if t.token_type in _QUOTED else t.text.upper() for t in tokens]
