"""Which statements can be replayed on a scratch server: those that leave the same rows there as they left on the source.

A statement works on the same rows, under the settings that the binlog has of it. What it may depend on besides (the clock's
zone, another server's random numbers, the order in which rows lie) is looked for here; in doubt it isn't replayed. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.alter import ChangeColumn, Unknown, parse_alter
from recovery.archive.actions import Ddl
from recovery.ddl import TableName
from recovery.lineage import model_of
from recovery.other_settings import computed_otherwise
from recovery.schema import Table
from recovery.sqlscan import NO_BACKSLASH_ESCAPES, bare
from recovery.tokens import tokens_of

# Functions whose values another server or moment doesn't repeat, or that depend on settings which the binlog doesn't have:
# MySQL manual, "Functions and Operators"; MariaDB's the same.
_UNREPEATABLE: Final = frozenset({
    "UUID", "UUID_SHORT", "UUID_V4", "UUID_V7", "SYS_GUID", "RAND", "RANDOM_BYTES", "SYSDATE", "USER", "CURRENT_USER",
    "SESSION_USER", "SYSTEM_USER", "CURRENT_ROLE", "CONNECTION_ID", "PS_CURRENT_THREAD_ID",
    "PS_THREAD_ID", "DATABASE", "SCHEMA", "VERSION", "ICU_VERSION", "LAST_INSERT_ID", "ROW_COUNT", "FOUND_ROWS",
    "NEXTVAL", "LASTVAL", "SETVAL", "GET_LOCK", "RELEASE_LOCK", "IS_FREE_LOCK", "IS_USED_LOCK",
    "LOAD_FILE", "SLEEP", "BENCHMARK", "FORMAT", "DATE_FORMAT", "TIME_FORMAT", "STR_TO_DATE", "DAYNAME", "MONTHNAME",
    "WEEK", "YEARWEEK", "ENCRYPT", "DES_ENCRYPT", "AES_ENCRYPT", "AES_DECRYPT", "PASSWORD", "STATEMENT_DIGEST",
    "EXTRACT", "TO_CHAR", "REGEXP_REPLACE", "REGEXP_SUBSTR", "REGEXP_INSTR", "REGEXP_LIKE", "REPEAT", "LPAD", "RPAD",
    "SPACE",
})  # fmt: skip
_WITHOUT_PARENTHESES: Final = frozenset({"CURRENT_USER", "CURRENT_ROLE", "RLIKE", "REGEXP"})
_CLOCK: Final = frozenset({
    "NOW", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP", "CURDATE", "CURRENT_DATE", "CURTIME", "CURRENT_TIME",
    "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "UNIX_TIMESTAMP", "FROM_UNIXTIME", "CONVERT_TZ",
})  # fmt: skip
_BY_ORDER: Final = ("AUTO_INCREMENT", "IGNORE", "ORDER")
_INNODB: Final = re.compile(r"\) ENGINE=InnoDB\b")
_COUNTS: Final = re.compile(r"^  `.*\bAUTO_INCREMENT\b", re.MULTILINE)


def why_not(ddl: Ddl) -> str | None:
    """Why the statement isn't replayed, whatever the tables; None if it is."""
    if not ddl.tables or any(not table for _, table in ddl.tables):
        return "which tables it touches isn't known"
    if ddl.session is None or not ddl.session.complete:
        return "the archive doesn't have the settings under which it ran"
    if ddl.session.sql_mode & NO_BACKSLASH_ESCAPES and "\\" in ddl.statement:
        return "it can't be read under its sql_mode"
    if (why := computed_otherwise(ddl)) is not None:
        return why  # the values would be right there, and others where the restore is loaded
    try:
        tokens = _tokens(ddl)
        if copied_from(ddl) is not None:
            return None  # no rows, and the model's own definition
        if ddl.verb not in ("ALTER TABLE", "CREATE INDEX", "DROP INDEX"):
            return "it isn't of a kind that can be"
    except (SqlglotError, ValueError, IndexError):
        return "it can't be parsed"
    words = _words(tokens)
    kinds = {t.token_type for t in tokens}
    if "TABLESPACE" in words:
        return "it takes rows from a file"
    pairs = set(pairwise(t.text.upper() for t in tokens))
    if ("WITHOUT", "VALIDATION") in pairs:
        return "rows may lie in another partition than their values say"
    if {("SET", "DEFAULT"), ("CHARSET", "DEFAULT"), ("COLLATE", "DEFAULT")} & pairs and "CONVERT" in words:
        return "it goes by a database's character set"
    if words & {"VERSIONING", "PERIOD"}:
        return "it is about the history of rows"
    if kinds & {TokenType.PARAMETER, TokenType.SESSION_PARAMETER}:
        return "it depends on a variable"
    if found := _called(tokens) & _UNREPEATABLE | words & _WITHOUT_PARENTHESES:
        return f"{min(found)} may give something else there"
    if {("NEXT", "VALUE"), ("PREVIOUS", "VALUE")} & pairs:
        return "it takes numbers of a sequence"
    if TokenType.SLASH in kinds:
        return "the digits of a division depend on div_precision_increment"
    zone = ddl.session.zone
    if zone == "SYSTEM":
        return "it depends on the time zone of the source's operating system"
    if words & _CLOCK and zone is None:
        return "the binlog doesn't have the time zone that it ran under"
    return None


