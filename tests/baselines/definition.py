"""A layer against its definition, written out token by token."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def check_definition(own: nn.Module, defined: Callable[..., Tensor], tokens: int, dim: int) -> None:
    """Outputs and every gradient of the float64 layer `own` are those of `defined(own, x)`."""
    x = torch.randn(tokens, dim, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(tokens, dim, dtype=torch.float64)
    wanted = [x, *own.parameters()]
    torch.testing.assert_close(own(x), defined(own, x))
    ours = torch.autograd.grad((own(x) * weight).sum(), wanted)
    truth = torch.autograd.grad((defined(own, x) * weight).sum(), wanted)
    for mine, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine, true)
