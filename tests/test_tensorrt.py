"""The TensorRT backend on stand-ins, for what would need a GPU, and where there is no driver or no package."""

import struct
import sys
import weakref

import numpy as np
import pytest
from fake_tensorrt import FakeEngine, fake_module
from hypothesis import given
from hypothesis import strategies as st
from tiny_onnx import tiny_model

from yolotrt_lab import cuda as driver
from yolotrt_lab import tensorrt as backend
from yolotrt_lab.cuda import Gpu
from yolotrt_lab.errors import (
    DtypeError,
    EngineError,
    ForeignPlanError,
    MissingPackageError,
    NoGpuError,
    PlanError,
    PlanVersionError,
    ProfileError,
    SettingsError,
    ShapeError,
    UnsupportedGpuError,
)
from yolotrt_lab.plans import build_plan, check_profile, import_tensorrt, log_of
from yolotrt_lab.tensorrt import TensorRTEngine, refusal

STATIC = {"images": ("in", (1, 3, 4, 4), "FLOAT"), "output0": ("out", (1, 2, 4, 4), "HALF")}
DYNAMIC = {"images": ("in", (-1, 3, 4, 4), "FLOAT"), "output0": ("out", (-1, 2, 4, 4), "FLOAT")}


class FakeDevice:
    kind = "cuda"

    def __init__(self):
        self.sizes = []

    def empty_device(self, nbytes):
        self.sizes.append(nbytes)
        return type("Memory", (), {"address": 4096 * len(self.sizes), "nbytes": nbytes})()


class FakeStream:
    handle = 77


def make(tensors, trt=None, **options):
    fake = FakeEngine(**tensors)
    return fake, TensorRTEngine(fake, trt or fake_module(), label="fake", **options)


def test_static_engine_has_its_specs():
    _, engine = make(STATIC)
    (images,), (output,) = engine.inputs, engine.outputs
    assert (images.name, images.shape, images.dtype) == ("images", (1, 3, 4, 4), np.float32)
    assert (output.name, output.shape, output.dtype) == ("output0", (1, 2, 4, 4), np.float16)


def test_context_binds_once_and_enqueues_on_the_stream():
    fake, engine = make(STATIC)
    device = FakeDevice()
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
    assert {name: buffer.address for name, buffer in context.buffers.items()} == {"images": 4096, "output0": 8192}


def test_siblings_run_in_one_execution_context_and_bind_their_memory_in_turn():
    fake, engine = make(STATIC)
    device = FakeDevice()
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


def test_siblings_belong_to_one_thread(device):
    _, engine = make(STATIC)
    context = engine.context(FakeDevice())
    context.sibling(FakeDevice()).enqueue(FakeStream())
    with pytest.raises(EngineError, match="two threads"):
        device.start_thread(context.enqueue, FakeStream()).join()


def test_context_goes_when_nobody_holds_it():
    _, engine = make(STATIC)
    context = engine.context(FakeDevice())
    gone = weakref.ref(context)
    del context
    assert gone() is None


def test_static_engine_has_contexts_side_by_side():
    _, engine = make(STATIC)
    contexts = [engine.context(FakeDevice()) for _ in range(3)]
    assert len({id(context.buffers["images"]) for context in contexts}) == 3


def test_contexts_share_what_the_runtime_compiles_where_it_has_a_cache():
    class Config:
        def create_runtime_cache(self):
            made.append("cache")
            return made

        def set_runtime_cache(self, cache):
            self.cache = cache

    class Compiling(FakeEngine):
        def create_runtime_config(self):
            return Config()

        def create_execution_context(self, config):
            made.append(config)
            return super().create_execution_context()

    made = []
    engine = TensorRTEngine(Compiling(**STATIC), fake_module(), label="fake")
    contexts = [engine.context(FakeDevice()) for _ in range(2)]
    assert len(contexts) == 2
    assert made[0] == "cache"
    assert [config.cache is made for config in made[1:]] == [True, True]


def test_refused_enqueue_carries_the_log():
    trt = fake_module()
    fake, engine = make(STATIC, trt)
    context = engine.context(FakeDevice())
    fake._runs = False
    log_of(trt).log(trt.ILogger.WARNING, "a warning")
    log_of(trt).log(trt.ILogger.INFO, "not kept")
    log_of(trt).log(trt.ILogger.ERROR, "the cause: this")
    log_of(trt).log(trt.ILogger.INTERNAL_ERROR, "a consequence")
    with pytest.raises(EngineError, match="not submitted: the cause: this") as caught:
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
        engine.context(FakeDevice())


def test_dynamic_engine_takes_the_usual_shape_of_its_profile():
    _, engine = make(DYNAMIC)
    assert engine.inputs[0].shape == (2, 3, 4, 4)
    assert engine.outputs[0].shape == (2, 2, 4, 4)


def test_dynamic_engine_takes_a_shape_in_its_range():
    assert make(DYNAMIC, shapes={"images": (4, 3, 4, 4)})[1].outputs[0].shape == (4, 2, 4, 4)


@pytest.mark.parametrize("shapes", [{"images": (5, 3, 4, 4)}, {"images": (1, 3, 4)}, {"image": (1, 3, 4, 4)}])
def test_shape_that_the_plan_does_not_take(shapes):
    with pytest.raises(ShapeError, match="image"):
        make(DYNAMIC, shapes=shapes)


def test_dynamic_engine_has_one_context_at_a_time():
    _, engine = make(DYNAMIC)
    context = engine.context(FakeDevice())
    with pytest.raises(EngineError, match="one context at a time"):
        engine.context(FakeDevice())
    del context
    sibling = engine.context(FakeDevice()).sibling(FakeDevice())
    with pytest.raises(EngineError, match="one context at a time"):
        engine.context(FakeDevice())
    del sibling
    assert engine.context(FakeDevice()).buffers["images"].nbytes == 2 * 3 * 4 * 4 * 4


