"""The official nuScenes score of any split of any root, by the devkit's own evaluator."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.ops import nms_rotated
from mmdet3d.evaluation.metrics import NuScenesMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray
from nuscenes import NuScenes
from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval
from scipy.spatial.transform import Rotation

from sparsevit3d.stages.files import write_json

CAMERA_ORDER = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
CAMERA_ONLY = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}
SPLIT = "asked for"  # the name under which the devkit is told the scenes
# How the devkit says no: it checks by assertion, or fails by what a wrong value leads to.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
ERRORS = {"trans_err": "mATE", "scale_err": "mASE", "orient_err": "mAOE", "vel_err": "mAVE", "attr_err": "mAAE"}


@dataclass(frozen=True)
class Score:
    """mAP and NDS, the five mean errors of true positives, and the average precision by class."""

    mAP: float
    NDS: float
    errors: dict[str, float]
    classes: dict[str, float]

    def as_dict(self) -> dict[str, float]:
        """All by nuScenes' own names; the classes' as ``AP/car``."""
        return {"mAP": self.mAP, "NDS": self.NDS, **self.errors, **{f"AP/{name}": ap for name, ap in self.classes.items()}}


class ScoringError(ValueError):
    """A submission or split that the devkit refuses."""


@lru_cache(maxsize=2)
def open_root(root: str, version: str) -> NuScenes:
    """The devkit's view of a root. Raises ScoringError where it cannot read the tables."""
    try:
        return NuScenes(version, root, verbose=False)
    except (AssertionError, OSError, ValueError, KeyError) as error:
        raise ScoringError(
            f"{root}/{version}: the devkit cannot read these tables ({error!r}); see 'sparsevit3d data check'"
        ) from error


def score_results(results: Path, nusc: NuScenes, scenes: Sequence[str]) -> Score:
    """Score a submission file on ``scenes`` of a root. Keyframes of other scenes in it are left alone.

    Raises ScoringError for a file that is no submission, or that lacks a keyframe, or has too many boxes or one that cannot be.
    """
    config = config_factory("detection_cvpr_2019")
    boxes, names = _read_submission(results), set(scenes)
    wanted = [row["token"] for row in nusc.sample if nusc.get("scene", row["scene_token"])["name"] in names]
    missing = [token for token in wanted if token not in boxes]
    if not wanted or missing:
        what = (
            f"{len(missing)} of {len(wanted)} keyframes are missing, the first {missing[0]}"
            if missing
            else "there is no such scene"
        )
        raise ScoringError(f"{results}: {what}; every keyframe of the split needs an entry, [] if nothing was found there")
    for token in wanted:
        if len(boxes[token]) > config.max_boxes_per_sample:
            raise ScoringError(
                f"{results}: {len(boxes[token])} boxes in keyframe {token}; at most {config.max_boxes_per_sample} may be"
            )
    if not any(boxes[token] for token in wanted):  # the devkit fails where nothing at all was detected
        return Score(0.0, 0.0, dict.fromkeys(ERRORS.values(), 1.0), dict.fromkeys(config.class_names, 0.0))
    with tempfile.TemporaryDirectory() as scratch, quiet():
        part = _with_split(nusc, scenes, scratch)
        try:
            metrics, _ = DetectionEval(part, config, str(results), SPLIT, scratch, verbose=False).evaluate()
        except REFUSALS as error:
            raise ScoringError(f"{results}: {_fault(boxes, wanted) or f'the devkit refuses it ({error!r})'}") from error
    return Score(
        metrics.mean_ap,
        metrics.nd_score,
        {name: metrics.tp_errors[key] for key, name in ERRORS.items()},
        dict(metrics.mean_dist_aps),
    )


def _read_submission(path: Path) -> dict[str, list[Any]]:
    try:
        document = json.loads(path.read_text())
        results = document["results"]
        if "meta" not in document or not all(isinstance(boxes, list) for boxes in results.values()):
            raise ValueError('"meta" and, by keyframe, a list of boxes in "results" are needed')
    except OSError as error:
        raise ScoringError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoringError(f"{path}: not a nuScenes detection submission ({error})") from error
    return dict(results)


def _with_split(nusc: NuScenes, scenes: Sequence[str], scratch: str) -> NuScenes:
    """The root with these scenes as a split of its own. Names mean too much to the devkit: its ``val`` are certain 150 scenes."""
    folder = Path(scratch) / nusc.version
    folder.mkdir()
    write_json(folder / "splits.json", {SPLIT: list(scenes)})
    other = copy.copy(nusc)
    other.dataroot = scratch
    return other


def _fault(boxes: dict[str, list[Any]], tokens: list[str]) -> str | None:
    """The first box that the devkit does not take, by keyframe and place."""
    for token in tokens:
        for place, box in enumerate(boxes[token]):
            try:
                DetectionBox.deserialize(box)
                if not min(box["size"]) > 0:
                    raise ValueError(f"a size of {box['size']}")
            except REFUSALS as error:
                return f"box {place} of keyframe {token} is not to be used ({type(error).__name__}: {error})"
    return None


def attribute_name(index: int, name: str) -> str:
    """nuScenes' attribute for what the head says of a box of class ``name``: mmdet3d's choice, which only gives one that fits it."""
    return str(NuScenesMetric.get_attr_name(NuScenesMetric, index, name))


