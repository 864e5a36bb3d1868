"""Binary JSON as a real server wrote it: the JSON cells of a table `(id INT, doc JSON)`, read from the binlog file by hand.

Shares no code with Rowback. Layout: MySQL's libs/mysql/binlog/event/rows_event.h and sql/log_event.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WRITE_ROWS, UPDATE_ROWS, PARTIAL_UPDATE_ROWS = 30, 31, 39


@dataclass(frozen=True)
class Cell:
    """One row change. before, after: the documents; diffs: what stands in place of `after` in a partial update."""

    row_id: int
    before: bytes | None
    after: bytes | None
    diffs: bytes | None = None


def cells(file: Path, start: int) -> Iterator[Cell]:
    """The changes in row events that begin at or after `start`, from one-row or many-row events."""
    log = file.read_bytes()
    while start < len(log):
        kind, size = log[start + 4], int.from_bytes(log[start + 9 : start + 13], "little")
        body = log[start + 19 : start + size - 4]
        start += size
        if kind in (WRITE_ROWS, UPDATE_ROWS, PARTIAL_UPDATE_ROWS):
            yield from _rows(kind, body)


def _rows(kind: int, body: bytes) -> Iterator[Cell]:
    at = 8 + int.from_bytes(body[8:10], "little")
    assert body[at] == 2, "the table has other columns than id and doc"
    at += 2 if kind == WRITE_ROWS else 3
    while at < len(body):
        before = diffs = None
        if kind != WRITE_ROWS:
            _, before, at = _image(body, at)
        partial = False
        if kind == PARTIAL_UPDATE_ROWS:
            flagged = body[at] & 1  # value_options: PARTIAL_JSON_UPDATES
            at += 1
            if flagged:
                partial = bool(body[at] & 1)
                at += 1
        row_id, after, at = _image(body, at)
        if partial:
            after, diffs = None, after
        yield Cell(row_id, before, after, diffs)


def _image(body: bytes, at: int) -> tuple[int, bytes | None, int]:
    null = body[at] >> 1 & 1
    row_id = int.from_bytes(body[at + 1 : at + 5], "little")
    at += 5
    if null:
        return row_id, None, at
    size = int.from_bytes(body[at : at + 4], "little")
    return row_id, body[at + 4 : at + 4 + size], at + 4 + size
