"""The report: one page with everything inside, failures first, and no request to anywhere."""

import importlib
import platform
import re
import sys
from base64 import b64decode
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from scripts import make_figures
from yolotrt_lab import __version__, plots
from yolotrt_lab import page as page_module
from yolotrt_lab.errors import MissingPackageError
from yolotrt_lab.notebooks import Failure, Run
from yolotrt_lab.page import write_report

MADE = datetime(2026, 11, 23, 20, 54)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ELSEWHERE = """
<script src="https://example.org/a.js"></script><link rel="stylesheet" href="//example.org/a.css">
<iframe src="https://example.org/"></iframe><style>@import url(//example.org/b.css);</style>
<style>i { background: url('https://example.org/c.png') }</style><style>b { color: red }</style>
"""
LONG = f"https://example.org/{'x' * 300}.png"
FAILURE = Failure(2, "1 / (a < b)", "ZeroDivisionError: <by zero>")


FIGURE = new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})


def html(text):
    return new_output("display_data", data={"text/html": text})


def read(report):
    return BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser")


def executed(folder, name, cells, failure=None):
    """A run whose executed copy holds these cells."""
    output = folder / f"{name}-executed.ipynb"
    nbformat.write(new_notebook(cells=cells), output)
    return Run(folder / f"{name}.ipynb", output, 1.4, failure)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "at-hand.png").write_bytes(b64decode(PNG))
    coloured = "\x1b[38;5;28;01mraise\x1b[39m"
    error = new_output("error", ename="ZeroDivisionError", evalue="by zero", traceback=[coloured])
    good = [
        new_markdown_cell("# The symptom\n\n## Where it goes\n\n[below](#The-end), [the web](https://example.org/a)"),
        new_code_cell("frames = 7", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("import numpy\nplot()", outputs=[FIGURE, FIGURE]),
        new_code_cell("df", outputs=[html("<table><tr><td>41.5</td></tr></table>")]),
        new_markdown_cell("## The end\n\n![far](https://example.org/far.png) ![at hand](at-hand.png)"),
        new_code_cell("widget", outputs=[html(f'{ELSEWHERE}<img src="{LONG}" alt="long">')]),
    ]
    bad = [
        new_markdown_cell("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]}),
        new_markdown_cell("# Failing\n\n## The end"),
        new_markdown_cell("[1](01-symptom.ipynb) [2](01-symptom.ipynb#The-end) [3](03.ipynb)"),
        new_code_cell("1 / (a < b)\nx", outputs=[error]),
    ]
    runs = [executed(folder, "01-symptom", good), executed(folder, "02-failing", bad, FAILURE)]
    target = write_report(runs, folder / "new" / "report.html", made=MADE)
    assert target == folder / "new" / "report.html"
    return read(target)


def test_the_contents_name_every_notebook_and_its_headings(page):
    entries = [(link.get_text(), link["href"]) for link in page.nav.find_all("a")]
    assert entries == [
        ("The symptom", "#01-symptom"),
        ("Where it goes", "#01-symptom.Where-it-goes"),
        ("The end", "#01-symptom.The-end"),
        ("Failing", "#02-failing"),
        ("The end", "#02-failing.The-end"),
    ]


def test_links_stay_on_the_page_and_ids_are_unique(page):
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.find_all("a", href=re.compile("^#"))} <= set(ids)
    links = [page.main.find("a", string=text)["href"] for text in ("below", "1", "2", "3")]
    assert links == ["#01-symptom.The-end", "#01-symptom", "#01-symptom.The-end", "03.ipynb"]


def test_figures_are_inside_the_page_and_described(page):
    images = [(image["alt"], image["src"]) for image in page.find_all("img")]
    names = ["Figure 1 of 01-symptom", "Figure 2 of 01-symptom", "at hand"]
    assert images == [(name, f"data:image/png;base64,{PNG}") for name in names]


def test_nothing_is_loaded_from_elsewhere(page):
    assert page.find_all(["link", "iframe", "object", "embed", "base"]) == []
    assert page.find_all("script", src=True) == []
    assert [tag["src"] for tag in page.find_all(src=True) if not tag["src"].startswith("data:")] == []
    styles = "".join(style.get_text() for style in page.find_all("style"))
    assert not re.search(r"@import|url\(", styles)
    assert "b { color: red }" in styles
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; base-uri 'none'; img-src data:;")
    assert "http" not in policy
    links = {link["href"]: link.get_text() for link in page.main.find_all("a", href=re.compile("^https"))}
    assert links == {"https://example.org/a": "the web", "https://example.org/far.png": "far", LONG: "long"}


def test_code_is_folded_under_its_first_line_except_where_it_matters(page):
    folds = {fold.summary.get_text().strip(): fold.has_attr("open") for fold in page.main.find_all("details")}
    assert folds == {"frames = 7": True, "import numpy": False, "df": False, "widget": False, "1 / (a < b)": True}
    assert "plot" in page.main.find_all("details")[1].get_text()


def test_outputs_are_shown(page):
    assert page.find("td", string="41.5")
    assert page.select_one(".output_error pre").get_text().strip() == "raise"
    assert page.select("pre span[style]") == []


def test_failures_come_first_and_say_where_and_why(page):
    facts = page.header.select_one(".run").get_text().split(" · ")
    assert facts == ["2 notebooks, 3 s in all", "1 failed", f"yolotrt_lab {__version__}", "2026-11-23 20:54"]
    [banner] = page.header.select(".failure")
    assert banner.p.get_text() == "02-failing failed at cell 2: 1 / (a < b)"
    assert banner.a["href"] == "#02-failing"
    assert banner.pre.get_text() == "ZeroDivisionError: <by zero>"
    assert "An Exception" not in page.get_text()
    assert page.nav.select_one(".failed").find_parent("li").a.get_text() == "Failing"


def test_a_notebook_without_output_or_title_still_has_its_place(tmp_path):
    lost = Run(Path("lost.ipynb"), tmp_path / "lost.ipynb", 0.2, Failure(0, "", "RuntimeError: no kernel"))
    untitled = executed(tmp_path, "un titled", [new_code_cell("x = 1")])
    page = read(write_report([lost, untitled], tmp_path / "report.html", made=MADE))
    links = {link.get_text(): link["href"] for link in page.nav.find_all("a")}
    assert links == {"lost": "#lost", "un titled": "#un-titled"}
    assert page.main.section.h1.get_text() == "lost"
    assert page.header.select_one(".failure p").get_text() == "lost failed before its first cell"


def test_the_page_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackageError, match=r"(?s)jinja2 is not installed.*pip install.*\[notebooks\]"):
        importlib.reload(page_module)


