"""A decoder-only transformer whose feed-forward sites take any registered layer."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suites.language_model.case import Backbone
from suites.layers import FeedForward, build, lends, output_and_loss


class Decoder(nn.Module):
    """Pre-norm blocks of causal attention and a feed-forward layer; RMSNorm, rotary positions, no biases.

    Shape legend: B sequences, L tokens of context, D width, V vocabulary.
    """

    asks_loss: ClassVar[bool] = True

    def __init__(
        self, backbone: Backbone, vocabulary: int, layer: str, options: dict, sites: tuple[int, ...]
    ):
        super().__init__()
        if outside := [site for site in sites if not 0 <= site < backbone.blocks]:
            raise ValueError(f"sites must lie in 0 … {backbone.blocks - 1}; got {outside}")
        if backbone.dim % (2 * backbone.attention_heads):
            raise ValueError(
                f"dim must be a multiple of 2 · attention_heads = {2 * backbone.attention_heads} "
                f"for rotary positions; got {backbone.dim}"
            )
        D = backbone.dim
        self.backbone, self.vocabulary = backbone, vocabulary
        self.embedding = nn.Embedding(vocabulary, D)
        self.blocks = nn.ModuleList()
        lent: Sequence[nn.Parameter] = ()
        for i in range(backbone.blocks):
            if i in sites:
                ffw = build(layer, D, options, lent)
                lent = lends(ffw)
            else:
                ffw = build("dense", D, {})
            self.blocks.append(Block(D, backbone.attention_heads, ffw))
        self.norm = nn.RMSNorm(D)
        self.unembedding = nn.Linear(D, vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.unembedding.weight, std=D**-0.5)
        self.cosine: Tensor
        self.sine: Tensor
        cosine, sine = rotary(backbone.context, D // backbone.attention_heads)
        self.register_buffer("cosine", cosine)
        self.register_buffer("sine", sine)

    def forward(self, tokens_BL: Tensor, with_loss: bool = False) -> Any:
        """Token ids (B, L), L at most the context → logits (B, L, V).

        `with_loss` beside the sum of the losses that layers ask for besides the model's own.
        """
        length = tokens_BL.shape[1]
        cosine, sine = self.cosine[:length], self.sine[:length]
        x, asked = self.embedding(tokens_BL), 0.0
        for block in self.blocks:
            x, loss = block(x, cosine, sine, with_loss)
            asked = asked + loss
        logits = self.unembedding(self.norm(x))
        return (logits, asked) if with_loss else logits

    def after_step(self) -> None:
        """Lets layers with an `after_step` change what is no gradient's: a balancing bias."""
        for layer in self.layers():
            getattr(layer, "after_step", lambda: None)()

    def layers(self) -> list[FeedForward]:
        return [block.ffw for block in self.blocks]  # type: ignore[misc]  # ModuleList forgets Block

    def tables(self) -> list[nn.Parameter]:
        return [table for layer in self.layers() for table in layer.tables()]

    def parameters_total(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part, embeddings included as Chinchilla counts them."""
        return self.backbone_parameters() | self.of_layers("parameter_parts")

    def active_parameter_parts(self) -> dict[str, int]:
        """Parameters that one token meets, by part."""
        return self.backbone_parameters() | self.of_layers("active_parameter_parts")

    def active_parameters(self) -> int:
        """Their sum."""
        in_layers = sum(layer.active_parameters() for layer in self.layers())
        return sum(self.backbone_parameters().values()) + in_layers

    def backbone_parameters(self) -> dict[str, int]:
        D, V, blocks = self.backbone.dim, self.vocabulary, self.backbone.blocks
        return {
            "embedding": V * D,
            "attention_projections": blocks * 4 * D * D,
            "attention": 0,
            "softmax": 0,
            "logits": V * D,
            "norms": (2 * blocks + 1) * D,
        }

    def of_layers(self, closed_form: str, *arguments: int) -> dict[str, int]:
        """A closed form summed over the blocks' layers; their parts get the prefix "ffw_"."""
        parts: dict[str, int] = {}
        for layer in self.layers():
            for part, value in getattr(layer, closed_form)(*arguments).items():
                parts[f"ffw_{part}"] = parts.get(f"ffw_{part}", 0) + value
        return parts

    def flops(self, sequences: int) -> dict[str, int]:
        """Forward FLOPs by part of one call, as in Hoffmann et al. (arXiv 2203.15556), appendix F.

        A multiply-add is 2; embeddings are counted as the matrix product they stand for, attention
        without its causal half left out, softmax with 3 per entry. Backward is twice the forward.
        """
        L, D, V = self.backbone.context, self.backbone.dim, self.vocabulary
        T, blocks, heads = sequences * L, self.backbone.blocks, self.backbone.attention_heads
        parts = {
            "embedding": 2 * T * V * D,
            "attention_projections": blocks * 8 * T * D * D,
            "attention": blocks * 4 * T * L * D,
            "softmax": blocks * 3 * T * L * heads,
            "logits": 2 * T * D * V,
            "norms": 0,
        }
        return parts | self.of_layers("flops", T)

    def backward_flops(self, sequences: int) -> dict[str, int]:
        """By part: twice the forward, as in appendix F; a layer's parts by its own closed form."""
        twice = {part: 2 * flops for part, flops in self.flops(sequences).items()}
        tokens = sequences * self.backbone.context
        return twice | self.of_layers("backward_flops", tokens)

    def training_flops(self, sequences: int) -> int:
        """Forward and backward FLOPs of one step."""
        return sum(self.flops(sequences).values()) + sum(self.backward_flops(sequences).values())

    def bytes_moved(self, sequences: int) -> dict[str, int]:
        """Bytes of one forward call by part; attention never writes its scores, norms join neighbours.

        A part reads its operands once and writes its results once; token ids have 8 bytes.
        """
        D, V, blocks = self.backbone.dim, self.vocabulary, self.backbone.blocks
        T, size = sequences * self.backbone.context, self.unembedding.weight.element_size()
        rows = round(V * (1 - (1 - 1 / V) ** T))
        parts = {
            "embedding": 8 * T + (rows + T) * D * size,
            "attention_projections": blocks * (6 * T * D + 4 * D * D) * size,
            "attention": blocks * 4 * T * D * size,
            "softmax": 0,
            "logits": (T * D + D * V + T * V) * size,
            "norms": (2 * blocks + 1) * D * size,
        }
        return parts | self.of_layers("bytes_moved", T)

    def activation_bytes(self, sequences: int) -> dict[str, int]:
        """Bytes kept for backward by part: inputs of products, the residual stream before each norm.

        Attention keeps queries, keys, values, its result and a float32 log-sum per row and head.
        """
        D, V, blocks = self.backbone.dim, self.vocabulary, self.backbone.blocks
        T, size = sequences * self.backbone.context, self.unembedding.weight.element_size()
        parts = {
            "embedding": 8 * T,
            "attention_projections": blocks * T * D * size,
            "attention": blocks * 4 * T * D * size,
            "softmax": blocks * T * self.backbone.attention_heads * 4,
            "logits": T * (D + V) * size,
            "norms": (2 * blocks + 1) * T * D * size,
        }
        return parts | self.of_layers("activation_bytes", T)


class Block(nn.Module):
    def __init__(self, dim: int, attention_heads: int, ffw: FeedForward) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim)
        self.attention = Attention(dim, attention_heads)
        self.ffw_norm = nn.RMSNorm(dim)
        self.ffw = ffw

    def forward(
        self, x: Tensor, cosine: Tensor, sine: Tensor, asked: bool
    ) -> tuple[Tensor, Tensor | float]:
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        normed = self.ffw_norm(x)
        y, loss = output_and_loss(self.ffw, normed) if asked else (self.ffw(normed), 0.0)
        return x + y, loss


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions (arXiv 2104.09864)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        for matrix in (self.projection, self.output):
            nn.init.normal_(matrix.weight, std=dim**-0.5)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        query, key, value = (
            self.projection(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


def rotary(context: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, width / 2) of position · 10000^(−2i / width)."""
    frequency = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angle = torch.outer(torch.arange(context), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the pairs (first half, second half) of the last axis by the angle of their position."""
    first, second = x.chunk(2, dim=-1)
    rotated = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    return rotated.to(x.dtype)
