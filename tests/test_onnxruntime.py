"""ONNX Runtime on the CPU for real; its CUDA provider up to where a GPU would be needed."""

import sys
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

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
def test_run_computes_the_model_in_its_own_types(device, tmp_path, dtype, label, tolerance):
    (tmp_path / "tiny.onnx").write_bytes(tiny_model(dtype=dtype))
    engine = OnnxRuntimeEngine(tmp_path / "tiny.onnx")
    assert engine.label == f"ONNX Runtime {onnxruntime.__version__} CPU, {label}"
    assert [spec.dtype for spec in (*engine.inputs, *engine.outputs)] == [dtype, dtype]
    result = engine.run({"images": IMAGES.astype(dtype)})["output0"]
    np.testing.assert_allclose(result, tiny_reference(IMAGES), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(engine.infer(device, {"images": IMAGES.astype(dtype)})["output0"], result)


def test_uint8_input():
    engine = OnnxRuntimeEngine(one_node("Cast", TensorProto.UINT8, TensorProto.FLOAT, to=TensorProto.FLOAT))
    assert engine.inputs[0].dtype == np.uint8
    result = engine.run({"a": np.array([0, 255], np.uint8)})["b"]
    assert result.tolist() == [0.0, 255.0]


@pytest.mark.parametrize(("name", "batch"), [("N", 1), ("N", 3), (None, 2)])
def test_open_batch_is_fixed(name, batch):
    engine = OnnxRuntimeEngine(tiny_model((name, 3, 4, 4)), batch=batch)
    assert engine.inputs[0].shape == (batch, 3, 4, 4)
    assert engine.outputs[0].shape == (batch, 2, 4, 4)
    images = np.repeat(IMAGES, batch, axis=0)
    np.testing.assert_allclose(engine.run({"images": images})["output0"], tiny_reference(images), rtol=1e-4, atol=1e-5)


def test_other_open_dimensions_are_refused():
    with pytest.raises(ModelError, match="images must have fixed sizes"):
        OnnxRuntimeEngine(tiny_model(("N", "C", 4, 4)))


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


def test_provider_and_device_must_fit(device):
    with pytest.raises(SettingsError, match="cpu, cuda"):
        OnnxRuntimeEngine(tiny_model(), provider="tpu")
    with pytest.raises(EngineError, match=r"engine\.run"):
        OnnxRuntimeEngine(tiny_model()).context(device)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has the CUDA provider")
def test_cuda_needs_its_package():
    with pytest.raises(MissingPackageError, match="pip install onnxruntime-gpu"):
        OnnxRuntimeEngine(tiny_model(), provider="cuda")


def test_silent_fallback_to_the_cpu_is_an_error(monkeypatch):
    """As onnxruntime does when CUDA fails to load: it lists the CUDA provider, and runs on the CPU."""
    session = onnxruntime.InferenceSession(tiny_model(), providers=["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *arguments, **options: session)
    with pytest.raises(EngineError, match="fell back to"):
        OnnxRuntimeEngine(tiny_model(), provider="cuda")


@pytest.fixture
def cuda_engine(monkeypatch):
    """An engine that takes itself for one on CUDA; `opened` has the options and the mock of each session."""
    engine = OnnxRuntimeEngine(tiny_model())
    engine._provider, engine.opened = "cuda", []

    def session(options):
        engine.opened.append((options, Mock()))
        return engine.opened[-1][1]

    monkeypatch.setattr(engine, "session", session)
    return engine


def test_cuda_context_runs_on_the_callers_stream(cuda_engine):
    context = cuda_engine.context(FakeGpu())
    assert cuda_engine.opened == []
    for _ in range(2):
        context.enqueue(FakeStream())
    ((options, session),) = cuda_engine.opened
    binding = session.io_binding.return_value
    assert options == {"user_compute_stream": "77"}
    binding.bind_input.assert_called_once_with("images", "cuda", 0, np.float32, (1, 3, 4, 4), 4096)
    binding.bind_output.assert_called_once_with("output0", "cuda", 0, np.float32, (1, 2, 4, 4), 8192)
    assert [call.args[0] for call in session.run_with_iobinding.call_args_list] == [binding] * 2
    run_options = session.run_with_iobinding.call_args.args[1]
    assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"


def test_refused_inference_is_an_engine_error(cuda_engine):
    context = cuda_engine.context(FakeGpu())
    context.enqueue(FakeStream())
    cuda_engine.opened[0][1].run_with_iobinding.side_effect = RuntimeError("CUDA failure 900")
    with pytest.raises(EngineError, match="did not submit the inference: CUDA failure 900"):
        context.enqueue(FakeStream())


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
