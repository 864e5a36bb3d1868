"""Foreign keys in DDL that is run again under other names: whom they point at, and what they are called.

A foreign key follows its parent: after RENAME TABLE of the parent, or a rename of the column that it points at, SHOW CREATE
TABLE of the child has the new names. A name without a database means the child's own, whatever the default database is
(MySQL: PT_foreign_key_definition::contextualize; MariaDB: dict_scan_table_name). Constraint names of the form
`<table>_ibfk_<n>`, on MySQL `<table>_chk_<n>` too, change with the table's name (MySQL manual, "RENAME TABLE Statement"). A
table made LIKE another has none of its foreign keys, and on MySQL new names for its CHECKs ("CREATE TABLE ... LIKE
Statement"). All of this was tried on MySQL 9.7 and MariaDB 10.11.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.alter import RenameTable, parse_alter, renamed
from recovery.archive.actions import Ddl
from recovery.ddl import TableName
from recovery.dropped_keys import adds_unnamed_key
from recovery.quoting import quote
from recovery.retarget import NotRewritten, named_table
from recovery.sqlscan import bare
from recovery.tokens import clauses, tokens_of

# A parent that isn't there: servers take any while foreign_key_checks=0.
NO_TABLE: Final = "rowback_no_table"
_QUOTED: Final = (TokenType.IDENTIFIER, TokenType.STRING)


@dataclass(frozen=True)
class Parent:
    """What a foreign key points at."""

    table: TableName
    columns: tuple[str, ...]


Follow = Callable[[Parent], Parent]


def followed(ddls: Iterable[Ddl], low_seq: int, high_seq: int, parent: Parent) -> Parent:
    """The parent after transaction high_seq, of a foreign key that pointed at it after low_seq."""
    table, columns = parent.table, list(parent.columns)
    for ddl in ddls:
        if not (low_seq < ddl.seq <= high_seq and ddl.tables):
            continue
        if ddl.verb == "RENAME TABLE":
            for old, new in zip(ddl.tables[::2], ddl.tables[1::2], strict=True):
                table = new if table == old else table
        elif ddl.verb == "ALTER TABLE" and ddl.tables[0] == table:
            operations = parse_alter(ddl.statement, ddl.default_db)
            table = next((o.name for o in operations if isinstance(o, RenameTable)), table)
            names = renamed(operations)
            columns = [names.get(c.casefold(), c) for c in columns]
    return Parent(table, tuple(columns))


def rewritten(
    statement: str,
    default_db: str,
    name: TableName,
    flavor: str | None,
    follow: Follow,
    gone: Collection[int] = (),
) -> str:
    """The statement with its foreign keys' parents as `follow` says, and with the constraint names that it will have as
    table `name`. A foreign key to the table itself follows by itself. gone: which of its REFERENCES make keys that don't
    stay (recovery/dropped_keys.py); they refer to no table. Raises NotRewritten."""
    text = _visible(statement)
    tokens, words = _tokens(text)
    child = named_table(text, default_db)
    edits: list[tuple[int, int, str]] = []
    for at in _constraint_names(words, tokens):
        changed = _constraint(tokens[at].text, child[1], name[1], flavor)
        if changed is not None:
            edits.append((tokens[at].start, tokens[at].end + 1, quote(changed)))
    for number, (i, end, parent, qualified) in enumerate(_references(tokens, words, child[0])):
        if number in gone:
            now = Parent((name[0], NO_TABLE), parent.columns)
        elif parent.table == child:
            now = Parent(name, parent.columns)
        elif not qualified and _moves_away(words):
            raise NotRewritten("its parent's database depends on the table's new one")
        else:
            now = follow(parent)
        listed = ", ".join(map(quote, now.columns))
        shown = quote(*now.table) + (f" ({listed})" if listed else "")
        edits.append((tokens[i].start, tokens[end - 1].end + 1, shown))
    if flavor == "mariadb" and adds_unnamed_key(text):
        edits += _by_copying(tokens, words)
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _by_copying(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Edits that have MariaDB build the table anew: with foreign_key_checks=0 it adds keys in place, and then gives the
    second one that it must name the name of the first, which fails (error 1823)."""
    values = {"ALGORITHM": "COPY", "LOCK": "DEFAULT"}
    for i, word in enumerate(words):
        if word in values and words[i - 1] in (",", ""):
            at = i + 1 + (words[i + 1 : i + 2] == ["="])
            yield tokens[at].start, tokens[at].end + 1, values.pop(word)
    if "ALGORITHM" in values:
        yield tokens[-1].end + 1, tokens[-1].end + 1, ", ALGORITHM=COPY"


