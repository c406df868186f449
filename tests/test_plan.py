"""Plans as bytes, as files and in the cache: headers, checksums, and when a plan is built."""

import hashlib
import itertools
import struct

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt_lab.errors import PlanError, SettingsError
from yolotrt_lab.plans import cache_folder, cached_plan, plan_name, read_header, read_plan, write_plan

PARTS = {"onnx": b"model", "builder": "tensorrt_rtx-1.4.0.76", "target": "SM89"}


def rtx_plan(payload=b"", version=(1, 7, 1, 116)):
    """The layout of a TensorRT-RTX plan around `payload`; real ones are in test_tensorrt_rtx.py."""
    size = 64 + len(payload)
    return b"vtrt" + bytes(12) + struct.pack("<Q", size) + bytes(version) + b"vtrt" + bytes(32) + payload


@given(st.binary(max_size=200), st.tuples(*[st.integers(0, 255)] * 4))
def test_header_reads_what_was_written(payload, version):
    assert read_header(rtx_plan(payload, version)) == ("tensorrt_rtx", version)


@given(st.just(0) | st.integers(4, 163))
def test_truncated_anywhere_is_damaged(size):
    with pytest.raises(PlanError, match="build it again") as caught:
        read_header(rtx_plan(bytes(100))[:size])
    assert ("truncated" if size < 64 else "damaged") in caught.value.message


def test_bytes_behind_the_end_are_damage():
    with pytest.raises(PlanError, match="the plan is damaged: it must have 74 bytes, got 75"):
        read_header(rtx_plan(bytes(10)) + b"x")


@pytest.mark.parametrize("content", [b"\x08\x08:\xfd", b"PK\x03\x04" + bytes(100), b"trtv" + bytes(100), b"v"])
def test_anything_else_is_not_a_plan(content):
    with pytest.raises(PlanError, match=r"yolo\.plan is not a TensorRT plan"):
        read_header(content, "yolo.plan")


def test_written_plan_comes_back(tmp_path):
    path = tmp_path / "new" / "yolo.plan"
    write_plan(path, b"plan")
    assert read_plan(path) == b"plan"
    assert sorted(file.name for file in path.parent.iterdir()) == ["yolo.plan", "yolo.plan.sha256"]
    digest = hashlib.sha256(b"plan").hexdigest()
    assert (path.parent / "yolo.plan.sha256").read_text() == f"{digest}  yolo.plan\n"  # as sha256sum --check wants it


def test_any_flipped_bit_is_found(tmp_path):
    path = tmp_path / "yolo.plan"
    write_plan(path, bytes(200))
    assert read_plan(path) == bytes(200)
    for bit in range(0, 8 * 200, 25):  # each place in a byte, from the first byte to the last
        damaged = bytearray(200)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(PlanError, match=r"yolo\.plan is damaged") as caught:
            read_plan(path)
        assert f"delete {path}" in caught.value.fix


@pytest.mark.parametrize("checksum", ["", "not a checksum", "0" * 64])
def test_damaged_checksum_counts_as_damage(tmp_path, checksum):
    path = tmp_path / "yolo.plan"
    write_plan(path, b"plan")
    (tmp_path / "yolo.plan.sha256").write_text(checksum)
    with pytest.raises(PlanError):
        read_plan(path)


def test_plan_needs_no_checksum_but_a_file(tmp_path):
    (tmp_path / "trtexec.plan").write_bytes(b"plan")
    assert read_plan(tmp_path / "trtexec.plan") == b"plan"
    with pytest.raises(PlanError, match="check the path"):
        read_plan(tmp_path / "none.plan")


@pytest.fixture
def build():
    """Builds plans that differ, as TensorRT's do."""
    return map(b"plan %d".__mod__, itertools.count(1)).__next__


def test_folder_by_argument_environment_and_system(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLOTRT_LAB_CACHE", str(tmp_path / "environment"))
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert cache_folder() == tmp_path / "environment"
    monkeypatch.delenv("YOLOTRT_LAB_CACHE")
    assert cache_folder() == platformdirs.user_cache_path("yolotrt-lab", appauthor=False)


def test_every_part_of_the_name_counts():
    others = {"onnx": b"other", "builder": "tensorrt-10.0.1", "target": "SM86"}
    names = [plan_name(**PARTS), *(plan_name(**{**PARTS, part: other}) for part, other in others.items())]
    assert len(set(names)) == 4
    assert names[0].startswith("tensorrt_rtx-1.4.0.76-")


def test_plan_is_built_once(tmp_path, build):
    assert [cached_plan(tmp_path / "a.plan", build) for _ in range(3)] == [b"plan 1"] * 3
    assert cached_plan(tmp_path / "b.plan", build) == b"plan 2"


@pytest.mark.parametrize("damaged", ["a.plan", "a.plan.sha256"])
def test_damaged_plan_is_built_again(tmp_path, build, damaged):
    cached_plan(tmp_path / "a.plan", build)
    (tmp_path / damaged).write_bytes(b"damaged")
    assert cached_plan(tmp_path / "a.plan", build) == b"plan 2"
    assert cached_plan(tmp_path / "a.plan", build) == b"plan 2"


def test_failed_build_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached_plan(tmp_path / "new" / "a.plan", lambda: 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path, build):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="YOLOTRT_LAB_CACHE"):
        cached_plan(tmp_path / "file" / "a.plan", build)
