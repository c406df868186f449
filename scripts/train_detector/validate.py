"""Average precision on held-out frames, as COCO defines it: a quick check after training, not the evaluation.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; matching and the 101 recall points as in
https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from yolotrt_lab.heads import decode
from yolotrt_lab.types import Detections
from yolotrt_lab.vision import overlaps

from .augment import cut_images, plain_panes
from .network import Detector
from .store import Store

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_CONFIDENCE, _MOST, _ROWS = 0.01, 100, 25


def detect(detector: Detector, store: Store, side: int) -> list[Detections]:
    """The boxes that the detector finds in the frames of a store, in pixels of its square input."""
    found = []
    for images in store.images.split(_ROWS):
        panes = plain_panes(len(images), images.shape[-2:], side, images.device)
        gain, shift = (torch.full((len(images), 3, 1, 1), value, device=images.device) for value in (1.0, 0.0))
        with torch.no_grad():
            square = cut_images(images[:, None].expand(-1, 2, -1, -1, -1), panes, side, gain, shift)
            output = detector.predict(square).cpu().numpy()
        found += [decode(rows, confidence=_CONFIDENCE, max_detections=_MOST) for rows in output]
    return found


def truth_of(store: Store, side: int) -> list[Detections]:
    """The true boxes of a store's frames, in pixels of the square input."""
    panes = plain_panes(1, store.images.shape[-2:], side, torch.device("cpu"))
    corner = np.tile([panes.left[0, 0].item(), panes.top[0, 0].item()], 2).astype(np.float32)
    truths = []
    for boxes, classes, valid in zip(*(tensor.cpu().numpy() for tensor in store.truth), strict=True):
        truths.append(Detections(boxes[valid] + corner, np.ones(valid.sum(), np.float32), classes[valid]))
    return truths


def average_precision(found: Sequence[Detections], truths: Sequence[Detections], classes: int) -> np.ndarray:
    """By class and threshold (classes, 10); NaN for a class that no frame has."""
    table = np.full((classes, len(THRESHOLDS)), np.nan)
    for label in range(classes):
        scores, hits, total = [], [], 0
        for seen, truth in zip(found, truths, strict=True):
            mine, real = seen.classes == label, truth.boxes[truth.classes == label]
            scores.append(seen.scores[mine])
            hits.append(_match(seen.boxes[mine], real))
            total += len(real)
        if total:
            order = np.argsort(-np.concatenate(scores), kind="stable")
            table[label] = [_area(row, total) for row in np.concatenate(hits)[order].T]
    return table


def _match(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which boxes, best first, hit at each threshold (n, 10): each takes the free true box that it overlaps most."""
    hits = np.zeros((len(boxes), len(THRESHOLDS)), bool)
    free = np.ones((len(THRESHOLDS), len(truth)), bool)
    if not len(truth):
        return hits
    for row, overlap in enumerate(overlaps(boxes, truth)):
        best = np.where(free, overlap, -1).argmax(axis=1)
        hits[row] = np.where(free, overlap, -1).max(axis=1) >= THRESHOLDS
        free[hits[row], best[hits[row]]] = False
    return hits


def _area(hits: np.ndarray, total: int) -> float:
    """The mean over 101 recalls of the best precision at that recall or beyond."""
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / total, _RECALLS)
    return float(np.append(best, 0.0)[np.minimum(places, len(best))].mean())
