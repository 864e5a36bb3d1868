"""Compiled loops (Numba) from the bytes of a character set to UTF-8, for recovery/charset.py's `transcode` alone.

Two passes: the sizes of all values, then their bytes. A value with a code that has no text counts as BAD and gets no
bytes. Every read stays inside its value, whose bounds the caller has checked. The rules are those of `decode_text`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types

from recovery.kernelcache import kernel, settle

settle()

TABLE: Final = 0  # codes of one to four bytes, by tables
UTF8: Final = 1
UTF8MB3: Final = 2
UCS2: Final = 3
UTF16: Final = 4
UTF16LE: Final = 5
UTF32: Final = 6

NULL: Final = -1
BAD: Final = -2

_BYTES: Final = types.Array(types.uint8, 1, "C", readonly=True)
_SHORTS: Final = types.Array(types.uint16, 1, "C", readonly=True)
_WORDS: Final = types.Array(types.uint32, 1, "C", readonly=True)
_LONGS: Final = types.Array(types.int64, 1, "C", readonly=True)
_OFFSETS: Final = types.Array(types.int32, 1, "C", readonly=True)
_OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "boundscheck": False}
_INLINE: Final[dict[str, Any]] = {**_OPTIONS, "forceinline": True}
_MALFORMED: Final = 0xD800  # recovery.charset.MALFORMED; the other marks are surrogates as well
_STORABLE: Final = 0xD801
_GB_PLANES: Final = 189_000
_GB_BMP: Final = 50_400


@kernel(types.int64(_BYTES, _LONGS, _LONGS, _WORDS, types.int64[::1]), **_OPTIONS)
def single_sizes(buffer, starts, lengths, table, sizes):  # type: ignore[no-untyped-def]
    """Fill `sizes` with each value's bytes of UTF-8, NULL or BAD; the sum of the former. table: recovery.charset's
    `_utf8_of_bytes`."""
    total = 0
    for i in range(starts.shape[0]):
        if lengths[i] < 0:
            sizes[i] = NULL
            continue
        size, bad = 0, 0
        for at in range(starts[i], starts[i] + lengths[i]):
            width = np.int64(table[buffer[at]] >> np.uint32(24))
            size += width
            bad |= np.int64(width == 0)
        sizes[i] = BAD if bad else size
        total += 0 if bad else size
    return np.int64(total)


@kernel(types.void(_BYTES, _LONGS, _LONGS, _WORDS, _LONGS, _OFFSETS, types.uint8[::1]), **_OPTIONS)
def single_write(buffer, starts, lengths, table, sizes, offsets, data):  # type: ignore[no-untyped-def]
    """Write the UTF-8 of every value whose size isn't negative at its offset."""
    for i in range(starts.shape[0]):
        if sizes[i] < 0:
            continue
        to = np.int64(offsets[i])
        for at in range(starts[i], starts[i] + lengths[i]):
            packed = table[buffer[at]]
            width = np.int64(packed >> np.uint32(24))
            data[to] = np.uint8(packed & np.uint32(0xFF))
            if width > 1:
                data[to + 1] = np.uint8(packed >> np.uint32(8) & np.uint32(0xFF))
                if width > 2:
                    data[to + 2] = np.uint8(packed >> np.uint32(16) & np.uint32(0xFF))
            to += width


@kernel(types.int64(types.int64, types.int64, types.int64, types.int64), **_INLINE)
def _utf8(a, b, c, d):  # type: ignore[no-untyped-def]
    """One code of UTF-8 as code point << 3 | bytes; -1 if it isn't one (RFC 3629: no surrogates, shortest form).
    a, b, c, d: the next bytes, -1 behind the value's end."""
    if a < 0x80:
        return a << 3 | 1
    if a < 0xC2 or a > 0xF4 or b & 0xC0 != 0x80:
        return -1
    if a < 0xE0:
        return ((a & 0x1F) << 6 | b & 0x3F) << 3 | 2
    if c & 0xC0 != 0x80:
        return -1
    if a < 0xF0:
        code = (a & 0x0F) << 12 | (b & 0x3F) << 6 | c & 0x3F
        return -1 if code < 0x800 or 0xD800 <= code <= 0xDFFF else code << 3 | 3
    if d & 0xC0 != 0x80:
        return -1
    code = (a & 0x07) << 18 | (b & 0x3F) << 12 | (c & 0x3F) << 6 | d & 0x3F
    return -1 if code < 0x10000 or code > 0x10FFFF else code << 3 | 4


@kernel(types.int64(types.int64, types.int64, types.int64, types.int64, types.boolean), **_INLINE)
def _utf16(a, b, c, d, pairs):  # type: ignore[no-untyped-def]
    """The same of UTF-16, big endian; without pairs of surrogates it is ucs2."""
    if b < 0:
        return -1
    code = a << 8 | b
    if code < 0xD800 or code > 0xDFFF:
        return code << 3 | 2
    second = c << 8 | d
    if not pairs or code > 0xDBFF or d < 0 or second < 0xDC00 or second > 0xDFFF:
        return -1
    return (0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)) << 3 | 4


