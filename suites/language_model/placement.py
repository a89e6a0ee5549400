"""Where a run's model lies. Here one process has all of it; `suites.distributed` spreads it over several."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from suites.language_model.checkpoint import Checkpoint
from suites.language_model.decoder import Decoder


class Alone:
    """One process that does everything, and what several do otherwise.

    A model, once placed, is called and trained as any other; what is of all tokens, all parameters or
    all processes goes through these methods, in every process at the same time.
    """

    ranks = 1

    def place(self, model: Decoder, device: torch.device) -> Decoder:
        """`model` with its parameters where they stay."""
        return model.to(device)

    def whole(self, model: Decoder, build: Callable[[], Decoder]) -> Decoder | None:
        """`model` as one process evaluates it, in that process; None in others. `build` makes such a one."""
        return model

    def part(self, tokens_BL: Tensor) -> Tensor:
        """This process's sequences of those that are computed in one call."""
        return tokens_BL

    def sum(self, share: Tensor) -> Tensor:
        """Of a number over processes."""
        return share

    def clip(self, model: Decoder, most: float) -> None:
        """Scales all gradients so that their norm together is at most `most`."""
        torch.nn.utils.clip_grad_norm_(model.parameters(), most)

    def after_step(self, model: Decoder) -> None:
        model.after_step()

    def agree(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag

    def save(
        self,
        checkpoint: Checkpoint,
        curve: dict[str, Any],
        model: Decoder,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Writes all that a run needs to go on; `curve` is what it has behind it."""
        state = {"curve": curve, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.save(state | generators())

    def restore(
        self, checkpoint: Checkpoint, model: Decoder, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        """Puts model, optimizer and generators back where `save` left them; the curve, if it did."""
        if (state := checkpoint.load()) is None:
            return None
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        set_generators(state)
        return state["curve"]


def generators() -> dict[str, Any]:
    """The states of this process's random numbers."""
    return {
        "generator": torch.get_rng_state(),
        "cuda_generators": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generators(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["generator"])
    if state["cuda_generators"]:
        torch.cuda.set_rng_state_all(state["cuda_generators"])
