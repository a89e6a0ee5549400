"""Figures: one look per method, bytes that repeat and are checked, titles and legends that hide nothing."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from suites.figures import FIGURES, rendered
from suites.figures.style import METHODS, styles
from suites.layers import LAYERS
from suites.records.store import RESULTS, Store
from suites.verbs.figures import command as figures
from tests.lab import Lab

FILES = {file.suite: file for _, file in Store(RESULTS).files("records") if file.suite in FIGURES}


def test_a_method_looks_the_same_everywhere_and_like_no_other() -> None:
    looks = styles([*METHODS, "a_new_layer", "another"])
    layers = [looks[name] for name in (*LAYERS, "a_new_layer", "another") if name in looks]
    assert len({look["color"] for look in layers}) == len(layers)
    assert len({look["marker"] for look in layers}) == len(layers)
    alone = styles(["peer auto", "peer reference"])
    assert {look["color"] for look in alone.values()} == {looks["peer"]["color"]}
    assert len({look["linestyle"] for look in alone.values()}) == 2
    assert alone["peer auto"]["label"] == "PEER auto"


@pytest.mark.parametrize("suite", FILES)
def test_titles_and_legends_lie_inside_and_beside_the_panels(suite: str) -> None:
    for figure in FIGURES[suite]([FILES[suite]]).values():
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * figure.dpi
        texts = [figure._suptitle, *(axes.title for axes in figure.axes)]
        boxes = [text.get_window_extent() for text in texts if text is not None and text.get_text()]
        for box in boxes:
            assert box.x0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
        for legend in figure.legends:
            for axes in figure.axes:
                assert not legend.get_window_extent().overlaps(axes.get_window_extent())
        assert all(axes.get_legend() is None for axes in figure.axes)


def test_ids_are_numbers_in_their_order() -> None:
    (figure,) = FIGURES["equal_time"]([FILES["equal_time"]]).values()
    text = rendered(figure)["svg"].decode()
    numbers = [int(number) for number in re.findall(r'id="i(\d+)"', text)]
    assert len(numbers) > 3
    assert all(one < other for one, other in pairwise(numbers))
    assert not re.search(r"[0-9a-f]{10}\"", text)
    assert set(re.findall(r"#i(\d+)", text)) <= set(map(str, numbers))


def test_a_last_bit_of_a_coordinate_changes_no_byte() -> None:
    """A text at x = 404.3771875 was written 404.377187 on one machine and 404.377188 on another."""
    drawn = []
    for x in (404.3771874999999, 404.3771875000001):
        figure = Figure(dpi=72, figsize=(10, 1))
        figure.text(x / 720, 0.5, "x = 0.4043771875")
        drawn.append(rendered(figure)["svg"])
    assert drawn[0] == drawn[1]
    assert b"x = 0.4043771875" in drawn[0]


def test_an_edited_and_an_orphaned_figure_are_found(lab: Lab, tmp_path: Path, capsys) -> None:
    folder = lab.store.root / "records" / "equal_time-tiny"
    folder.mkdir(parents=True)
    for path in (RESULTS / "records" / "equal_time-tiny").glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    given = ["--results", str(lab.store.root)]
    assert figures.main(given, standalone_mode=False) == 0
    assert figures.main([*given, "--check"], standalone_mode=False) == 0
    drawn = lab.store.root / "figures" / "equal_time-tiny" / "equal_time.svg"
    drawn.write_text(drawn.read_text() + "\n")
    (drawn.parent / "orphan.png").write_bytes(b"")
    capsys.readouterr()
    assert figures.main([*given, "--check"], standalone_mode=False) == 1
    out = capsys.readouterr().out
    assert "equal_time.svg differs from what its records give" in out
    assert "orphan.png comes from no record" in out
