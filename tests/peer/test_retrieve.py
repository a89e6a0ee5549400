import pytest
import torch

from peer import functional, operators
from tests.peer.cases import brute_force

ENGINES = ["reference", "aten", "native", "triton"]
SIZES = [
    # T, H, S, Q, K: from as many sub-keys as are asked for up to a million experts
    (1, 1, 1, 1, 1),
    (3, 2, 5, 5, 5),
    (17, 1, 3, 20, 3),
    (5, 2, 16, 8, 16),
    (2, 1, 100, 64, 16),
    (2, 1, 1024, 8, 16),
]


def integers(*shape, high=3):
    """Small integers: every sum is exact, so ties are true ties in any implementation."""
    return torch.randint(-high, high + 1, shape).float()


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize(("T", "H", "S", "Q", "K"), SIZES)
def test_equals_brute_force_with_ties(T, H, S, Q, K, per_head, impl, kernel_device, nan_filled):
    torch.manual_seed(S)
    query = integers(T, H, 2 * Q).to(kernel_device)
    keys = integers(*((2, H, S, Q) if per_head else (2, S, Q))).to(kernel_device)
    scores, ids = functional.retrieve(query, keys, K, scores="relu", impl=impl)
    true_scores, true_ids = brute_force(query, keys, K)
    assert ids.dtype == torch.int32
    torch.testing.assert_close(ids.long(), true_ids)
    torch.testing.assert_close(scores.double(), true_scores.relu())


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "relu", "raw"])
def test_random_queries(scores, impl, kernel_device):
    torch.manual_seed(0)
    query, keys = torch.randn(9, 2, 20).to(kernel_device), torch.randn(2, 30, 10).to(kernel_device)
    got, ids = functional.retrieve(query, keys, 7, scores=scores, impl=impl)
    best, true_ids = brute_force(query, keys, 7)
    torch.testing.assert_close(ids.long(), true_ids)
    expected = {
        "softmax": best.softmax(-1),
        "sigmoid": best.sigmoid(),
        "relu": best.relu(),
        "raw": best,
    }[scores]
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("impl", ENGINES)
def test_all_equal_scores_give_the_first_experts(impl, kernel_device):
    query, keys = (
        torch.zeros(2, 1, 8, device=kernel_device),
        torch.randn(2, 40, 4).to(kernel_device),
    )
    _, ids = functional.retrieve(query, keys, 16, impl=impl)
    assert ids.tolist() == [[list(range(16))]] * 2


@pytest.mark.parametrize("impl", ENGINES)
def test_planted_queries_reach_any_expert(impl, kernel_device):
    S = 64
    keys = torch.eye(S).expand(2, S, S).contiguous().to(kernel_device)
    chosen = torch.tensor([0, 1, S - 1, S, S * S // 2 + 5, S * S - S, S * S - 1])
    query = torch.cat((torch.eye(S)[chosen // S], torch.eye(S)[chosen % S]), 1).unsqueeze(1)
    _, ids = functional.retrieve(query.to(kernel_device), keys, 2, impl=impl)
    assert ids[:, 0, 0].tolist() == chosen.tolist()


@pytest.mark.parametrize("impl", ENGINES)
def test_ids_are_distinct_within_a_head(impl, kernel_device):
    query, keys = torch.randn(6, 3, 12).to(kernel_device), torch.randn(2, 20, 6).to(kernel_device)
    _, ids = functional.retrieve(query, keys, 16, impl=impl)
    assert all(len(set(row.tolist())) == 16 for row in ids.flatten(0, 1))


# NumPy warns of inf − inf where the interpreter meets it.
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_token_leaves_the_others_alone(value, impl, kernel_device):
    query, keys = torch.randn(5, 2, 12).to(kernel_device), torch.randn(2, 20, 6).to(kernel_device)
    clean = functional.retrieve(query, keys, 4, impl=impl)
    query[2] = value
    scores, ids = functional.retrieve(query, keys, 4, impl=impl)
    others = [0, 1, 3, 4]
    assert torch.equal(scores[others], clean[0][others])
    assert torch.equal(ids[others], clean[1][others])
    assert ids.min() >= 0
    assert ids.max() < 400
    assert not torch.isfinite(scores[2]).all()


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_scores_accumulate_in_float32(dtype, impl, kernel_device):
    torch.manual_seed(0)
    query = torch.randn(6, 2, 32).to(kernel_device, dtype)
    keys = torch.randn(2, 24, 16).to(kernel_device, dtype)
    scores, ids = operators.retrieve(query, keys, 5, "sigmoid", impl)
    best, true_ids = brute_force(query, keys, 5)
    assert scores.dtype == torch.float32
    assert torch.equal(ids.long(), true_ids)
    torch.testing.assert_close(scores.double(), best.sigmoid(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "relu", "raw"])
@pytest.mark.parametrize("per_head", [False, True])
def test_gradients_by_name(per_head, scores, impl, kernel_device, nan_filled):
    torch.manual_seed(1)
    inputs = {
        "query": torch.randn(9, 2, 20).to(kernel_device),
        "keys": torch.randn(*((2, 2, 6, 10) if per_head else (2, 6, 10))).to(kernel_device),
    }
    grad = torch.randn(9, 2, 3).to(kernel_device)

    def gradients(impl, dtype):
        leaves = {n: t.detach().clone().to(dtype).requires_grad_() for n, t in inputs.items()}
        got, ids = functional.retrieve(*leaves.values(), 3, scores=scores, impl=impl)
        got.backward(grad.to(dtype))
        return ids, {name: leaf.grad.double() for name, leaf in leaves.items()}

    ids, got = gradients(impl, torch.float32)
    true_ids, truth = gradients("reference", torch.float64)
    assert torch.equal(ids, true_ids)
    for name in truth:
        torch.testing.assert_close(got[name], truth[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("impl", ENGINES)
def test_no_tokens(impl, kernel_device):
    keys = torch.randn(2, 8, 4, device=kernel_device, requires_grad=True)
    query = torch.randn(0, 2, 8, device=kernel_device, requires_grad=True)
    scores, ids = functional.retrieve(query, keys, 3, impl=impl)
    assert scores.shape == ids.shape == (0, 2, 3)
    scores.sum().backward()
    assert torch.equal(keys.grad, torch.zeros_like(keys))


@pytest.mark.parametrize(
    ("query", "keys", "topk", "message"),
    [
        ((2, 8), (2, 8, 4), 3, "retrieve takes queries"),
        ((2, 1, 6), (2, 8, 4), 3, "twice as wide"),
        ((2, 3, 8), (2, 2, 8, 4), 3, "queries have 3 heads, sub-keys 2"),
        ((2, 1, 8), (2, 8, 4), 9, "topk must be at most the 8"),
        ((2, 1, 8), (2, 8, 4), 0, "topk must be at least 1"),
    ],
)
def test_wrong_shapes(query, keys, topk, message):
    with pytest.raises(ValueError, match=message):
        functional.retrieve(torch.randn(query), torch.randn(keys), topk)
