"""Average precision as COCO defines it (Lin et al., "Microsoft COCO", 2014, https://cocodataset.org/#detection-eval).

It is computed by faster-coco-eval, which gives the numbers of pycocotools to the last digit, several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolotrt_lab.errors import SettingsError
from yolotrt_lab.packages import install_command, load
from yolotrt_lab.types import Detections

SIZES = {"small": "area up to 32 x 32 px", "medium": "up to 96 x 96 px", "large": "above 96 x 96 px"}
"""The sizes of COCO, by the area of the true box in pixels of the frame."""


@dataclass(frozen=True, slots=True)
class Score:
    """What was found of `objects` true boxes: mean average precision at an IoU of 0.5, and over 0.5 to 0.95.

    Both go from 0 to 1 and are NaN where there is no object.
    """

    objects: int
    map50: float
    map50_95: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: None."""
        precisions = {"map50": self.map50, "map50_95": self.map50_95}
        return {"objects": self.objects, **{k: None if math.isnan(v) else v for k, v in precisions.items()}}


@dataclass(frozen=True, slots=True)
class Scores:
    """The score of all boxes, and those of some, by size (`SIZES`) and by class."""

    overall: Score
    by_size: dict[str, Score]
    by_class: dict[str, Score]


def score_boxes(truth: Sequence[Detections], found: Sequence[Detections], names: Sequence[str]) -> Scores:
    """Hold the boxes found in each frame against the true ones; `names` are those of all classes, by number.

    Of each frame and class the 100 best boxes count. SettingsError for no frame, where the numbers of frames differ or
    a class has no name, MissingPackageError without faster-coco-eval.
    """
    package = load_scorer()
    if len(truth) != len(found) or not len(truth):
        raise SettingsError(f"{len(truth)} frames and {len(found)} results", fix="pass one result for each frame")
    if any(len(each) and each.classes.max() >= len(names) for each in (*truth, *found)):
        raise SettingsError(f"there are classes beyond the {len(names)} names", fix="name every class")
    true = package.COCO(_dataset(truth, names))
    evaluation = package.COCOeval_faster(true, true.loadRes(_rows(found)), "bbox")
    evaluation.params.imgIds, evaluation.params.catIds = list(range(len(truth))), list(range(len(names)))
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # by IoU, recall, class and size; -1 where there is no object
    areas = np.concatenate([_areas(each.boxes) for each in truth])
    classes = np.concatenate([each.classes for each in truth])
    bounds = dict(zip(SIZES, evaluation.params.areaRng[1:], strict=True))
    by_size = {
        size: _score(int(((areas >= low) & (areas <= high)).sum()), precision[..., place])
        for place, (size, (low, high)) in enumerate(bounds.items(), 1)
    }
    by_class = {name: _score(int((classes == k).sum()), precision[:, :, k, 0]) for k, name in enumerate(names)}
    return Scores(_score(len(areas), precision[..., 0]), by_size, by_class)


def load_scorer() -> Any:
    """faster-coco-eval; MissingPackageError where it is not installed."""
    return load("faster_coco_eval", needed_for="computing average precision", install=install_command("evaluate"))


def _score(objects: int, precision: np.ndarray) -> Score:
    """Means over what there are objects of; `precision` begins with the axis of IoU, from 0.5 on."""
    means = [float(part[part > -1].mean()) if (part > -1).any() else math.nan for part in (precision[0], precision)]
    return Score(objects, *means)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def _dataset(truth: Sequence[Detections], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The true boxes as COCO's JSON has them."""
    rows = [
        (*row, area) for row, area in zip(_rows(truth), np.concatenate([_areas(t.boxes) for t in truth]), strict=True)
    ]
    return {
        "images": [{"id": image} for image in range(len(truth))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {
                "id": number,
                "image_id": int(image),
                "category_id": int(kind),
                "bbox": [left, top, width, height],
                "area": float(area),
                "iscrowd": 0,
            }
            for number, (image, left, top, width, height, _, kind, area) in enumerate(rows, 1)
        ],
    }


def _rows(boxes: Sequence[Detections]) -> np.ndarray:
    """(n, 7): frame, left, top, width, height, score and class of every box."""
    parts = [
        np.column_stack(
            [
                np.full(len(each), image),
                each.boxes[:, :2],
                each.boxes[:, 2:] - each.boxes[:, :2],
                each.scores,
                each.classes,
            ]
        )
        for image, each in enumerate(boxes)
    ]
    return np.concatenate([np.empty((0, 7)), *parts])
