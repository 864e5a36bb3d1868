"""Numbers as MySQL prints them in JSON, written into a byte array.

Doubles: the shortest decimal that reads back as the same double, and of those the one nearest to it, as my_gcvt in
strings/dtoa.cc finds it. Method: R. Giulietti, "The Schubfach way to render doubles" (2020), in 63-bit steps with powers
of ten of 126 bits; the names are the paper's. Subnormal doubles are left to the exact path.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dataflow.kernels.memory import OPTIONS, OUT_BYTES
from recovery.kernelcache import kernel

_FRACTION_BITS: Final = 52
_EXPONENTS: Final = 2046  # of normal doubles: biased 1 to 2046
_BIAS: Final = 1075  # value = c * 2 ** (biased - 1075), with c below 2**53
_K, _H, _G1, _G0 = 0, 1, 2, 3
_MASK63: Final = (1 << 63) - 1


@cache
def _floor_log2_pow10(e: int) -> int:
    bits: int = (10 ** abs(e)).bit_length()
    return bits - 1 if e >= 0 else -bits


def _floor_log10(numerator: int, denominator: int) -> int:
    """Of a fraction; the number of bits tells it but for one or two, and those are tried."""
    k = (numerator.bit_length() - denominator.bit_length() - 1) * 30_103 // 100_000
    while numerator >= denominator * 10 ** (k + 1) if k >= -1 else numerator * 10 ** -(k + 1) >= denominator:
        k += 1
    return k


@cache
def _pow10_126(e: int) -> int:
    """floor(beta) + 1 for 10**e = beta * 2**r, with beta of 126 bits."""
    power: int = 10 ** abs(e)
    if e >= 0:
        shift = power.bit_length() - 126
        return (power >> shift if shift > 0 else power << -shift) + 1
    quotient = (1 << (power.bit_length() + 126)) // power
    return (quotient >> (quotient.bit_length() - 126)) + 1


def _tables() -> np.ndarray:
    """(2, 2047, 4): of regular and irregular spacing (c = 2**52), by biased exponent: k, h, and the two halves of g."""
    found = np.zeros((2, _EXPONENTS + 1, 4), np.int64)
    for irregular in (0, 1):
        for biased in range(1, _EXPONENTS + 1):
            q = biased - _BIAS
            numerator, denominator = (1 << q, 1) if q >= 0 else (1, 1 << -q)
            if irregular and biased > 1:  # three quarters of the spacing
                numerator, denominator = 3 * numerator, 4 * denominator
            k = _floor_log10(numerator, denominator)
            g = _pow10_126(-k)
            found[irregular, biased] = k, q + _floor_log2_pow10(-k) + 2, g >> 63, g & _MASK63
    return found


_TABLES: Final = _tables()


def _product(shift: int) -> Any:
    @intrinsic
    def product(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            wide = [builder.zext(each, ir.IntType(128)) for each in args]
            shifted = builder.lshr(builder.mul(*wide), ir.IntType(128)(shift))
            return builder.trunc(shifted, ir.IntType(64))

        return types.int64(types.int64, types.int64), generate

    return product


# 64 bits of a product of two numbers that aren't negative: the upper ones, and from the second lowest on.
_high, _half = _product(64), _product(1)


@kernel(types.int64(types.int64, types.int64, types.int64), **OPTIONS)
def _round_to_odd(g1, g0, c):  # type: ignore[no-untyped-def]
    """c * g / 2**127, its lowest bit set if something is cut off. No sum may reach 2**63: LLVM takes it that none does."""
    whole, half, rest = _high(g1, c), _half(g1, c) & _MASK63, _high(g0, c)
    if rest > _MASK63 - half:
        whole += 1
        half = half - (_MASK63 - rest) - 1
    else:
        half += rest
    return whole | 1 if half else whole


@kernel(types.UniTuple(types.int64, 2)(types.int64), **OPTIONS)
def shortest(bits):  # type: ignore[no-untyped-def]
    """(digits, exponent) of a positive normal double: digits * 10**exponent."""
    biased = bits >> _FRACTION_BITS
    c = bits & ((1 << _FRACTION_BITS) - 1) | 1 << _FRACTION_BITS
    irregular = 1 if c == 1 << _FRACTION_BITS and biased > 1 else 0
    k, h = _TABLES[irregular, biased, _K], _TABLES[irregular, biased, _H]
    g1, g0 = _TABLES[irregular, biased, _G1], _TABLES[irregular, biased, _G0]
    out = c & 1  # the ends of the interval read back as c only if c is even
    v = _round_to_odd(g1, g0, (4 * c) << h)
    left = _round_to_odd(g1, g0, (4 * c - 2 + irregular) << h)
    right = _round_to_odd(g1, g0, (4 * c + 2) << h)
    s = v >> 2
    low = s // 10 * 10
    inside_low, inside_high = left + out <= low << 2, ((low + 10) << 2) + out <= right
    if inside_low != inside_high:
        return (low if inside_low else low + 10), k
    inside_low, inside_high = left + out <= s << 2, ((s + 1) << 2) + out <= right
    if inside_low != inside_high:
        return (s if inside_low else s + 1), k
    middle = v - ((s + s + 1) << 1)
    return (s if middle < 0 or (middle == 0 and s & 1 == 0) else s + 1), k


@kernel(types.int64(OUT_BYTES, types.int64, types.int64), **OPTIONS)
def digits(out, at, number):  # type: ignore[no-untyped-def]
    """A number that isn't negative, as digits; gives the end."""
    width, rest = 1, number
    while rest >= 10:
        rest //= 10
        width += 1
    for i in range(at + width - 1, at - 1, -1):
        out[i] = 48 + number % 10
        number //= 10
    return at + width


