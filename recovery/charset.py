"""Bytes in a MySQL character set, as text, and back: every set of MySQL 9.7 and MariaDB 10.11, as the servers see it.

One place for capture (row images), snapshots (dumps) and everything that writes SQL. Python's codecs differ from the
servers in hundreds of codes, so the legacy sets go by tables that were asked of the servers themselves
(deploy/charset_tables.py writes charset_tables.npz; tests/test_charset.py compares both). The Unicode sets are the same in
Python and in the servers: UTF-8, UTF-16 and UTF-32 without surrogates, of one to three bytes in utf8mb3, of two in ucs2.

Promises: `decode_text` gives text only for bytes that are valid in the set and to which that text leads back on MySQL and
on MariaDB: what it gives can be written as text. Everything else is a ValueError, and becomes `0x` and hex digits in
`_rb_exact` (docs/FORMAT.md). So sjis has no text for a backslash: the server turns it into another code on its way back.
The set `binary`, which only labels of ENUM and SET have, is read as UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

SINGLE_BYTE: Final = frozenset(
    {
        "armscii8", "ascii", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8", "geostd8", "greek",
        "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "swe7",
        "tis620",
    }
)  # fmt: skip
DOUBLE_BYTE: Final = frozenset({"big5", "gbk", "gb2312", "sjis", "cp932", "euckr", "ujis", "eucjpms", "gb18030"})
_CODECS: Final = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "binary": "utf-8", "ucs2": "utf-16-be", "utf16": "utf-16-be",
    "utf16le": "utf-16-le", "utf32": "utf-32-be",
}  # fmt: skip
_LOOSE: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "utf32"})  # MariaDB stores surrogates in these
_ONE_PLANE: Final = frozenset({"utf8mb3", "utf8", "ucs2"})  # nothing above U+FFFF

TABLES_FILE: Final = Path(__file__).with_name("charset_tables.npz")
# Entries of a table that are no code point (they are surrogates, which no text has).
MALFORMED: Final = 0xD800  # no server stores this code
STORABLE: Final = 0xD801  # both do, but no text leads to it
MYSQL_ONLY: Final = 0xD802  # only MySQL does, and no text leads to it
MARIADB_ONLY: Final = 0xD803
_KEPT_BY: Final = {"mysql": (STORABLE, MYSQL_ONLY), "mariadb": (STORABLE, MARIADB_ONLY), None: (STORABLE,)}
_MAX_OFFSET: Final = 2**31 - 1
_RAW_LABEL: Final = re.compile(r"x'(?:[0-9a-f]{2})+'")

# GB 18030's codes of four bytes are counted linearly from 81308130; from 90308130 on they are U+10000 and so on.
_GB_PLANES: Final = 189_000
_GB_BMP: Final = 50_400


@dataclass(frozen=True)
class Tables:
    """The codes of a legacy set, by their bytes: one (256), two (65,536 by both bytes), three (the same for the bytes
    behind 8F), four (GB 18030's linear count). A table that the set lacks has no entries."""

    one: Any
    two: Any
    three: Any
    four: Any


@cache
def tables(charset: str) -> Tables:
    """Raises ValueError for a set that has none."""
    if charset not in SINGLE_BYTE and charset not in DOUBLE_BYTE:
        raise ValueError(f"character set {charset!r} has no table")
    none = np.zeros(0, np.uint16)
    with np.load(TABLES_FILE) as file:
        one, *more = (file[name] if (name := f"{charset}_{size}") in file else none for size in (1, 2, 3, 4))
    return Tables(one, *more)


@cache
def _lexer_tables(charset: str) -> Tables:
    """As a statement is read: in sjis, 5C is a backslash; 815F, which the servers make another one of, would escape what
    follows it, and counts as no text."""
    known = tables(charset)
    if charset != "sjis":
        return known
    one, two = known.one.copy(), known.two.copy()
    one[0x5C], two[0x815F] = 0x5C, STORABLE
    return replace(known, one=one, two=two)


def decode_text(raw: bytes, charset: str) -> str:
    """The text of bytes in a character set. Raises ValueError if they are not valid in it, if no text leads back to
    them, or if the set is unknown."""
    codec = _CODECS.get(charset)
    if codec is not None:
        text = raw.decode(codec)
        if charset in _ONE_PLANE and text and max(text) > "\uffff":
            raise ValueError(f"not a character of {charset}")
        return text
    if charset in SINGLE_BYTE:
        if raw.isascii() and _keeps_ascii(charset):
            return raw.decode("ascii")
        known = tables(charset).one
        return _characters(known[np.frombuffer(raw, np.uint8)])
    return _characters(np.array(_codes(raw, tables(charset)), np.uint32))


def decode_statement(raw: bytes, charset: str) -> str:
    """The text of an SQL statement of a client that speaks this set. Raises ValueError as `decode_text` does, and for swe7,
    which has letters where SQL has its signs."""
    if charset in _CODECS:
        return decode_text(raw, charset)
    if charset == "swe7" or charset not in SINGLE_BYTE | DOUBLE_BYTE:
        raise ValueError(f"statements in character set {charset!r} are not read")
    if raw.isascii():
        return raw.decode("ascii")
    return _characters(np.array(_codes(raw, _lexer_tables(charset)), np.uint32))


def encode_text(text: str, charset: str) -> bytes:
    """The inverse of `decode_text`. Raises ValueError for a character that the set doesn't have."""
    codec = _CODECS.get(charset)
    if codec is not None:
        if charset in _ONE_PLANE and text and max(text) > "\uffff":
            raise ValueError(f"not a character of {charset}")
        return text.encode(codec)
    known = _inverse(charset)
    try:
        return b"".join([known[character] for character in text])
    except KeyError as error:
        if charset == "gb18030" and (plane := _gb18030_planes(text, known)) is not None:
            return plane
        raise ValueError(f"{charset} has no {error.args[0]!r}") from None


def storable(raw: bytes, charset: str, flavor: str | None = None) -> bool:
    """Whether a server of this flavor (None: both) stores these bytes in a column of the set as they are, be they text
    or not. False only says that it might change them on the way in."""
    kept = _KEPT_BY[flavor]
    if charset in SINGLE_BYTE or charset in DOUBLE_BYTE:
        codes = np.array(_codes(raw, tables(charset)), np.uint32)
        return bool(np.isin(codes[_marks(codes)], kept).all())
    if charset == "ucs2":
        return len(raw) % 2 == 0  # surrogates, too
    try:
        raw.decode(_CODECS[charset], "surrogatepass" if flavor == "mariadb" and charset in _LOOSE else "strict")
    except (ValueError, KeyError):
        return False
    return charset not in _ONE_PLANE or max(raw, default=0) < 0xF0


def exact_text(raw: bytes) -> str:
    """What stands in `_rb_exact` for bytes that have no text."""
    return "0x" + raw.hex().upper()


def exact_bytes(text: str) -> bytes:
    """The inverse of `exact_text`. Raises ValueError."""
    if not text.startswith("0x"):
        raise ValueError("not the exact text of bytes")
    return bytes.fromhex(text[2:])


def label_text(raw: bytes, charset: str) -> str:
    """A label of ENUM or SET as the definition shows it. One without a text stands there as MySQL itself prints it,
    x'c3'; so does one whose text looks like that, lest the two be mixed up."""
    try:
        text = decode_text(raw, charset)
    except ValueError:
        return f"x'{raw.hex()}'"
    return f"x'{raw.hex()}'" if is_raw_label(text) else text


def label_bytes(label: str, charset: str) -> bytes:
    """The inverse of `label_text`. Raises ValueError."""
    return bytes.fromhex(label[2:-1]) if is_raw_label(label) else encode_text(label, charset)


def is_raw_label(label: str) -> bool:
    """Whether this label is given by its bytes."""
    return _RAW_LABEL.fullmatch(label) is not None


def transcode(buffer: Any, starts: Any, lengths: Any, charset: str) -> tuple[pa.StringArray, Any]:
    """Many values at once: value i is buffer[starts[i] : starts[i] + lengths[i]]; a negative length is NULL.

    buffer: uint8, read-only or not; starts, lengths: int64 of one shape (n,). Returns the texts and the rows (int64,
    ascending) that have none: they are null in the array. Raises ValueError for an unknown set, for values beyond the
    buffer, and for texts of more than 2 GiB.
    """
    from recovery import charset_kernels as kernels  # compiles: not for those who only print a page of changes

    buffer = np.ascontiguousarray(buffer, np.uint8)
    starts, lengths = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(lengths, np.int64)
    if bool(((lengths > 0) & ((starts < 0) | (starts > len(buffer) - lengths))).any()):
        raise ValueError("a value lies beyond its buffer")
    sizes = np.empty(len(lengths), np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int32)
    data = np.empty(0, np.uint8)
    if charset in SINGLE_BYTE:
        table = _utf8_of_bytes(charset)
        data = np.empty(_fitting(kernels.single_sizes(buffer, starts, lengths, table, sizes)), np.uint8)
        np.cumsum(np.maximum(sizes, 0), out=offsets[1:])
        kernels.single_write(buffer, starts, lengths, table, sizes, offsets, data)
    else:
        kind, known = _kind(charset)
        given = (kind, buffer, starts, lengths, known.one, known.two, known.three, known.four, sizes, offsets)
        data = np.empty(_fitting(kernels.wide(*given, data, False)), np.uint8)
        np.cumsum(np.maximum(sizes, 0), out=offsets[1:])
        kernels.wide(*given, data, True)
    return _string_array(sizes, offsets, data), np.flatnonzero(sizes == kernels.BAD)


def _fitting(total: int) -> int:
    if total > _MAX_OFFSET:
        raise ValueError("more than 2 GiB of text in one array")
    return total


def _string_array(sizes: Any, offsets: Any, data: Any) -> pa.StringArray:
    valid = sizes >= 0
    nulls = len(sizes) - int(valid.sum())
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little")) if nulls else None
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(data), bitmap, nulls)


