"""From what a detector finds in images to what nuScenes asks for.

nuScenes asks for one list of boxes for each keyframe, in the global frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.ops import nms_rotated
from mmdet3d.evaluation.metrics import NuScenesMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox
from scipy.spatial.transform import Rotation

from data_tools.info_file import InfoFile, read_infos
from sparsevit3d.files import write_json
from sparsevit3d.stages.scoring import Truth, open_root

CAMERA_ONLY = {
    "use_camera": True,
    "use_lidar": False,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}


def attribute_name(index: int, name: str) -> str:
    """Translate the head's attribute for a box of class ``name`` to nuScenes'.

    The choice is mmdet3d's, which only gives an attribute that fits the class.
    """
    return str(NuScenesMetric.get_attr_name(NuScenesMetric, index, name))


@METRICS.register_module()
class NuScenesSplitMetric(NuScenesMetric):
    """mmdet3d's metric for the split of its info file.

    The original knows ``val`` and ``mini_val`` alone and needs a GPU to merge cameras. It brings
    boxes to the global frame by the lidar's ego pose. Each camera's own ego pose is up to 44 ms
    earlier.

    Args:
        data_root (str): The nuScenes root.
        ann_file (str): The info file.
        results (str or None): Where to keep the submission. None: nowhere. Default: None.
        keyframes (sequence of int or None): Places in the info file. None: all. Default: None.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        results: str | None = None,
        keyframes: Sequence[int] | None = None,
    ) -> None:
        """Set up mmdet3d's metric for cameras alone. The class documents the arguments."""
        super().__init__(data_root=data_root, ann_file=ann_file, modality=dict(CAMERA_ONLY))
        self.prefix = None  # the score's names are nuScenes' own
        self.keep = results
        self.keyframes = keyframes

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Score a split. What the root's truth does not define is left out."""
        submission = self.submission(results)
        if self.keep:
            write_json(Path(self.keep), submission)
        score = self.truth.score(EvalBoxes.deserialize(submission["results"], DetectionBox))
        return {name: value for name, value in score.as_dict().items() if value is not None}

    @cached_property
    def info_file(self) -> InfoFile:
        """The split's info file."""
        return read_infos(Path(self.ann_file))

    @cached_property
    def infos(self) -> dict[int, dict[str, Any]]:
        """The infos of the keyframes that are scored, by their places in the info file."""
        infos = self.info_file.keyframes
        return {number: infos[number] for number in self.keyframes or range(len(infos))}

    @cached_property
    def truth(self) -> Truth:
        """The truth that is scored against, of the detector's classes."""
        return Truth(
            open_root(self.data_root, self.info_file.version),
            [info["token"] for info in self.infos.values()],
            self.dataset_meta["classes"],
        )

    def submission(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        """Make what nuScenes asks for: every scored keyframe, even those without detections."""
        images: dict[int, list[tuple[str, Any]]] = {number: [] for number in self.infos}
        for result in results:
            keyframe, camera = divmod(result["sample_idx"], len(self.info_file.cameras))
            name = self.info_file.cameras[camera]
            images[keyframe].append((name, result["pred_instances_3d"]))
        boxes = {
            self.infos[number]["token"]: self._keyframe(self.infos[number], found)
            for number, found in images.items()
        }
        return {"meta": CAMERA_ONLY, "results": boxes}

    def _keyframe(
        self, info: dict[str, Any], images: list[tuple[str, Any]]
    ) -> list[dict[str, Any]]:
        """List one keyframe's boxes in the global frame.

        Boxes that several cameras saw are merged. Boxes out of their class's range are dropped.
        """
        names = self.dataset_meta["classes"]
        ranges = np.array([self.eval_detection_configs.class_range[name] for name in names])
        ego = merged(info, images, ranges)
        if not len(ego.scores):
            return []
        ego2global = np.array(info["ego2global"])
        centres = ego.centres @ ego2global[:3, :3].T + ego2global[:3, 3]
        quaternions = Rotation.from_matrix(ego2global[:3, :3] @ ego.rotations).as_quat()
        velocities = ego.velocities @ ego2global[:3, :3].T
        return [
            {
                "sample_token": info["token"],
                "translation": centres[index].tolist(),
                "size": ego.sizes[index].tolist(),
                "rotation": np.roll(quaternions[index], 1).tolist(),  # scipy's w comes last
                "velocity": velocities[index, :2].tolist(),
                "detection_name": names[label],
                "detection_score": float(ego.scores[index]),
                "attribute_name": attribute_name(int(ego.attributes[index]), names[label]),
            }
            for index, label in enumerate(ego.labels)
        ]


class EgoBoxes(NamedTuple):
    """N boxes in the ego frame at the lidar's time.

    Args:
        centres (array): (N, 3) metres.
        sizes (array): (N, 3) width, length, height, in metres.
        rotations (array): (N, 3, 3), whose columns point forward, left and up.
        velocities (array): (N, 3) metres per second.
        scores (array): (N,) confidence.
        labels (array): (N,) number of the class.
        attributes (array): (N,) number of the attribute, as the head counts them.
    """

    centres: NDArray[np.float64]
    sizes: NDArray[np.float64]
    rotations: NDArray[np.float64]
    velocities: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]


