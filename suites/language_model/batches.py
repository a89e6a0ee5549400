"""The order of the data, owned here: batch `step` is a function of seed and step, so a run can resume."""

import numpy as np
import torch
from torch import Tensor

from suites.errors import UserError


class Batches:
    """Windows of `context` tokens and their successors, in a new order every epoch.

    Args:
        tokens: (n,) token ids, memory-mapped.
        context: L tokens per window; windows do not overlap.
        sequences: B windows per batch.
        seed: of the order.
    """

    def __init__(self, tokens: np.ndarray, context: int, sequences: int, seed: int) -> None:
        self.tokens, self.context, self.sequences, self.seed = tokens, context, sequences, seed
        self.windows = (len(tokens) - 1) // context
        if self.windows < sequences:
            raise UserError(
                f"the text is too short: a batch needs {sequences} windows of {context} tokens and one "
                f"more token, {sequences * context + 1:,} in all; it has {len(tokens):,}"
            )
        self.epoch, self.order = -1, np.empty(0, dtype=np.int64)

    @property
    def per_epoch(self) -> int:
        return self.windows // self.sequences

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, L), int64, of batch `step`."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self.order = np.random.default_rng((self.seed, epoch)).permutation(self.windows)
            self.epoch = epoch
        chosen = self.order[position * self.sequences : (position + 1) * self.sequences]
        offsets = chosen[:, None] * self.context + np.arange(self.context + 1)
        window = torch.from_numpy(self.tokens[offsets].astype(np.int64))
        return window[:, :-1], window[:, 1:]
