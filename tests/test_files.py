"""Outputs: what is refused before the work starts, and that an older file survives; inputs without an end."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yolotrt_lab.errors import LabError, RecordingError, SettingsError, plain
from yolotrt_lab.files import check_output, read_file, write_file
from yolotrt_lab.frames import open_frames
from yolotrt_lab.model import read_onnx
from yolotrt_lab.notebooks import declared_parameters
from yolotrt_lab.plans import read_plan

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def refused(path, *endings, **options):
    with pytest.raises(SettingsError) as caught:
        check_output(path, *endings, **options)
    assert str(caught.value).count("\n") == 1
    return caught.value


def test_what_may_be_written_leaves_no_trace_and_may_be_written(tmp_path):
    path = tmp_path / "new" / "deep" / "page.HTML"
    check_output(path, ".json", ".html")
    assert list(tmp_path.iterdir()) == []
    assert write_file(path, "<p>").read_text() == "<p>"
    check_output(path, ".html")


@pytest.mark.parametrize("name", ["page.txt", "page", "html", ".html"])
def test_another_ending_is_refused_with_the_name_to_use(tmp_path, name):
    assert "must end in .html" in refused(tmp_path / name, ".html").message


@posix
def test_folders_devices_pipes_links_and_places_below_a_file_are_refused(tmp_path):
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nothing")
    (tmp_path / "device.json").symlink_to("/dev/full")
    names = {"folder.json": "a folder", "pipe.json": "a pipe", "link.json": "a link", "dangling.json": "a link"}
    for name, what in (names | {"device.json": "a link", "file.json/x.json": "no folder"}).items():
        assert what in refused(tmp_path / name, ".json").message
        with pytest.raises(SettingsError, match="cannot be written: "):
            write_file(tmp_path / name, "{}")
    assert (tmp_path / "file.json").read_text() == "{}"
    with pytest.raises(SettingsError, match="a device"):
        write_file("/dev/null", "x")
    assert "a device" in refused(Path("/dev/null"), ".json").message
    assert "a folder" in refused(Path(), ".json").message


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", pytest.param("a\ud83d", marks=posix)], ids=["long", "nul", "half"])
@pytest.mark.parametrize("ending", ["", ".json"])
def test_what_can_be_no_name_is_refused(tmp_path, name, ending):
    assert "cannot be written: " in refused(tmp_path / (name + ending), ".json").message


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.parquet", b"frame,ms\n"), ("a.json", b"<html>"), ("a.html", b"{}"), ("a.png", b"GIF89a"), ("a.svg", b"x")],
)
def test_a_file_of_another_kind_stays_as_it_is(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "stays as it is" in refused(path, path.suffix).message
    path.write_bytes(b"")
    check_output(path, path.suffix)


def test_a_file_is_not_overwritten_unless_asked_for(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    assert "--force" in refused(path, ".parquet", overwrite=False).fix
    check_output(path, ".parquet")


@posix
def test_a_disk_that_is_full_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "page.html"
    write_file(path, "<p>the older one")
    code = (
        "import resource, signal, sys; from yolotrt_lab.files import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))\n"
        "try: write_file(sys.argv[1], '<p>' * 1_000)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        f"SettingsError {path} cannot be written: File too large; it needs 3,000 bytes\nFix: "
    )
    assert path.read_text() == "<p>the older one"
    assert list(tmp_path.iterdir()) == [path]


def test_reading_stops_at_the_limit_whether_a_file_is_sparse_or_never_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", "1")
    sparse = tmp_path / "sparse.csv"
    with sparse.open("wb") as file:
        file.truncate(3_000_000)
    with pytest.raises(RecordingError, match=r"at most 1 MB, got 3 MB\nFix: .*YOLOTRT_LAB_MAX_MB=6"):
        read_file(sparse, error=RecordingError)
    with pytest.raises(SettingsError, match="standard input must hold at most 1 MB, got more"):
        read_file(io.BytesIO(bytes(2_000_000)), "standard input")
    if Path("/dev/zero").exists():
        with pytest.raises(SettingsError, match="what never ends"):
            read_file(Path("/dev/zero"))
    assert read_file(io.BytesIO(bytes(1_000_000))) == bytes(1_000_000)


@pytest.mark.parametrize(
    "read", [read_onnx, read_plan, declared_parameters, lambda path: open_frames(path.rename("a.png"))]
)
def test_models_plans_notebooks_and_images_beyond_the_limit_are_refused(read, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", "1")
    monkeypatch.chdir(tmp_path)
    with Path("sparse").open("wb") as file:
        file.truncate(3_000_000)
    with pytest.raises(LabError, match=r"at most 1 MB, got 3 MB\nFix: .*YOLOTRT_LAB_MAX_MB=6"):
        read(Path("sparse"))


@pytest.mark.parametrize("limit", ["2GB", "many", "-5", "0", "9" * 5_000])
def test_a_limit_that_is_no_number_is_refused(limit, monkeypatch):
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", limit)
    with pytest.raises(
        SettingsError, match=f"must be a whole number of MB, got '{limit[:20]}'\nFix: YOLOTRT_LAB_MAX_MB=500"
    ):
        read_file(io.BytesIO(b"x"))
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", "")
    assert read_file(io.BytesIO(b"x")) == b"x"


def test_nothing_that_steers_a_terminal_is_in_an_error_or_in_plain_text():
    steering = "\x1b]0;title\x07\x9b2J\r\x08\x7f\u202e\u2066\u2028\ud800"
    assert plain(f"a{steering}b\tc\nd") == "a\ufffd]0;title\ufffd\ufffd2J" + "\ufffd" * 7 + "b\tc\nd"
    error = SettingsError(f"no file {steering}", fix=f"name {steering}")
    assert str(error) == plain(str(error))
    assert plain("Grüße, 日本語 🙂 é\u200d") == "Grüße, 日本語 🙂 é\u200d"
