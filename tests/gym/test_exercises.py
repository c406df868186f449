"""The exercises: each start fails as it should, each solution passes, typical wrong answers are told what is wrong.

`python tests/gym/test_exercises.py` puts their cells into the notebooks, where the exercise's file has changed.
"""

from __future__ import annotations

import ast
import re
import sys
from html import escape
from pathlib import Path

import nbformat
import pytest
from samples import sampled

sys.path.insert(0, str(Path(__file__).parents[1] / "simulate"))

import raw_cells

from yolotrt_lab.gym import check, exercises
from yolotrt_lab.gym.grade import _given

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ALL = exercises()
INTRODUCTION = """## Exercises

Now it is your turn. A loop is a function: `frames` gives images, `done(result)` takes each frame's result, all other
names are those of the raw cells. Change it until `lab.check` is content. It runs the loop on a fresh simulated device
(on a GPU live as well), and says what is wrong, on which line, and how long a frame takes. (A function
without `frames` returns what is asked for.)
A solution is folded below."""
SETUP = {
    "05": "from yolotrt_lab import simulate  # the names of the raw cells, as in notebook 03",
    "07": """import numpy as np

from yolotrt_lab import simulate

engine = lab.open_engine(gpu)  # the names of the raw cells, as in notebook 03
new_context = lab.gym.Names(gpu).new_context  # an execution context for a batch, and its memory""",
}


def wrong_answers():
    """(message, source) of the typical wrong answers by exercise: those to loops stand in wrong_answers.md."""
    found = {name: [(each.message, each.source) for each in exercise.wrong] for name, exercise in ALL.items()}
    _, *parts = re.split(r"^# ", Path(__file__).with_name("wrong_answers.md").read_text(encoding="utf-8"), flags=re.M)
    for part in parts[1:]:
        name, *answers = part.split("\n\n## ")
        for message, body in (answer.split("\n", 1) for answer in answers):
            language, code = re.search(r"```(python|diff)\n(.*?)\n?```", body, flags=re.S).groups()
            found[name].append((message, patched(ALL[name].solution, code) if language == "diff" else code))
    return found


def patched(solution, diff):
    for hunk in diff.split("\n@@\n"):
        lines = hunk.split("\n")
        old, new = ("\n".join(line[1:] for line in lines if line[:1] not in (sign, "")) for sign in "+-")
        assert solution.count(old) == 1, f"{solution}\nhas not once:\n{old}"
        solution = solution.replace(old, new)
    return solution


WRONG = wrong_answers()


def of_notebook(number):
    return [each for each in ALL.values() if each.notebook == number]


def cells(exercise):
    """Its cells in the notebook: the question, the start with its check, and the solution, folded."""
    code = escape(exercise.solution, quote=False).replace("\n\n", "\n&#10;")  # an empty line would end the HTML
    heading = "##" if exercise.notebook == "08" else "###"  # the exams are sections of their own
    folded = f"<details><summary>A solution</summary><pre><code>{code}\n</code></pre></details>"
    texts = [
        ("markdown", "question", f"{heading} {exercise.title}\n\n{exercise.question}"),
        *([("code", "figure", exercise.figure)] if exercise.figure else []),
        ("code", "start", f"{exercise.start}\n\n\nlab.check({exercise.name}, gpu)"),
        ("markdown", "solution", folded),
    ]
    return [
        {"cell_type": kind, "id": f"{exercise.name}-{part}", "metadata": {"tags": ["exercise"]}, "source": text}
        for kind, part, text in texts
    ]


def cells_of(number):
    """The cells of a notebook's exercises, from their heading on."""
    first = [{"cell_type": "markdown", "id": "exercises", "metadata": {"tags": ["exercise"]}, "source": INTRODUCTION}]
    if number in SETUP:
        first.append({"cell_type": "code", "id": "exercises-setup", "metadata": {"tags": ["exercise"]}})
        first[-1]["source"] = SETUP[number]
        hidden = {"tags": ["raw", "exercise"], "jupyter": {"source_hidden": True}}
        for name, text in (("setup", raw_cells.SETUP), ("memory", raw_cells.CELLS["memory"])):
            first.append({"cell_type": "code", "id": f"raw-{name}", "metadata": hidden, "source": text})
    exercises = [cell for each in of_notebook(number) for cell in cells(each)]
    return exercises if number == "08" else first + exercises


