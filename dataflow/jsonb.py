"""MySQL's binary JSON to the text that the server prints it as, and partial updates of a document.

Promises: `to_text` gives what `CAST(document AS CHAR)` gives, for every value that a document can hold: opaque ones
(DECIMAL, temporal, binary) too. `apply_diffs` gives what the server shows after a partial update. Damaged data raises
ValueError (struct.error and IndexError never come out), in bounded time and memory whatever the bytes are.
dataflow/kernels/jsonb.py does the common documents many at a time and leaves the rest to this file.

Sources: sql-common/json_binary.h ("JSON data format") and json_binary.cc (parse_value: the bounds checked here),
sql-common/json_dom.cc (wrapper_to_string, double_quote), sql-common/my_time.cc (TIME_from_longlong_*_packed),
strings/decimal.cc (bin2decimal), strings/dtoa.cc (my_gcvt), sql-common/json_diff.cc and json_path.cc.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

SMALL_OBJECT, LARGE_OBJECT, SMALL_ARRAY, LARGE_ARRAY, LITERAL = 0, 1, 2, 3, 4
INT16, UINT16, INT32, UINT32, INT64, UINT64, DOUBLE, STRING, OPAQUE = 5, 6, 7, 8, 9, 10, 11, 12, 15
# check_json_depth: JSON_DOCUMENT_MAX_DEPTH containers inside one another, no more.
MAX_DEPTH: Final = 100
# No byte of a sound document prints as more than 6 (`\u0001`), no value entry of 3 or more as more than 10. Damaged offsets
# could name one part over and over, so the text is held to this.
MAX_GROWTH: Final = 8

_CONTAINERS: Final = frozenset({SMALL_OBJECT, LARGE_OBJECT, SMALL_ARRAY, LARGE_ARRAY})
_LITERALS: Final = {0: "null", 1: "true", 2: "false"}
_NUMBERS: Final = {
    INT16: struct.Struct("<h"), UINT16: struct.Struct("<H"), INT32: struct.Struct("<i"), UINT32: struct.Struct("<I"),
    INT64: struct.Struct("<q"), UINT64: struct.Struct("<Q"), DOUBLE: struct.Struct("<d"),
}  # fmt: skip
# inlined_type: the value stands in the value entry itself; 32-bit ones only in large containers.
_INLINE_SMALL: Final = frozenset({LITERAL, INT16, UINT16})
_INLINE_LARGE: Final = _INLINE_SMALL | {INT32, UINT32}
_ESCAPES: Final = {
    **{i: f"\\u{i:04x}" for i in range(32)},
    8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\",
}  # fmt: skip
# Column types of opaque values (field_types.h).
_TIMESTAMP, _DATE, _TIME, _DATETIME, _NEWDECIMAL, _VAR_STRING = 7, 10, 11, 12, 246, 253
_DIGIT_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # strings/decimal.cc, dig2bytes
_BASE64_LINE: Final = 57  # bytes of one line: base64_encode breaks lines after 76 characters


@dataclass(slots=True)
class Array:
    items: list[Node]


@dataclass(slots=True)
class Object:
    """Keys as the document has them: the server sorts them by length, then by bytes."""

    keys: list[bytes]
    values: list[Node]


Node: TypeAlias = str | Array | Object
"""A container, or a scalar as its text."""


def to_text(data: bytes) -> str:
    """The document as the server prints it. An empty value stands for JSON null (json_binary::parse_binary).

    Raises ValueError for damaged data.
    """
    return render(parse(data))


def parse(data: bytes) -> Node:
    """The document as a tree. Raises ValueError for damaged data."""
    if not data:
        return "null"
    try:
        return _Parser(data).value(data[0], 1, len(data), 0)
    except (IndexError, struct.error) as error:
        raise ValueError(f"a JSON document is cut short: {error}") from error


def render(node: Node) -> str:
    """A tree's text. Raises ValueError if it is nested too deeply."""
    out: list[str] = []
    _render(node, 1, out)
    return "".join(out)


