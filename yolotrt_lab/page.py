"""The report: one HTML page of notebooks that were run, which opens offline, on a desk as on a phone."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from . import __version__
from .files import write_file
from .notebooks import Run
from .packages import install_command, load
from .results import RESULTS

_SVG = "http://www.w3.org/2000/svg"
_INKS = {"#000000": "--ink", "#ffffff": "--page", "#eeeeee": "--grid", "#555555": "--soft"}
"""The colours of a figure that are not data, and what the page calls them."""
_FIGURE_STYLE = (
    "*{stroke-linejoin:round;stroke-linecap:butt}text{fill:var(--ink)}"
    "svg{--ink:#000;--page:#fff;--grid:#eee;--soft:#555}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--page:#0f1318;--grid:#272e37;--soft:#9da7b1}}"
)
_ESCAPED = str.maketrans({letter: f"%{ord(letter):02X}" for letter in "%#\"<>&'`\\"})  # of a URL in an attribute
_TITLE_LINE, _STAMP_LINE = 7.0, 11.0  # points below the first's baseline, and above the second's
_LONG = 400  # letters of a path: a curve, and no mark
_ONCE = 50_000  # characters, of a script that stands on the page once however many figures bring it
_VERSIONS = ("numpy", "matplotlib", "onnxruntime", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "tensorrt_rtx")
_THREAD = re.compile(r"(?<![\w/.-])([A-Za-z][\w.-]*/[\w.-]+)#(\d+)\b")
_NOTEBOOKS = re.compile(r"\b[Nn]otebooks? \d\d\b(?:(?:, | and | to )\d\d\b)*")
_NO_TEXT = {"a", "code", "pre", "script", "style", "h1", "h2", "h3"}


@dataclass(frozen=True, slots=True)
class _Section:
    """One notebook on the page."""

    run: Run
    anchor: str
    title: str
    headings: Sequence[tuple[str, str]] = ()
    """(id, text) of each heading under the title."""
    body: str = ""


def write_report(runs: Sequence[Run], target: Path, *, made: datetime) -> Path:
    """Write one HTML page of notebooks that were run, failures first, and return `target`.

    Figures are inside the page, code and claims are folded. A content security policy forbids the page every request,
    so it opens offline whatever a notebook displayed. MissingPackageError where nbconvert is not installed.
    """
    nbconvert, nbformat = (
        load(each, needed_for="the report", install=install_command("notebooks")) for each in ("nbconvert", "nbformat")
    )
    from jinja2 import Environment, FileSystemLoader

    templates = FileSystemLoader(Path(__file__).parent)
    cells = {"template_name": "basic", "template_file": "page_cell.html.j2", "extra_loaders": [templates]}
    convert = nbconvert.HTMLExporter(**cells, embed_images=True).from_notebook_node
    anchors = {run.name: re.sub(r"[^\w-]", "-", run.name) for run in runs}
    executed = [nbformat.read(run.output, as_version=4) if run.output.exists() else None for run in runs]
    seen: set[str] = set()
    links = _Links(anchors, target.parent)
    sections = [_section(run, nb, convert, links, seen) for run, nb in zip(runs, executed, strict=True)]
    page = Environment(loader=templates, autoescape=True, trim_blocks=True, keep_trailing_newline=True).get_template(
        "page.html.j2"
    )
    content = page.render(
        sections=sections,
        style=_style(),
        version=__version__,
        made=f"{made:%Y-%m-%d %H:%M}",
        facts=_facts([text for nb in executed if nb for text in _printed(nb)]),
        results=[(each, figure_html(each.draw())) for each in RESULTS if each.notebook in anchors],
        anchors=anchors,
    )
    return write_file(target, content)


def _section(run: Run, notebook: Any, convert: Callable[..., Any], links: _Links, seen: set[str]) -> _Section:
    """Render one executed notebook; `seen` holds what stands on the page once."""
    from bs4 import BeautifulSoup

    anchor = links.anchors[run.name]
    if notebook is None:
        return _Section(run, anchor, run.name)
    notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", ())]
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", ())
        if "claims" in tags and not run.failure:  # what it prints is the name of its fold
            cell.metadata["claims"] = "".join(each.get("text", "") for each in cell.outputs).strip()
            cell.outputs = []
        cell.metadata["open"] = bool({"raw", "exercise"} & set(tags)) and cell.source not in seen  # to be read, once
        seen.add(cell.source)
    html, _ = convert(notebook, {"metadata": {"path": str(run.notebook.parent)}})
    soup = BeautifulSoup(html, "html.parser")
    _keep_inside(soup, seen)
    links.make_unique(soup, anchor)
    _figures(soup, run.name, anchor)
    for span in soup.select("pre span[style]"):  # colours for one background only
        del span["style"]
    for table in soup.find_all("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    links.lead(soup, anchor, run.notebook.parent)
    title = soup.find("h1")
    headings = [(str(each["id"]), _words(each)) for each in soup.find_all("h2", id=True)]
    return _Section(run, anchor, _words(title) if title else run.name, headings, str(soup))


def _words(heading: Any) -> str:
    return str(heading.get_text()).removesuffix("#").strip()


def _keep_inside(soup: Any, seen: set[str]) -> None:
    """Replace what would be loaded from elsewhere by a link to it; keep the first of equal long scripts."""
    for tag in soup.select("link, base, iframe, object, embed, script[src]"):
        tag.decompose()
    for tag in soup.select('[src]:not([src^="data:"])'):
        link = soup.new_tag("a", href=tag["src"])
        link.string = tag.get("alt") or tag["src"]
        tag.replace_with(link)
    for style in soup.find_all("style", string=re.compile(r"@import|url\((?!['\"]?data:)")):
        style.decompose()
    for script in soup.find_all("script", string=lambda text: bool(text) and len(text) > _ONCE):
        if script.string in seen:
            script.decompose()
        else:
            seen.add(str(script.string))


def _figures(soup: Any, name: str, anchor: str) -> None:
    """Give each image of an output a number, a permalink, its title as text that wraps, and a description."""
    from bs4 import BeautifulSoup

    number = 0
    for image in soup.find_all("img"):
        output = image.find_parent(class_=re.compile("^output_(svg|png|jpeg)$"))
        if output is None:
            image["alt"] = image.get("alt") or f"A picture in {name}"
            continue
        number += 1
        drawn = _Drawn.of(image["src"])
        alt = drawn.alt if drawn else image.get("alt")
        if not alt or alt.startswith("No description"):
            alt = f"Figure {number} of {name}"
        label = f"Figure {name[:2]}.{number}" if name[:2].isdigit() else f"Figure {number}"
        figure = figure_html(drawn or image["src"], alt=alt, label=label, identity=f"{anchor}.figure-{number}")
        output.replace_with(BeautifulSoup(figure, "html.parser"))


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A figure of matplotlib as the page shows it: title and sources are text beside it."""

    source: str
    """A data URL."""
    width: float
    height: float
    title: str
    stamps: tuple[str, ...]
    alt: str

    @classmethod
    def of(cls, image: str) -> _Drawn | None:
        """From the SVG text or its data URL; None where it is no SVG with matplotlib's groups."""
        head, _, encoded = image.partition("base64,")
        text = b64decode(encoded).decode() if head == "data:image/svg+xml;" else image
        if "figure_1" not in text[:4000]:
            return None
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
        root = ElementTree.fromstring(text)
        top, width, bottom = (float(each) for each in root.attrib["viewBox"].split()[1:])
        figure = next(group for group in root if group.get("id") == "figure_1")
        title, baseline = _taken(figure, "title")
        if title:
            top = baseline[-1] + _TITLE_LINE
        stamps, baseline = _taken(figure, "source")
        if stamps:
            bottom = baseline[0] - _STAMP_LINE
        for extra in [each for each in root if each.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}defs")]:
            if extra.tag.endswith("metadata") or extra.find(f"{{{_SVG}}}style") is not None:
                root.remove(extra)
        for group in [figure, *(each for each in figure if each.get("id", "").startswith("axes"))]:
            if len(group) and "fill: #ffffff" in ElementTree.tostring(group[0], encoding="unicode")[:2000]:
                group.remove(group[0])  # its background, so that the page's shades are seen
        ElementTree.SubElement(root, f"{{{_SVG}}}style").text = _FIGURE_STYLE
        root.attrib |= {"viewBox": f"0 {top:.1f} {width:.1f} {bottom - top:.1f}"}
        root.attrib |= {"width": f"{width:.0f}pt", "height": f"{bottom - top:.0f}pt"}
        written = [text for text in _texts(root) if re.search("[A-Za-z]{2}", text)]
        said = " ".join(title) or (written[0] if written else "")
        rest = ", ".join(dict.fromkeys(each for each in written if each != said))
        return cls(
            "data:image/svg+xml;charset=utf-8," + _small(root).translate(_ESCAPED),
            round(width * 4 / 3),
            round((bottom - top) * 4 / 3),
            " ".join(title),
            tuple(stamps),
            f"{said}. Labels: {rest}" if rest else said,
        )


