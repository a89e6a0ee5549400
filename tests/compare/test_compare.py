"""Every verdict of a comparison, from records of real commits in a scratch repository."""

import csv
import io
import json
from pathlib import Path

import pytest

from suites.compare.findings import compare
from suites.compare.sides import committed, side
from suites.compare.verdict import Row, exit_status
from suites.errors import UserError
from suites.records.cells import cells
from suites.records.commits import Repository
from suites.records.names import labels
from suites.records.record import Code, Record
from suites.records.store import RESULTS, Store, write
from suites.speed.decode_speed import PROFILES
from tests.lab import Lab, environment, methods, result_file, training

LOSS, SPEED, FLOPS = "validation_loss_nats", "tokens_per_s", "forward_flops_per_token"


def rows(lab: Lab, head: list[Record], base: list[Record] | None = None, **changes) -> list[Row]:
    """BASE measured with `base`, HEAD with `head` and `changes`."""
    first, second = lab.commit(), lab.commit()
    lab.measure(first, base)
    lab.measure(second, head, **changes)
    repository = Repository(lab.root)
    return compare(side(first, lab.store, repository), side(second, lab.store, repository))


@pytest.mark.parametrize(
    ("head", "metric", "verdict", "status"),
    [
        (methods(), LOSS, "SAME", 0),
        (methods(0.04), LOSS, "WORSE", 1),
        (methods(-0.04), LOSS, "BETTER", 0),
        (methods(1e-9), LOSS, "SAME", 0),
        (methods(speed=800.0), SPEED, "SLOWER", 1),
        (methods(speed=1200.0), SPEED, "FASTER", 0),
        (methods(speed=1001.0), SPEED, "SAME", 0),
        (methods(forward_flops_per_token=1001), FLOPS, "MORE", 1),
        (methods(forward_flops_per_token=999), FLOPS, "FEWER", 0),
    ],
)
def test_verdicts(lab: Lab, verdicts, head, metric: str, verdict: str, status: int) -> None:
    found = rows(lab, head)
    assert verdicts(found)["peer", metric] == verdict
    assert exit_status(found) == status


def test_ratio_of_a_loss_is_that_of_perplexity(lab: Lab) -> None:
    found = next(r for r in rows(lab, methods(0.04)) if (r.cell, r.metric) == ("peer", LOSS))
    assert found.ratio == pytest.approx(1.0408, abs=1e-4)
    assert found.low == pytest.approx(found.high, rel=1e-6)  # every seed moved alike


def test_scattered_seeds_decide_nothing(lab: Lab, verdicts) -> None:
    scattered = [training("peer", seed, loss) for seed, loss in enumerate((1.6, 1.72, 1.85))]
    found = rows(lab, [*methods()[:3], *scattered])
    assert verdicts(found)["peer", LOSS] == "UNDECIDED"
    assert exit_status(found) == 3


def test_one_seed_decides_nothing(lab: Lab, verdicts) -> None:
    base = [training("peer", 0, 1.70)]
    found = rows(lab, [training("peer", 0, 1.75, speed=700.0)], base)
    assert verdicts(found)["peer", LOSS] == verdicts(found)["peer", SPEED] == "UNDECIDED"


@pytest.mark.parametrize(
    "changes", [{"cpu": "another"}, {"packages": {"torch": "2.14.0"}}, {"cores": 64}]
)
def test_time_needs_like_machines_and_losses_do_not(lab: Lab, verdicts, changes: dict) -> None:
    found = rows(lab, methods(0.04), environment=environment(**changes))
    assert verdicts(found)["peer", LOSS] == "WORSE"
    assert verdicts(found)["peer", FLOPS] == "SAME"
    assert verdicts(found)["peer", SPEED] == "INVALID"
    assert next(iter(changes)) in next(r.cause for r in found if r.metric == SPEED)


def test_mixed_machines(lab: Lab) -> None:
    first, second = lab.commit(), lab.commit()
    for cpu in ("one", "two"):
        lab.measure(first, environment=environment(cpu=cpu))
    lab.measure(second, environment=environment(cpu="three"))
    repository = Repository(lab.root)
    sides = [side(commit, lab.store, repository) for commit in (first, second)]
    with pytest.raises(UserError, match="measured on several machines, none of them on both"):
        compare(*sides)
    lab.measure(second, environment=environment(cpu="two"))
    found = compare(sides[0], side(second, lab.store, repository))
    assert {row.verdict for row in found} == {"SAME"}


def test_missing_new_and_failed_cells(lab: Lab, verdicts) -> None:
    added = [training("moe", seed, 1.7) for seed in range(3)]
    failing = [training("peer", seed, None) for seed in range(3)]
    found = rows(lab, failing + added)
    assert verdicts(found) == {
        ("dense", "status"): "REMOVED",
        ("peer", "status"): "FAILED",
        ("moe", "status"): "NEW",
    }
    assert next(r.cause for r in found if r.cell == "peer") == "error: it broke"
    assert exit_status(found) == 1


