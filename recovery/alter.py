"""What an ALTER TABLE statement does to rows: a list of small operations, in the statement's order.

Works on tokens, like recovery/ddl.py. Whatever isn't understood becomes `Unknown` with its text, never nothing: a restore
then refuses the statement by name. Indexes, comments and table options are `Harmless`: they change no row image's meaning.
Sources: MySQL manual, "ALTER TABLE Statement", "CREATE TABLE Statement" (column_definition), "Data Type Default Values";
MariaDB's the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.ddl import EXECUTABLE_COMMENT, TableName
from recovery.partitions import NotFolded, Partition, Partitioning, RowTest, definitions, partitioning_of
from recovery.schema import Column

_TYPES: Final = {
    "TINYINT": "tinyint", "SMALLINT": "smallint", "MEDIUMINT": "mediumint", "INT": "int", "INTEGER": "int",
    "BIGINT": "bigint", "BOOL": "tinyint", "BOOLEAN": "tinyint", "DECIMAL": "decimal", "NUMERIC": "decimal",
    "DEC": "decimal", "FIXED": "decimal", "FLOAT": "float", "DOUBLE": "double", "DOUBLE PRECISION": "double",
    "REAL": "double", "BIT": "bit", "DATE": "date", "TIME": "time", "DATETIME": "datetime", "TIMESTAMP": "timestamp",
    "YEAR": "year", "CHAR": "char", "CHARACTER": "char", "VARCHAR": "varchar", "BINARY": "binary",
    "VARBINARY": "varbinary", "TINYTEXT": "text", "TEXT": "text", "MEDIUMTEXT": "text", "LONGTEXT": "text",
    "TINYBLOB": "blob", "BLOB": "blob", "MEDIUMBLOB": "blob", "LONGBLOB": "blob", "ENUM": "enum", "SET": "set",
    "JSON": "json", "VECTOR": "vector", "UUID": "uuid", "INET4": "inet4", "INET6": "inet6", "GEOMETRY": "geometry",
    "POINT": "geometry", "LINESTRING": "geometry", "POLYGON": "geometry", "MULTIPOINT": "geometry",
    "MULTILINESTRING": "geometry", "MULTIPOLYGON": "geometry", "GEOMETRYCOLLECTION": "geometry",
    "GEOMCOLLECTION": "geometry", "INT1": "tinyint", "INT2": "smallint", "INT3": "mediumint", "MIDDLEINT": "mediumint",
    "INT4": "int", "INT8": "bigint",
}  # fmt: skip
_FRACTIONAL: Final = frozenset({"time", "datetime", "timestamp"})
_INTEGERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_INDEX_WORDS: Final = frozenset(
    {"INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "PRIMARY", "CONSTRAINT", "FOREIGN", "CHECK"}
)
_LITERALS: Final = frozenset({TokenType.STRING, TokenType.NUMBER, TokenType.HEX_STRING, TokenType.BIT_STRING})
_PARTITION_CARE: Final = ("COALESCE", "ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "REPAIR")
# What may follow a clause's first word and yet changes no row: options of the table, the algorithm, locks, indexes.
_HARMLESS: Final = frozenset({
    "ENGINE", "AUTO_INCREMENT", "COMMENT", "ROW_FORMAT", "KEY_BLOCK_SIZE", "STATS_PERSISTENT", "STATS_AUTO_RECALC",
    "STATS_SAMPLE_PAGES", "ALGORITHM", "LOCK", "FORCE", "ENABLE", "DISABLE", "AVG_ROW_LENGTH", "MAX_ROWS", "MIN_ROWS",
    "CHECKSUM", "DELAY_KEY_WRITE", "PACK_KEYS", "COMPRESSION", "PAGE_COMPRESSED", "ENCRYPTION", "WAIT", "NOWAIT", "DEFAULT",
    "CHARACTER", "CHARSET", "COLLATE", "WITH", "WITHOUT", "ORDER", "ANALYZE", "OPTIMIZE", "REBUILD", "CHECK",
})  # fmt: skip


@dataclass(frozen=True)
class Default:
    """A column's default. text: as a MySQL literal, None for NULL; known: False for an expression or the current time."""

    text: str | None
    known: bool = True


