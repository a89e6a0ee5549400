"""Draw results/figures from the committed records, as SVG and PNG; needs no torch."""

from pathlib import Path

import click

from suites.errors import UserError
from suites.figures import FIGURES, save
from suites.records.record import ResultFile
from suites.records.store import RESULTS, Store


@click.command(name="figures", help=__doc__)
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="folder of results"
)
def command(results: Path) -> int:
    groups: dict[tuple[str, str], list[ResultFile]] = {}
    for _, file in Store(results).files("records"):
        if file.suite in FIGURES:
            groups.setdefault((file.suite, file.profile), []).append(file)
    if not groups:
        raise UserError(
            f"no records to draw under {results / 'records'}; make some with `python -m suites run`"
        )
    for (suite, profile), files in groups.items():
        for name, figure in FIGURES[suite](files).items():
            for path in save(figure, results / "figures" / f"{suite}-{profile}" / name):
                click.echo(f"wrote {path}")
    return 0