@kernel(types.int64(types.int64, types.int64, types.int64, types.int64), **_INLINE)
def _utf32(a, b, c, d):  # type: ignore[no-untyped-def]
    code = a << 24 | b << 16 | c << 8 | d
    return -1 if d < 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else code << 3 | 4


@kernel(types.int64(types.int64, types.int64, types.int64, types.int64), **_INLINE)
def _place(a, b, c, d):  # type: ignore[no-untyped-def]
    """recovery.charset's `gb18030_place`; -1 if it isn't a code of four bytes."""
    if a < 0x81 or a > 0xFE or b < 0x30 or b > 0x39 or c < 0x81 or c > 0xFE or d < 0x30 or d > 0x39:
        return -1
    return (((a - 0x81) * 10 + b - 0x30) * 126 + c - 0x81) * 10 + d - 0x30


@kernel(types.int64(types.int64, types.int64), **_INLINE)
def _entry(code, width):  # type: ignore[no-untyped-def]
    """A table's entry as the result of these functions."""
    return -1 if 0xD800 <= code <= 0xDFFF else code << 3 | width


@kernel(
    types.int64(
        types.int64, _BYTES, _LONGS, _LONGS, _SHORTS, _SHORTS, _SHORTS, _SHORTS, types.int64[::1], _OFFSETS,
        types.uint8[::1], types.boolean,
    ),
    **_OPTIONS,
)  # fmt: skip
def wide(kind, buffer, starts, lengths, one, two, three, four, sizes, offsets, data, writing):  # type: ignore[no-untyped-def]
    """The sets with codes of more than one byte. First, not writing: fill `sizes` as `single_sizes` does, and return the
    sum. Then, writing: write as `single_write` does. Helpers get no arrays: counting references to them in each step
    would cost ten times the decoding."""
    total = 0
    for i in range(starts.shape[0]):
        if lengths[i] < 0 or (writing and sizes[i] < 0):
            if not writing:
                sizes[i] = NULL
            continue
        at, end = starts[i], starts[i] + lengths[i]
        to = np.int64(offsets[i]) if writing else 0
        size = 0
        while at < end:
            a = np.int64(buffer[at])
            b = np.int64(buffer[at + 1]) if at + 1 < end else -1
            if kind == TABLE:
                code = np.int64(one[a])
                if code < 0xD800 or code > 0xDFFF or code == _STORABLE:
                    code = _entry(code, 1)
                else:
                    code = np.int64(two[a << 8 | b]) if b >= 0 else _MALFORMED
                    if code != _MALFORMED:
                        code = _entry(code, 2)
                    elif a == 0x8F and three.shape[0] > 0 and at + 2 < end:
                        code = _entry(np.int64(three[b << 8 | np.int64(buffer[at + 2])]), 3)
                    elif four.shape[0] > 0 and at + 3 < end:
                        place = _place(a, b, np.int64(buffer[at + 2]), np.int64(buffer[at + 3]))
                        code = -1
                        if 0 <= place < _GB_BMP:
                            code = _entry(np.int64(four[place]), 4)
                        elif _GB_PLANES <= place < _GB_PLANES + 0x100000:
                            code = (place - _GB_PLANES + 0x10000) << 3 | 4
                    else:
                        code = -1
            else:
                c = np.int64(buffer[at + 2]) if at + 2 < end else -1
                d = np.int64(buffer[at + 3]) if at + 3 < end else -1
                if kind in (UTF8, UTF8MB3):
                    code = _utf8(a, b, c, d)
                    if kind == UTF8MB3 and code & 7 == 4:
                        code = -1
                elif kind == UTF32:
                    code = _utf32(a, b, c, d)
                elif kind == UTF16LE:
                    code = -1 if b < 0 else _utf16(b, a, -1 if d < 0 else d, -1 if d < 0 else c, True)
                else:
                    code = _utf16(a, b, c, d, kind == UTF16)
            if code < 0:
                size = BAD
                break
            at += code & 7
            point = code >> 3
            if not writing:
                size += 1 if point < 0x80 else 2 if point < 0x800 else 3 if point < 0x10000 else 4
            elif point < 0x80:
                data[to] = np.uint8(point)
                to += 1
            elif point < 0x800:
                data[to] = np.uint8(0xC0 | point >> 6)
                data[to + 1] = np.uint8(0x80 | point & 0x3F)
                to += 2
            elif point < 0x10000:
                data[to] = np.uint8(0xE0 | point >> 12)
                data[to + 1] = np.uint8(0x80 | point >> 6 & 0x3F)
                data[to + 2] = np.uint8(0x80 | point & 0x3F)
                to += 3
            else:
                data[to] = np.uint8(0xF0 | point >> 18)
                data[to + 1] = np.uint8(0x80 | point >> 12 & 0x3F)
                data[to + 2] = np.uint8(0x80 | point >> 6 & 0x3F)
                data[to + 3] = np.uint8(0x80 | point & 0x3F)
                to += 4
        if not writing:
            sizes[i] = size
            total += max(size, 0)
    return np.int64(total)
