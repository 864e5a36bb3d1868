"""Gathers DATE, TIME, DATETIME and TIMESTAMP into days or microseconds.

Sources: MySQL's sql-common/my_time.cc (my_time_packed_from_binary and its kin) and, for columns made before 5.6,
sql/field.cc (Field_time, Field_datetime, Field_timestamp). A value that its Arrow type can't hold, the zero and partial
ones and also what no server writes, is marked ODD in `lengths`; each kernel gives how many it marked.
"""

from __future__ import annotations

from typing import Final

from numba import types

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
    store_32,
)
from dataflow.kernels.walk import ODD
from recovery.kernelcache import kernel

_DAY_US: Final = 86_400_000_000
NO_DAY: Final = 1 << 40


@kernel(types.int64(types.int64, types.int64, types.int64), **INLINE)
def days(year, month, day):  # type: ignore[no-untyped-def]
    """Days since 1970-01-01 in the proleptic Gregorian calendar; NO_DAY for what isn't a day of the years 1 to 9999."""
    if year < 1 or year > 9999 or month < 1 or month > 12 or day < 1:
        return NO_DAY
    last = 31
    if month == 4 or month == 6 or month == 9 or month == 11:
        last = 30
    elif month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if day > last:
        return NO_DAY
    # Years begin in March, so that a leap day is the last of its year; cycles of 400 years have 146,097 days.
    y = year if month > 2 else year - 1
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@kernel(types.int64(BYTES, types.int64, types.int64), **INLINE)
def fraction(data, at, size):  # type: ignore[no-untyped-def]
    """Microseconds of a big-endian fraction: hundredths in one byte, ten-thousandths in two, millionths in three."""
    if size == 0:
        return 0
    if size == 1:
        return types.int64(data[at]) * 10_000
    if size == 2:
        return (types.int64(data[at]) << 8 | types.int64(data[at + 1])) * 100
    return types.int64(data[at]) << 16 | types.int64(data[at + 1]) << 8 | types.int64(data[at + 2])


@kernel(types.int64(BYTES, LONGS, OUT_INTS, OUT_BYTES), **OPTIONS)
def dates(data, offsets, lengths, out):  # type: ignore[no-untyped-def]
    """DATE: 3 bytes, little endian: day 5 bits, month 4, year 15. Days in 32 bits."""
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            at = offsets[i]
            word = load_u16(data, at) | types.int64(data[at + 2]) << 16
            value = days(word >> 9, word >> 5 & 15, word & 31)
            if value == NO_DAY:
                value = 0
                lengths[i] = ODD
                odd += 1
        store_32(out, 4 * i, value)
    return odd


