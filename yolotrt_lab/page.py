"""The report: one HTML page of notebooks that were run, which opens offline, on a desk as on a phone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import groupby
from mimetypes import guess_type
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from . import __version__
from .files import write_file
from .notebooks import Run
from .packages import install_command, load
from .recording import machine_info

# What the extra `notebooks` brings is asked for as this module is imported: before the first notebook runs.
bs4, jinja2, markdown_it, nbformat, pygments, formatters, lexers = (
    load(name, needed_for="the report", install=install_command("notebooks"))
    for name in ("bs4", "jinja2", "markdown_it", "nbformat", "pygments", "pygments.formatters", "pygments.lexers")
)

RESULTS = Path(__file__).with_name("page.results.json")
_ONCE = 50_000  # characters, of a script that stands on the page once however many figures bring it
_SHOWN = ("text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain")
"""The forms of an output, of which the first one that is there is shown."""
_ELSEWHERE = "link, base, iframe, object, embed, script[src]"
_VERSIONS = ("python", "numpy", "matplotlib", "onnxruntime", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "tensorrt-rtx")
_THREAD = re.compile(r"(?<![\w/.-])([A-Za-z][\w.-]*/[\w.-]+)#(\d+)\b")
_NOTEBOOKS = re.compile(r"\b[Nn]otebooks? \d\d\b(?:(?:, | and | to )\d\d\b)*")
_NO_TEXT = {"a", "code", "pre", "script", "style", "h1", "h2", "h3"}
_ANSI = re.compile(r"\x1b\[(?:([\d;]*)m|[\d;?]*[@-ln-~])")
_NO_NAME = re.compile(r"[34]8;(?:5;\d+|2;\d+;\d+;\d+)")  # one of 256 colours, or of all: chosen for one background
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_CLASSES = {"1": "ansi-bold", "01": "ansi-bold", "3": "ansi-italic", "4": "ansi-underline"}
_CLASSES |= {f"3{number}": f"ansi-{name}-fg" for number, name in enumerate(_COLOURS)}
_CLASSES |= {f"9{number}": f"ansi-{name}-intense-fg" for number, name in enumerate(_COLOURS)}

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


def write_report(runs: Sequence[Run], target: Path, *, made: datetime) -> Path:
    """Write one HTML page of notebooks that were run, failures first, and return `target`.

    Figures are inside the page, code and claims are folded. A content security policy forbids the page every request,
    so it opens offline whatever a notebook displayed. MissingPackageError where the extra `notebooks` is not installed.
    """
    page = _Page([run.name for run in runs], target.parent)
    sections = [_Section(run, page) for run in runs]
    templates = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(
        loader=templates, autoescape=True, trim_blocks=True, keep_trailing_newline=True
    ).get_template("page.html.j2")
    content = template.render(
        sections=sections,
        style=_style(),
        version=__version__,
        made=f"{made:%Y-%m-%d %H:%M}",
        facts=_facts(text for section in sections for text in section.printed),
        results=[each for each in shipped_results() if each["notebook"] in page.anchors],
        anchors=page.anchors,
    )
    return write_file(target, content)


def shipped_results() -> list[dict[str, str]]:
    """The results on the page's top, which `scripts/make_figures.py` draws of the data that ships: the `topic`, the
    `notebook` that shows it, its `number`, the `text` that says what that means, and the `figure`.
    """
    found: list[dict[str, str]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


class _Section:
    """One notebook on the page."""

    def __init__(self, run: Run, page: _Page) -> None:
        self.run, self.anchor, self.title = run, page.anchors[run.name], run.name
        self.headings: list[tuple[str, str]] = []
        """(id, text) of each heading under the title."""
        self.printed: list[str] = []
        self._page, self._figures = page, 0
        if not run.output.exists():
            self.body = f"<h1>{escape(run.name)}</h1>"
            return
        cells = nbformat.v4.reads(run.output.read_text(encoding="utf-8")).cells
        kept = [cell for cell in cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", ())]
        self.body = "\n".join(map(self._cell, kept))

    def _cell(self, cell: Any) -> str:
        if cell.cell_type == "code":
            return self._code(cell)
        if cell.cell_type == "raw":
            return f"<pre>{escape(cell.source)}</pre>"
        text = self._markdown(cell.source, cell.get("attachments", {}))
        return f'<div class="text_cell_render">\n{text}</div>'

    def _code(self, cell: Any) -> str:
        """The code, folded under its first line, and its outputs. Claims that hold fold under what they print."""
        tags, outputs, kind = set(cell.metadata.get("tags", ())), list(_joined(cell.outputs)), "code"
        self.printed += [each.text for each in outputs if each.output_type == "stream"]
        summary = f"<code>{escape(cell.source.strip().partition(chr(10))[0])}</code>"
        if "claims" in tags and not self.run.failure:
            kind, summary = "code claims", escape("".join(each.get("text", "") for each in outputs).strip())
            outputs = []
        failed = any(each.output_type == "error" for each in outputs)
        to_be_read = tags & {"raw", "exercise"} and self._page.is_new(cell.source)
        opened = " open" if failed or to_be_read or "injected-parameters" in tags else ""
        parts = [
            f'<details class="{kind}"{opened}>\n<summary>{summary}</summary>',
            pygments.highlight(cell.source, lexers.PythonLexer(), formatters.HtmlFormatter()),
            "</details>",
        ]
        if outputs:
            areas = [f'<div class="output_area">{self._output(each, cell)}</div>' for each in outputs]
            parts += ['<div class="output">', *areas, "</div>"]
        return "\n".join(parts)

    def _output(self, output: Any, cell: Any) -> str:
        if output.output_type == "stream":
            return f'<div class="output_{output.name}"><pre>{_coloured(output.text)}</pre></div>'
        if output.output_type == "error":
            traceback = _coloured("\n".join(output.traceback))
            return f'<div class="output_error"><pre>{traceback}</pre></div>'
        form = next((each for each in _SHOWN if each in output.data), "")
        match form, output.data.get(form, ""):
            case "text/html", text:
                return f'<div class="output_html">{self._page.inside(text, self)}</div>'
            case "text/markdown", text:
                return f'<div class="text_cell_render">{self._markdown(text)}</div>'
            case "image/svg+xml", text:
                return self._figure(text, output, cell, form)
            case (("image/png" | "image/jpeg"), encoded):
                return self._figure(f"data:{form};base64,{encoded}", output, cell, form)
            case _, text:
                return f"<pre>{_coloured(text)}</pre>"

    def _figure(self, drawn: str, output: Any, cell: Any, form: str) -> str:
        """With its number, a permalink, its title as text that wraps, and a description."""
        self._figures += 1
        name, number = self.run.name, self._figures
        label = f"Figure {name[:2]}.{number}" if name[:2].isdigit() else f"Figure {number}"
        said = output.get("metadata", {}).get(form, {}).get("alt") or cell.metadata.get("alt")
        alt = said or f"Figure {number} of {name}"
        return figure_html(drawn, alt=alt, label=label, identity=f"{self.anchor}.figure-{number}")

    def _markdown(self, text: str, attachments: Any = None) -> str:
        for name, forms in (attachments or {}).items():
            form, encoded = next(iter(forms.items()))
            text = text.replace(f"attachment:{name}", f"data:{form};base64,{encoded}")
        return self._page.inside(self._page.markdown(text), self, ours=True)


class _Page:
    """What its notebooks have in common: where links lead, and what stands on it once."""

    def __init__(self, names: Iterable[str], folder: Path) -> None:
        self.anchors = {name: re.sub(r"[^\w-]", "-", name) for name in names}
        """The ids of all notebooks on the page, by name."""
        self._numbers = {name[:2]: name for name in self.anchors}
        self._folder, self._seen = folder, set[str]()
        parser = markdown_it.MarkdownIt("commonmark", {"html": True, "highlight": _highlighted})
        self.markdown = parser.enable(["table", "strikethrough"]).render

    def is_new(self, text: str) -> bool:
        """True the first time."""
        new = text not in self._seen
        self._seen.add(text)
        return new

    def inside(self, html: str, section: _Section, *, ours: bool = False) -> str:
        """HTML that loads nothing from elsewhere, whose links lead to the page. `ours` is a notebook's text: its ids
        are made unique on the page; outputs keep theirs, by which their scripts find them.
        """
        soup = bs4.BeautifulSoup(html, "html.parser")
        self._keep_inside(soup, section)
        for table in soup.find_all("table"):
            table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
        if ours:
            _name_headings(soup, section)
        self._lead(soup, section)
        return str(soup)

    def _keep_inside(self, soup: Any, section: _Section) -> None:
        """Put images of the notebook's folder into the page, and links in place of what would be loaded from elsewhere;
        keep the first of equal long scripts.
        """
        for tag in soup.select(_ELSEWHERE):
            tag.decompose()
        folder = section.run.notebook.parent.resolve()
        for tag in soup.select('[src]:not([src^="data:"])'):
            file = folder if ":" in tag["src"] else (folder / tag["src"]).resolve()
            if tag.name == "img" and file.is_relative_to(folder) and file.is_file():
                tag["src"] = f"data:{guess_type(file)[0]};base64,{b64encode(file.read_bytes()).decode()}"
            else:
                link = soup.new_tag("a", href=tag["src"])
                link.string = tag.get("alt") or tag["src"]
                tag.replace_with(link)
        for image in soup.find_all("img"):
            image["alt"] = image.get("alt") or f"A picture in {section.run.name}"
        for style in soup.find_all("style", string=re.compile(r"@import|url\((?!['\"]?data:)")):
            style.decompose()
        for script in soup.find_all("script", string=lambda text: bool(text) and len(text) > _ONCE):
            if not self.is_new(str(script.string)):
                script.decompose()

    def _lead(self, soup: Any, section: _Section) -> None:
        """Lead links within and between notebooks to the page, and what names a thread or a notebook to it."""
        for text in soup.find_all(string=re.compile(r"otebooks? \d\d|#\d")):
            if not any(parent.name in _NO_TEXT for parent in text.parents):
                self._link_names(text)
        folder = section.run.notebook.parent
        for link in soup.find_all("a", href=True):
            path, _, heading = link["href"].partition("#")
            if target := self.anchors.get(PurePosixPath(path).stem) if path.endswith(".ipynb") else None:
                link["href"] = f"#{target}.{heading}" if heading else f"#{target}"
            elif not path and not heading.startswith(f"{section.anchor}."):
                link["href"] = f"#{section.anchor}.{heading}"
            elif path and ":" not in path and (folder / path).exists():
                link["href"] = self._file((folder / path).resolve())

    def _link_names(self, text: Any) -> None:
        def as_link(number: re.Match[str]) -> str:
            name = self._numbers.get(number[0])
            return f'<a href="{name}.ipynb">{number[0]}</a>' if name else number[0]

        before = escape(str(text), quote=False)
        linked = _THREAD.sub(r'<a href="https://github.com/\1/issues/\2">\g<0></a>', before)
        linked = _NOTEBOOKS.sub(lambda found: re.sub(r"\d\d", as_link, found[0]), linked)
        if linked != before:
            text.replace_with(bs4.BeautifulSoup(linked, "html.parser"))

    def _file(self, path: Path) -> str:
        """A file of the repository: on its host in an action, else as it lies beside the page."""
        root = Path(__file__).parents[1]
        names = [os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "SHA")]
        if all(names) and path.is_relative_to(root):
            return f"{names[0]}/{names[1]}/blob/{names[2]}/{path.relative_to(root).as_posix()}"
        return Path(os.path.relpath(path, self._folder)).as_posix()


def _name_headings(soup: Any, section: _Section) -> None:
    """Ids that are unique on the page, permalinks at headings, and the section's title and contents."""
    for tag in soup.find_all(id=True):
        tag["id"] = f"{section.anchor}.{tag['id']}"
    for heading in soup.find_all(re.compile(r"^h[1-6]$")):
        text = heading.get_text().strip()
        heading["id"] = f"{section.anchor}.{text.replace(' ', '-')}"
        if heading.name == "h1" and section.title == section.run.name:
            section.title = text
        if heading.name == "h2":
            section.headings.append((heading["id"], text))
        how = {"class": "permalink", "href": f"#{heading['id']}", "aria-label": "permalink"}
        heading.append(link := soup.new_tag("a", attrs=how))
        link.string = "#"


