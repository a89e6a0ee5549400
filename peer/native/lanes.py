"""Sixteen numbers of a list at a time, in registers: what LLVM's vectoriser leaves scalar or checks anew.

Lists are one-dimensional arrays with room for whole groups of sixteen; what lies beyond their end may be
anything.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from peer.native.threads import I32, emitted

WIDTH = 16  # of float32 one register of AVX-512, two of AVX2, four of NEON


@emitted
def places(typing, keys, names, n, place):
    """place[i] = how many of n candidates come before i: larger keys, of equal ones lower names."""

    def codegen(context, builder, signature, values):
        key, name, found = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(
                (signature.args[0], signature.args[1], signature.args[3]),
                (values[0], values[1], values[3]),
                strict=True,
            )
        )
        count = context.cast(builder, values[2], signature.args[2], types.intp)
        counts = ir.VectorType(I32, WIDTH)
        total = cgutils.alloca_once(builder, counts)
        zero, step = ir.Constant(count.type, 0), ir.Constant(count.type, WIDTH)
        with cgutils.for_range_slice(builder, zero, count, step) as (i, _):
            own_key, own_name = load(builder, key, i), load(builder, name, i)
            builder.store(ir.Constant(counts, None), total)
            with cgutils.for_range(builder, count) as loop:
                other_key = splat(builder, builder.load(builder.gep(key, [loop.index])))
                other_name = splat(builder, builder.load(builder.gep(name, [loop.index])))
                larger = builder.fcmp_ordered(">", other_key, own_key)
                equal = builder.fcmp_ordered("==", other_key, own_key)
                lower = builder.icmp_signed("<", other_name, own_name)
                before = builder.or_(larger, builder.and_(equal, lower))
                more = builder.zext(before, counts)
                builder.store(builder.add(builder.load(total), more), total)
            place = builder.bitcast(builder.gep(found, [i]), counts.as_pointer())
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.void(keys, names, n, place), codegen


@emitted
def reaching(typing, keys, n, bound):
    """How many of the first n are no smaller than `bound`; one that is no number is not."""

    def codegen(context, builder, signature, values):
        key = context.make_array(signature.args[0])(context, builder, values[0]).data
        count = context.cast(builder, values[1], signature.args[1], types.intp)
        least = context.cast(builder, values[2], signature.args[2], signature.args[0].dtype)
        end = splat(builder, builder.trunc(count, I32))
        lane = ir.Constant(end.type, [I32(i) for i in range(WIDTH)])
        total = cgutils.alloca_once_value(builder, ir.Constant(end.type, None))
        zero, step = ir.Constant(count.type, 0), ir.Constant(count.type, WIDTH)
        with cgutils.for_range_slice(builder, zero, count, step) as (i, _):
            reached = builder.fcmp_ordered(">=", load(builder, key, i), splat(builder, least))
            place = builder.add(lane, splat(builder, builder.trunc(i, I32)))
            reached = builder.and_(reached, builder.icmp_signed("<", place, end))
            more = builder.zext(reached, end.type)
            builder.store(builder.add(builder.load(total), more), total)
        summed = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(I32, [end.type]),
            f"llvm.vector.reduce.add.v{WIDTH}i32",
        )
        found = builder.call(summed, [builder.load(total)])
        return builder.zext(found, context.get_value_type(types.intp))

    return types.intp(keys, n, bound), codegen


@emitted
def add_scaled(typing, total, at, weight, row, start, n):
    """total[at + i] += weight · row[start + i] for i < n; both have n numbers there, and may have no more."""

    def codegen(context, builder, signature, values):
        arrays = [
            context.make_array(signature.args[place])(context, builder, values[place]).data
            for place in (0, 3)
        ]
        integers = [
            context.cast(builder, values[place], signature.args[place], types.intp)
            for place in (1, 4, 5)
        ]
        total, row = (
            builder.gep(data, [first]) for data, first in zip(arrays, integers[:2], strict=True)
        )
        count, scale = integers[2], values[2]
        whole = builder.and_(count, ir.Constant(count.type, -WIDTH))
        zero, one = ir.Constant(count.type, 0), ir.Constant(count.type, 1)
        with cgutils.for_range_slice(builder, zero, whole, ir.Constant(count.type, WIDTH)) as (
            i,
            _,
        ):
            many = load(builder, total, i)
            summed = multiply_add(builder, splat(builder, scale), load(builder, row, i), many)
            place = builder.bitcast(builder.gep(total, [i]), many.type.as_pointer())
            builder.store(summed, place, align=4)
        with cgutils.for_range_slice(builder, whole, count, one) as (i, _):
            place = builder.gep(total, [i])
            other = builder.load(builder.gep(row, [i]))
            builder.store(multiply_add(builder, scale, other, builder.load(place)), place)
        return context.get_dummy_value()

    return types.void(total, at, weight, row, start, n), codegen


def multiply_add(builder, one, other, added):
    """In one rounding where the processor does so."""
    kind = one.type
    real = kind.element if isinstance(kind, ir.VectorType) else kind
    width = f"v{WIDTH}" if isinstance(kind, ir.VectorType) else ""
    name = f"llvm.fmuladd.{width}f{32 if isinstance(real, ir.FloatType) else 64}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), name
    )
    return builder.call(function, [one, other, added])


def load(builder, data, index):
    """WIDTH numbers from `index` on."""
    kind = ir.VectorType(data.type.pointee, WIDTH)
    place = builder.bitcast(builder.gep(data, [index]), kind.as_pointer())
    return builder.load(place, align=4)


def splat(builder, value):
    one = ir.Constant(ir.VectorType(value.type, WIDTH), ir.Undefined)
    one = builder.insert_element(one, value, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, WIDTH), None)
    return builder.shuffle_vector(one, one, zeros)
