"""Which columns the server computes itself, at a moment of a table's life, from its CREATE TABLE and the DDL behind it.

The binlog carries their values like any other's and doesn't say which they are; capture can only ask the live table, which
may have changed since. The statements are the truth: a restore must neither write such a column nor leave another one out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.alter import AddColumn, ChangeColumn, DropColumn, Operation, RenameColumn
from recovery.lineage import Lineage
from recovery.sqlscan import bare
from recovery.tokens import clauses, tokens_of

_STORED = re.compile(r"\b(STORED|PERSISTENT)\b", re.IGNORECASE)
_BOUND = re.compile(r"\bTIMESTAMP\b|/", re.IGNORECASE)
_NOT_COLUMNS = frozenset(
    {"INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "PRIMARY", "CONSTRAINT", "FOREIGN", "CHECK", "PERIOD", "LIKE"}
)


def generated_at(lineage: Lineage, seq: int) -> frozenset[str] | None:
    """The names, folded to lower case, of the columns that are generated after transaction `seq`; None if its CREATE TABLE
    can't be read."""
    if lineage.baseline is not None:
        names: frozenset[str] | None = frozenset(
            c.name.casefold() for c in lineage.baseline.definition.columns if c.generated
        )
    else:
        names = declared(lineage.create.statement)
    if names is None:
        return None
    passed = lineage.baseline is not None  # the baseline's definition is behind these
    steps = (s for s in lineage.program if s.ddl.seq <= seq and not (passed and s.applied))
    return after(names, (o for step in steps for o in step.operations))


def bound_to_session(schema: Iterable[str]) -> bool:
    """Whether the server that loads what these statements make may compute STORED columns otherwise than the source did: by
    the session's time zone for a TIMESTAMP, by its div_precision_increment for a division. Says yes in doubt."""
    texts = [bare(text) for text in schema]
    return any(map(_STORED.search, texts)) and any(map(_BOUND.search, texts))


def declared(create_statement: str) -> frozenset[str] | None:
    """Of a CREATE TABLE statement; none for one without definitions (CREATE TABLE .. AS SELECT)."""
    try:
        tokens = tokens_of(bare(create_statement))
    except SqlglotError:
        return None
    return frozenset(
        clause[0].text.casefold()
        for clause in clauses(body_of(tokens))
        if clause and _column(clause) and _computed(clause)
    )


def after(names: frozenset[str], operations: Iterable[Operation]) -> frozenset[str]:
    """The same after these operations."""
    gone, come = set(), set()
    for operation in operations:
        if isinstance(operation, DropColumn):
            gone.add(operation.name.casefold())
        elif isinstance(operation, AddColumn | ChangeColumn):
            if isinstance(operation, ChangeColumn):
                gone.add(operation.old.casefold())
            if operation.spec.column.generated:
                come.add(operation.spec.column.name.casefold())
        elif isinstance(operation, RenameColumn) and operation.old.casefold() in names:
            gone.add(operation.old.casefold())
            come.add(operation.new.casefold())
    return names - gone | come


def body_of(tokens: Sequence[Token]) -> list[Token]:
    """What stands in the first parentheses, unless a SELECT comes before."""
    depth = 0
    inside: list[Token] = []
    for token in tokens:
        if depth == 0 and token.token_type is TokenType.SELECT:
            return []
        opens, closes = token.token_type is TokenType.L_PAREN, token.token_type is TokenType.R_PAREN
        if depth == 1 and closes:
            return inside if inside and inside[0].token_type is not TokenType.SELECT else []
        if depth:
            inside.append(token)
        depth += opens - closes
    return []


def _column(clause: Sequence[Token]) -> bool:
    return (
        clause[0].token_type in (TokenType.IDENTIFIER, TokenType.STRING) or clause[0].text.upper() not in _NOT_COLUMNS
    )


def _computed(clause: Sequence[Token]) -> bool:
    """`AS (` outside parentheses: GENERATED ALWAYS may be left out (MySQL manual, "CREATE TABLE and Generated Columns").
    MariaDB's GENERATED ALWAYS AS ROW START is none: the column is written."""
    depth = 0
    for token, behind in itertools.pairwise(clause[1:]):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        quoted = token.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        if depth == 0 and not quoted and token.text.upper() == "AS" and behind.token_type is TokenType.L_PAREN:
            return True
    return False
