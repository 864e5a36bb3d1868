"""Foreign keys as a snapshot's SHOW CREATE TABLE has them. Pure.

InnoDB compares their values by collation: recovery/alike.py says which texts may be one to the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from recovery.schema import TEXT_TYPES, Column, Table

TableName: TypeAlias = tuple[str, str]
# A value and its exact text (docs/FORMAT.md): NULL is (None, None).
Cell: TypeAlias = tuple[object, str | None]
Key: TypeAlias = tuple[Cell, ...]

_STRING: Final = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_NAME: Final = r"`(?:[^`]|``)+`"
_NAMES: Final = rf"\(({_NAME}(?:, ?{_NAME})*)\)"
_FOREIGN: Final = re.compile(
    rf"^\s+CONSTRAINT {_NAME} FOREIGN KEY (?:{_NAME} )?{_NAMES} REFERENCES (?:({_NAME})\.)?({_NAME}) {_NAMES}(.*)$",
    re.MULTILINE,
)
_RULE: Final = re.compile(r"ON (DELETE|UPDATE) (CASCADE|SET NULL|SET DEFAULT)")
_UNIQUE: Final = re.compile(rf"^\s+(?:PRIMARY KEY|UNIQUE KEY {_NAME}) {_NAMES}", re.MULTILINE)
_COLUMN: Final = re.compile(rf"^\s+({_NAME}) (.*)$", re.MULTILINE)
_COLLATE: Final = re.compile(r"\bCOLLATE[ =](\w+)")
_CHARSET: Final = re.compile(r"\bCHARACTER SET (\w+)")
_DEFAULT: Final = re.compile(r"^\).*?(?:\bCOLLATE=(\w+)|\bCHARSET=(\w+)(?!.*\bCOLLATE=))", re.MULTILINE)


@dataclass(frozen=True)
class ForeignKey:
    """columns of the child, in the order of the parent's `referenced`. on_delete, on_update: CASCADE, SET NULL, SET DEFAULT,
    or "" for what changes nothing. collations: of the child's columns; where only the character set is named, that and `_`;
    None where neither is."""

    child: TableName
    columns: tuple[str, ...]
    parent: TableName
    referenced: tuple[str, ...]
    on_delete: str
    on_update: str
    collations: tuple[str | None, ...]


def foreign_keys(child: TableName, create_statement: str) -> Iterator[ForeignKey]:
    """Those of a table with an action."""
    text = _STRING.sub("''", create_statement)
    default = _DEFAULT.search(text)
    named: dict[str, str | None] = {}
    for name, rest in _COLUMN.findall(text):
        found = _COLLATE.search(rest)
        charset = _CHARSET.search(rest)
        inherited = f"{charset[1]}_" if charset else default[1] or f"{default[2]}_" if default else None
        named[_unquoted(name)] = found[1] if found else inherited
    for columns, db, parent, referenced, rest in _FOREIGN.findall(text):
        rules = dict(_RULE.findall(rest))
        if rules:
            own = _split(columns)
            yield ForeignKey(
                child=child,
                columns=own,
                parent=(_unquoted(db) if db else child[0], _unquoted(parent)),
                referenced=_split(referenced),
                on_delete=rules.get("DELETE", ""),
                on_update=rules.get("UPDATE", ""),
                collations=tuple(named.get(c) for c in own),
            )


def is_unique(columns: Sequence[str], create_statement: str) -> bool:
    """Whether a primary or unique key over exactly these columns, whole, keeps their values apart."""
    wanted = {c.casefold() for c in columns}
    found = _UNIQUE.findall(_STRING.sub("''", create_statement))
    return any({c.casefold() for c in _split(names)} == wanted for names in found)


def comparable(child: Column, parent: Column) -> bool:
    """Whether values of both columns are equal to the server exactly if they are in the archive, collations aside."""
    if child.type in ("float", "double", "json", "geometry", "vector"):
        return False
    if child.type in TEXT_TYPES and parent.type in TEXT_TYPES:
        return _charset(child) == _charset(parent)
    loose = ("octets", "name", "nullable", "generated", "invisible")
    own, other = ({k: v for k, v in c.__dict__.items() if k not in loose} for c in (child, parent))
    return own == other and (child.type != "binary" or child.octets == parent.octets)


def _charset(column: Column) -> str | None:
    return "utf8mb3" if column.charset == "utf8" else column.charset


def text_columns(table: Table, columns: Sequence[str]) -> tuple[bool, ...]:
    return tuple(table.column(name).type in TEXT_TYPES for name in columns)


def has_null(key: Key) -> bool:
    """Whether it matches nothing: MATCH SIMPLE."""
    return any(cell == (None, None) for cell in key)


def _split(names: str) -> tuple[str, ...]:
    return tuple(_unquoted(n) for n in re.findall(_NAME, names))


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`")
