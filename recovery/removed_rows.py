"""The rows of dropped and truncated partitions, as a condition on a merged table's query. recovery/partitions.py says which
they are; here their columns are known, with their types and exact texts.

Numbers are compared as numbers, DATE and DATETIME as the texts that MySQL writes, so that zero and partial dates stand where
the server has them. Texts are only compared for equality, in LIST COLUMNS: `doubt` finds rows whose text no partition lists
byte for byte, where only the collation says which one they are in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from recovery.archive.actions import Ddl
from recovery.merge import MergedTable, literal
from recovery.partitions import MAXVALUE, NULL, Bound, RowTest
from recovery.schema import INTEGER_BITS, TEXT_TYPES, Column

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATETIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}:\d{2})(?:\.(\d{1,6}))?)?")


@dataclass(frozen=True)
class Removal:
    """What a statement takes away. indexes: of the test's columns in the definition of the rows."""

    test: RowTest
    indexes: tuple[int, ...]
    ddl: Ddl


def why_not(test: RowTest, columns: Sequence[Column]) -> str | None:
    """Why the rows can't be told by columns of these types; None if they can."""
    for column, n in zip(columns, range(len(columns)), strict=True):
        bounds = [t[n] for t in (*test.listed, *test.values)]
        bounds += [t[n] for low, high in test.ranges for t in (low, high) if t is not None and n < len(t)]
        if column.type in TEXT_TYPES and test.method == "RANGE":
            return f"its partitions are ranges of the texts in `{column.name}`, which only a collation orders"
        if column.type not in (*INTEGER_BITS, "date", "datetime", *TEXT_TYPES):
            return f"its partitions are by `{column.name}` of type {column.type}"
        if any(b is None or (b[0] not in (NULL, MAXVALUE) and _literal(column, b) is None) for b in bounds):
            return f"a bound of its partitions isn't a plain value of `{column.name}`"
    return None


def condition(merged: MergedTable, test: RowTest, indexes: Sequence[int]) -> str:
    """True for the rows that the test is for, over the query's columns. indexes: of the test's columns."""
    columns = [merged.table.columns[i] for i in indexes]
    values = [_value(c, i) for c, i in zip(columns, indexes, strict=True)]
    if test.method == "RANGE":
        parts = []
        for low, high in test.ranges:
            above = f" AND NOT {_below(columns, values, low)}" if low is not None else ""
            parts.append(f"({_below(columns, values, high)}{above})")
        return " OR ".join(parts) or "false"
    found = _among(columns, values, test.values)
    return f"({found} OR NOT {_among(columns, values, test.listed)})" if test.others else found


def doubt(merged: MergedTable, removal: Removal) -> str | None:
    """True for rows whose texts no partition lists byte for byte; None if no texts are compared."""
    columns = [merged.table.columns[i] for i in removal.indexes]
    if not any(c.type in TEXT_TYPES for c in columns):
        return None
    values = [_value(c, i) for c, i in zip(columns, removal.indexes, strict=True)]
    return f"NOT {_among(columns, values, removal.test.listed)}"


def _value(column: Column, index: int) -> str:
    exact = f"e[{literal(column.name)}]"
    if column.type in ("date", "datetime"):
        text = f"coalesce(v{index}::VARCHAR, {exact})"
        return rf"regexp_replace({text}, '\.0+$|(\.\d*[1-9])0+$', '\1')" if column.type == "datetime" else text
    if column.type in TEXT_TYPES:
        return f"coalesce(v{index}, {exact})"
    return f"v{index}"


def _literal(column: Column, bound: Bound) -> str | None:
    """The bound as a literal that `_value` compares with."""
    assert bound is not None
    kind, text = bound
    if column.type in INTEGER_BITS:
        return text if kind == "number" else None
    if kind != "text":
        return None
    if column.type in TEXT_TYPES:
        return literal(text)
    if column.type == "date":
        return literal(text) if _DATE.fullmatch(text) else None
    found = _DATETIME.fullmatch(text)
    if found is None:
        return None
    fraction = (found[3] or "").rstrip("0")
    return literal(f"{found[1]} {found[2] or '00:00:00'}" + (f".{fraction}" if fraction else ""))


def _below(columns: Sequence[Column], values: Sequence[str], bound: Sequence[Bound]) -> str:
    """Lexicographic; a NULL is below every value (MySQL manual, "How MySQL Partitioning Handles NULL")."""
    cases = []
    equal = ""
    for column, value, one in zip(columns, values, bound, strict=False):
        assert one is not None
        if one[0] == MAXVALUE:
            cases.append(f"({equal}true)")
            break
        text = _literal(column, one)
        cases.append(f"({equal}({value} IS NULL OR {value} < {text}))")
        equal += f"coalesce({value} = {text}, false) AND "
    return f"({' OR '.join(cases)})"


def _among(columns: Sequence[Column], values: Sequence[str], listed: Sequence[tuple[Bound, ...]]) -> str:
    cases = []
    for each in listed:
        parts = []
        for column, value, one in zip(columns, values, each, strict=True):
            assert one is not None
            text = "NULL" if one[0] == NULL else _literal(column, one)
            parts.append(f"{value} IS NOT DISTINCT FROM {text}")
        cases.append(f"({' AND '.join(parts)})")
    return f"({' OR '.join(cases)})" if cases else "false"
