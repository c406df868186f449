"""Running notebooks: which, with what, in which interpreter, and what a failure says."""

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from tiny_notebooks import write

from yolotrt_lab import cli
from yolotrt_lab import notebooks as execute
from yolotrt_lab.errors import MissingPackageError, SettingsError
from yolotrt_lab.notebooks import Failure, chosen_parameters, declared_parameters, find_notebooks, run_notebooks

DEFAULTS = "device = 'auto'\nframes = 400\nrate: float = 30.0\nlive = False\nvideo = None\nsizes = (1, 2)\nroot = open"


def outputs(run):
    """The text that the executed copy's cells printed."""
    cells = nbformat.read(run.output, as_version=4).cells
    return [output.text for cell in cells for output in cell.get("outputs", ()) if output.output_type == "stream"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder of notebooks in place of the lab's own, which is also the current one."""
    monkeypatch.setattr(execute, "lab_path", lambda *parts: tmp_path.joinpath(*parts))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("notebooks/02-b", "notebooks/01-a", "elsewhere/mine", "elsewhere/01-a"):
        write(tmp_path / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_notebooks_are_found_by_name_and_by_path_and_without_names_all(lab):
    one, two, mine = lab / "notebooks/01-a.ipynb", lab / "notebooks/02-b.ipynb", Path("elsewhere/mine.ipynb")
    assert find_notebooks() == [one, two]
    assert find_notebooks(["02-b", "elsewhere/mine.ipynb", "01-a.ipynb"]) == [two, mine, one]
    assert find_notebooks(["2", "01"]) == [two, one]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["03-c"], r"(?s)no notebook 03-c.*01-a, 02-b"),
        (["01-a", "elsewhere/01-a.ipynb"], "more than one notebook is called 01-a"),
    ],
)
def test_names_that_fit_no_notebook_or_two_are_refused(lab, names, message):
    with pytest.raises(SettingsError, match=message):
        find_notebooks(names)


def test_a_lab_without_notebooks_says_so(lab):
    for path in (lab / "notebooks").iterdir():
        path.unlink()
    with pytest.raises(SettingsError, match="no notebooks"):
        find_notebooks()


