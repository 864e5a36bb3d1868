"""Rendered rows, cut into statements and files: what INSERT files and CSV files share.

Python only cuts the bytes that DuckDB rendered; a row is never cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recovery.errors import ArchiveDamaged
from recovery.output.files import FileRecord, Sink
from recovery.output.options import OutputOptions


@dataclass(frozen=True)
class Shape:
    """stem, extension: of the files' names, with a number between. head: at each file's begin. before: each statement; end:
    what takes the place of the last `cut` bytes of its last row."""

    stem: str
    extension: str
    head: bytes = b""
    before: bytes = b""
    cut: int = 0
    end: bytes = b""


class RowFiles:
    """A context manager; `add` takes rows, `files` has what was written."""

    def __init__(self, directory: Path, shape: Shape, options: OutputOptions) -> None:
        self.files: list[FileRecord] = []
        self.rows = 0
        self._directory, self._shape, self._options = directory, shape, options
        self._sink: Sink | None = None
        self._ended_bytes = 0
        self._file_rows = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def __enter__(self) -> RowFiles:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._end_statement()
                self._end_file()
        finally:
            if self._sink is not None:
                self._sink.close()

    @property
    def size_bytes(self) -> int:
        """Written so far, before compression."""
        return self._ended_bytes + (self._sink.put_bytes if self._sink else 0)

    def add(self, rows: pa.Array[Any]) -> None:
        """rows: large_string without nulls. Their bytes lie one after the other in the data buffer."""
        if rows.null_count:
            raise ArchiveDamaged(
                f"a row of `{self._shape.stem}` could not be rendered",
                hint="Please report this: no value may be lost silently.",
            )
        count = len(rows)
        _, offsets_buffer, data = rows.buffers()
        if offsets_buffer is None or data is None:
            return
        offsets = np.frombuffer(memoryview(offsets_buffer), np.int64, count + 1, rows.offset * 8)
        limit = self._options.rows_per_file
        at = 0
        while at < count:
            room = self._options.statement_bytes - self._pending_bytes
            end = int(np.searchsorted(offsets, offsets[at] + room, side="left"))
            end = min(max(end, at + 1), count)
            if limit is not None:
                end = min(end, at + limit - self._file_rows)
            self._pending.append(data.slice(int(offsets[at]), int(offsets[end] - offsets[at])).to_pybytes())
            self._pending_bytes += int(offsets[end] - offsets[at])
            self._file_rows += end - at
            at = end
            if self._pending_bytes >= self._options.statement_bytes or self._file_rows == limit:
                self._end_statement()
        self.rows += count

    def _end_statement(self) -> None:
        if not self._pending:
            return
        shape = self._shape
        if self._sink is None:
            name = f"{shape.stem}.{len(self.files):05d}{shape.extension}{self._options.suffix}"
            self._sink = Sink(self._directory, name, self._options.codec)
            self._sink.put(shape.head)
        self._sink.put(shape.before)
        for part in self._pending[:-1]:
            self._sink.put(part)
        last = self._pending[-1]
        self._sink.put(last[: len(last) - shape.cut] + shape.end)
        self._pending, self._pending_bytes = [], 0
        full = self._sink.put_bytes >= self._options.file_bytes
        if full or self._file_rows == self._options.rows_per_file:
            self._end_file()

    def _end_file(self) -> None:
        if self._sink is not None:
            self._ended_bytes += self._sink.put_bytes
            self.files.append(self._sink.end(self._file_rows))
            self._sink = None
        self._file_rows = 0