def test_output_whose_size_depends_on_the_data():
    with pytest.raises(ShapeError, match="output0"):
        make({**STATIC, "output0": ("out", (1, -1), "FLOAT")})


def test_type_that_numpy_lacks():
    with pytest.raises(DtypeError, match="images is BF16"):
        make({**STATIC, "images": ("in", (1, 3, 4, 4), "BF16")})


def test_engine_refuses_the_simulated_device(device):
    with pytest.raises(EngineError, match="simulated device"):
        make(STATIC)[1].context(device)


@pytest.fixture
def tensorrt(monkeypatch):
    """A module `tensorrt` on a machine without a driver."""
    module = fake_module()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(driver, "_libcuda", lambda: type("Driver", (), {"cuInit": staticmethod(lambda flags: 100)}))
    return module


def tensorrt_plan(version):
    return b"ftrt" + bytes(20) + bytes(version) + bytes(100)


def test_builder_of_tensorrt_is_not_made_without_a_driver(tensorrt):
    with pytest.raises(NoGpuError, match="cuInit returned CUDA error 100"):
        build_plan(tiny_model(), module="tensorrt")


def test_runtime_of_tensorrt_is_not_made_without_a_driver(tensorrt):
    with pytest.raises(NoGpuError):
        TensorRTEngine.load(tensorrt_plan([10, 13, 3, 9]))
    with pytest.raises(NoGpuError):
        TensorRTEngine.from_onnx(tiny_model(), module="tensorrt")


def test_plan_of_tensorrt_is_filed_under_its_gpu(tensorrt, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(backend, "build_plan", lambda *model, **options: built.append(options) or b"plan")
    monkeypatch.setattr(TensorRTEngine, "load", lambda plan, **options: plan)
    for gpu in (Gpu("one", (8, 9)), Gpu("two", (8, 9)), Gpu("two", (9, 0)), Gpu("one", (8, 9))):
        monkeypatch.setattr(backend, "find_gpu", lambda gpu=gpu: gpu)
        TensorRTEngine.from_onnx(tiny_model(), module="tensorrt", cache_dir=tmp_path)
    assert [options["target"] for options in built] == ["", "", ""]
    assert len(list(tmp_path.glob("tensorrt-10.13.3.9.post1-*.plan"))) == 3


def test_plan_of_another_tensorrt(tensorrt):
    with pytest.raises(PlanVersionError, match=r"10\.13\.2\.6, and 10\.13\.3\.9\.post1 is installed"):
        TensorRTEngine.load(tensorrt_plan([10, 13, 2, 6]))
    tensorrt.__version__ = "10.0.1"  # wheels of that time leave the build number out
    with pytest.raises(NoGpuError):
        TensorRTEngine.load(tensorrt_plan([10, 0, 1, 6]))


def test_rtx_plan_for_tensorrt(tensorrt):
    plan = b"vtrt" + bytes(12) + struct.pack("<Q", 64) + bytes([1, 7, 1, 116]) + bytes(36)
    with pytest.raises(ForeignPlanError, match="made by TensorRT-RTX"):
        TensorRTEngine.load(plan, module="tensorrt")


def test_tensorrt_has_no_build_targets(tensorrt):
    with pytest.raises(SettingsError, match="'SM89'"):
        build_plan(tiny_model(), module="tensorrt", target="SM89")


def test_missing_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingPackageError, match="pip install tensorrt-rtx-cu13"):
        import_tensorrt()
    with pytest.raises(MissingPackageError, match="tensorrt_rtx is not installed"):
        build_plan(b"", module="tensorrt_rtx")
    with pytest.raises(SettingsError):
        import_tensorrt("tensorflow")


def test_the_first_module_that_is_there_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_module("tensorrt_rtx"))
    assert import_tensorrt().__name__ == "tensorrt_rtx"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("ERROR: The engine cannot run on this GPU, which has compute capability 9.0.", UnsupportedGpuError),
        (
            "ERROR: The engine plan file is generated on an incompatible device, expecting compute 8.6",
            UnsupportedGpuError,
        ),
        ("ERROR: Serialization assertion failed", PlanError),
    ],
)
def test_refused_plan_is_told_by_its_log(line, kind):
    error = refusal("the plan", Gpu("a GPU", (9, 0)), "why", (line,))
    assert type(error) is kind
    assert error.log == (line,)


sizes = st.integers(-1, 3)
shapes = st.lists(sizes, min_size=1, max_size=2).map(tuple)


@given(st.lists(st.sampled_from([-1, 1, 2]), min_size=1, max_size=2).map(tuple), shapes, shapes, shapes)
def test_profile_fits_exactly_where_tensorrt_can_use_it(declared, low, usual, high):
    fits = len(declared) == len(low) == len(usual) == len(high)
    for i, size in enumerate(declared):
        fits = fits and low[i] >= 1 and low[i] <= usual[i] and usual[i] <= high[i]
        if fits and size != -1:
            fits = {low[i], usual[i], high[i]} == {size}
    try:
        check_profile({"images": declared}, {"images": (low, usual, high)})
    except ProfileError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(("profile", "words"), [({}, "open dimensions"), ({"image": ((1,),) * 3}, "is no input")])
def test_profile_has_the_inputs_that_are_open(profile, words):
    with pytest.raises(ProfileError, match=words):
        check_profile({"images": (-1,)} if not profile else {"images": (1,)}, profile)
    check_profile({"images": (1, 3)}, {})
