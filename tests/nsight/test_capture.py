"""Capturing: the command line for the nsys at hand, and what becomes of what it leaves. The nsys is a stand-in."""

import os
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock, call

import pytest
from tiny_report import SECRETS, write_secret

from yolotrt_lab.errors import NsysError
from yolotrt_lab.files import lock
from yolotrt_lab.nsight.capture import Nsys, capture_trace, profiled

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in for nsys is a script")

OLD = "  -t, --trace=\n  -s, --sample=\n  --force-overwrite=\n  -o, --output=\n"
NEW = OLD + "  --cpuctxsw=\n  --cuda-event-trace=\n  --cuda-graph-trace=<granularity>\n  -c, --capture-range=\n"
NEW += "  --capture-range-end=\n\t   See also --kill, or --no-such-option=true\n"
FAKE = """#!/bin/sh
case "$1 $2" in
"--version "*) echo "NVIDIA Nsight Systems version 2025.3.2.474-253236389321v0" ;;
"profile --help") cat "{folder}/help" ;;
profile*)
    shift
    env > "{folder}/seen"
    while [ "${{1#--}}" != "$1" ]; do
        case "$1" in --output=*) output="${{1#--output=}}" ;; esac
        shift
    done
    [ -z "{ending}" ] || printf "made by the stand-in" > "$output{ending}"
    exec "$@"
    ;;
export*)
    while [ $# -gt 1 ]; do
        [ "$1" = --output ] && output="$2"
        shift
    done
    [ "$(cat "$1")" = "made by the stand-in" ] && cp "{report}" "$output"
    ;;
esac
"""
IMPORTER = """#!/bin/sh
[ "$1 $3" = "-i -o" ] || exit 1
{body}
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A report that holds what nobody should see."""
    path = tmp_path_factory.mktemp("reports") / "secret.sqlite"
    write_secret(path)
    return path


@pytest.fixture
def install(tmp_path, monkeypatch, secret):
    """Make an nsys that leaves a file of that ending, first on the PATH."""

    def make(ending=".nsys-rep", options=NEW):
        (tmp_path / "help").write_text(options)
        fake = FAKE.format(folder=tmp_path, ending=ending, report=secret)
        script(tmp_path / "nsight" / "target-linux-x64" / "nsys", fake)
        monkeypatch.setenv("PATH", f"{tmp_path / 'nsight' / 'target-linux-x64'}:/usr/bin:/bin")
        return Nsys.open()

    return make


COMMAND = ("true",)


def test_version_and_options_are_read_from_nsys_itself(install):
    nsys = install()
    assert nsys.version == (2025, 3, 2, 474)
    expected = {"--trace", "--sample", "--force-overwrite", "--output", "--cpuctxsw", "--cuda-event-trace"}
    expected |= {"--cuda-graph-trace", "--capture-range", "--capture-range-end"}
    assert nsys.options == expected  # and not what its prose mentions


def test_the_command_line_leaves_the_loop_alone():
    known = "trace sample cpuctxsw cuda-event-trace cuda-graph-trace discard-environment force-overwrite output"
    options = [*known.split(), "capture-range", "capture-range-end"]
    nsys = Nsys("/bin/nsys", (2025, 3), frozenset(f"--{name}" for name in options))
    assert nsys.command_line(Path("/tmp/mine"), ["python", "loop.py", "--fast"]) == [
        *("/bin/nsys", "profile", "--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--cuda-event-trace=false"),
        *("--discard-environment=true", "--force-overwrite=true", "--cuda-graph-trace=graph", "--output=/tmp/mine"),
        *("python", "loop.py", "--fast"),
    ]
    ranges = nsys.command_line(Path("/tmp/mine"), ["x"], ranges=True, graphs="node")
    assert {"--capture-range=cudaProfilerApi", "--capture-range-end=stop", "--cuda-graph-trace=node"} < set(ranges)


def test_options_that_an_old_nsys_lacks_are_left_out(install):
    line = install(options=OLD).command_line("mine", ["x"], ranges=True)
    options = ["--trace=cuda,nvtx", "--sample=none", "--force-overwrite=true", "--output=mine"]
    assert line[1:] == ["profile", *options, "x"]


@pytest.mark.parametrize("keep", [False, True])
def test_what_stays_is_one_scrubbed_file_and_the_report_with_the_environment_only_if_asked(install, tmp_path, keep):
    nsys = install()
    report = capture_trace(COMMAND, tmp_path / "new" / "v1.5", nsys=nsys, keep_report=keep)
    assert report == tmp_path / "new" / "v1.5.sqlite"
    assert {each.name for each in report.parent.iterdir()} == {"v1.5.sqlite"} | ({"v1.5.nsys-rep"} if keep else set())
    data = report.read_bytes()
    assert data.startswith(b"SQLite format 3")
    assert [secret for secret in SECRETS if secret.encode() in data] == []


def test_the_command_gets_its_environment(install, tmp_path):
    install()
    given = {"PATH": os.environ["PATH"], "EXTRA": "1"}
    capture_trace(COMMAND, tmp_path / "mine", environment=given)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert {"EXTRA=1", f"PATH={given['PATH']}"} <= set(seen) and not [line for line in seen if line.startswith("HOME=")]


def test_a_command_that_fails_is_told_of_and_its_trace_is_kept(install, tmp_path):
    install()
    with pytest.raises(NsysError, match=r"ended with status 3; its trace is in .*mine\.sqlite"):
        capture_trace(["sh", "-c", "exit 3"], tmp_path / "mine")
    assert (tmp_path / "mine.sqlite").exists()


