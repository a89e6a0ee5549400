"""The report of a small store: its words, its tables, and that every number leads to its record."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from suites.figures.style import METHODS
from suites.records.cells import cells
from suites.records.commits import Repository
from suites.records.record import Gpu, Record
from suites.records.store import read
from suites.report import charts
from suites.report.citation import CITATION, bibtex
from suites.report.grid import of_rows
from suites.report.headline import powers
from suites.report.site import site
from suites.report.sources import Sources, anchor
from suites.report.templates import embedded
from suites.report.trade import front
from suites.verbs.tables import tables_of
from tests.lab import Lab, training_case

LOSSES = {"dense": 1.9, "expert_choice": 1.85, "pkm": 1.6, "peer": 1.7}
BUDGET = 5e11


def run(layer: str, seed: int, **metrics: float) -> Record:
    numbers = {
        "validation_loss_nats": LOSSES[layer] + seed / 100,
        "training_flops": BUDGET,
        "forward_flops_per_token": 1000,
        "parameters": 5000,
        "active_parameters": 400,
        "tokens": 1000,
        "validation_perplexity": 6.0,
        "validation_bits_per_byte": 2.5,
        "tokens_per_s": 1000.0,
        "train_s": 2.5,
        "peak_bytes": 2**28,
        "evaluation_tokens": 64,
    }
    return Record(
        case=training_case(layer, {}, seed, BUDGET), status="ok", metrics=numbers | metrics
    )


@pytest.fixture
def made(lab: Lab) -> dict[str, str]:
    """The pages, as text, of one record of four methods and three seeds."""
    lab.measure(lab.commit(), [run(layer, seed) for layer in LOSSES for seed in range(3)])
    return pages(lab)


def test_each_suite_is_shown_at_its_largest_scale(lab: Lab) -> None:
    """A profile that holds one suite hid those that only smaller profiles have."""
    commit = lab.commit()
    lab.measure(commit, [run(layer, seed) for layer in LOSSES for seed in range(3)])
    small = [run(layer, seed) for layer in ("dense", "peer") for seed in range(3)]
    lab.measure(commit, small, suite="equal_time", profile="smoke")
    sources = Sources(lab.store, Repository(lab.root))
    assert sources.scale_of("equal_time") == "smoke"
    assert sources.scale_of("methods") == "tiny"
    assert sources.scale_of("keys") is None
    assert {suite: len(files) for suite, files in sources.largest().items()} == {
        "methods": 1,
        "equal_time": 1,
    }
    words = pages(lab)["index.html"]
    assert "equal FLOPs, one size" in words
    assert "equal time" in words


def test_a_long_table_shows_its_newest_commit(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 records of 100 cells made a first page of 8 MB."""
    monkeypatch.setattr("suites.report.site.MOST_ROWS", 4)
    commits = [lab.commit(f"change {number}") for number in range(6)]
    for commit in commits:
        lab.measure(commit, [run(layer, 0) for layer in ("dense", "peer")], suite="tuning")
    grid = grids(pages(lab)["index.html"])["tuning-tiny"]
    shown = {row["cells"][grid["columns"].index("commit")] for row in grid["rows"]}
    assert shown == {commits[-1][:12]}
    assert "10 rows of older commits are on the pages of their records" in grid["notes"]


def pages(lab: Lab) -> dict[str, str]:
    found = site(lab.store, Repository(lab.root), dict(tables_of(lab.store)))
    return {path: content.decode() for path, content in found.items()}