@METRICS.register_module()
class NuScenesSplitMetric(NuScenesMetric):
    """mmdet3d's metric for the split its info file is of. The original knows ``val`` and ``mini_val`` alone, needs a GPU to merge
    cameras, and brings boxes to the global frame by the lidar's ego pose instead of each camera's, up to 44 ms earlier.
    """

    def __init__(self, data_root: str, ann_file: str, results: str | None = None) -> None:
        """``results``: where to keep the submission; None: nowhere."""
        super().__init__(data_root=data_root, ann_file=ann_file, modality=dict(CAMERA_ONLY))
        self.prefix = None  # the score's names are nuScenes' own
        self.keep = results

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        infos = json.loads(Path(self.ann_file).read_text())
        submission = self.submission(results, infos["data_list"])
        meta = infos["metainfo"]
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(self.keep or Path(scratch) / "results_nusc.json")
            write_json(path, submission)
            return score_results(path, open_root(self.data_root, meta["version"]), meta["scenes"]).as_dict()

    def submission(self, results: list[dict[str, Any]], infos: list[dict[str, Any]]) -> dict[str, Any]:
        """What nuScenes asks for: every keyframe of ``infos``, those with no detection included."""
        images: dict[int, list[tuple[int, Any]]] = {number: [] for number in range(len(infos))}
        for result in results:
            keyframe, camera = divmod(result["sample_idx"], len(CAMERA_ORDER))
            images[keyframe].append((camera, result["pred_instances_3d"]))
        boxes = {infos[number]["token"]: self._keyframe(infos[number], found) for number, found in images.items()}
        return {"meta": CAMERA_ONLY, "results": boxes}

    def _keyframe(self, info: dict[str, Any], images: list[tuple[int, Any]]) -> list[dict[str, Any]]:
        """One keyframe's boxes in the global frame: what several cameras saw is merged, what is out of a class's range dropped."""
        cameras = [_in_ego(info, CAMERA_ORDER[camera], found) for camera, found in images]
        ego = EgoBoxes._make(np.concatenate(column) for column in zip(*cameras, strict=True))
        names = np.array(self.dataset_meta["classes"])[ego.labels]
        ranges = np.array([self.eval_detection_configs.class_range[name] for name in names])
        near = np.flatnonzero(np.linalg.norm(ego.centres[:, :2], axis=1) <= ranges)
        kept = near[merge(EgoBoxes._make(column[near] for column in ego))]
        if not len(kept):
            return []
        ego2global = np.array(info["ego2global"])
        centres = ego.centres[kept] @ ego2global[:3, :3].T + ego2global[:3, 3]
        quaternions = Rotation.from_matrix(ego2global[:3, :3] @ ego.rotations[kept]).as_quat()
        velocities = ego.velocities[kept] @ ego2global[:3, :3].T
        return [
            {
                "sample_token": info["token"],
                "translation": centres[place].tolist(),
                "size": ego.sizes[index].tolist(),
                "rotation": np.roll(quaternions[place], 1).tolist(),  # scipy's w comes last
                "velocity": velocities[place, :2].tolist(),
                "detection_name": str(names[index]),
                "detection_score": float(ego.scores[index]),
                "attribute_name": attribute_name(int(ego.attributes[index]), str(names[index])),
            }
            for place, index in enumerate(kept)
        ]


class EgoBoxes(NamedTuple):
    """N boxes in the ego frame at the lidar's time."""

    centres: NDArray[np.float64]  # (N, 3) metres
    sizes: NDArray[np.float64]  # (N, 3) width, length, height
    rotations: NDArray[np.float64]  # (N, 3, 3)
    velocities: NDArray[np.float64]  # (N, 3) metres per second
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]


def _in_ego(info: dict[str, Any], camera: str, found: Any) -> EgoBoxes:
    """One image's detections, from its camera frame through the lidar's, each sensor at its own time."""
    boxes = found["bboxes_3d"]
    cam2ego = np.array(info["lidar_points"]["lidar2ego"]) @ np.linalg.inv(info["images"][camera]["lidar2cam"])
    turn, values = cam2ego[:3, :3], boxes.tensor.numpy().astype(np.float64)
    yaw, zero = values[:, 6], np.zeros(len(values))
    # A camera box lies with its length along (cos, 0, -sin) of its yaw and its height along -y, for y points down.
    forward, up = np.stack([np.cos(yaw), zero, -np.sin(yaw)], -1), np.tile([0.0, -1.0, 0.0], (len(values), 1))
    axes = np.stack([forward, np.cross(up, forward), up], axis=-1)
    return EgoBoxes(
        boxes.gravity_center.numpy() @ turn.T + cam2ego[:3, 3],
        values[:, [5, 3, 4]],  # length, height, width in the camera frame
        turn @ axes,
        np.stack([values[:, 7], zero, values[:, 8]], -1) @ turn.T,
        found["scores_3d"].numpy().astype(np.float64),
        found["labels_3d"].numpy(),
        found["attr_labels"].numpy(),
    )


def merge(boxes: EgoBoxes, overlap: float = 0.05, most: int = 500) -> NDArray[np.int64]:
    """Indices that survive non-maximum suppression from above, class by class, best first: mmdet3d's settings for six cameras."""
    if not len(boxes.scores):
        return np.zeros(0, np.int64)
    heading = boxes.rotations[:, :, 0]
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    flat = np.column_stack([boxes.centres[:, :2], boxes.sizes[:, 1], boxes.sizes[:, 0], yaw])
    survivors = []
    for label in np.unique(boxes.labels):  # one by one: on a CPU nms_rotated takes no notice of labels
        own = np.flatnonzero(boxes.labels == label)
        rectangles, scores = torch.from_numpy(flat[own]).float(), torch.from_numpy(boxes.scores[own]).float()
        survivors.append(own[nms_rotated(rectangles, scores, overlap)[1].numpy()])
    kept = np.concatenate(survivors)
    return np.asarray(kept[np.argsort(-boxes.scores[kept], kind="stable")][:most])


@contextlib.contextmanager
def quiet() -> Any:
    """mmdet3d and the devkit print as they go; their own progress bars are not ours."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