def _taken(figure: Any, name: str) -> tuple[list[str], list[float]]:
    """The lines of the figure's own texts of that gid, which are taken out of it, and their baselines."""
    lines, baselines = [], []
    for group in [each for each in figure if each.get("id") == name]:
        for text in group.iter(f"{{{_SVG}}}text"):
            lines += [line.strip() for line in "".join(text.itertext()).split("   |   ")]
            moved = re.search(r"translate\(\S+ (\S+?)\)", text.get("transform", ""))
            baselines.append(float(moved[1] if moved else text.get("y", 0)))
        figure.remove(group)
    return lines, baselines


def _texts(root: Any) -> list[str]:
    return ["".join(text.itertext()).strip() for text in root.iter(f"{{{_SVG}}}text")]


def _small(root: Any) -> str:
    """The SVG in few letters: one line, coordinates to a tenth of a point, and the page's names for what is no data."""
    for each in root.iter():
        for name in ("d", "x", "y", "transform"):
            if value := each.get(name):
                each.set(name, re.sub(r"(\.\d)\d+" if len(value) > _LONG else r"(\.\d\d)\d+", r"\1", value))
        if "style" in each.attrib:
            style = re.sub(r"'DejaVu Sans'[^;]*sans-serif", "DejaVu Sans, Verdana, sans-serif", each.attrib["style"])
            for colour, ink in _INKS.items():
                style = style.replace(f": {colour}", f": var({ink})")
            each.set("style", style)
    return re.sub(r"\s+", " ", ElementTree.tostring(root, encoding="unicode"))