@dataclass(frozen=True, slots=True)
class _Image:
    """An image as the page shows it. The title and the sources of a figure of matplotlib are text beside it."""

    source: str
    """A data URL."""
    look: str = 'class="pixels"'
    """Attributes of its tag."""
    title: str = ""
    stamps: tuple[str, ...] = ()
    alt: str = ""


def figure_html(drawn: str, *, alt: str = "", label: str = "", identity: str = "") -> str:
    """A `<figure>` of the text of an SVG, or of another image by its URL; `alt` describes what can't say it itself."""
    image = _Image(escape(drawn)) if drawn.startswith("data:") else _of_svg(drawn)
    shown = f'<img {image.look} alt="{escape(image.alt or alt)}" src="{image.source}">'
    if label:
        permalink = f'<a class="permalink" href="#{escape(identity)}">{escape(label)}</a>'
        stamps = f'<p class="source">{escape(" · ".join(image.stamps))}</p>' if image.stamps else ""
        shown = f"""<figcaption>{permalink} {escape(image.title)}</figcaption>
<div class="scroll wide" tabindex="0">{shown}</div>{stamps}"""
    return f'<figure id="{escape(identity)}">{shown}</figure>' if identity else f"<figure>{shown}</figure>"


def _of_svg(text: str) -> _Image:
    """The SVG with the page's colours, without what stands beside it; as it is where it is none of matplotlib's."""
    if "figure_1" not in text[:4000]:
        return _Image(f"data:image/svg+xml;base64,{b64encode(text.encode()).decode()}")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)
    top, width, bottom = (float(each) for each in root.attrib["viewBox"].split()[1:])
    figure = next(group for group in root if group.get("id") == "figure_1")
    title, baselines = _taken(figure, "title")
    top = baselines[-1] + _TITLE_LINE if title else top
    stamps, baselines = _taken(figure, "source")
    bottom = baselines[0] - _STAMP_LINE if stamps else bottom
    _strip(root, figure)
    ElementTree.SubElement(root, f"{{{_SVG}}}style").text = _FIGURE_STYLE
    height = bottom - top
    root.attrib |= {"viewBox": f"0 {top:.1f} {width:.1f} {height:.1f}"}
    root.attrib |= {"width": f"{width:.0f}pt", "height": f"{height:.0f}pt"}
    texts = ("".join(each.itertext()).strip() for each in root.iter(f"{{{_SVG}}}text"))
    written = [each for each in texts if re.search("[A-Za-z]{2}", each)]
    said = " ".join(title) or (written[0] if written else "")
    rest = ", ".join(dict.fromkeys(each for each in written if each != said))
    return _Image(
        "data:image/svg+xml;charset=utf-8," + _small(root).translate(_ESCAPED),
        f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}"',
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