def _kind(charset: str) -> tuple[int, Tables]:
    """How the kernels read a set of more than one byte."""
    from recovery import charset_kernels as kernels

    none = np.zeros(0, np.uint16)
    kinds = {
        "utf8mb4": kernels.UTF8, "utf8mb3": kernels.UTF8MB3, "utf8": kernels.UTF8MB3, "binary": kernels.UTF8,
        "ucs2": kernels.UCS2, "utf16": kernels.UTF16, "utf16le": kernels.UTF16LE, "utf32": kernels.UTF32,
    }  # fmt: skip
    if charset in kinds:
        return kinds[charset], Tables(none, none, none, none)
    return kernels.TABLE, tables(charset)


@cache
def _keeps_ascii(charset: str) -> bool:
    return bool((tables(charset).one[:128] == np.arange(128)).all())


@cache
def _utf8_of_bytes(charset: str) -> Any:
    """Per byte: its UTF-8 in the lower three bytes, lowest first, and their number in the highest; 0 for no text."""
    packed = np.zeros(256, np.uint32)
    for byte, code in enumerate(tables(charset).one.tolist()):
        if not 0xD800 <= code < 0xE000:
            encoded = chr(code).encode()
            packed[byte] = int.from_bytes(encoded, "little") | len(encoded) << 24
    return packed


