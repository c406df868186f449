"""Run notebooks from top to bottom, with parameters, in this very interpreter.

papermill does the running. This module decides what it is given: which notebooks, which parameters for which of them,
and a kernel that is `sys.executable` whatever the machine knows under the name python3.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from . import __version__
from .errors import MissingPackageError, SettingsError
from .packages import install_command, lab_path

_KERNEL_ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "",
}
_ADDED_CELLS = {"injected-parameters", "papermill-error-cell-tag"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and why a notebook stopped: `cell` counts the cells of the notebook as written, from 1.

    0 means that it stopped before its first cell. `line` is the cell's first line.
    """

    cell: int
    line: str
    error: str

    def __str__(self) -> str:
        where = f"cell {self.cell}: {self.line}" if self.cell else "before its first cell"
        return f"{where}\n{self.error}"


@dataclass(frozen=True, slots=True)
class Run:
    """One notebook that was run: its executed copy, the seconds it took, and its failure if it has one."""

    notebook: Path
    output: Path
    seconds: float
    failure: Failure | None = None

    @property
    def name(self) -> str:
        """The notebook's file name without its ending."""
        return self.notebook.stem


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks meant by paths or by names of the lab's own; without names, all of the lab's in name order.

    SettingsError for a name that is neither, for two notebooks of one name, and where there is no notebook at all.
    """
    own = sorted(lab_path("notebooks").glob("*.ipynb"))
    found = [_find(name, own) for name in names] or own
    if not found:
        raise SettingsError("the lab has no notebooks", fix="name the notebooks to run")
    stems = [path.stem for path in found]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise SettingsError(f"more than one notebook is called {twice[0]}", fix="run them one after the other")
    return found


def _find(name: str, own: Sequence[Path]) -> Path:
    for path in (Path(name), *(path for path in own if name in (path.name, path.stem))):
        if path.is_file():
            return path
    raise SettingsError(
        f"there is no notebook {name}", fix=f"name a file, or one of {', '.join(path.stem for path in own)}"
    )


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the notebook's cell tagged `parameters`; a default that is no literal reads as None.

    SettingsError where the file is not a notebook, or that cell is not Python.
    """
    for cell in _read(notebook).cells:
        if "parameters" in cell.metadata.get("tags", ()):
            try:
                return dict(_assignments(ast.parse(cell.source)))
            except SyntaxError as error:
                raise SettingsError(
                    f"{notebook.name}: the cell tagged parameters is not plain Python: {error}",
                    fix="keep nothing but assignments in that cell",
                ) from error
    return {}


