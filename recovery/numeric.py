"""MySQL expressions over whole numbers and DECIMALs in DuckDB's terms, where both servers and DuckDB compute the same.

Understood: comparisons, BETWEEN, IN, IS NULL, AND, OR, NOT, and +, -, * of whole numbers. Everything else is None: types
that convert, texts that a collation compares, divisions and functions mean other things elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from recovery.schema import INTEGER_BITS, Column

_COMPARE: Final[Mapping[type[Any], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_COMBINE: Final[Mapping[type[Any], str]] = {exp.And: "AND", exp.Or: "OR"}
_COMPUTE: Final[Mapping[type[Any], str]] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_DIGITS: Final = 18  # of a DECIMAL, so that DuckDB's common type of two of them has room for both


def condition_sql(expression: str, columns: Mapping[str, tuple[Column, str]]) -> str | None:
    """The expression as a condition. columns: by folded name, each with its value in DuckDB; a column that isn't there makes
    it None."""
    tree = _parsed(expression)
    return None if tree is None else _condition(tree, columns)


def number_sql(expression: str, columns: Mapping[str, tuple[Column, str]]) -> str | None:
    """The expression as a whole number."""
    tree = _parsed(expression)
    found = None if tree is None else _number(tree, columns)
    return None if found is None or not found[1] else found[0]


def _parsed(expression: str) -> exp.Expression | None:
    try:
        return sqlglot.parse_one(f"SELECT {expression}", read="mysql").expressions[0]  # type: ignore[no-any-return]
    except (SqlglotError, IndexError):
        return None


def _condition(tree: exp.Expression, columns: Mapping[str, tuple[Column, str]]) -> str | None:
    kind = type(tree)
    if isinstance(tree, exp.Paren):
        return _condition(tree.this, columns)
    if isinstance(tree, exp.Not):
        inner = _condition(tree.this, columns)
        return None if inner is None else f"(NOT {inner})"
    if kind in _COMBINE:
        sides = [_condition(side, columns) for side in (tree.this, tree.expression)]
        return None if None in sides else f"({sides[0]} {_COMBINE[kind]} {sides[1]})"
    if kind in _COMPARE:
        return _joined([tree.this, tree.expression], columns, f"({{}} {_COMPARE[kind]} {{}})")
    if isinstance(tree, exp.Between):
        return _joined([tree.this, tree.args["low"], tree.args["high"]], columns, "({} BETWEEN {} AND {})")
    if isinstance(tree, exp.In) and tree.expressions:
        listed = ", ".join("{}" for _ in tree.expressions)
        return _joined([tree.this, *tree.expressions], columns, f"({{}} IN ({listed}))")
    if isinstance(tree, exp.Is) and isinstance(tree.expression, exp.Null):
        return _joined([tree.this], columns, "({} IS NULL)")
    return None


def _joined(parts: list[exp.Expression], columns: Mapping[str, tuple[Column, str]], form: str) -> str | None:
    found = [_number(part, columns) for part in parts]
    return form.format(*(f[0] for f in found if f is not None)) if None not in found else None


def _number(tree: exp.Expression, columns: Mapping[str, tuple[Column, str]]) -> tuple[str, bool] | None:
    """(expression, whether it is a whole number)."""
    kind = type(tree)
    if isinstance(tree, exp.Paren):
        return _number(tree.this, columns)
    if isinstance(tree, exp.Literal) and not tree.is_string:
        digits = tree.this.replace(".", "", 1)
        whole = "." not in tree.this
        if not digits.isdigit() or len(digits) > _DIGITS:
            return None
        return (f"{tree.this}::HUGEINT" if whole else f"{tree.this}"), whole
    if isinstance(tree, exp.Column) and not tree.table:
        column, value = columns.get(tree.name.casefold(), (None, ""))
        if column is None:
            return None
        if column.type in INTEGER_BITS:
            return f"{value}::HUGEINT", True
        return (value, False) if column.type == "decimal" and (column.precision or 0) <= _DIGITS else None
    if isinstance(tree, exp.Neg):
        inner = _number(tree.this, columns)
        return None if inner is None else (f"(- {inner[0]})", inner[1])
    if kind in _COMPUTE:
        if kind is exp.Sub and any(_unsigned(c, columns) for c in tree.find_all(exp.Column)):
            return None  # an error below zero, unless sql_mode has NO_UNSIGNED_SUBTRACTION
        sides = [_number(side, columns) for side in (tree.this, tree.expression)]
        if any(s is None or not s[1] for s in sides):
            return None
        return f"({sides[0][0]} {_COMPUTE[kind]} {sides[1][0]})", True  # type: ignore[index]
    return None


def _unsigned(tree: exp.Column, columns: Mapping[str, tuple[Column, str]]) -> bool:
    found = columns.get(tree.name.casefold())
    return found is not None and found[0].unsigned
