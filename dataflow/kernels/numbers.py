"""Numbers as MySQL prints them in JSON, written into a byte array."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from dataflow.kernels.memory import OPTIONS, OUT_BYTES

# 10**22 is the last power of ten that a double holds exactly.
_POWERS: Final = np.array([10.0**n for n in range(23)])


@njit(types.int64(OUT_BYTES, types.int64, types.int64), **OPTIONS)
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


@njit(types.int64(OUT_BYTES, types.int64, types.int64, types.boolean), **OPTIONS)
def integer(out, at, number, unsigned):  # type: ignore[no-untyped-def]
    """number: the bits; unsigned: they are a uint64's."""
    if number >= 0:
        return digits(out, at, number)
    if unsigned:  # halve without the sign, then divide: every step fits int64
        tenth = ((number >> 1) & 0x7FFFFFFFFFFFFFFF) // 5
        at = digits(out, at, tenth)
        out[at] = 48 + (number - tenth * 10)
        return at + 1
    out[at] = 45
    if number == -0x8000000000000000:
        at = digits(out, at + 1, 922337203685477580)
        out[at] = 56
        return at + 1
    return digits(out, at + 1, -number)


@njit(types.int64(OUT_BYTES, types.int64, types.float64), **OPTIONS)
def double(out, at, value):  # type: ignore[no-untyped-def]
    """Doubles below 1e15 that have at most 15 digits: no two of these decimals share a double, so one that reads back as the
    value is its shortest. -1 for all others."""
    if np.signbit(value):
        out[at] = 45
        at += 1
    value = abs(value)
    if not value < 1e15:
        return -1
    decimals, whole = 0, np.rint(value)
    while whole != value:
        decimals += 1
        if decimals == 23:
            return -1
        whole = np.rint(value * _POWERS[decimals])
        if whole >= 1e15:
            return -1
        whole /= _POWERS[decimals]
    number = np.int64(np.rint(value * _POWERS[decimals]))
    while decimals and number % 10 == 0:
        number //= 10
        decimals -= 1
    end = digits(out, at, number)
    size = end - at
    if decimals == 0:
        out[end], out[end + 1] = 46, 48
        return end + 2
    if decimals < size:
        for i in range(end, end - decimals, -1):
            out[i] = out[i - 1]
        out[end - decimals] = 46
        return end + 1
    zeros = decimals - size
    if zeros > 14:  # my_gcvt takes an exponent
        return -1
    shift = zeros + 2
    for i in range(end - 1, at - 1, -1):
        out[i + shift] = out[i]
    for i in range(at, at + shift):
        out[i] = 48
    out[at + 1] = 46
    return end + shift
