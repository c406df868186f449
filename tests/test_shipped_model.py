"""The detector that comes with the lab: what it says of itself, and that it sees."""

from yolotrt_lab.detector import open_detector
from yolotrt_lab.evaluation import CONFIDENCE, evaluate
from yolotrt_lab.frames import SyntheticScene
from yolotrt_lab.paths import shipped_model
from yolotrt_lab.yolov8 import ModelInfo, read_model_info


def test_it_is_a_small_file_that_names_the_parts_of_the_scene():
    assert shipped_model().stat().st_size < 7_000_000
    assert read_model_info(shipped_model()) == ModelInfo(10, SyntheticScene.names, (640, 640))


def test_it_sees():
    scores = evaluate(open_detector(engine="onnxruntime", confidence=CONFIDENCE), frames=20).scores
    assert scores.overall.objects > 300
    assert scores.overall.map50 > 0.85
