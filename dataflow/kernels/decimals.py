"""Gathers DECIMAL: into 128-bit integers up to 38 digits, into text beyond.

Layout (strings/decimal.cc, bin2decimal): groups of nine digits in four bytes, big endian; the leftover digits at both
ends in fewer; the first bit is the inverted sign, and a negative number has all its bits inverted.
"""

from __future__ import annotations

from numba import types

from dataflow.kernels.memory import BYTES, INLINE, INTS, LONGS, OPTIONS, OUT_BYTES, OUT_INTS, OUT_LONGS
from dataflow.kernels.walk import ODD
from recovery.kernelcache import kernel


@kernel(types.int64(BYTES, types.int64, types.int64, types.int64, types.boolean), **INLINE)
def group(data, at, size, flip, first):  # type: ignore[no-untyped-def]
    """A group's number. flip: 255 for a negative value, else 0."""
    number = 0
    for b in range(size):
        byte = types.int64(data[at + b])
        if first and b == 0:
            byte ^= 0x80
        number = number << 8 | (byte ^ flip)
    return number


@kernel(types.int64(BYTES, LONGS, OUT_INTS, LONGS, LONGS, OUT_LONGS), **OPTIONS)
def decimals(data, offsets, lengths, sizes, scales, out):  # type: ignore[no-untyped-def]
    """Two's complement in two int64 per value, the low half first. sizes: bytes of each group; scales: 10 to the number of
    its digits. A group with more digits than that is marked ODD."""
    groups = sizes.shape[0]
    odd = 0
    for i in range(lengths.shape[0]):
        low = high = 0
        if lengths[i] > 0:
            at = offsets[i]
            flip = 0 if data[at] & 0x80 else 255
            # Four limbs of 32 bits: a limb times 10**9 and a carry stay below 2**63.
            a = b = c = d = 0
            for g in range(groups):
                carry = group(data, at, sizes[g], flip, g == 0)
                at += sizes[g]
                scale = scales[g]
                if carry >= scale:
                    lengths[i] = ODD
                carry += a * scale
                a = carry & 0xFFFFFFFF
                carry = (carry >> 32) + b * scale
                b = carry & 0xFFFFFFFF
                carry = (carry >> 32) + c * scale
                c = carry & 0xFFFFFFFF
                d = (carry >> 32) + d * scale & 0xFFFFFFFF
            low, high = b << 32 | a, d << 32 | c
            if flip:
                low, high = ~low, ~high
                low += 1
                if low == 0:
                    high += 1
            if lengths[i] == ODD:
                odd += 1
        out[2 * i] = low
        out[2 * i + 1] = high
    return odd


@kernel(types.int64(BYTES, LONGS, INTS, LONGS, LONGS, types.int64, OUT_INTS, OUT_BYTES), **OPTIONS)
def decimal_texts(data, offsets, lengths, sizes, digits, whole_groups, ends, out):  # type: ignore[no-untyped-def]
    """Plain digits, with those of the scale behind a point. digits: of each group; the first `whole_groups` stand before the
    point. ends[i + 1]: where text i ends in `out`. Gives how many bytes that is, -1 if a group has too many digits."""
    at = 0
    ends[0] = 0
    for i in range(lengths.shape[0]):
        if lengths[i] > 0:
            source = offsets[i]
            flip = 0 if data[source] & 0x80 else 255
            if flip:
                out[at] = 45  # -
                at += 1
            begun = False
            for g in range(sizes.shape[0]):
                number = group(data, source, sizes[g], flip, g == 0)
                source += sizes[g]
                if g == whole_groups:
                    if not begun:
                        out[at] = 48  # 0
                        at += 1
                    out[at] = 46  # .
                    at += 1
                    begun = True
                place = 1
                for _ in range(digits[g] - 1):
                    place *= 10
                if number >= place * 10:
                    return -1
                while place > 0:
                    digit = number // place
                    number -= digit * place
                    if digit != 0 or begun:
                        out[at] = 48 + digit
                        at += 1
                        begun = True
                    place //= 10
            if not begun:
                out[at] = 48
                at += 1
        ends[i + 1] = at
    return at
