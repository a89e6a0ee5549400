"""What a model takes on several GPUs: memory, bytes sent, which sharding of tables wins, time of a step.

Nothing is built or started. What no record says of a time is in a column whose name says "assumed".
"""

from typing import Any

import click

from suites.output import say
from suites.sweep.command import Finite

HEAD = 64  # width
SIZE = click.IntRange(1, 2**20)


@click.command(name="plan", help=__doc__)
@click.option("--gpus", default="1..1024", show_default=True, help="powers of two, or 1,6,8")
@click.option("--layer", default="peer", show_default=True, help="in the middle block")
@click.option("--dim", type=SIZE, default=1024, show_default=True, help="width of the model")
@click.option("--experts", type=click.IntRange(1, 2**31), help="or memories; default: the layer's")
@click.option("--heads", type=SIZE, help="of the layer; default: its own")
@click.option("--topk", type=SIZE, help="of the layer; default: its own")
@click.option("--blocks", type=SIZE, default=16, show_default=True)
@click.option("--context", type=SIZE, default=2048, show_default=True, help="tokens of a sequence")
@click.option("--sequences", type=SIZE, default=4, show_default=True, help="of one GPU in a step")
@click.option("--vocabulary", type=SIZE, default=32_000, show_default=True)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option(
    "--gib", type=Finite(min=0, min_open=True), default=80, show_default=True, help="of a GPU"
)
@click.option(
    "--gb-per-s",
    type=Finite(min=0, min_open=True),
    default=50,
    show_default=True,
    help="that a GPU sends, assumed",
)
@click.option("--wide", is_flag=True, help="print all columns")
def command(
    gpus: str,
    layer: str,
    dim: int,
    blocks: int,
    context: int,
    sequences: int,
    vocabulary: int,
    device: Any,
    gib: float,
    gb_per_s: float,
    wide: bool,
    **options: int | None,
) -> None:
    from suites.distributed.plan import Gpu, case_of, numbers_of, sheet
    from suites.language_model.case import Backbone
    from suites.records.store import RESULTS, Store
    from suites.sweep.plan import Rates

    numbers = numbers_of(gpus)
    heads = max(1, dim // HEAD)  # of attention, whose number moves no cost
    backbone = Backbone(blocks=blocks, dim=dim, attention_heads=heads, context=context)
    case = case_of(layer, options, backbone, sequences, device)
    rates = Rates.of(Store(RESULTS))
    found = sheet(case, vocabulary, numbers, Gpu(gib, gb_per_s), rates)
    say(found.printed(wide), **found.data())