def _strip(root: Any, figure: Any) -> None:
    """Take out metadata, matplotlib's style sheet, and the backgrounds, so that the page's shades are seen."""
    for extra in [each for each in root if each.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}defs")]:
        if extra.tag.endswith("metadata") or extra.find(f"{{{_SVG}}}style") is not None:
            root.remove(extra)
    for group in [figure, *(each for each in figure if each.get("id", "").startswith("axes"))]:
        if len(group) and "fill: #ffffff" in ElementTree.tostring(group[0], encoding="unicode")[:2000]:
            group.remove(group[0])


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


def _highlighted(code: str, language: str, _: str) -> str:
    """A block of code in a text; nothing for a language that Pygments does not know."""
    try:
        spans = pygments.highlight(code, lexers.get_lexer_by_name(language), formatters.HtmlFormatter(nowrap=True))
    except ValueError:
        return ""
    return f'<pre class="highlight"><code>{spans}</code></pre>'


def _joined(outputs: Sequence[Any]) -> Iterator[Any]:
    """Streams in one piece, as a terminal shows them: a line that was written over has its last text."""
    for name, group in groupby(outputs, key=lambda each: each.get("name", "")):
        if not name:
            yield from group
            continue
        pieces = list(group)
        pieces[0].text = re.sub(r"[^\n]*\r(?=[^\n])", "", "".join(each.text for each in pieces))
        yield pieces[0]


