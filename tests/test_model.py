"""ONNX models as bytes: read, parsed, and the number type of their weights."""

import os
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import tiny_model

from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.errors import ModelError, SettingsError
from yolotrt_lab.heads import decode
from yolotrt_lab.model import OnnxModel, precision_of, read_onnx
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine


@cache
def detector():
    return build_model("n", classes=2, image_size=64)


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
    assert precision_of(weights(TensorProto(data_type=76, dims=[3]))) == ""  # of a damaged file


def test_model_from_bytes_and_from_a_file(tmp_path):
    model, path = tiny_model(), tmp_path / "tiny.onnx"
    path.write_bytes(model)
    assert read_onnx(model) == read_onnx(path) == read_onnx(str(path)) == model


def test_unreadable_model(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read"):
        OnnxModel.read(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="the model must be an ONNX model, got 50 bytes"):
        OnnxModel.read(tiny_model()[:50])


@pytest.mark.parametrize(
    ("start", "what", "fix"),
    [
        (b"PK\x03\x04", "weights of PyTorch", "format=onnx"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page", "download"),
    ],
)
def test_files_that_are_taken_for_onnx_models_are_told(start, what, fix, tmp_path):
    (tmp_path / "yolov8n.pt").write_bytes(start + bytes(100))
    with pytest.raises(ModelError, match=rf"yolov8n\.pt must be an ONNX model, got {what}") as caught:
        OnnxModel.read(tmp_path / "yolov8n.pt")
    assert fix in caught.value.fix


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="cannot be read: it is no file"):
        OnnxModel.read(tmp_path / "model.onnx")


@pytest.fixture
def outside(tmp_path):
    """A model whose weights lie in data.bin beside it."""
    path = tmp_path / "models" / "outside.onnx"
    path.parent.mkdir()
    model = onnx.load_from_string(tiny_model())
    onnx.save(model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    return path


def test_weights_in_another_file_are_read_beside_the_model_and_nowhere_else(outside, tmp_path, monkeypatch):
    weights = np.frombuffer((outside.parent / "data.bin").read_bytes(), np.float32)
    (tmp_path / "data.bin").write_bytes((10 * weights).tobytes())
    monkeypatch.chdir(tmp_path)  # other weights of the same name lie in the working directory
    image = {"images": np.random.default_rng(0).random((1, 3, 4, 4), np.float32)}
    expected = OnnxRuntimeEngine(tiny_model()).run(image)["output0"]
    for path in (outside, outside.relative_to(tmp_path), str(outside)):
        np.testing.assert_array_equal(OnnxRuntimeEngine(path).run(image)["output0"], expected)
    whole = read_onnx(outside)
    (outside.parent / "data.bin").write_bytes((2 * weights).tobytes())
    assert read_onnx(outside) != whole  # a plan is filed under these bytes


def test_weights_in_another_file_that_cannot_be_read_are_an_error(outside, tmp_path, monkeypatch):
    content = outside.read_bytes()
    with pytest.raises(ModelError, match=r"must have its weights in it, got some in the file 'data\.bin'") as caught:
        OnnxRuntimeEngine(content)
    assert "pass the path" in caught.value.fix
    (outside.parent / "data.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"outside\.onnx, in 'data\.bin' beside it, cannot be read"):
        read_onnx(outside)
    os.truncate(outside.parent / "data.bin", 1_000_001)
    with monkeypatch.context() as limited:
        limited.setenv("YOLOTRT_LAB_MAX_MB", "1")
        with pytest.raises(ModelError, match=r"the weights of .*outside\.onnx must hold at most 1 MB, got 1 MB"):
            read_onnx(outside)
    (outside.parent / "data.bin").rename(tmp_path / "data.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="put that file beside the model"):
        read_onnx(outside)
    model = onnx.load_from_string(content)
    for entry in (each for tensor in model.graph.initializer for each in tensor.external_data):
        entry.value = "../data.bin" if entry.key == "location" else entry.value
    outside.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"in '\.\./data\.bin' beside it, cannot be read"):
        read_onnx(outside)


def shapes_of(model):
    graph = onnx.load_from_string(model.content).graph
    return [[d.dim_value for d in x.type.tensor_type.shape.dim] for x in (graph.input[0], graph.output[0])]


def test_open_batch_becomes_a_number_and_a_fixed_one_stays():
    open_model = build_model()
    fixed = OnnxModel.read(open_model, batch=2).content
    for batch in (1, 3):
        assert shapes_of(OnnxModel.read(open_model, batch=batch)) == [[batch, 3, 640, 640], [batch, 84, 8400]]
    assert OnnxModel.read(fixed).content is fixed


def pooled(**metadata):
    """A model whose batch and sides are open, and whose output has a column for each 8 x 8 pixels."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Concat", ["grid", "grid"], ["both"], axis=1),
        helper.make_node("Shape", ["both"], ["two"], end=2),
        helper.make_node("Concat", ["two", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["both", "shape"], ["output0"]),
    ]
    edges = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("images", ["batch", 3, "height", "width"]), ("output0", ["batch", 6, "anchors"]))
    ]
    rest = numpy_helper.from_array(np.array([-1]), "rest")
    model = helper.make_model(
        helper.make_graph(nodes, "pooled", edges[:1], edges[1:], [rest]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("metadata", "asked", "size"),
    [
        ({"imgsz": "[64, 96]"}, None, (64, 96)),
        ({"imgsz": "64"}, None, (64, 64)),
        ({"imgsz": "[64, 96]"}, 128, (128, 128)),
        ({"imgsz": "unreadable"}, (32, 64), (32, 64)),
        ({"stride": "16"}, 48, (48, 48)),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_open_sides_become_the_size_that_is_asked_for_or_the_metadatas(metadata, asked, size, batch):
    model = OnnxModel.read(pooled(**metadata), batch=batch, image_size=asked)
    cells = size[0] * size[1] // 64
    assert shapes_of(model) == [[batch, 3, *size], [batch, 6, cells]]
    engine = OnnxRuntimeEngine(pooled(**metadata), batch=batch, image_size=asked)
    assert engine.run({"images": np.ones((batch, 3, *size), np.float32)})["output0"].shape == (batch, 6, cells)


@pytest.mark.parametrize(
    ("model", "asked", "error", "message"),
    [
        (pooled(), None, ModelError, "must say how large its images are"),
        (pooled(imgsz="[0, 64]"), None, ModelError, r"image_size=640"),
        (pooled(), 100, SettingsError, "multiples of 32, got 100"),
        (pooled(stride="64"), 96, SettingsError, "multiples of 64, got 96"),
        (pooled(), "large", SettingsError, "multiples of 32, got 'large'"),
        (pooled(), (64, 64, 3), SettingsError, "multiples of 32"),
        (pooled(imgsz="[64, 100]"), None, SettingsError, "multiples of 32"),
        (build_model("n", classes=2, image_size=64), 32, SettingsError, r"must be \(64, 64\)(.|\n)*dynamic=True"),
        (build_model("n", classes=2, image_size=64), "640", SettingsError, r"must be \(64, 64\)(.|\n)*dynamic=True"),
    ],
)
def test_a_size_that_a_model_cannot_have_is_refused(model, asked, error, message):
    with pytest.raises(error, match=message):
        OnnxModel.read(model, image_size=asked)


def test_sizes_that_cannot_be_inferred_are_an_error(monkeypatch):
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda *_, **__: 1 // 0)
    with pytest.raises(ModelError, match=r"cannot be inferred(.|\n)*dynamic=False"):
        OnnxModel.read(pooled(imgsz="64"))


def test_one_side_that_is_fixed_stays():
    model = onnx.load_from_string(pooled())
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    with pytest.raises(SettingsError, match=r"must be \(64, any\), the one that .* has, got 32"):
        OnnxModel.read(model.SerializeToString(), image_size=32)
    assert shapes_of(OnnxModel.read(model.SerializeToString(), image_size=(64, 32)))[0] == [1, 3, 64, 32]


def test_the_name_of_a_model_is_its_files_or_what_it_says_of_itself(tmp_path):
    (tmp_path / "mine.onnx").write_bytes(detector())
    read = OnnxModel.read(tmp_path / "mine.onnx")
    assert (read.name, OnnxModel.read(detector()).name) == ("mine", "yolov8n")
    assert (
        OnnxModel.read(pooled(description="Ultralytics YOLO11n model trained on coco8.yaml", imgsz="64")).name
        == "YOLO11n"
    )
    assert (read.precision, read.metadata["task"]) == ("fp32", "detect")
    assert read.parameters == pytest.approx(3.01e6, rel=0.01)
    assert OnnxModel.read(read) is read


def test_a_model_that_was_read_is_read_again_where_more_is_asked_of_it():
    read = OnnxModel.read(detector())
    assert shapes_of(OnnxModel.read(read, boxes=28))[1] == [1, 6, 28]
    with pytest.raises(SettingsError, match="must take 2 frames at once, got a model for 1"):
        OnnxModel.read(read, batch=2)
    with pytest.raises(SettingsError, match="image_size must be"):
        OnnxRuntimeEngine(read, image_size=32)


def test_best_boxes_are_the_best_cell_of_each_group():
    """28 groups of 3 of the 84 cells, by their best class score."""
    whole = detector()
    image = {"images": np.random.default_rng(0).random((1, 3, 64, 64), np.float32)}
    [every], [best] = (
        OnnxRuntimeEngine(model).run(image).values() for model in (whole, OnnxModel.read(whole, boxes=28))
    )
    assert best.shape == (1, 6, 28)
    places = every[0, 4:].max(axis=0).reshape(28, 3).argmax(axis=1)
    assert len(set(places.tolist())) > 1
    np.testing.assert_array_equal(best[0], every[0][:, 3 * np.arange(28) + places])
    highest = float(every[0, 4:].max())
    [kept], [among_all] = (decode(output, confidence=highest - 1e-6).boxes for output in (best, every))
    np.testing.assert_array_equal(kept, among_all)


@pytest.mark.parametrize(("batch", "boxes"), [(2, 28), (1, 0), (1, 85), (1, 30)])
def test_boxes_of_a_batch_or_that_do_not_divide_the_cells_are_refused(batch, boxes):
    with pytest.raises(ModelError, match=rf"{boxes} boxes need an output of .*, got \({batch}, 6, 84\)"):
        OnnxModel.read(detector(), batch=batch, boxes=boxes)