def merged(
    info: dict[str, Any], images: list[tuple[str, Any]], ranges: NDArray[np.float64]
) -> EgoBoxes:
    """Merge what several cameras saw, (camera, its detections) each, into one list, best first.

    ``ranges`` holds the largest distance from the ego for each label, in metres.
    """
    cameras = [_in_ego(info, camera, found) for camera, found in images]
    ego = EgoBoxes._make(np.concatenate(column) for column in zip(*cameras, strict=True))
    near = np.flatnonzero(np.linalg.norm(ego.centres[:, :2], axis=1) <= ranges[ego.labels])
    kept = near[merge(EgoBoxes._make(column[near] for column in ego))]
    return EgoBoxes._make(column[kept] for column in ego)


def _in_ego(info: dict[str, Any], camera: str, found: Any) -> EgoBoxes:
    """Bring one image's detections from its camera frame, through the lidar's, to the ego frame."""
    boxes = found["bboxes_3d"]
    cam2ego = camera_to_ego(info, camera)
    turn = cam2ego[:3, :3]
    values = boxes.tensor.numpy().astype(np.float64)
    yaw = values[:, 6]
    zero = np.zeros(len(values))
    # A camera box has its length along (cos, 0, -sin) of its yaw. Its height lies along -y, because
    # y points down.
    forward = np.stack([np.cos(yaw), zero, -np.sin(yaw)], -1)
    up = np.tile([0.0, -1.0, 0.0], (len(values), 1))
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


def camera_to_ego(info: dict[str, Any], camera: str) -> NDArray[np.float64]:
    """(4, 4) from a camera's frame at its own time to the ego's at the lidar's."""
    return np.asarray(
        np.array(info["lidar_points"]["lidar2ego"])
        @ np.linalg.inv(info["images"][camera]["lidar2cam"])
    )


def merge(boxes: EgoBoxes, overlap: float = 0.05, most: int = 500) -> NDArray[np.int64]:
    """Suppress overlapping boxes seen from above, class by class. Returns indices, best first.

    The settings are mmdet3d's for the six cameras of nuScenes.
    """
    if not len(boxes.scores):
        return np.zeros(0, np.int64)
    heading = boxes.rotations[:, :, 0]
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    flat = np.column_stack([boxes.centres[:, :2], boxes.sizes[:, 1], boxes.sizes[:, 0], yaw])
    survivors = []
    # Go label by label, because on a CPU nms_rotated ignores labels.
    for label in np.unique(boxes.labels):
        own = np.flatnonzero(boxes.labels == label)
        rectangles = torch.from_numpy(flat[own]).float()
        scores = torch.from_numpy(boxes.scores[own]).float()
        survivors.append(own[nms_rotated(rectangles, scores, overlap)[1].numpy()])
    kept = np.concatenate(survivors)
    return np.asarray(kept[np.argsort(-boxes.scores[kept], kind="stable")][:most])
