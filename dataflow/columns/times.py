"""Builders of DATE, TIME, DATETIME and TIMESTAMP, and the texts of the values that days or microseconds can't say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from dataflow import tablemap as tm
from dataflow.columns.cells import Builder, Built, CellFault, Cells, Longs, Odd, array, marked, raw_uniques
from dataflow.kernels import temporal
from dataflow.kernels.walk import ODD

_Text: TypeAlias = Callable[[bytes], str | None]
"""The text of a stored value; None for what no server writes."""


def builder(kind: pa.DataType, wire: tm.WireColumn) -> Builder:
    """For the wire types of both eras: since 5.6 with a fraction, before as plain numbers."""
    size = (wire.fsp + 1) // 2
    if wire.type == tm.DATE:
        return _date(kind)
    if wire.type == tm.DATETIME2:
        return _micros(kind, lambda c, out: temporal.datetimes(*_of(c), size, out), 5 + size, _datetime_text(wire.fsp))
    if wire.type == tm.TIMESTAMP2:
        return _micros(kind, lambda c, out: temporal.timestamps(*_of(c), size, out), 4 + size, _zero_text(wire.fsp))
    if wire.type == tm.TIME2:
        return _micros(kind, lambda c, out: temporal.times(*_of(c), size, out), 3 + size, _no_text)
    if wire.type == tm.DATETIME:
        return _micros(kind, lambda c, out: temporal.old_datetimes(*_of(c), out), 8, _old_datetime_text)
    if wire.type == tm.TIMESTAMP:
        return _micros(kind, lambda c, out: temporal.old_timestamps(*_of(c), out), 4, _zero_text(0))
    return _micros(kind, lambda c, out: temporal.old_times(*_of(c), out), 3, _no_text)


def _of(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return cells.data, cells.offsets, cells.lengths


def _date(kind: pa.DataType) -> Builder:
    def build(cells: Cells) -> Built:
        out = np.empty(len(cells) * 4, np.uint8)
        odd = _odd(cells, 3, _date_text) if temporal.dates(*_of(cells), out) else None
        return array(kind, cells, out), odd

    return build


def _micros(kind: pa.DataType, gather: Callable[[Cells, Longs], int], width: int, text: _Text) -> Builder:
    def build(cells: Cells) -> Built:
        out = np.empty(len(cells), np.int64)
        odd = _odd(cells, width, text) if gather(cells, out) else None
        return array(kind, cells, out), odd

    return build


def _odd(cells: Cells, width: int, text: _Text) -> Odd:
    rows = marked(cells, ODD)
    values, which = raw_uniques(cells, rows, width)
    texts = [text(value) for value in values]
    for number, found in enumerate(texts):
        if found is None:
            row = int(rows[np.flatnonzero(which == number)[0]])
            raise CellFault(row, f"holds 0x{values[number].hex()}, which is no date or time that a server writes")
    return Odd(rows, pa.array(texts, pa.string()).take(pa.array(which)))


def _date_text(raw: bytes) -> str:
    packed = int.from_bytes(raw, "little")
    return f"{packed >> 9:04}-{packed >> 5 & 15:02}-{packed & 31:02}"


def point(micros: int, fsp: int) -> str:
    return f".{micros:06}"[: fsp + 1] if fsp else ""


def _datetime_text(fsp: int) -> _Text:
    def text(raw: bytes) -> str | None:
        packed = int.from_bytes(raw[:5], "big") - 0x8000000000
        micros = int.from_bytes(raw[5:], "big") * (1, 10_000, 100, 1)[len(raw) - 5]
        year, month = divmod(packed >> 22, 13)
        day, hour, minute, second = packed >> 17 & 31, packed >> 12 & 31, packed >> 6 & 63, packed & 63
        if packed < 0 or micros > 999_999:
            return None
        return datetime_text(year, month, day, hour, minute, second, point(micros, fsp))

    return text


def datetime_text(year: int, month: int, day: int, hour: int, minute: int, second: int, point: str) -> str | None:
    """None if only the time of day can be what made it odd: servers store zero, partial and impossible days, no others."""
    if year > 9999 or month > 12 or hour > 23 or minute > 59 or second > 59:
        return None
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{point}"


def _old_datetime_text(raw: bytes) -> str | None:
    number = int.from_bytes(raw, "little", signed=True)
    if number < 0:
        return None
    day, time = divmod(number, 1_000_000)
    if day % 100 > 31:
        return None
    return datetime_text(day // 10_000, day // 100 % 100, day % 100, time // 10_000, time // 100 % 100, time % 100, "")


def _zero_text(fsp: int) -> _Text:
    return lambda raw: None if any(raw) else f"0000-00-00 00:00:00{point(0, fsp)}"


def _no_text(raw: bytes) -> str | None:
    return None
