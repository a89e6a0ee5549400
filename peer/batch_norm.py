"""Batch statistics over processes; torch's own SyncBatchNorm runs on a GPU alone."""

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from peer.exchange import sum_of_all


class SharedBatchNorm(nn.BatchNorm1d):
    """`norm` with the statistics of the tokens of all processes, as many in each, while it trains.

    Takes over its parameters and running statistics. A call sends two sums over tokens per feature,
    and as many in backward: the mean first, then squares about it, which cancels nothing.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d, group: ProcessGroup) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.group = group
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """(T, F) → (T, F)."""
        if not self.training:
            return super().forward(input)
        x_TF = input.to(torch.promote_types(input.dtype, self.weight.dtype))
        tokens = self.group.size() * x_TF.shape[0]
        mean_F = sum_of_all(x_TF.sum(0), self.group) / tokens
        centred_TF = x_TF - mean_F
        variance_F = sum_of_all(centred_TF.square().sum(0), self.group) / tokens
        self.follow(mean_F, variance_F * tokens / (tokens - 1))
        normed_TF = centred_TF * (variance_F + self.eps).rsqrt() * self.weight + self.bias
        return normed_TF.to(input.dtype)

    @torch.no_grad()
    def follow(self, mean_F: Tensor, variance_F: Tensor) -> None:
        """Moves the running statistics towards a batch's."""
        share = 0.0 if self.momentum is None else self.momentum
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_F, share)
        self.running_var.lerp_(variance_F, share)