def _render(node: Node, depth: int, out: list[str]) -> None:
    if isinstance(node, str):
        out.append(node)
        return
    if depth > MAX_DEPTH:
        raise ValueError(f"a JSON document is nested more than {MAX_DEPTH} deep")
    if isinstance(node, Array):
        out.append("[")
        for i, item in enumerate(node.items):
            if i:
                out.append(", ")
            _render(item, depth + 1, out)
        out.append("]")
        return
    out.append("{")
    for i, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
        out.append(f"{', ' if i else ''}{quote(key.decode())}: ")
        _render(value, depth + 1, out)
    out.append("}")


class _Parser:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = MAX_GROWTH * len(data) + 64

    def value(self, kind: int, at: int, end: int, depth: int) -> Node:
        """The value at `at`; it may not reach beyond `end`, the end of the container it lies in."""
        if kind in _CONTAINERS:
            return self._container(kind, at, end, depth + 1)
        text = self._scalar(kind, at, end)
        self._spend(len(text))
        return text

    def _spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise ValueError("a JSON document's parts overlap")

    def _scalar(self, kind: int, at: int, end: int) -> str:
        if kind in _NUMBERS:
            number = _NUMBERS[kind]
            if at + number.size > end:
                raise ValueError("a JSON number reaches beyond its container")
            value = number.unpack_from(self.data, at)[0]
            return double_text(value) if kind == DOUBLE else str(value)
        if kind == LITERAL:
            if at >= end or self.data[at] not in _LITERALS:
                raise ValueError("an unknown JSON literal")
            return _LITERALS[self.data[at]]
        if kind == STRING:
            return quote(self._bytes(at, end).decode())
        if kind == OPAQUE:
            return _opaque_text(self.data[at], self._bytes(at + 1, end))
        raise ValueError(f"unknown JSON value type {kind}")

    def _bytes(self, at: int, end: int) -> bytes:
        """A length of 1 to 5 bytes, seven bits each, lowest first, and so many bytes."""
        length = 0
        for i in range(5):
            byte = self.data[at + i]
            length |= (byte & 0x7F) << (7 * i)
            if not byte & 0x80:
                return self._slice(at + i + 1, length, end)
        raise ValueError("a JSON string's length doesn't end")

    def _slice(self, start: int, length: int, end: int) -> bytes:
        if start + length > end:
            raise ValueError("a JSON string reaches beyond its container")
        return self.data[start : start + length]

    def _container(self, kind: int, base: int, end: int, depth: int) -> Array | Object:
        """Element count and size in bytes, then key entries (offset, 2-byte length), then value entries (type, inline value
        or offset), then keys and values; all offsets count from `base`."""
        if depth > MAX_DEPTH:
            raise ValueError(f"a JSON document is nested more than {MAX_DEPTH} deep")
        large = kind in (LARGE_OBJECT, LARGE_ARRAY)
        number = _NUMBERS[UINT32 if large else UINT16]
        width = number.size
        count, size = number.unpack_from(self.data, base)[0], number.unpack_from(self.data, base + width)[0]
        is_object = kind in (SMALL_OBJECT, LARGE_OBJECT)
        values = 2 * width + (count * (width + 2) if is_object else 0)
        header = values + count * (1 + width)
        if size > end - base or header > size:
            raise ValueError("a JSON container reaches beyond the one around it")
        self._spend(2 + 4 * count)
        end = base + size
        keys = [self._key(base, 2 * width + i * (width + 2), header, number, end) for i in range(count * is_object)]
        items = [self._element(base, values + i * (1 + width), number, end, depth) for i in range(count)]
        return Object(keys, items) if is_object else Array(items)

    def _key(self, base: int, entry: int, header: int, number: struct.Struct, end: int) -> bytes:
        offset = number.unpack_from(self.data, base + entry)[0]
        length = _NUMBERS[UINT16].unpack_from(self.data, base + entry + number.size)[0]
        if offset < header:
            raise ValueError("a JSON key lies in its container's header")
        self._spend(length)
        return self._slice(base + offset, length, end)

    def _element(self, base: int, entry: int, number: struct.Struct, end: int, depth: int) -> Node:
        kind = self.data[base + entry]
        if kind in (_INLINE_LARGE if number.size == 4 else _INLINE_SMALL):
            return self.value(kind, base + entry + 1, base + entry + 1 + number.size, depth)
        offset = number.unpack_from(self.data, base + entry + 1)[0]
        if offset < entry + 1 + number.size:
            raise ValueError("a JSON value lies before its entry")
        return self.value(kind, base + offset, end, depth)


