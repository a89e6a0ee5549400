"""The table that `peer.kernels.tuned` reads: this GPU's rows made anew, those of others kept."""

import csv
import io
from pathlib import Path

from peer.kernels import launch
from suites.records.store import write_text
from suites.tiles.case import Trial

LEAST_GAIN = 0.03  # of the time of the counted settings; less is noise, and one binary more


def row(gpu: str, trial: Trial, seconds: float, counted_s: float) -> dict[str, str]:
    settings = trial.settings if seconds < (1 - LEAST_GAIN) * counted_s else {}
    return {
        "gpu": gpu,
        "kernel": trial.kernel,
        "columns": str(launch.columns(trial.dim)),
        "tokens": str(trial.tokens),
        "num_warps": str(settings.get("num_warps", "")),
        "UNROLL": str(settings.get("UNROLL", "")),
        "us": f"{(seconds if settings else counted_s) * 1e6:.1f}",
        "counted_us": f"{counted_s * 1e6:.1f}",
    }


def rewrite(path: Path, gpu: str, rows: list[dict[str, str]]) -> None:
    """`rows` replace those of the same kernel, width and tokens on `gpu`."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    comments = [line for line in lines if line.startswith("#")]
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    kept = {place(row): row for row in reader} | {place(row): row for row in rows}
    text = io.StringIO()
    writer = csv.DictWriter(text, reader.fieldnames or [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept[key] for key in sorted(kept))
    write_text(path, "".join(comments) + text.getvalue())


def place(row: dict[str, str]) -> tuple[str, str, int, int]:
    return row["gpu"], row["kernel"], int(row["columns"]), int(row["tokens"])
