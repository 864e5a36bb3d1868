"""What Numba lacks for decoding bytes: memcpy, memcmp, prefetching, counting of bits and unaligned little-endian loads and
stores.

A byte loop in Numba copies about 18 times slower than memcpy. **None of these checks bounds**: the walk kernel has proved
that every (offset, length) it hands out lies within its event, and outputs are sized from those lengths.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Argument types of the kernels' signatures. A mutable array may be passed for a read-only one.
BYTES: Final = types.Array(types.uint8, 1, "C", readonly=True)
LONGS: Final = types.Array(types.int64, 1, "C", readonly=True)
INTS: Final = types.Array(types.int32, 1, "C", readonly=True)
OUT_BYTES: Final = types.uint8[::1]
OUT_LONGS: Final = types.int64[::1]
OUT_INTS: Final = types.int32[::1]
OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "boundscheck": False, "_nrt": False}
INLINE: Final[dict[str, Any]] = {**OPTIONS, "forceinline": True}


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


@intrinsic
def copy(typing: Any, target: Any, at: Any, source: Any, start: Any, length: Any) -> Any:
    """target[at:at+length] = source[start:start+length]; both are byte arrays that don't overlap."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = _address(context, builder, signature.args[0], args[0], args[1])
        cgutils.raw_memcpy(
            builder, to, _address(context, builder, signature.args[2], args[2], args[3]), args[4], ir.IntType(64)(1)
        )
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


@intrinsic
def same(typing: Any, data: Any, one: Any, other: Any, length: Any) -> Any:
    """Whether data[one:one+length] and data[other:other+length] are equal (memcmp)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer, pointer, ir.IntType(64)])
        memcmp = cgutils.get_or_insert_function(builder.module, kind, "memcmp")
        first = _address(context, builder, signature.args[0], args[0], args[1])
        second = _address(context, builder, signature.args[0], args[0], args[2])
        return builder.icmp_signed("==", builder.call(memcmp, [first, second, args[3]]), ir.IntType(32)(0))

    return types.boolean(data, types.int64, types.int64, types.int64), generate


@intrinsic
def trailing_zeros(typing: Any, word: Any) -> Any:
    """Of an int64 that isn't 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@intrinsic
def prefetch(typing: Any, data: Any, at: Any) -> Any:
    """Ask for the cache line of data[at], which is read soon. `at` may lie anywhere: nothing is read here."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(32)
        address = _address(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # For reading, into all levels, of the data cache.
        builder.call(function, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(data, types.int64), generate


def _loader(bits: int, *, signed: bool) -> Any:
    @intrinsic
    def load(typing: Any, data: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args[0], args[1])
            value = builder.load(builder.bitcast(address, ir.IntType(bits).as_pointer()))
            value.align = 1
            if bits == 64:
                return value
            widen = builder.sext if signed else builder.zext
            return widen(value, ir.IntType(64))

        return types.int64(data, types.int64), generate

    return load


def _storer(bits: int) -> Any:
    @intrinsic
    def store(typing: Any, data: Any, at: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args[0], args[1])
            value = args[2] if bits == 64 else builder.trunc(args[2], ir.IntType(bits))
            builder.store(value, builder.bitcast(address, ir.IntType(bits).as_pointer())).align = 1
            return context.get_dummy_value()

        return types.void(data, types.int64, types.int64), generate

    return store


# int64 from little-endian bytes at an offset of a byte array, and back. The machines that this runs on are little endian.
load_u16 = _loader(16, signed=False)
load_u32 = _loader(32, signed=False)
load_i64 = _loader(64, signed=True)
store_16 = _storer(16)
store_32 = _storer(32)
store_64 = _storer(64)
