"""What is refused before anything is sent."""

import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Shard

import peer
from peer.optim import RowAdagrad, TouchedAdamW
from suites.distributed import parts
from suites.distributed.costs import check_fits, choose
from suites.errors import UserError
from suites.language_model.case import Backbone
from suites.language_model.decoder import Decoder
from suites.measure.meta import on_meta


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    store = tmp_path_factory.mktemp("one") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def table(mesh, axis: int) -> nn.Parameter:
    return nn.Parameter(DTensor.from_local(torch.ones(16, 4), mesh, [Shard(axis)]))


def call(*tables: torch.Tensor, **options):
    ids = torch.zeros(2, 3, dtype=torch.int32)
    return peer.experts(torch.ones(2, 4), ids, torch.ones(2, 3), *tables, **options)


def test_tables_lie_alike(mesh) -> None:
    with pytest.raises(ValueError, match=r"all Shard\(1\) or all Shard\(0\); got .*Shard\(dim=1\)"):
        call(table(mesh, 0), table(mesh, 1))
    with pytest.raises(ValueError, match=r"or all Shard\(0\); got .*whole"):
        call(table(mesh, 0), torch.ones(16, 4))


def test_a_reference_and_sparse_gradients_need_whole_tables(mesh) -> None:
    tables = table(mesh, 1), table(mesh, 1)
    with pytest.raises(ValueError, match="impl='reference' reads whole tables; take one of aten"):
        call(*tables, impl="reference")
    with pytest.raises(ValueError, match="have 'dense' gradients or an optimizer that steps"):
        call(*tables, table_grad="sparse", impl="aten")


def test_ids_are_checked_against_all_rows(mesh) -> None:
    ids = torch.full((2, 3), 16)
    with pytest.raises(ValueError, match=r"ids must be in \[0, 16\)"):
        peer.bag(ids, torch.ones(2, 3), table(mesh, 0), impl="aten")


def test_an_optimizer_of_whole_rows_takes_no_columns(mesh) -> None:
    tables = table(mesh, 1), table(mesh, 1)
    with pytest.raises(ValueError, match="RowAdagrad needs rows in all their columns"):
        call(*tables, table_grad=RowAdagrad(tables), impl="aten")
    call(*tables, table_grad=TouchedAdamW(tables), impl="aten").sum().backward()


def test_columns_step_after_backward(mesh) -> None:
    """The plain step, on gradients that lie as the tables do."""
    tables = table(mesh, 1), table(mesh, 1)
    optimizer = TouchedAdamW(tables, lr=0.1)
    call(*tables, impl="aten").sum().backward()
    optimizer.step()
    assert not torch.equal(tables[1].detach().to_local()[0], torch.ones(4))
    adagrad = RowAdagrad(tables)
    with pytest.raises(ValueError, match="sharded by rows alike"):
        adagrad.step()


def model(dim: int, experts: int) -> Decoder:
    backbone = Backbone(blocks=2, dim=dim, attention_heads=1, context=8)
    options = {"experts": experts, "topk": 2, "heads": 1, "dim_key": 8}
    return on_meta(Decoder, backbone, 32, "peer", options, (1,))


def test_a_width_and_a_number_of_rows_that_do_not_divide() -> None:
    for sharding, what in (("columns", "width"), ("rows", "number of rows")):
        with pytest.raises(UserError, match=f"do not divide by {sharding} over 3 .*their {what}"):
            check_fits(model(16, 64), sharding, 3)
    with pytest.raises(UserError, match="tables of 64 × 16 do not divide by columns over 3"):
        choose(model(16, 64), 3, 8)
    assert choose(model(16, 81), 3, 8) == "rows"
    assert choose(model(18, 64), 3, 8) == "columns"
    assert choose(model(16, 64), 1, 8) is None


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(net.parameters())
    parts.save(tmp_path / "step-1", net, optimizer)
    parts.load(tmp_path / "step-1", net, optimizer)

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "step-1" / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="step-1 cannot be read"):
        parts.load(tmp_path / "step-1", net, optimizer)
    assert not (tmp_path / "touched").exists()


def test_a_checkpoint_holds_model_and_moments(tmp_path: Path) -> None:
    def made() -> tuple[nn.Module, torch.optim.AdamW]:
        net = nn.Linear(4, 4)
        return net, torch.optim.AdamW(net.parameters(), fused=True)

    def step(net: nn.Module, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        net(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()

    one, other = made(), made()
    step(*one)
    parts.save(tmp_path / "step-1", *one)
    parts.load(tmp_path / "step-1", *other)
    for pair in (one, other):
        step(*pair)
    assert torch.equal(one[0].weight, other[0].weight)
    assert not torch.equal(one[0].weight, made()[0].weight)
    parts.save(tmp_path / "step-2", *one)
    parts.forget_but(tmp_path, "step-2")
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]
