"""A model over the processes that torchrun starts: tables by columns or rows, the rest by FSDP2.

Every process builds the whole model in its host's memory, so that a run starts from the bits of one
process's, and keeps its parts. Its loss is its share of the mean over all tokens, so gradients are
summed over processes and never averaged.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from peer.batch_norm import SharedBatchNorm
from peer.sharded import AXES, Sharding
from suites.distributed import parts
from suites.distributed.costs import SPREAD
from suites.errors import UserError
from suites.language_model.checkpoint import Checkpoint
from suites.language_model.decoder import Decoder
from suites.language_model.placement import Alone, generators, set_generators

# As torchrun names them; without it there is one process.
RANK_AND_SIZE = (("RANK", 0), ("WORLD_SIZE", 1))
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@contextmanager
def joined(device: str) -> Iterator[tuple[int, int]]:
    """Number of this process and of all, as torchrun says; they are one group within the block."""
    rank, ranks = (int(os.environ.get(name, alone)) for name, alone in RANK_AND_SIZE)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if ranks > 1:
        dist.init_process_group(BACKENDS[device])
    yield rank, ranks
    if ranks > 1:
        dist.destroy_process_group()


class Ranks(Alone):
    """The processes of the running group, or this one where there is none.

    Args:
        sharding: of the tables, where there are several.
    """

    def __init__(self, sharding: Sharding | None) -> None:
        self.sharding = sharding
        self.ranks = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if self.ranks > 1 else 0

    def place(self, model: Decoder, device: torch.device) -> Decoder:
        """By columns, by rows or, for a layer that reads its tables otherwise, by FSDP2."""
        if self.ranks == 1:
            return super().place(model, device)
        mesh = init_device_mesh(device.type, (self.ranks,))
        spread = [] if self.sharding is None else spread_tables(model, mesh, self.sharding, device)
        share_batch_norms(model, mesh)
        model.to(device)
        for module in (*model.blocks, model):
            fully_shard(module, mesh=mesh, ignored_params=set(spread))
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
                module.set_gradient_divide_factor(1.0)
        return model

    def whole(self, model: Decoder, build: Callable[[], Decoder]) -> Decoder | None:
        """In the first process, whose device must hold the weights once."""
        if self.ranks == 1:
            return model
        state = {}
        for name, value in model.state_dict().items():
            one = value.full_tensor() if isinstance(value, DTensor) else value
            if self.rank == 0:
                state[name] = one
        if self.rank:
            return None
        with torch.device("meta"):
            built = build()
        built.load_state_dict(state, assign=True)
        return built

    def part(self, tokens_BL: Tensor) -> Tensor:
        return tokens_BL.chunk(self.ranks)[self.rank]

    def sum(self, share: Tensor) -> Tensor:
        if self.ranks > 1:
            dist.all_reduce(share)
        return share

    def clip(self, model: Decoder, most: float) -> None:
        """Every entry of every gradient lies in one process, so their squares are summed over all."""
        if self.ranks == 1:
            return super().clip(model, most)
        grads = [parameter.grad for parameter in model.parameters()]
        locals_ = [grad.to_local() for grad in grads if isinstance(grad, DTensor)]
        norms = torch.stack(torch._foreach_norm(locals_))
        norm = self.sum(norms.square().sum()).sqrt()
        torch._foreach_mul_(locals_, (most / (norm + 1e-6)).clamp(max=1.0))
        return None

    @torch.no_grad()
    def after_step(self, model: Decoder) -> None:
        """With what layers counted in all processes, and with their parameters whole."""
        if self.ranks == 1:
            return super().after_step(model)
        for block in model.blocks:
            layer: Any = block.ffw
            if not hasattr(layer, "after_step"):
                continue
            for counts in layer.buffers(recurse=False):
                if not counts.is_floating_point():
                    self.sum(counts)
            assert isinstance(block, FSDPModule)
            block.unshard()
            layer.after_step()
            block.reshard()
        return None

    def agree(self, flag: bool) -> bool:
        return bool(self.sum(torch.tensor(int(flag))))

    def save(
        self,
        checkpoint: Checkpoint,
        curve: dict[str, Any],
        model: Decoder,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Every process its parts in a folder of this step, then the first the file that names it."""
        start, name = time.monotonic(), f"step-{curve['steps']}"
        parts.save(checkpoint.path.parent / name, model, optimizer)
        if self.rank == 0:
            checkpoint.save({"curve": curve, "parts": name} | generators())
            parts.forget_but(checkpoint.path.parent, name)
        checkpoint.wrote(start)

    def restore(
        self, checkpoint: Checkpoint, model: Decoder, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        state = checkpoint.load()
        if self.agree(state is None):
            if self.agree(state is not None):
                raise UserError(
                    f"some processes see the checkpoint {checkpoint.path} and others do not; they "
                    "need one folder of results: name it by --results"
                )
            return None
        assert state is not None
        parts.load(checkpoint.path.parent / state["parts"], model, optimizer)
        set_generators(state)
        return state["curve"]


def spread_tables(
    model: Decoder, mesh: DeviceMesh, sharding: Sharding, device: torch.device
) -> list[nn.Parameter]:
    """Puts a DTensor of this process's part in the place of every table that can be spread."""
    axis, spread = AXES[sharding], {}
    for layer in model.layers():
        if isinstance(layer, SPREAD):
            for table in layer.tables():
                own = table.detach().chunk(mesh.size(), axis)[mesh.get_local_rank()]
                own = own.to(device).clone(memory_format=torch.contiguous_format)
                one = DTensor.from_local(own, mesh, [Shard(axis)], run_check=False)
                spread[table] = nn.Parameter(one)
    for module in model.modules():  # a table that is lent lies in several
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in spread:
                setattr(module, name, spread[parameter])
    return list(spread.values())


def share_batch_norms(model: nn.Module, mesh: DeviceMesh) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d):
                setattr(module, name, SharedBatchNorm(child, mesh.get_group()))
