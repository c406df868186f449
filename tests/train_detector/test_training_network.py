"""The PyTorch network and the ONNX graph are one: names, shapes, and what they see."""

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from scripts.train_detector.network import Detector, decode_boxes, fused_weights, make_cells  # noqa: E402
from yolotrt_lab.detector.yolov8 import build_model, weight_shapes  # noqa: E402


@pytest.fixture(scope="module")
def detector():
    """One whose normalisation has seen something, so that folding it in matters."""
    torch.manual_seed(3)
    detector = Detector("n", 5)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    detector(torch.rand(4, 3, 64, 96))
    return detector.eval()


@pytest.mark.parametrize("variant", ["n", "s", "m"])
def test_weights_have_the_names_and_shapes_of_the_graph(variant):
    weights = fused_weights(Detector(variant, 7))
    assert {name: array.shape for name, array in weights.items()} == weight_shapes(variant, 7)


def test_network_and_graph_see_the_same(detector):
    images = torch.rand(2, 3, 64, 96)
    model = build_model("n", classes=5, image_size=(64, 96), weights=fused_weights(detector))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        output = detector.predict(images).numpy()
    assert np.ptp(expected[:, 4:], axis=-1).max() > 1e-4
    np.testing.assert_allclose(output[:, :4], expected[:, :4], atol=1e-3)
    np.testing.assert_allclose(output[:, 4:], expected[:, 4:], atol=1e-5)


def test_cells_go_grid_by_grid_and_row_by_row():
    cells = make_cells((32, 64))
    assert cells.centres.shape == (32 + 8 + 2, 2)
    assert cells.centres[[0, 1, 8, 32, 40, 41]].tolist() == [[4, 4], [12, 4], [4, 12], [8, 8], [16, 16], [48, 16]]
    assert cells.strides[[0, 32, 41], 0].tolist() == [8, 16, 32]


def test_a_side_lies_at_the_expected_value_of_its_bins():
    cells = make_cells((32, 32))
    bins = torch.full((1, len(cells.centres), 4, 16), -100.0)
    bins[..., 2] = 0
    bins[..., 3, 3] = 0  # the lower side: half at 2, half at 3
    boxes = decode_boxes(bins, cells)
    torch.testing.assert_close(boxes[0, 0], torch.tensor([4.0 - 16, 4 - 16, 4 + 16, 4 + 20]))
    torch.testing.assert_close(boxes[0, -1], torch.tensor([16.0 - 64, 16 - 64, 16 + 64, 16 + 80]))
