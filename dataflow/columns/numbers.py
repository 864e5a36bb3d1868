"""Builders of numbers: integers, floats, BIT, YEAR and DECIMAL."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dataflow.columns.cells import Builder, Built, CellFault, Cells, array, marked
from dataflow.kernels import decimals, fixed
from dataflow.kernels.walk import ODD
from recovery.schema import DECIMAL_ARROW_MAX

# Bytes that 0..9 leftover decimal digits take (strings/decimal.cc, dig2bytes).
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def integer(kind: pa.DataType, bits: int, *, signed: bool) -> Builder:
    """Also FLOAT and DOUBLE, which are stored bits as well."""
    width = bits // 8

    def build(cells: Cells) -> Built:
        if width == 3:
            out = np.empty(len(cells) * 4, np.uint8)
            fixed.three_bytes(cells.data, cells.offsets, cells.lengths, signed, out)
        else:
            out = np.empty(len(cells) * width, np.uint8)
            fixed.same_width(cells.data, cells.offsets, cells.lengths, width, out)
        return array(kind, cells, out), None

    return build


def bit(kind: pa.DataType, bits: int) -> Builder:
    width = (bits + 7) // 8

    def build(cells: Cells) -> Built:
        out = np.empty(len(cells), np.int64)
        fixed.widened(cells.data, cells.offsets, cells.lengths, width, True, out)
        return array(kind, cells, out), None

    return build


def year(cells: Cells) -> Built:
    out = np.empty(len(cells) * 2, np.uint8)
    fixed.years(cells.data, cells.offsets, cells.lengths, out)
    return array(pa.int16(), cells, out), None


def decimal_groups(precision: int, scale: int) -> list[tuple[int, int]]:
    """(bytes, digits) of each group of a DECIMAL(precision, scale)."""
    whole = precision - scale
    groups = [(4, 9)] * (whole // 9)
    if whole % 9:
        groups.insert(0, (_DIGIT_BYTES[whole % 9], whole % 9))
    groups += [(4, 9)] * (scale // 9)
    if scale % 9:
        groups.append((_DIGIT_BYTES[scale % 9], scale % 9))
    return groups


def decimal_width(precision: int, scale: int) -> int:
    return sum(size for size, _ in decimal_groups(precision, scale))


def decimal(kind: pa.DataType, precision: int, scale: int) -> Builder:
    groups = decimal_groups(precision, scale)
    sizes = np.array([size for size, _ in groups], np.int64)
    digits = np.array([count for _, count in groups], np.int64)
    powers = 10**digits
    whole_groups = len(decimal_groups(precision - scale, 0))

    def build(cells: Cells) -> Built:
        out = np.empty(len(cells) * 2, np.int64)
        if decimals.decimals(cells.data, cells.offsets, cells.lengths, sizes, powers, out):
            raise CellFault(int(marked(cells, ODD)[0]), "holds a DECIMAL with more digits than it has")
        return array(kind, cells, out), None

    def build_text(cells: Cells) -> Built:
        ends = np.empty(len(cells) + 1, np.int32)
        out = np.empty(_text_room(cells, precision), np.uint8)
        size = decimals.decimal_texts(cells.data, cells.offsets, cells.lengths, sizes, digits, whole_groups, ends, out)
        if size < 0:
            raise CellFault(0, "holds a DECIMAL with more digits than it has")
        return array(kind, cells, ends, out[:size]), None

    return build if precision <= DECIMAL_ARROW_MAX else build_text


def _text_room(cells: Cells, precision: int) -> int:
    """Digits, sign, point and a 0 before it."""
    room = int(np.count_nonzero(cells.lengths > 0)) * (precision + 3)
    if room > 0x7FFFFFFF:
        raise CellFault(0, "holds more than 2 GiB of text in one batch")
    return room