def quote(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _opaque_text(kind: int, raw: bytes) -> str:
    """wrapper_to_string's cases of values that keep their column type; all but decimals are strings in the text."""
    if kind == _NEWDECIMAL:
        return _decimal_text(raw)
    if kind in (_TIMESTAMP, _DATE, _TIME, _DATETIME):
        return f'"{_temporal_text(kind, raw)}"'
    if kind == _VAR_STRING:
        return quote(raw.decode())
    lines = [binascii.b2a_base64(raw[i : i + _BASE64_LINE], newline=False) for i in range(0, len(raw), _BASE64_LINE)]
    return f'"base64:type{kind}:' + b"\\n".join(lines).decode() + '"'


def _decimal_text(raw: bytes) -> str:
    """Precision, scale (a byte each), then groups of nine digits in four bytes, big endian, leftover digits in fewer; the
    first bit is the inverted sign, and a negative number has all its bits inverted."""
    precision, scale = raw[0], raw[1]
    whole = precision - scale
    if whole < 0:
        raise ValueError("a JSON decimal has more decimals than digits")
    groups = [whole % 9] + [9] * (whole // 9 + scale // 9) + [scale % 9]
    widths = [_DIGIT_BYTES[digits] for digits in groups]
    if len(raw) != 2 + sum(widths) or len(raw) == 2:
        raise ValueError("a JSON decimal has the wrong size")
    negative = not raw[2] & 0x80
    flipped = bytes([raw[2] ^ 0x80, *raw[3:]])
    body = bytes(b ^ 0xFF for b in flipped) if negative else flipped
    digits, at = "", 0
    for count, width in zip(groups, widths, strict=True):
        if count:
            digits += f"{int.from_bytes(body[at : at + width], 'big'):0{count}d}"
        at += width
    if len(digits) != precision:
        raise ValueError("a JSON decimal holds an impossible group of digits")
    integral = digits[:whole].lstrip("0") or "0"
    return f"{'-' if negative else ''}{integral}{'.' if scale else ''}{digits[whole:]}"


def _temporal_text(kind: int, raw: bytes) -> str:
    """A signed number: the moment's fields above 24 bits of microseconds; printed with six fractional digits."""
    if len(raw) != 8:
        raise ValueError("a temporal JSON value has the wrong size")
    packed = int.from_bytes(raw, "little", signed=True)
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    micros, fields = packed & 0xFFFFFF, packed >> 24
    second, minute = fields & 63, fields >> 6 & 63
    if kind == _TIME:
        return f"{sign}{fields >> 12 & 0x3FF:02}:{minute:02}:{second:02}.{micros:06}"
    year, month = divmod(fields >> 22, 13)
    day = f"{year:04}-{month:02}-{fields >> 17 & 31:02}"
    return day if kind == _DATE else f"{day} {fields >> 12 & 31:02}:{minute:02}:{second:02}.{micros:06}"


def double_text(value: float) -> str:
    """As my_gcvt prints the shortest digits that read back the same: plain from 1e-15 to below 1e15, and above while there
    is a fraction, else with an exponent; ".0" is added where neither point nor exponent shows that it is a double. Raises
    ValueError for infinity and NaN, which JSON doesn't have."""
    if not math.isfinite(value):
        raise ValueError("a JSON number is not finite")
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0.0"
    # MAX_DECPT_FOR_F_FORMAT is 15, but for `len > decpt`.
    if point < -14 or (point > 15 and len(digits) <= point):
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    return f"{sign}{digits[:point]}.{digits[point:]}"
