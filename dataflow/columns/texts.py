"""Builders of text in every character set, of bytes, and of what is text by label or by printing: ENUM, SET, JSON."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dataflow.columns.cells import Builder, Built, Bytes, CellFault, Cells, Ints, Longs, Odd, array
from dataflow.kernels import fixed, jsonb, strings
from dataflow.kernels.walk import ODD
from recovery.charset import decode_text, exact_text, transcode
from recovery.errors import UnsupportedEvent

_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_MULTIBYTE = frozenset(
    {
        "big5",
        "cp932",
        "eucjpms",
        "euckr",
        "gb18030",
        "gb2312",
        "gbk",
        "sjis",
        "ucs2",
        "ujis",
        "utf16",
        "utf16le",
        "utf32",
    }
)
_OFFSET_MAX = 0x7FFFFFFF  # Arrow's offsets of string and binary


def binary(cells: Cells) -> Built:
    ends, out = _gathered(cells)
    return array(pa.binary(), cells, ends, out), None


def padded(octets: int) -> Builder:
    def build(cells: Cells) -> Built:
        ends, out = gathered_padded(cells, octets)
        return array(pa.binary(), cells, ends, out), None

    return build


def gathered_padded(cells: Cells, octets: int) -> tuple[Ints, Bytes]:
    """Values of a BINARY column one behind the other, each with all its octets, and Arrow's offsets."""
    ends = np.empty(len(cells) + 1, np.int32)
    out = np.zeros(_room(int(np.count_nonzero(cells.lengths >= 0)) * octets), np.uint8)
    if strings.gather_padded(cells.data, cells.offsets, cells.lengths, octets, ends, out):
        raise CellFault(int(np.flatnonzero(cells.lengths > octets)[0]), f"holds more than its {octets} bytes")
    return ends, out


def _room(size: int) -> int:
    if size > _OFFSET_MAX:
        raise CellFault(
            0,
            "has more than 2 GiB of values in one row event, which this version can't capture",
            UnsupportedEvent,
            "Exclude the table with `exclude` in the server's section of rowback.toml.",
        )
    return size


def _gathered(cells: Cells) -> tuple[Ints, Bytes]:
    ends = np.empty(len(cells) + 1, np.int32)
    out = np.empty(_room(strings.total(cells.lengths)), np.uint8)
    strings.gather(cells.data, cells.offsets, cells.lengths, ends, out)
    return ends, out


def text(charset: str) -> Builder:
    return _utf8(charset) if charset in _UTF8 else _transcoded(charset)


def _hex_odd(cells: Cells, rows: Longs) -> Odd:
    """Marks cells whose bytes aren't text; their stored bytes are what is kept."""
    texts = pa.array([exact_text(cells.value(row)) for row in rows.tolist()], pa.string())
    cells.lengths[rows] = ODD
    return Odd(rows, texts)


def _utf8(charset: str) -> Builder:
    """No transcoding, only a check: by 8 bytes at a time while all is ASCII, else by Arrow, at last value by value."""

    def build(cells: Cells) -> Built:
        ends, out = _gathered(cells)
        built = array(pa.string(), cells, ends, out)
        narrow = charset == "utf8mb4" or int(out.max(initial=0)) < 0xF0  # utf8mb3 ends at U+FFFF
        if strings.is_ascii(out) or (narrow and _is_utf8(built)):
            return built, None
        bad = np.array(
            [row for row in np.flatnonzero(cells.lengths > 0).tolist() if not _is_text(cells.value(row), charset)]
        )
        if not len(bad):
            return built, None
        odd = _hex_odd(cells, bad.astype(np.int64))
        ends, out = _gathered(cells)
        return array(pa.string(), cells, ends, out), odd

    return build


def _is_utf8(built: pa.Array) -> bool:
    try:
        built.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(raw: bytes, charset: str) -> bool:
    try:
        decode_text(raw, charset)
    except ValueError:
        return False
    return True


def _transcoded(charset: str) -> Builder:
    plain = _is_plain(charset)

    def build(cells: Cells) -> Built:
        if plain:
            ends, raw = _gathered(cells)
            if strings.is_ascii(raw):
                return array(pa.string(), cells, ends, raw), None
        try:
            built, bad = transcode(cells.data, cells.offsets, cells.lengths.astype(np.int64), charset)
        except ValueError:
            _room(_OFFSET_MAX + 1)
            raise
        return built, _hex_odd(cells, bad) if len(bad) else None

    return build


def _is_plain(charset: str) -> bool:
    """Whether each ASCII byte is that ASCII character in it."""
    raw = bytes(range(128))
    try:
        return decode_text(raw, charset) == raw.decode()
    except ValueError:
        return False


def enum(width: int, labels: tuple[str, ...]) -> Builder:
    """By label. Index 0 is the invalid value, printed as '' but not equal to a label ''."""
    texts = pa.array(labels, pa.string())

    def build(cells: Cells) -> Built:
        index = _numbers(cells, width)
        present = cells.lengths >= 0
        if index.max(initial=0) > len(labels):
            row = int(np.flatnonzero(index > len(labels))[0])
            raise CellFault(row, f"holds the ENUM index {index[row]} of {len(labels)}")
        zero = np.flatnonzero(present & (index == 0))
        cells.lengths[zero] = ODD
        odd = Odd(zero, pa.array(["0"] * len(zero), pa.string())) if len(zero) else None
        return texts.take(_indices(cells, index - 1)), odd

    return build


def _numbers(cells: Cells, width: int) -> Longs:
    out = np.empty(len(cells), np.int64)
    fixed.widened(cells.data, cells.offsets, cells.lengths, width, False, out)
    return out


def _indices(cells: Cells, numbers: Longs) -> pa.Array:
    return array(pa.int64(), cells, numbers)


def set_(width: int, labels: tuple[str, ...]) -> Builder:
    """The labels in the definition's order, joined by commas."""

    def build(cells: Cells) -> Built:
        coded = array(pa.uint64(), cells, _numbers(cells, width)).dictionary_encode()
        texts: list[str] = []
        for bits in coded.dictionary.to_pylist():
            if bits >> len(labels):
                row = coded.indices.to_pylist().index(len(texts))
                raise CellFault(row, f"holds a SET with more bits than its {len(labels)} labels")
            texts.append(",".join(label for i, label in enumerate(labels) if bits >> i & 1))
        return pa.array(texts, pa.string()).take(coded.indices), None

    return build


def json(cells: Cells) -> Built:
    """As the server prints it."""
    try:
        return jsonb.render(cells.data, cells.offsets, np.maximum(cells.lengths, -1).astype(np.int64)), None
    except jsonb.DamagedDocument as error:
        raise CellFault(error.index, f"holds JSON that doesn't parse: {error}") from error
    except ValueError:
        _room(_OFFSET_MAX + 1)
        raise
