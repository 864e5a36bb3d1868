"""The keys and CHECK constraints of a table at a moment, from its CREATE TABLE and the DDL behind it.

What a load of rows runs into that the source never had together (recovery/except_checks.py): unique keys with the collations
of their columns and what generated columns are made of, and CHECK constraints. Says too much rather than too little: a
constraint that was dropped under a name which isn't certain is taken for one that is there. Works on tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.alter import INDEX_WORDS, parse_alter, renamed, skip_name
from recovery.archive.actions import Ddl
from recovery.errors import NotComputable
from recovery.generated import body_of
from recovery.lineage import Lineage
from recovery.quoting import quote
from recovery.scope import label, spelled
from recovery.sqlscan import bare
from recovery.tokens import Reader, clauses, keyword, outside, says, tokens_of

PRIMARY: Final = "primary key"
UNIQUE: Final = "unique key"
CHECK: Final = "check constraint"


@dataclass(frozen=True)
class Part:
    """Of a key: a column, or an expression. length: of a prefix, in characters of texts and bytes of others."""

    column: str | None
    length: int | None = None
    expression: str | None = None


@dataclass(frozen=True)
class Constraint:
    """reads: the plain columns, folded to lower case, on which it depends. since: the statement that made it, or that last
    gave one of its columns another definition; None if the table began with it. expression: of a CHECK."""

    kind: str
    name: str
    parts: tuple[Part, ...] = ()
    expression: str | None = None
    reads: frozenset[str] = frozenset()
    since: Ddl | None = None
    enforced: bool = True

    @property
    def text(self) -> str:
        """For a message."""
        if self.kind == CHECK:
            return f"{self.kind} `{self.name}` ({self.expression})"
        columns = ", ".join(p.column or p.expression or "" for p in self.parts)
        name = f" `{self.name}`" if self.kind == UNIQUE and self.name else ""
        return f"{self.kind}{name} ({columns})"


@dataclass(frozen=True)
class ColumnFacts:
    """type: its word. collation: None if it isn't known. generated: its expression. null: rows that don't say otherwise have
    NULL in it."""

    name: str
    type: str = ""
    collation: str | None = None
    generated: str | None = None
    null: bool = True


@dataclass
class Definition:
    """Of a table; columns by their folded names. versioned: MariaDB keeps the history of its rows in it, in which keys hold
    with the end of each row's time."""

    columns: dict[str, ColumnFacts] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)
    collation: str | None = None
    versioned: bool = False
    _row_end: str = "row_end"
    _ddl: Ddl | None = None
    _text: str = ""

    def collation_of(self, column: str) -> str | None:
        facts = self.columns.get(column.casefold())
        return None if facts is None else facts.collation

    # --- statements -----------------------------------------------------------------------------------------------

    def create(self, statement: str, ddl: Ddl | None) -> None:
        self._ddl, self._text = ddl, bare(statement)
        tokens = tokens_of(self._text)
        inside = body_of(tokens)
        options = [t for t in tokens if inside and t.start > inside[-1].end][1:]
        self.collation = _collation(options, None)
        self.versioned = says([keyword(t) for t in options], "SYSTEM", "VERSIONING")
        for clause in clauses(inside):
            self._element(clause)

    def run(self, ddl: Ddl) -> None:
        """A statement behind it: ALTER TABLE, CREATE INDEX, DROP INDEX."""
        self._ddl, self._text = ddl, bare(ddl.statement)
        reader = Reader(tokens_of(self._text), ddl.default_db)
        if ddl.verb == "ALTER TABLE":
            skip_name(reader)
            parts = [*clauses(reader.rest())]
            drops = [part for part in parts if keyword(part[0]) == "DROP"]
            for part in drops:
                self._clause(Reader(part, ddl.default_db))
            self._rename_columns(renamed(parse_alter(ddl.statement, ddl.default_db)))
            for part in parts:
                if part not in drops:
                    self._clause(Reader(part, ddl.default_db))
        elif ddl.verb == "CREATE INDEX":
            reader.skip("CREATE", "OR", "REPLACE", "ONLINE", "OFFLINE")
            unique = reader.take("UNIQUE")
            reader.skip("FULLTEXT", "SPATIAL", "INDEX", "IF", "NOT", "EXISTS")
            name = reader.name()
            while not reader.take("ON"):
                reader.next()
            reader.table()
            if unique:
                self._key(UNIQUE, name, reader)
        elif ddl.verb == "DROP INDEX":
            reader.skip("DROP", "ONLINE", "OFFLINE", "INDEX", "IF", "EXISTS")
            self._drop_named(reader.name(), (PRIMARY, UNIQUE))

    def _clause(self, reader: Reader) -> None:
        word = reader.peek()
        if reader.peek(1) == "SYSTEM":
            self.versioned = word == "ADD"
        elif word in ("ADD", "MODIFY", "CHANGE") and reader.peek(1) not in ("PARTITION", "PERIOD"):
            reader.next()
            self._added(reader, word)
        elif word == "DROP":
            reader.next()
            self._drop(reader)
        elif word == "RENAME" and reader.peek(1) in ("INDEX", "KEY"):
            reader.at += 2
            reader.skip("IF", "EXISTS")
            old = reader.name()
            reader.take("TO")
            self._rename_key(old, reader.name())
        elif word == "ALTER" and reader.peek(1) in ("CHECK", "CONSTRAINT"):
            reader.at += 2
            self._enforce(reader.name(), not reader.take("NOT"))
        elif word == "CONVERT":
            collation = _collation(reader.rest(), None)
            self.collation = collation
            for name, facts in self.columns.items():
                self.columns[name] = replace(facts, collation=collation)
            self.constraints = [replace(c, since=self._ddl) for c in self.constraints]
        elif word in ("DEFAULT", "CHARSET", "CHARACTER", "COLLATE"):
            self.collation = _collation(reader.rest(), self.collation)

    def _added(self, reader: Reader, verb: str) -> None:
        column = reader.take("COLUMN")
        if verb == "ADD" and not column and reader.peek() in INDEX_WORDS:
            self._element(reader.rest())
            return
        reader.skip("IF", "NOT", "EXISTS")
        if verb == "ADD" and reader.peek() == "(":
            for part in clauses(reader.parenthesised()):
                self._element(part)
            return
        if verb != "ADD":
            if verb == "CHANGE":
                reader.name()
            self._redefined(reader.tokens[reader.at].text)
        self._column(reader)

    def _element(self, clause: Sequence[Token]) -> None:
        """A column, key or constraint, as CREATE TABLE has it between its parentheses."""
        reader = Reader(clause)
        name = ""
        if reader.take("CONSTRAINT") and reader.peek() not in ("UNIQUE", "PRIMARY", "CHECK", "FOREIGN"):
            reader.skip("IF", "NOT", "EXISTS")
            name = reader.name()
        if reader.take("UNIQUE"):
            reader.skip("KEY", "INDEX")
            reader.skip("IF", "NOT", "EXISTS")
            if reader.peek() not in ("(", "USING"):
                name = reader.name()
            self._key(UNIQUE, name, reader)
        elif reader.take("PRIMARY", "KEY"):
            self._key(PRIMARY, "PRIMARY", reader)
        elif reader.take("CHECK"):
            self._check(name, reader)
        elif reader.peek() not in (*INDEX_WORDS, "PERIOD", "LIKE"):
            self._column(reader)

    # --- what they define -----------------------------------------------------------------------------------------

    def _column(self, reader: Reader) -> None:
        name = reader.name()
        facts = ColumnFacts(name, reader.peek(), _collation(reader.rest(), self.collation))
        keys: list[str] = []
        while not reader.done:
            if reader.take("GENERATED", "ALWAYS", "AS", "(") or reader.take("AS", "("):
                reader.at -= 1
                facts = replace(facts, generated=self._source(reader.parenthesised()))
            elif reader.take("ROW", "END"):
                self._row_end = name
            elif reader.take("NOT", "NULL"):
                facts = replace(facts, null=False)
            elif reader.take("DEFAULT"):
                facts = replace(facts, null=facts.null and reader.take("NULL"))
            elif reader.take("CHECK"):
                self._check(name, reader)
            elif reader.peek() == "(":
                reader.parenthesised()
            elif reader.take("UNIQUE"):
                reader.skip("KEY")
                keys.append(UNIQUE)
            elif reader.take("PRIMARY") or reader.take("KEY"):
                reader.skip("KEY")
                keys.append(PRIMARY)
            else:
                reader.next()
        self.columns[name.casefold()] = facts
        self.constraints += [Constraint(kind, name, (Part(name),), since=self._ddl) for kind in keys]

    def _key(self, kind: str, name: str, reader: Reader) -> None:
        if reader.skip("USING"):
            reader.next()
        parts = []
        for clause in clauses(reader.parenthesised()):
            part = Reader(clause)
            if part.peek() == "(":
                inside = part.parenthesised()
                parts.append(Part(None, None, self._source(inside)))
                continue
            column = part.name()
            length = part.parenthesised() if part.peek() == "(" else []
            parts.append(Part(column, int(length[0].text) if length else None))
        name = name or parts[0].column or ""
        self.constraints.append(Constraint(kind, name, tuple(parts), since=self._ddl))

    def _check(self, name: str, reader: Reader) -> None:
        expression = self._source(reader.parenthesised())
        enforced = not reader.take("NOT", "ENFORCED")
        self.constraints.append(Constraint(CHECK, name, (), expression, since=self._ddl, enforced=enforced))

    def _source(self, tokens: Sequence[Token]) -> str:
        return self._text[tokens[0].start : tokens[-1].end + 1]

    # --- what they change -----------------------------------------------------------------------------------------

    def _drop(self, reader: Reader) -> None:
        column = reader.take("COLUMN")
        word = reader.peek()
        if not column and word == "PRIMARY":
            self.constraints = [c for c in self.constraints if c.kind != PRIMARY]
        elif not column and word in ("INDEX", "KEY", "CONSTRAINT", "CHECK"):
            reader.next()
            reader.skip("IF", "EXISTS")
            kinds = {"CONSTRAINT": (PRIMARY, UNIQUE, CHECK), "CHECK": (CHECK,)}.get(word, (UNIQUE,))
            self._drop_named(reader.name(), kinds)
        elif not column and word in ("FOREIGN", "PARTITION", "PERIOD"):
            return
        else:
            reader.skip("IF", "EXISTS")
            self._drop_column(reader.name())

    def _drop_named(self, name: str, kinds: Sequence[str]) -> None:
        self.constraints = [c for c in self.constraints if c.kind not in kinds or not _same(c.name, name)]

    def _drop_column(self, name: str) -> None:
        """Keys go on without it (MySQL manual, "ALTER TABLE Statement")."""
        self.columns.pop(name.casefold(), None)
        kept = []
        for one in self.constraints:
            if any(_same(p.column, name) for p in one.parts):
                parts = tuple(p for p in one.parts if not _same(p.column, name))
                one = replace(one, parts=parts, since=self._ddl)
            if one.kind == CHECK or one.parts:
                kept.append(one)
        self.constraints = kept

    def _rename_columns(self, names: Mapping[str, str]) -> None:
        """All at once, for they may exchange their names: those that do are put aside first."""
        taken = {new.casefold() for old, new in names.items() if old != new.casefold()}
        aside = {old: f"rowback_{number}" for number, old in enumerate(names) if old in taken}
        for old, name in aside.items():
            self._rename_column(old, name)
        for old, new in names.items():
            self._rename_column(aside.get(old, old), new)

    def _rename_column(self, old: str, new: str) -> None:
        facts = self.columns.pop(old.casefold(), None)
        if facts is not None:
            self.columns[new.casefold()] = replace(facts, name=new)
        if not _same(old, new):
            for name, one in self.columns.items():
                self.columns[name] = replace(one, generated=_retold(one.generated, old, new))
            self.constraints = [_renamed(c, old, new) for c in self.constraints]

    def _redefined(self, name: str) -> None:
        changed = self._ddl
        self.constraints = [
            replace(c, since=changed) if name.casefold() in self._reads(c) else c for c in self.constraints
        ]

    def _rename_key(self, old: str, new: str) -> None:
        self.constraints = [
            replace(c, name=new) if c.kind == UNIQUE and _same(c.name, old) else c for c in self.constraints
        ]

    def _enforce(self, name: str, enforced: bool) -> None:
        self.constraints = [
            replace(c, enforced=enforced, since=self._ddl) if c.kind == CHECK and _same(c.name, name) else c
            for c in self.constraints
        ]

    def finished(self) -> tuple[Constraint, ...]:
        """Those that hold, with the columns on which they depend."""
        found = [c for c in self.constraints if c.enforced]
        if self.versioned:
            self.columns.setdefault(self._row_end.casefold(), ColumnFacts(self._row_end, "TIMESTAMP", null=False))
            found = [replace(c, parts=(*c.parts, Part(self._row_end))) if c.parts else c for c in found]
        return tuple(replace(c, reads=self._reads(c)) for c in found)

    def _reads(self, one: Constraint) -> frozenset[str]:
        words = {p.column.casefold() for p in one.parts if p.column is not None}
        if not words <= self.columns.keys():  # a period, of WITHOUT OVERLAPS
            words |= self.columns.keys()
        for text in (one.expression, *(p.expression for p in one.parts)):
            words |= _mentioned(text)
        return self.plain(words)

    def plain(self, names: set[str]) -> frozenset[str]:
        """The columns among these words that are written, and those of which the generated ones are made."""
        found: set[str] = set()
        open_ = {n for n in names if n in self.columns}
        while open_:
            found |= open_
            open_ = {m for n in open_ for m in _mentioned(self.columns[n].generated) if m in self.columns} - found
        return frozenset(n for n in found if self.columns[n].generated is None)


