"""Exercises as they stand in `exercises/`, one Markdown file each: what is asked, the start, hints and the solution; of
a value also typical wrong answers, and what the reader is told of each.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import yolotrt_lab

FOLDER = Path(__file__).parent / "exercises"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A typical wrong answer."""

    message: str
    """What the check says of it."""
    source: str


class Hint(NamedTuple):
    """A hint."""

    where: str
    """What the check says of the loop it is for, in part: '' fits any."""
    text: str


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise. Its name is that of its file, of the function that the reader writes, and of the notebook's cells.

    >>> exercises()["pin_it"].title
    'Pin it'
    """

    name: str
    title: str
    notebook: str
    """The number of the notebook that it stands in."""
    kind: str
    """'loop' for a frame loop, 'value' for a function that returns one."""
    camera: str
    """'frames' to be letterboxed, or 'ready': images in pinned memory."""
    tells: str
    """'all' that the check found, or 'little': its first finding, without the calls."""
    asks: str
    """What a value must be; of a loop nothing."""
    question: str
    start: str
    hints: tuple[Hint, ...]
    solution: str
    wrong: tuple[Wrong, ...]
    loop: str = ""
    """Of a value that is read off a trace: the loop that it is of, and"""
    figure: str = ""
    """the cell that draws it."""

    def hints_for(self, finding: str) -> tuple[str, ...]:
        """The hints for what the check says, in order.

        >>> exercises()["pin_it"].hints_for("memory is allocated in each frame, 600 us")
        ('The start is right but for one line: the one that creates `h_image`.',)
        """
        return tuple(hint.text for hint in self.hints if hint.where in finding)

    def function(self, source: str) -> Callable[..., Any]:
        """The reader's function, from the text of a cell; its lines are known to tracebacks."""
        file = f"<{self.name} {hash(source) & 0xFFFFFF:06x}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        names: dict[str, Any] = {"lab": yolotrt_lab, "np": np}
        exec(compile(source, file, "exec"), names)
        found: Callable[..., Any] = names[self.name]
        return found


@cache
def exercises() -> dict[str, Exercise]:
    """All exercises by name, in the order of the notebooks and their places in them."""
    found = [(path, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.md"))]
    return {exercise.name: exercise for exercise in (_read(path, text) for path, text in found)}


def _read(path: Path, text: str) -> Exercise:
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    title, settings, question = head.removeprefix("# ").split("\n\n", 2)
    notebook, _, name = path.stem.split("_", 2)
    bodies = dict(section.split("\n", 1) for section in sections)
    wrong = "wrong: "
    fields: dict[str, Any] = {"kind": "loop", "camera": "frames", "tells": "all", "asks": ""}
    fields |= dict(line.split(": ", 1) for line in settings.splitlines())
    fields |= {part: _code(bodies[part]) for part in ("start", "solution", "loop", "figure") if part in bodies}
    return Exercise(
        name,
        title,
        notebook,
        question=question.strip(),
        hints=tuple(Hint(*row) for row in table(bodies["hints"])),
        wrong=tuple(
            Wrong(heading.removeprefix(wrong), _code(body))
            for heading, body in bodies.items()
            if heading.startswith(wrong)
        ),
        **fields,
    )


def table(text: str) -> list[list[str]]:
    """The rows of a Markdown table, without its head."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def _code(body: str) -> str:
    """The code of a section."""
    found = re.search(r"```python\n(.*?)\n```", body, flags=re.DOTALL)
    assert found is not None, body
    return found[1]
