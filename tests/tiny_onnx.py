"""ONNX models of two nodes, for tests of engines."""

import numpy as np
from onnx import helper, numpy_helper


def tiny_model(shape=(1, 3, 4, 4), dtype=np.float32, operator="Relu", opset=17, result=None):
    """Convolution (3 to 2 channels, seeded) and one more operator: 'images' of `shape` to 'output0', as bytes."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["hidden"], pads=[1] * 4),
        helper.make_node(operator, ["hidden"], ["output0"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("output0", result or kind, None)],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def tiny_reference(images):
    """What `tiny_model` with Relu computes, in float64: a plain convolution over a padded image."""
    weights = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32).astype(np.float64)
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,ocij->nohw", windows, weights), 0)
