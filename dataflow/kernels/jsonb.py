"""Many binary JSON documents to text at once: containers, numbers, strings and literals in compiled code.

Promises: each text is what dataflow/jsonb.py gives for that document. What this kernel can't print exactly (opaque values,
subnormal doubles) or finds damaged, dataflow/jsonb.py prints or refuses.
Layout and sources: see there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import types

from dataflow import jsonb
from dataflow.kernels.memory import (
    BYTES,
    INLINE,
    LONGS,
    OPTIONS,
    OUT_BYTES,
    OUT_INTS,
    OUT_LONGS,
    load_i64,
    load_u16,
    load_u32,
    store_64,
)
from dataflow.kernels.numbers import double, integer
from dataflow.kernels.strings import character
from recovery.kernelcache import kernel

_SLOW: Final = -1
_MAX_TEXT: Final = 2**31 - 1  # Arrow's string arrays have 32-bit offsets
# Bytes of a document: room for a text is set aside by MAX_GROWTH, so longer ones go the slow way.
_LONGEST: Final = 1 << 26
_CLOSING: Final = 128  # room for what `_document` writes unchecked: the brackets that close MAX_DEPTH containers
_NUMBER_ROOM: Final = 40  # bytes that any number or literal fits in
_WORDS: Final = np.frombuffer(b"null true false", np.uint8)
# What follows the backslash for bytes below 32; `u` stands for `u00` and two digits.
_SHORT: Final = np.frombuffer(
    bytes({8: 98, 9: 116, 10: 110, 12: 102, 13: 114}.get(i, 117) for i in range(32)), np.uint8
)
# Eight bytes of one value in a word.
_NONE, _ONES, _SPACES = np.uint64(0), np.uint64(0x0101010101010101), np.uint64(0x2020202020202020)
_QUOTES, _BACKSLASHES = np.uint64(0x2222222222222222), np.uint64(0x5C5C5C5C5C5C5C5C)
_HIGHS = np.uint64(0x8080808080808080)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
# A level of the stack: where the container begins, where it ends, bytes of its offsets, object or array, elements, next one.
_BASE, _END, _WIDTH, _OBJECT, _COUNT, _NEXT, _LEVEL = 0, 1, 2, 3, 4, 5, 6
# Module constants inside kernels must be plain names.
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64 = 5, 6, 7, 8, 9, 10
_LARGE_ARRAY, _LITERAL, _DOUBLE, _STRING = 3, 4, 11, 12
_MAX_DEPTH: Final = jsonb.MAX_DEPTH
_MAX_GROWTH: Final = jsonb.MAX_GROWTH


class DamagedDocument(ValueError):
    """index: the document's place among those given."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def render(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> pa.StringArray:
    """The documents' texts. buffer: uint8; starts, lengths: int64 (n,), within the buffer; a length of -1 is NULL.

    Raises DamagedDocument for the first one that doesn't parse, and ValueError if the texts exceed 2 GiB.
    """
    count = len(starts)
    given = np.maximum(lengths, 0)
    ends = starts + given
    if count and (int(starts.min()) < 0 or int(ends.max()) > len(buffer)):
        raise ValueError("a JSON document lies outside its buffer")
    offsets = np.zeros(count + 1, np.int32)
    slow = np.zeros(count, np.uint8)
    out = np.empty(2 * int(given.sum()) + _room(min(int(given.max(initial=0)), _LONGEST)), np.uint8)
    stack = np.empty(_MAX_DEPTH * _LEVEL, np.int64)
    done = 0
    while (done := int(_render(buffer, starts, lengths, done, out, offsets, slow, stack))) < count:
        if len(out) >= _MAX_TEXT:
            raise ValueError("the texts of a batch's JSON documents exceed 2 GiB")
        needed = int(offsets[done]) + _room(int(given[done]))
        grown = np.empty(max(needed, 2 * len(out)), np.uint8)
        grown[: offsets[done]] = out[: offsets[done]]
        out = grown
    nulls = pa.array(lengths >= 0).buffers()[1] if count and int(lengths.min()) < 0 else None
    texts = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[count]]), nulls)
    return _with_slow(texts, buffer, starts, ends, slow) if slow.any() else texts


def _room(length: int) -> int:
    """What `_render` wants free before a document."""
    return _MAX_GROWTH * length + 64 + _CLOSING


def _with_slow(texts: pa.StringArray, buffer: Any, starts: Any, ends: Any, slow: Any) -> pa.StringArray:
    exact = []
    for index in np.flatnonzero(slow):
        try:
            exact.append(jsonb.to_text(buffer[starts[index] : ends[index]].tobytes()))
        except ValueError as error:
            raise DamagedDocument(int(index), str(error)) from error
    return pc.replace_with_mask(texts, pa.array(slow.astype(bool)), pa.array(exact, pa.string()))