def figure_html(drawn: Any, *, alt: str = "", label: str = "", identity: str = "") -> str:
    """A `<figure>` of an SVG's text, of a drawn figure, or of another image by its URL."""
    from markupsafe import Markup

    found = drawn if isinstance(drawn, _Drawn) else _Drawn.of(drawn)
    size = f'width="{found.width}" height="{found.height}" ' if found else 'class="pixels" '
    parts = [f'<img {size}alt="{{alt}}" src="{{source}}">']
    if label:
        parts = [
            '<figcaption><a class="permalink" href="#{identity}">{label}</a> {title}</figcaption>',
            f'<div class="scroll wide" tabindex="0">{parts[0]}</div>',
            *('<p class="source">{stamps}</p>' for _ in range(bool(found and found.stamps))),
        ]
    return Markup("<figure id='{identity}'>" + "".join(parts) + "</figure>").format(
        identity=identity,
        label=label,
        title=found.title if found else "",
        stamps=" · ".join(found.stamps) if found else "",
        alt=alt or (found.alt if found else ""),
        source=found.source if found else drawn,
    )


@dataclass(frozen=True, slots=True)
class _Links:
    """Where links of notebooks lead on the page."""

    anchors: Mapping[str, str]
    """The ids of all notebooks on the page, by name."""
    folder: Path
    """Where the page will be."""

    def make_unique(self, soup: Any, anchor: str) -> None:
        """Make ids unique on the page, and each heading's mark its permalink.

        Outputs of HTML keep their ids, by which their scripts find them.
        """
        for tag in soup.find_all(id=True):
            if not tag.find_parent(class_="output_html"):
                tag["id"] = f"{anchor}.{tag['id']}"
        for link in soup.select("a.anchor-link"):
            link.string, link["class"], link["aria-label"] = "#", "permalink", "permalink"

    def lead(self, soup: Any, anchor: str, folder: Path) -> None:
        """Lead links within and between notebooks to the page, and what names a thread or a notebook to it."""
        for text in soup.find_all(string=re.compile(r"otebooks? \d\d|#\d")):
            if not any(parent.name in _NO_TEXT for parent in text.parents):
                self._link_names(text)
        for link in soup.find_all("a", href=True):
            path, _, heading = link["href"].partition("#")
            if target := self.anchors.get(PurePosixPath(path).stem) if path.endswith(".ipynb") else None:
                link["href"] = f"#{target}.{heading}" if heading else f"#{target}"
            elif not path and not link["href"].startswith(f"#{anchor}."):
                link["href"] = f"#{anchor}.{heading}"
            elif path and ":" not in path and (folder / path).exists():
                link["href"] = self._file((folder / path).resolve())

    def _link_names(self, text: Any) -> None:
        from bs4 import BeautifulSoup
        from markupsafe import escape

        linked = _THREAD.sub(r'<a href="https://github.com/\1/issues/\2">\g<0></a>', str(escape(str(text))))
        numbers = {name[:2]: name for name in self.anchors}

        def as_link(number: re.Match[str]) -> str:
            return f'<a href="{numbers[number[0]]}.ipynb">{number[0]}</a>' if number[0] in numbers else number[0]

        linked = _NOTEBOOKS.sub(lambda found: re.sub(r"\d\d", as_link, found[0]), linked)
        if linked != str(escape(str(text))):
            text.replace_with(BeautifulSoup(linked, "html.parser"))

    def _file(self, path: Path) -> str:
        """A file of the repository: on its host in an action, else as it lies beside the page."""
        root = Path(__file__).parents[1]
        names = [os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "SHA")]
        if all(names) and path.is_relative_to(root):
            return f"{names[0]}/{names[1]}/blob/{names[2]}/{path.relative_to(root).as_posix()}"
        return Path(os.path.relpath(path, self.folder)).as_posix()


def _printed(notebook: Any) -> list[str]:
    return [each.text for cell in notebook.cells for each in cell.get("outputs", ()) if each.output_type == "stream"]


def _facts(printed: Sequence[str]) -> list[tuple[str, str]]:
    """What the page is of: the devices that its notebooks name, versions, the commit."""
    devices = dict.fromkeys(found for text in printed for found in re.findall(r"this run is (.+)", text))
    found = [(name, _version(name)) for name in _VERSIONS]
    versions = [f"Python {platform.python_version()}", *(f"{name} {version}" for name, version in found if version)]
    facts = [("device", "; ".join(devices)), ("versions", ", ".join(versions)), ("commit", _commit())]
    return [(name, text) for name, text in facts if text]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """The checkout's commit, 'with changes' where files differ from it; empty where this is none."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        commit, changed = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for command in (("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit} with changes" if changed else commit


def _style() -> str:
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    sheet = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{sheet}"
