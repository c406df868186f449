"""The detector that comes with the lab: what it says of itself, and that it sees."""

import numpy as np
import pytest

from scripts.evaluation.run import CONFIDENCE, evaluate
from yolotrt_lab.cuda import has_gpu
from yolotrt_lab.detector.detect import open_detector
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.heads import ModelInfo
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.packages import shipped_model


def test_it_is_a_small_file_that_names_the_parts_of_the_scene():
    assert shipped_model().stat().st_size < 7_000_000
    engine = OnnxRuntimeEngine(shipped_model())
    assert engine.describe() == ModelInfo(10, SyntheticScene.names)
    assert engine.inputs[0].shape == (1, 3, 640, 640)


@pytest.mark.exhaustive
def test_it_sees():
    scores = evaluate(open_detector(engine="onnxruntime", confidence=CONFIDENCE), frames=3)
    assert scores["overall"]["objects"] > 45
    assert scores["overall"]["map50"] > 0.85


@pytest.mark.exhaustive
def test_it_takes_several_frames_at_once():
    model, images = shipped_model(), np.random.default_rng(0).random((2, 3, 640, 640), np.float32)
    together = open_engine(open_device("simulated"), model, batch=2)
    assert [spec.shape for spec in (*together.inputs, *together.outputs)] == [(2, 3, 640, 640), (2, 14, 8400)]
    alone = OnnxRuntimeEngine(model).run({"images": images[1:]})["output0"]
    both = OnnxRuntimeEngine(model, batch=2).run({"images": images})["output0"]
    np.testing.assert_allclose(both[1:], alone, atol=0.1)  # pixels; float16 rounds by order of summation


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")
def test_tensorrt_and_onnxruntime_score_the_same():
    live, reference = (
        evaluate(open_detector(engine=engine, confidence=CONFIDENCE), frames=60)["overall"]
        for engine in ("tensorrt", "onnxruntime")
    )
    print(live, reference)
    assert live == pytest.approx(reference, abs=0.005)
