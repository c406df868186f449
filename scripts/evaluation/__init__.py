"""How well a detector sees: average precision over held-out frames of the synthetic scene, whose boxes are known."""

from __future__ import annotations

from scripts.evaluation.held_out import HELD_OUT_SEED, held_out_frames
from scripts.evaluation.run import CONFIDENCE, Evaluation, evaluate
from scripts.evaluation.scores import Score, Scores, score_boxes

__all__ = ["CONFIDENCE", "HELD_OUT_SEED", "Evaluation", "Score", "Scores", "evaluate", "held_out_frames", "score_boxes"]
