"""One file per kind of table; each turns the records of its suites into a `Sheet`."""

from collections.abc import Callable

from suites.records.record import ResultFile
from suites.records.sheet import Sheet
from suites.records.tables import arms, flops, isoflop, speed, table1, training

# suite → the tables made of all its result files of one profile
TABLES: dict[str, Callable[[list[ResultFile]], list[Sheet]]] = {
    "methods": training.sheets,
    "isoflop": isoflop.sheets,
    "table1": table1.sheets,
    "query_norm_isoflop": isoflop.sheets,
    **{suite: arms.sheets(form) for suite, form in arms.FORMS.items()},
    "layer_speed": speed.sheets,
    "decode_speed": speed.sheets,
    "retrieval_speed": speed.sheets,
    "experts_speed": speed.sheets,
    "model_speed": speed.sheets,
    "tuning": training.sheets,
    "tuning_isoflop": training.sheets,
    "flops": flops.sheets,
}
