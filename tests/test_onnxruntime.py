"""ONNX Runtime on the CPU for real; its CUDA provider up to where a GPU would be needed."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from fake_tensorrt import FakeGpu, FakeStream
from onnx import TensorProto, helper
from tiny_onnx import tiny_model, tiny_reference

from yolotrt_lab.device import open_device
from yolotrt_lab.errors import (
    DtypeError,
    EngineError,
    MissingPackageError,
    ModelError,
    NoGpuError,
    SettingsError,
    ShapeError,
)
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine

IMAGES = np.random.default_rng(1).random((1, 3, 4, 4), np.float32)


def one_node(operator, kind, result=None, **attributes):
    graph = helper.make_graph(
        [helper.make_node(operator, ["a"], ["b"], **attributes)],
        "one",
        [helper.make_tensor_value_info("a", kind, (2,))],
        [helper.make_tensor_value_info("b", result or kind, (2,))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("dtype", "label", "tolerance"), [(np.float32, "fp32", 1e-4), (np.float16, "fp16", 2e-2)], ids=["fp32", "fp16"]
)
def test_run_computes_the_model_in_its_own_types(dtype, label, tolerance):
    engine = OnnxRuntimeEngine(tiny_model(dtype=dtype))
    assert engine.label == f"ONNX Runtime {onnxruntime.__version__} CPU, {label}"
    assert [spec.dtype for spec in (*engine.inputs, *engine.outputs)] == [dtype, dtype]
    result = engine.run({"images": IMAGES.astype(dtype)})["output0"]
    np.testing.assert_allclose(result, tiny_reference(IMAGES), rtol=tolerance, atol=tolerance)


def test_uint8_input():
    engine = OnnxRuntimeEngine(one_node("Cast", TensorProto.UINT8, TensorProto.FLOAT, to=TensorProto.FLOAT))
    assert engine.inputs[0].dtype == np.uint8
    result = engine.run({"a": np.array([0, 255], np.uint8)})["b"]
    assert result.tolist() == [0.0, 255.0]


def test_infer_needs_no_device(device):
    engine = OnnxRuntimeEngine(tiny_model())
    np.testing.assert_array_equal(
        engine.infer(device, {"images": IMAGES})["output0"], engine.run({"images": IMAGES})["output0"]
    )


def test_model_from_a_file(tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(tiny_model())
    assert OnnxRuntimeEngine(tmp_path / "tiny.onnx").inputs[0].shape == (1, 3, 4, 4)


@pytest.mark.parametrize(("name", "batch"), [("N", 1), ("N", 3), (None, 2)])
def test_open_batch_is_fixed(name, batch):
    engine = OnnxRuntimeEngine(tiny_model((name, 3, 4, 4)), batch=batch)
    assert engine.inputs[0].shape == (batch, 3, 4, 4)
    assert engine.outputs[0].shape == (batch, 2, 4, 4)
    images = np.repeat(IMAGES, batch, axis=0)
    np.testing.assert_allclose(engine.run({"images": images})["output0"], tiny_reference(images), rtol=1e-4, atol=1e-5)


def test_other_open_dimensions_are_refused():
    with pytest.raises(ModelError, match="images must have fixed sizes"):
        OnnxRuntimeEngine(tiny_model(("N", 3, "H", 4)))


def test_misfit_input():
    with pytest.raises(ShapeError, match="images"):
        OnnxRuntimeEngine(tiny_model()).run({"images": np.zeros((1, 3, 8, 8), np.float32)})


UNUSABLE = {
    "empty": (b"", "cannot load the model"),
    "no model": (b"this is no model" * 8, "ONNX model"),
    "truncated": (tiny_model()[:50], "ONNX model"),
    "opset": (tiny_model(opset=99), "opset"),
    "operator": (tiny_model(operator="NoSuchOperator"), "NoSuchOperator"),
    "type": (one_node("Relu", TensorProto.BFLOAT16), "Relu"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_model(case):
    content, words = UNUSABLE[case]
    with pytest.raises(ModelError, match=words) as caught:
        OnnxRuntimeEngine(content)
    assert caught.value.fix.startswith("export")


def test_type_that_the_lab_does_not_handle():
    with pytest.raises(DtypeError, match=r"tensor\(uint16\)"):
        OnnxRuntimeEngine(one_node("Identity", TensorProto.UINT16))


def test_failure_prints_nothing(capfd):
    with pytest.raises(ModelError):
        OnnxRuntimeEngine(helper.make_model(helper.make_graph([], "empty", [], []), ir_version=8).SerializeToString())
    assert capfd.readouterr() == ("", "")


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="pip install onnxruntime"):
        OnnxRuntimeEngine(tiny_model())


def test_unknown_provider():
    with pytest.raises(SettingsError, match="cpu, cuda"):
        OnnxRuntimeEngine(tiny_model(), provider="tpu")


def test_cpu_has_no_context(device):
    with pytest.raises(EngineError, match=r"engine\.run"):
        OnnxRuntimeEngine(tiny_model()).context(device)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has the CUDA provider")
def test_cuda_needs_its_package():
    with pytest.raises(MissingPackageError, match="pip install onnxruntime-gpu"):
        OnnxRuntimeEngine(tiny_model(), provider="cuda")


@pytest.fixture
def pretended_cuda(monkeypatch):
    """An onnxruntime that lists the CUDA provider and then silently runs on the CPU, as a failed load does."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers, provider_options: session(model, options, providers=["CPUExecutionProvider"]),
    )


