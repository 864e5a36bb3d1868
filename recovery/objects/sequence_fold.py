"""MariaDB's sequences at a cut: a snapshot's, with the binlog's statements folded in. Pure, and it never guesses: what isn't
known says why. Row images are named here and read by recovery/sequence_rows.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from sqlglot.errors import SqlglotError

from recovery.archive.actions import Ddl
from recovery.archive.definitions import Definition
from recovery.lineage import makes_sequence
from recovery.objects.sequences import (
    BETWEEN,
    COLUMNS,
    KIND,
    Doubt,
    Held,
    LiveSequence,
    Name,
    Part,
    Statement,
    Stretch,
)
from recovery.quoting import quote
from recovery.retarget import NotRewritten, retargeted
from recovery.sqlscan import ANSI_QUOTES, Word, bare, scan
from recovery.usual_mode import in_usual_mode

_CUT: Final = re.compile(r";[ \t]*\r?\n")


# --- statements -------------------------------------------------------------------------------------------------------


def parse(text: str, default_db: str, sql_mode: int = 0) -> tuple[Name, Statement]:
    """The name and the statement around it, of CREATE or ALTER, SEQUENCE or TABLE, without OR REPLACE and IF [NOT] EXISTS.
    Raises ValueError for what isn't understood, IndexError where it ends too early."""
    text = bare(text, sql_mode).strip().rstrip(";").rstrip()
    words = list(scan(text, sql_mode))
    if words[0].says("SET"):
        words = words[next(i for i, w in enumerate(words) if w.says("FOR")) + 1 :]
    verb, at = words[0].text.upper(), 1
    at += 2 if words[at].says("OR") else 0
    if verb not in ("CREATE", "ALTER") or not words[at].says("SEQUENCE", "TABLE"):
        raise ValueError("it isn't understood")
    kind, at = words[at].text.upper(), at + 1
    while words[at].says("IF", "NOT", "EXISTS"):
        at += 1
    name, end = _name(words, at, default_db)
    # Comments and line ends between words go: a loader ends a statement at a semicolon before a line's end.
    pairs = list(pairwise(words[end - 1 :]))
    after = "".join(" " * (a.end < b.start) + text[b.start : b.end] for a, b in pairs)
    if sql_mode & ANSI_QUOTES and '"' in after:
        raise ValueError("its quotes mean what the session's sql_mode said")
    if _CUT.search(f"{quote(*name)}{after}"):
        raise ValueError("it has a line that ends in a semicolon, which no loader reads whole")
    return name, Statement(f"{verb} {kind} ", after)


def _name(words: Sequence[Word], at: int, default_db: str) -> tuple[Name, int]:
    """A name, and where the words behind it begin."""
    if at + 2 < len(words) and words[at + 1].says(".") and words[at + 2].names:
        return (words[at].text, words[at + 2].text), at + 3
    return (default_db, words[at].text), at + 1


def parts_of(one: Definition) -> tuple[Part, ...]:
    """Of a definition's statements. Raises ValueError."""
    found: list[Part] = []
    try:
        for text in (one.statement or "").split(BETWEEN):
            words = list(scan(text))
            if words[0].says("REPLACE", "INSERT"):
                _, end = _name(words, 2, one.db)
                row = _numbers(text[words[end].end :])
                if len(row) != len(COLUMNS):
                    raise ValueError
                found.append(Held(row))
            elif words[0].says("DO"):  # SETVAL: see Held
                _, end = _name(words, 3, one.db)
                value, _, rounds = _numbers(text[words[end].end :])
                held = found.pop()
                if not isinstance(held, Held):
                    raise ValueError
                found.append(Held((value, *held.row[1:-1], rounds)))
            else:
                found.append(parse(text, one.db)[1])
    except (ValueError, IndexError) as error:
        raise ValueError("its definition can't be read") from error
    return tuple(found)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(v) for v in text.strip(" ()").split(","))


# --- the fold ---------------------------------------------------------------------------------------------------------


@dataclass
class _Live:
    """since: the seq behind which its row images haven't been named yet."""

    since: int
    parts: list[Part] = field(default_factory=list)
    problem: str = ""

    def close(self, name: Name, seq: int) -> None:
        """Name those in front of transaction `seq`."""
        if seq - 1 > self.since:
            self.parts.append(Stretch(name, self.since, seq - 1))
        self.since = seq


def fold(
    definitions: Iterable[Definition], ddls: Iterable[Ddl], low_seq: int, cut_seq: int
) -> dict[Name, LiveSequence]:
    """The sequences at the cut. definitions: a snapshot's (others than sequences are passed over), with each row as it was
    at transaction `low_seq` or later. ddls: in order; those in (low_seq, cut_seq] are played."""
    catalog = _Catalog()
    for one in definitions:
        if one.type == KIND:
            catalog.live[one.db, one.name] = _begun(one, low_seq)
    for ddl in ddls:
        if low_seq < ddl.seq <= cut_seq:
            catalog.play(ddl)
    found = {}
    for (db, name), live in sorted(catalog.live.items()):
        live.close((db, name), cut_seq + 1)
        found[db, name] = LiveSequence(db, name, tuple(live.parts), live.problem)
    return found


def once_there(definitions: Iterable[Definition], ddls: Iterable[Ddl], low_seq: int, cut_seq: int) -> set[Name]:
    """The names that sequences had at `low_seq` or at some time up to the cut."""
    found = {(d.db, d.name) for d in definitions if d.type == KIND}
    for ddl in ddls:
        names = ddl.tables or ()
        if low_seq < ddl.seq <= cut_seq and ddl.verb == "CREATE SEQUENCE":
            found.update(names)
        elif low_seq < ddl.seq <= cut_seq and ddl.verb in ("RENAME TABLE", "ALTER TABLE"):
            found.update(new for old, new in zip(names[::2], names[1::2], strict=False) if old in found)
    return found


