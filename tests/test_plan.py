"""Plans as bytes and as files: headers and checksums."""

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolotrt_lab.errors import CorruptPlanError, ForeignPlanError, PlanError
from yolotrt_lab.plans import PlanHeader, read_header, read_plan, write_plan


def rtx_plan(payload=b"", version=(1, 7, 1, 116), capabilities=0x7E):
    """The layout of a TensorRT-RTX plan around `payload`; real ones are in test_tensorrt_rtx.py."""
    size = 64 + len(payload)
    head = b"vtrt" + bytes(12) + struct.pack("<Q", size) + bytes(version) + b"vtrt" + struct.pack("<Q", capabilities)
    return head + bytes(24) + payload


@given(st.binary(max_size=200), st.tuples(*[st.integers(0, 255)] * 4), st.integers(0, 2**64 - 1))
def test_header_reads_what_was_written(payload, version, capabilities):
    assert read_header(rtx_plan(payload, version, capabilities)) == PlanHeader("tensorrt_rtx", version, capabilities)


def test_plan_of_tensorrt_has_no_mask():
    plan = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(100)
    assert read_header(plan) == PlanHeader("tensorrt", (10, 13, 3, 9), None)


@given(st.integers(4, 163))
def test_truncated_anywhere_is_corrupt(size):
    with pytest.raises(CorruptPlanError, match="build it again"):
        read_header(rtx_plan(bytes(100))[:size])


@pytest.mark.parametrize("content", [b"\x08\x08:\xfd", b"PK\x03\x04" + bytes(100), b"trtv" + bytes(100), b"v"])
def test_anything_else_is_foreign(content):
    with pytest.raises(ForeignPlanError, match=r"yolo\.plan is no TensorRT plan"):
        read_header(content, "yolo.plan")


def test_empty_plan_is_corrupt():
    with pytest.raises(CorruptPlanError, match="empty"):
        read_header(b"")


def test_written_plan_comes_back(tmp_path):
    path = tmp_path / "new" / "yolo.plan"
    write_plan(path, b"plan")
    assert read_plan(path) == b"plan"
    assert sorted(file.name for file in path.parent.iterdir()) == ["yolo.plan", "yolo.plan.sha256"]
    digest = hashlib.sha256(b"plan").hexdigest()
    assert (path.parent / "yolo.plan.sha256").read_text() == f"{digest}  yolo.plan\n"  # as sha256sum --check wants it


@settings(deadline=None)
@given(st.integers(0, 63), st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory, position, bit):
    path = tmp_path_factory.mktemp("plan") / "yolo.plan"
    write_plan(path, bytes(64))
    damaged = bytearray(64)
    damaged[position] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(CorruptPlanError, match=r"yolo\.plan is damaged") as caught:
        read_plan(path)
    assert f"delete {path}" in caught.value.fix


@pytest.mark.parametrize("checksum", ["", "not a checksum", "0" * 64])
def test_damaged_checksum_counts_as_damage(tmp_path, checksum):
    path = tmp_path / "yolo.plan"
    write_plan(path, b"plan")
    (tmp_path / "yolo.plan.sha256").write_text(checksum)
    with pytest.raises(CorruptPlanError):
        read_plan(path)


def test_plan_without_a_checksum_is_read(tmp_path):
    (tmp_path / "trtexec.plan").write_bytes(b"plan")
    assert read_plan(tmp_path / "trtexec.plan") == b"plan"


def test_missing_plan(tmp_path):
    with pytest.raises(PlanError, match="check the path"):
        read_plan(tmp_path / "none.plan")
