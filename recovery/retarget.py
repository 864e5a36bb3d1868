"""DDL statements of the binlog made to speak of a table by the name that it has at the cut.

The text stays the server's own but for the table's name, which is written with its database, and for clauses that rename
the table, which are left out: the table is created under its last name. Raises NotRewritten for what it doesn't recognise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.ddl import TableName
from recovery.quoting import quote
from recovery.sqlscan import bare
from recovery.tokens import clauses, tokens_of

# MySQL's atomic CREATE TABLE .. SELECT is logged as a CREATE TABLE with this at its end, then the rows.
_START_TRANSACTION = re.compile(r"\s+START\s+TRANSACTION\s*$", re.IGNORECASE)
_QUOTED = (TokenType.IDENTIFIER, TokenType.STRING)


class NotRewritten(ValueError):
    pass


def retargeted(statement: str, name: TableName) -> str | None:
    """The statement for table `name`; None if nothing of it is left. Raises NotRewritten."""
    text = _START_TRANSACTION.sub("", statement.strip().rstrip(";"))
    if not text.upper().startswith("CREATE"):
        text = bare(text).strip()
    try:
        tokens = tokens_of(text)
        words = ["" if t.token_type in _QUOTED else t.text.upper() for t in tokens]
        start = _name_at(words)
        end = start + 3 if start + 2 < len(tokens) and tokens[start + 1].token_type is TokenType.DOT else start + 1
    except (SqlglotError, ValueError, IndexError) as error:
        raise NotRewritten(str(error)) from error
    target = quote(*name)
    head = text[: tokens[start].start] + target
    if words[0] != "ALTER":
        return head + text[tokens[end - 1].end + 1 :]
    kept = [_text(text, clause) for clause in clauses(tokens[end:]) if not _renames(clause)]
    return f"{head} {', '.join(kept)}" if kept else None


def named_table(statement: str, default_db: str) -> TableName:
    """The table that a CREATE TABLE, ALTER TABLE or index statement is about. Raises NotRewritten."""
    try:
        tokens = tokens_of(statement)
        start = _name_at(["" if t.token_type in _QUOTED else t.text.upper() for t in tokens])
        if start + 2 < len(tokens) and tokens[start + 1].token_type is TokenType.DOT:
            return tokens[start].text, tokens[start + 2].text
        return default_db, tokens[start].text
    except (SqlglotError, ValueError, IndexError) as error:
        raise NotRewritten(str(error)) from error


def _name_at(words: Sequence[str]) -> int:
    """Where the table's name stands."""
    if words[1] == "INDEX" or "INDEX" in words[1:3]:
        return words.index("ON") + 1
    at = words.index("TABLE") + 1
    for optional in (("IF", "NOT", "EXISTS"), ("IF", "EXISTS")):
        if tuple(words[at : at + len(optional)]) == optional:
            return at + len(optional)
    return at


def _renames(clause: Sequence[Token]) -> bool:
    first, second = (t.text.upper() if t.token_type not in _QUOTED else "" for t in (*clause[:2], clause[0])[:2])
    return first == "RENAME" and second not in ("COLUMN", "INDEX", "KEY")


def _text(text: str, clause: Sequence[Token]) -> str:
    return text[clause[0].start : clause[-1].end + 1]
