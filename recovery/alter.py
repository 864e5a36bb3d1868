"""What an ALTER TABLE statement does to rows: a list of small operations, in the statement's order.

Works on tokens, like recovery/ddl.py. Whatever isn't understood becomes `Unknown` with its text, never nothing: a restore
then refuses the statement by name. Indexes, comments and table options are `Harmless`: they change no row image's meaning.
Source: MySQL manual, "ALTER TABLE Statement"; MariaDB's the same. Column definitions: recovery/column_spec.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.column_spec import ColumnSpec, NotUnderstood, column_spec
from recovery.ddl import TableName
from recovery.partitions import NotFolded, Partition, Partitioning, RowTest, definitions, partitioning_of
from recovery.sqlscan import bare
from recovery.tokens import Reader, clauses, tokens_of

INDEX_WORDS: Final = frozenset(
    {"INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "PRIMARY", "CONSTRAINT", "FOREIGN", "CHECK"}
)
_PARTITION_CARE: Final = ("COALESCE", "ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "REPAIR")
# What may follow a clause's first word and yet changes no row: options of the table, the algorithm, locks, indexes.
_HARMLESS: Final = frozenset({
    "ENGINE", "AUTO_INCREMENT", "COMMENT", "ROW_FORMAT", "KEY_BLOCK_SIZE", "STATS_PERSISTENT", "STATS_AUTO_RECALC",
    "STATS_SAMPLE_PAGES", "ALGORITHM", "LOCK", "FORCE", "ENABLE", "DISABLE", "AVG_ROW_LENGTH", "MAX_ROWS", "MIN_ROWS",
    "CHECKSUM", "DELAY_KEY_WRITE", "PACK_KEYS", "COMPRESSION", "PAGE_COMPRESSED", "ENCRYPTION", "WAIT", "NOWAIT", "DEFAULT",
    "CHARACTER", "CHARSET", "COLLATE", "WITH", "WITHOUT", "ORDER", "ANALYZE", "OPTIMIZE", "REBUILD", "CHECK",
})  # fmt: skip


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


def renamed(operations: Iterable[Operation]) -> dict[str, str]:
    """The new names of the columns that get one, by the old ones in lower case. All clauses of a statement name the columns
    as they were before it, so two may exchange their names."""
    found = {}
    for operation in operations:
        if isinstance(operation, RenameColumn):
            found[operation.old.casefold()] = operation.new
        elif isinstance(operation, ChangeColumn):
            found[operation.old.casefold()] = operation.spec.column.name
    return found


def parse_alter(statement: str, default_db: str) -> tuple[Operation, ...]:
    """The operations of an ALTER TABLE statement, behind its table's name. Never raises."""
    try:
        reader = Reader(tokens_of(bare(statement)), default_db)
        ignore = "IGNORE" in (reader.peek(1), reader.peek(2))
        skip_name(reader)
        rest = reader.rest()
        partitioned = _partition_operation(reader)
        if partitioned is not None:
            return (partitioned if reader.done else Unknown(" ".join(t.text for t in rest)),)
        found = tuple(op for clause in clauses(reader.rest()) for op in _operations(clause, default_db))
        # It takes rows away that break a new key, and cuts values.
        return (*found, Unknown(" ".join(statement.split()))) if ignore else found
    except (SqlglotError, IndexError):
        return (Unknown(" ".join(statement.split())),)


def skip_name(reader: Reader) -> None:
    """From the beginning of an ALTER TABLE statement to behind its table's name. Raises IndexError."""
    reader.skip("ALTER", "ONLINE", "OFFLINE", "IGNORE", "TABLE", "IF", "EXISTS")
    reader.table()
    while reader.skip("WAIT", "NOWAIT") and reader.peek().isdigit():
        reader.next()


def _partition_operation(reader: Reader) -> Operation | None:
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


def _names(reader: Reader) -> Iterator[Token]:
    """Up to INTO, which is stepped over, or the end."""
    while not reader.done and not reader.take("INTO"):
        token = reader.next()
        if token.token_type is not TokenType.COMMA:
            yield token


