"""What the suite compiles, as a frozen value."""

from typing import Literal

from suites.records.record import Model

Operation = Literal["forward", "backward", "retrieve", "retrieve_backward"]


class Case(Model):
    """One operation of a layer, as its launches on `target`."""

    operation: Operation
    target: str
    dim: int
    tokens: int
    heads: int = 8
    topk: int = 16
    dim_key: int = 128
    sub_keys: int = 1024
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    table_grad: Literal["dense", "sparse"] = "dense"
