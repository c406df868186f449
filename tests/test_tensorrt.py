"""The TensorRT backend on stand-ins, for what would need a GPU, and where there is no driver or no package."""

import json
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
from fake_tensorrt import FakeEngine, FakeGpu, FakeStream, fake_module
from tiny_onnx import tiny_model

from yolotrt_lab import cuda as driver
from yolotrt_lab import tensorrt as backend
from yolotrt_lab.cuda import Gpu
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import (
    DtypeError,
    EngineError,
    MissingPackageError,
    ModelError,
    NoGpuError,
    PlanError,
    SettingsError,
    ShapeError,
)
from yolotrt_lab.heads import ModelInfo
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.plans import build_plan, import_tensorrt, log_of
from yolotrt_lab.tensorrt import TensorRTEngine

STATIC = {"images": ("in", (1, 3, 4, 4), "FLOAT"), "output0": ("out", (1, 2, 4, 4), "HALF")}
DYNAMIC = {"images": ("in", (-1, 3, 4, 4), "FLOAT"), "output0": ("out", (-1, 2, 4, 4), "FLOAT")}


def make(tensors, trt=None):
    fake = FakeEngine(**tensors)
    return fake, TensorRTEngine(fake, trt or fake_module(), label="fake")


@pytest.mark.parametrize(("tensors", "batch", "half"), [(STATIC, 1, np.float16), (DYNAMIC, 2, np.float32)])
def test_engine_has_its_specs_in_the_usual_shape_of_its_profile(tensors, batch, half):
    _, engine = make(tensors)
    (images,), (output,) = engine.inputs, engine.outputs
    assert (images.name, images.shape, images.dtype) == ("images", (batch, 3, 4, 4), np.float32)
    assert (output.name, output.shape, output.dtype) == ("output0", (batch, 2, 4, 4), half)


def test_context_binds_once_and_enqueues_on_the_stream():
    fake, engine = make(STATIC)
    device = FakeGpu()
    context = engine.context(device)
    assert device.sizes == [1 * 3 * 4 * 4 * 4, 1 * 2 * 4 * 4 * 2]
    context.enqueue(FakeStream())
    context.enqueue(FakeStream())
    assert fake._calls == [
        ("set_input_shape", "images", (1, 3, 4, 4)),
        ("set_tensor_address", "images", 4096),
        ("set_tensor_address", "output0", 8192),
        ("execute_async_v3", 77),
        ("execute_async_v3", 77),
    ]


def test_siblings_run_in_one_execution_context_and_bind_their_memory_in_turn():
    fake, engine = make(STATIC)
    device = FakeGpu()
    first = engine.context(device)
    second = first.sibling(device)
    assert fake._contexts == 99  # of 100, one was made
    fake._calls.clear()
    for context in (second, first, first, second):
        context.enqueue(FakeStream())
    run, bind = ("execute_async_v3", 77), "set_tensor_address"
    to_first, to_second = (
        [(bind, name, context.buffers[name].address) for name in ("images", "output0")] for context in (first, second)
    )
    assert fake._calls == [run, *to_first, run, run, *to_second, run]


def test_siblings_belong_to_one_thread():
    _, engine = make(STATIC)
    context = engine.context(FakeGpu())
    context.sibling(FakeGpu()).enqueue(FakeStream())
    with ThreadPoolExecutor() as pool, pytest.raises(EngineError, match="two threads"):
        pool.submit(context.enqueue, FakeStream()).result()


def test_raw_context_is_tensorrts_own_with_its_shapes_set_and_outlived_by_its_engine():
    fake, engine = make(STATIC)
    context, kept = engine.raw_context(FakeGpu()), weakref.ref(engine)
    assert context.execute_async_v3(5)
    assert fake._calls == [("set_input_shape", "images", (1, 3, 4, 4)), ("execute_async_v3", 5)]
    del engine
    assert kept() is not None
    del context
    assert kept() is None


def test_context_goes_when_nobody_holds_it():
    _, engine = make(STATIC)
    context = engine.context(FakeGpu())
    gone = weakref.ref(context)
    del context
    assert gone() is None


@pytest.mark.parametrize("tensors", [STATIC, DYNAMIC])
def test_engine_has_contexts_side_by_side(tensors):
    _, engine = make(tensors)
    contexts = [engine.context(FakeGpu()) for _ in range(3)]
    assert len({id(context.buffers["images"]) for context in contexts}) == 3


