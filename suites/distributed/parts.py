"""A checkpoint of many processes: a folder of parts, which any number of processes reads, one included.

By `torch.distributed.checkpoint`, tensors alone: its list of parts is a pickle, which is read with the
few classes that such a list is made of and no others.
"""

import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from suites.errors import UserError

MOMENTS = ("exp_avg", "exp_avg_sq")  # torch.optim.AdamW's names
LIST = "torch.distributed.checkpoint."
NAMES = {
    "ChunkStorageMetadata",
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "TensorStorageMetadata",
    "_MEM_FORMAT_ENCODING",
    "_StorageInfo",
}
OTHERS = {("torch", "Size"), ("torch.serialization", "_get_layout"), ("pathlib", "PosixPath")}


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Every process its parts; UserError where they cannot be written."""
    try:
        writer = FileSystemWriter(folder, overwrite=True)
        with one_may_be_all():
            dcp.save(tensors(model, optimizer), storage_writer=writer)
    except (OSError, dcp.api.CheckpointException) as error:
        raise UserError(f"cannot write the checkpoint {folder}: {error}") from error


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Into `model` and `optimizer`, however they are spread; UserError where it cannot be read."""
    try:
        with one_may_be_all():
            dcp.load(tensors(model, optimizer), storage_reader=Reader(folder))
    except (OSError, pickle.UnpicklingError, dcp.api.CheckpointException) as error:
        raise UserError(
            f"the checkpoint {folder} cannot be read ({type(error).__name__}); delete "
            f"{folder.parent} and run again"
        ) from error


@contextmanager
def one_may_be_all() -> Iterator[None]:
    """Without torch's warning that a process without a group is taken for the only one, as it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def forget_but(folder: Path, name: str) -> None:
    """Deletes the steps before."""
    for old in folder.glob("step-*"):
        if old.name != name:
            shutil.rmtree(old)


def tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Those of both, by name; moments that AdamW would make at its first step are made here."""
    found = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state |= {moment: torch.zeros_like(parameter) for moment in MOMENTS}
        found |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
    return found


class Reader(FileSystemReader):
    """Reads the list of parts without the means to run what a pickle asks for."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with Path(self.path, ".metadata").open("rb") as file:
            metadata = Listed(file).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class Listed(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_list = module.startswith(LIST) and name.rpartition(".")[2] in NAMES
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not (is_list or is_dtype or (module, name) in OTHERS):
            raise pickle.UnpicklingError(f"a list of parts names {module}.{name}")
        return super().find_class(module, name)