def test_failed_on_both_sides_is_no_pass(lab: Lab, verdicts) -> None:
    failing = [training("peer", 0, None)]
    found = rows(lab, failing, failing)
    assert verdicts(found) == {("peer", "status"): "INVALID"}
    assert exit_status(found) == 3


def test_a_throttled_cell_is_invalid(lab: Lab, verdicts) -> None:
    case = training("peer", 0, 1.7).case
    throttled = [Record(case=case, status="invalid", reason="throttled")]
    found = rows(lab, throttled, [training("peer", 0, 1.7)])
    assert verdicts(found) == {("peer", "status"): "INVALID"}


def test_nothing_measured(lab: Lab) -> None:
    skipped = [Record(case=training("peer", 0, 1.0).case, status="skipped", reason="no GPU")]
    assert exit_status(rows(lab, skipped, skipped)) == 4
    assert exit_status(rows(lab, [], [])) == 4


def test_a_removed_metric_is_named(lab: Lab, verdicts) -> None:
    found = rows(lab, methods(), methods(router_flops=3))
    assert verdicts(found)["peer", "router_flops"] == "REMOVED"


def test_changed_method_is_invalid(lab: Lab, verdicts) -> None:
    changed = [
        record.model_copy(update={"case": record.case | {"budget_flops": 6e11}})
        for record in methods()
    ]
    found = rows(lab, changed)
    assert verdicts(found) == {("dense", "status"): "INVALID", ("peer", "status"): "INVALID"}
    assert "budget_flops: 500000000000.0 → 600000000000.0" in found[0].cause


def test_causes(lab: Lab) -> None:
    slow = methods(speed=800.0)
    causes = {r.cell: r.cause for r in rows(lab, slow) if r.metric == SPEED}
    assert causes == {"dense": "baseline moved", "peer": "code"}


def test_a_moved_control_invalidates_times(lab: Lab, verdicts) -> None:
    def timed(factor: float) -> list[Record]:
        return [
            Record(
                case={"layer": layer, "repeat": repeat},
                status="ok",
                metrics={"median_ms": factor * (1 + repeat / 1000), "peak_bytes": 100},
            )
            for layer in ("gemm", "peer")
            for repeat in range(3)
        ]

    found = rows(lab, timed(1.2), timed(1.0))
    assert verdicts(found)["peer", "median_ms"] == "INVALID"
    assert verdicts(found)["peer", "peak_bytes"] == "SAME"
    assert "machine moved: control gemm" in found[0].cause
    assert exit_status(found) == 3


def test_the_same_code_cannot_be_the_cause(lab: Lab) -> None:
    code = Code(commit="", dirty=False, sha256="0" * 64)
    first, second = lab.commit(), lab.commit()
    lab.measure(first, code=code.model_copy(update={"commit": first}))
    slow = methods(speed=800.0)
    lab.measure(second, slow, code=code.model_copy(update={"commit": second}))
    repository = Repository(lab.root)
    found = compare(side(first, lab.store, repository), side(second, lab.store, repository))
    assert {r.cause for r in found if r.metric == SPEED} == {
        "noise or machine: the code is the same"
    }


def test_unknown_units_are_no_pass(lab: Lab, verdicts) -> None:
    found = rows(lab, methods(zeal=3.0), methods(zeal=3.0))
    assert verdicts(found)["peer", "zeal"] == "INVALID"
    assert "metric 'zeal' has no known unit" in next(r.cause for r in found if r.metric == "zeal")
    assert exit_status(found) == 3


def test_ancestors_stand_in_and_say_so(lab: Lab, command) -> None:
    first = lab.commit()
    lab.measure(first)
    lab.git("tag", "v1")
    second = lab.commit()
    lab.measure(second, methods(0.04))
    lab.commit()
    done = command("compare", "v1", "main", "--results", lab.root / "results", "--format", "json")
    assert done.status == 1, done.err
    body = json.loads(done.out)
    assert f"those of its ancestor {second[:12]} stand in" in body["notes"][0]
    assert {row["verdict"] for row in body["rows"] if row["metric"] == LOSS} == {"SAME", "WORSE"}


def test_a_record_of_a_rewritten_commit_stands_for_the_one_that_brought_it(lab: Lab) -> None:
    first = lab.commit()
    path = lab.measure("f" * 40)
    lab.git("add", "--", str(path))
    brought = lab.commit("add a record")
    repository = Repository(lab.root)
    assert [one.stands_for for one in committed(lab.store, repository)] == [brought]
    with pytest.raises(UserError, match="has no records at or before it"):
        side(first, lab.store, repository)
    assert len(side("HEAD", lab.store, repository).files) == 1


