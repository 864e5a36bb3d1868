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
from recovery.tokens import bare, tokens_of

_Key: TypeAlias = str | int  # a name without case, or the number of a generated one
_QUOTED = (TokenType.IDENTIFIER, TokenType.STRING)


def dropped(statements: Sequence[tuple[str, str]]) -> list[frozenset[int]]:
    """statements: (text, default database) in order, CREATE TABLE first. Of each: which of its REFERENCES, counted from 0,
    make keys that are dropped before the end. All empty where the names aren't certain; then nothing may be left out."""
    gone: list[set[int]] = [set() for _ in statements]
    live: dict[_Key, tuple[int, int]] = {}
    for number, (text, default_db) in enumerate(statements):
        tokens, words = _tokens(bare(text))
        if "REFERENCES" not in words and "DROP" not in words:
            continue
        child = named_table(bare(text), default_db)[1]
        made = _made(words, tokens)
        if made is None:
            return [frozenset()] * len(statements)
        largest = max((key for key in live if isinstance(key, int)), default=0)
        for name, must_exist in _drops(words, tokens):
            key = _key(name, child)
            if key in live:
                at, which = live.pop(key)
                gone[at].add(which)
                if isinstance(key, int) and None in made:  # whether its number counts differs
                    return [frozenset()] * len(statements)
            elif must_exist:
                return [frozenset()] * len(statements)
        for which, given in enumerate(made):
            largest += given is None
            live[largest if given is None else _key(given, child)] = number, which
    return [frozenset(each) for each in gone]


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
