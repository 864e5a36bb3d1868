"""Builders of text in every character set, of bytes, and of what is text by label or by printing: ENUM, SET, JSON."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dataflow.columns.cells import Builder, Built, Bytes, CellFault, Cells, Ints, Longs, Odd, array, marked
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
    """No transcoding, only a check: by 8 bytes at a time while all is ASCII, else by characters, at last value by value."""

    def build(cells: Cells) -> Built:
        ends, out = _gathered(cells)
        built = array(pa.string(), cells, ends, out)
        if strings.is_ascii(out):
            return built, None
        narrow = charset == "utf8mb4" or int(out.max()) < 0xF0  # utf8mb3 ends at U+FFFF
        if narrow and strings.is_utf8(out, ends):
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


class _Labels:
    """Texts by number, one behind the other; None is what has no text."""

    def __init__(self, texts: Sequence[str | None]) -> None:
        raw = [b"" if text is None else text.encode() for text in texts]
        self._sizes = np.array([ODD if t is None else len(r) for t, r in zip(texts, raw, strict=True)], np.int32)
        self._starts = np.cumsum([0, *map(len, raw)])[:-1].astype(np.int64)
        # At least as many bytes behind the last one as `strings.gather` likes to copy at once.
        self._data = np.frombuffer(b"".join(raw) + bytes(16), np.uint8)

    def build(self, cells: Cells, width: int) -> pa.Array:
        """Marks cells without a text ODD. Raises IndexError with the row of a number that is too large."""
        where, room = np.empty(len(cells), np.int64), np.empty(len(cells), np.int32)
        bad = strings.labels(cells.data, cells.offsets, cells.lengths, width, self._starts, self._sizes, where, room)
        if bad >= 0:
            raise IndexError(bad)
        ends, out = _gathered(Cells(self._data, where, room))
        return array(pa.string(), cells, ends, out)


def enum(width: int, labels: tuple[str, ...]) -> Builder:
    """By label. Index 0 is the invalid value, printed as '' but not equal to a label ''."""
    texts = _Labels((None, *labels))

    def build(cells: Cells) -> Built:
        try:
            built = texts.build(cells, width)
        except IndexError as error:
            (row,) = error.args
            index = int.from_bytes(cells.value(row), "little")
            raise CellFault(row, f"holds the ENUM index {index} of {len(labels)}") from error
        zero = marked(cells, ODD)
        return built, Odd(zero, pa.array(["0"] * len(zero), pa.string())) if len(zero) else None

    return build


def _numbers(cells: Cells, width: int) -> Longs:
    out = np.empty(len(cells), np.int64)
    fixed.widened(cells.data, cells.offsets, cells.lengths, width, False, out)
    return out


def set_(width: int, labels: tuple[str, ...]) -> Builder:
    """The labels in the definition's order, joined by commas."""

    def text(bits: int) -> str:
        return ",".join(label for i, label in enumerate(labels) if bits >> i & 1)

    def fault(row: int) -> CellFault:
        return CellFault(row, f"holds a SET with more bits than its {len(labels)} labels")

    def build(cells: Cells) -> Built:
        coded = array(pa.uint64(), cells, _numbers(cells, width)).dictionary_encode()
        found = coded.dictionary.to_pylist()
        for number, bits in enumerate(found):
            if bits >> len(labels):
                raise fault(coded.indices.to_pylist().index(number))
        return pa.array(map(text, found), pa.string()).take(coded.indices), None

    if width > 1:
        return build
    all_texts = _Labels([text(bits) for bits in range(1 << len(labels))])

    def build_narrow(cells: Cells) -> Built:
        try:
            return all_texts.build(cells, width), None
        except IndexError as error:
            raise fault(error.args[0]) from error

    return build_narrow


def json(cells: Cells) -> Built:
    """As the server prints it."""
    try:
        return jsonb.render(cells.data, cells.offsets, np.maximum(cells.lengths, -1).astype(np.int64)), None
    except jsonb.DamagedDocument as error:
        raise CellFault(error.index, f"holds JSON that doesn't parse: {error}") from error
    except ValueError:
        _room(_OFFSET_MAX + 1)
        raise