def test_silent_fallback_to_the_cpu_is_an_error(pretended_cuda):
    with pytest.raises(EngineError, match="fell back to"):
        OnnxRuntimeEngine(tiny_model(), provider="cuda")


class FakeSession:
    """Records what a CUDA context asks of a session."""

    def __init__(self):
        self.calls = []

    def io_binding(self):
        return SimpleNamespace(
            bind_input=lambda *arguments: self.calls.append(("bind_input", *arguments)),
            bind_output=lambda *arguments: self.calls.append(("bind_output", *arguments)),
        )

    def run_with_iobinding(self, binding, options):
        self.calls.append(("run", options.get_run_config_entry("disable_synchronize_execution_providers")))


@pytest.fixture
def cuda_engine(monkeypatch):
    """An engine that takes itself for one on CUDA, with recording sessions."""
    engine = OnnxRuntimeEngine(tiny_model())
    engine._provider = "cuda"
    engine.opened = []

    def session(options):
        engine.opened.append((options, FakeSession()))
        return engine.opened[-1][1]

    monkeypatch.setattr(engine, "session", session)
    return engine


def test_cuda_context_runs_on_the_callers_stream(cuda_engine):
    context = cuda_engine.context(FakeGpu())
    assert cuda_engine.opened == []
    for _ in range(2):
        context.enqueue(FakeStream())
    ((options, session),) = cuda_engine.opened
    assert options == {"user_compute_stream": "77"}
    assert session.calls == [
        ("bind_input", "images", "cuda", 0, np.float32, (1, 3, 4, 4), 4096),
        ("bind_output", "output0", "cuda", 0, np.float32, (1, 2, 4, 4), 8192),
        ("run", "1"),
        ("run", "1"),
    ]


def test_refused_inference_is_an_engine_error(cuda_engine, monkeypatch):
    def refuse(session, binding, options):
        raise RuntimeError("CUDA failure 900")

    monkeypatch.setattr(FakeSession, "run_with_iobinding", refuse)
    with pytest.raises(EngineError, match="did not submit the inference: CUDA failure 900"):
        cuda_engine.context(FakeGpu()).enqueue(FakeStream())


def test_cuda_context_stays_on_its_stream(cuda_engine):
    context = cuda_engine.context(FakeGpu())
    context.enqueue(FakeStream())
    with pytest.raises(EngineError, match="a context per stream"):
        context.enqueue(FakeStream(78))
    cuda_engine.context(FakeGpu()).enqueue(FakeStream(78))
    assert [options["user_compute_stream"] for options, _ in cuda_engine.opened] == ["77", "78"]


def test_cuda_context_belongs_to_one_thread(cuda_engine):
    context = cuda_engine.context(FakeGpu())
    context.enqueue(FakeStream())
    with ThreadPoolExecutor() as pool, pytest.raises(EngineError, match="two threads"):
        pool.submit(context.enqueue, FakeStream()).result()


def test_cuda_engine_refuses_the_simulated_device(cuda_engine, device):
    with pytest.raises(EngineError, match="simulated device"):
        cuda_engine.context(device)


@pytest.mark.gpu
def test_gpu_computes_the_model():
    try:
        device, engine = open_device("cuda"), OnnxRuntimeEngine(tiny_model(), provider="cuda")
    except (NoGpuError, MissingPackageError) as error:
        pytest.skip(error.message)
    results = super(OnnxRuntimeEngine, engine).infer(device, {"images": IMAGES})
    np.testing.assert_allclose(results["output0"], tiny_reference(IMAGES), rtol=1e-2, atol=1e-2)
