"""What column builders take and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflow.kernels import fixed
from recovery.errors import BinlogDamaged, CaptureError

Bytes: TypeAlias = npt.NDArray[np.uint8]
Longs: TypeAlias = npt.NDArray[np.int64]
Ints: TypeAlias = npt.NDArray[np.int32]

DAMAGED_HINT: Final = "Start capture again; if it recurs, report this with the table's SHOW CREATE TABLE."


@dataclass(frozen=True)
class Cells:
    """The cells of one column: the buffer, and where the value of each row image begins and how long it is. A negative
    length is a marker of dataflow/kernels/walk.py; builders set ODD there."""

    data: Bytes
    offsets: Longs
    lengths: Ints

    def value(self, row: int) -> bytes:
        start = int(self.offsets[row])
        return self.data[start : start + int(self.lengths[row])].tobytes()

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Odd:
    """Cells that the column's type can't hold. rows: which; texts: what goes into `_rb_exact` for each."""

    rows: Longs
    texts: pa.Array


Built: TypeAlias = tuple[pa.Array, Odd | None]
Builder: TypeAlias = Callable[[Cells], Built]


class CellFault(Exception):
    """A cell that no server writes, or that this version can't capture. what: follows "column `c` of table `t` "."""

    def __init__(
        self, row: int, what: str, error: type[CaptureError] = BinlogDamaged, hint: str = DAMAGED_HINT
    ) -> None:
        super().__init__(what)
        self.row, self.what, self.error, self.hint = row, what, error, hint


def array(kind: pa.DataType, cells: Cells, *buffers: Any) -> pa.Array:
    """An Arrow array over buffers that kernels have filled."""
    bitmap = np.empty((len(cells) + 7) // 8, np.uint8)
    missing = fixed.validity(cells.lengths, bitmap)
    valid = pa.py_buffer(bitmap) if missing else None
    return pa.Array.from_buffers(kind, len(cells), [valid, *map(pa.py_buffer, buffers)], missing)


def marked(cells: Cells, marker: int) -> Longs:
    """The rows that a kernel marked."""
    return np.flatnonzero(cells.lengths == marker)


def raw_uniques(cells: Cells, rows: Longs, width: int) -> tuple[list[bytes], Longs]:
    """The different values of fixed-width cells, and for each row which of them it has."""
    raw = cells.data[cells.offsets[rows][:, None] + np.arange(width)]
    fixed = pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(np.ascontiguousarray(raw))])
    coded = fixed.dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)