@dataclass(frozen=True)
class ColumnSpec:
    """A column definition. column.charset is None where the statement names none (the table's default holds), column.octets
    is the length in characters of char and varchar, in bytes of binary and varbinary. default: None without a DEFAULT."""

    column: Column
    default: Default | None
    auto_increment: bool = False


@dataclass(frozen=True)
class AddColumn:
    spec: ColumnSpec


@dataclass(frozen=True)
class DropColumn:
    name: str


@dataclass(frozen=True)
class RenameColumn:
    old: str
    new: str


@dataclass(frozen=True)
class ChangeColumn:
    """MODIFY (the names are equal) or CHANGE."""

    old: str
    spec: ColumnSpec


@dataclass(frozen=True)
class ChangeDefault:
    """ALTER COLUMN .. SET DEFAULT or DROP DEFAULT: of later inserts only."""

    name: str


@dataclass(frozen=True)
class ConvertCharset:
    charset: str


@dataclass(frozen=True)
class ChangeKey:
    """ADD or DROP of a primary or unique key: rows are told apart by other columns from here on."""

    text: str


@dataclass(frozen=True)
class RenameTable:
    name: TableName


@dataclass(frozen=True)
class Harmless:
    text: str


@dataclass(frozen=True)
class Unknown:
    text: str


@dataclass(frozen=True)
class Repartition:
    """PARTITION BY, or REMOVE PARTITIONING (by: None): rows stay. by: as far as it can be read, else why not."""

    by: Partitioning | str | None


@dataclass(frozen=True)
class AddPartitions:
    parts: tuple[Partition, ...]


@dataclass(frozen=True)
class ReorganizePartitions:
    names: tuple[str, ...]
    parts: tuple[Partition, ...]


@dataclass(frozen=True)
class EmptyPartitions:
    """TRUNCATE PARTITION, or DROP PARTITION (dropped). names: None for ALL."""

    names: tuple[str, ...] | None
    dropped: bool
    text: str


@dataclass(frozen=True)
class RemoveRows:
    """The rows that an EmptyPartitions takes away; recovery/lineage.py puts it in its place."""

    test: RowTest


Operation: TypeAlias = (
    AddColumn | DropColumn | RenameColumn | ChangeColumn | ChangeDefault | ConvertCharset | ChangeKey | RenameTable
    | Repartition | AddPartitions | ReorganizePartitions | EmptyPartitions | RemoveRows | Harmless | Unknown
)  # fmt: skip


def tokens_of(statement: str) -> list[Token]:
    """A statement's tokens; start and end are offsets in it. Raises SqlglotError."""
    # sqlglot takes some statements for opaque commands at their first word, so it doesn't get to see one; and it makes one
    # token of PRIMARY KEY and the like.
    found = []
    for t in sqlglot.tokenize(f"SELECT {statement}", read="mysql")[1:]:
        quoted = t.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        words = [t.text] if quoted else t.text.split() or [t.text]
        found += [Token(t.token_type, word, t.line, t.col, t.start - 7, t.end - 7) for word in words]
    return [t for t in found if t.token_type is not TokenType.SEMICOLON]


def bare(statement: str) -> str:
    """The statement with what stands in executable comments as a part of it."""
    return EXECUTABLE_COMMENT.sub(r" \1 ", statement)


def parse_alter(statement: str, default_db: str) -> tuple[Operation, ...]:
    """The operations of an ALTER TABLE statement, behind its table's name. Never raises."""
    try:
        reader = _Reader(tokens_of(bare(statement)), default_db)
        reader.skip("ALTER", "ONLINE", "OFFLINE", "IGNORE", "TABLE", "IF", "EXISTS")
        reader.table()
        while reader.skip("WAIT", "NOWAIT") and reader.peek().isdigit():
            reader.next()
        rest = reader.rest()
        partitioned = _partition_operation(reader)
        if partitioned is not None:
            return (partitioned if reader.done else Unknown(" ".join(t.text for t in rest)),)
        return tuple(op for clause in clauses(reader.rest()) for op in _operations(clause, default_db))
    except (SqlglotError, IndexError):
        return (Unknown(" ".join(statement.split())),)