def test_contexts_of_tensorrt_rtx_share_the_kernels_that_it_compiles():
    fake = FakeEngine(**STATIC)
    first, second = configs = Mock(), Mock()
    fake.create_runtime_config = iter(configs).__next__
    engine = TensorRTEngine(fake, fake_module("tensorrt_rtx"), label="fake")
    contexts = [engine.context(FakeGpu()) for _ in range(2)]
    assert len(contexts) == 2
    assert fake._configs == [first, second]
    assert second.create_runtime_cache.call_count == 0
    first.set_runtime_cache.assert_called_once_with(first.create_runtime_cache.return_value)
    second.set_runtime_cache.assert_called_once_with(first.create_runtime_cache.return_value)


def test_refused_enqueue_carries_the_log():
    trt = fake_module()
    fake, engine = make(STATIC, trt)
    context = engine.context(FakeGpu())
    fake._runs = False
    log_of(trt).log(trt.ILogger.WARNING, "a warning")
    log_of(trt).log(trt.ILogger.INFO, "not kept")
    log_of(trt).log(trt.ILogger.ERROR, "the cause: this")
    log_of(trt).log(trt.ILogger.INTERNAL_ERROR, "a consequence")
    with pytest.raises(EngineError, match="did not submit the inference: the cause: this") as caught:
        context.enqueue(FakeStream())
    assert caught.value.log == ("WARNING: a warning", "ERROR: the cause: this", "INTERNAL_ERROR: a consequence")


@pytest.mark.parametrize(
    ("flag", "value", "kind"),
    [("_contexts", 0, EngineError), ("_accepts", False, ShapeError), ("_accepts_memory", False, EngineError)],
)
def test_refused_context_is_an_error(flag, value, kind):
    fake, engine = make(STATIC)
    setattr(fake, flag, value)
    with pytest.raises(kind, match="nothing was logged"):
        engine.context(FakeGpu())


@pytest.mark.parametrize(
    ("tensor", "kind", "words"),
    [
        ({"output0": ("out", (1, -1), "FLOAT")}, ShapeError, "output0 depends on the data"),
        ({"images": ("in", (1, 3, 4, 4), "BF16")}, DtypeError, "images is BF16"),
    ],
)
def test_tensor_that_the_lab_cannot_hold(tensor, kind, words):
    with pytest.raises(kind, match=words):
        make({**STATIC, **tensor})


def test_engine_refuses_the_simulated_device(device):
    with pytest.raises(EngineError, match=r"simulated device(.|\n)*open_device\('cuda'\)"):
        make(STATIC)[1].context(device)


@pytest.fixture
def tensorrt(monkeypatch):
    """A module `tensorrt` on a machine without a driver."""
    module = fake_module()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(driver, "libcuda", lambda: type("Driver", (), {"cuInit": staticmethod(lambda flags: 100)}))
    return module


def tensorrt_plan(version):
    return b"ftrt" + bytes(20) + bytes(version) + bytes(100)


@pytest.mark.parametrize(
    "use",
    [
        lambda: build_plan(tiny_model(), module="tensorrt"),
        lambda: TensorRTEngine.from_onnx(tiny_model(), module="tensorrt"),
        lambda: TensorRTEngine.load(tensorrt_plan([10, 13, 3, 9])),
    ],
)
def test_tensorrt_is_not_asked_without_a_driver(tensorrt, use):
    with pytest.raises(NoGpuError, match="cuInit returned CUDA error 100"):
        use()