@kernel(types.boolean(types.uint64), **INLINE)
def _plain(word):  # type: ignore[no-untyped-def]
    """Whether each of eight bytes is printed as it is: ASCII from the space on, neither quote nor backslash."""
    # A byte below n borrows from its highest bit when n is taken off; with one that has that bit set all is in doubt anyway.
    quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
    return (word | word - _SPACES | quote - _ONES | backslash - _ONES) & _HIGHS == _NONE


@kernel(types.int64(BYTES, types.int64, types.int64, OUT_BYTES, types.int64, types.int64), **INLINE)
def _quote(buffer, at, end, out, to, limit):  # type: ignore[no-untyped-def]
    """A string in quotes (double_quote); gives the end, _SLOW for what isn't UTF-8 or has no room.

    Eight bytes at a time while they are plain. Up to seven bytes more are written behind the text: `_CLOSING` has room.
    """
    if to + 6 * (end - at) + 2 > limit:
        return _SLOW
    out[to] = 34
    to += 1
    while at < end:
        stop = min(at + 8, end)
        if at + 8 <= len(buffer):
            word = types.uint64(load_i64(buffer, at))
            unused = types.uint64(8 * (at + 8 - stop))
            if unused:  # what lies behind the string's end becomes spaces
                word = word << unused >> unused | _SPACES >> (types.uint64(64) - unused) << (types.uint64(64) - unused)
            if _plain(word):
                store_64(out, to, types.int64(word))
                to += stop - at
                at = stop
                continue
        while at < stop:
            byte = buffer[at]
            if 32 <= byte < 128 and byte != 34 and byte != 92:
                out[to] = byte
                to += 1
                at += 1
            elif byte >= 128:
                after = character(buffer, at, end)
                if after < 0:
                    return _SLOW
                for i in range(at, after):
                    out[to] = buffer[i]
                    to += 1
                at = after
            else:
                short = _SHORT[byte] if byte < 32 else byte
                out[to], out[to + 1] = 92, short
                to += 2
                if short == 117:
                    out[to], out[to + 1] = 48, 48
                    out[to + 2], out[to + 3] = _HEX[byte >> 4], _HEX[byte & 15]
                    to += 4
                at += 1
    out[to] = 34
    return to + 1


@kernel(types.int64(BYTES, types.int64, types.int64, types.int64, OUT_BYTES, types.int64, types.int64), **INLINE)
def _scalar(buffer, kind, at, end, out, to, limit):  # type: ignore[no-untyped-def]
    if kind == _STRING:
        length, shift = 0, 0
        while True:
            if at >= end or shift > 28:
                return _SLOW
            byte = types.int64(buffer[at])
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if at + length > end:
            return _SLOW
        return _quote(buffer, at, at + length, out, to, limit)
    if to + _NUMBER_ROOM > limit:
        return _SLOW
    if kind == _LITERAL:
        if at >= end or buffer[at] > 2:
            return _SLOW
        literal = types.int64(buffer[at])
        size = 4 + (literal == 2)
        for i in range(size):
            out[to + i] = _WORDS[5 * literal + i]
        return to + size
    if kind < _INT16 or kind > _DOUBLE:
        return _SLOW
    size = 2 if kind <= _UINT16 else 4 if kind <= _UINT32 else 8
    if at + size > end:
        return _SLOW
    if kind == _INT16:
        return integer(out, to, (load_u16(buffer, at) ^ 0x8000) - 0x8000, False)
    if kind == _UINT16:
        return integer(out, to, load_u16(buffer, at), False)
    if kind == _INT32:
        return integer(out, to, (load_u32(buffer, at) ^ 0x80000000) - 0x80000000, False)
    if kind == _UINT32:
        return integer(out, to, load_u32(buffer, at), False)
    bits = load_u32(buffer, at) | (load_u32(buffer, at + 4) << 32)
    if kind == _DOUBLE:
        return double(out, to, bits)
    return integer(out, to, bits, kind == _UINT64)