def _partition_operation(reader: _Reader) -> Operation | None:
    """The statement's operation on partitions, which is its only one; None if it begins with another. Raises IndexError."""
    text = " ".join(t.text for t in reader.rest())
    if reader.take("REMOVE", "PARTITIONING"):
        return Repartition(None)
    if reader.peek() == "PARTITION" and reader.peek(1) == "BY":
        clause, reader.at = reader.rest(), len(reader.tokens)
        try:
            return Repartition(partitioning_of(clause))
        except NotFolded as error:
            return Repartition(str(error))
    verb = reader.peek()
    if reader.peek(1) != "PARTITION" or verb not in (*_PARTITION_CARE, "ADD", "DROP", "TRUNCATE", "REORGANIZE"):
        return None
    reader.at += 2
    reader.skip("NO_WRITE_TO_BINLOG", "LOCAL", "IF", "NOT", "EXISTS")
    if verb in _PARTITION_CARE or (verb == "ADD" and reader.peek() != "("):  # HASH and KEY: of a number of partitions
        reader.at = len(reader.tokens)
        return Harmless(text)
    if verb == "ADD":
        return AddPartitions(definitions(reader.parenthesised()))
    names = [] if reader.done else [t.text for t in _names(reader)]
    if verb == "REORGANIZE":
        if not names:
            return Harmless(text)
        return ReorganizePartitions(tuple(names), definitions(reader.parenthesised()))
    all_of_them = verb == "TRUNCATE" and [n.upper() for n in names] == ["ALL"]
    return EmptyPartitions(None if all_of_them else tuple(names), verb == "DROP", text)


def _names(reader: _Reader) -> Iterator[Token]:
    """Up to INTO, which is stepped over, or the end."""
    while not reader.done and not reader.take("INTO"):
        token = reader.next()
        if token.token_type is not TokenType.COMMA:
            yield token


class _Reader:
    def __init__(self, tokens: Sequence[Token], default_db: str) -> None:
        self.tokens = list(tokens)
        self.db = default_db
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """The next word in upper case; "" at the end or for a quoted name or string."""
        index = self.at + ahead
        if index >= len(self.tokens) or self.tokens[index].token_type in (TokenType.STRING, TokenType.IDENTIFIER):
            return ""
        return self.tokens[index].text.upper()

    def next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def take(self, *words: str) -> bool:
        if tuple(self.peek(i) for i in range(len(words))) == words:
            self.at += len(words)
            return True
        return False

    def skip(self, *words: str) -> bool:
        """Step over any of these words; whether there was one."""
        start = self.at
        while self.peek() and self.peek() in words:
            self.at += 1
        return self.at > start

    def name(self) -> str:
        return self.next().text

    def table(self) -> TableName:
        first = self.name()
        if self.at + 1 < len(self.tokens) and self.tokens[self.at].token_type is TokenType.DOT:
            self.at += 1
            return first, self.name()
        return self.db, first

    def parenthesised(self) -> list[Token]:
        """What stands between the parenthesis here and its end; it is stepped over."""
        depth = 0
        inside: list[Token] = []
        while True:
            token = self.next()
            depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
            if depth == 0:
                return inside[1:]
            inside.append(token)

    def rest(self) -> list[Token]:
        return self.tokens[self.at :]

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)


