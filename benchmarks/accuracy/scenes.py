"""From boxes to the scenes and objects behind a score.

Results by scene give intervals. Results by object show where a detector fails.

The devkit's score of all scenes is one number. The question is how far the score would have moved
with other scenes. To answer the question, the scenes are drawn again with replacement, and each
draw is scored by the devkit's own formulas (bootstrap). Matches of boxes to objects never leave a
keyframe, so matches are found once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
from scipy.stats import t as student

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


def examine(truth: Truth, submission: Path) -> dict[str, Any]:
    """Examine a submission.

    The result has mAP and NDS of DRAWS draws of scenes, which are the same draws for every
    submission. The result also has the number of objects found, by scene and by properties of the
    objects.
    """
    found = EvalBoxes.deserialize(json.loads(submission.read_text())["results"], DetectionBox)
    scenes = _scenes(truth)
    matches = match_all(truth, truth.filtered(found), scenes)
    scores = [score(truth, matches, weights) for weights in draw_scenes(len(scenes))]
    return {
        "scenes": list(scenes),
        "draws": {
            name: [round(each[place], 5) for each in scores]
            for place, name in enumerate(("mAP", "NDS"))
        },
        "objects": _count(truth, matches, scenes),
    }


@cache
def draw_scenes(count: int) -> NDArray[np.int64]:
    """Return (DRAWS, count): how often each scene was drawn."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)


def interval(
    values: Sequence[float], draws: Sequence[NDArray[np.float64]]
) -> tuple[float, float, float]:
    """Return the mean over seeds and the 95% interval, in points.

    ``values`` has one value for each seed. ``draws`` has the draws of scenes for each seed, where
    the scenes are the same for all seeds.

    The interval combines two independent parts. The part for other scenes is as wide as the seeds'
    mean varies over the draws. The part for other seeds comes from Student's t of the seeds'
    values, because drawing three seeds again says too little of a fourth. The interval of a single
    seed holds for that seed alone.
    """
    count = len(values)
    scenes = 1.96 * float(np.std(np.mean(draws, 0)))
    seeds = (
        float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
        if count > 1
        else 0.0
    )
    mean = float(np.mean(values))
    half = float(np.hypot(scenes, seeds))
    return round(100 * mean, 2), round(100 * (mean - half), 2), round(100 * (mean + half), 2)


def _scenes(truth: Truth) -> dict[str, list[str]]:
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
    return metrics.mean_ap, metrics.nd_score


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


# Where a detector fails. For each class the most confident boxes are taken, as many as there are
# objects. An object is found if one of these boxes hits the object. At this number of boxes
# precision equals recall, whatever a detector's confidences are like.

EDGES: dict[str, tuple[float, ...]] = {
    "metres away": (0, 10, 20, 30, 50),
    "degrees high": (
        0,
        1,
        2,
        4,
        90,
    ),  # as seen from the ego (in an image 512 pixels wide one degree is seven pixels)
    "metres a second": (0, 0.2, 5, 100),
}


def _count(
    truth: Truth, matches: dict[tuple[str, float], Matches], scenes: dict[str, list[str]]
) -> dict[str, Any]:
    """Count objects and found objects in each scene, by property and value."""
    place = {token: number for number, tokens in enumerate(scenes.values()) for token in tokens}
    light = [_light(truth, tokens[0]) for tokens in scenes.values()]
    counts: dict[str, dict[str, NDArray[np.int64]]] = {}
    for name in truth.config.class_names:
        objects = [
            box
            for token in truth.tokens
            for box in truth.boxes[token]
            if box.detection_name == name
        ]
        best = matches[name, truth.config.dist_th_tp].hit[: len(objects)]
        found = np.isin(np.arange(len(objects)), best)
        for box, was_found in zip(objects, found, strict=True):
            scene = place[box.sample_token]
            for of, value in (
                ("all", "all"),
                ("class", name),
                ("light", light[scene]),
                *_bins(box),
            ):
                row = counts.setdefault(of, {}).setdefault(
                    value, np.zeros((2, len(scenes)), np.int64)
                )
                row[:, scene] += (1, was_found)
    return {
        of: {
            value: {"objects": row[0].tolist(), "found": row[1].tolist()}
            for value, row in sorted(rows.items())
        }
        for of, rows in counts.items()
    }


def _bins(box: DetectionBox) -> Iterator[tuple[str, str]]:
    values = {
        "metres away": box.ego_dist,
        "degrees high": np.degrees(np.arctan2(box.size[2], box.ego_dist)),
        "metres a second": np.linalg.norm(np.nan_to_num(box.velocity)),
    }
    for of, value in values.items():
        edges = EDGES[of]
        number = min(int(np.searchsorted(edges, value, side="right")), len(edges) - 1)
        yield of, f"{edges[number - 1]:g} to {edges[number]:g}"


def _light(truth: Truth, token: str) -> str:
    """Return the light that a synthetic scene's description names.

    A description reads ``crossing, dusk, 62 objects``.
    """
    scene = truth.nusc.get("scene", truth.nusc.get("sample", token)["scene_token"])
    return str(scene["description"]).split(", ")[1]