def definition_of(lineage: Lineage) -> Definition:
    """The table's at the cut. Raises NotComputable for statements that can't be read."""
    found = Definition()
    try:
        found.create(lineage.create.statement, lineage.create.ddl)
        for step in lineage.program:
            found.run(step.ddl)
    except (SqlglotError, IndexError, ValueError) as error:
        raise NotComputable(
            f"table `{label(lineage.name)}` can't be restored without the transaction: its definition can't be read",
            hint=f"Leave the table out with `--exclude '{spelled(lineage.name)}'`.",
        ) from error
    return found


def _collation(tokens: Sequence[Token], default: str | None) -> str | None:
    """Of a column's or table's options: the one named there; None where only a character set is, whose default isn't
    looked up; else the default."""
    words = list(outside(tokens))
    for at, word in enumerate(words):
        if keyword(word) == "COLLATE":
            rest = [w.text.lower() for w in words[at + 1 : at + 3] if w.token_type is not TokenType.EQ]
            return rest[0] if rest else None
    if any(keyword(w) in ("CHARSET", "CHARACTER") for w in words):
        return None
    return default


def _mentioned(expression: str | None) -> frozenset[str]:
    """What may be names in it, folded."""
    tokens = tokens_of(expression) if expression else []
    return frozenset(t.text.casefold() for t in tokens if t.token_type is not TokenType.STRING)


def _renamed(one: Constraint, old: str, new: str) -> Constraint:
    parts = tuple(
        replace(p, column=new) if _same(p.column, old) else replace(p, expression=_retold(p.expression, old, new))
        for p in one.parts
    )
    return replace(one, parts=parts, expression=_retold(one.expression, old, new))


def _retold(expression: str | None, old: str, new: str) -> str | None:
    """The expression with a column's new name, as MariaDB rewrites it; MySQL refuses the statement."""
    if expression is None:
        return None
    for token in reversed(tokens_of(expression)):
        if token.token_type is not TokenType.STRING and _same(token.text, old):
            expression = expression[: token.start] + quote(new) + expression[token.end + 1 :]
    return expression


def _same(a: str | None, b: str) -> bool:
    return a is not None and a.casefold() == b.casefold()