def why_not_on(ddl: Ddl, before: Sequence[Table], creates: Sequence[str], flavor: str) -> str | None:
    """Why it isn't replayed on these tables, as they were before it; None if it is. creates: their SHOW CREATE TABLE."""
    assert ddl.session is not None
    if copied_from(ddl) is not None:
        return None
    words = _words(_tokens(ddl))
    if any(c.generated for t in before for c in t.columns):
        return "it works on generated columns, whose values were computed under other settings"
    if not all(_INNODB.search(text) for text in creates):
        return "only InnoDB keeps rows in the order of a key"
    if "AUTO_INCREMENT" in words and any(_COUNTS.search(text) for text in creates):
        return "numbers go on from a counter that the binlog doesn't have"
    for word in _BY_ORDER:
        keyless = next((t for t in before if not t.key), None)
        if word in words and keyless is not None:
            return f"what it does goes by the order of the rows, and `{keyless.label}` has no key"
    changed = set(_retyped(ddl, before[0]))
    if ddl.session.time_zone is None and any("timestamp" in kinds for kinds in changed):
        return "the binlog doesn't have the time zone that it ran under"
    if flavor == "mariadb" and ("UTF8" in words or ("time", "datetime") in changed or ("time", "timestamp") in changed):
        return "it depends on old_mode, which the binlog doesn't have"
    if flavor == "mariadb" and "TIMESTAMP" in words and ddl.session.explicit_timestamps is None:
        return "it depends on explicit_defaults_for_timestamp, which the binlog doesn't have"
    return None


def copied_from(ddl: Ddl) -> TableName | None:
    """The model of CREATE TABLE .. LIKE; None for any other statement. Raises SqlglotError, ValueError and IndexError."""
    return model_of(bare(ddl.statement), ddl.default_db) if ddl.verb == "CREATE TABLE" else None


def moves(ddl: Ddl) -> bool:
    """Whether an ALTER TABLE's second table isn't there before it: it renames, or (MariaDB) makes a table of a partition."""
    words = [t.text.upper() for t in _tokens(ddl)]
    return "RENAME" in words or ("CONVERT", "PARTITION") in set(pairwise(words))


def _tokens(ddl: Ddl) -> list[Token]:
    """Raises SqlglotError."""
    return tokens_of(bare(ddl.statement))


def _words(tokens: Iterable[Token]) -> frozenset[str]:
    """In upper case, without names in backticks and strings."""
    return frozenset(t.text.upper() for t in tokens if t.token_type not in (TokenType.IDENTIFIER, TokenType.STRING))


def _called(tokens: Iterable[Token]) -> frozenset[str]:
    """What stands in front of a parenthesis, in backticks or not."""
    return frozenset(a.text.upper() for a, b in pairwise(tokens) if b.token_type is TokenType.L_PAREN)


def _retyped(ddl: Ddl, before: Table) -> Iterator[tuple[str, str]]:
    """(old type, new type) of columns that get another one; of each column if a clause can't be read."""
    was = {c.name.casefold(): c.type for c in before.columns}
    for operation in parse_alter(ddl.statement, ddl.default_db) if ddl.verb == "ALTER TABLE" else ():
        if isinstance(operation, ChangeColumn):
            kinds = was.get(operation.old.casefold(), ""), operation.spec.column.type
            if kinds[0] != kinds[1]:
                yield kinds
        elif isinstance(operation, Unknown):
            yield from ((kind, "") for kind in was.values())