@kernel(types.int64(BYTES, LONGS, OUT_INTS, types.int64, OUT_LONGS), **OPTIONS)
def datetimes(data, offsets, lengths, size, out):  # type: ignore[no-untyped-def]
    """DATETIME2: 40 bits, big endian, with offset 2**39: year * 13 + month 17 bits, day 5, hour 5, minute 6, second 6; then
    a fraction of `size` bytes."""
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            at = offsets[i]
            word = types.int64(data[at]) << 32 | types.int64(data[at + 1]) << 24 | types.int64(data[at + 2]) << 16
            word = (word | types.int64(data[at + 3]) << 8 | types.int64(data[at + 4])) - 0x8000000000
            micros = fraction(data, at + 5, size)
            months = word >> 22
            hour, minute, second = word >> 12 & 31, word >> 6 & 63, word & 63
            day = days(months // 13, months % 13, word >> 17 & 31)
            if word < 0 or day == NO_DAY or hour > 23 or minute > 59 or second > 59 or micros > 999_999:
                lengths[i] = ODD
                odd += 1
            else:
                value = day * _DAY_US + (hour * 3600 + minute * 60 + second) * 1_000_000 + micros
        out[i] = value
    return odd


@kernel(types.int64(BYTES, LONGS, OUT_INTS, types.int64, OUT_LONGS), **OPTIONS)
def timestamps(data, offsets, lengths, size, out):  # type: ignore[no-untyped-def]
    """TIMESTAMP2: seconds since 1970 in UTC, 4 bytes, big endian, and a fraction; all zero is the zero timestamp."""
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            at = offsets[i]
            seconds = types.int64(data[at]) << 24 | types.int64(data[at + 1]) << 16
            seconds |= types.int64(data[at + 2]) << 8 | types.int64(data[at + 3])
            micros = fraction(data, at + 4, size)
            value = seconds * 1_000_000 + micros
            if value == 0 or micros > 999_999:
                value = 0
                lengths[i] = ODD
                odd += 1
        out[i] = value
    return odd


@kernel(types.int64(BYTES, LONGS, OUT_INTS, types.int64, OUT_LONGS), **OPTIONS)
def times(data, offsets, lengths, size, out):  # type: ignore[no-untyped-def]
    """TIME2: 24 bits with offset 2**23 (hour 10 bits, minute 6, second 6) and a fraction, which together are one signed
    fixed-point number: reading both as one big-endian integer takes care of the borrow of negative times."""
    unit = 10_000 if size == 1 else 100 if size == 2 else 1
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            at = offsets[i]
            for b in range(3 + size):
                value = value << 8 | types.int64(data[at + b])
            value -= 0x800000 << (8 * size)
            sign = 1
            if value < 0:
                sign, value = -1, -value
            whole, micros = value >> (8 * size), (value & ((1 << (8 * size)) - 1)) * unit
            hour, minute, second = whole >> 12, whole >> 6 & 63, whole & 63
            if hour > 838 or minute > 59 or second > 59 or micros > 999_999:
                value = 0
                lengths[i] = ODD
                odd += 1
            else:
                value = sign * ((hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
        out[i] = value
    return odd


@kernel(types.int64(BYTES, LONGS, OUT_INTS, OUT_LONGS), **OPTIONS)
def old_datetimes(data, offsets, lengths, out):  # type: ignore[no-untyped-def]
    """DATETIME before 5.6: the decimal number YYYYMMDDhhmmss in 8 bytes, little endian."""
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            number = load_i64(data, offsets[i])
            date, time = number // 1_000_000, number % 1_000_000
            hour, minute, second = time // 10_000, time // 100 % 100, time % 100
            day = days(date // 10_000, date // 100 % 100, date % 100)
            if number < 0 or day == NO_DAY or hour > 23 or minute > 59 or second > 59:
                lengths[i] = ODD
                odd += 1
            else:
                value = day * _DAY_US + (hour * 3600 + minute * 60 + second) * 1_000_000
        out[i] = value
    return odd


@kernel(types.int64(BYTES, LONGS, OUT_INTS, OUT_LONGS), **OPTIONS)
def old_timestamps(data, offsets, lengths, out):  # type: ignore[no-untyped-def]
    """TIMESTAMP before 5.6: seconds since 1970 in UTC, 4 bytes, little endian; 0 is the zero timestamp."""
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            value = load_u32(data, offsets[i]) * 1_000_000
            if value == 0:
                lengths[i] = ODD
                odd += 1
        out[i] = value
    return odd


@kernel(types.int64(BYTES, LONGS, OUT_INTS, OUT_LONGS), **OPTIONS)
def old_times(data, offsets, lengths, out):  # type: ignore[no-untyped-def]
    """TIME before 5.6: the decimal number hhmmss with its sign in 3 bytes, little endian."""
    odd = 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            number = load_u16(data, offsets[i]) | types.int64(data[offsets[i] + 2]) << 16
            number = number << 40 >> 40
            sign = -1 if number < 0 else 1
            number *= sign
            hour, minute, second = number // 10_000, number // 100 % 100, number % 100
            if hour > 838 or minute > 59 or second > 59:
                lengths[i] = ODD
                odd += 1
            else:
                value = sign * (hour * 3600 + minute * 60 + second) * 1_000_000
        out[i] = value
    return odd
