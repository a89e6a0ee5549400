"""Find, for every layer, the configuration nearest to a dense layer's budget.

Prints what was varied and the mismatch. Exit status: 1 when a layer cannot meet the budget, else
those of every verb.
"""

import click

from suites.output import say
from suites.records.budget import KINDS, check_kind
from suites.sweep.command import Finite

WIDEST, MOST_TOKENS = 2**17, 2**31  # beyond what 64 bits address with the paper's experts


@click.command(name="match", help=__doc__)
@click.option(
    "--dim", type=click.IntRange(1, WIDEST), required=True, help="width of the dense (d, 4·d)"
)
@click.option("--budget", required=True, help=f"one of {', '.join(KINDS)}")
@click.option("--tolerance", type=Finite(min=0), default=0.02, show_default=True)
@click.option("--tokens", type=click.IntRange(1, MOST_TOKENS), default=2048, show_default=True)
@click.option("--layer", "layers", multiple=True, help="only these; repeatable")
def command(dim: int, budget: str, tolerance: float, tokens: int, layers: tuple[str, ...]) -> int:
    from suites.budgets.match import dense_budget, match
    from suites.layers import LAYERS, check_registered

    for layer in layers:
        check_registered(layer)
    contract = dense_budget(check_kind(budget), dim, tokens, tolerance)
    say(f"within {contract.describe()}", contract=contract.model_dump(mode="json"))
    met = True
    for layer in layers or LAYERS:
        found = match(layer, dim, contract, tokens)
        met = met and found.reason is None
        varied = ", ".join(f"{name} {a} → {b}" for name, (a, b) in found.varied.items())
        line = f"{layer:14} {found.mismatch:+8.2%}  {varied or 'nothing varied'}"
        say(
            f"{line}\n{'':14} {found.reason}" if found.reason else line,
            layer=layer,
            mismatch=found.mismatch,
            varied=found.varied,
            reason=found.reason,
        )
    return 0 if met else 1
