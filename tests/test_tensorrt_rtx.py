"""TensorRT-RTX for real, through the backend: building needs no GPU, and neither do most of its failures.

Runs each TensorRT-RTX found: in the folders that YOLOTRT_LAB_RTX_PATHS lists (`pip install --target`), or the one that
can be imported.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import sampled

from yolotrt_lab.cuda import find_gpu
from yolotrt_lab.errors import NoGpuError

HERE = Path(__file__).parent


def rtx_folders():
    listed = os.environ.get("YOLOTRT_LAB_RTX_PATHS", "")
    if listed:
        return [folder for folder in listed.split(os.pathsep) if folder]
    return [""] if importlib.util.find_spec("tensorrt_rtx") else []


def run_with(folder, *arguments):
    """What Python prints with that TensorRT-RTX."""
    paths = [folder, str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(
    scope="module",
    params=sampled(rtx_folders() or [None], every=2),
    ids=lambda folder: Path(folder or "installed").name,
)
def rtx(request, tmp_path_factory):
    """What came of every case of rtx_driver.py, by its name."""
    if request.param is None:
        pytest.skip("no TensorRT-RTX: install tensorrt-rtx-cu13, or list folders in YOLOTRT_LAB_RTX_PATHS")
    return json.loads(run_with(request.param, HERE / "rtx_driver.py", tmp_path_factory.mktemp("rtx")))


# case: the error's class, words of its message or fix, words of its log
FAILURES = {
    "build_empty": ("ModelError", "no graph", ""),
    "build_stray_bytes": ("ModelError", "no graph", ""),
    "build_truncated_model": ("ModelError", "Failed to parse the ONNX model", "MODEL_DESERIALIZE_FAILED"),
    "build_unsupported_operator": ("ModelError", "support the operator NoSuchOperator", "While parsing node number 1"),
    "build_plugin": ("ModelError", "plugins run in full TensorRT alone", ""),
    "build_open_batch": ("ModelError", "(-1, 3, 4, 4)", ""),
    "build_that_the_builder_gives_up": ("EngineError", "no optimization profile", "buildSerializedNetwork"),
    "build_nms": ("ModelError", "nms=None", ""),
    "build_unknown_target": ("SettingsError", "SM89", ""),
    "load_truncated": ("PlanError", "is damaged: it must have", ""),
    "load_other_build": ("PlanError", "is installed", ""),
}


@pytest.mark.parametrize("case", FAILURES)
def test_rtx_failure_is_typed_and_says_the_fix(rtx, case):
    kind, words, logged = FAILURES[case]
    outcome = rtx[case]
    assert outcome["error"] == kind
    assert words in outcome["message"] + outcome["fix"]
    assert outcome["fix"]
    assert logged in "\n".join(outcome["log"])


def test_rtx_load_here(rtx):
    try:
        find_gpu()
    except NoGpuError:
        assert rtx["load_here"]["error"] == "NoGpuError"
        refused = rtx["load_refused_by_the_runtime"]
        assert refused["error"] == "PlanError"
        assert "deserializeCudaEngine" in refused["log"][0]
        assert refused["message"].endswith(
            f"cannot be loaded on an Ada GPU: {refused['log'][0].removeprefix('ERROR: ')}"
        )
    else:
        assert rtx["load_here"]["error"] in ("", "PlanError")


def test_rtx_builds_for_many_gpus_or_for_one(rtx):
    assert rtx["build_fp16"]["value"] > 10_000
    assert rtx["build_from_a_file"]["value"] > 10_000
    facts = rtx["facts"]["value"]
    turing, ada = facts["masks"]
    assert {"SM75", "SM80", "SM86", "SM89", "SM120"} <= set(facts["targets"])
    assert facts["header"] == ["tensorrt_rtx", [int(number) for number in facts["version"].split(".")]]
    assert [turing.bit_count(), ada.bit_count()] == [1, 1]
    assert facts["mask"].bit_count() >= 4
    assert [facts["mask"] & turing, facts["mask"] & ada] == [0, ada]
    assert facts["tf32"] == [True, False]


def test_rtx_has_the_names_that_the_tables_leave_open(rtx):
    facts = rtx["facts"]["value"]
    assert {"FLOAT", "HALF", "UINT8"} <= set(facts["dtypes"])
    assert facts["lacking"] == []
    assert facts["one_logger"]


def test_rtx_plan_is_built_once_for_the_gpu(rtx):
    value = rtx["from_onnx_uses_its_cache"]["value"]
    assert value["same"]
    assert value["targets"] == ["SM89"]
    assert value["precision"] == "fp16"
    plan, checksum = value["files"]
    assert plan.startswith(f"tensorrt_rtx-{rtx['facts']['value']['version']}-")
    assert checksum == f"{plan}.sha256"


@pytest.mark.exhaustive
@pytest.mark.skipif(len(rtx_folders()) < 2, reason="needs two versions of TensorRT-RTX")
def test_rtx_plan_of_another_version(tmp_path):
    first, second = rtx_folders()[:2]
    run_with(first, HERE / "rtx_driver.py", tmp_path)
    code = (
        "import sys; from yolotrt_lab.tensorrt import TensorRTEngine\n"
        "try: TensorRTEngine.load(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = run_with(second, "-c", code, tmp_path / "default.plan")
    assert said.startswith("PlanError")
    assert f"was built by TensorRT-RTX {Path(first).name}, and {Path(second).name} is installed" in said