def _begun(one: Definition, low_seq: int) -> _Live:
    if one.statement is None:
        return _Live(low_seq, problem=one.problem or "its definition isn't known")
    try:
        return _Live(low_seq, list(parts_of(one)))
    except ValueError as error:
        return _Live(low_seq, problem=str(error))


class _Catalog:
    """live: by name. temporary: names that a temporary sequence has or had; statements don't say which of the two they
    mean, and whose session has ended without a trace isn't known."""

    def __init__(self) -> None:
        self.live: dict[Name, _Live] = {}
        self.temporary: set[Name] = set()

    def play(self, ddl: Ddl) -> None:
        names = ddl.tables or ()
        if ddl.verb == "CREATE SEQUENCE" or (ddl.verb == "CREATE TABLE" and makes_sequence(ddl.statement)):
            self._create(ddl)
        elif ddl.verb in ("CREATE TABLE", "DROP TABLE", "DROP SEQUENCE"):
            there = [name for name in names if name in self.live]
            if there and not (ddl.verb == "CREATE TABLE" and _conditional(ddl)):
                for name in there:
                    del self.live[name]
        elif ddl.verb == "DROP DATABASE":
            gone = {db for db, _ in names}
            self.live = {name: live for name, live in self.live.items() if name[0] not in gone}
        elif ddl.verb == "RENAME TABLE":
            for old, new in zip(names[::2], names[1::2], strict=False):
                self._move(ddl, old, new)
        elif ddl.verb == "ALTER SEQUENCE":
            self._alter(ddl)
        elif ddl.verb == "ALTER TABLE" and names:
            self._alter_table(ddl, names)
        elif ddl.verb.endswith(" TEMPORARY TABLE"):
            self._temporary(ddl)

    def _create(self, ddl: Ddl) -> None:
        (name,) = ddl.tables or ()
        if name in self.live and _conditional(ddl):
            return
        try:
            self.live[name] = _Live(ddl.seq, [_statement(ddl)])
        except (ValueError, IndexError) as error:
            self.live[name] = _Live(ddl.seq, problem=_at(ddl, str(error)))

    def _alter(self, ddl: Ddl) -> None:
        (name,) = ddl.tables or ()
        live = self.live.get(name)
        if live is None:
            self.live[name] = _Live(ddl.seq, problem=_at(ddl, "only a statement that alters it is known"))
            return
        live.close(name, ddl.seq)
        if name in self.temporary:
            live.parts.append(Doubt(_at(ddl, "it may mean a temporary sequence of this name")))
            return
        try:
            live.parts.append(_statement(ddl))
        except (ValueError, IndexError) as error:
            live.parts.append(Doubt(_at(ddl, str(error))))

    def _alter_table(self, ddl: Ddl, names: Sequence[Name]) -> None:
        live = self.live.get(names[0])
        if live is None and "SEQUENCE" not in ddl.statement.upper():
            return
        words = list(scan(ddl.statement, ddl.session.sql_mode if ddl.session else 0))
        option = any(a.says("SEQUENCE") and b.says("=", "0", "1") for a, b in pairwise(words))
        if live is None:
            if option:
                self.live[names[0]] = _Live(ddl.seq, problem=_at(ddl, "a table was made a sequence"))
            return
        if option:
            del self.live[names[0]]  # it is a table from here on
            return
        moved = any(a.says("RENAME") and not b.says("COLUMN", "INDEX", "KEY") for a, b in pairwise(words))
        name = names[1] if moved and len(names) == 2 else names[0]
        self._move(ddl, names[0], name)
        try:
            rest = retargeted(ddl.statement, name)
            if rest is not None:
                live.parts.append(_statement(replace(ddl, statement=rest)))
        except (NotRewritten, SqlglotError, ValueError, IndexError) as error:
            live.problem = live.problem or _at(ddl, f"it can't be followed ({error})")

    def _move(self, ddl: Ddl, old: Name, new: Name) -> None:
        live = self.live.pop(old, None)
        if live is not None:
            live.close(old, ddl.seq)
            self.live[new] = live

    def _temporary(self, ddl: Ddl) -> None:
        if not self.temporary and "SEQUENCE" not in ddl.statement.upper():
            return
        words = list(scan(bare(ddl.statement)))
        if not any(w.says("SEQUENCE") for w in words[:5]) and not words[0].says("DROP"):
            return
        at = 1
        while at < len(words) and words[at].says(
            "OR", "REPLACE", "TEMPORARY", "TABLE", "SEQUENCE", "IF", "NOT", "EXISTS"
        ):
            at += 1
        named: set[Name] = set()
        while at < len(words):
            name, at = _name(words, at, ddl.default_db)
            named.add(name)
            if at >= len(words) or not words[at].says(","):
                break
            at += 1
        self.temporary = self.temporary - named if words[0].says("DROP") else self.temporary | named


def _statement(ddl: Ddl) -> Statement:
    text, mode = ddl.statement, 0
    if ddl.session is not None:
        text, session = in_usual_mode(text, ddl.verb, ddl.session)
        mode = session.sql_mode
    return parse(text, ddl.default_db, mode)[1]


def _conditional(ddl: Ddl) -> bool:
    words = list(scan(ddl.statement))
    return any(a.says("IF") and b.says("NOT") for a, b in pairwise(words[:5]))


def _at(ddl: Ddl, why: str) -> str:
    return f"`{ddl.verb}` at {ddl.file}:{ddl.position}: {why}"
