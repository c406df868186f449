"""The same model and frame through TensorRT on the GPU and ONNX Runtime on the CPU: the same boxes."""

from functools import cache, partial

import numpy as np
import onnx
import pytest
from samples import sampled

from yolotrt_lab.cuda import has_gpu
from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.frames import read_images
from yolotrt_lab.heads import decode
from yolotrt_lab.loop import FrameLoop, LoopSettings
from yolotrt_lab.model import OnnxModel
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.types import Fill, HostMemory
from yolotrt_lab.vision import Letterbox

FRAME = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
build = cache(partial(build_model, "n", image_size=320, classes=4))


def network_input() -> np.ndarray:
    tensor = np.empty((1, 3, 640, 640), np.float32)
    Letterbox()(read_images("synthetic", 1)[0], tensor)
    return tensor


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")
def test_tensorrt_and_onnxruntime_agree_in_fp16():
    device, model = open_device("cuda"), build_model("n", precision="fp16")
    tensors = {"images": network_input()}
    live = open_engine(device, model).infer(device, tensors)["output0"][0]
    reference = OnnxRuntimeEngine(model).run(tensors)["output0"][0]
    print(f"boxes differ by {abs(live[:4] - reference[:4]).max():.3f} px at most", end=", ")
    print(f"scores by {abs(live[4:] - reference[4:]).max():.4f}")
    assert abs(live[:4] - reference[:4]).max() < 2
    assert abs(live[4:] - reference[4:]).max() < 0.02


def test_simulated_engine_computes_what_onnxruntime_does():
    device, model = open_device("simulated"), build(precision="fp16")
    tensors = {"images": np.random.default_rng(0).random((1, 3, 320, 320), np.float32)}
    simulated = open_engine(device, model).infer(device, tensors)["output0"]
    assert np.array_equal(simulated, OnnxRuntimeEngine(model).run(tensors)["output0"])


def with_half_edges(model: bytes) -> bytes:
    """The model as an export with half precision has it: float16 in and out."""
    proto = onnx.load_model_from_string(model)
    graph, half = proto.graph, onnx.TensorProto.FLOAT16
    graph.input[0].type.tensor_type.elem_type = half
    graph.output[0].type.tensor_type.elem_type = half
    for node in graph.node:
        node.output[:] = ["single" if name == "output0" else name for name in node.output]
    graph.node.append(onnx.helper.make_node("Cast", ["single"], ["output0"], to=half))
    return proto.SerializeToString()


def boxes(model, **settings):
    """The boxes that a loop on the simulated device finds in `FRAME`."""
    device = open_device("simulated")
    options = LoopSettings(frames=1, warmup=0, postprocess=True, **settings)
    loop = FrameLoop(device, open_engine(device, model), options, [FRAME])
    loop.run()
    return loop.detections


@pytest.fixture(scope="module")
def reference():
    """The boxes of the plain path, without a loop."""
    tensor = np.empty((1, 3, 320, 320), np.float32)
    geometry = Letterbox()(FRAME, tensor)
    return decode(OnnxRuntimeEngine(build()).run({"images": tensor})["output0"], geometry)


FORMS = {
    "fp32": build,
    "fixed batch": lambda: OnnxModel.read(build()).content,
    "float16 in and out": lambda: with_half_edges(build(precision="fp16")),
}


@pytest.mark.parametrize(
    ("kind", "fill"),
    sampled(
        [("fp32", fill) for fill in Fill] + [(kind, Fill.IN_PLACE) for kind in list(FORMS)[1:]],
        [("fp32", Fill.FRESH), ("fp32", Fill.COPY), ("float16 in and out", Fill.IN_PLACE)],
    ),
)
def test_loop_finds_the_same_boxes_in_every_form_of_a_model_and_every_way_to_fill(kind, fill, reference):
    model = FORMS[kind]()
    found = boxes(model, input_memory="pageable" if fill is Fill.FRESH else "pinned", fill=fill)
    best = slice(3 if kind == "float16 in and out" else None)  # float16 may put the weakest on the other side of 0.25
    assert len(reference) > 3
    assert found.classes[best].tolist() == reference.classes[best].tolist()
    assert abs(found.boxes[best] - reference.boxes[best]).max() < (0.5 if best.stop else 1e-3)


@pytest.mark.exhaustive
def test_no_kind_of_host_memory_changes_a_box():
    model = build(precision="fp16")
    first, *others = (
        boxes(model, input_memory=memory, output_memory=memory, fill=Fill.IN_PLACE) for memory in HostMemory
    )
    assert len(first) > 3
    for each in others:
        assert np.array_equal(each.boxes, first.boxes)
        assert np.array_equal(each.scores, first.scores)
        assert np.array_equal(each.classes, first.classes)