@pytest.mark.parametrize("place", ["nsight/host-linux-x64", "nsight/linux-desktop-glibc_2_11_3-x64", "on the path"])
def test_a_raw_report_is_imported_by_what_lies_beside_nsys_or_on_the_path(install, tmp_path, monkeypatch, place):
    install(ending=".qdstrm")
    importer = IMPORTER.format(body='cp "$2" "$4"')
    script(tmp_path / place / "QdstrmImporter", importer)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{tmp_path / 'on the path'}")
    assert capture_trace(COMMAND, tmp_path / "mine").exists()
    assert not (tmp_path / "mine.qdstrm").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, r"(?s)mine\.qdstrm, which has to be imported.* holds the environment.*Fix: .*2025\.3\.2\.474"),
        ("echo 'wrong version of the file' >&2; exit 1", "QdstrmImporter failed: wrong version of the file"),
    ],
)
def test_a_raw_report_that_cannot_be_imported_stays_and_the_message_says_why(install, tmp_path, body, message):
    install(ending=".qdstrm")
    if body:
        importer = tmp_path / "nsight" / "host-linux-x64" / "QdstrmImporter"
        script(importer, IMPORTER.format(body=body))
    with pytest.raises(NsysError, match=message):
        capture_trace(COMMAND, tmp_path / "mine")
    assert (tmp_path / "mine.qdstrm").read_text() == "made by the stand-in"


def test_no_report_at_all_says_what_to_look_at(install, tmp_path):
    install(ending="")
    with pytest.raises(NsysError, match=r"(?s)left no report \(status 0\).*Fix: .*profiled"):
        capture_trace(COMMAND, tmp_path / "new" / "mine")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_nsys_that_is_missing_or_does_not_run_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("yolotrt_lab.nsight.capture.shutil.which", lambda _: None)
    monkeypatch.setattr("yolotrt_lab.nsight.capture.Path.glob", lambda *_: iter(()))
    with pytest.raises(NsysError, match=r"(?s)no nsys on this machine.*Fix: install Nsight Systems"):
        Nsys.open()
    with pytest.raises(NsysError, match="does not run"):
        Nsys.open(str(script(tmp_path / "nsys", "#!/no/such/interpreter\n")))


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_profiled_starts_the_profiler_waits_for_the_gpu_and_stops_even_where_the_program_fails(monkeypatch, error):
    driver = Mock()
    monkeypatch.setattr(sys.modules[capture_trace.__module__], "libcuda", lambda: driver)
    with pytest.raises(error) if error else nullcontext(), profiled():
        assert driver.mock_calls == [call.cuProfilerStart()]
        if error:
            raise error
    assert driver.mock_calls == [call.cuProfilerStart(), call.cuCtxSynchronize(), call.cuProfilerStop()]


def test_profiled_does_nothing_where_there_is_no_driver():
    code = "import ctypes\nfrom yolotrt_lab.nsight import profiled\n"
    code += "def refuse(*_): raise OSError\nctypes.CDLL = refuse\nwith profiled(): print('ran')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.stdout, done.stderr) == ("ran\n", "")


def test_a_capture_that_was_killed_leaves_its_environment_until_the_next_one_at_most(install, tmp_path):
    install()
    killed = tmp_path / ".mine.capture"
    killed.mkdir()
    (killed / "mine.qdstrm").write_text("TOKEN")
    capture_trace(COMMAND, tmp_path / "mine")
    assert not killed.exists()


def test_a_capture_does_not_touch_what_another_one_still_writes(install, tmp_path):
    install()
    folder = tmp_path / ".mine.capture"
    folder.mkdir()
    (folder / "mine.qdstrm").write_text("half")
    with (folder / ".lock").open("ab") as file:
        assert lock(file)
        with pytest.raises(NsysError, match="another capture writes"):
            capture_trace(COMMAND, tmp_path / "mine")
        assert (folder / "mine.qdstrm").read_text() == "half"


def test_a_capture_that_is_told_to_end_ends_what_it_runs_and_leaves_nothing(install, tmp_path):
    nsys = install()
    place = tmp_path / "out" / "mine"
    running = tmp_path / "running"
    sleeping = ["sh", "-c", f"echo $$ > {running}; exec sleep 600"]
    command = [sys.executable, "-m", "yolotrt_lab", "trace", "capture", "--out", str(place), "--", *sleeping]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (running.exists() and running.read_text()):
            assert process.poll() is None, process.stderr.read()
        assert [each.name for each in place.parent.iterdir()] == [".mine.capture"]
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert list(place.parent.iterdir()) == []
    del nsys


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("NVIDIA Nsight Systems version 2025.3.2.474-253236389321v0", (2025, 3, 2, 474)),
        ("NVIDIA Nsight Systems version 2023.4", (2023, 4)),
        *(("", ()), ("unknown", ()), ("version " + "9" * 5_000 + "." + "9" * 5_000, ()), ("\u0662.\u0663", ())),
        ("\x1b[31mversion\x1b[0m 2024.1\n", (2024, 1)),
    ],
)
def test_any_words_of_an_nsys_are_a_version_or_none(said, version, tmp_path):
    words = tmp_path / "words"
    words.write_text(said, encoding="utf-8")
    nsys = script(tmp_path / "nsys", f"#!/bin/sh\ncat {words}\n")
    assert Nsys.open(str(nsys)).version == version