def grids(page: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return {grid["id"]: grid for grid in map(json.loads, found)}


class Addresses(HTMLParser):
    """What a page links to and loads, and the ids that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[key]) for key in ("href", "src") if given.get(key)]
        self.ids += [str(given["id"])] if "id" in given else []


def test_the_first_screen_says_the_verdict_its_interval_and_its_scale(made) -> None:
    page = made["index.html"]
    assert "In 2 of 3 comparisons PEER is better, in 1 worse, and 0 are undecided." in page
    assert (
        "PEER is ahead of dense (0.20) and MoE, expert choice (0.15); it is behind PKM (0.10)."
        in page
    )
    assert "5·10¹¹ to 5·10¹¹ training FLOPs, 10⁷ times below" in page
    assert "3 seeds" in page


def test_chance_is_not_a_win(lab: Lab) -> None:
    losses = {("dense", 0): 1.7, ("dense", 1): 1.9, ("peer", 0): 1.8, ("peer", 1): 1.7}
    records = [run(*key, validation_loss_nats=loss) for key, loss in losses.items()]
    lab.measure(lab.commit(), records)
    page = pages(lab)["index.html"]
    assert "In 0 of 1 comparisons PEER is better, in 0 worse, and 1 are undecided." in page


def test_every_link_leads_to_a_page_and_to_a_cell(made) -> None:
    parsed = {path: Addresses(page) for path, page in made.items() if path.endswith(".html")}
    assert len(parsed) == 2
    for path, page in parsed.items():
        links = page.links + [
            row["link"]
            for grid in grids(made[path]).values()
            for row in grid["rows"]
            if row["link"]
        ]
        for link in links:
            target, _, fragment = link.partition("#")
            if target.startswith("data:"):
                continue
            assert ":" not in target, link
            reached = (Path("/") / path).parent / target if target else Path("/") / path
            name = reached.resolve().relative_to("/").as_posix()
            assert name in made, (path, link)
            if fragment.startswith("c-"):
                assert fragment in parsed[name].ids
        assert len(set(page.ids)) == len(page.ids), path


def test_a_number_leads_to_its_runs(made, lab: Lab) -> None:
    (row,) = (
        row
        for row in grids(made["index.html"])["methods-tiny"]["rows"]
        if row["cells"][0] == "peer"
    )
    page, _, words = row["link"].partition("#")
    assert words == "layer=peer"
    (source,) = Sources(lab.store, Repository(lab.root)).measured
    (key,) = (key for key, cell in cells(source.file).items() if cell.case["layer"] == "peer")
    assert f'id="{anchor(key)}" data-words="' in made[page]
    for fact in (
        source.file.code.commit,
        "one, 2 cores",
        "threads",
        "seed 2",
        "1.72",
        "Python 3.12.1",
    ):
        assert fact in made[page], fact


def test_samples_of_a_time_are_shown_and_curves_named(lab: Lab) -> None:
    series = {"seconds": [0.125, 0.25], "train_loss_nats": [float(n) for n in range(80)]}
    record = run("dense", 0).model_copy(update={"series": series})
    lab.measure(lab.commit(), [record])
    (page,) = (
        p for path, p in pages(lab).items() if path.startswith("records/methods") and "html" in path
    )
    assert "2 samples:\n  0.125, 0.25" in page
    assert "Curves over training, in the file: train_loss_nats." in page


def test_a_failed_run_says_why(lab: Lab) -> None:
    failed = Record(case=training_case("pkm", {}, 0, BUDGET), status="oom", reason="<no> memory")
    lab.measure(lab.commit(), [run("dense", 0), failed])
    made = pages(lab)
    (page,) = (
        p for path, p in made.items() if path.startswith("records/methods") and "html" in path
    )
    assert "oom: &lt;no&gt; memory" in page
    (row,) = grids(made["index.html"])["every-record"]["rows"]
    assert row["cells"][4] == [1.0, "1"]


def test_without_a_gpu_it_says_so_and_with_one_it_does_not(made, lab: Lab) -> None:
    assert "No GPU has been measured." in made["index.html"]
    (path,) = (lab.store.root / "records").rglob("*.json")
    gpu = Gpu(name="a GPU", uuid="u", driver="1", cuda="13", memory_bytes=1, power_limit_watts=None)
    file = read(path)
    path.unlink()
    where = file.environment.model_copy(update={"gpu": gpu})
    lab.measure(file.code.commit, file.records, environment=where)
    page = pages(lab)["index.html"]
    assert "No GPU has been measured." not in page
    assert "a GPU" in page


def shifted(nats: float) -> list[Record]:
    """Four methods, PEER's losses shifted."""
    losses = LOSSES | {"peer": LOSSES["peer"] + nats}
    return [
        run(layer, seed, validation_loss_nats=loss + seed / 100)
        for layer, loss in losses.items()
        for seed in range(3)
    ]


def test_neighbouring_commits_are_compared_and_a_superseded_record_has_a_page(lab: Lab) -> None:
    paths = []
    for nats in (0.0, 0.1):
        paths.append(lab.measure(lab.commit(), shifted(nats)))
        lab.git("add", "--all")
        lab.commit("record")
    paths[0].unlink()
    lab.git("add", "--all")
    lab.commit("supersede")
    made = pages(lab)
    found = grids(made["index.html"])
    (row,) = found["compared"]["rows"]
    assert row["cells"][1:3] == [path.name[:12] for path in paths]
    counts = dict(zip(found["compared"]["columns"], row["cells"], strict=True))
    assert counts["worse"][0] > 0
    assert counts["better"][0] == 0
    (change,) = (
        row["cells"]
        for row in found["changed"]["rows"]
        if row["cells"][2] == "validation_loss_nats"
    )
    assert change[1:4] == ["peer", "validation_loss_nats", "WORSE"]
    gone = paths[0].relative_to(lab.store.root)
    assert gone.with_suffix(".html").as_posix() in made
    assert json.loads(made[gone.as_posix()])["code"]["commit"].startswith(paths[0].name[:12])


def test_tags_are_compared_too(lab: Lab) -> None:
    for tag, nats in (("v1", 0.0), ("v2", 0.1)):
        lab.measure(lab.commit(), shifted(nats))
        lab.git("tag", tag)
    rows = grids(pages(lab)["index.html"])["compared"]["rows"]
    assert [row["cells"][1][:2] for row in rows][1:] == ["v1"]


def test_a_new_level_is_drawn_where_it_begins(lab: Lab) -> None:
    commits = []
    for nats in (0.0, 0.001, 0.0, 0.3, 0.301, 0.3):
        commits.append(lab.commit())
        lab.measure(commits[-1], shifted(nats))
    page = pages(lab)["index.html"]
    named = {row["cells"][1]: row["cells"] for row in grids(page)["levels"]["rows"]}
    assert named["peer"][-1] == commits[3][:12]
    assert named["dense"][-1] == "–"
    assert page.count("New levels begin at") == 1


def test_claims_stand_by_verdict_and_are_counted(made) -> None:
    page = made["index.html"]
    grid = grids(page)["claims-tiny"]
    words = [row["cells"][2].split(" (")[0] for row in grid["rows"]]
    assert words == sorted(words, key=("agrees", "disagrees", "undecided", "not run").index)
    assert "agrees" in words
    assert f"profile tiny: {words.count('agrees')} agrees, " in page


def test_one_commit_has_no_history_and_says_so(made) -> None:
    assert "there is nothing to compare" in made["index.html"]
    assert "so there is no history" in made["index.html"]


def test_what_nothing_beats() -> None:
    cost, loss = pd.Series([1.0, 2.0, 2.0, 3.0]), pd.Series([2.0, 1.0, 3.0, 1.0])
    assert front(cost, loss) == [True, True, False, False]


def test_a_mark_says_its_number_whole_and_leads_to_its_record() -> None:
    mark = {"label": "peer", "says": "2.05001 <nats>", "link": "records/a.html#c-1"}
    rows = charts.rows_of(
        [mark | {"x": x, "value": 2.05001, "low": 2.0, "high": 2.1} for x in (1, 2)]
    )
    drawn = charts.svg(charts.effects(rows, "size"), "A chart")
    assert 'data-says="2.05001 &lt;nats&gt;"' in drawn
    assert 'href="records/a.html#c-1"' in drawn
    assert METHODS["peer"][1] in drawn
    assert "invalid" not in drawn


def test_nothing_is_loaded_from_elsewhere(made) -> None:
    for path, page in made.items():
        if path.endswith((".html", ".css")):
            assert not re.search(
                r"""(?:src|href)=["']?(?:https?:)?//|url\(["']?http|@import""", page
            ), path


def test_a_script_element_holds_any_text() -> None:
    text = embedded(["</script><!--"])
    assert "<" not in text
    assert json.loads(text) == ["</script><!--"]


def test_a_table_keeps_numbers_beside_their_text() -> None:
    grid = of_rows("g", "t", [{"n": (1.5, "1.50"), "what": "x"}], ["page#c"])
    assert grid.model_dump()["rows"] == [
        {"cells": [(1.5, "1.50"), "x"], "link": "page#c", "paper": None}
    ]


def test_powers() -> None:
    assert powers("4.5e+10 at 1e7, -0.5 of a-1") == "4.5·10¹⁰ at 10⁷, −0.5 of a-1"


def test_the_citation_is_that_of_the_repository() -> None:
    import yaml

    stated = yaml.safe_load(CITATION.read_text())
    own, paper = bibtex("a" * 40).split("@article")
    assert stated["title"] in own
    assert all(author["name"] in own for author in stated["authors"])
    assert f"{stated['version']}, commit {'a' * 12}" in own
    (reference,) = stated["references"]
    assert reference["title"] in paper
    assert reference["authors"][0]["family-names"] in paper


def test_the_verb_writes_it_and_says_where(command, lab: Lab) -> None:
    lab.measure(lab.commit(), [run(layer, seed) for layer in LOSSES for seed in range(3)])
    stale = lab.store.root / "report" / "records" / "gone.html"
    stale.parent.mkdir(parents=True)
    stale.touch()
    done = command("report", "--results", lab.store.root)
    assert done.status == 0, done.err
    start = lab.store.root / "report" / "index.html"
    assert f"open {start}" in done.out
    assert start.exists()
    assert not stale.exists()


def test_without_records_it_says_how_to_make_some(command, lab: Lab) -> None:
    done = command("report", "--results", lab.store.root)
    assert done.status == 2
    assert "make some with `python -m suites run`" in done.err
