"""How far the official score would have moved with other scenes.

The devkit's score of all scenes is one number. The scenes are drawn again with replacement, and
each draw is scored by the devkit's own formulas (bootstrap). Matches of boxes to objects never
leave a keyframe, so matches are found once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.utils import (
    attr_acc,
    center_distance,
    cummean,
    scale_iou,
    velocity_l2,
    yaw_diff,
)
from nuscenes.eval.detection.algo import calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionMetricData, DetectionMetrics

from sparsevit3d.stages.scoring import Truth

DRAWS = 1000
# Errors that the devkit does not measure for a class (as in its DetectionEval.evaluate).
UNASKED = {
    "traffic_cone": ("attr_err", "vel_err", "orient_err"),
    "barrier": ("attr_err", "vel_err"),
}


@dataclass(frozen=True)
class Matches:
    """N boxes of one class at one distance, most confident first, and the objects of S scenes."""

    scene: NDArray[np.int64]  # (N,)
    confidence: NDArray[np.float64]  # (N,)
    hit: NDArray[np.int64]  # (N,) place of the object among the class's objects (-1: none)
    # (N,) each: errors of hits. Matches at any other distance than that of the errors have none.
    errors: dict[str, NDArray[np.float64]]
    objects: NDArray[np.int64]  # (S,)


@cache
def draw_scenes(count: int) -> NDArray[np.int64]:
    """Return (DRAWS, count): how often each scene was drawn."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)


def scenes_of(truth: Truth) -> dict[str, list[str]]:
    """Return the keyframes of each scene."""
    found: dict[str, list[str]] = {}
    for token in truth.tokens:
        scene = truth.nusc.get("scene", truth.nusc.get("sample", token)["scene_token"])["name"]
        found.setdefault(scene, []).append(token)
    return found


def match_all(
    truth: Truth, found: EvalBoxes, scenes: dict[str, list[str]]
) -> dict[tuple[str, float], Matches]:
    """Match boxes to objects for each class and distance."""
    place = {token: number for number, tokens in enumerate(scenes.values()) for token in tokens}
    keys = [(name, metres) for name in truth.config.class_names for metres in truth.config.dist_ths]
    return {
        (name, metres): _match(truth, found, place, len(scenes), name, metres)
        for name, metres in keys
    }


def _match(
    truth: Truth, found: EvalBoxes, place: dict[str, int], scenes: int, name: str, metres: float
) -> Matches:
    """Match boxes of a class to objects, the most confident box first.

    Each box takes the nearest object of its class that is not taken, if the object is within
    ``metres``.
    """
    objects = [
        box for token in truth.tokens for box in truth.boxes[token] if box.detection_name == name
    ]
    of_keyframe: dict[str, list[int]] = {token: [] for token in truth.tokens}
    for number, box in enumerate(objects):
        of_keyframe[box.sample_token].append(number)
    boxes = [box for token in truth.tokens for box in found[token] if box.detection_name == name]
    boxes.sort(key=lambda box: -box.detection_score)
    with_errors = metres == truth.config.dist_th_tp
    hits = np.full(len(boxes), -1)
    errors = {key: np.full(len(boxes), np.nan) for key in TP_METRICS if with_errors}
    for number, box in enumerate(boxes):
        near = of_keyframe[box.sample_token]
        distances = [center_distance(objects[other], box) for other in near]
        if distances and min(distances) < metres:
            hits[number] = near.pop(int(np.argmin(distances)))
            for key in errors:
                errors[key][number] = ERRORS[key](objects[hits[number]], box)
    counts = np.bincount([place[box.sample_token] for box in objects], minlength=scenes)
    of_scene = np.array([place[box.sample_token] for box in boxes], np.int64)
    return Matches(of_scene, np.array([box.detection_score for box in boxes]), hits, errors, counts)


ERRORS: dict[str, Callable[[DetectionBox, DetectionBox], float]] = {
    "trans_err": center_distance,
    "scale_err": lambda thing, box: 1 - scale_iou(thing, box),
    "orient_err": lambda thing, box: yaw_diff(
        thing, box, period=np.pi if thing.detection_name == "barrier" else 2 * np.pi
    ),
    "vel_err": velocity_l2,
    "attr_err": lambda thing, box: 1 - attr_acc(thing, box),
}


def score(
    truth: Truth, matches: dict[tuple[str, float], Matches], weights: NDArray[np.int64]
) -> tuple[float, float]:
    """Return mAP and NDS of a dataset that has each scene ``weights`` (S,) times."""
    config = truth.config
    metrics = DetectionMetrics(truth.config)
    for (name, metres), found in matches.items():
        curve = _curve(found, weights)
        metrics.add_label_ap(name, metres, calc_ap(curve, config.min_recall, config.min_precision))
        if metres == config.dist_th_tp:
            for key in TP_METRICS:
                error = (
                    np.nan
                    if key in UNASKED.get(name, ())
                    else calc_tp(curve, config.min_recall, key)
                )
                metrics.add_label_tp(name, key, error)
    errors = [[metrics.get_label_tp(name, key) for name in truth.classes] for key in TP_METRICS]
    means = [max(0.0, 1 - np.nanmean(row)) for row in errors]
    mean_ap = float(np.mean([metrics.mean_dist_aps[name] for name in truth.classes]))
    weight = config.mean_ap_weight
    return mean_ap, float((weight * mean_ap + sum(means)) / (weight + len(means)))


def _curve(found: Matches, weights: NDArray[np.int64]) -> DetectionMetricData:
    """Compute the devkit's ``accumulate`` from matches.

    Errors are those of the distance that has errors.
    """
    rows = np.repeat(np.arange(len(found.scene)), weights[found.scene])
    hit = found.hit[rows] >= 0
    objects = int(weights @ found.objects)
    if not objects or not hit.any():
        return DetectionMetricData.no_predictions()
    hits = np.cumsum(hit).astype(float)
    recall = hits / objects
    precision = hits / np.arange(1, len(hit) + 1)
    steps = np.linspace(0, 1, DetectionMetricData.nelem)
    confidence = np.interp(steps, recall, found.confidence[rows], right=0)
    sure = found.confidence[rows][hit]
    errors = {key: np.ones(len(steps)) for key in TP_METRICS}
    for key, values in found.errors.items():
        means = cummean(values[rows][hit])
        errors[key] = np.interp(confidence[::-1], sure[::-1], means[::-1])[::-1]
    return DetectionMetricData(
        steps, np.interp(steps, recall, precision, right=0), confidence, **errors
    )
