"""The launched binaries of every kernel: counts that need no GPU, and predicted times, never measured ones.

Claim: none of the paper; a kernel near its floor issues few instructions per (token, expert) pair, loads
    rows 16 bytes at a time, keeps enough of them in flight, and neither spills nor waits in its loop.
Differs from the paper: nothing runs. Kernels are compiled as their launchers would on each target, and
    the machine code is read.
Cost: a few minutes on two cores, all of it compilation; needs triton.
Run: python -m suites run kernels
Read: results/tables/kernels-tiny-counts.md and -predicted.md. What a run of equal experts adds to its
    pairs stands apart. counted.csv of profile widths becomes peer/counted.csv, from which
    `peer.explain` predicts.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from suites.binary.case import Case
from suites.output import say
from suites.records.places import PLACE
from suites.records.record import Model, Record, ResultFile, digest
from suites.registry import profile_of


class Profile(Model):
    targets: tuple[str, ...]
    dims: tuple[int, ...]
    tokens: tuple[int, ...]

    def cases(self) -> Iterator[Case]:
        for target in self.targets:
            for tokens in self.tokens:
                for dim in self.dims:
                    yield Case(operation="forward", target=target, dim=dim, tokens=tokens)
                yield Case(operation="retrieve", target=target, dim=self.dims[0], tokens=tokens)
            tokens = self.tokens[-1]
            yield Case(
                operation="retrieve_backward", target=target, dim=self.dims[0], tokens=tokens
            )
            for dim in self.dims:
                case = Case(operation="backward", target=target, dim=dim, tokens=tokens)
                yield case
                yield case.model_copy(update={"table_grad": "sparse"})


PROFILES = {
    "smoke": Profile(targets=("sm_90",), dims=(64,), tokens=(16,)),
    "tiny": Profile(targets=("sm_80", "sm_90", "sm_100"), dims=(256, 1024), tokens=(1, 2048)),
    "widths": Profile(
        targets=("sm_90",), dims=(64, 128, 256, 512, 1024, 2048, 4096), tokens=(8192,)
    ),
}


def planned(profile: str, files: list[ResultFile]) -> list[str]:
    """Ids of the cases of a complete run of `profile`."""
    return [
        digest(case.model_dump(mode="json"))
        for case in profile_of("kernels", PROFILES, profile).cases()
    ]


@click.command(name="kernels", help=__doc__)
@click.option("--profile", default="tiny", show_default=True, help=f"one of {', '.join(PROFILES)}")
@click.option("--wide", is_flag=True, help="print all columns of the tables")
@click.option("--results", type=PLACE, help="folder of results; default: results/")
def command(profile: str, wide: bool, results: Path | None) -> int:
    from tqdm import tqdm

    from suites.binary.count import counts
    from suites.binary.predict import counted_csv, prediction
    from suites.measure.environment import code, environment
    from suites.records.store import RESULTS, Store, write, write_text
    from suites.tables.kernels import sheets

    cases = list(profile_of("kernels", PROFILES, profile).cases())
    records: list[Record] = []
    for case in tqdm(cases, "kernels", disable=None):
        found = counts(case)
        metrics = {**found, **prediction(case, found)}
        records.append(Record(case=case.model_dump(mode="json"), status="ok", metrics=metrics))
    now, here = code(), environment()
    file = ResultFile(suite="kernels", profile=profile, code=now, environment=here, records=records)
    folder = Store(results or RESULTS).scratch("kernels", profile, now, here)
    write(folder / "records.json", file)
    write_text(folder / "counted.csv", counted_csv(records))
    for sheet in sheets([file]):
        sheet.write(folder)
        say(sheet.printed(wide), **sheet.data())
    wrote = f"wrote {len(records)} records and a table in {folder}"
    say(wrote, wrote=str(folder), records=len(records))
    return 0
