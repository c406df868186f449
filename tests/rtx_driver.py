"""Runs one installed TensorRT-RTX through the backend and prints what came of each case, as JSON.

A process can hold one version of TensorRT-RTX and one logger, so test_tensorrt_rtx.py starts this once for each
version, with that version on PYTHONPATH: python rtx_driver.py FOLDER
"""

import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from fake_tensorrt import FakeContext, FakeEngine
from onnx import TensorProto
from tiny_onnx import tiny_model

from yolotrt_lab import plans, tensorrt
from yolotrt_lab.cuda import Gpu
from yolotrt_lab.errors import LabError
from yolotrt_lab.plans import build_plan, build_targets, import_tensorrt, log_of, read_header
from yolotrt_lab.tensorrt import TensorRTEngine

FOLDER = Path(sys.argv[1])
MODULE = "tensorrt_rtx"
ADA = Gpu("an Ada GPU", (8, 9))
trt = import_tensorrt(MODULE)
plan = build_plan(tiny_model(), module=MODULE)


def build(model, **options):
    return len(build_plan(model, module=MODULE, **options))


def build_from_a_file():
    path = FOLDER / "tiny.onnx"
    path.write_bytes(tiny_model())
    return build(path)


def build_that_the_builder_gives_up():
    with mock.patch.object(plans, "_require_fixed_sizes"):
        build(tiny_model(("N", 3, 4, 4)))


def load_refused_by_the_runtime():
    with mock.patch.object(tensorrt, "find_gpu", lambda: ADA):
        TensorRTEngine.load(plan)


def lacks(fake):
    names = {name for name in vars(fake) if not name.startswith("_")} - {"stands_for"}
    return sorted(names - set(dir(getattr(trt, fake.stands_for))))


def mask(content):
    """Which compute capabilities a plan is for; one bit each."""
    return struct.unpack_from("<Q", content, 32)[0]


def facts():
    log = log_of(trt)
    return {
        "version": trt.__version__,
        "header": read_header(plan),
        "targets": list(build_targets(trt)),
        "mask": mask(plan),
        "masks": [mask(build_plan(tiny_model(), module=MODULE, target=target)) for target in ("SM75", "SM89")],
        "tf32": [build_plan(tiny_model(), module=MODULE, tf32=tf32) == plan for tf32 in (True, False)],
        "dtypes": [name for name in tensorrt._DTYPES if getattr(trt.DataType, name).name == name],
        "lacking": lacks(FakeEngine) + lacks(FakeContext),
        "one_logger": log is log_of(import_tensorrt(MODULE)),
    }


def from_onnx_uses_its_cache():
    def open_once():
        return TensorRTEngine.from_onnx(tiny_model(dtype="float16"), module=MODULE, cache_dir=FOLDER / "cache")

    with (
        mock.patch.object(tensorrt, "find_gpu", lambda: ADA),
        mock.patch.object(
            TensorRTEngine, "load", lambda plan, precision: SimpleNamespace(plan=plan, precision=precision)
        ),
        mock.patch.object(tensorrt, "build_plan", wraps=build_plan) as builder,
    ):
        first, second = open_once(), open_once()
    return {
        "same": first == second,
        "targets": [call.kwargs["target"] for call in builder.call_args_list],
        "precision": first.precision,
        "files": sorted(path.name for path in (FOLDER / "cache").iterdir()),
    }


CASES = {
    "facts": facts,
    "build_fp16": lambda: build(tiny_model(dtype="float16")),
    "build_from_a_file": build_from_a_file,
    "build_empty": lambda: build(b""),
    "build_stray_bytes": lambda: build(b"this is no model" * 8),
    "build_truncated_model": lambda: build(tiny_model()[:50]),
    "build_unsupported_operator": lambda: build(tiny_model(operator="NoSuchOperator")),
    "build_plugin": lambda: build(tiny_model(operator="EfficientNMS_TRT")),
    "build_open_batch": lambda: build(tiny_model(("N", 3, 4, 4))),
    "build_that_the_builder_gives_up": build_that_the_builder_gives_up,
    "build_nms": lambda: build(tiny_model(operator="NonZero", result=TensorProto.INT64)),
    "build_unknown_target": lambda: build(tiny_model(), target="SM1"),
    "load_here": lambda: bool(TensorRTEngine.load(plan)),
    "load_refused_by_the_runtime": load_refused_by_the_runtime,
    "load_other_build": lambda: TensorRTEngine.load(plan[:27] + bytes([plan[27] + 1]) + plan[28:]),
    "load_truncated": lambda: TensorRTEngine.load(plan[: len(plan) // 2]),
    "from_onnx_uses_its_cache": from_onnx_uses_its_cache,
}


def outcome(function):
    try:
        return {"error": "", "value": function()}
    except LabError as error:
        log = getattr(error, "log", ())
        return {"error": type(error).__name__, "message": error.message, "fix": error.fix, "log": log}


if __name__ == "__main__":
    (FOLDER / "default.plan").write_bytes(plan)
    print(json.dumps({name: outcome(function) for name, function in CASES.items()}))