@kernel(types.boolean(BYTES, types.int64, types.int64, types.int64, OUT_LONGS, types.int64), **INLINE)
def _open(buffer, kind, at, end, stack, top):  # type: ignore[no-untyped-def]
    """Puts a container's level on the stack; False if it doesn't lie within `end`."""
    width = 4 if kind & 1 else 2  # LARGE_OBJECT and LARGE_ARRAY are 1 and 3
    if at + 2 * width > end:
        return False
    count = load_u16(buffer, at) if width == 2 else load_u32(buffer, at)
    size = load_u16(buffer, at + 2) if width == 2 else load_u32(buffer, at + 4)
    is_object = kind < 2
    header = 2 * width + count * (1 + width) + (count * (width + 2) if is_object else 0)
    if size > end - at or header > size:
        return False
    stack[top + _BASE], stack[top + _END], stack[top + _WIDTH] = at, at + size, width
    stack[top + _OBJECT], stack[top + _COUNT], stack[top + _NEXT] = is_object, count, 0
    return True


@kernel(types.int64(BYTES, OUT_LONGS, types.int64, types.int64, OUT_BYTES, types.int64, types.int64), **INLINE)
def _key(buffer, stack, top, index, out, to, limit):  # type: ignore[no-untyped-def]
    base, end, width = stack[top + _BASE], stack[top + _END], stack[top + _WIDTH]
    count = stack[top + _COUNT]
    entry = base + 2 * width + index * (width + 2)
    offset = load_u16(buffer, entry) if width == 2 else load_u32(buffer, entry)
    length = load_u16(buffer, entry + width)
    if offset < 2 * width + count * (2 * width + 3) or base + offset + length > end:
        return _SLOW
    to = _quote(buffer, base + offset, base + offset + length, out, to, limit)
    if to < 0 or to + 2 > limit:
        return _SLOW
    out[to], out[to + 1] = 58, 32
    return to + 2


@kernel(types.int64(BYTES, types.int64, types.int64, OUT_BYTES, types.int64, types.int64, OUT_LONGS), **INLINE)
def _document(buffer, start, stop, out, to, limit, stack):  # type: ignore[no-untyped-def]
    """One document of at least a byte; gives the end of its text or _SLOW."""
    kind, at, end = types.int64(buffer[start]), start + 1, stop
    top = -_LEVEL
    while True:
        if kind > _LARGE_ARRAY:
            to = _scalar(buffer, kind, at, end, out, to, limit)
            if to < 0:
                return _SLOW
        else:
            top += _LEVEL
            if top == _MAX_DEPTH * _LEVEL or not _open(buffer, kind, at, end, stack, top):
                return _SLOW
            out[to] = 123 if stack[top + _OBJECT] else 91
            to += 1
        while top >= 0 and stack[top + _NEXT] == stack[top + _COUNT]:
            out[to] = 125 if stack[top + _OBJECT] else 93
            to += 1
            top -= _LEVEL
        if top < 0:
            return to
        if to + _NUMBER_ROOM > limit:
            return _SLOW
        index = stack[top + _NEXT]
        stack[top + _NEXT] += 1
        if index:
            out[to], out[to + 1] = 44, 32
            to += 2
        base, end, width = stack[top + _BASE], stack[top + _END], stack[top + _WIDTH]
        entry = base + 2 * width + index * (1 + width)
        if stack[top + _OBJECT]:
            to = _key(buffer, stack, top, index, out, to, limit)
            if to < 0:
                return _SLOW
            entry += stack[top + _COUNT] * (width + 2)
        kind, at = types.int64(buffer[entry]), entry + 1
        if kind in (_LITERAL, _INT16, _UINT16) or (width == 4 and kind in (_INT32, _UINT32)):
            end = at + width
        else:
            at = base + (load_u16(buffer, at) if width == 2 else load_u32(buffer, at))
            if at < entry + 1 + width:
                return _SLOW


@kernel(types.int64(BYTES, LONGS, LONGS, types.int64, OUT_BYTES, OUT_INTS, types.uint8[::1], OUT_LONGS), **OPTIONS)
def _render(buffer, starts, lengths, first, out, offsets, slow, stack):  # type: ignore[no-untyped-def]
    """Documents from `first` on; gives the number done, fewer than all if `out` has no room for the next."""
    to = types.int64(offsets[first])
    for i in range(first, len(starts)):
        length = lengths[i]
        if length >= 0:
            if length > _LONGEST:
                slow[i] = 1
                offsets[i + 1] = to
                continue
            limit = to + _MAX_GROWTH * length + 64
            if limit + _CLOSING > min(len(out), _MAX_TEXT):
                return i
            if length == 0:
                for j in range(4):
                    out[to + j] = _WORDS[j]
                to += 4
            else:
                end = _document(buffer, starts[i], starts[i] + length, out, to, limit, stack)
                if end < 0:
                    slow[i] = 1
                else:
                    to = end
        offsets[i + 1] = to
    return len(starts)
