"""ONNX models as bytes: read, parsed, and the number type of their weights."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import tiny_model

from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.errors import ModelError
from yolotrt_lab.model import parse_onnx, precision_of, read_onnx, with_batch, with_best_boxes
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.vision import decode


def weights(*tensors):
    return helper.make_model(helper.make_graph([], "weights", [], [], list(tensors)))


@pytest.mark.parametrize(("dtype", "name"), [("float32", "fp32"), ("float16", "fp16"), ("int8", "int8")])
def test_precision_is_that_of_the_weights(dtype, name):
    assert precision_of(weights(numpy_helper.from_array(np.zeros((2, 3), dtype)))) == name


def test_precision_is_that_of_most_weights_or_none():
    few, many = numpy_helper.from_array(np.zeros(9, np.float32)), numpy_helper.from_array(np.zeros(10, np.float16))
    shapes = numpy_helper.from_array(np.zeros(100, np.int64))
    brain = helper.make_tensor("b", TensorProto.BFLOAT16, [20], [0.0] * 20)
    assert precision_of(weights(few, many, shapes)) == "fp16"
    assert precision_of(weights(few, many, brain)) == "bf16"
    assert precision_of(weights()) == ""


def test_model_from_bytes_and_from_a_file(tmp_path):
    model, path = tiny_model(), tmp_path / "tiny.onnx"
    path.write_bytes(model)
    assert read_onnx(model) == read_onnx(path) == read_onnx(str(path)) == model
    assert parse_onnx(model) == parse_onnx(path)


def test_unreadable_model(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read"):
        parse_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="the model must be an ONNX model, got 50 bytes"):
        parse_onnx(tiny_model()[:50])


def test_tensors_in_other_files_are_not_read(tmp_path):
    model = onnx.load_from_string(tiny_model())
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, location="data.bin", size_threshold=0)
    (tmp_path / "data.bin").unlink()
    assert precision_of(parse_onnx(tmp_path / "outside.onnx")) == "fp32"


def test_open_batch_becomes_a_number_and_a_fixed_one_stays():
    open_model, fixed = build_model(dynamic_batch=True), build_model(batch=2)
    graph = parse_onnx(with_batch(open_model, 1)).graph
    shapes = [[d.dim_value for d in x.type.tensor_type.shape.dim] for x in (graph.input[0], graph.output[0])]
    assert shapes == [[1, 3, 640, 640], [1, 84, 8400]]
    assert with_batch(fixed, 1) is fixed


def test_best_boxes_are_the_best_cell_of_each_group():
    """28 groups of 3 of the 84 cells, by their best class score."""
    whole = build_model("n", classes=2, image_size=64)
    image = {"images": np.random.default_rng(0).random((1, 3, 64, 64), np.float32)}
    [every], [best] = (OnnxRuntimeEngine(model).run(image).values() for model in (whole, with_best_boxes(whole, 28)))
    assert best.shape == (1, 6, 28)
    places = every[0, 4:].max(axis=0).reshape(28, 3).argmax(axis=1)
    assert len(set(places.tolist())) > 1
    np.testing.assert_array_equal(best[0], every[0][:, 3 * np.arange(28) + places])
    highest = float(every[0, 4:].max())
    [kept], [among_all] = (decode(output, confidence=highest - 1e-6).boxes for output in (best, every))
    np.testing.assert_array_equal(kept, among_all)


@pytest.mark.parametrize(("batch", "boxes"), [(2, 28), (1, 0), (1, 85), (1, 30)])
def test_boxes_of_a_batch_or_that_do_not_divide_the_cells_are_refused(batch, boxes):
    model = build_model("n", classes=2, image_size=64, batch=batch)
    with pytest.raises(ModelError, match=rf"{boxes} boxes need an output of .*, got \({batch}, 6, 84\)"):
        with_best_boxes(model, boxes)