@cache
def _inverse(charset: str) -> dict[str, bytes]:
    """Character -> its code."""
    found: dict[str, bytes] = {}
    known = tables(charset)
    for table, code in (
        (known.one, lambda i: bytes([i])),
        (known.two, lambda i: i.to_bytes(2, "big")),
        (known.three, lambda i: b"\x8f" + i.to_bytes(2, "big")),
        (known.four, gb18030_code),
    ):
        for i in np.flatnonzero(~_marks(table)).tolist():
            found[chr(int(table[i]))] = code(i)
    return found


def _characters(codes: Any) -> str:
    if bool(_marks(codes).any()):
        raise ValueError("bytes without a text")
    raw: bytes = codes.astype("<u4").tobytes()
    return raw.decode("utf-32-le")


def _marks(codes: Any) -> Any:
    """Which entries are marks: surrogates."""
    return (codes >= 0xD800) & (codes < 0xE000)


def _codes(raw: bytes, known: Tables) -> list[int]:
    """The code points and marks in a value of a set with a table. The first byte decides how long a code is (ismbchar in
    the servers' ctype-*.c): one that is cut short, or that no table has, counts as its first byte."""
    found: list[int] = []
    at, end = 0, len(raw)
    while at < end:
        code, width = int(known.one[raw[at]]), 1
        if code == MALFORMED or STORABLE < code < 0xE000:
            wide, bytes_each = _wide_code(raw, at, known)
            if wide != MALFORMED:
                code, width = wide, bytes_each
        found.append(code)
        at += width
    return found


def _wide_code(raw: bytes, at: int, known: Tables) -> tuple[int, int]:
    first = raw[at]
    if len(known.two) and at + 1 < len(raw):
        code = int(known.two[first << 8 | raw[at + 1]])
        if code != MALFORMED:
            return code, 2
    if first == 0x8F and len(known.three) and at + 2 < len(raw):
        return int(known.three[raw[at + 1] << 8 | raw[at + 2]]), 3
    if len(known.four) and at + 3 < len(raw):
        place = gb18030_place(raw[at : at + 4])
        if place is not None:
            if place < _GB_BMP:
                return int(known.four[place]), 4
            plane = place - _GB_PLANES
            return (0x10000 + plane if 0 <= plane < 0x100000 else STORABLE), 4
    return MALFORMED, 1


def gb18030_place(code: bytes) -> int | None:
    """The linear count of a code of four bytes; None if it isn't one."""
    a, b, c, d = code
    if not (0x81 <= a <= 0xFE and 0x30 <= b <= 0x39 and 0x81 <= c <= 0xFE and 0x30 <= d <= 0x39):
        return None
    return (((a - 0x81) * 10 + b - 0x30) * 126 + c - 0x81) * 10 + d - 0x30


def gb18030_code(place: int) -> bytes:
    """The inverse of `gb18030_place`."""
    place, d = divmod(place, 10)
    place, c = divmod(place, 126)
    a, b = divmod(place, 10)
    return bytes([0x81 + a, 0x30 + b, 0x81 + c, 0x30 + d])


def _gb18030_planes(text: str, known: dict[str, bytes]) -> bytes | None:
    """Text with characters above U+FFFF, which stand in no table; None if it has others that don't, either."""
    parts: list[bytes] = []
    for character in text:
        code = known.get(character)
        if code is None and character > "\uffff":
            code = gb18030_code(_GB_PLANES + ord(character) - 0x10000)
        if code is None:
            return None
        parts.append(code)
    return b"".join(parts)
