"""ONNX Runtime on the CPU."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tiny_onnx import tiny_model, tiny_reference

from yolotrt_lab.errors import (
    DtypeError,
    EngineError,
    MissingPackageError,
    ModelError,
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


def test_the_cpu_has_no_context(device):
    with pytest.raises(EngineError, match=r"engine\.run"):
        OnnxRuntimeEngine(tiny_model()).context(device)


def test_a_plugin_of_tensorrt_is_named():
    """As `export-det.py` of YOLOv8-TensorRT appends it."""
    model = onnx.load_from_string(tiny_model())
    model.graph.node[-1].op_type = "EfficientNMS_TRT"
    for domain in ("", "TRT"):
        model.graph.node[-1].domain = domain
        with pytest.raises(ModelError, match="EfficientNMS_TRT") as caught:
            OnnxRuntimeEngine(model.SerializeToString())
        assert caught.value.fix.startswith("export the model without EfficientNMS_TRT")


def test_a_model_whose_sizes_do_not_fit_as_it_runs():
    nodes = [
        helper.make_node("Cast", ["a"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["a", "sizes"], ["b"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2,)) for name in "ab"]
    graph = helper.make_graph(nodes, "misfit", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(ModelError, match=r"cannot run misfit: .*\nFix: export it again"):
        OnnxRuntimeEngine(model).run({"a": np.array([3, 3], np.float32)})