@kernel(types.int64(OUT_BYTES, types.int64, types.int64, types.boolean), **OPTIONS)
def integer(out, at, number, unsigned):  # type: ignore[no-untyped-def]
    """number: the bits; unsigned: they are a uint64's."""
    if number >= 0:
        return digits(out, at, number)
    if unsigned:  # halve without the sign, then divide: every step fits int64
        half = (number >> 1) & _MASK63
        at = digits(out, at, half // 5)
        out[at] = 48 + 2 * (half % 5) + (number & 1)
        return at + 1
    out[at] = 45
    if number == -0x8000000000000000:
        at = digits(out, at + 1, 922337203685477580)
        out[at] = 56
        return at + 1
    return digits(out, at + 1, -number)


@kernel(types.void(OUT_BYTES, types.int64, types.int64, types.int64), **OPTIONS)
def _shift(out, start, end, by):  # type: ignore[no-untyped-def]
    """Move out[start:end] to the right."""
    for i in range(end - 1, start - 1, -1):
        out[i + by] = out[i]


@kernel(types.int64(OUT_BYTES, types.int64, types.int64), **OPTIONS)
def double(out, at, bits):  # type: ignore[no-untyped-def]
    """A double by its bits, as dataflow.jsonb.double_text prints it; -1 for subnormal ones, infinity and NaN."""
    if bits < 0:
        out[at] = 45
        at += 1
        bits &= _MASK63
    if bits == 0:
        out[at], out[at + 1], out[at + 2] = 48, 46, 48
        return at + 3
    biased = bits >> _FRACTION_BITS
    if biased == 0 or biased > _EXPONENTS:
        return -1
    number, exponent = shortest(bits)
    while number % 10 == 0:
        number //= 10
        exponent += 1
    end = digits(out, at, number)
    size = end - at
    point = size + exponent
    # MAX_DECPT_FOR_F_FORMAT is 15, but for `len > decpt` (my_gcvt).
    if point < -14 or (point > 15 and size <= point):
        if size > 1:
            _shift(out, at + 1, end, 1)
            out[at + 1] = 46
            end += 1
        out[end] = 101
        return integer(out, end + 1, point - 1, False)
    if point <= 0:
        _shift(out, at, end, 2 - point)
        for i in range(at, at + 2 - point):
            out[i] = 48
        out[at + 1] = 46
        return end + 2 - point
    if point >= size:
        for i in range(end, at + point):
            out[i] = 48
        out[at + point], out[at + point + 1] = 46, 48
        return at + point + 2
    _shift(out, at + point, end, 1)
    out[at + point] = 46
    return end + 1
