"""The layer under DDP and FSDP2: two processes with half a batch each give what one gives with all of it."""

import os
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from peer import PEER
from peer.optim import RowAdagrad, RowOptimizer, TouchedAdamW

RANKS = 2
TOKENS = 24


def layer(impl: str) -> PEER:
    """Without batch statistics, which each process takes over its own half."""
    torch.manual_seed(0)
    return PEER(16, experts=64, heads=2, topk=4, dim_key=8, query_norm="layer", impl=impl)


def half(rank: int) -> torch.Tensor:
    tokens = torch.randn(TOKENS, 16, generator=torch.Generator().manual_seed(1))
    return tokens.chunk(RANKS)[rank]


def gradients(wrapped: nn.Module, rank: int) -> dict[str, torch.Tensor]:
    """Of the mean over all tokens, by the parameter's own name, whole on every process."""
    wrapped(half(rank)).square().mean().backward()
    found = {}
    for name, parameter in wrapped.named_parameters():
        assert parameter.grad is not None, name
        gradient = parameter.grad
        whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
        found[name.removeprefix("module.")] = whole
    return found


def leave() -> None:
    """Ends the process without destructors: that of DDP joins gloo's thread while it holds the lock of the
    interpreter, for which that thread may wait (torch 2.13).
    """
    torch.distributed.barrier()
    os._exit(0)


def work(rank: int, folder: str, impl: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    torch.set_num_threads(1)
    replicated = nn.parallel.DistributedDataParallel(layer(impl))
    sharded = layer(impl)
    mesh = torch.distributed.init_device_mesh("cpu", (RANKS,))
    fully_shard(sharded, mesh=mesh)
    assert all(isinstance(table, DTensor) for table in sharded.tables())
    found = {"ddp": gradients(replicated, rank), "fsdp2": gradients(sharded, rank)}
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    leave()


OPTIMIZERS = {"adamw": TouchedAdamW, "adagrad": RowAdagrad}
IMPLS = (
    "aten",
    "native",
)  # FSDP resizes what an engine has read: the second step fails where it must not


def stepped(wrapped: PEER, optimizer: RowOptimizer, tokens: torch.Tensor) -> list[torch.Tensor]:
    """The tables after two steps, whole on every process."""
    for _ in range(2):
        wrapped(tokens).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    tables = [table.detach() for table in wrapped.tables()]
    return [t.full_tensor() if isinstance(t, DTensor) else t for t in tables]


def steps_on_shards(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    torch.set_num_threads(1)
    mesh = torch.distributed.init_device_mesh("cpu", (RANKS,))
    found: dict[str, list[torch.Tensor]] = {}
    for (name, kind), impl in product(OPTIMIZERS.items(), IMPLS):
        sharded = layer(impl)
        fully_shard(sharded, mesh=mesh)
        optimizer = kind(sharded.tables(), lr=0.01)
        found[f"{name} {impl}"] = stepped(sharded, optimizer, half(rank))
        state = optimizer.state[sharded.down]
        rows = [value for name, value in state.items() if name != "step"]
        assert rows
        assert all(isinstance(value, DTensor) for value in rows)
    columns = nn.Parameter(distribute_tensor(torch.ones(4, 4), mesh, [Shard(1)]))
    columns.grad = torch.ones_like(columns)
    with pytest.raises(ValueError, match="sharded by rows alike"):
        RowAdagrad([columns]).step()
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    leave()


@pytest.mark.slow
def test_table_optimizers_step_on_shards_as_on_the_whole(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(steps_on_shards, (str(tmp_path),), nprocs=RANKS)
    tokens = torch.cat([half(rank) for rank in range(RANKS)])
    wanted = {}
    for (name, kind), impl in product(OPTIMIZERS.items(), IMPLS):
        alone = layer(impl)
        wanted[f"{name} {impl}"] = stepped(alone, kind(alone.tables(), lr=0.01), tokens)
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), wanted)


def one_without_tokens(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=30),
    )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    replicated = nn.parallel.DistributedDataParallel(
        PEER(16, experts=64, heads=2, topk=4, dim_key=8, query_norm="batch")
    )
    found = []
    for _ in range(2):  # DDP checks at the second step that the first was complete
        replicated(half(0)[: 0 if rank else None]).square().sum().backward()
        found.append({name: value.grad.clone() for name, value in replicated.named_parameters()})
    if rank == 0:
        torch.save(found[0], f"{folder}/found.pt")
    leave()


@pytest.mark.slow
def test_a_process_without_tokens_holds_up_no_other(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_without_tokens, (str(tmp_path),), nprocs=RANKS)
    torch.manual_seed(0)
    alone = PEER(16, experts=64, heads=2, topk=4, dim_key=8, query_norm="batch")
    (alone(half(0)).square().sum() / RANKS).backward()
    for name, gradient in torch.load(tmp_path / "found.pt").items():
        wanted = alone.get_parameter(name.removeprefix("module.")).grad
        torch.testing.assert_close(gradient, wanted, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["reference", "aten"])
def test_halves_give_the_gradients_of_the_whole(impl: str, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path), impl), nprocs=RANKS)
    alone = layer(impl)
    alone(torch.cat([half(rank) for rank in range(RANKS)])).square().mean().backward()
    found = torch.load(tmp_path / "found.pt")
    wanted = {name: parameter.grad for name, parameter in alone.named_parameters()}
    torch.testing.assert_close(found, {"ddp": wanted, "fsdp2": wanted})