def test_html_that_a_script_fills_keeps_the_id_by_which_it_is_found(tmp_path):
    filled = '<div id="place"></div><script>document.getElementById("place").textContent = "a < b";</script>'
    cells = [new_markdown_cell("# Title"), new_code_cell("drawn", outputs=[html(filled)])]
    report = write_report([executed(tmp_path, "01-drawn", cells)], tmp_path / "report.html", made=MADE)
    page = report.read_text(encoding="utf-8")
    assert filled in page
    assert 'id="01-drawn.Title"' in page


def drawn(title):
    """What a notebook's kernel shows of a figure of the lab."""
    figure, ax = plots.figure(title=title)
    ax.plot([1, 2], label="early < late & more")
    ax.set(xlabel="frame", ylabel="latency [ms]")
    ax.text(0, 1, "driver 580.159.04")
    ax.legend()
    plots.stamp(figure, "recorded on a GPU", "simulated, preset x")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return new_output("display_data", data={"image/svg+xml": plots.as_svg(figure), "text/plain": "<Figure>"})


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A page of vector figures, claims, raw code, names of threads and notebooks, and a long script twice."""
    folder = tmp_path_factory.mktemp("figures")
    (folder / "card.md").touch()
    script = html(f"<script>const long = '{'x' * 60_000}';</script>")
    says = new_output("stream", text="this run is simulated, preset x\n")
    claims = new_code_cell(
        "assert True", metadata={"tags": ["claims"]}, outputs=[new_output("stream", text="7 claims hold\n")]
    )
    raw = new_code_cell("raw()\nmore()", metadata={"tags": ["raw"]})
    one = [
        new_markdown_cell("# One\n\nSee notebooks 01 and 02, a/b-c#12, `d/e#3`, [the card](card.md) and notebook 09."),
        new_code_cell("plot()", outputs=[says, drawn("it climbs & stays"), drawn("")]),
        raw,
        claims,
    ]
    two = [new_markdown_cell("# Two"), raw, new_code_cell("both", outputs=[script, script])]
    runs = [executed(folder, "01_one", one), executed(folder, "02_two", two)]
    target = write_report(runs, folder / "out" / "report.html", made=MADE)
    return target, read(target)


def test_a_figure_has_a_permalink_its_title_as_text_its_sources_and_a_description(figures):
    first, second = figures[1].main.find_all("figure")
    assert first.figcaption.get_text() == "Figure 01.1 it climbs & stays"
    assert first.figcaption.a["href"] == f"#{first['id']}" == "#01_one.figure-1"
    assert first.select_one(".source").get_text() == "recorded on a GPU · simulated, preset x"
    assert first.img["alt"] == "it climbs & stays. Labels: frame, latency [ms], driver 580.159.04, early < late & more"
    assert second.figcaption.get_text().strip() == "Figure 01.2"


def test_a_figure_is_an_svg_without_what_stands_beside_it_whose_ink_suits_the_page(figures):
    first, second = (unquote(each.img["src"]) for each in figures[1].main.find_all("figure"))
    assert first.startswith("data:image/svg+xml;charset=utf-8,<svg")
    root = ElementTree.fromstring(first.partition(",")[2])
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"latency [ms]", "early < late & more", "driver 580.159.04"} <= set(texts)
    assert not {"it climbs & stays", "recorded on a GPU"} & set(texts)
    heights = [float(re.search(r"viewBox=\"0 [\d.]+ [\d.]+ ([\d.]+)", each)[1]) for each in (first, second)]
    assert heights[0] < heights[1] < 260  # the title's line is cut off, and each one's stamp
    assert "prefers-color-scheme:dark" in first
    for colour in ("#ffffff", "#000000", "#eeeeee"):
        assert f": {colour}" not in first


def test_claims_are_folded_under_how_many_hold(figures):
    [fold] = figures[1].select("details.claims")
    assert fold.summary.get_text() == "7 claims hold"
    assert not fold.has_attr("open")
    assert len(re.findall("7 claims hold", figures[1].main.get_text())) == 1


def test_raw_code_is_open_where_it_first_stands(figures):
    folds = [fold for fold in figures[1].main.find_all("details") if "raw()" in fold.summary.get_text()]
    assert [fold.has_attr("open") for fold in folds] == [True, False]


def test_threads_notebooks_and_files_are_linked_by_name(figures):
    links = {link.get_text(): link["href"] for link in figures[1].main.p.find_all("a")}
    assert links == {
        "01": "#01_one",
        "02": "#02_two",
        "a/b-c#12": "https://github.com/a/b-c/issues/12",
        "the card": "../card.md",
    }


def test_a_long_script_stands_once(figures):
    assert figures[0].read_text(encoding="utf-8").count("x" * 60_000) == 1


def test_the_header_says_of_what_the_page_is(figures):
    facts = {row.dt.get_text(): row.dd.get_text() for row in figures[1].header.find_all("div")}
    assert facts["device"] == "simulated, preset x"
    assert f"Python {platform.python_version()}, numpy {np.__version__}" in facts["versions"]
    assert figures[1].select(".results") == []  # their notebooks are not on this page


def test_the_four_results_are_those_of_the_data_that_ships(tmp_path):
    stems = ["01_reproduce", "04_nsight", "03_pinned_fix", "07_speed_of_light"]
    runs = [executed(tmp_path, stem, [new_markdown_cell(f"# {stem}")]) for stem in stems]
    page = read(write_report(runs, tmp_path / "report.html", made=MADE))
    cards = page.select(".results li")
    assert [card.a["href"] for card in cards] == [f"#{stem}" for stem in stems]
    numbers = [card.strong.get_text() for card in cards]
    assert numbers == ["0.007 → 22.8 ms", "14.1 of 15.3 ms", "2.3 times the frames", "3,295 → 85 us"]
    shipped, drawn = page_module.shipped_results(), make_figures.results()
    assert [(each["number"], each["text"]) for each in shipped] == [(each["number"], each["text"]) for each in drawn]
    assert all(card.img["alt"] and card.img["src"].startswith("data:image/svg+xml;charset=utf-8,") for card in cards)
