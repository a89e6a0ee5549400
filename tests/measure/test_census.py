"""Layers of strangers: what they multiply is counted, or refused by name, however it is spelled."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from suites.errors import UserError
from suites.measure import flops
from suites.measure.einsum import einsum_flops
from suites.measure.flops import count
from suites.measure.meta import on_meta

TOKENS, DIM, HIDDEN = 64, 16, 32


class Stranger(nn.Module):
    """x: (T, 1, D) and a gathered w: (T, H, D), to (T, H), into a product with a matrix (H, D)."""

    mixing = staticmethod(lambda x, w: None)
    stated = 0  # FLOPs of `mixing` in the closed form

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(TOKENS, HIDDEN, DIM))
        self.out = nn.Parameter(torch.empty(HIDDEN, DIM))

    def forward(self, x):
        return type(self).mixing(x.unsqueeze(1), self.w) @ self.out

    def flops(self, tokens: int) -> dict[str, int]:
        return {"ffw": 2 * tokens * HIDDEN * DIM + self.stated}

    def backward_flops(self, tokens: int) -> dict[str, int]:
        return {"ffw": 2 * self.flops(tokens)["ffw"]}

    parameter_parts = active_parameter_parts = bytes_moved = activation_bytes = None


def counted(mixing, stated: int = 0):
    stranger = type("Layer", (Stranger,), {"mixing": staticmethod(mixing), "stated": stated})
    return count(on_meta(stranger), torch.empty(TOKENS, DIM, device="meta"))


def filled(x, w):
    products = w.new_empty(w.shape)
    products[:, :8] = (x * w)[:, :8]
    return products.sum(-1)


def in_a_loop(x, w):
    dots = x[..., 0] * w[..., 0]
    for i in range(1, DIM):
        dots = dots + x[..., i] * w[..., i]
    return dots


def put_back(x, w):
    places = torch.zeros(TOKENS, HIDDEN, DIM, dtype=torch.int64, device=w.device)
    return w.new_zeros(TOKENS, HIDDEN, 1).scatter_add(2, places, x * w).squeeze(-1)


def rows_put_back(x, w):
    """As a mixture of experts puts back rows, each weighted by its score."""
    tokens = torch.arange(TOKENS, device=w.device)
    return w.new_zeros(TOKENS, DIM).index_add(0, tokens, w[:, 0] * x[..., 0])


HIDDEN_PRODUCTS = {
    "sum": lambda x, w: (x * w).sum(-1),
    "mean": lambda x, w: (x * w).mean(-1) * DIM,
    "cumulative": lambda x, w: (x * w).cumsum(-1).select(-1, -1),
    "cast": lambda x, w: (x * w).double().sum(-1).float(),
    "view": lambda x, w: (x * w).view(TOKENS, HIDDEN, 4, 4).sum((2, 3)),
    "transposed": lambda x, w: (x * w).transpose(1, 2).sum(1),
    "scaled": lambda x, w: (x * w * 0.5).sum(-1),
    "masked": lambda x, w: ((x * w) * (w < 0)).sum(-1),
    "where": lambda x, w: torch.where(w < 0, x * w, 0.0).sum(-1),
    "added": lambda x, w: (x * w + 1.0).sum(-1),
    "activated": lambda x, w: torch.relu(x * w).sum(-1),
    "concatenated": lambda x, w: torch.cat((x * w, w), -1).sum(-1),
    "sorted": lambda x, w: (x * w).sort(-1).values.sum(-1),
    "copied": lambda x, w: (x * w).clone().contiguous().sum(-1),
    "written into": filled,
    "in place": lambda x, w: x.expand_as(w).clone().mul_(w).sum(-1),
    "chunks": lambda x, w: sum((x * w).unbind(-1)),
    "loop": in_a_loop,
    "put back": put_back,
    "quotient": lambda x, w: (x / w).sum(-1),
    "squared distance": lambda x, w: (x + w).pow(2).sum(-1),
    "squared": lambda x, w: (x - w).square().mean(-1),
    "weighted": lambda x, w: (w * x.sum(-1, keepdim=True)).sum(-1),
    "vecdot": lambda x, w: torch.linalg.vecdot(x.expand_as(w), w),
    "cosine": lambda x, w: torch.cosine_similarity(x, w, dim=-1),
}


@pytest.mark.parametrize("mixing", HIDDEN_PRODUCTS.values(), ids=HIDDEN_PRODUCTS)
def test_a_dot_product_in_disguise_is_refused_by_name(mixing) -> None:
    with pytest.raises(UserError, match=r"\(a \* b\)\.\w+, a dot product; write it as einsum"):
        counted(mixing)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x, w: torch.addcmul(w, x.expand_as(w), w).sum(-1),
        lambda x, w: (x * w).logsumexp(-1),
        lambda x, w: torch.linalg.vector_norm(x * w, dim=-1),
        lambda x, w: F.bilinear(x.expand_as(w), w, w[:1, :DIM]).squeeze(-1),
    ],
)
def test_an_operator_nobody_knows_is_refused_by_name(mixing) -> None:
    with pytest.raises(UserError, match=r"executes operators that nothing counts: .*aten::\w+"):
        counted(mixing)


@pytest.mark.parametrize("groups", [1, 2, DIM])
def test_convolutions_are_refused_by_name(groups: int) -> None:
    def mixing(x, w):
        mixed = F.conv1d(x.permute(1, 2, 0), w[:DIM, : DIM // groups, :3], groups=groups)
        return mixed.flatten()[:1].expand(TOKENS, HIDDEN)

    with pytest.raises(UserError, match=r"aten::convolution, which fvcore cannot trace"):
        counted(mixing)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x, w: F.rms_norm(w * x, (DIM,), eps=1e-6).flatten(1)[:, :HIDDEN],
        lambda x, w: F.layer_norm(w * x, (DIM,)).flatten(1)[:, :HIDDEN],
        lambda x, w: (w[..., 0] * x[..., 0] - w[..., 1] * x[..., 1]).relu(),  # as rotary positions
        lambda x, w: F.dropout(w[..., 0], 0.1) * torch.sigmoid(x[..., 0]),
        lambda x, w: torch.cat(2 * [rows_put_back(x, w)], 1),
    ],
    ids=["rms_norm", "layer_norm", "rotary", "gate", "rows"],
)
def test_elementwise_work_stays_free(mixing) -> None:
    assert set(counted(mixing).unexplained().values()) == {0}


PRODUCT = 2 * TOKENS * HIDDEN * DIM


@pytest.mark.parametrize(
    ("mixing", "stated"),
    [
        (lambda x, w: torch.einsum("tod, thd -> th", x, w), PRODUCT),
        (lambda x, w: torch.einsum("...d,...hd->...h", x.squeeze(1), w), PRODUCT),
        (lambda x, w: torch.einsum("td,thd->ht", x.squeeze(1), w).t(), PRODUCT),
        (lambda x, w: torch.einsum("td,hd", x.squeeze(1), w[0]).t(), PRODUCT),
        (lambda x, w: torch.einsum("th,h->th", x.new_ones(TOKENS, HIDDEN), w[0, :, 0]), 0),
        (lambda x, w: torch.einsum("htd->th", w.transpose(0, 1)), 0),
        (lambda x, w: torch.einsum("tod,hd,h->th", x, w[0], w[0, :, 0]), PRODUCT),
        (lambda x, w: torch.matmul(w, x.transpose(1, 2)).squeeze(-1), PRODUCT),
        (lambda x, w: torch.baddbmm(w[..., :1], w, x.transpose(1, 2)).squeeze(-1), PRODUCT),
    ],
)
def test_a_product_is_counted_in_every_spelling(mixing, stated: int) -> None:
    assert set(counted(mixing, stated).unexplained().values()) == {0}


class Vector(nn.Module):
    def forward(self, x):
        return x.squeeze(1) @ x.squeeze(1)[0]


def test_matrix_times_vector() -> None:
    x = torch.empty(TOKENS, 1, DIM, device="meta")
    assert flops.traced(Vector(), x) == flops.dispatched(Vector(), x)[0] == 2 * TOKENS * DIM


def test_einsum_flops_are_those_that_torch_executes() -> None:
    """Random equations of one to four operands, extents of 1 among them, with and without an arrow."""

    def choice(high: int) -> int:
        return int(torch.randint(high, ()))

    torch.manual_seed(0)
    for _ in range(300):
        terms = [
            "".join("abcde"[i] for i in torch.randperm(5)[: 1 + choice(4)])
            for _ in range(1 + choice(4))
        ]
        used = sorted(set("".join(terms)))
        kept = "".join(used[i] for i in torch.randperm(len(used))[: choice(len(used) + 1)])
        equation = ", ".join(terms) + (f" -> {kept}" if choice(4) else "")
        shapes = [tuple(1 if choice(9) == 0 else "abcde".index(i) + 1 for i in t) for t in terms]
        with FlopCounterMode(display=False) as executed:
            torch.einsum(equation, *(torch.empty(shape, device="meta") for shape in shapes))
        assert einsum_flops(equation, shapes) == executed.get_total_flops(), (equation, shapes)
