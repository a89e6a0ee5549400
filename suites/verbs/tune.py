"""Try warps and rows in flight of every kernel on this GPU, and keep the fastest in the table peer reads.

Each candidate's results are checked against those of the counted settings before it is timed. What
finished before is not tried again. Commit peer/kernels/tuned.csv afterwards.
"""

import os
import time
from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store


@click.command(name="tune", help=__doc__)
@click.option("--minutes", type=click.FloatRange(min=0), default=8.0, show_default=True)
@click.option(
    "--rehearse", is_flag=True, help="on a CPU, interpreted, at tiny sizes; no table is written"
)
@click.option("--results", type=PLACE, help="folder of results; default: results/")
def command(minutes: float, rehearse: bool, results: Path | None) -> int:
    until = time.monotonic() + 60 * minutes
    if rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
    import torch

    if not rehearse and not torch.cuda.is_available():
        raise UserError(
            "tune measures a GPU, and torch sees none; --rehearse goes through it on a CPU, "
            "interpreted, and writes no table"
        )
    from tabulate import tabulate

    from peer.kernels import tuned
    from suites.measure.lock import measuring
    from suites.tiles import table
    from suites.tiles.case import PROFILES
    from suites.tiles.search import fastest, search

    device, name = ("cpu", "rehearsal") if rehearse else ("cuda", "gpu")
    gpu = "no GPU" if rehearse else torch.cuda.get_device_name()
    store = Store(results or RESULTS)
    with measuring(device):
        records, missing = search(
            PROFILES[name], name, device, store, until, lambda line: click.echo(line, err=True)
        )
    rows = [table.row(gpu, *found) for found in fastest(records)]
    say(tabulate(rows, "keys", tablefmt="pipe", disable_numparse=True), rows=rows)
    failed = [record for record in records if record.status != "ok"]
    for record in failed:
        text = f"not taken: {record.case['kernel']} {record.case}: {record.reason}"
        say(text, not_taken=record.case, reason=record.reason)
    say(
        f"{len(records)} tried, {len(failed)} not taken, {missing} left for the next call",
        tried=len(records),
        failed=len(failed),
        left=missing,
    )
    if rehearse:
        say("rehearsed on a CPU: no time of it means anything, and no table was written")
    elif rows:
        table.rewrite(tuned.TABLE, gpu, rows)
        say(f"wrote {tuned.TABLE}", wrote=str(tuned.TABLE))
    return 0
