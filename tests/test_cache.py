"""The plan cache: where it is, what a plan is filed under, and when it is built."""

import itertools
import sys
from pathlib import Path

import pytest

from yolotrt_lab.errors import SettingsError
from yolotrt_lab.plans import cache_folder, cached_plan, plan_name

PARTS = {"onnx": b"model", "builder": "tensorrt_rtx-1.4.0.76", "target": "SM89", "options": "[]"}


class Builder:
    """Counts; its plans differ, as TensorRT's do."""

    def __init__(self):
        self.built = 0

    def __call__(self):
        self.built += 1
        return b"plan %d" % self.built


def test_folder_by_argument_environment_and_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLOTRT_LAB_CACHE", str(tmp_path / "environment"))
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert cache_folder() == tmp_path / "environment"
    monkeypatch.delenv("YOLOTRT_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    for platform, parent in {
        "linux": tmp_path / "xdg",
        "win32": tmp_path / "local",
        "darwin": Path.home() / "Library" / "Caches",
    }.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder() == parent / "yolotrt-lab"


def test_every_part_of_the_key_counts():
    others = {"onnx": b"other", "builder": "tensorrt-10.0.1", "target": "SM86", "options": "[1]"}
    keys = [dict(PARTS), *({**PARTS, name: other} for name, other in others.items())]
    assert len({plan_name(**key) for key in keys}) == 5
    assert plan_name(**PARTS) == plan_name(**PARTS)
    assert plan_name(**PARTS).startswith("tensorrt_rtx-1.4.0.76-")


def test_parts_do_not_run_into_each_other():
    splits = [{"target": "ab"[:i], "options": "ab"[i:]} for i in range(3)]
    for one, two in itertools.combinations(splits, 2):
        assert plan_name(**{**PARTS, **one}) != plan_name(**{**PARTS, **two})


def test_plan_is_built_once(tmp_path):
    build = Builder()
    assert [cached_plan(tmp_path / "a.plan", build) for _ in range(3)] == [b"plan 1"] * 3
    assert cached_plan(tmp_path / "b.plan", build) == b"plan 2"


@pytest.mark.parametrize("damaged", ["a.plan", "a.plan.sha256"])
def test_damaged_plan_is_built_again(tmp_path, damaged):
    build = Builder()
    cached_plan(tmp_path / "a.plan", build)
    (tmp_path / damaged).write_bytes(b"damaged")
    assert cached_plan(tmp_path / "a.plan", build) == b"plan 2"
    assert cached_plan(tmp_path / "a.plan", build) == b"plan 2"


def test_failed_build_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached_plan(tmp_path / "new" / "a.plan", lambda: 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="YOLOTRT_LAB_CACHE"):
        cached_plan(tmp_path / "file" / "a.plan", Builder())
