"""What follows from the closed forms that a layer states of itself."""

from torch import nn


class Counted:
    """A layer that states `parameter_parts` and `flops`, each by part, and where it differs the rest."""

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part: the same parts in the same order as all closed forms."""
        raise NotImplementedError

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part for one call with `tokens`, a multiply-add counted as 2."""
        raise NotImplementedError

    def tables(self) -> list[nn.Parameter]:
        """The parameters that are read sparsely and take a learning rate of their own."""
        return []

    def active_parameter_parts(self) -> dict[str, int]:
        """Parameters that one token meets, by part: all of them, unless a layer says otherwise."""
        return self.parameter_parts()

    def active_parameters(self) -> int:
        """Their sum."""
        return sum(self.active_parameter_parts().values())

    def backward_flops(self, tokens: int) -> dict[str, int]:
        """By part: the gradients of a product's two operands cost a product each."""
        return {part: 2 * flops for part, flops in self.flops(tokens).items()}