def _coloured(text: str) -> str:
    """Text for a `<pre>`: ANSI's named colours and bold as classes, its other sequences left out."""
    first, *rest = _ANSI.split(text)
    pieces, classes = [escape(first, quote=False)], list[str]()
    for codes, piece in zip(rest[::2], rest[1::2], strict=True):
        for code in _NO_NAME.sub("39", codes or "").split(";"):
            name = _CLASSES.get(code, "")  # a code without a class ends all
            classes = [each for each in classes if name and each.endswith("-fg") != name.endswith("-fg")]
            classes += [name] * bool(name)
        shown = escape(piece, quote=False)
        pieces.append(f'<span class="{" ".join(classes)}">{shown}</span>' if classes and piece else shown)
    return "".join(pieces)


def _facts(printed: Iterable[str]) -> list[tuple[str, str]]:
    """What the page is of: the devices that its notebooks name, versions, the commit."""
    devices = dict.fromkeys(found for text in printed for found in re.findall(r"this run is (.+)", text))
    machine = machine_info()
    versions = [
        f"{name.title() if name == 'python' else name} {machine[name]}" for name in _VERSIONS if name in machine
    ]
    facts = [("device", "; ".join(devices)), ("versions", ", ".join(versions)), ("commit", _commit())]
    return [(name, text) for name, text in facts if text]


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
    light, dark = (
        formatters.HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark")
    )
    sheet = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{sheet}"