def _operations(clause: Sequence[Token], db: str) -> Iterator[Operation]:
    text = " ".join(t.text for t in clause)
    reader = Reader(clause, db)
    try:
        yield from _CLAUSES.get(reader.peek(), _other)(reader, text)
    except (IndexError, NotUnderstood):
        yield Unknown(text)


def _add(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    column = reader.take("COLUMN")
    word = reader.peek()
    if not column and word in INDEX_WORDS:
        yield _key(reader, text)
        return
    if not column and word in ("PARTITION", "PERIOD", "SYSTEM"):
        raise NotUnderstood
    reader.skip("IF", "NOT", "EXISTS")
    if reader.tokens[reader.at].token_type is TokenType.L_PAREN:
        for part in clauses(reader.parenthesised()):
            if part[0].token_type is not TokenType.IDENTIFIER and part[0].text.upper() in INDEX_WORDS:
                yield _key(Reader(part, reader.db), text)
                continue
            yield from _added(column_spec(Reader(part, reader.db)))
        return
    yield from _added(column_spec(reader))


def _added(found: tuple[ColumnSpec, bool]) -> Iterator[Operation]:
    spec, keyed = found
    yield AddColumn(spec)
    if keyed:
        yield ChangeKey(spec.column.name)


def _drop(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    column = reader.take("COLUMN")
    word = reader.peek()
    if not column and word in ("PRIMARY", "INDEX", "KEY", "CONSTRAINT"):
        yield ChangeKey(text)  # by its name alone nothing tells whether it was unique
    elif not column and word in ("FOREIGN", "CHECK"):
        yield Harmless(text)
    elif not column and word in ("PARTITION", "SYSTEM", "PERIOD"):
        raise NotUnderstood
    else:
        reader.skip("IF", "EXISTS")
        yield DropColumn(reader.name())


def _modify(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    reader.take("COLUMN")
    reader.skip("IF", "EXISTS")
    spec, keyed = column_spec(reader)
    yield ChangeColumn(spec.column.name, spec)
    if keyed:
        yield ChangeKey(text)


def _change(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    reader.take("COLUMN")
    reader.skip("IF", "EXISTS")
    old = reader.name()
    spec, keyed = column_spec(reader)
    yield ChangeColumn(old, spec)
    if keyed:
        yield ChangeKey(text)


def _rename(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    if reader.take("COLUMN"):
        reader.skip("IF", "EXISTS")
        old = reader.name()
        if not reader.take("TO"):
            raise NotUnderstood
        yield RenameColumn(old, reader.name())
    elif reader.peek() in ("INDEX", "KEY"):
        yield Harmless(text)
    else:
        for word in ("TO", "AS", "="):
            if reader.take(word):
                break
        yield RenameTable(reader.table())


def _alter(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    if reader.peek() in ("INDEX", "KEY", "CHECK", "CONSTRAINT"):
        yield Harmless(text)
        return
    reader.take("COLUMN")
    reader.skip("IF", "EXISTS")
    name = reader.name()
    if reader.peek() not in ("SET", "DROP"):
        raise NotUnderstood
    yield ChangeDefault(name)


def _convert(reader: Reader, text: str) -> Iterator[Operation]:
    reader.next()
    if not reader.take("TO"):  # MariaDB's CONVERT PARTITION and CONVERT TABLE
        raise NotUnderstood
    if not (reader.take("CHARACTER", "SET") or reader.take("CHARSET")):
        raise NotUnderstood
    yield ConvertCharset(reader.name().lower())


def _other(reader: Reader, text: str) -> Iterator[Operation]:
    if reader.peek() in _HARMLESS:
        yield Harmless(text)
        return
    raise NotUnderstood


def _key(reader: Reader, text: str) -> Operation:
    words = {reader.peek(i) for i in range(3)} | {reader.peek(3)}
    return ChangeKey(text) if words & {"PRIMARY", "UNIQUE"} else Harmless(text)


_CLAUSES: Final[dict[str, Callable[[Reader, str], Iterator[Operation]]]] = {
    "ADD": _add, "DROP": _drop, "MODIFY": _modify, "CHANGE": _change, "RENAME": _rename, "ALTER": _alter,
    "CONVERT": _convert,
}  # fmt: skip
