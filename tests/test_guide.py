"""The guide: each page is reachable, promises, is short; its examples run and its numbers are recorded."""

import csv
import re
from pathlib import Path

import pytest

from tests.examples import examples, run

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PROMISE = "After this page you can "
MOST_WORDS = 500
# Run by tests/interop, where transformers is installed.
ELSEWHERE = {"transformers.md"}
EXECUTED = [page for page in PAGES if examples(page) and page.name not in ELSEWHERE]
each = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def contents() -> list[str]:
    """What the tables of contents of the guide name."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    lines = [line for tree in trees for line in tree.splitlines()]
    return [re.sub(r".*<(.*)>", r"\1", line) for line in lines if line and line[0] != ":"]


def prose(text: str) -> str:
    """Without what is generated, executed or a directive."""
    text = re.sub(r"<!-- (?:table|says) .*?<!-- end -->", "", text, flags=re.DOTALL)
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def test_contents_are_the_pages() -> None:
    own = [name for name in contents() if not name.startswith("../")]
    assert sorted([*own, "index"]) == sorted(page.stem for page in PAGES)
    assert len(set(contents())) == len(contents())
    assert all((DOCS / f"{name}.md").exists() for name in contents())


def test_the_index_says_what_each_page_is_for() -> None:
    shown = prose((DOCS / "index.md").read_text())
    assert not [name for name in contents() if f"]({name}.md)" not in shown]


@each
def test_a_page_starts_with_what_its_reader_can_do_after_it(page: Path) -> None:
    title, blank, promise, *_ = page.read_text().splitlines()
    assert title.startswith("# ")
    assert not blank
    assert promise.startswith(PROMISE)
    assert promise.endswith(".")


@each
def test_a_page_has_one_title_and_is_short(page: Path) -> None:
    text = prose(page.read_text())
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert len(text.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(page)


def test_the_pages_that_need_an_example_have_one() -> None:
    assert {page.stem for page in EXECUTED} >= {"start", "layer", "sizes", "add-layer"}


def test_examples_keep_their_lines_and_their_names(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# x\n\n```python\na = 1\n```\n\ntext\n\n```python\nb = a + 1\nraise KeyError\n```\n"
    )
    with pytest.raises(KeyError) as caught:
        run(page)
    assert caught.traceback[-1].lineno == 10  # counted from 0


def test_every_public_name_is_in_the_reference() -> None:
    import peer
    from peer import optim

    reference = (DOCS / "api.md").read_text()
    public = {f"peer.{name}" for name in peer.__all__ if name != "__version__"}
    public |= {
        f"peer.optim.{name}"
        for name, thing in vars(optim).items()
        if isinstance(thing, type) and issubclass(thing, optim.RowOptimizer)
    }
    assert not [name for name in public if not re.search(rf":: {name}$", reference, re.MULTILINE)]


def shown(page: str, record: str) -> list[list[str]]:
    """The rows of the table that follows the link to `record`, its header first."""
    text = (DOCS / page).read_text().split(f"[{record}]")[1]
    rows = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (rows[0], *rows[2:])]


def table(name: str) -> list[dict[str, str]]:
    with (ROOT / "results" / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recorded(record: str, phase: str, tokens: int) -> dict[str, tuple[float, float]]:
    """Row → (median ms, peak MiB) at N = 128², h·k = 128, d = 256 and equal FLOPs."""
    group = f"{phase} T={tokens} D=256 N=16384 hk=128 float32 uniform, equal forward flops"
    rows = [row for row in table(record) if row["group"] == group]
    return {row["row"]: (float(row["median ms"]), float(row["peak MiB"])) for row in rows}


def test_times_of_a_step_are_the_records() -> None:
    rows = shown("speed.md", "layer_speed-tiny")[1:]
    of_256, of_64 = (recorded("layer_speed-tiny", "training step", tokens) for tokens in (256, 64))
    for layer, *cells in rows:
        numbers, expected = list(map(float, cells)), (*of_256[layer], *of_64[layer])
        assert numbers[::2] == pytest.approx(expected[::2], rel=5e-4), layer
        assert numbers[1::2] == pytest.approx(expected[1::2], abs=0.05), layer


def test_times_of_decoding_are_the_records() -> None:
    rows = shown("speed.md", "decode_speed-tiny")[1:]
    found = [recorded("decode_speed-tiny", "inference", tokens) for tokens in (1, 8, 64, 256)]
    for layer, *cells in rows:
        expected = [times[layer][0] for times in found]
        assert [float(c) for c in cells] == pytest.approx(expected, rel=5e-4), layer


def test_what_backward_keeps_is_the_records() -> None:
    rows = [row for row in table("flops-tiny-costs") if row["dim"] == "1024"]
    kept = {(row["layer"], row["impl"]): round(float(row["saved MiB"])) for row in rows}
    of = {impl: kept["peer", impl] for impl in ("reference", "aten", "native", "triton")}
    assert of["aten"] == of["native"]
    text = " ".join((DOCS / "speed.md").read_text().split())
    assert f'{of["reference"]:,} MiB with `impl="reference"`, {of["aten"]} MiB with `aten`' in text
    assert f"{of['triton']} MiB with `triton` and {kept['dense', '–']} MiB for the dense" in text


def test_widths_from_which_peer_is_cheaper_are_the_records() -> None:
    widths = {int(row["experts"]): row for row in table("flops-tiny-crossovers")}
    peer = [widths[N]["PEER's FLOPs ≤ FFW's"] for N in (1024**2, 128**2)]
    sizes, budgets = ((DOCS / f"{page}.md").read_text() for page in ("sizes", "budgets"))
    assert f"from d = {peer[0]} at N = 1024² and d = {peer[1]} at N = 128²" in sizes
    router = widths[1024**2]["router's FLOPs ≤ FFW's"]
    assert f"{router} for\nthe router's FLOPs" in budgets


def test_what_is_cited_exists() -> None:
    import peer

    page, card = (DOCS / "cite.md").read_text(), (ROOT / "CITATION.cff").read_text()
    assert f"version = {{{peer.__version__}}}" in page
    assert f"version: {peer.__version__}\n" in card
    ((suite, commit),) = re.findall(r"Record (\S+) of commit (\w+)", page)
    assert list((ROOT / "results" / "records" / suite).glob(f"{commit}-*.json"))
