"""The constants that set output variances are the integrals they claim to be."""

import math

import pytest
import torch
import torch.nn.functional as F

from baselines.moments import GELU_SECOND_MOMENT, SILU_SECOND_MOMENT


@pytest.mark.parametrize(
    ("activation", "moment"), [(F.gelu, GELU_SECOND_MOMENT), (F.silu, SILU_SECOND_MOMENT)]
)
def test_second_moments(activation, moment: float) -> None:
    z = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    found = (activation(z).square() * density).sum().item() * (z[1] - z[0]).item()
    assert moment == pytest.approx(found, abs=1e-5)
