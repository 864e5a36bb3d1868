"""Which tables a DDL statement from the binlog may touch.

Works on tokens, not on a syntax tree: sqlglot parses only a part of MySQL's DDL, while the tables that a statement names
stand in a few fixed places. Whatever isn't recognised answers None, "may touch anything"; a restore then refuses rather
than guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES, Word, bare, scan

TableName = tuple[str, str]

# Statements that change neither rows nor columns of any table.
_HARMLESS_OBJECTS = frozenset(
    {
        "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "USER", "ROLE", "SERVER", "PACKAGE", "RESOURCE", "LOGFILE",
        "UNDO", "LIBRARY", "TABLESPACE", "REFERENCE",
    }
)  # fmt: skip
_HARMLESS_VERBS = frozenset({"GRANT", "REVOKE", "FLUSH", "INSTALL", "UNINSTALL", "CHANGE", "RESET", "PURGE"})
# Harmless only as ANALYZE TABLE and the like: MariaDB's ANALYZE runs whatever statement follows it.
_TABLE_CARE = frozenset({"ANALYZE", "OPTIMIZE", "REPAIR", "CHECK"})
# What follows these names another table inside ALTER TABLE: EXCHANGE PARTITION .. WITH TABLE, and MariaDB's CONVERT TABLE
# .. TO PARTITION and CONVERT PARTITION .. TO TABLE.
_OTHER_TABLE = frozenset({("WITH", "TABLE"), ("CONVERT", "TABLE"), ("TO", "TABLE")})


@dataclass(frozen=True)
class Classified:
    """verb: the statement's kind, such as "ALTER TABLE". tables: see `recovery.archive.actions.Ddl`."""

    verb: str
    tables: tuple[TableName, ...] | None


def classify(statement: str, default_db: str, sql_mode: int = 0) -> Classified:
    """Never raises; the unrecognised is `Classified(<first word>, None)`. sql_mode: under which the server read it."""
    text = bare(statement)
    try:
        # sqlglot takes RENAME, GRANT and others at a statement's start for opaque commands, so it doesn't get to see one.
        found = sqlglot.tokenize(f"SELECT {text}", read="mysql")[1:]
        tokens = [(t.text, t.token_type in (TokenType.IDENTIFIER, TokenType.STRING)) for t in found]
    except SqlglotError:
        tokens = []
    if sql_mode & (ANSI_QUOTES | NO_BACKSLASH_ESCAPES):  # which sqlglot doesn't know
        tokens = [(word.text, word.kind in ("name", "string")) for word in scan(statement, sql_mode)]
    if not tokens:
        return Classified((statement.split() or ["?"])[0].upper(), None)
    try:
        return _Reader(tokens, default_db).classify()
    except IndexError:
        return Classified(tokens[0][0].upper(), None)


def name_words(words: Sequence[Word], default_db: str) -> tuple[list[int], int]:
    """Which of a statement's words are the names that it is about, and which one stands behind them in a CREATE TABLE.
    words: without semicolons. For statements that `classify` knows; nothing where it doesn't."""
    reader = _Reader([(word.text, word.kind in ("name", "string")) for word in words], default_db)
    try:
        reader.classify()
    except IndexError:
        return [], len(words)
    return reader.named, reader.at


def makes_rows(create_table: str, sql_mode: int = 0) -> bool:
    """Whether a CREATE TABLE has a query whose rows the new table gets: SELECT, VALUES or TABLE, in parentheses and behind
    WITH or not. These words are reserved, so elsewhere they stand in quotes or behind a period; expressions of columns and
    constraints can't hold queries, and partitions say VALUES LESS THAN or VALUES IN."""
    found = list(scan(create_table, sql_mode))
    behind_period = {b.start for a, b in pairwise(found) if a.says(".") and a.end == b.start}
    keywords = [
        word.text.upper() for word in found if word.kind in ("word", "sign") and word.start not in behind_period
    ]
    values = any(a == "VALUES" and b not in ("LESS", "IN") for a, b in pairwise([*keywords, ""]))
    return values or "SELECT" in keywords or keywords.count("TABLE") > 1


