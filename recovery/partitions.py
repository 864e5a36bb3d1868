"""Which rows TRUNCATE PARTITION and DROP PARTITION take away: a table's partitions at a moment, and the test of its rows.

Understood are RANGE, LIST, RANGE COLUMNS and LIST COLUMNS over plain columns with literal bounds, subpartitions or not. Of
everything else `NotFolded` says what is in the way. Pure; works on tokens (recovery/tokens.py).
Sources: MySQL manual, "RANGE Partitioning", "LIST Partitioning", "How MySQL Partitioning Handles NULL", "ALTER TABLE
Partition Operations"; MariaDB's, "LIST Partitioning Type" (DEFAULT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from sqlglot.tokenizer_core import Token, TokenType

from recovery.tokens import Reader, clauses

# A literal: a number or a text as it is written; NULL; MAXVALUE; None for what isn't a literal.
MAXVALUE: Final = "MAXVALUE"
NULL: Final = "NULL"
Bound: TypeAlias = tuple[str, str] | None  # ("number" | "text" | NULL | MAXVALUE, text)


class NotFolded(Exception):
    """Why the rows of a partition can't be told. The text goes on from "table X can't be restored across Y: "."""


@dataclass(frozen=True)
class Partition:
    """values: of RANGE one tuple, its upper bound; of LIST its values; default: MariaDB's DEFAULT."""

    name: str
    values: tuple[tuple[Bound, ...], ...]
    default: bool = False


@dataclass(frozen=True)
class Partitioning:
    """method: "RANGE" or "LIST"; "" for another one. columns: empty if it is by an expression; mentioned: its words."""

    method: str
    columns: tuple[str, ...]
    parts: tuple[Partition, ...]
    mentioned: tuple[str, ...] = ()

    def at(self, name: str) -> int:
        for i, part in enumerate(self.parts):
            if part.name.casefold() == name.casefold():
                return i
        raise NotFolded(f"partition `{name}` isn't known")


@dataclass(frozen=True)
class RowTest:
    """Rows that go away. method RANGE: those from a lower bound (None: the lowest) on and below the upper one, of one of
    `ranges`. LIST: those whose values are in `values`, or, if `others`, not in `listed`, the values of all partitions."""

    method: str
    columns: tuple[str, ...]
    ranges: tuple[tuple[tuple[Bound, ...] | None, tuple[Bound, ...]], ...] = ()
    values: tuple[tuple[Bound, ...], ...] = ()
    listed: tuple[tuple[Bound, ...], ...] = ()
    others: bool = False


def rows_of(partitioning: Partitioning | None, names: Sequence[str]) -> RowTest:
    """The test for the rows of these partitions. Raises NotFolded."""
    if partitioning is None or not partitioning.method:
        raise NotFolded("which rows are in a partition by HASH or KEY isn't known")
    if not partitioning.columns:
        raise NotFolded("which rows are in a partition by an expression isn't known")
    chosen = [partitioning.at(name) for name in names]
    parts = partitioning.parts
    needed = [t for i in chosen for p in parts[max(0, i - 1) : i + 1] for t in p.values]
    listed = tuple(t for p in parts for t in p.values)
    if any(bound is None for t in (listed if partitioning.method == "LIST" else needed) for bound in t):
        raise NotFolded("the bounds of its partitions aren't literals")
    if partitioning.method == "RANGE":
        ranges = tuple((parts[i - 1].values[0] if i else None, parts[i].values[0]) for i in chosen)
        return RowTest("RANGE", partitioning.columns, ranges)
    values = tuple(t for i in chosen for t in parts[i].values)
    return RowTest("LIST", partitioning.columns, (), values, listed, any(parts[i].default for i in chosen))


def dropped(partitioning: Partitioning, names: Sequence[str]) -> Partitioning:
    gone = {partitioning.at(name) for name in names}
    return replace(partitioning, parts=tuple(p for i, p in enumerate(partitioning.parts) if i not in gone))


def reorganized(partitioning: Partitioning, names: Sequence[str], parts: Sequence[Partition]) -> Partitioning:
    first = min(partitioning.at(name) for name in names)
    rest = dropped(partitioning, names).parts
    return replace(partitioning, parts=(*rest[:first], *parts, *rest[first:]))


# --- parsing ----------------------------------------------------------------------------------------------------------


def partitioning_of(tokens: Sequence[Token]) -> Partitioning | None:
    """From the tokens of a CREATE TABLE statement, or of what follows ALTER TABLE t: its PARTITION BY clause; None without
    one. Raises NotFolded for one that can't be read."""
    depth = 0
    for i, token in enumerate(tokens[:-1]):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        quoted = token.token_type in (TokenType.STRING, TokenType.IDENTIFIER)
        if depth == 0 and not quoted and token.text.upper() == "PARTITION" and tokens[i + 1].text.upper() == "BY":
            try:
                return _partitioning(Reader(tokens[i + 2 :]))
            except IndexError as error:
                raise NotFolded("its partitions can't be read") from error
    return None


def _partitioning(reader: Reader) -> Partitioning:
    method = reader.next().text.upper()
    if method not in ("RANGE", "LIST"):
        return Partitioning("", (), ())
    by_columns = reader.take("COLUMNS")
    inside = reader.parenthesised()
    names = [t.text for t in inside if t.token_type is not TokenType.COMMA]
    plain = by_columns or len(inside) == 1
    while not (reader.peek() == "(" and reader.peek(1) == "PARTITION"):
        reader.next()
    return Partitioning(method, tuple(names) if plain else (), definitions(reader.parenthesised()), tuple(names))


def definitions(tokens: Sequence[Token]) -> tuple[Partition, ...]:
    """PARTITION p VALUES .., PARTITION q VALUES .. Raises IndexError for what can't be read."""
    return tuple(_definition(Reader(part)) for part in clauses(tokens))


def _definition(reader: Reader) -> Partition:
    if not reader.take("PARTITION"):
        raise IndexError
    name = reader.next().text
    if reader.take("DEFAULT"):
        return Partition(name, (), default=True)
    if not reader.take("VALUES"):
        raise IndexError
    if reader.take("LESS", "THAN"):
        if reader.take("MAXVALUE"):
            return Partition(name, (((MAXVALUE, ""),),))
        return Partition(name, (tuple(_bound(part) for part in clauses(reader.parenthesised())),))
    if not reader.take("IN"):
        raise IndexError
    values = []
    default = False
    for part in clauses(reader.parenthesised()):
        if len(part) == 1 and part[0].text.upper() == "DEFAULT" and part[0].token_type is not TokenType.STRING:
            default = True
        elif part[0].token_type is TokenType.L_PAREN:
            values.append(tuple(_bound(each) for each in clauses(Reader(part).parenthesised())))
        else:
            values.append((_bound(part),))
    return Partition(name, tuple(values), default)


def _bound(tokens: Sequence[Token]) -> Bound:
    signs = "".join(t.text for t in tokens[:-1])
    last = tokens[-1]
    if signs in ("", "-", "+") and last.token_type is TokenType.NUMBER and last.text.isdigit():
        return ("number", signs.replace("+", "") + last.text)
    if signs:
        return None
    if last.token_type is TokenType.STRING:
        return ("text", last.text)
    word = last.text.upper() if last.token_type is not TokenType.IDENTIFIER else ""
    return (word, "") if word in (NULL, MAXVALUE) else None
