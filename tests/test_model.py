import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import tiny_model

from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.errors import ModelError
from yolotrt_lab.model import parse_onnx, precision_of, read_onnx, with_batch


def weights(*tensors):
    return helper.make_model(helper.make_graph([], "weights", [], [], list(tensors)))


@pytest.mark.parametrize(("dtype", "name"), [("float32", "fp32"), ("float16", "fp16"), ("int8", "int8")])
def test_precision_is_that_of_the_weights(dtype, name):
    assert precision_of(weights(numpy_helper.from_array(np.zeros((2, 3), dtype)))) == name


def test_precision_is_that_of_most_weights():
    few, many = numpy_helper.from_array(np.zeros(9, np.float32)), numpy_helper.from_array(np.zeros(10, np.float16))
    shapes = numpy_helper.from_array(np.zeros(100, np.int64))
    assert precision_of(weights(few, many, shapes)) == "fp16"
    brain = helper.make_tensor("b", TensorProto.BFLOAT16, [20], [0.0] * 20)
    assert precision_of(weights(few, many, brain)) == "bf16"


def test_model_without_weights_has_no_precision():
    assert precision_of(weights()) == ""


def test_model_from_bytes_and_from_a_file(tmp_path):
    model = tiny_model()
    (tmp_path / "tiny.onnx").write_bytes(model)
    assert read_onnx(model) == read_onnx(tmp_path / "tiny.onnx") == read_onnx(str(tmp_path / "tiny.onnx")) == model
    assert precision_of(parse_onnx(model)) == "fp32"


def test_unreadable_model(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="no ONNX model"):
        parse_onnx(tiny_model()[:50])


def test_open_batch_becomes_a_number_and_a_fixed_one_stays():
    open_model, fixed = build_model(dynamic_batch=True), build_model(batch=2)
    chosen = parse_onnx(with_batch(open_model, 1)).graph
    assert [
        [d.dim_value for d in tensor.type.tensor_type.shape.dim] for tensor in (chosen.input[0], chosen.output[0])
    ] == [
        [1, 3, 640, 640],
        [1, 84, 8400],
    ]
    assert with_batch(fixed, 1) is fixed
