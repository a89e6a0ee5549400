"""What the processes of a group do, all of it in one group, since to start one takes seconds."""

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from baselines import PKM
from peer import PEER
from peer.batch_norm import SharedBatchNorm
from peer.optim import RowAdagrad, RowOptimizer, TouchedAdamW
from peer.sharded import AXES, SHARDINGS
from suites.distributed.costs import SPREAD
from suites.distributed.ranks import Ranks
from suites.language_model.batches import Batches
from suites.language_model.case import Optimization, TrainingCase
from suites.language_model.checkpoint import Checkpoint, Stopped
from suites.language_model.train import adamw, decoder, language_loss, train, training_step
from suites.layers import LAYERS
from suites.text.corpus import Corpus, load
from tests.distributed.meter import Meter
from tests.language_model.test_train import case

TOKENS, DIM = 24, 16
# Every step clips. A part of 4 sequences is what one call computes.
CLIPPED = Optimization(learning_rate=5e-3, table_rate=0.1, gradient_clip=0.1)
IN_PARTS = ("peer", "topk_moe")
RUNS = [
    (layer, sharding, micro)
    for layer in LAYERS
    for sharding in (SHARDINGS if LAYERS[layer] in SPREAD else (None,))
    for micro in ((None, 4) if layer in IN_PARTS else (None,))
]
STOPPED_AFTER = 5


def run(corpus: Corpus, layer: str, micro: int | None, **changes: Any) -> TrainingCase:
    given = {"optimization": CLIPPED, "budget_flops": 8e8, "evaluation_tokens": 1024}
    given["micro_sequences"] = micro
    return case(corpus, layer, **given | changes)


def work(rank: int, ranks: int, folder: str, corpus_folder: str) -> None:
    """Writes RANKS.pt: of the first process, what it found."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store-{ranks}", rank=rank, world_size=ranks
    )
    torch.set_num_threads(1)
    corpus, place = load(Path(corpus_folder)), Path(folder)
    found = {
        "gradients": gradients(rank, ranks),
        "stepped": stepped(rank, ranks),
        "curves": curves(corpus, ranks),
        "sent": sent(corpus, ranks),
        "resumed": resumed(corpus, rank, ranks, place),
    }
    if rank == 0:
        torch.save(found, place / f"{ranks}.pt")
    dist.barrier()
    os._exit(0)


KINDS: dict[str, Any] = {
    "peer": lambda impl: PEER(DIM, experts=64, heads=2, topk=4, dim_key=8, impl=impl),
    "glu": lambda impl: PEER(DIM, experts=64, heads=2, topk=4, dim_key=8, glu=True, impl=impl),
    "pkm": lambda impl: PKM(DIM, memories=64, heads=2, topk=4, dim_key=8, impl=impl),
}
IMPLS = ("aten", "native")


def layer(kind: str, impl: str) -> Any:
    torch.manual_seed(0)
    return KINDS[kind](impl).double()


def tokens_and_weights() -> tuple[Tensor, Tensor]:
    """(T, D) each: what all processes together are given, and the gradient of their outputs."""
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, TOKENS, DIM, generator=generator, dtype=torch.float64)
    return one, other


def spread(one: Any, sharding: str, ranks: int) -> Any:
    """A copy with this process's parts of tables, and batch statistics of all tokens."""
    mesh, many = dist.init_device_mesh("cpu", (ranks,)), copy.deepcopy(one)
    axis = AXES[sharding]  # type: ignore[index]
    for name, table in list(many.named_parameters(recurse=False)):
        own = table.detach().chunk(ranks, axis)[dist.get_rank()].contiguous()
        part = DTensor.from_local(own, mesh, [Shard(axis)], run_check=False)
        setattr(many, name, nn.Parameter(part))
    many.router.norm = SharedBatchNorm(many.router.norm, mesh.get_group())
    return many


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def gradients(rank: int, ranks: int) -> dict[str, dict[str, Tensor]]:
    """Outputs, gradients and running statistics of a call, whole."""
    found = {}
    for kind in KINDS:
        for impl in IMPLS:
            for sharding in SHARDINGS:
                many = spread(layer(kind, impl), sharding, ranks)
                x, weights = (every.chunk(ranks)[rank].clone() for every in tokens_and_weights())
                x.requires_grad_()
                y = many(x)
                (y * weights).sum().backward()
                parts = {"y": y.detach(), "x": x.grad}
                one = {name: torch.empty(TOKENS, DIM).double() for name in parts}
                for name, part in parts.items():
                    dist.all_gather(list(one[name].chunk(ranks)), part.contiguous())
                for name, parameter in many.named_parameters():
                    if isinstance(parameter, DTensor):
                        one[name] = whole(parameter.grad)
                    else:
                        dist.all_reduce(parameter.grad)
                        one[name] = parameter.grad.clone()
                one |= {name: buffer.clone() for name, buffer in many.named_buffers()}
                found[f"{kind} {impl} {sharding}"] = one
    return found


