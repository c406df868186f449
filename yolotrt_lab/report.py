"""One HTML page from executed notebooks: figures inside, code folded, nothing loaded from elsewhere.

nbconvert's `basic` template turns each notebook into a body; this module puts the bodies into a page of its own. A
content security policy forbids the page every request, so it opens offline whatever a notebook put out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from . import __version__
from .errors import MissingPackageError
from .execute import Run
from .paths import install_command

_FOLDED_CODE = """
{%- extends 'basic/index.html.j2' -%}
{% block in_prompt %}{% endblock %}
{% block output_area_prompt %}{% endblock %}
{% block input %}
{%- set failed = cell.outputs | selectattr('output_type', 'equalto', 'error') | list %}
{%- set given = 'injected-parameters' in cell.metadata.get('tags', []) %}
<details class="code"{% if failed or given %} open{% endif %}>
<summary><code>{{ (cell.source.strip().split('\\n') | first) | escape }}</code></summary>
{{ super() }}
</details>
{% endblock %}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>yolotrt-lab report</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>yolotrt-lab report</h1>
<p>{facts}</p>
{failures}
</header>
<nav aria-label="Contents">
{contents}
<button type="button">Show all code</button>
</nav>
<main>
{sections}
</main>
<script>
document.querySelector("nav button").onclick = function () {{
  const open = this.classList.toggle("on");
  this.textContent = open ? "Hide all code" : "Show all code";
  document.querySelectorAll("details.code").forEach((code) => {{ code.open = open; }});
}};
</script>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class _Section:
    """One notebook on the page: its title, the headings under it as (id, text), and its body."""

    run: Run
    title: str
    headings: list[tuple[str, str]]
    body: str


def write_report(runs: Sequence[Run], target: Path, *, made: datetime) -> Path:
    """Write the page for notebooks that were run, failures first, and return `target`.

    MissingPackageError where nbconvert is not installed.
    """
    exporter = _exporter()
    sections = [_section(run, exporter, {run.name: _anchor(run) for run in runs}) for run in runs]
    failed = [section for section in sections if section.run.failure]
    seconds = sum(run.seconds for run in runs)
    page = _PAGE.format(
        style=_style(),
        facts=" · ".join(
            [
                f"{len(runs)} notebook{'s' * (len(runs) != 1)} in {seconds:.0f} s",
                f"{len(failed)} failed" if failed else "none failed",
                f"yolotrt_lab {__version__}",
                f"{made:%Y-%m-%d %H:%M}",
            ]
        ),
        failures="\n".join(map(_banner, failed)),
        contents=_contents(sections),
        sections="\n".join(f'<section id="{_anchor(s.run)}">\n{s.body}\n</section>' for s in sections),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def _exporter() -> Any:
    try:
        from jinja2 import DictLoader
        from nbconvert import HTMLExporter
    except ImportError as error:
        raise MissingPackageError(
            error.name or "nbconvert", needed_for="writing the report", install=install_command("notebooks")
        ) from error
    return HTMLExporter(
        template_name="basic",
        template_file="folded.html.j2",
        extra_loaders=[DictLoader({"folded.html.j2": _FOLDED_CODE})],
        embed_images=True,
    )


def _section(run: Run, exporter: Any, anchors: Mapping[str, str]) -> _Section:
    """Render one executed notebook; `anchors` holds the ids of all notebooks on the page, by name."""
    import nbformat
    from bs4 import BeautifulSoup

    if not run.output.exists():
        return _Section(run, run.name, [], f"<h1>{escape(run.name)}</h1>")
    notebook = nbformat.read(run.output, as_version=4)
    notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", ())]
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(run.notebook.parent)}})
    soup = BeautifulSoup(html, "html.parser")
    _keep_inside(soup)
    _tidy(soup, run.name)
    _qualify_ids(soup, anchors[run.name])
    _link_sections(soup, anchors)
    title = soup.find("h1")
    headings = [(str(h["id"]), h.get_text()) for h in soup.find_all("h2", id=True)]
    return _Section(run, title.get_text() if title else run.name, headings, str(soup))


def _keep_inside(soup: Any) -> None:
    """Replace whatever would be loaded from elsewhere by a link to it."""
    for tag in soup.find_all(["link", "base", "iframe", "object", "embed"]) + soup.find_all("script", src=True):
        tag.decompose()
    for tag in soup.find_all(src=re.compile(r"^(?!data:)")):
        link = soup.new_tag("a", href=tag["src"])
        link.string = tag.get("alt") or tag["src"]
        tag.replace_with(link)
    for style in soup.find_all("style", string=re.compile(r"@import|url\((?!['\"]?data:)")):
        style.decompose()


def _qualify_ids(soup: Any, prefix: str) -> None:
    """Put the notebook's id in front of those within it, so that they are unique on the page.

    Outputs of HTML keep theirs, by which their scripts find them.
    """
    for tag in soup.find_all(id=True):
        if not tag.find_parent(class_="output_html"):
            tag["id"] = f"{prefix}.{tag['id']}"
    for link in soup.find_all("a", href=re.compile("^#")):
        link["href"] = f"#{prefix}.{link['href'][1:]}"


def _link_sections(soup: Any, anchors: Mapping[str, str]) -> None:
    """Make links to notebooks that are on the page links to their sections."""
    for link in soup.find_all("a", href=re.compile(r"\.ipynb(#|$)")):
        path, _, heading = link["href"].partition("#")
        if anchor := anchors.get(PurePosixPath(path).stem):
            link["href"] = f"#{anchor}.{heading}" if heading else f"#{anchor}"


def _tidy(soup: Any, name: str) -> None:
    """Drop the marks beside headings and colours that suit one background only; describe undescribed images."""
    for link in soup.find_all("a", class_="anchor-link"):
        link.decompose()
    for span in soup.select("pre span[style]"):
        del span["style"]
    for number, image in enumerate(soup.find_all("img"), start=1):
        if image.get("alt") in (None, "", "No description has been provided for this image"):
            image["alt"] = f"Figure {number} of {name}"


def _anchor(run: Run) -> str:
    return re.sub(r"[^\w-]", "-", run.name)


def _banner(section: _Section) -> str:
    run, failure = section.run, section.run.failure
    assert failure is not None
    where = f"at cell {failure.cell}: <code>{escape(failure.line)}</code>" if failure.cell else "before its first cell"
    return (
        f'<div class="failure" role="alert"><p><a href="#{_anchor(run)}">{escape(run.name)}</a> failed {where}</p>'
        f"<pre>{escape(failure.error)}</pre></div>"
    )


def _contents(sections: Sequence[_Section]) -> str:
    lines = ["<ol>"]
    for section in sections:
        mark = ' <strong class="failed">failed</strong>' if section.run.failure else ""
        lines.append(f'<li><a href="#{_anchor(section.run)}">{escape(section.title)}</a>{mark}')
        items = [f'<li><a href="#{escape(anchor)}">{escape(text)}</a></li>' for anchor, text in section.headings]
        lines.append(f"<ul>{''.join(items)}</ul></li>" if items else "</li>")
    return "\n".join([*lines, "</ol>"])


def _style() -> str:
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    sheet = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{sheet}"