def clauses(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The parts between commas outside parentheses."""
    depth = 0
    clause: list[Token] = []
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth == 0 and token.token_type is TokenType.COMMA:
            yield clause
            clause = []
        else:
            clause.append(token)
    if clause:
        yield clause


def _operations(clause: Sequence[Token], db: str) -> Iterator[Operation]:
    text = " ".join(t.text for t in clause)
    reader = _Reader(clause, db)
    try:
        yield from _CLAUSES.get(reader.peek(), _other)(reader, text)
    except (IndexError, _NotUnderstood):
        yield Unknown(text)


class _NotUnderstood(Exception):
    pass


def _add(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    column = reader.take("COLUMN")
    word = reader.peek()
    if not column and word in _INDEX_WORDS:
        yield _key(reader, text)
        return
    if not column and word in ("PARTITION", "PERIOD", "SYSTEM"):
        raise _NotUnderstood
    reader.skip("IF", "NOT", "EXISTS")
    if reader.tokens[reader.at].token_type is TokenType.L_PAREN:
        for part in clauses(reader.parenthesised()):
            if part[0].token_type is not TokenType.IDENTIFIER and part[0].text.upper() in _INDEX_WORDS:
                yield _key(_Reader(part, reader.db), text)
                continue
            yield from _added(column_spec(_Reader(part, reader.db)))
        return
    yield from _added(column_spec(reader))


def _added(found: tuple[ColumnSpec, bool]) -> Iterator[Operation]:
    spec, keyed = found
    yield AddColumn(spec)
    if keyed:
        yield ChangeKey(spec.column.name)


def _drop(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    column = reader.take("COLUMN")
    word = reader.peek()
    if not column and word in ("PRIMARY", "INDEX", "KEY", "CONSTRAINT"):
        yield ChangeKey(text)  # by its name alone nothing tells whether it was unique
    elif not column and word in ("FOREIGN", "CHECK"):
        yield Harmless(text)
    elif not column and word in ("PARTITION", "SYSTEM", "PERIOD"):
        raise _NotUnderstood
    else:
        reader.skip("IF", "EXISTS")
        yield DropColumn(reader.name())


def _modify(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    reader.take("COLUMN")
    reader.skip("IF", "EXISTS")
    spec, keyed = column_spec(reader)
    yield ChangeColumn(spec.column.name, spec)
    if keyed:
        yield ChangeKey(text)


def _change(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    reader.take("COLUMN")
    reader.skip("IF", "EXISTS")
    old = reader.name()
    spec, keyed = column_spec(reader)
    yield ChangeColumn(old, spec)
    if keyed:
        yield ChangeKey(text)


def _rename(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    if reader.take("COLUMN"):
        reader.skip("IF", "EXISTS")
        old = reader.name()
        if not reader.take("TO"):
            raise _NotUnderstood
        yield RenameColumn(old, reader.name())
    elif reader.peek() in ("INDEX", "KEY"):
        yield Harmless(text)
    else:
        for word in ("TO", "AS", "="):
            if reader.take(word):
                break
        yield RenameTable(reader.table())


def _alter(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    if reader.peek() in ("INDEX", "KEY", "CHECK", "CONSTRAINT"):
        yield Harmless(text)
        return
    reader.take("COLUMN")
    reader.skip("IF", "EXISTS")
    name = reader.name()
    if reader.peek() not in ("SET", "DROP"):
        raise _NotUnderstood
    yield ChangeDefault(name)


def _convert(reader: _Reader, text: str) -> Iterator[Operation]:
    reader.next()
    if not reader.take("TO"):  # MariaDB's CONVERT PARTITION and CONVERT TABLE
        raise _NotUnderstood
    if not (reader.take("CHARACTER", "SET") or reader.take("CHARSET")):
        raise _NotUnderstood
    yield ConvertCharset(reader.name().lower())


def _other(reader: _Reader, text: str) -> Iterator[Operation]:
    if reader.peek() in _HARMLESS:
        yield Harmless(text)
        return
    raise _NotUnderstood


def _key(reader: _Reader, text: str) -> Operation:
    words = {reader.peek(i) for i in range(3)} | {reader.peek(3)}
    return ChangeKey(text) if words & {"PRIMARY", "UNIQUE"} else Harmless(text)


_CLAUSES: Final[dict[str, Callable[[_Reader, str], Iterator[Operation]]]] = {
    "ADD": _add, "DROP": _drop, "MODIFY": _modify, "CHANGE": _change, "RENAME": _rename, "ALTER": _alter,
    "CONVERT": _convert,
}  # fmt: skip


# --- column definitions -----------------------------------------------------------------------------------------------


def column_spec(reader: _Reader) -> tuple[ColumnSpec, bool]:
    """A column definition from its name on, and whether it makes the column a primary or unique key."""
    name = reader.name()
    word = reader.next().text.upper()
    if word == "DOUBLE":
        reader.take("PRECISION")
    kind = _TYPES.get(word)
    if kind is None:
        raise _NotUnderstood
    arguments = reader.parenthesised() if reader.peek() == "(" else []
    column = _typed(Column(name, kind), word, [t.text for t in arguments if t.token_type is not TokenType.COMMA])
    return _attributes(reader, column)


def _typed(column: Column, word: str, arguments: Sequence[str]) -> Column:
    kind = column.type
    numbers = [int(a) for a in arguments if a.isdigit()]
    if kind == "decimal":
        return replace(column, precision=numbers[0] if numbers else 10, scale=numbers[1] if len(numbers) > 1 else 0)
    if kind == "float" and len(numbers) == 1 and numbers[0] > 24:
        return replace(column, type="double")
    if kind in _FRACTIONAL:
        return replace(column, fsp=numbers[0] if numbers else 0)
    if kind in ("char", "varchar", "binary", "varbinary"):
        return replace(column, octets=numbers[0] if numbers else 1)
    if kind == "bit":
        return replace(column, precision=numbers[0] if numbers else 1)
    if kind in ("enum", "set"):
        return replace(column, labels=tuple(arguments))
    return column


def _attributes(reader: _Reader, column: Column) -> tuple[ColumnSpec, bool]:
    default: Default | None = None
    keyed = auto = False
    while not reader.done:
        if reader.skip("UNSIGNED", "ZEROFILL"):
            column = replace(column, unsigned=True)
        elif reader.take("CHARACTER", "SET") or reader.take("CHARSET"):
            column = replace(column, charset=reader.name().lower())
        elif reader.take("COLLATE"):
            named = reader.name().lower().split("_")[0]
            column = replace(column, charset=column.charset or named)
        elif reader.take("NOT", "NULL"):
            column = replace(column, nullable=False)
        elif reader.take("DEFAULT"):
            default = _default(reader)
        elif reader.take("AUTO_INCREMENT"):
            auto = True
        elif reader.take("ON", "UPDATE"):
            reader.next()
            if reader.peek() == "(":
                reader.parenthesised()
        elif any(reader.take(word) for word in ("SRID", "COMMENT", "COLUMN_FORMAT", "STORAGE", "AFTER")):
            reader.next()
        elif reader.take("PRIMARY") or reader.take("UNIQUE"):
            keyed = True
        elif reader.take("GENERATED", "ALWAYS") or reader.peek() == "AS":
            column = replace(column, generated=True)
            reader.take("AS")
            reader.parenthesised()
        elif reader.take("INVISIBLE"):
            column = replace(column, invisible=True)
        elif not reader.skip("NULL", "SIGNED", "FIRST", "KEY", "VISIBLE", "STORED", "VIRTUAL", "PERSISTENT"):
            raise _NotUnderstood
    return ColumnSpec(column, default, auto), keyed


def _default(reader: _Reader) -> Default:
    """A literal as MySQL writes it, so that its meaning doesn't depend on sql_mode."""
    if reader.take("NULL"):
        return Default(None)
    sign = ""
    while reader.peek() in ("-", "+"):
        sign += reader.next().text
    if reader.tokens[reader.at].token_type is TokenType.INTRODUCER:
        reader.next()
    token = reader.next()
    if token.token_type in _LITERALS:
        return (
            Default(sign + token.text)
            if token.token_type in (TokenType.STRING, TokenType.NUMBER)
            else Default("", known=False)
        )
    if token.text.upper() in ("TRUE", "FALSE"):
        return Default("1" if token.text.upper() == "TRUE" else "0")
    if token.token_type is TokenType.L_PAREN:
        reader.at -= 1
        reader.parenthesised()
    elif reader.peek() == "(":
        reader.parenthesised()
    return Default("", known=False)
