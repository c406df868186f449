"""The YOLOv8 graph: its size, its names, its output, and what the reader says of an export."""

from functools import cache
from math import prod

import numpy as np
import onnx
import onnxruntime
import pytest
from samples import sampled

from yolotrt_lab.detector.yolov8 import build_model, weight_shapes
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.heads import ModelInfo
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine

SMALL = (64, 96)
STRIDES = (8, 16, 32)


@cache
def small_model(precision: str = "fp32") -> bytes:
    """One with seeded weights, which take a tenth of a second to draw."""
    return build_model("n", image_size=SMALL, precision=precision)


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def read_weights(model: bytes) -> dict[str, np.ndarray]:
    tensors = onnx.load_from_string(model).graph.initializer
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def small_weights(classes: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    shapes = weight_shapes("n", classes)
    return {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("variant", "count"),
    [("n", 3_151_904), ("s", 11_156_544), ("m", 25_886_080), ("l", 43_668_288), ("x", 68_200_608)],
)
def test_parameter_counts_are_those_of_ultralytics(variant, count):
    assert sum(map(prod, weight_shapes(variant, 80).values())) == count


def test_weights_have_their_pytorch_names_and_shapes():
    shapes = weight_shapes("n", 80)
    assert list(shapes)[:2] == ["model.0.conv.weight", "model.0.conv.bias"]
    expected = {
        "model.0.conv.weight": (16, 3, 3, 3),
        "model.2.cv1.conv.weight": (32, 32, 1, 1),
        "model.2.m.0.cv2.conv.weight": (16, 16, 3, 3),
        "model.4.m.1.cv1.conv.bias": (32,),
        "model.9.cv2.conv.weight": (256, 512, 1, 1),
        "model.22.cv2.0.0.conv.weight": (64, 64, 3, 3),
        "model.22.cv3.2.2.bias": (80,),
        "model.22.dfl.conv.weight": (1, 16, 1, 1),
    }
    assert expected.items() <= shapes.items()
    assert "model.6.m.5.cv1.conv.weight" in weight_shapes("x")


@pytest.mark.parametrize("precision", sampled(["fp16", "fp32"], ["fp16"]))
def test_the_graph_is_valid_and_typed(precision):
    model = onnx.load_from_string(build_model(precision=precision))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)}
    assert kinds == {"images": onnx.TensorProto.FLOAT, "output0": onnx.TensorProto.FLOAT}
    sizes = [d.dim_param or d.dim_value for d in inferred.output[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 84, 8400]
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)


@pytest.mark.parametrize("precision", sampled(["fp32", "fp16"], ["fp16"]))
def test_the_initializers_are_the_given_weights_and_nothing_else(precision):
    weights = small_weights()
    tensors = read_weights(build_model("n", classes=3, image_size=SMALL, precision=precision, weights=weights))
    dtype = np.float16 if precision == "fp16" else np.float32
    assert list(tensors) == list(weight_shapes("n", 3))
    for name, array in tensors.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, weights[name].astype(dtype))


@pytest.mark.parametrize("precision", sampled(["fp32", "fp16"], ["fp16"]))
def test_seeded_weights_give_outputs_that_vary(precision):
    output = run(build_model(precision=precision, image_size=320), random_images(1, 3, 320, 320))
    assert (output.shape, output.dtype) == ((1, 84, 2100), np.float32)
    assert np.isfinite(output).all()
    sizes, scores = output[0, 2:4], output[0, 4:]
    assert sizes.min() > 0
    assert np.std(sizes / sizes.mean(axis=1, keepdims=True)) > 0.1
    assert 0 < scores.min() < np.median(scores) < 0.05 < 0.3 < scores.max() < 1
    logits = np.log(scores / (1 - scores))
    assert logits.std(axis=1).mean() > 0.3  # over the cells of a class
    assert logits.std(axis=0).mean() > 0.3  # over the classes of a cell


def test_float16_stays_close_to_float32():
    images = random_images(1, 3, *SMALL, seed=1)
    single, half = (run(small_model(precision), images) for precision in ("fp32", "fp16"))
    assert np.isfinite(half).all()
    assert np.median(np.abs(single - half)[:, :4]) < 0.5
    assert np.median(np.abs(single - half)[:, 4:]) < 0.001
    assert np.corrcoef(single[:, 4:].ravel(), half[:, 4:].ravel())[0, 1] > 0.97


def test_a_seed_gives_the_same_model_again():
    again, other = (build_model("n", image_size=SMALL, seed=seed) for seed in (0, 1))
    assert again == small_model() != other


def test_boxes_and_scores_are_decoded_in_the_graph():
    """With the last convolutions reduced to their biases, every cell's box and scores can be written down."""
    weights = small_weights(classes=3)
    weights["model.22.dfl.conv.weight"] = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
    distances = {0: (1, 2, 3, 4), 1: (0, 5, 7, 15), 2: (2, 2, 4, 1)}  # left, top, right, bottom in cells
    for grid, sides in distances.items():
        bins = np.full((4, 16), -50, np.float32)
        bins[range(4), sides] = 50
        weights[f"model.22.cv2.{grid}.2.weight"][:] = 0
        weights[f"model.22.cv2.{grid}.2.bias"] = bins.ravel()
        weights[f"model.22.cv3.{grid}.2.weight"][:] = 0
        weights[f"model.22.cv3.{grid}.2.bias"] = np.float32([-2, 0, 1 + grid])
    output = run(build_model("n", classes=3, image_size=SMALL, weights=weights), random_images(1, 3, *SMALL))
    expected = []
    for grid, stride in enumerate(STRIDES):
        left, top, right, bottom = distances[grid]
        for row in range(SMALL[0] // stride):
            for column in range(SMALL[1] // stride):
                centre = column + 0.5 + (right - left) / 2, row + 0.5 + (bottom - top) / 2
                box = np.array([*centre, left + right, top + bottom]) * stride
                expected.append([*box, *(1 / (1 + np.exp(-np.array([-2, 0, 1 + grid]))))])
    np.testing.assert_allclose(output[0].T, expected, rtol=1e-5)


def test_a_batch_is_computed_image_by_image():
    images = random_images(3, 3, *SMALL)
    together, alone = run(small_model(), images), run(small_model(), images[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-3, atol=1e-3)


def test_weights_that_do_not_fit_are_refused():
    weights = small_weights()
    with pytest.raises(SettingsError, match="fold batch normalisation"):
        build_model("n", classes=3, weights={**weights, "model.0.bn.weight": np.ones(16)})
    del weights["model.5.conv.bias"]
    with pytest.raises(SettingsError, match=r"among them model\.5\.conv\.bias"):
        build_model("n", classes=3, weights=weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "y"}, "one of n, s, m, l, x, got 'y'"),
        ({"image_size": 100}, "multiples of 32"),
        ({"image_size": (640, 0)}, "multiples of 32"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        build_model(**settings)
    if "variant" in settings:
        with pytest.raises(SettingsError, match=message):
            weight_shapes("y")


def test_the_reader_gives_what_was_built_in_the_form_of_ultralytics():
    model = build_model("n", classes=2, image_size=SMALL, names=["nut", "bolt's end"])
    assert OnnxRuntimeEngine(model).describe() == ModelInfo(2, ("nut", "bolt's end"))
    assert {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props} == {
        "task": "detect",
        "stride": "32",
        "batch": "1",
        "imgsz": "[64, 96]",
        "names": """{0: 'nut', 1: "bolt's end"}""",
    }