def test_parameters_and_their_defaults_are_read_from_the_tagged_cell(tmp_path):
    notebook = write(tmp_path / "a.ipynb", "x = 1", parameters=DEFAULTS)
    literals = {"device": "auto", "frames": 400, "rate": 30.0, "live": False, "video": None, "sizes": (1, 2)}
    assert declared_parameters(notebook) == {**literals, "root": None}
    assert declared_parameters(write(tmp_path / "b.ipynb", "x = 1")) == {}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("frames", "2000", 2000),
        ("rate", "25", 25.0),
        ("live", "TRUE", True),
        ("live", "False", False),
        ("device", "0", "0"),
        ("video", "0", 0),
        ("video", "a/b.mp4", "a/b.mp4"),
        ("video", "None", None),
        ("sizes", "(3,)", (3,)),
    ],
)
def test_a_value_is_read_as_its_defaults_type(tmp_path, name, text, value):
    notebook = write(tmp_path / "a.ipynb", parameters=DEFAULTS)
    [chosen] = chosen_parameters([notebook], {name: text})
    assert chosen == {name: value}
    assert type(chosen[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("frames", "many", r"(?s)frames must be of type int, got 'many'.*like 400"),
        ("frames", "1.5", "frames must be of type int"),
        ("rate", "fast", "rate must be of type float"),
        ("live", "1", "live must be of type bool"),
        ("sizes", "3", "sizes must be of type tuple"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, name, text, message):
    notebook = write(tmp_path / "a.ipynb", parameters=DEFAULTS)
    with pytest.raises(SettingsError, match=message):
        chosen_parameters([notebook], {name: text})


def test_each_notebook_gets_what_it_declares(tmp_path):
    one = write(tmp_path / "one.ipynb", parameters="device = 'auto'\nframes = 1")
    two = write(tmp_path / "two.ipynb", parameters="seed = 1")
    three = write(tmp_path / "three.ipynb")
    chosen = chosen_parameters([one, two, three], {"seed": "3", "frames": "7"}, device="cuda")
    assert chosen == [{"device": "cuda", "frames": 7}, {"seed": 3}, {}]


def test_a_name_that_no_notebook_declares_is_answered_with_the_known_ones(tmp_path):
    notebook = write(tmp_path / "one.ipynb", parameters="seed = 1\nframes = 2")
    with pytest.raises(SettingsError, match=r"(?s)no notebook has a parameter frame\b.*frames, seed"):
        chosen_parameters([notebook], {"frame": "3"})


CELL = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
NOTEBOOK = {"cells": [CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize(
    "content",
    [
        "print('no JSON')",
        *map(json.dumps, ([], {}, {"cells": 3}, {name: NOTEBOOK[name] for name in NOTEBOOK if name != "metadata"})),
        *(json.dumps(NOTEBOOK | {"cells": [CELL | change]}) for change in ({"source": 5}, {"metadata": []})),
        *(
            json.dumps(NOTEBOOK | {"cells": [{name: CELL[name] for name in CELL if name != out}]})
            for out in CELL
            if out != "id"
        ),
    ],
)
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "a.ipynb"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match="is not a notebook") as caught:
        declared_parameters(path)
    assert "attribute" not in caught.value.message


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command over three notebooks at a time: one that works, one whose cell fails, one whose kernel dies."""
    folder = tmp_path_factory.mktemp("runs")
    seen = "import sys, os\nprint(sys.executable, os.environ['MPLBACKEND'], frames, sep='|')"
    works = write(folder / "works.ipynb", seen, parameters="frames = 400")
    fails = write(folder / "fails.ipynb", "# divide\n1 / 0", "print('never')", parameters="frames = 400")
    dies = write(folder / "dies.ipynb", "x = 1", "import os\nos._exit(3)", "y = 1")
    other = folder / "jupyter/kernels/python3"
    other.mkdir(parents=True)
    kernel = {"argv": ["/no/such/python"], "display_name": "x", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(kernel))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("MPLBACKEND", "agg")
        patch.setenv("PYTHONWARNINGS", "always")
        patch.chdir(folder)
        runs, out, err = [], StringIO(), StringIO()
        patch.setattr(execute, "run_notebooks", lambda *each, **how: runs.extend(run_notebooks(*each, **how)) or runs)
        typed = [
            "run",
            *(path.name for path in (fails, works, dies)),
            "-p",
            "frames",
            "7",
            "--out",
            str(folder / "results"),
        ]
        with redirect_stdout(out), redirect_stderr(err):
            status = cli.main([*typed, "--jobs", "2"])
    return SimpleNamespace(runs=runs, status=status, out=out.getvalue(), err=err.getvalue(), results=folder / "results")


@pytest.fixture
def runs(command):
    return {run.name: run for run in command.runs}


def test_the_command_runs_reports_and_tells_of_failures(command):
    first, *ended, last = command.out.splitlines()
    assert command.status == 1
    assert first.startswith("3 notebooks, ")
    assert sorted(line.split()[:2] for line in ended) == [["FAILED", "dies"], ["FAILED", "fails"], ["ok", "works"]]
    assert [line.partition("(")[2] for line in ended] == ["1 of 3)", "2 of 3)", "3 of 3)"]
    assert last.split() == ["report:", str(command.results / "report.html")]
    assert "cell 3: # divide\n        ZeroDivisionError: division by zero\n" in command.err
    assert "yolotrt-lab: 2 of 3 notebooks failed: fails, dies\nFix: " in command.err
    page = (command.results / "report.html").read_text(encoding="utf-8")
    assert "|7\n" in page
    assert 'class="failure"' in page
    assert len(list((command.results / "notebooks").iterdir())) == 3


def test_a_notebook_runs_in_this_interpreter_with_its_parameters(runs):
    run = runs["works"]
    assert run.failure is None
    assert outputs(run) == [f"{sys.executable}|module://matplotlib_inline.backend_inline|7\n"]
    assert 0 < run.seconds < 60


def test_a_failure_names_the_cell_as_written_and_the_error_and_the_next_notebook_runs(runs):
    assert list(runs) == ["fails", "works", "dies"]
    assert runs["fails"].failure == Failure(3, "# divide", "ZeroDivisionError: division by zero")
    assert str(runs["fails"].failure) == "cell 3: # divide\nZeroDivisionError: division by zero"
    assert outputs(runs["fails"]) == []


def test_a_kernel_that_dies_is_the_failure_of_the_cell_it_died_in(runs):
    assert runs["dies"].failure == Failure(3, "import os", "DeadKernelError: Kernel died")


def test_half_a_copy_that_a_full_disk_leaves_is_none(tmp_path, monkeypatch):
    def full(_, output, **__):
        Path(output).write_text('{"cells": [')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("papermill.execute_notebook", full)
    [run] = run_notebooks([write(tmp_path / "a.ipynb")], [{}], tmp_path / "out")
    assert run.failure == Failure(0, "", "OSError: [Errno 28] No space left on device")
    assert not run.output.exists()


@pytest.mark.exhaustive
def test_several_run_at_a_time_and_are_returned_in_the_order_given(tmp_path):
    """Each waits for the other one's file."""
    cell = "import pathlib, time\npathlib.Path(MINE).touch()\nwhile not pathlib.Path(OTHER).exists(): time.sleep(0.01)"
    files = [str(tmp_path / name) for name in "ab"]
    for name, (mine, other) in {"short": files, "a-longer-one": files[::-1]}.items():
        cells = [cell.replace("MINE", repr(mine)).replace("OTHER", repr(other)), *["x = 1"] * len(name)]
        write(tmp_path / f"{name}.ipynb", *cells)
    paths, ended = [tmp_path / "short.ipynb", tmp_path / "a-longer-one.ipynb"], []
    both = run_notebooks(paths, [{}, {}], tmp_path / "out", jobs=2, done=ended.append)
    assert [(run.name, run.failure) for run in both] == [("short", None), ("a-longer-one", None)]
    assert sorted(ended, key=str) == sorted(both, key=str)


def test_a_notebook_is_not_overwritten_by_its_copy(lab):
    before = Path("notebooks/01-a.ipynb").read_bytes()
    with pytest.raises(SettingsError, match="would be overwritten"):
        list(run_notebooks([Path("elsewhere/mine.ipynb"), lab / "notebooks/01-a.ipynb"], [{}, {}], Path("notebooks")))
    assert Path("notebooks/01-a.ipynb").read_bytes() == before
    assert not Path("notebooks/mine.ipynb").exists()


def test_running_without_papermill_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(MissingPackageError, match=r"(?s)papermill is not installed.*pip install.*\[notebooks\]"):
        list(run_notebooks([write(tmp_path / "a.ipynb")], [{}], tmp_path / "out"))