def is_exercise(cell):
    return "exercise" in cell.metadata.get("tags", ())


def put_cells(notebook, number):
    """The notebook with the cells of its exercises: where they are already, or in front of its last text."""
    others = [cell for cell in notebook.cells if not is_exercise(cell)]
    first = next((at for at, cell in enumerate(notebook.cells) if is_exercise(cell)), None)
    if first is None:
        texts = [at for at, cell in enumerate(others) if cell.cell_type == "markdown"]
        first = texts[-2 if number == "08" else -1]
    new = [nbformat.from_dict(cell) for cell in cells_of(number)]
    for cell in new:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    notebook.cells = [*others[:first], *new, *others[first:]]
    return notebook


def test_each_notebook_has_its_exercises():
    assert {number: len(of_notebook(number)) for number in ("01", "02", "03", "04", "05", "07", "08")} == {
        **{"01": 2, "02": 3, "03": 3, "04": 2, "05": 2, "07": 2, "08": 4}
    }
    messages = {name: [message for message, _ in WRONG[name]] for name in ALL}
    assert all(len(each) >= 3 and len(set(each)) == len(each) for each in messages.values())


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0*.ipynb")), ids=lambda path: path.stem)
def test_the_notebooks_cells_are_the_exercises(path):
    notebook = nbformat.read(path, as_version=4)
    found = [(cell.id, cell.cell_type, cell.source) for cell in notebook.cells if is_exercise(cell)]
    number = path.stem[:2]
    expected = cells_of(number) if of_notebook(number) else []
    assert found == [(cell["id"], cell["cell_type"], cell["source"]) for cell in expected]


def names_in(cells, use):
    nodes = [node for cell in cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))]
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, use)}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0*.ipynb")), ids=lambda path: path.stem)
def test_exercises_change_no_name_that_the_notebook_uses_after_them(path):
    cells = nbformat.read(path, as_version=4).cells
    first = next((at for at, cell in enumerate(cells) if is_exercise(cell)), len(cells))
    mine = [cell for cell in cells if is_exercise(cell) and not cell.id.endswith("-start")]
    later = [cell for cell in cells[first:] if not is_exercise(cell)]
    assert names_in(mine, ast.Store) & names_in(later, ast.Load) == set()


EXAMS = ("blamed_upload", "idle_gpu", "four_cameras")
"""What these ask is asked by other exercises, one thing at a time."""


@pytest.mark.parametrize("name", sampled(ALL, [name for name in ALL if name not in EXAMS]))
def test_the_start_fails_and_the_solution_passes(name, gpu):
    """One test, since each check runs the solution and the start once for all."""
    exercise = ALL[name]
    _given.clear()
    start = check(exercise.function(exercise.start), gpu)
    assert not start.passed
    assert exercise.hints_for(start.findings[0].what)[0] in str(start)
    said = [start.findings[0].what, *(message for message, _ in WRONG[exercise.name])]
    assert [hint for hint in exercise.hints if not any(hint.where in each for each in said)] == []
    solved = check(exercise.function(exercise.solution), gpu)
    assert solved.passed, str(solved)
    if exercise.kind == "loop":
        assert solved.trial.frame_us < 0.98 * (start.trial.frame_us if start.trial.error is None else 1e9)
        assert solved.trial.limit_us <= solved.trial.frame_us


TOLD = ["whose_wait", "fault_in_trace", "read_a_bill", "fill_in_place", "capture_the_graph", "overlap_the_copies"]


@pytest.mark.parametrize("name", sampled(ALL, TOLD))
def test_wrong_answers_are_told_what_is_wrong(name, gpu):
    for message, source in WRONG[name]:
        checked = check(ALL[name].function(source), gpu)
        assert not checked.passed, message
        assert message in str(checked).splitlines()[0]


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("0*.ipynb")):
        if of_notebook(path.stem[:2]):
            text = nbformat.writes(put_cells(nbformat.read(path, as_version=4), path.stem[:2]))
            path.write_text(text + "\n", encoding="utf-8")
