"""The report: one page with everything inside, failures first, and no request to anywhere."""

import re
import sys
from base64 import b64decode
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from yolotrt_lab import __version__
from yolotrt_lab.errors import MissingPackageError
from yolotrt_lab.notebooks import Failure, Run, write_report

MADE = datetime(2026, 11, 23, 20, 54)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ELSEWHERE = """
<script src="https://example.org/a.js"></script><link rel="stylesheet" href="//example.org/a.css">
<iframe src="https://example.org/"></iframe><style>@import url(//example.org/b.css);</style>
<style>i { background: url('https://example.org/c.png') }</style><style>b { color: red }</style>
"""
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
        new_code_cell("widget", outputs=[html(ELSEWHERE)]),
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
    assert links == {"https://example.org/a": "the web", "https://example.org/far.png": "far"}


def test_code_is_folded_under_its_first_line_except_where_it_matters(page):
    folds = {fold.summary.get_text().strip(): fold.has_attr("open") for fold in page.find_all("details")}
    assert folds == {"frames = 7": True, "import numpy": False, "df": False, "widget": False, "1 / (a < b)": True}
    assert "plot" in page.find_all("details")[1].get_text()


def test_outputs_are_shown(page):
    assert page.find("td", string="41.5")
    assert page.select_one(".output_error pre").get_text().strip() == "raise"
    assert page.select("pre span[style]") == []


def test_failures_come_first_and_say_where_and_why(page):
    facts = page.header.find("p").get_text().split(" · ")
    assert facts == ["2 notebooks in 3 s", "1 failed", f"yolotrt_lab {__version__}", "2026-11-23 20:54"]
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


def test_writing_without_nbconvert_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    with pytest.raises(MissingPackageError, match=r"(?s)nbconvert is not installed.*pip install.*\[notebooks\]"):
        write_report([], tmp_path / "report.html", made=MADE)


def test_html_that_a_script_fills_keeps_the_id_by_which_it_is_found(tmp_path):
    filled = '<div id="place"></div><script>document.getElementById("place").textContent = "a < b";</script>'
    cells = [new_markdown_cell("# Title"), new_code_cell("drawn", outputs=[html(filled)])]
    report = write_report([executed(tmp_path, "01-drawn", cells)], tmp_path / "report.html", made=MADE)
    page = report.read_text(encoding="utf-8")
    assert filled in page
    assert 'id="01-drawn.Title"' in page
