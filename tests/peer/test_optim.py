import sys

import pytest
import torch

from peer import PEER, explain
from peer.optim import RowAdagrad, TouchedAdamW


def twins(N=12, D=3):
    torch.manual_seed(0)
    table = torch.randn(N, D, dtype=torch.float64)
    return torch.nn.Parameter(table.clone()), torch.nn.Parameter(table.clone())


def sparse_gradient(like, rows):
    values = torch.randn(len(rows), like.shape[1], dtype=like.dtype)
    return torch.sparse_coo_tensor([rows], values, like.shape, check_invariants=True).coalesce()


def run(ours, plain, mine, theirs, gradients):
    for step, grad in enumerate(gradients):
        ours.grad, plain.grad = grad.clone(), grad.clone()
        mine.step()
        theirs.step()
        torch.testing.assert_close(ours, plain, msg=f"step {step}")


def test_touched_adamw_equals_adamw_while_every_row_is_touched():
    ours, plain = twins()
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1}
    mine, theirs = TouchedAdamW([ours], **options), torch.optim.AdamW([plain], **options)
    run(ours, plain, mine, theirs, [torch.randn_like(ours) for _ in range(5)])


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_touched_adamw_equals_sparse_adam_without_decay():
    ours, plain = twins()
    mine, theirs = (
        TouchedAdamW([ours], lr=1e-2, weight_decay=0),
        torch.optim.SparseAdam([plain], lr=1e-2),
    )
    rows = ([0, 3, 11], [3, 4], [0, 11], [5])
    run(ours, plain, mine, theirs, [sparse_gradient(ours, touched) for touched in rows])


def test_touched_adamw_leaves_other_rows_alone():
    ours, before = twins()
    optimizer = TouchedAdamW([ours], weight_decay=0.5)
    ours.grad = sparse_gradient(ours, [2, 7])
    optimizer.step()
    untouched = [n for n in range(12) if n not in (2, 7)]
    assert torch.equal(ours[untouched], before[untouched])
    assert not optimizer.state[ours]["square"][untouched].any()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_repeated_rows_are_added_first():
    ours, plain = twins()
    repeated = torch.sparse_coo_tensor(
        [[4, 2, 4]], torch.ones(3, 3, dtype=torch.float64), ours.shape
    )
    ours.grad, plain.grad = repeated, repeated.to_dense()
    RowAdagrad([ours]).step()
    RowAdagrad([plain]).step()
    torch.testing.assert_close(ours, plain)


def test_row_adagrad_equals_adagrad_at_width_one():
    ours, plain = twins(D=1)
    mine, theirs = RowAdagrad([ours], lr=0.1), torch.optim.Adagrad([plain], lr=0.1)
    run(ours, plain, mine, theirs, [torch.randn_like(ours) for _ in range(5)])


def test_row_adagrad_sparse_equals_dense():
    ours, plain = twins()
    mine, theirs = RowAdagrad([ours]), RowAdagrad([plain])
    for rows in ([0, 3, 11], [3, 4], [5]):
        ours.grad = sparse_gradient(ours, rows)
        plain.grad = ours.grad.to_dense()
        mine.step()
        theirs.step()
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("optimizer", [TouchedAdamW, RowAdagrad, torch.optim.SparseAdam])
def test_a_layer_trains_on_touched_rows(optimizer):
    torch.manual_seed(0)
    layer = PEER(16, experts=32**2, heads=2, topk=4, dim_key=16, impl="aten", table_grad="sparse")
    x = torch.randn(8, 16)
    target = torch.randn(8, 16)
    stepper = optimizer(layer.tables(), lr=1e-2)
    losses = []
    for _ in range(8):
        stepper.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        stepper.step()
    assert layer.up.grad.is_sparse
    rows = layer.up.grad._indices()[0]
    assert (rows[1:] > rows[:-1]).all()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("optimizer", [TouchedAdamW, RowAdagrad])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_loaded_state_goes_on_bit_for_bit(optimizer, dtype):
    table = torch.nn.Parameter(torch.randn(12, 3, dtype=dtype))
    whole = optimizer([table], lr=0.1)
    for part in range(4):
        if part == 2:
            resumed = torch.nn.Parameter(table.detach().clone())
            second = optimizer([resumed], lr=0.1)
            second.load_state_dict(whole.state_dict())
        table.grad = torch.randn(12, 3, dtype=dtype)
        whole.step()
        if part >= 2:
            resumed.grad = table.grad
            second.step()
    assert torch.equal(resumed, table)
    moments, loaded = whole.state[table], second.state[resumed]
    for name in {"mean", "square"} & set(moments):
        assert loaded[name].dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(loaded[name], moments[name])
        assert loaded[name] is not moments[name]


@pytest.mark.parametrize("settings", [{"lr": -1}, {"eps": -1}, {"betas": (1.0, 0.9)}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="must"):
        TouchedAdamW([torch.nn.Parameter(torch.zeros(1, 1))], **settings)


def test_explain_states_path_flops_bytes_and_floor():
    with torch.device("meta"):
        layer = PEER(256)
    explanation = explain(layer, 2048)
    assert explanation.impl == "aten"
    assert explanation.forward_flops == sum(layer.flops(2048).values())
    assert 200_000 < explanation.distinct_experts < 262_144
    assert explanation.backward_floor_us > explanation.forward_floor_us > 0
    assert "expert-major" in str(explanation)
    assert "an H200's, as the tables are on no device" in explanation.roof
    with pytest.raises(ValueError, match="tokens must be at least 1"):
        explain(layer, 0)


@pytest.mark.parametrize("tokens", [1, 2048, 131_072])
def test_explain_states_the_path_of_the_kernels(tokens):
    """Forward is token-major at any size, in training too."""
    with torch.device("meta"):
        explanation = explain(PEER(256, impl="triton"), tokens)
    assert explanation.forward_path.startswith("token-major, one fused pass")


def test_explain_names_the_roof_of_the_machine_at_hand(monkeypatch):
    monkeypatch.setattr(sys.modules["peer.explain"], "COPIED_BYTES", 2**20)
    layer = PEER(16, experts=16, heads=2, topk=2)
    explanation = explain(layer, 8)
    assert "a copy measured on this cpu" in str(explanation)
    given = explain(layer, 8, bytes_per_second=1e9)
    assert given.roof == "1.0 GB/s, as given"
    assert given.forward_floor_us == pytest.approx(given.forward_bytes / 1e3)


def test_explain_counts_a_step_inside_backward():
    with torch.device("meta"):
        layer = PEER(256)
    dense = explain(layer, 2048)
    layer.table_grad = RowAdagrad(layer.tables())
    adagrad = explain(layer, 2048)
    layer.table_grad = TouchedAdamW(layer.tables())
    adamw = explain(layer, 2048)
    rows = 2 * adamw.distinct_experts
    assert adamw.backward_bytes - adagrad.backward_bytes == pytest.approx(rows * (16 * 256 - 8))
    saved = (2 * 1024**2 - rows) * 256 * 4 - rows * 8
    assert dense.backward_bytes - adagrad.backward_bytes == pytest.approx(saved)
    assert "take the step of TouchedAdamW inside backward" in str(adamw)
