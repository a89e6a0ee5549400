"""Chinchilla's own ratios of its FLOPs to 6·N per token, by the functions that count our decoder.

Hoffmann et al., arXiv 2203.15556, appendix F, table A4; 2048 tokens of context and a vocabulary of 32,000.
What reproduces all six: the FLOPs of the blocks alone, though the text counts embedding and logits too,
over an N with one embedding matrix (the tied one) and a matrix d² per block for relative positions.
"""

from suites.language_model.case import Backbone
from suites.language_model.decoder import Decoder
from suites.measure.meta import on_meta
from suites.records.record import Model

CONTEXT, VOCABULARY = 2048, 32_000


class Published(Model):
    """A row of table A4; feed-forward layers are 4·dim wide, heads · key size is dim."""

    model: str
    blocks: int
    dim: int
    attention_heads: int
    ratio: float


TABLE = (
    Published(model="73M", blocks=10, dim=640, attention_heads=10, ratio=1.03),
    Published(model="305M", blocks=20, dim=1024, attention_heads=16, ratio=1.10),
    Published(model="552M", blocks=24, dim=1280, attention_heads=10, ratio=1.08),
    Published(model="1.1B", blocks=26, dim=1792, attention_heads=14, ratio=1.04),
    Published(model="1.6B", blocks=28, dim=2048, attention_heads=16, ratio=1.03),
    Published(model="6.8B", blocks=40, dim=3584, attention_heads=28, ratio=0.99),
)


def ratios(row: Published) -> dict[str, float | int | str | None]:
    """Training FLOPs per token over 6·N: of the blocks, and with embedding and logits as the text says."""
    backbone = Backbone(
        blocks=row.blocks, dim=row.dim, attention_heads=row.attention_heads, context=CONTEXT
    )
    decoder = on_meta(Decoder, backbone, VOCABULARY, "dense", {}, ())
    forward, backward = decoder.flops(1), decoder.backward_flops(1)
    training = {part: forward[part] + backward[part] for part in forward}
    parts = decoder.parameter_parts()
    parameters = sum(parts.values()) - parts["logits"] - parts["norms"] + row.blocks * row.dim**2
    blocks = sum(training.values()) - training["embedding"] - training["logits"]
    return {
        "chinchilla_parameters": parameters,
        "blocks_ratio": blocks / CONTEXT / (6 * parameters),
        "text_ratio": sum(training.values()) / CONTEXT / (6 * parameters),
        "published_ratio": row.ratio,
    }