class _Reader:
    """tokens: (text, whether it is a quoted name or a string). upper: keywords and signs, "" for what is quoted. named: the
    tokens that were taken for names."""

    def __init__(self, tokens: Sequence[tuple[str, bool]], default_db: str) -> None:
        self.words = [t for t in tokens if t != (";", False)]
        self.tokens = [text for text, _ in self.words]
        self.upper = ["" if quoted else text.upper() for text, quoted in self.words]
        self.db = default_db
        self.at = 0
        self.named: list[int] = []

    def take(self, *words: str) -> bool:
        """Step over these words if they all stand here."""
        end = self.at + len(words)
        if tuple(self.upper[self.at : end]) == words:
            self.at = end
            return True
        return False

    def name(self) -> TableName:
        first = self.tokens[self.at]
        self.named.append(self.at)
        self.at += 1
        if self.at + 1 < len(self.tokens) and self.upper[self.at] == ".":
            second = self.tokens[self.at + 1]
            self.named.append(self.at + 1)
            self.at += 2
            return first, second
        return self.db, first

    def names(self) -> tuple[TableName, ...]:
        found = [self.name()]
        while self.at < len(self.tokens) and self.upper[self.at] == ",":
            self.at += 1
            found.append(self.name())
        return tuple(found)

    def classify(self) -> Classified:
        verb = self.upper[0]
        self.at = 1
        if verb in ("CREATE", "ALTER", "DROP"):
            return self._object(verb)
        if verb == "TRUNCATE":
            self.take("TABLE")
            return Classified("TRUNCATE TABLE", (self.name(),))
        if verb == "RENAME":
            return self._rename()
        if verb == "SET":
            return self._set()
        if verb in _TABLE_CARE:
            harmless = self.upper[1] in ("TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG")
            return Classified(verb, () if harmless else None)
        return Classified(verb, () if verb in _HARMLESS_VERBS else None)

    def _set(self) -> Classified:
        """MariaDB's SET STATEMENT .. FOR runs the statement behind FOR."""
        if self.take("STATEMENT"):
            start = self.upper.index("FOR") + 1 if "FOR" in self.upper else len(self.words)
            rest = _Reader(self.words[start:], self.db)
            found = rest.classify()
            self.named, self.at = [start + at for at in rest.named], start + rest.at
            return found
        return Classified("SET", () if self.upper[1] in ("PASSWORD", "ROLE", "DEFAULT") else None)

    def _object(self, verb: str) -> Classified:
        replaced = self.take("OR", "REPLACE")
        if self.take("TEMPORARY"):
            return Classified(f"{verb} TEMPORARY TABLE", ())
        for word in ("ONLINE", "OFFLINE", "IGNORE", "UNIQUE", "FULLTEXT", "SPATIAL", "AGGREGATE"):
            if word != "SPATIAL" or self.upper[self.at + 1] == "INDEX":
                self.take(word)
        kind = self.upper[self.at]
        if kind in ("TABLE", "TABLES", "SEQUENCE"):
            self.at += 1
            return self._table(verb, "SEQUENCE" if kind == "SEQUENCE" else "TABLE")
        if kind == "INDEX":
            return self._index(verb)
        if kind in ("DATABASE", "SCHEMA"):
            return self._database("DROP" if replaced else verb)
        # CREATE [ALGORITHM=..] [DEFINER=..] [SQL SECURITY ..] VIEW and the like: the object's word comes a little later.
        for word in self.upper[self.at : self.at + 16]:
            if word in _HARMLESS_OBJECTS:
                return Classified(f"{verb} {word}", ())
            if word in ("TABLE", "INDEX"):
                break
        return Classified(verb, None)

    def _table(self, verb: str, kind: str) -> Classified:
        if not self.take("IF", "NOT", "EXISTS"):
            self.take("IF", "EXISTS")
        names = self.names() if verb == "DROP" else (self.name(),)
        if verb == "ALTER":
            names += self._renamed_to() + self._other_tables()
        return Classified(f"{verb} {kind}", names)

    def _renamed_to(self) -> tuple[TableName, ...]:
        """The new name in ALTER TABLE a RENAME [TO|AS|=] b; RENAME COLUMN, INDEX and KEY name no table."""
        depth = 0
        for index in range(self.at, len(self.tokens) - 1):
            token = self.upper[index]
            depth += (token == "(") - (token == ")")
            if depth == 0 and token == "RENAME" and self.upper[index + 1] not in ("COLUMN", "INDEX", "KEY"):
                self.at = index + 1
                for word in ("TO", "AS", "="):
                    if self.take(word):
                        break
                return (self.name(),)
        return ()

    def _other_tables(self) -> tuple[TableName, ...]:
        found: list[TableName] = []
        for index in range(len(self.tokens) - 2):
            if (self.upper[index], self.upper[index + 1]) in _OTHER_TABLE:
                self.at = index + 2
                found.append(self.name())
        return tuple(found)

    def _index(self, verb: str) -> Classified:
        self.at = self.upper.index("ON", self.at) + 1 if "ON" in self.upper[self.at :] else len(self.tokens)
        return Classified(f"{verb} INDEX", (self.name(),))

    def _database(self, verb: str) -> Classified:
        self.at += 1
        if not self.take("IF", "NOT", "EXISTS"):
            self.take("IF", "EXISTS")
        self.named += [self.at] if self.at < len(self.tokens) else []
        if verb == "DROP":
            return Classified("DROP DATABASE", ((self.tokens[self.at], ""),))
        if "UPGRADE" in self.upper:  # ALTER DATABASE `#mysql50#x` UPGRADE DATA DIRECTORY NAME renames it
            return Classified(f"{verb} DATABASE", None)
        return Classified(f"{verb} DATABASE", ())

    def _rename(self) -> Classified:
        if self.take("USER"):
            return Classified("RENAME USER", ())
        if not (self.take("TABLE") or self.take("TABLES")):
            return Classified("RENAME", None)
        self.take("IF", "EXISTS")
        names: list[TableName] = []
        while True:
            names.append(self.name())
            if self.take("WAIT"):
                self.at += 1
            else:
                self.take("NOWAIT")
            if not self.take("TO"):
                return Classified("RENAME TABLE", None)
            names.append(self.name())
            if not (self.at < len(self.tokens) and self.upper[self.at] == ","):
                return Classified("RENAME TABLE", tuple(names))
            self.at += 1
