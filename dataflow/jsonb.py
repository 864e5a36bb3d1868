"""MySQL's binary JSON to the text that the server prints.

Layout: sql-common/json_binary.h ("JSON data format"). Printing: sql-common/json_dom.cc (`", "` and `": "` separators,
double_quote's escapes) and strings/dtoa.cc my_gcvt for doubles. Opaque values (DECIMAL, temporal and binary values inside
JSON) raise OpaqueValue in this version.
"""

from __future__ import annotations

import struct
from typing import Final

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = 0, 1, 2, 3, 4
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING, _OPAQUE = 5, 6, 7, 8, 9, 10, 11, 12, 15
_LITERALS: Final = {0: "null", 1: "true", 2: "false"}
_SCALARS: Final = {_INT16: "<h", _UINT16: "<H", _INT32: "<i", _UINT32: "<I", _INT64: "<q", _UINT64: "<Q"}
# JSON_binary::inlined types: their value stands in the value entry; 32-bit ones only in large containers.
_INLINE_SMALL: Final = frozenset({_LITERAL, _INT16, _UINT16})
_INLINE_LARGE: Final = _INLINE_SMALL | {_INT32, _UINT32}
_ESCAPES: Final = {
    **{i: f"\\u{i:04x}" for i in range(32)},
    8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\",
}  # fmt: skip


class OpaqueValue(ValueError):
    """A value of a type that JSON text doesn't have."""


def to_text(data: bytes) -> str:
    """The document as the server prints it. An empty value stands for JSON null (json_binary::parse_binary).

    Raises OpaqueValue, or ValueError/IndexError/struct.error for damaged data.
    """
    if not data:
        return "null"
    out: list[str] = []
    _value(data, data[0], 1, out)
    return "".join(out)


def _value(data: bytes, kind: int, at: int, out: list[str]) -> None:
    if kind in _SCALARS:
        out.append(str(struct.unpack_from(_SCALARS[kind], data, at)[0]))
    elif kind == _LITERAL:
        out.append(_LITERALS[data[at]])
    elif kind == _STRING:
        length, start = _length(data, at)
        out.append(quote(_slice(data, start, length).decode()))
    elif kind == _DOUBLE:
        out.append(double_text(struct.unpack_from("<d", data, at)[0]))
    elif kind in (_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY):
        _container(data, kind, at, out)
    elif kind == _OPAQUE:
        raise OpaqueValue(f"an opaque value of MySQL type {data[at]}")
    else:
        raise ValueError(f"unknown JSON value type {kind}")


def _container(data: bytes, kind: int, base: int, out: list[str]) -> None:
    """Element count and byte size, then key entries (offset, 2-byte length), then value entries (type, inline or offset);
    all offsets count from `base`."""
    large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    is_object = kind in (_SMALL_OBJECT, _LARGE_OBJECT)
    width = 4 if large else 2
    number = "<I" if large else "<H"
    inline = _INLINE_LARGE if large else _INLINE_SMALL
    count = struct.unpack_from(number, data, base)[0]
    keys = base + 2 * width
    values = keys + (count * (width + 2) if is_object else 0)
    out.append("{" if is_object else "[")
    for i in range(count):
        if i:
            out.append(", ")
        if is_object:
            entry = keys + i * (width + 2)
            offset = struct.unpack_from(number, data, entry)[0]
            length = struct.unpack_from("<H", data, entry + width)[0]
            out.append(quote(_slice(data, base + offset, length).decode()))
            out.append(": ")
        entry = values + i * (1 + width)
        element = data[entry]
        if element in inline:
            _value(data, element, entry + 1, out)
        else:
            _value(data, element, base + struct.unpack_from(number, data, entry + 1)[0], out)
    out.append("}" if is_object else "]")


def _slice(data: bytes, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise ValueError("a JSON value reaches beyond its document")
    return data[start : start + length]


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length of 1 to 5 bytes, seven bits each, lowest first; and where the bytes begin."""
    length = 0
    for i in range(5):
        byte = data[at + i]
        length |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            return length, at + i + 1
    raise ValueError("a JSON string's length doesn't end")


def quote(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def double_text(value: float) -> str:
    """As my_gcvt prints the shortest digits that read back the same: plain from 1e-15 to below 1e15, else with an
    exponent; ".0" is added where neither point nor exponent shows that it is a double."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0.0"
    if not -14 <= point <= 15:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    return f"{sign}{digits[:point]}.{digits[point:]}"