def test_the_plan_says_which_module_loads_it(tensorrt, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    rtx = b"vtrt" + bytes(12) + (64).to_bytes(8, "little") + bytes([1, 7, 1, 116]) + bytes(36)
    with pytest.raises(MissingPackageError, match="tensorrt_rtx is not installed"):
        TensorRTEngine.load(rtx)


def test_refused_plan_carries_the_log(tensorrt, monkeypatch):
    def refuse(plan):
        log_of(tensorrt).log(tensorrt.ILogger.ERROR, "expecting compute 8.6")

    monkeypatch.setattr(backend, "find_gpu", lambda: Gpu("a GPU", (9, 0)))
    tensorrt.Runtime = lambda log: Mock(deserialize_cuda_engine=refuse)
    with pytest.raises(PlanError, match=r"cannot be loaded on a GPU: expecting compute 8\.6") as caught:
        TensorRTEngine.load(tensorrt_plan([10, 13, 3, 9]))
    assert caught.value.log == ("ERROR: expecting compute 8.6",)


WRITTEN = {"description": "Ultralytics YOLO11n model", "task": "detect", "imgsz": [64, 64], "names": {"0": "nut"}}


def ultralytics_plan(plan):
    """The file that `format='engine'` gives: the length of the metadata, the metadata, the plan."""
    metadata = json.dumps(WRITTEN).encode()
    return len(metadata).to_bytes(4, "little") + metadata + plan


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    ("write", "names", "name"), [(bytes, (), "the model"), (ultralytics_plan, ("nut",), "YOLO11n")]
)
def test_plans_of_trtexec_and_of_ultralytics_are_opened(write, names, name, as_file, tensorrt, monkeypatch, tmp_path):
    given = []
    tensors = {"images": ("in", (1, 3, 64, 64), "FLOAT"), "output0": ("out", (1, 5, 84), "FLOAT")}
    monkeypatch.setattr(backend, "find_gpu", lambda: Gpu("a GPU", (9, 0)))
    load = Mock(side_effect=lambda plan: given.append(plan) or FakeEngine(**tensors))
    tensorrt.Runtime = lambda log: Mock(deserialize_cuda_engine=load)
    model = write(plan := tensorrt_plan([10, 13, 3, 9]))
    if as_file:
        (tmp_path / "mine.engine").write_bytes(model)
        model, name = tmp_path / "mine.engine", "mine"
    engine = open_engine(FakeGpu(), model)
    assert (given, engine.model, engine.label) == ([plan], name, "TensorRT 10.13.3.9.post1")
    assert engine.describe() == ModelInfo(1, names)
    with pytest.raises(SettingsError, match="a plan has the sizes that it was built for"):
        open_engine(FakeGpu(), model, image_size=640)


def test_a_plan_is_told_where_an_onnx_model_must_be(tmp_path):
    for plan in (tensorrt_plan([10, 13, 3, 9]), ultralytics_plan(tensorrt_plan([10, 13, 3, 9]))):
        for use in (OnnxRuntimeEngine, lambda plan: open_engine(open_device("simulated"), plan)):
            with pytest.raises(ModelError, match="must be an ONNX model, got a TensorRT plan\nFix: open it on its GPU"):
                use(plan)
    cut = ultralytics_plan(tensorrt_plan([10, 13, 3, 9]))[:60]
    with pytest.raises(ModelError, match="must be an ONNX model, got 60 bytes"):
        OnnxRuntimeEngine(cut)


def test_plan_of_tensorrt_is_filed_under_its_gpu_and_its_arithmetic(tensorrt, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(backend, "build_plan", lambda *model, **options: built.append(options) or b"plan")
    monkeypatch.setattr(TensorRTEngine, "load", lambda plan, precision: Mock())
    for gpu in (Gpu("one", (8, 9)), Gpu("two", (8, 9)), Gpu("two", (9, 0)), Gpu("one", (8, 9))):
        monkeypatch.setattr(backend, "find_gpu", lambda gpu=gpu: gpu)
        TensorRTEngine.from_onnx(tiny_model(), module="tensorrt", cache_dir=tmp_path)
    for _ in range(2):
        TensorRTEngine.from_onnx(tiny_model(), module="tensorrt", cache_dir=tmp_path, tf32=False)
    assert [options["target"] for options in built] == [""] * 4
    assert [options["tf32"] for options in built] == [True] * 3 + [False]
    assert len(list(tmp_path.glob("tensorrt-10.13.3.9.post1-*.plan"))) == 4


def test_plan_of_another_tensorrt(tensorrt):
    with pytest.raises(PlanError, match=r"10\.13\.2\.6, and 10\.13\.3\.9\.post1 is installed"):
        TensorRTEngine.load(tensorrt_plan([10, 13, 2, 6]))
    tensorrt.__version__ = "10.0.1"  # wheels of that time leave the build number out
    with pytest.raises(NoGpuError):
        TensorRTEngine.load(tensorrt_plan([10, 0, 1, 6]))


def test_tensorrt_has_no_build_targets(tensorrt):
    with pytest.raises(SettingsError, match="'SM89'"):
        build_plan(tiny_model(), module="tensorrt", target="SM89")


def test_the_first_installed_module_is_taken_unless_one_is_asked_for(monkeypatch):
    rtx = fake_module("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    assert import_tensorrt() is rtx
    with pytest.raises(MissingPackageError, match="tensorrt is not installed"):
        build_plan(b"", module="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingPackageError, match="pip install tensorrt-rtx-cu13"):
        import_tensorrt()
    with pytest.raises(SettingsError, match="one of tensorrt, tensorrt_rtx, got 'tensorflow'"):
        import_tensorrt("tensorflow")
