import pytest
import torch

from peer import aten


@pytest.mark.parametrize(("rows", "columns", "count"), [(1, 2, 1), (7, 50, 17), (100, 1024, 16)])
def test_partition_is_topk(rows, columns, count):
    torch.manual_seed(columns)
    values = torch.randn(rows, columns) * torch.logspace(-40, 30, columns)
    values[0, 0], values[-1, 1] = float("inf"), -float("inf")
    assert all(map(torch.equal, aten.partition(values, count), values.topk(count, dim=1)))


@pytest.mark.parametrize("threads", [1, aten.NUMPY_THREADS + 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_is_no_number_is_selected(sign, threads):
    """0/0 is a negative NaN on x86, and negative bits would come last."""
    values = torch.randn(3, 40)
    values[1, 3] = sign * float("nan")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        best, positions = aten.select(values, topk=4)
    finally:
        torch.set_num_threads(before)
    assert best[1, 0].isnan()
    assert positions[1, 0] == 3
    assert not best[::2].isnan().any()
