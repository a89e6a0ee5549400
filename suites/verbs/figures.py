"""Draw results/figures from the committed records, as SVG and PNG, or check that they agree."""

from pathlib import Path

import click

from suites.errors import UserError
from suites.records.generated import agree, write_all
from suites.records.places import PLACE
from suites.records.record import ResultFile
from suites.records.store import RESULTS, Store


@click.command(name="figures", help=__doc__)
@click.option("--check", is_flag=True, help="write nothing; exit 1 when a committed file differs")
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(check: bool, results: Path) -> int:
    from suites.figures import FIGURES, rendered

    groups: dict[tuple[str, str], list[ResultFile]] = {}
    for _, file in Store(results).files("records"):
        if file.suite in FIGURES:
            groups.setdefault((file.suite, file.profile), []).append(file)
    if not groups:
        raise UserError(
            f"no records to draw under {results / 'records'}; make some with `python -m suites run`"
        )
    drawn = {
        results / "figures" / f"{suite}-{profile}" / f"{name}.{kind}": content
        for (suite, profile), files in groups.items()
        for name, figure in FIGURES[suite](files).items()
        for kind, content in rendered(figure).items()
    }
    if check:
        there = (results / "figures").rglob("*.*")
        return agree(drawn, there, "figures")
    write_all(drawn)
    return 0
