"""The official nuScenes score of any split of any root, by the devkit's own evaluator."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nuscenes import NuScenes
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
)
from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval

from sparsevit3d.errors import InputError

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
    """The official scores of a set of boxes.

    Args:
        mAP (float): Mean average precision.
        NDS (float): nuScenes detection score.
        errors (dict): The five mean errors of true positives, by nuScenes' names.
        classes (dict): The average precision by class.
    """

    mAP: float
    NDS: float
    errors: dict[str, float]
    classes: dict[str, float]

    def as_dict(self) -> dict[str, float]:
        """All scores by nuScenes' own names. A class is named as in ``AP/car``."""
        return {
            "mAP": self.mAP,
            "NDS": self.NDS,
            **self.errors,
            **{f"AP/{name}": ap for name, ap in self.classes.items()},
        }


@lru_cache(maxsize=2)
def open_root(root: str, version: str) -> NuScenes:
    """Open a root with the devkit. Raises InputError where the devkit cannot read the tables."""
    try:
        return NuScenes(version, root, verbose=False)
    except (AssertionError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{root}/{version}: the devkit cannot read these tables ({error!r}); see "
            "'sparsevit3d data check'"
        ) from error


class Truth:
    """The ground truth of keyframes, loaded once, to score any number of results against.

    Args:
        nusc (NuScenes): The devkit's view of a root.
        tokens (sequence of str): Tokens of the keyframes to score.

    Raises:
        InputError: There are no keyframes.
    """

    def __init__(self, nusc: NuScenes, tokens: Sequence[str]) -> None:
        self.nusc = nusc
        self.tokens = list(tokens)
        self.config = config_factory("detection_cvpr_2019")
        if not self.tokens:
            raise InputError(
                f"{nusc.dataroot}: no keyframes to score; the tables have none of the scenes "
                "asked for"
            )
        with quiet():
            self.boxes = self.filtered(load_gt_of_sample_tokens(nusc, self.tokens, DetectionBox))

    def score(self, found: EvalBoxes) -> Score:
        """Score boxes of all keyframes, in the global frame, by the devkit's evaluator."""
        if not found.all:  # the devkit fails where nothing was detected
            return Score(
                0.0,
                0.0,
                dict.fromkeys(ERRORS.values(), 1.0),
                dict.fromkeys(self.config.class_names, 0.0),
            )
        # DetectionEval.__init__ would read files, and the truth anew each time.
        evaluator = DetectionEval.__new__(DetectionEval)
        evaluator.cfg = self.config
        evaluator.verbose = False
        evaluator.gt_boxes = self.boxes
        evaluator.pred_boxes = self.filtered(found)
        metrics, _ = evaluator.evaluate()
        errors = {name: metrics.tp_errors[key] for key, name in ERRORS.items()}
        return Score(metrics.mean_ap, metrics.nd_score, errors, dict(metrics.mean_dist_aps))

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
            f"{missing[0]}; every keyframe of the "
            "split needs an entry, [] if nothing was found there"
        )
    for token in tokens:
        if len(boxes[token]) > most:
            raise InputError(
                f"{results}: {len(boxes[token])} boxes in keyframe {token}; at most {most} may be"
            )
    try:
        return truth.score(
            EvalBoxes.deserialize({token: boxes[token] for token in tokens}, DetectionBox)
        )
    except REFUSALS as error:
        raise InputError(
            f"{results}: {_fault(boxes, tokens) or f'the devkit refuses it ({error!r})'}"
        ) from error


def _read_submission(path: Path) -> dict[str, list[Any]]:
    try:
        document = json.loads(path.read_text())
        results = document["results"]
        if "meta" not in document or not all(isinstance(boxes, list) for boxes in results.values()):
            raise ValueError('"meta" and, by keyframe, a list of boxes in "results" are needed')
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a nuScenes detection submission ({error})") from error
    return dict(results)


def _fault(boxes: dict[str, list[Any]], tokens: list[str]) -> str | None:
    """Describe the first box that the devkit does not take, by keyframe and place."""
    for token in tokens:
        for place, box in enumerate(boxes[token]):
            try:
                DetectionBox.deserialize(box)
                if not min(box["size"]) > 0:
                    raise ValueError(f"a size of {box['size']}")
            except REFUSALS as error:
                reason = f"{type(error).__name__}: {error}"
                return f"box {place} of keyframe {token} cannot be used ({reason})"
    return None


@contextlib.contextmanager
def quiet() -> Any:
    """Silence mmdet3d and the devkit, which print as they go.

    Their own progress bars are not ours.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