def test_a_superseded_record_is_read_from_git_until_the_commit_that_removed_it(
    lab: Lab, command
) -> None:
    first = lab.commit()
    old = lab.measure(first)
    lab.git("add", "--", str(old))
    second = lab.commit("add a record")
    new = lab.measure(second, methods(0.04))
    lab.git("rm", "--quiet", "--", str(old))
    lab.git("add", "--", str(new))
    third = lab.commit("measure again")
    repository = Repository(lab.root)
    assert [f.code.commit for f in side(first, lab.store, repository).files] == [first]
    assert [f.code.commit for f in side(third, lab.store, repository).files] == [second]
    done = command("compare", "HEAD~2", "HEAD", "--results", lab.store.root)
    assert done.status == 1, done.err
    assert f"is read from git: {third[:12]} removed it" in done.out
    lab.git("rm", "--quiet", "--", str(new))
    lab.commit("withdraw it")
    with pytest.raises(UserError, match="has no records at or before it"):
        side("HEAD", lab.store, repository)
    done = command("history", "--suite", "methods", "--case", "peer", "--results", lab.store.root)
    assert done.status == 0, done.err


def test_a_timed_cell_is_named_as_it_is_selected() -> None:
    file = next(file for _, file in Store(RESULTS).files("records", "decode_speed-tiny/*.json"))
    selected = {cell.name for cell in PROFILES["tiny"]}
    shown = labels(cells(file)).values()
    assert {f"decode_speed-{name}" for name in shown} <= selected


def test_the_same_record_twice_is_no_pass(lab: Lab, command) -> None:
    lab.measure(lab.commit())
    lab.commit()
    done = command("compare", "HEAD~1", "HEAD", "--results", lab.root / "results")
    assert done.status == 3
    assert "the same record" in done.out


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_formats(lab: Lab, command, form: str) -> None:
    first, second = lab.commit(), lab.commit()
    lab.measure(first)
    lab.measure(second, methods(0.04))
    done = command("compare", first, second[:9], "--results", lab.store.root, "--format", form)
    assert done.status == 1, done.err
    if form == "csv":
        found = list(csv.DictReader(io.StringIO(done.out)))
        assert len(found) == 6
        assert found[0]["base"]
    elif form == "json":
        assert len(json.loads(done.out)["rows"]) == 6
    else:
        assert "1 WORSE" in done.out
        assert done.out.startswith("|") == (form == "markdown")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "HEAD"), "unknown commit 'nowhere'"),
        (("HEAD", "--output=x"), "No such option"),
        (("HEAD", "paper"), "the paper is a BASE"),
        (("HEAD", "HEAD"), "has no records at or before it"),
        (("absent.json", "HEAD"), "cannot read result file"),
    ],
)
def test_bad_sides(lab: Lab, command, arguments: tuple[str, ...], message: str) -> None:
    lab.commit()
    done = command("compare", *arguments, "--results", lab.root / "results")
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_suite_without_records_is_an_error(lab: Lab, command) -> None:
    commit = lab.commit()
    lab.measure(commit)
    done = command("compare", commit, commit, "--suite", "other", "--results", lab.store.root)
    assert done.status == 2
    assert "no records of suite 'other' at or before it; it has methods" in done.err


def test_a_dirty_file_stands_for_no_commit(lab: Lab, command, tmp_path: Path) -> None:
    commit = lab.commit()
    lab.measure(commit)
    dirty = Code(commit=commit, dirty=True, sha256="0" * 64)
    write(tmp_path / "dirty.json", result_file(commit, code=dirty))
    done = command("compare", commit, tmp_path / "dirty.json", "--results", lab.store.root)
    assert done.status == 2
    assert "measured on a dirty tree" in done.err


def test_what_both_sides_lack_is_said_once(lab: Lab, command) -> None:
    lab.measure(lab.commit())
    base, head = lab.commit(), lab.commit()
    done = command("compare", base, head, "--results", lab.store.root)
    said = f"- {base[:12]} and {head[:12]}: no records of methods tiny; those of its ancestor"
    assert said in done.out
    assert done.out.count("no records of methods tiny") == 1


def test_only_changed_leaves_out_what_is_the_same(lab: Lab, command) -> None:
    base, head = lab.commit(), lab.commit()
    lab.measure(base)
    lab.measure(head, methods(0.04))
    whole = command("compare", base, head, "--results", lab.store.root)
    changed = command("compare", base, head, "--only-changed", "--results", lab.store.root)
    assert "SAME" in whole.out.partition("\n\n")[0]
    table, _, below = changed.out.partition("\n\n")
    assert "SAME" not in table
    assert "WORSE" in table
    assert " SAME" in below  # they are still counted
    assert changed.status == whole.status == 1
    again = command("compare", head, head, "--only-changed", "--results", lab.store.root)
    assert "nothing was measured in between" not in again.out
