"""Runs one installed TensorRT-RTX through the backend and prints what came of each case, as JSON.

A process can hold one version of TensorRT-RTX and one logger, so test_tensorrt.py starts this once for each version,
with that version on PYTHONPATH: python rtx_driver.py FOLDER
"""

import json
import sys
from pathlib import Path
from unittest import mock

from fake_tensorrt import FakeContext, FakeEngine
from tiny_onnx import tiny_model

from yolotrt_lab import plans as tensorrt_build
from yolotrt_lab import tensorrt
from yolotrt_lab.cuda import Gpu
from yolotrt_lab.errors import LabError
from yolotrt_lab.plans import (
    build_plan,
    build_targets,
    capability_bit,
    import_tensorrt,
    log_of,
    read_header,
    write_plan,
)
from yolotrt_lab.tensorrt import TensorRTEngine, check_gpu

FOLDER = Path(sys.argv[1])
MODULE = "tensorrt_rtx"
OPEN_BATCH = ("N", 3, 4, 4)
SHAPES = {name: (batch, 3, 4, 4) for name, batch in (("one", 1), ("two", 2), ("four", 4))}
ADA = Gpu("an Ada GPU", (8, 9))
trt = import_tensorrt(MODULE)
plan = build_plan(tiny_model(), module=MODULE)
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def build(model, **options):
    return len(build_plan(model, module=MODULE, **options))


def load(content, **options):
    TensorRTEngine.load(content, module=MODULE, **options)


def edited(position, value):
    return plan[:position] + value + plan[position + len(value) :]


def lacks(fake, real):
    return [
        name for name in vars(fake) if not name.startswith("_") and name != "stands_for" and not hasattr(real, name)
    ]


@case
def facts():
    header = read_header(plan)
    bits = {name: capability_bit(trt, divmod(int(name[2:]), 10)) for name in build_targets(trt)}
    return {
        "version": trt.__version__,
        "header": [header.module, list(header.version)],
        "built_for": [name for name, bit in bits.items() if header.capabilities >> bit & 1],
        "dtypes": [name for name in tensorrt._DTYPES if getattr(trt.DataType, name).name == name],
        "fakes": [
            fake.__name__ for fake in (FakeEngine, FakeContext) if not lacks(fake, getattr(trt, fake.stands_for))
        ],
    }


@case
def build_fp16():
    return build(tiny_model(dtype="float16"))


@case
def build_from_a_file():
    path = FOLDER / "tiny.onnx"
    path.write_bytes(tiny_model())
    return build(path)


@case
def build_missing_file():
    build(FOLDER / "none.onnx")


@case
def build_empty():
    build(b"")


@case
def build_stray_bytes():
    build(b"this is no model" * 8)


@case
def build_truncated_model():
    build(tiny_model()[:50])


@case
def build_unsupported_operator():
    build(tiny_model(operator="NoSuchOperator"))


@case
def build_dynamic():
    return build(tiny_model(OPEN_BATCH), profile={"images": (SHAPES["one"], SHAPES["two"], SHAPES["four"])})


@case
def build_dynamic_without_profile():
    build(tiny_model(OPEN_BATCH))


@case
def build_profile_upside_down():
    build(tiny_model(OPEN_BATCH), profile={"images": (SHAPES["four"], SHAPES["two"], SHAPES["one"])})


@case
def build_profile_that_only_tensorrt_checks():
    with mock.patch.object(tensorrt_build, "check_profile"):
        build_profile_upside_down()


@case
def build_that_the_builder_gives_up():
    with mock.patch.object(tensorrt_build, "check_profile"):
        build_dynamic_without_profile()


@case
def build_unknown_target():
    build(tiny_model(), target="SM1")


@case
def one_target():
    return read_header(build_plan(tiny_model(), module=MODULE, target="SM89")).capabilities == 1 << capability_bit(
        trt, (8, 9)
    )


@case
def plan_for_another_gpu():
    turing = build_plan(tiny_model(), module=MODULE, target="SM75")
    check_gpu(read_header(turing), trt, Gpu("a Turing GPU", (7, 5)), "the plan")
    check_gpu(read_header(turing), trt, Gpu("a Hopper GPU", (9, 0)), "the plan")  # has no bit: the runtime judges
    check_gpu(read_header(turing), trt, ADA, "the plan")


@case
def load_here():
    load(plan)


@case
def load_refused_by_the_runtime():
    with mock.patch.object(tensorrt, "find_gpu", lambda: ADA):
        load(plan)


@case
def load_truncated():
    load(plan[: len(plan) // 2])


@case
def load_cut_in_the_header():
    load(plan[:40])


@case
def load_empty():
    load(b"")


@case
def load_onnx():
    load(tiny_model())


@case
def load_plan_of_tensorrt():
    load(edited(0, b"ftrt"))


@case
def load_other_build():
    load(edited(27, bytes([plan[27] + 1])))


@case
def load_flipped_byte():
    middle = len(plan) // 2
    write_plan(FOLDER / "flipped.plan", plan)
    (FOLDER / "flipped.plan").write_bytes(edited(middle, bytes([plan[middle] ^ 1])))
    load(FOLDER / "flipped.plan")


@case
def load_missing_file():
    load(FOLDER / "none.plan")


@case
def from_onnx_uses_its_cache():
    def open_once():
        return TensorRTEngine.from_onnx(tiny_model(dtype="float16"), module=MODULE, cache_dir=FOLDER / "cache")

    with (
        mock.patch.object(tensorrt, "find_gpu", lambda: ADA),
        mock.patch.object(TensorRTEngine, "load", lambda plan, **options: (plan, options)),
    ):
        first, options = open_once()
        with mock.patch.object(tensorrt, "build_plan", side_effect=AssertionError("built twice")):
            second, _ = open_once()
    return {
        "same": first == second,
        "ada_only": read_header(first).capabilities == 1 << capability_bit(trt, (8, 9)),
        "precision": options["precision"],
        "files": sorted(path.name for path in (FOLDER / "cache").iterdir()),
    }


@case
def logger():
    log = log_of(trt)
    return {"same": log is log_of(import_tensorrt(MODULE)), "lines": list(log.lines)}


def outcome(function):
    try:
        return {"error": "", "value": function()}
    except LabError as error:
        return {
            "error": type(error).__name__,
            "message": error.message,
            "fix": error.fix,
            "log": list(getattr(error, "log", [])),
        }


if __name__ == "__main__":
    (FOLDER / "default.plan").write_bytes(plan)
    print(json.dumps({name: outcome(function) for name, function in CASES.items()}))
