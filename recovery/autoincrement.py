"""The next AUTO_INCREMENT value of a restored table: beyond every value that was ever inserted, rows deleted since included.

CREATE TABLE has the counter as it was at the snapshot, and loading rows moves it on, but rows that were inserted behind the
snapshot and deleted before the target are not loaded. Without this an INSERT after the restore would take their numbers.
What only the source's counter knows (numbers of rolled-back inserts) isn't in the binlog.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from recovery.archive.segments import INSERT, UPDATE_AFTER
from recovery.merge import Merger
from recovery.schema import INTEGER_BITS, Column, Table
from recovery.sqlscan import Word, scan


class Counter:
    """Of one table. schema: the statements that create it. column: what counts, by its name at the end of them."""

    def __init__(self, schema: Sequence[str]) -> None:
        self.column = auto_increment_column(schema)
        self._declared = declared(schema)
        self._highest = 0
        self._limit = 0

    def look(self, merger: Merger, definition: Table, index: int | None) -> None:
        """Take in the changes that were just merged. index: of the counting column under their definition, where it may
        have another name; None if it wasn't there. Raises duckdb.Error as it comes."""
        column = definition.columns[index] if index is not None else None
        if column is None or column.type not in INTEGER_BITS or column.generated:
            return
        sql = f"SELECT max(v{index}) FROM change WHERE op IN ('{INSERT}', '{UPDATE_AFTER}')"
        ((highest,),) = merger.connection.execute(sql).fetchall()
        self._highest = max(self._highest, int(highest or 0))
        self._limit = _largest(column)

    def statements(self, table: tuple[str, str]) -> Iterator[str]:
        """What sets the counter on the empty table; nothing if no change says more than its CREATE TABLE and its rows."""
        if self._declared <= self._highest < self._limit:
            db, name = (part.replace("`", "``") for part in table)
            yield f"ALTER TABLE `{db}`.`{name}` AUTO_INCREMENT = {self._highest + 1}"


def counts_on(statement: str) -> bool:
    """Whether a statement is one that `Counter.statements` writes."""
    return re.fullmatch(r"ALTER TABLE `(?:[^`]|``)+`\.`(?:[^`]|``)+` AUTO_INCREMENT = \d+", statement) is not None


def declared(schema: Sequence[str]) -> int:
    """The counter that the statements end up with on a table without rows; 1 without one."""
    found = 1
    for statement in schema:
        words = list(scan(statement))
        for at, word in enumerate(words):
            value = [w for w in words[at + 1 : at + 3] if not w.says("=")][:1]
            if word.says("AUTO_INCREMENT") and value and value[0].text.isdigit():
                found = int(value[0].text)
    return found


def _largest(column: Column) -> int:
    return int(2 ** (INTEGER_BITS[column.type] - (0 if column.unsigned else 1)) - 1)


def auto_increment_column(schema: Sequence[str]) -> str | None:
    """The name of the column that the statements end up giving AUTO_INCREMENT; None if there is none."""
    column: str | None = None
    for statement in schema:
        words = list(scan(statement))
        before = column  # a statement's clauses name columns as they were in front of it
        for clause in _clauses(words, 1 if words and words[0].says("CREATE") else 0):
            column = _column(clause) or _renamed(clause, before) or column
    return column


def _renamed(clause: Sequence[Word], column: str | None) -> str | None:
    """The column's name behind RENAME COLUMN [IF EXISTS] old TO new; None for any other clause."""
    for at, word in enumerate(clause):
        if column is not None and word.says("RENAME") and clause[at + 1 : at + 2] and clause[at + 1].says("COLUMN"):
            words = [w for w in clause[at + 2 :] if not w.says("IF", "EXISTS")]
            return words[2].text if len(words) > 2 and words[0].text.casefold() == column.casefold() else None
    return None


def _clauses(words: Sequence[Word], depth: int) -> Iterator[list[Word]]:
    """The parts between commas, at this depth of parentheses."""
    level, clause = 0, list[Word]()
    for word in words:
        if level == depth and word.says(","):
            yield clause
            clause = []
            continue
        level += word.says("(") - word.says(")")
        if level == depth and word.says("("):
            clause = []
        elif level >= depth:
            clause.append(word)
    yield clause


def _column(clause: Sequence[Word]) -> str | None:
    """The column's name if the clause defines one with AUTO_INCREMENT; the table's option has a value behind it."""
    for at, word in enumerate(clause):
        value = at + 1 < len(clause) and (clause[at + 1].says("=") or clause[at + 1].text.isdigit())
        if (word.says("AUTO_INCREMENT") and not value and at) or (word.says("SERIAL") and at):
            words = list(clause[:at])
            return _name(words)
    return None


def _name(words: list[Word]) -> str | None:
    """The name in front of a column's type, as in `name type`, ADD [COLUMN] name, CHANGE [COLUMN] old name."""
    while words and words[0].says("(", "ALTER", "TABLE"):
        words.pop(0)
    change = False
    starts = [i for i, w in enumerate(words) if w.says("ADD", "MODIFY", "CHANGE")]
    if starts:
        change = words[starts[0]].says("CHANGE")
        words = words[starts[0] + 1 :]
    while words and words[0].says("COLUMN", "IF", "NOT", "EXISTS", "("):
        words.pop(0)
    if change and words:
        words.pop(0)
    return words[0].text if words else None
