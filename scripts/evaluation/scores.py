"""Average precision as COCO defines it (Lin et al., "Microsoft COCO", 2014, https://cocodataset.org/#detection-eval).

It is computed by faster-coco-eval, which gives the numbers of pycocotools to the last digit, several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotrt_lab.errors import SettingsError
from yolotrt_lab.packages import install_command, load
from yolotrt_lab.types import Detections

SIZES = {"small": "area up to 32 x 32 px", "medium": "up to 96 x 96 px", "large": "above 96 x 96 px"}
"""The sizes of COCO, by the area of the true box in pixels of the frame."""


def score_boxes(truth: Sequence[Detections], found: Sequence[Detections], names: Sequence[str]) -> dict[str, Any]:
    """The scores of the boxes found in each frame against the true ones; `names` are those of all classes, by number.

    `overall` is the score of all boxes; `by_size` (`SIZES`) and `by_class` map names to scores. A score is `objects`,
    the number of true boxes, with `map50` and `map50_95`, the mean average precision at an IoU of 0.5 and over 0.5 to
    0.95: from 0 to 1, None without objects. Of each frame and class the 100 best boxes count. SettingsError for no
    frame, if the numbers of frames differ or a class has no name; MissingPackageError without faster-coco-eval.
    """
    package = load_scorer()
    if len(truth) != len(found) or not len(truth):
        raise SettingsError(
            f"there must be one result for each of 1 frame or more, got {len(truth)} frames and {len(found)} results",
            fix="pass one result for each frame",
        )
    if any(len(each) and each.classes.max() >= len(names) for each in (*truth, *found)):
        raise SettingsError(
            f"classes must be below {len(names)}, the number of names, got more", fix="name every class"
        )
    objects = _rows(truth)
    areas, classes = objects[:, 3] * objects[:, 4], objects[:, 6]
    true = package.COCO(
        {
            "images": [{"id": image} for image in range(len(truth))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5], "area": area}
                | {"iscrowd": 0}
                for i, (row, area) in enumerate(zip(objects.tolist(), areas.tolist(), strict=True), 1)
            ],
        }
    )
    evaluation = package.COCOeval_faster(true, true.loadRes(_rows(found)), "bbox")
    evaluation.params.imgIds, evaluation.params.catIds = list(range(len(truth))), list(range(len(names)))
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # by IoU, recall, class and size; -1 where there is no object
    bounds = zip(SIZES, evaluation.params.areaRng[1:], strict=True)
    return {
        "overall": _score(len(areas), precision[..., 0]),
        "by_size": {
            size: _score(int(((areas >= low) & (areas <= high)).sum()), precision[..., place])
            for place, (size, (low, high)) in enumerate(bounds, 1)
        },
        "by_class": {name: _score(int((classes == k).sum()), precision[:, :, k, 0]) for k, name in enumerate(names)},
    }


def load_scorer() -> Any:
    """faster-coco-eval; MissingPackageError if it is not installed."""
    return load("faster_coco_eval", needed_for="computing average precision", install=install_command("test"))


def _score(objects: int, precision: np.ndarray) -> dict[str, Any]:
    """Means over what there are objects of; the first axis of `precision` is the IoU, from 0.5 on."""
    parts = {"map50": precision[0], "map50_95": precision}
    means = {k: float(part[part > -1].mean()) if (part > -1).any() else None for k, part in parts.items()}
    return {"objects": objects, **means}


def _rows(frames: Sequence[Detections]) -> np.ndarray:
    """(n, 7): frame, left, top, width, height, score and class of every box."""
    corners = np.concatenate([each.boxes for each in frames]).astype(float)
    return np.column_stack(
        [
            np.repeat(np.arange(len(frames)), [len(each) for each in frames]),
            corners[:, :2],
            corners[:, 2:] - corners[:, :2],
            np.concatenate([each.scores for each in frames]),
            np.concatenate([each.classes for each in frames]),
        ]
    )
