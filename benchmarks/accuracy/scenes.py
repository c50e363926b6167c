"""From boxes to the scenes and objects behind a score.

Results by scene give intervals. Results by object show where a detector fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox
from scipy.stats import t as student

from sparsevit3d.stages.draws import Matches, draw_scenes, match_all, scenes_of, score
from sparsevit3d.stages.scoring import Truth


def examine(truth: Truth, submission: Path) -> dict[str, Any]:
    """Examine a submission.

    The result has mAP and NDS of DRAWS draws of scenes, which are the same draws for every
    submission. The result also has the number of objects found, by scene and by properties of the
    objects.
    """
    found = EvalBoxes.deserialize(json.loads(submission.read_text())["results"], DetectionBox)
    scenes = scenes_of(truth)
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
