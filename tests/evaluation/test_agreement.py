"""The lab's own detector: the same boxes by TensorRT on the GPU and by ONNX Runtime on the CPU."""

import pytest

from scripts.evaluation.run import evaluate
from yolotrt_lab.cuda import has_gpu
from yolotrt_lab.detector.detect import open_detector


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")
def test_engines_score_the_same():
    live, reference = (
        evaluate(open_detector(engine=engine, confidence=0.001), frames=60)["overall"]
        for engine in ("tensorrt", "onnxruntime")
    )
    print(live, reference)
    assert live["objects"] == reference["objects"]
    assert live["map50"] == pytest.approx(reference["map50"], abs=0.005)
    assert live["map50_95"] == pytest.approx(reference["map50_95"], abs=0.005)