STEPPERS: dict[str, tuple[type[RowOptimizer], tuple[str, ...]]] = {
    "adamw": (TouchedAdamW, SHARDINGS),
    "adagrad": (RowAdagrad, ("rows",)),
}


def steps(one: Any, kind: type[RowOptimizer], part: slice) -> list[Tensor]:
    """The tables after three steps inside backward."""
    one.table_grad = optimizer = kind(one.tables(), lr=0.01)
    x, weights = (every[part] for every in tokens_and_weights())
    for _ in range(3):
        (one(x) * weights).sum().backward()
        assert all(table.grad is None for table in one.tables())
        optimizer.step()
    return [whole(table) for table in one.tables()]


def stepped(rank: int, ranks: int) -> dict[str, list[Tensor]]:
    own = slice(rank * TOKENS // ranks, (rank + 1) * TOKENS // ranks)
    return {
        f"{name} {kind} {impl} {sharding}": steps(
            spread(layer(kind, impl), sharding, ranks), optimizer, own
        )
        for name, (optimizer, shardings) in STEPPERS.items()
        for kind in KINDS
        for impl in IMPLS
        for sharding in shardings
    }


def curves(corpus: Corpus, ranks: int) -> dict[str, dict[str, Any]]:
    """Training to its end, with what the first process evaluates."""
    found = {}
    for name, sharding, micro in RUNS:
        spread_case = run(corpus, name, micro, ranks=ranks, sharding=sharding)
        record = train(spread_case, corpus, lambda *_: None, placement=Ranks(sharding))
        assert record.status == "ok", record.reason
        found[f"{name} {sharding} {micro}"] = {
            "case": record.case,
            "series": record.series,
            "metrics": dict(record.metrics),
        }
    return found


def sent(corpus: Corpus, ranks: int) -> dict[str, int]:
    """Bytes that this process sends in a training step."""
    found = {}
    for name, sharding, micro in RUNS:
        spread_case = run(corpus, name, micro, ranks=ranks, sharding=sharding)
        placement = Ranks(sharding)
        model = placement.place(decoder(spread_case, corpus), torch.device("cpu"))
        optimizer = adamw(model, spread_case.optimization)
        batches = Batches(corpus.tokens("train"), spread_case.backbone.context, 8, 0)
        with Meter() as meter:
            training_step(language_loss, model, optimizer, batches(0), spread_case, placement)
        found[f"{name} {sharding} {micro}"] = meter.sent_bytes
    return found


def resumed(corpus: Corpus, rank: int, ranks: int, folder: Path) -> dict[str, Any]:
    """Of 4: stopped, and gone on to the end from what that left; of fewer: gone on from it by rows."""
    sharding = "columns" if ranks == 4 else "rows"
    spread_case = run(corpus, "peer", None, ranks=ranks, sharding=sharding)
    left = folder / "left" / "run.checkpoint"
    if ranks == 4:
        checkpoint = Checkpoint(left, 3600)

        def stop(step: int, *_: float) -> None:
            if step == STOPPED_AFTER and rank == 1:
                checkpoint.stop()  # one process is told, all end

        try:
            train(spread_case, corpus, stop, (), checkpoint, Ranks(sharding))
        except Stopped:
            dist.barrier()
        else:
            raise AssertionError("it went on")
    return gone_on(spread_case, corpus, left.parent, Ranks(sharding))


def gone_on(given: TrainingCase, corpus: Corpus, left: Path, placement: Ranks) -> dict[str, Any]:
    """The rest of a run, in a copy of the folder that it left."""
    own = left.with_name(f"{left.name}-{placement.ranks}")
    if placement.rank == 0:
        shutil.copytree(left, own)
    placement.agree(False)
    reported: list[int] = []

    def progress(step: int, *_: float) -> None:
        reported.append(step)

    checkpoint = Checkpoint(own / "run.checkpoint", 3600)
    record = train(given, corpus, progress, (), checkpoint, placement)
    metrics = dict(record.metrics)
    return {"first": reported[0], "series": record.series, "metrics": metrics}
