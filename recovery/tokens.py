"""A statement's tokens, and a reader of them: what the modules share that look into DDL (recovery/alter.py, partitions.py,
column_spec.py). recovery/sqlscan.py knows sql_modes that sqlglot's tokenizer doesn't, for statements with bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlglot
from sqlglot.tokenizer_core import Token, TokenType

from recovery.ddl import TableName


def tokens_of(statement: str) -> list[Token]:
    """A statement's tokens, behind MariaDB's SET STATEMENT .. FOR; start and end are offsets in it. Raises SqlglotError."""
    # sqlglot takes some statements for opaque commands at their first word, so it doesn't get to see one; and it makes one
    # token of PRIMARY KEY and the like.
    found = []
    for t in sqlglot.tokenize(f"SELECT {statement}", read="mysql")[1:]:
        quoted = t.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        words = [t.text] if quoted else t.text.split() or [t.text]
        found += [Token(t.token_type, word, t.line, t.col, t.start - 7, t.end - 7) for word in words]
    found = [t for t in found if t.token_type is not TokenType.SEMICOLON]
    if [keyword(t) for t in found[:2]] != ["SET", "STATEMENT"]:
        return found
    return found[next((i + 1 for i, t in enumerate(found) if keyword(t) == "FOR"), len(found)) :]


def keyword(token: Token) -> str:
    """The word in upper case; "" for a quoted name or string."""
    return "" if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) else token.text.upper()


def says(words: Sequence[str], *clause: str) -> bool:
    """Whether these stand one behind the other among them."""
    return any(tuple(words[i : i + len(clause)]) == clause for i in range(len(words)))


class Reader:
    """Steps through tokens. Raises IndexError where the statement ends too early.

    default_db: of tables that are named without a database."""

    def __init__(self, tokens: Sequence[Token], default_db: str = "") -> None:
        self.tokens = list(tokens)
        self.db = default_db
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """The next word in upper case; "" at the end or for a quoted name or string."""
        index = self.at + ahead
        return keyword(self.tokens[index]) if index < len(self.tokens) else ""

    def next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def take(self, *words: str) -> bool:
        if tuple(self.peek(i) for i in range(len(words))) == words:
            self.at += len(words)
            return True
        return False

    def skip(self, *words: str) -> bool:
        """Step over any of these words; whether there was one."""
        start = self.at
        while self.peek() and self.peek() in words:
            self.at += 1
        return self.at > start

    def name(self) -> str:
        return self.next().text

    def table(self) -> TableName:
        first = self.name()
        if self.at + 1 < len(self.tokens) and self.tokens[self.at].token_type is TokenType.DOT:
            self.at += 1
            return first, self.name()
        return self.db, first

    def parenthesised(self) -> list[Token]:
        """What stands between the parenthesis here and its end; it is stepped over. Raises IndexError if none is here."""
        if self.peek() != "(":
            raise IndexError
        depth = 0
        inside: list[Token] = []
        while True:
            token = self.next()
            depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
            if depth == 0:
                return inside[1:]
            inside.append(token)

    def rest(self) -> list[Token]:
        return self.tokens[self.at :]

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)


def outside(tokens: Sequence[Token]) -> Iterator[Token]:
    """What isn't inside parentheses; the closing ones are among it."""
    depth = 0
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth == 0:
            yield token


def clauses(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The parts between commas outside parentheses."""
    depth = 0
    clause: list[Token] = []
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth == 0 and token.token_type is TokenType.COMMA:
            yield clause
            clause = []
        else:
            clause.append(token)
    if clause:
        yield clause
