"""The three verbs of the package: validate, then dispatch on `impl`. Nothing here computes.

`impl` names one implementation and never falls back silently: a name that cannot run raises and
says why.
"""

import functools
import types
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from peer import operators, reference, sharded
from peer.choice import resolve
from peer.memory import memory_bytes
from peer.optim import RowOptimizer
from peer.sizes import check_sizes
from peer.stepping import BagAndStep, ExpertsAndStep, steps_in_backward

TABLE_GRADS = ("dense", "sparse")


def retrieve(
    query_THQ: Tensor, sub_keys: Tensor, topk: int, *, scores: str = "softmax", impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """The `topk` experts whose product keys match each query best, exactly (paper, eq. 1, 2, 4, 5).

    Args:
        query_THQ: (T, H, 2·Q) queries, T tokens and H heads.
        sub_keys: (2, S, Q) shared by the heads, or (2, H, S, Q); expert i·S + j has the key of row i
            followed by row j.
        topk: experts per head, at most S.
        scores: "softmax", "sigmoid" or "relu" over the selected experts, or "raw", their matches.
        impl: "auto", or one of `peer.choice.IMPLEMENTATIONS` by name.

    Returns:
        scores (T, H, topk), differentiable, in the queries' dtype, and ids (T, H, topk) int32; best
        first, ties by the lowest id.

    Raises:
        ValueError: shapes that do not fit, an unknown name, or an `impl` that cannot run here.
        TypeError: several dtypes or devices, or none that is floating point.
        NotImplementedError: forward-mode derivatives, which custom operators do not have.
    """
    check_one_of("scores", scores, reference.SCORES)
    if query_THQ.dim() != 3 or sub_keys.dim() not in (3, 4) or sub_keys.shape[0] != 2:
        raise ValueError(
            "retrieve takes queries (T, H, 2·Q) and sub-keys (2, S, Q) or (2, H, S, Q); "
            f"got {tuple(query_THQ.shape)} and {tuple(sub_keys.shape)}"
        )
    if query_THQ.shape[-1] != 2 * sub_keys.shape[-1]:
        raise ValueError(
            "queries must be twice as wide as sub-keys; "
            f"got {query_THQ.shape[-1]} and {sub_keys.shape[-1]}"
        )
    if sub_keys.dim() == 4 and sub_keys.shape[1] != query_THQ.shape[1]:
        raise ValueError(f"queries have {query_THQ.shape[1]} heads, sub-keys {sub_keys.shape[1]}")
    check_sizes(topk=topk)
    if topk > sub_keys.shape[-2]:
        raise ValueError(
            f"topk must be at most the {sub_keys.shape[-2]} sub-keys per half; got {topk}"
        )
    check_same("retrieve", query=query_THQ, sub_keys=sub_keys)
    # Scores are float32 or wider, whatever the queries are.
    wide = torch.promote_types(query_THQ.dtype, torch.float32)
    name = resolve(impl, query_THQ.device, wide)
    if name in EAGER:
        return EAGER[name]("retrieve")(query_THQ, sub_keys, topk, scores)
    check_no_tangent(f"impl={name!r}", query_THQ, sub_keys)
    scores_THK, ids_THK = operators.retrieve(query_THQ, sub_keys, topk, scores, name)
    return scores_THK.to(query_THQ.dtype), ids_THK


def experts(
    x_TD: Tensor,
    ids_TP: Tensor,
    scores_TP: Tensor,
    down_ND: Tensor,
    up_ND: Tensor,
    gate_ND: Tensor | None = None,
    *,
    activation: str = "gelu",
    table_grad: str | RowOptimizer = "dense",
    check_ids: bool = True,
    impl: str = "auto",
) -> Tensor:
    """The retrieved single-neuron experts, weighted and summed (paper, eq. 3 and 6).

    Args:
        x_TD: (T, D) tokens.
        ids_TP: (T, P) integer expert ids in [0, N).
        scores_TP: (T, P) weights of the experts.
        down_ND, up_ND, gate_ND: (N, D) tables u, v and, for GLU experts, the gate's.
        activation: "gelu", "relu", "silu" or "none".
        table_grad: "dense" gradients of N rows; "sparse" ones (coalesced sparse_coo) that hold the
            rows touched by this call, less work and memory while T·P is not far above N, and what
            `torch.optim.SparseAdam` and `peer.optim` read; or an optimizer of `peer.optim` that
            takes its step inside backward. All but "dense" need impl "aten", "native" or "triton",
            outside compile.
        check_ids: False spares the check that ids are in range, for ids that `retrieve` gave.
        impl: "auto", or one of `peer.choice.IMPLEMENTATIONS` by name.

    Under autocast x and scores are cast to the tables' dtype, which is the result's.

    Returns:
        Σ_p score_p · σ(u_pᵀ x) · v_p, of shape (T, D); with a gate table σ(gate_pᵀ x) · (u_pᵀ x)
        replaces σ(u_pᵀ x).

    Raises:
        ValueError: shapes that do not fit, an unknown name, or an `impl` that cannot run here.
        TypeError: several dtypes or devices, or ids that are not int32 or int64.
        NotImplementedError: forward-mode derivatives, which custom operators do not have.
    """
    check_one_of("activation", activation, reference.ACTIVATIONS)
    check_pairs("experts", ids_TP, scores_TP)
    tables = {"down": down_ND, "up": up_ND} | ({} if gate_ND is None else {"gate": gate_ND})
    for name, table in tables.items():
        if table.shape != down_ND.shape or table.dim() != 2:
            raise ValueError(
                f"{name} must be (N, D) like down {tuple(down_ND.shape)}; got {tuple(table.shape)}"
            )
    if x_TD.dim() != 2 or x_TD.shape[1] != down_ND.shape[1] or x_TD.shape[0] != ids_TP.shape[0]:
        raise ValueError(
            f"x must be (T, D) = ({ids_TP.shape[0]}, {down_ND.shape[1]}); got {tuple(x_TD.shape)}"
        )
    if autocasts(x_TD):
        x_TD, scores_TP = x_TD.to(down_ND.dtype), scores_TP.to(down_ND.dtype)
    check_same("experts", x=x_TD, scores=scores_TP, **tables)
    check_device("experts", ids_TP, x_TD)
    name = resolve(impl, x_TD.device, x_TD.dtype, pairs=ids_TP.numel())
    check_table_grad(table_grad, name)
    if any(map(sharded.is_sharded, tables.values())):
        given = x_TD, ids_TP, scores_TP, list(tables.values()), activation
        return sharded.experts(*given, table_grad, check_ids, name)
    if name in EAGER:
        return EAGER[name]("experts")(x_TD, ids_TP, scores_TP, down_ND, up_ND, gate_ND, activation)
    check_no_tangent(f"impl={name!r}", x_TD, scores_TP, *tables.values())
    x_TD, ids_TP, scores_TP = x_TD.contiguous(), ids_TP.contiguous(), scores_TP.contiguous()
    order, bounds = routed(ids_TP, tables.values(), check_ids, name)
    check = check_ids and order is None
    if steps_in_backward(table_grad, **tables):
        return ExpertsAndStep.apply(
            x_TD,
            ids_TP,
            scores_TP,
            down_ND,
            up_ND,
            gate_ND,
            order,
            bounds,
            activation,
            table_grad,
            check,
            name,
        )
    y_TD, *_ = operators.experts(
        x_TD,
        ids_TP,
        scores_TP,
        down_ND.contiguous(),
        up_ND.contiguous(),
        None if gate_ND is None else gate_ND.contiguous(),
        order,
        bounds,
        activation,
        kind_of(table_grad),
        check,
        name,
    )
    return y_TD


def bag(
    ids_TP: Tensor,
    scores_TP: Tensor,
    table_ND: Tensor,
    *,
    table_grad: str | RowOptimizer = "dense",
    check_ids: bool = True,
    impl: str = "auto",
) -> Tensor:
    """The weighted sum of table rows: (T, P) ids in [0, N) and scores, (N, D) table → (T, D).

    `table_grad`, `check_ids`, `impl`, autocast and errors are those of `experts`.
    """
    check_pairs("bag", ids_TP, scores_TP)
    if table_ND.dim() != 2:
        raise ValueError(f"table must be (N, D); got {tuple(table_ND.shape)}")
    if autocasts(table_ND):
        scores_TP = scores_TP.to(table_ND.dtype)
    check_same("bag", scores=scores_TP, table=table_ND)
    check_device("bag", ids_TP, table_ND)
    name = resolve(impl, table_ND.device, table_ND.dtype, pairs=ids_TP.numel())
    check_table_grad(table_grad, name)
    if sharded.is_sharded(table_ND):
        return sharded.bag(ids_TP, scores_TP, table_ND, table_grad, check_ids, name)
    if name in EAGER:
        return EAGER[name]("bag")(ids_TP, scores_TP, table_ND)
    check_no_tangent(f"impl={name!r}", scores_TP, table_ND)
    ids_TP, scores_TP, table_ND = ids_TP.contiguous(), scores_TP.contiguous(), table_ND.contiguous()
    order, bounds = routed(ids_TP, [table_ND], check_ids, name)
    check = check_ids and order is None
    if steps_in_backward(table_grad, table=table_ND):
        return BagAndStep.apply(ids_TP, scores_TP, table_ND, order, bounds, table_grad, check, name)
    return operators.bag(
        ids_TP, scores_TP, table_ND, order, bounds, kind_of(table_grad), check, name
    )


def kind_of(table_grad: str | RowOptimizer) -> str:
    """What the operators call the gradient; an optimizer that takes no step here changes nothing."""
    return table_grad if isinstance(table_grad, str) else "dense"


def routed(
    ids_TP: Tensor, tables: Iterable[Tensor], check: bool, name: str
) -> tuple[Tensor | None, Tensor | None]:
    """The pairs sorted by expert, once for forward and backward, where a table gradient will need
    them. The Triton kernels want them in backward alone.
    """
    tables = list(tables)
    needed = torch.is_grad_enabled() and any(table.requires_grad for table in tables)
    if name == "triton" or not needed:
        return None, None
    return operators.route(ids_TP, tables[0].shape[0], check, name)


def compiled(verb: str) -> Callable[..., Any]:
    """`torch.compile` of the reference, a code of its own for each kind of call.

    The compiler runs a code's ninth variant uncompiled, and so many are soon together in an ablation:
    kinds are apart, and where one kind has that many shapes, the call raises.
    """

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return getattr(reference, verb)(*arguments)
        kind = torch.is_grad_enabled(), *map(kind_of_argument, arguments)
        try:
            return compiled_kind(verb, kind)(*arguments)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raise RuntimeError(
                f"impl='compiled' met more shapes of {verb} than torch._dynamo.config.recompile_limit "
                "allows; raise it, or take another impl"
            ) from error

    return call


def kind_of_argument(argument: object) -> object:
    if isinstance(argument, Tensor):
        return argument.dtype, argument.device.type, argument.dim(), argument.requires_grad
    return argument


@functools.cache
def compiled_kind(verb: str, kind: tuple[object, ...]) -> Callable[..., Any]:
    plain = getattr(reference, verb)
    own = types.FunctionType(plain.__code__.replace(), plain.__globals__)
    return torch.compile(own, fullgraph=True)


EAGER: dict[str, Callable[[str], Callable[..., Any]]] = {
    "reference": lambda verb: getattr(reference, verb),
    "compiled": compiled,
}


def autocasts(like: Tensor) -> bool:
    """The meta device knows no autocast, and asking there raises."""
    kind = like.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def check_one_of(what: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}; got {value!r}")


def check_table_grad(table_grad: str | RowOptimizer, name: str) -> None:
    if not isinstance(table_grad, RowOptimizer):
        if table_grad not in TABLE_GRADS:
            raise ValueError(
                f"table_grad must be one of {', '.join(TABLE_GRADS)} or an optimizer of peer.optim; "
                f"got {table_grad!r}"
            )
        if table_grad == "dense":
            return
    said = named_grad(table_grad)
    if name in EAGER:
        raise ValueError(
            f"impl={name!r} gives dense table gradients; for table_grad={said} use 'aten' or 'triton'"
        )
    if torch.compiler.is_compiling():
        raise ValueError(
            f"table_grad={said} has no compiled backward; use 'dense' under torch.compile"
        )


def named_grad(table_grad: str | RowOptimizer) -> str:
    """As a message or a repr names it."""
    return repr(table_grad) if isinstance(table_grad, str) else type(table_grad).__name__


def check_tables_fit(tables: int, rows: int, dim: int) -> None:
    """Raises MemoryError for tables larger than the memory that there is, where they would be on the CPU.

    Linux grants such memory and kills the process that fills it, a container at its own limit; a GPU's
    allocator refuses by itself.
    """
    dtype = torch.get_default_dtype()
    size = tables * rows * dim * dtype.itemsize
    has = memory_bytes()
    if torch.get_default_device().type == "cpu" and has is not None and size > has:
        raise MemoryError(
            f"{tables} × {rows:,} × {dim:,} {str(dtype).removeprefix('torch.')} take {size / 1e9:,.1f} GB "
            f"and this process may fill {has / 1e9:,.1f} GB; take fewer or narrower rows, or build under "
            "torch.device('meta') to count without memory"
        )


def check_no_tangent(what: str, *tensors: Tensor) -> None:
    """Raises NotImplementedError in forward mode, where a custom operator's tangent would be a silent 0."""
    if torch.compiler.is_compiling():  # a tangent cannot be traced either: torch raises
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise NotImplementedError(
            f"{what} has no forward-mode derivative (func.jvp, func.jacfwd, forward_ad); take reverse "
            "mode, torch.autograd.grad, or for PEER and PKM impl='reference'"
        )


def check_device(verb: str, ids: Tensor, like: Tensor) -> None:
    if ids.device != like.device:
        raise TypeError(
            f"{verb} takes one device; got ids on {ids.device}, the rest on {like.device}"
        )


def check_pairs(verb: str, ids_TP: Tensor, scores_TP: Tensor) -> None:
    if ids_TP.dim() != 2 or ids_TP.shape != scores_TP.shape:
        raise ValueError(
            f"{verb} takes ids and scores of one shape (T, P); "
            f"got {tuple(ids_TP.shape)} and {tuple(scores_TP.shape)}"
        )
    if ids_TP.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"ids must be int32 or int64; got {ids_TP.dtype}")


def check_same(verb: str, **tensors: Tensor) -> None:
    kinds = {name: (t.dtype, t.device) for name, t in tensors.items()}
    if len(set(kinds.values())) > 1:
        given = ", ".join(f"{name} {dtype} on {device}" for name, (dtype, device) in kinds.items())
        raise TypeError(f"{verb} takes one dtype and one device; got {given}")
    dtype = next(iter(tensors.values())).dtype
    if not dtype.is_floating_point:
        raise TypeError(f"{verb} takes floating-point tensors; got {dtype}")
