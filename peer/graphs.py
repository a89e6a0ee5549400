"""CUDA graphs: a call is captured once and replayed without Python."""

import torch
from torch import Tensor


def capturing(like: Tensor) -> bool:
    """Whether work on `like`'s device goes into a CUDA graph instead of running."""
    return like.is_cuda and torch.cuda.is_current_stream_capturing()
