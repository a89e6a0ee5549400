"""Kernels on torch's own threads, without Python's lock.

A kernel is a compiled function of a share's number and its arguments: share s of a call does the
same arithmetic on whichever thread takes it, so the bits do not depend on how many there are. The
threads are those of the OpenMP library that torch has loaded: a second pool would fight with them,
since they spin for milliseconds after each of torch's own operators.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any, cast

import numba
import numpy
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

I64, I32, ADDRESS = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
CACHE_LINE_BYTES = 64
PAIRS_AHEAD = 16  # a pair's scalars lie anywhere in megabytes and are asked for this much earlier
SHARES = 64  # enough that a thread that lost its core for a while does not hold up the rest

KINDS = {
    torch.float32: "=f4",
    torch.float64: "=f8",
    torch.int16: "=i2",
    torch.int32: "=i4",
    torch.int64: "=i8",
    torch.bool: "|b1",
}

# A function of the types that emits LLVM; mypy would check calls against its own arguments.
emitted = cast(Callable[[Callable[..., Any]], Any], intrinsic)
carray = cast(Any, numba.carray)  # typed for matrices only


def compiled(*fastmath: str) -> Callable[..., Any]:
    """`numba.njit` without the lock, kept on disk where numba finds a folder it may write to."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no such folder: compiled anew in each process
            return numba.njit(**options)(function)

    return decorate


@emitted
def share_out(typing, kernel, shares, arguments, start, threads):
    """kernel(share, *arguments) for each of `shares`, on threads that take the next one when free.

    `start` is the address of GOMP_parallel, or 0 to take all of them in this thread.
    """
    inner = kernel.get_call_type(typing, (types.int64, *arguments.types), {})

    def body(context, module, packed: ir.Type) -> ir.Function:
        function = ir.Function(
            module, ir.FunctionType(ir.VoidType(), [ADDRESS]), module.get_unique_name("shares_of")
        )
        function.linkage = "internal"
        entry, test, work, done = (function.append_basic_block(name) for name in "etwd")
        builder = ir.IRBuilder(entry)
        place = builder.bitcast(function.args[0], packed.as_pointer())
        data = builder.load(place)
        last, values = builder.extract_value(data, 1), builder.extract_value(data, 2)
        values = cgutils.unpack_tuple(builder, values)
        builder.branch(test)
        builder.position_at_end(test)
        share = builder.atomic_rmw(
            "add", cgutils.gep_inbounds(builder, place, 0, 0), I64(1), "monotonic"
        )
        builder.cbranch(builder.icmp_signed("<", share, last), work, done)
        builder.position_at_end(work)
        result = kernel.dispatcher.get_compile_result(inner)
        called = context.declare_function(module, result.fndesc)
        context.add_linking_libs([result.library])
        context.call_conv.call_function(
            builder, called, inner.return_type, inner.args, [share, *values]
        )
        builder.branch(test)
        builder.position_at_end(done)
        builder.ret_void()
        return function

    def codegen(context, builder, signature, values):
        _, shares, arguments, start, threads = values
        packed = ir.LiteralStructType([I64, I64, arguments.type])
        function = body(context, builder.module, packed)
        data = cgutils.alloca_once(builder, packed)
        for index, value in enumerate((I64(0), shares, arguments)):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, index))
        data = builder.bitcast(data, ADDRESS)
        with builder.if_else(cgutils.is_null(builder, start)) as (alone, together):
            with alone:
                builder.call(function, [data])
            with together:
                begin = ir.FunctionType(ir.VoidType(), [function.type, ADDRESS, I32, I32])
                begin = builder.inttoptr(start, begin.as_pointer())
                builder.call(begin, [function, data, builder.trunc(threads, I32), I32(0)])
        return context.get_dummy_value()

    return types.void(kernel, types.int64, arguments, types.int64, types.int64), codegen


@emitted
def prefetch(typing, table, row):
    """Asks for the cache lines of a row that will be read soon."""

    def codegen(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        size = array.itemsize
        for length in cgutils.unpack_tuple(builder, array.shape)[1:]:
            size = builder.mul(size, length)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [ADDRESS, I32, I32, I32]),
            "llvm.prefetch.p0i8",
        )
        number = context.cast(builder, values[1], signature.args[1], types.int64)
        start = builder.gep(builder.bitcast(array.data, ADDRESS), [builder.mul(number, size)])
        with cgutils.for_range_slice(builder, I64(0), size, I64(CACHE_LINE_BYTES)) as (at, _):
            builder.call(function, [builder.gep(start, [at]), I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(table, row), codegen


@emitted
def address_of(typing, address, like):
    """An integer as a pointer to numbers of `like`'s type, which `numba.carray` makes an array of."""

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(address, like), codegen


@functools.cache
def openmp() -> int:
    """The address that starts a parallel region of torch's OpenMP library; 0 where it has none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        return 0


def run(driver: Callable[..., Any], shares: int, *arguments: Tensor | int | None) -> None:
    """Calls a `driver`, which hands everything to `share_out`; tensors go as contiguous arrays."""
    threads = min(torch.get_num_threads(), shares)
    start = openmp() if threads > 1 else 0
    driver(start, threads, shares, *(array(value) for value in arguments))


def array(value: Tensor | int | None):
    return numpy.asarray(Memory(value)) if isinstance(value, Tensor) else value


class Memory:
    """A tensor's numbers in place, as numpy's array interface describes them.

    `Tensor.numpy()` would forbid the storage to be resized ever after, which FSDP does to its parameters.
    """

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr(), False),
            "typestr": KINDS[tensor.dtype],
            "shape": tuple(tensor.shape),
            "strides": None
            if tensor.is_contiguous()
            else tuple(step * size for step in tensor.stride()),
        }
