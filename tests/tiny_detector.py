"""An ONNX detector whose boxes are known: a constant table, and one score that follows the image."""

import numpy as np
from onnx import helper, numpy_helper

SIZE = 64
CELLS = 84  # of a 64 x 64 input at the strides 8, 16 and 32


def detector_model(*boxes, classes=2, names=None, batch=1, task="detect", dtype=np.float32):
    """Serialized. A box is (centre x, centre y, width, height, score, class) in pixels of the 64 x 64 input.

    The score of the first box is multiplied with the mean of the image, so that a darker frame gives a lower one.
    """
    table = np.zeros((1, 4 + classes, CELLS), np.float32)
    for cell, (x, y, width, height, score, kind) in enumerate(boxes):
        table[0, :4, cell] = x, y, width, height
        table[0, 4 + kind, cell] = score
    follows = np.zeros_like(table)
    follows[0, 4:, 0] = table[0, 4:, 0]
    constants = {"follows": follows.astype(dtype), "fixed": (table - follows).astype(dtype)}
    constants["column"] = np.array([-1, 1, 1])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Reshape", ["mean", "column"], ["factor"]),
            helper.make_node("Mul", ["follows", "factor"], ["seen"]),
            helper.make_node("Add", ["fixed", "seen"], ["output0"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", kind, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", kind, [batch, 4 + classes, CELLS])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {"task": task} | ({} if names is None else {"names": str(dict(enumerate(names)))})
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


def constant_model(*tables, size=SIZE, **metadata):
    """Serialized: 'images' of (1, 3, size, size) to the tables as they are, 'output0' and so on."""
    edge, names = helper.make_tensor_value_info, [f"output{number}" for number in range(len(tables))]
    dtype = helper.np_dtype_to_tensor_dtype(tables[0].dtype)
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"table{number}", "nothing"], [name]) for number, name in enumerate(names)),
    ]
    weights = [numpy_helper.from_array(table, f"table{number}") for number, table in enumerate(tables)]
    weights.append(numpy_helper.from_array(np.zeros((), tables[0].dtype), "zero"))
    outputs = [edge(name, dtype, table.shape) for name, table in zip(names, tables, strict=True)]
    graph = helper.make_graph(nodes, "constant", [edge("images", dtype, [1, 3, size, size])], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()
