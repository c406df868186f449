"""The command: what it prints, where, and the status it exits with."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from samples import sampled
from tiny_notebooks import write

from yolotrt_lab import __version__, cli, cuda, doctor, notebooks
from yolotrt_lab.doctor import Finding, State
from yolotrt_lab.errors import NoGpuError, SettingsError, plain
from yolotrt_lab.terminal import exit_status

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-h"], "Start with: yolotrt-lab doctor"),
        (["run", "-h"], "Run notebooks and write one report.\n\nexamples:\n  yolotrt-lab run "),
        (["trace", "capture", "-h"], "examples:\n  yolotrt-lab trace capture "),
    ],
)
def test_help_shows_what_to_type(arguments, words, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(arguments)
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "last"), [([], "completion"), (["trace"], "export")])
def test_without_a_command_the_help_is_printed(arguments, last, capsys):
    assert cli.main(arguments) == 0
    commands = re.findall(r"(?m)^    (\w+)", capsys.readouterr().out)
    assert commands[-1] == last


def test_wrong_usage_exits_with_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["dance"])
    assert "invalid choice: 'dance'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run"], ["record", "overload"], ["detect", "synthetic"], ["trace", "capture"]])
def test_an_empty_name_is_not_the_current_folder(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command, "--out", ""])
    assert "argument --out: must name a file or a folder, got ''" in capsys.readouterr().err


def test_python_m_is_the_same_command():
    command = [sys.executable, "-m", "yolotrt_lab", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"yolotrt-lab {__version__}\n"


def test_an_error_of_the_lab_is_two_lines_and_a_traceback_only_for_debugging(monkeypatch, capsys):
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)
    assert cli.main(["run", "no-such-notebook"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("yolotrt-lab: there is no notebook no-such-notebook\nFix: ")
    assert len(err.splitlines()) == 2
    with pytest.raises(SettingsError):
        cli.main(["run", "no-such-notebook", "--debug"])
    monkeypatch.setenv("YOLOTRT_LAB_DEBUG", "1")
    with pytest.raises(SettingsError):
        cli.main(["run", "no-such-notebook"])


@pytest.mark.exhaustive
def test_run_exits_with_0_where_all_is_well(folder, capsys):
    write(folder / "good.ipynb", "assert True")
    assert cli.main(["run", "good.ipynb"]) == 0
    out, err = capsys.readouterr()
    assert "report: build" in out
    assert err == ""


@pytest.mark.parametrize("name", ["markdown_it", "papermill", "ipykernel"])
def test_without_the_extra_nothing_runs_and_the_command_that_installs_it_is_named(name, folder, monkeypatch, capsys):
    write(folder / "good.ipynb", "open('ran', 'w')")
    monkeypatch.delitem(sys.modules, "yolotrt_lab.page", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["run", "good.ipynb"]) == 2
    assert re.fullmatch(rf"yolotrt-lab: {name} is not installed.*\nFix: .*\[notebooks\]\"\n", capsys.readouterr().err)
    assert not (folder / "ran").exists()


def test_cuda_without_a_gpu_is_refused_before_anything_runs(folder, monkeypatch, capsys):
    def no_gpu():
        raise NoGpuError("there is no NVIDIA driver here", fix="use the simulated device")

    monkeypatch.setattr(cuda, "find_gpu", no_gpu)
    monkeypatch.setattr(notebooks, "run_notebooks", lambda *_, **__: pytest.fail("a notebook was run"))
    write(folder / "good.ipynb", parameters="device = 'auto'")
    assert cli.main(["run", "good.ipynb", "--device", "cuda"]) == 2
    assert "there is no NVIDIA driver here\nFix: use the simulated device" in capsys.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_a_run_that_is_ended_leaves_a_report_of_what_ran_and_says_so(folder):
    slow = "open('started', 'w').close()\nimport time\ntime.sleep(600)"
    for name, cell in {"done": "print(6 * 7)", "slow": slow, "waits": "open('waited', 'w')"}.items():
        write(folder / f"{name}.ipynb", cell)
    command = [sys.executable, "-m", "yolotrt_lab", "run", "done.ipynb", "slow.ipynb", "waits.ipynb", "--jobs", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + 600
        while not (folder / "started").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.terminate()
        out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (143, "\nstopped by SIGTERM\n")
    assert [line.split()[:2] for line in out.splitlines()][1:] == [["ok", "done"], ["report:", "build/report.html"]]
    assert not (folder / "waited").exists()
    page = (folder / "build" / "report.html").read_text(encoding="utf-8")
    assert "<pre>42\n" in page
    assert (
        "failed at cell 2: <code>open(&#39;started&#39;, &#39;w&#39;).close()</code></p>\n<pre>stopped by SIGTERM"
        in page
    )
    assert "failed before its first cell</p>\n<pre>stopped by SIGTERM" in page


@pytest.mark.parametrize("taken", ["build", "build/notebooks", "build/report.html"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(folder, taken, capsys):
    write(folder / "good.ipynb", "open('ran', 'w')")
    target = folder / taken
    target.parent.mkdir(exist_ok=True)
    target.mkdir() if taken.endswith("html") else target.write_text("a file")
    assert cli.main(["run", "good.ipynb"]) == 2
    assert re.fullmatch(rf"yolotrt-lab: {taken} can't be written: .*\nFix: .*\n", capsys.readouterr().err)
    assert not (folder / "ran").exists()


def test_a_page_of_something_else_is_not_overwritten_by_the_report(folder, capsys):
    write(folder / "good.ipynb", "open('ran', 'w')")
    (folder / "build").mkdir()
    (folder / "build/report.html").write_text("<p>mine")
    assert cli.main(["run", "good.ipynb"]) == 2
    assert "build/report.html is no report of notebooks, and stays as it is\nFix: " in capsys.readouterr().err
    assert (folder / "build/report.html").read_text() == "<p>mine"
    assert not (folder / "ran").exists()


def test_of_two_runs_into_one_folder_one_is_refused(folder, capsys):
    write(folder / "good.ipynb", "open('ran', 'w')")
    with notebooks.reserved(Path("build")):
        assert cli.main(["run", "good.ipynb"]) == 2
        assert "another run writes into build\nFix: wait until it ends" in capsys.readouterr().err
        assert not (folder / "ran").exists()
        with notebooks.reserved(Path("elsewhere")):
            pass
    with notebooks.reserved(Path("build")):
        pass


def test_notebooks_at_a_time_are_a_positive_number(folder, capsys):
    write(folder / "good.ipynb")
    assert cli.main(["run", "good.ipynb", "--jobs", "0"]) == 2
    assert "--jobs must be at least 1, got 0\nFix: " in capsys.readouterr().err


@pytest.mark.parametrize(("state", "status"), [(State.OK, 0), (State.MISSING, 1)])
def test_doctor_exits_with_1_where_the_lab_cannot_run(state, status, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("numpy", state, "2.4.6", needed=True)])
    assert cli.main(["doctor"]) == status
    assert capsys.readouterr().out.split()[:3] == [str(state), "numpy", "2.4.6"]
    assert cli.main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["can_run"] is (status == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -m yolotrt_lab record | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes streams otherwise there")
@pytest.mark.parametrize(
    ("words", "status"), sampled([("diagnose -", 2), ("doctor", 0), ("diagnose no.csv", 2), ("-h", 0)], every=4)
)
def test_closed_streams_are_no_error_of_their_own(words, status, tmp_path):
    command = f"{sys.executable} -m yolotrt_lab {words} <&- >&- 2>&-; echo $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"{status}\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written_is_two_lines_and_exit_status_2():
    command = [sys.executable, "-m", "yolotrt_lab", "record"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert done.returncode == 2
    assert done.stderr.startswith("yolotrt-lab: the output must be writable, got: No space left on device\nFix: ")
    assert len(done.stderr.splitlines()) == 2


def test_another_error_of_the_system_is_not_taken_for_the_outputs(monkeypatch):
    def broken():
        raise OSError("the disk is gone")

    monkeypatch.setattr(doctor, "examine", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        cli.main(["doctor"])


@pytest.mark.parametrize(
    "arguments",
    ["trace show LONG", "diagnose LONG", "detect LONG --out boxes", "run LONG", "record steady --out LONG"],
)
def test_a_path_that_cannot_be_looked_at_is_two_lines(arguments, folder, capsys):
    assert cli.main(arguments.replace("LONG", "x" * 3_000).split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert err.startswith("yolotrt-lab: ") and "\nFix: " in err


def test_memory_that_is_not_there_is_two_lines(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: np.empty(2**57))
    assert cli.main(["doctor"]) == 2
    assert "there must be memory for this, got: Unable to allocate 1.00 EiB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "usage", "words"),
    [
        (["recrod"], "usage: yolotrt-lab [-h]", "did you mean 'record'?"),
        (["record", "steady", "--frame-count", "3"], "usage: yolotrt-lab record [-h]", "did you mean '--frames'?"),
        (["trace", "shwo"], "usage: yolotrt-lab trace [-h]", "did you mean 'show'?"),
        (
            ["trace", "show", "a.sqlite", "--rang\x1b]0;x\x07e", "frame"],
            "usage: yolotrt-lab trace show",
            "unrecognized",
        ),
        (["bench", "--device", "gpu"], "usage: yolotrt-lab bench [-h]", "invalid choice: 'gpu'"),
        (
            ["bench", "--frames", "9" * 20],
            "usage: yolotrt-lab bench [-h]",
            "must be a whole number below 2,147,483,648",
        ),
        (["run", "-j", "9" * 5_000], "usage: yolotrt-lab run [-h]", "must be a whole number below 2,147,483,648"),
        (["run", "-j", "x"], "usage: yolotrt-lab run [-h]", "invalid"),
        (["detect", "x", "--iou=--"], "usage: yolotrt-lab", "argument --iou: expected one argument"),
    ],
)
def test_wrong_usage_shows_the_usage_of_what_was_meant(arguments, usage, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert usage in err and words in err
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", err)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["run", "01_reproduse"], "01_reproduce"), (["record", "overlaod", "--out", "x.parquet"], "overload")],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(arguments, meant, capsys):
    assert cli.main(arguments) == 2
    assert f"did you mean {meant!r}?" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_completion_offers_commands_scenarios_and_options(capsys):
    assert cli.main(["completion"]) == 0
    script = capsys.readouterr().out

    def offered(*words):
        line = " ".join(f"'{word}'" for word in words)
        ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _yolotrt_lab; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert offered("yolotrt-lab", "re") == ["record"]
    assert offered("yolotrt-lab", "record", "served-r") == ["served-report"]
    assert offered("yolotrt-lab", "run", "01") == ["01_reproduce"]
    assert offered("yolotrt-lab", "trace", "s") == ["show"]
    assert offered("yolotrt-lab", "trace", "export", "--p") == ["--perfetto"]
    assert {"doctor", "trace", "bench"} < set(offered("yolotrt-lab", ""))


def test_nothing_that_steers_a_terminal_comes_out_of_a_file(folder, capsys):
    name = "a\x1b]0;owned\x07b.log" if os.name != "nt" else "ab.log"
    lines = [f"frame {n} inf\x9ber\u202e: {n % 7 + 5}.0 ms \x1b[2J" for n in range(60)]
    Path(name).write_text("\n".join(["# \x1b]0;title\x07 \x9b31m a comment", *lines]), encoding="utf-8")
    for more in ([], ["--json"]):
        assert cli.main(["diagnose", name, *more]) == 0
        out, err = capsys.readouterr()
        assert plain(out + err) == out + err
    assert cli.main(["diagnose", f"no{name}"]) == 2
    err = capsys.readouterr().err
    assert plain(err) == err and err.count("\n") == 2


@pytest.fixture
def heard():
    """Ctrl-C is heard, though a shell starts what runs in its background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_the_second_ctrl_c_waits_for_what_is_being_kept_and_the_third_does_not(capsys):
    def keeping():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            print("kept")

    assert exit_status(keeping, debug=False) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("kept\n", "what there is is being kept; once more, and it is lost\n\nstopped by Ctrl-C\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def hanging():
        try:
            keeping()
        finally:
            signal.raise_signal(signal.SIGTERM)
            print("never")

    assert exit_status(hanging, debug=False) == 143
    assert "never" not in capsys.readouterr().out
