"""The official nuScenes score of any split of any root, by the devkit's own evaluator."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes import NuScenes
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
)
from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval

from data_tools.rig import reference
from data_tools.schema import CLASSES, LIDAR
from sparsevit3d.errors import InputError
from sparsevit3d.stages.submitted_boxes import box_fault

# How the devkit refuses: it checks by assertion, or fails later on the wrong value.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
ERRORS = {
    "trans_err": "mATE",
    "scale_err": "mASE",
    "orient_err": "mAOE",
    "vel_err": "mAVE",
    "attr_err": "mAAE",
}


@dataclass(frozen=True)
class Score:
    """The official scores of a set of boxes. None where the truth does not define a score.

    Args:
        mAP (float or None): Mean average precision. None: the truth has no box.
        NDS (float or None): nuScenes detection score. None: one of the errors is not defined.
        errors (dict): The five mean errors of true positives, by nuScenes' names. A root without
            velocities has no mAVE, one without attributes no mAAE.
        classes (dict): The average precision by class. A class without truth has none, and counts
            as 0 in mAP, as the devkit counts it.
    """

    mAP: float | None
    NDS: float | None
    errors: dict[str, float | None]
    classes: dict[str, float | None]

    def as_dict(self) -> dict[str, float | None]:
        """All scores by nuScenes' own names. A class is named as in ``AP/car``."""
        return {
            "mAP": self.mAP,
            "NDS": self.NDS,
            **self.errors,
            **{f"AP/{name}": ap for name, ap in self.classes.items()},
        }


class Root(NuScenes):
    """The devkit's view of any root.

    A root may lack a lidar, and it may state velocities. See ``data_tools.rig`` and
    ``data_tools.schema``.

    Args:
        version (str): The folder of tables.
        root (str): The nuScenes root.
    """

    def __init__(self, version: str, root: str) -> None:
        super().__init__(version, root, verbose=False)
        for sample in self.sample:
            data = sample["data"]
            data.setdefault(LIDAR, data[reference(data)])  # the devkit asks for the lidar's pose

    def box_velocity(
        self, sample_annotation_token: str, max_time_diff: float = 1.5
    ) -> NDArray[np.float64]:
        stated = self.get("sample_annotation", sample_annotation_token).get("velocity")
        if stated is not None:
            return np.array(stated, np.float64)
        return np.asarray(super().box_velocity(sample_annotation_token, max_time_diff))


def all_scores(classes: Sequence[str], scores: Mapping[str, float]) -> dict[str, float | None]:
    """Add None for every score of ``classes`` that ``scores`` lacks, for it is not defined."""
    nothing = Score(None, None, dict.fromkeys(ERRORS.values()), dict.fromkeys(classes))
    return {**nothing.as_dict(), **scores}


@lru_cache(maxsize=2)
def open_root(root: str, version: str) -> Root:
    """Open a root with the devkit. Raises InputError where the devkit cannot read the tables."""
    try:
        return Root(version, root)
    except (AssertionError, OSError, ValueError, LookupError) as error:
        raise InputError(
            f"{root}/{version}: the devkit cannot read these tables ({error!r}). "
            "'sparsevit3d data check' lists what is wrong."
        ) from error


