"""Builders of text in every character set, of bytes, and of what is text by label or by printing: ENUM, SET, JSON."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from dataflow.columns.cells import Builder, Built, Bytes, CellFault, Cells, Ints, Longs, Odd, array, marked
from dataflow.kernels import fixed, jsonb, strings
from dataflow.kernels.walk import ODD
from recovery.charset import decode_text
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
        ends = np.empty(len(cells) + 1, np.int32)
        size = _room(int(np.count_nonzero(cells.lengths >= 0)) * octets)
        out = np.zeros(size, np.uint8)
        if strings.gather_padded(cells.data, cells.offsets, cells.lengths, octets, ends, out):
            raise CellFault(int(np.flatnonzero(cells.lengths > octets)[0]), f"holds more than its {octets} bytes")
        return array(pa.binary(), cells, ends, out), None

    return build


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
    if charset in _UTF8:
        return _utf8
    if charset in _MULTIBYTE:
        return _multibyte(charset)
    return _single_byte(charset)


def _hex_odd(cells: Cells, bad: list[int]) -> Odd:
    """Marks cells whose bytes aren't text; their stored bytes are what is kept."""
    rows = np.array(bad, np.int64)
    texts = pa.array([f"0x{cells.value(row).hex().upper()}" for row in bad], pa.string())
    cells.lengths[rows] = ODD
    return Odd(rows, texts)


def _utf8(cells: Cells) -> Built:
    ends, out = _gathered(cells)
    built = array(pa.string(), cells, ends, out)
    if strings.is_ascii(out):
        return built, None
    try:
        built.validate(full=True)
    except pa.ArrowInvalid:
        odd = _hex_odd(
            cells, [int(row) for row in np.flatnonzero(cells.lengths > 0) if not _is_utf8(cells.value(int(row)))]
        )
        ends, out = _gathered(cells)
        return array(pa.string(), cells, ends, out), odd
    return built, None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except ValueError:
        return False
    return True


def _single_byte(charset: str) -> Builder:
    """By a table of the 256 characters."""
    sizes = np.zeros(256, np.uint8)
    characters = np.zeros(1024, np.uint8)
    for byte in range(256):
        try:
            encoded = decode_text(bytes([byte]), charset).encode()
        except ValueError:
            continue
        sizes[byte] = len(encoded)
        characters[4 * byte : 4 * byte + len(encoded)] = np.frombuffer(encoded, np.uint8)
    plain = _is_plain(charset)

    def build(cells: Cells) -> Built:
        ends, raw = _gathered(cells)
        if plain and strings.is_ascii(raw):
            return array(pa.string(), cells, ends, raw), None
        lengths = cells.lengths.copy()
        out = np.empty(_room(strings.transcoded_size(cells.data, cells.offsets, cells.lengths, sizes)), np.uint8)
        odd = None
        if strings.transcode(cells.data, cells.offsets, cells.lengths, sizes, characters, ends, out):
            bad = [int(row) for row in marked(cells, ODD)]
            cells.lengths[:] = lengths
            odd = _hex_odd(cells, bad)
        return array(pa.string(), cells, ends, out[: ends[-1]]), odd

    return build


def _is_plain(charset: str) -> bool:
    """Whether ASCII bytes are ASCII characters in it."""
    raw = bytes(range(128))
    try:
        return decode_text(raw, charset) == raw.decode()
    except ValueError:
        return False


def _multibyte(charset: str) -> Builder:
    plain = _is_plain(charset)

    def build(cells: Cells) -> Built:
        ends, raw = _gathered(cells)
        if plain and strings.is_ascii(raw):
            return array(pa.string(), cells, ends, raw), None
        return _by_value(cells, ends, raw, lambda value: decode_text(value, charset))

    return build


def _by_value(cells: Cells, ends: Ints, raw: Bytes, decode: Callable[[bytes], str]) -> Built:
    """Decodes each different value once. A ValueError makes a value odd."""
    coded = array(pa.binary(), cells, ends, raw).dictionary_encode()
    texts: list[str | None] = []
    for value in coded.dictionary.to_pylist():
        try:
            texts.append(decode(value))
        except ValueError:
            texts.append(None)
    _room(sum(len(t) for t in texts if t is not None))
    built = pa.array(texts, pa.string()).take(coded.indices)
    if built.null_count == np.count_nonzero(cells.lengths < 0):
        return built, None
    nulls = built.is_null().to_numpy(zero_copy_only=False)
    return built, _hex_odd(cells, [int(row) for row in np.flatnonzero(nulls & (cells.lengths >= 0))])


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
