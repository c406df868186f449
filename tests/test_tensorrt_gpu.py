"""The TensorRT module that is installed, on the GPU that is there."""

import numpy as np
import pytest
from tiny_onnx import tiny_model, tiny_reference

from yolotrt_lab.device import HostBuffer, open_device
from yolotrt_lab.errors import MissingPackageError, NoGpuError
from yolotrt_lab.plans import import_tensorrt
from yolotrt_lab.tensorrt import TensorRTEngine
from yolotrt_lab.types import HostMemory

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu():
    try:
        import_tensorrt()
        return open_device("cuda")
    except (NoGpuError, MissingPackageError) as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def live(gpu, tmp_path_factory):
    cache = tmp_path_factory.mktemp("plans")
    return lambda **options: TensorRTEngine.from_onnx(tiny_model(**options), cache_dir=cache)


@pytest.mark.parametrize(("dtype", "label"), [("float32", "fp32"), ("float16", "fp16")])
def test_gpu_computes_the_model(gpu, live, dtype, label):
    images = np.random.default_rng(1).random((1, 3, 4, 4)).astype(dtype)
    engine = live(dtype=dtype)
    result = engine.infer(gpu, {"images": images})["output0"]
    np.testing.assert_allclose(result, tiny_reference(images), rtol=1e-2, atol=1e-2)
    assert engine.label.endswith(f", {label}")


def test_gpu_captures_and_runs_contexts_side_by_side(gpu, live):
    engine = live()
    frames = [np.random.default_rng(seed).random((1, 3, 4, 4), np.float32) for seed in (1, 2)]
    results = []
    for frame in frames:
        context, stream = engine.context(gpu), gpu.stream()
        gpu.upload(HostBuffer(frame), context.buffers["images"], stream)
        context.enqueue(stream)
        graph = gpu.capture(lambda c=context, s=stream: c.enqueue(s), stream)
        graph.launch(stream)
        output = gpu.empty_host((1, 2, 4, 4), np.float32, HostMemory.PINNED)
        gpu.download(context.buffers["output0"], output, stream)
        results.append((stream, output, context))
    for (stream, output, _), frame in zip(results, frames, strict=True):
        stream.synchronize()
        np.testing.assert_allclose(output.array, tiny_reference(frame), rtol=1e-2, atol=1e-2)
