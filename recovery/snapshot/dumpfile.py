"""Reading mydumper's data files: the INSERT format of 0.10 to 1.x, plain, gzip or zstd.

Each row of an INSERT stands on a line of its own, since mydumper escapes line feeds in values. 0.10 writes
`INSERT INTO `t` VALUES` and then `(...),` lines up to `(...);`; 1.x writes `INSERT INTO `t` VALUES(...)`, `,(...)`, `;`.
Values are in the column's own character set (SET NAMES binary) and escaped by mysql_real_escape_string.

Promises: every byte of the file is accounted for. A line that is neither a known header, a statement's frame nor a whole
row, a row with another number of values, or a file that ends inside a statement is an error that names the file and line.
Memory: one chunk of rows at a time.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import pyarrow as pa

from recovery.errors import DumperFailed
from recovery.snapshot.values import Raw

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN: Final = (
    rb"(NULL|[-+.0-9][-+.0-9eE]*+|(?:_binary )?" + _STRING
    + rb"|CONVERT\(" + _STRING + rb" USING UTF8MB4\)|0x[0-9A-Fa-f]*+|[xX]'[0-9A-Fa-f]*+')"
)  # fmt: skip
_NAME: Final = rb"`(?:[^`]|``)+`"
_INSERT: Final = re.compile(
    rb"INSERT (?:IGNORE )?INTO (" + _NAME + rb")\s*(?:\((" + _NAME + rb"(?:,\s*" + _NAME + rb")*)\))?\s*VALUES\s*", re.DOTALL
)  # fmt: skip
_NAMES: Final = re.compile(_NAME)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES: Final = {b"0": b"\0", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"Z": b"\x1a"}
_CONVERT_END: Final = len(b'" USING UTF8MB4)')
MAX_CHUNK_ROWS: Final = 100_000
MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Chunk:
    """Rows of a dump file, by column: `columns` are the names in the file's INSERT, or None for the table's own order of
    columns that a plain INSERT fills. values: one list per column, of equal length."""

    columns: tuple[str, ...] | None
    values: list[list[Raw]]
    rows: int


def open_dump(path: Path) -> IO[bytes]:
    """The file's decompressed bytes; the name says how they are compressed."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return cast(IO[bytes], _ZstdLines(path))
    return path.open("rb")


class _ZstdLines:
    """Lines of a zstd file: pyarrow's stream has no iteration by lines."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while block := self._stream.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def __enter__(self) -> _ZstdLines:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()


def read_chunks(
    path: Path, table: str, width: int, *, max_rows: int = MAX_CHUNK_ROWS, max_bytes: int = MAX_CHUNK_BYTES
) -> Iterator[Chunk]:
    """All rows of one data file in the file's order, in chunks.

    table: the real name that each INSERT must have. width: the number of values in a row without a column list.
    Raises DumperFailed.
    """
    parser = _Parser(path, table, width)
    try:
        with open_dump(path) as lines:
            for number, line in enumerate(lines, 1):
                parser.number = number
                parser.line(line)
                if parser.rows and (len(parser.rows) >= max_rows or parser.size >= max_bytes):
                    yield parser.take()
        parser.end()
    except (EOFError, OSError, gzip.BadGzipFile, pa.ArrowException) as error:
        raise parser.error(f"can't be read to its end: {error}") from error
    if parser.rows:
        yield parser.take()


class _Parser:
    """The state between two lines: `in_statement`, and the rows not yet taken."""

    def __init__(self, path: Path, table: str, width: int) -> None:
        self.path = path
        self.number = 0
        self.rows: list[tuple[bytes, ...]] = []
        self.size = 0
        self._quoted = b"`" + table.encode().replace(b"`", b"``") + b"`"
        self._width = width
        self._columns: tuple[str, ...] | None = None
        self._head: bytes | None = None
        self._row = _row_pattern(width)
        self._in_statement = False

    def error(self, what: str) -> DumperFailed:
        return DumperFailed(
            f"dump file `{self.path.name}`, line {self.number}: {what}",
            hint="Take the snapshot again. If it recurs, report it with mydumper's version and the table's definition.",
        )

    def line(self, line: bytes) -> None:
        if self._in_statement:
            self._rows_of(line)
        elif line.startswith(b"INSERT "):
            self._rows_of(line[self._insert(line) :])
        elif line.strip() and not line.startswith((b"/*!", b"SET ", b"--")):
            raise self.error("is neither an INSERT nor a known header")

    def _insert(self, line: bytes) -> int:
        """Read the head of an INSERT; the offset of what follows VALUES."""
        match = _INSERT.match(line)
        if match is None or match[1] != self._quoted:
            raise self.error("is not an INSERT into the file's table")
        if self._head != match[0]:
            if self.rows:
                raise self.error("lists other columns than the INSERT before it")
            self._head = match[0]
            self._columns = None
            if match[2] is not None:
                names = _NAMES.findall(match[2])
                self._columns = tuple(name[1:-1].replace(b"``", b"`").decode() for name in names)
            self._row = _row_pattern(len(self._columns) if self._columns else self._width)
        self._in_statement = True
        return match.end()

    def _rows_of(self, line: bytes) -> None:
        match = self._row.fullmatch(line)
        if match is not None:
            *values, end = match.groups()
            self.rows.append(tuple(values))
            self.size += len(line)
            self._in_statement = end != b";"
        elif line.strip() == b";":
            self._in_statement = False
        elif line.strip():
            raise self.error(f"is not a row of {self._row.groups - 1} values")

    def end(self) -> None:
        if self._in_statement:
            raise self.error("ends inside a statement")

    def take(self) -> Chunk:
        values = [literals(column) for column in zip(*self.rows, strict=True)]
        chunk = Chunk(self._columns, values, len(self.rows))
        self.rows, self.size = [], 0
        return chunk


def _row_pattern(width: int) -> re.Pattern[bytes]:
    return re.compile(rb"\s*,?\(" + rb",".join([_TOKEN] * width) + rb"\)\s*([,;]?)\s*", re.DOTALL)


def literals(tokens: Sequence[bytes]) -> list[Raw]:
    """The bytes that SQL literals stand for: NULL as None, a number as its text, strings unescaped."""
    return [_literal(token) for token in tokens]


def _literal(token: bytes) -> Raw:
    first = token[:1]
    if first == b'"':
        body = token[1:-1]
    elif token == b"NULL":
        return None
    elif first == b"_":
        body = token[9:-1]
    elif first == b"C":
        body = token[9:-_CONVERT_END]
    elif first in b"xX":
        return bytes.fromhex(token[2:-1].decode("ascii"))
    elif token[:2] == b"0x":
        return bytes.fromhex(token[2:].decode("ascii"))
    else:
        return token
    return _ESCAPED.sub(_unescape, body) if b"\\" in body else body


def _unescape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES.get(match[1], match[1])