def _assignments(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, _literal(ast.unparse(node.value), otherwise=None)


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return otherwise


def chosen_parameters(
    notebooks: Sequence[Path], given: Mapping[str, str], device: str | None = None
) -> list[dict[str, Any]]:
    """What each notebook is to be run with: the values given for names that it declares, in its defaults' types.

    `given` holds text, as typed on a command line; `device` counts as given to every notebook that declares `device`.
    SettingsError for a name that no notebook declares, and for a text that does not read as its default's type.
    """
    declared = [declared_parameters(notebook) for notebook in notebooks]
    known = sorted(set().union(*declared))
    for name in given:
        if name not in known:
            raise SettingsError(f"no notebook has a parameter {name}", fix=f"use one of: {', '.join(known) or 'none'}")
    if device is not None:
        given = {"device": device, **given}
    return [
        {name: _converted(notebook, name, text, defaults[name]) for name, text in given.items() if name in defaults}
        for notebook, defaults in zip(notebooks, declared, strict=True)
    ]


def _converted(notebook: Path, name: str, text: str, default: Any) -> Any:
    try:
        return _value(text, default)
    except (KeyError, ValueError):
        wanted = type(default).__name__
        raise SettingsError(
            f"{notebook.name}: {name} is to be of type {wanted}, and {text!r} is not",
            fix=f"pass a value like its default, {default!r}",
        ) from None


def _value(text: str, default: Any) -> Any:
    match default:
        case bool():
            return {"true": True, "false": False}[text.lower()]
        case int() | float() | str():
            return type(default)(text)
        case None:
            return _literal(text, otherwise=text)
    value = _literal(text, otherwise=text)
    if type(value) is not type(default):
        raise ValueError
    return value


def run_notebooks(
    notebooks: Sequence[Path], parameters: Sequence[Mapping[str, Any]], folder: Path, *, progress: bool = False
) -> Iterator[Run]:
    """Run the notebooks one after the other and save their executed copies in `folder`; a failure stops only its own.

    `parameters` holds one mapping a notebook, as `chosen_parameters` makes them. With `progress` a bar on standard
    error counts the cells. MissingPackageError where papermill or ipykernel is not installed; SettingsError where a
    copy would overwrite its notebook.
    """
    for notebook in notebooks:
        if notebook.resolve() == (folder / notebook.name).resolve():
            raise SettingsError(f"{notebook} would be overwritten by its executed copy", fix="choose another --out")
    manager = _kernel_manager()
    folder.mkdir(parents=True, exist_ok=True)
    for notebook, values in zip(notebooks, parameters, strict=True):
        output = folder / notebook.name
        start = time.perf_counter()
        error = _run(notebook, output, values, manager, progress)
        failure = None if error is None else _failure(output, error)
        yield Run(notebook, output, time.perf_counter() - start, failure)


def _run(notebook: Path, output: Path, values: Mapping[str, Any], manager: type, progress: bool) -> Exception | None:
    import papermill

    output.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=dict(values),
            kernel_name="python3",
            language="python",
            progress_bar={"desc": notebook.stem, "leave": False} if progress else False,
            kernel_manager_class=manager,
        )
    except Exception as error:  # a cell that fails, a kernel that dies or never starts: all are the notebook's failure
        return error
    return None


def _kernel_manager() -> type:
    """A kernel manager for this interpreter; a `python3` that is registered for another one has no say."""
    try:
        import papermill  # noqa: F401
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
    except ImportError as error:
        raise MissingPackageError(
            error.name or "papermill", needed_for="running notebooks", install=install_command("notebooks")
        ) from error

    class LabKernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]), env=_KERNEL_ENVIRONMENT)
        transport_encryption = "auto"  # unencrypted, ipykernel warns about it in the first cell's output

    return LabKernelManager


def _failure(output: Path, error: Exception) -> Failure:
    """The cell at which the executed copy stops: the one with an error, else the last that was started."""
    number, stopped = 0, Failure(0, "", _last_lines(f"{type(error).__name__}: {error}"))
    if not output.exists():
        return stopped
    for cell in _read(output).cells:
        number += not _ADDED_CELLS & set(cell.metadata.get("tags", ()))
        errors = [o for o in cell.get("outputs", ()) if o.output_type == "error"]
        if errors:
            return Failure(number, _first_line(cell), _last_lines(f"{errors[-1].ename}: {errors[-1].evalue}"))
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time"):
            stopped = Failure(number, _first_line(cell), stopped.error)
    return stopped


def _first_line(cell: Any) -> str:
    return cell.source.strip().partition("\n")[0]


def _last_lines(text: str, count: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _read(notebook: Path) -> Any:
    try:
        import nbformat
    except ImportError as error:
        raise MissingPackageError(
            "nbformat", needed_for="reading notebooks", install=install_command("notebooks")
        ) from error
    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # nbformat lets errors of json, jsonschema and its own through
        raise SettingsError(f"{notebook} is not a notebook: {error}", fix="name an .ipynb file") from error


# One HTML page from executed notebooks: figures inside, code folded, nothing loaded from elsewhere.
#
# nbconvert's `basic` template turns each notebook into a body; this module puts the bodies into a page of its own. A
# content security policy forbids the page every request, so it opens offline whatever a notebook put out.


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