class Truth:
    """The ground truth of keyframes, loaded once, to score any number of results against.

    Args:
        nusc (NuScenes): The devkit's view of a root.
        tokens (sequence of str): Tokens of the keyframes to score.
        classes (sequence of str): The classes to score. Default: nuScenes' ten.

    Raises:
        InputError: There are no keyframes, or the tables lack one.
    """

    def __init__(
        self, nusc: NuScenes, tokens: Sequence[str], classes: Sequence[str] = CLASSES
    ) -> None:
        self.nusc = nusc
        self.tokens = list(tokens)
        self.config = config_factory("detection_cvpr_2019")
        self.classes = [name for name in self.config.class_names if name in classes]
        if not self.tokens:
            raise InputError(
                f"{nusc.dataroot}: no keyframes to score. The tables have none of the scenes "
                "asked for."
            )
        known = {row["token"] for row in nusc.sample}
        if foreign := [token for token in self.tokens if token not in known]:
            raise InputError(
                f"{nusc.dataroot}/{nusc.version}: has no keyframe {foreign[0]}. Make the info "
                "files anew with 'sparsevit3d data infos'."
            )
        with quiet():
            boxes = load_gt_of_sample_tokens(nusc, self.tokens, DetectionBox)
        self.boxes = self.filtered(boxes)
        own = [box for box in self.boxes.all if box.detection_name in self.classes]
        self.present = {box.detection_name for box in own}
        self.lacks = {
            "mAVE": not any(np.isfinite(box.velocity).all() for box in own),
            "mAAE": not any(box.attribute_name for box in own),
        }

    def score(self, found: EvalBoxes) -> Score:
        """Score boxes of all keyframes, in the global frame, by the devkit's evaluator."""
        if not self.present:
            nothing: dict[str, float | None] = dict.fromkeys(ERRORS.values())
            return Score(None, None, nothing, dict.fromkeys(self.classes))
        if not found.all:  # the devkit fails where nothing was detected
            return self._defined(0.0, dict.fromkeys(ERRORS.values(), 1.0), {})
        metrics = self.metrics(found)
        precisions = dict(metrics.mean_dist_aps)
        errors = {name: self._error(metrics, key) for key, name in ERRORS.items()}
        mean = float(np.mean([precisions[name] for name in self.classes]))
        return self._defined(mean, errors, precisions)

    def metrics(self, found: EvalBoxes) -> DetectionMetrics:
        """Return all that the devkit's evaluator says, such as the AP by class and distance."""
        # DetectionEval.__init__ would read files, and the truth anew each time.
        evaluator = DetectionEval.__new__(DetectionEval)
        evaluator.cfg = self.config
        evaluator.verbose = False
        evaluator.gt_boxes = self.boxes
        evaluator.pred_boxes = self.filtered(found)
        metrics, _ = evaluator.evaluate()
        return metrics

    def _error(self, metrics: DetectionMetrics, key: str) -> float:
        """Return the mean over the classes that have this error, as the devkit's own mean."""
        errors = [metrics.get_label_tp(name, key) for name in self.classes]
        known = [error for error in errors if not math.isnan(error)]
        return float(np.mean(known)) if known else math.nan

    def _defined(
        self, mean: float, errors: dict[str, float], precisions: dict[str, float]
    ) -> Score:
        """Make a score of what the truth defines."""
        defined: dict[str, float | None] = {
            name: None if self.lacks.get(name) or math.isnan(error) else error
            for name, error in errors.items()
        }
        known = [max(0.0, 1.0 - error) for error in defined.values() if error is not None]
        weight = self.config.mean_ap_weight
        whole = len(known) == len(ERRORS)
        return Score(
            mean,
            (weight * mean + sum(known)) / (weight + len(ERRORS)) if whole else None,
            defined,
            {
                name: precisions.get(name, 0.0) if name in self.present else None
                for name in self.classes
            },
        )

    def filtered(self, boxes: EvalBoxes) -> EvalBoxes:
        """Drop the boxes that the devkit leaves out.

        These are too far away for their class, hold no point, or lie in a bicycle rack.
        """
        return (
            filter_eval_boxes(self.nusc, add_center_dist(self.nusc, boxes), self.config.class_range)
            if boxes.all
            else boxes
        )


def score_results(results: Path, nusc: NuScenes, scenes: Sequence[str]) -> Score:
    """Score a submission file on ``scenes`` of a root.

    Keyframes of other scenes in the file are left alone.

    Raises InputError for a file that is no submission, that lacks a keyframe, that has too many
    boxes, or that has an impossible box.
    """
    names = set(scenes)
    tokens = [
        row["token"]
        for row in nusc.sample
        if nusc.get("scene", row["scene_token"])["name"] in names
    ]
    boxes = _read_submission(results)
    truth = Truth(nusc, tokens)
    missing = [token for token in tokens if token not in boxes]
    most = truth.config.max_boxes_per_sample
    if missing:
        raise InputError(
            f"{results}: {len(missing)} of {len(tokens)} keyframes are missing, the first "
            f"{missing[0]}. Every keyframe of the "
            "split needs an entry, [] if nothing was found there."
        )
    for token in tokens:
        if len(boxes[token]) > most:
            raise InputError(
                f"{results}: {len(boxes[token])} boxes in keyframe {token}. At most {most} may be."
            )
    if fault := _fault(boxes, tokens):
        raise InputError(f"{results}: {fault}")
    try:
        return truth.score(
            EvalBoxes.deserialize({token: boxes[token] for token in tokens}, DetectionBox)
        )
    except REFUSALS as error:
        raise InputError(
            f"{results}: the devkit refuses it ({error!r}). Compare with what 'sparsevit3d eval' "
            "writes."
        ) from error


def _read_submission(path: Path) -> dict[str, list[Any]]:
    try:
        document = json.loads(path.read_text())
        results = document["results"]
        if "meta" not in document or not all(isinstance(boxes, list) for boxes in results.values()):
            raise ValueError('"meta" and, by keyframe, a list of boxes in "results" are needed')
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a nuScenes detection submission ({error}).") from error
    return dict(results)


def _fault(boxes: dict[str, list[Any]], tokens: list[str]) -> str | None:
    """Describe the first box that cannot be scored, by keyframe and place."""
    for token in tokens:
        for place, box in enumerate(boxes[token]):
            if reason := box_fault(box):
                return f"box {place} of keyframe {token} cannot be used: {reason}"
    return None


@contextlib.contextmanager
def quiet() -> Any:
    """Silence mmdet3d and the devkit, which print as they go.

    Their own progress bars are not ours.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
