"""What every layer costs: three FLOP counts that agree, bytes, parameters, and configurations that match.

Claim: PEER has at most the dense model's active parameters (paper, section 2.3), checked with and without
    the router.
Differs from the paper: router FLOPs are counted, and the numbers without them printed beside.
Cost: under a minute on two cores and no memory to speak of: everything is counted on the meta device.
    Profile tiny holds the paper's sizes, since sizes cost nothing here.
Run: python -m suites run flops
Read: results/tables/flops-tiny-*.md; a difference between counters without a reason fails the run.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from suites.budgets.case import (
    Case,
    ChinchillaCase,
    CrossoverCase,
    DecoderCase,
    LayerCase,
    MatchCase,
)
from suites.language_model.case import Backbone
from suites.output import say
from suites.records.budget import KINDS
from suites.records.places import PLACE
from suites.records.record import Model, Record, ResultFile, digest
from suites.registry import profile_of

IMPLEMENTATIONS = ("reference", "aten", "native", "triton")


class Profile(Model):
    dims: tuple[int, ...]
    matched_dims: tuple[int, ...]
    experts: tuple[int, ...]
    tokens: int
    tolerance: float
    backbone: Backbone
    vocabulary: int

    def cases(self) -> Iterator[Case]:
        from suites.budgets.chinchilla import TABLE
        from suites.layers import resolve_options

        layers = list(rows())
        for dim in self.dims:
            for layer, options in layers:
                yield LayerCase(layer=layer, options=options, dim=dim, tokens=self.tokens)
        for dim in self.matched_dims:
            for experts in self.experts:
                yield LayerCase(
                    layer="peer",
                    options=resolve_options("peer", {"experts": experts, "impl": "aten"}),
                    dim=dim,
                    tokens=self.tokens,
                    sweep="experts",
                )
        for layer, options in layers:
            yield DecoderCase(
                layer=layer, options=options, backbone=self.backbone, vocabulary=self.vocabulary
            )
        for dim in self.matched_dims:
            for kind in KINDS:
                for layer in dict(layers):
                    yield MatchCase(
                        layer=layer,
                        dim=dim,
                        budget=kind,
                        tolerance=self.tolerance,
                        tokens=self.tokens,
                    )
        for experts in self.experts:
            yield CrossoverCase(experts=experts, tokens=self.tokens)
        for row in TABLE:
            yield ChinchillaCase(model=row.model)


PROFILES = {
    "tiny": Profile(
        dims=(256, 512, 1024, 2048, 4096),
        matched_dims=(256, 1024, 4096),
        experts=(128**2, 256**2, 512**2, 1024**2),
        tokens=2048,
        tolerance=0.02,
        backbone=Backbone(blocks=8, dim=512, attention_heads=8, context=2048),
        vocabulary=32_000,
    ),
}


def rows() -> Iterator[tuple[str, dict]]:
    """Every registered layer, and every implementation of those that have several."""
    from suites.layers import LAYERS, resolve_options

    for layer in LAYERS:
        options = resolve_options(layer, {})
        for impl in IMPLEMENTATIONS if "impl" in options else (None,):
            yield layer, options if impl is None else options | {"impl": impl}


def planned(profile: str, files: list[ResultFile]) -> list[str]:
    """Ids of the cases of a complete run of `profile`."""
    return [
        digest(case.model_dump(mode="json"))
        for case in profile_of("flops", PROFILES, profile).cases()
    ]


@click.command(name="flops", help=__doc__)
@click.option("--profile", default="tiny", show_default=True, help=f"one of {', '.join(PROFILES)}")
@click.option("--wide", is_flag=True, help="print all columns of the tables")
@click.option("--results", type=PLACE, help="folder of results; default: results/")
def command(profile: str, wide: bool, results: Path | None) -> int:
    from tqdm import tqdm

    from suites.budgets.count import record
    from suites.figures import FIGURES, save
    from suites.measure.environment import code, environment
    from suites.records.store import RESULTS, Store, write
    from suites.tables.flops import sheets

    cases = list(profile_of("flops", PROFILES, profile).cases())
    records: list[Record] = [record(case) for case in tqdm(cases, "flops", disable=None)]
    now, here = code(), environment()
    file = ResultFile(suite="flops", profile=profile, code=now, environment=here, records=records)
    folder = Store(results or RESULTS).scratch("flops", profile, now, here)
    write(folder / "records.json", file)
    for sheet in sheets([file]):
        sheet.write(folder)
        say(sheet.printed(wide), **sheet.data())
    drawn = [
        path
        for name, figure in FIGURES["flops"]([file]).items()
        for path in save(figure, folder / name)
    ]
    wrote = f"wrote {len(records)} records, tables and {len(drawn)} figures in {folder}"
    say(wrote, wrote=str(folder), records=len(records))
    return 0