def parents(statement: str, default_db: str) -> Iterator[Parent]:
    """What a statement's foreign keys point at. Raises NotRewritten."""
    text = _visible(statement)
    tokens, words = _tokens(text)
    if "REFERENCES" not in words:
        return
    child = named_table(text, default_db)
    yield from (parent for _, _, parent, _ in _references(tokens, words, child[0]))


def copied(create_statement: str, flavor: str | None) -> str:
    """SHOW CREATE TABLE's text of a table as it is for a copy made with LIKE. Raises NotRewritten."""
    tokens, words = _tokens(create_statement)
    if "REFERENCES" not in words and "CHECK" not in words:
        return create_statement
    opening = next(i for i, t in enumerate(tokens) if t.token_type is TokenType.L_PAREN)
    depth = 0
    for closing in range(opening, len(tokens)):
        depth += (tokens[closing].token_type is TokenType.L_PAREN) - (tokens[closing].token_type is TokenType.R_PAREN)
        if depth == 0:
            break
    kept = [_copied(c, create_statement, flavor) for c in clauses(tokens[opening + 1 : closing])]
    body = ",\n  ".join(c for c in kept if c is not None)
    return f"{create_statement[: tokens[opening].end + 1]}\n  {body}\n{create_statement[tokens[closing].start :]}"


def _copied(clause: Sequence[Token], text: str, flavor: str | None) -> str | None:
    words = _words(clause)
    named = words[0] == "CONSTRAINT"
    kind = words[2] if named and len(words) > 2 else words[0]
    if kind == "FOREIGN":
        return None
    start = clause[2] if named and kind == "CHECK" and flavor == "mysql" else clause[0]
    return text[start.start : clause[-1].end + 1]


def _constraint_names(words: Sequence[str], tokens: Sequence[Token]) -> Iterator[int]:
    """Where names of constraints stand."""
    for i in range(len(words) - 1):
        at = -1
        if words[i] == "CONSTRAINT":
            at = i + 1
        elif words[i] in ("DROP", "ALTER") and words[i + 1] == "CHECK":
            at = i + 2
        elif words[i : i + 3] == ["DROP", "FOREIGN", "KEY"]:
            at = i + 3
        if at < 0:
            continue
        if words[at : at + 2] == ["IF", "EXISTS"]:
            at += 2
        if at < len(tokens) and words[at] not in ("FOREIGN", "CHECK", "UNIQUE", "PRIMARY"):
            yield at


def _constraint(constraint: str, child: str, name: str, flavor: str | None) -> str | None:
    kinds = "ibfk|chk" if flavor == "mysql" else "ibfk"
    found = re.fullmatch(rf"{re.escape(child)}(_(?:{kinds})_\d+)", constraint, re.IGNORECASE)
    return name + found.group(1) if found and child != name else None


def _references(
    tokens: Sequence[Token], words: Sequence[str], child_db: str
) -> Iterator[tuple[int, int, Parent, bool]]:
    """(first token, token behind, parent, whether its database is named) of each REFERENCES. Raises NotRewritten."""
    for word in (i for i, w in enumerate(words) if w == "REFERENCES"):
        at = word + 1
        if at >= len(tokens):
            raise NotRewritten("a foreign key without a parent")
        qualified = at + 2 < len(tokens) and tokens[at + 1].token_type is TokenType.DOT
        if qualified:
            table, end = (tokens[at].text, tokens[at + 2].text), at + 3
        else:
            table, end = (child_db, tokens[at].text), at + 1
        columns: list[str] = []
        if end < len(tokens) and tokens[end].token_type is TokenType.L_PAREN:
            end += 1
            while tokens[end].token_type is not TokenType.R_PAREN:
                if tokens[end].token_type is not TokenType.COMMA:
                    columns.append(tokens[end].text)
                end += 1
            end += 1
        yield at, end, Parent(table, tuple(columns)), qualified


def _moves_away(words: Sequence[str]) -> bool:
    return words[0] == "ALTER" and any(
        w == "RENAME" and behind not in ("COLUMN", "INDEX", "KEY") for w, behind in itertools.pairwise(words)
    )


def _visible(statement: str) -> str:
    """With executable comments opened where a foreign key may stand in one."""
    return bare(statement) if re.search(r"/\*M?!.*REFERENCES", statement, re.IGNORECASE | re.DOTALL) else statement


def _tokens(text: str) -> tuple[list[Token], list[str]]:
    try:
        tokens = tokens_of(text)
    except SqlglotError as error:
        raise NotRewritten(str(error)) from error
    return tokens, _words(tokens)


def _words(tokens: Sequence[Token]) -> list[str]:
    return ["" if t.token_type in _QUOTED else t.text.upper() for t in tokens]
