"""Info files for mmdet3d 1.4 (schema 1.1, as JSON) from any nuScenes root, made or real.

Frames and conventions are mmdet3d's: ``instances`` are in the lidar frame (x, y, z of the centre, length, width, height, yaw), and
``cam_instances`` in each camera's own frame at its own time (centre, length, height, width, yaw), with the 2D box that the image shows.
Cameras stand in the order on which mmdet3d's metric relies.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import transform_matrix, view_points
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion
from shapely.geometry import MultiPoint, Polygon
from shapely.geometry import box as rectangle

CAMERA_ORDER = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
CLASSES = (
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
)
ATTRIBUTES = (
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
    "None",
)

Row = dict[str, Any]


class InfosError(ValueError):
    """A root that cannot be read as asked; the message names the file or the value, and the remedy."""


def open_nuscenes(root: Path, version: str) -> NuScenes:
    """The devkit's view of ``root``. Raises InfosError where there are no tables of that version."""
    if not (root / version).is_dir():
        found = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
        raise InfosError(f"{root}: no tables of version {version}; " + (f"found {', '.join(found)}" if found else "none at all"))
    try:
        return NuScenes(version, str(root), verbose=False)
    except (AssertionError, OSError, ValueError, KeyError) as error:
        raise InfosError(f"{root / version}: the devkit cannot read these tables ({error!r})") from error


def only_version(root: Path) -> str:
    """The one folder of tables in a root."""
    found = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
    if len(found) != 1:
        raise InfosError(f"{root}: has {', '.join(found) or 'no tables at all'}; name one v1.0-... with --version")
    return found[0]


def scenes_of_split(nusc: NuScenes, split: str) -> set[str]:
    """Scene names of a split that are in the root, whose own ``splits.json`` goes before nuScenes' official splits.

    ``search``, on which plans are judged and which nuScenes does not have, is every 14th scene of its ``train``: 50 of 700.
    """
    splits = _splits(nusc)
    if split not in splits:
        raise InfosError(f"{nusc.dataroot}: no split {split!r}; there are {', '.join(sorted(splits))}")
    present = {scene["name"] for scene in nusc.scene} & set(splits[split])
    if not present:
        raise InfosError(f"{nusc.dataroot}: split {split!r} has no scene in {nusc.version}")
    return present


def missing_scenes(nusc: NuScenes, split: str) -> int:
    """How many scenes of a split are not in the root."""
    return len(set(_splits(nusc)[split]) - {scene["name"] for scene in nusc.scene})


def _splits(nusc: NuScenes) -> dict[str, list[str]]:
    official = create_splits_scenes()
    own = Path(nusc.dataroot) / nusc.version / "splits.json"
    return official | {"search": sorted(official["train"])[::14]} | (json.loads(own.read_text()) if own.exists() else {})


def write_infos(nusc: NuScenes, split: str, path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write the info file of a split, whole or not at all; returns its number of keyframes. That of ``train`` leaves out ``search``."""
    scenes = scenes_of_split(nusc, split)
    if split == "train":
        scenes -= set(_splits(nusc)["search"])
    samples = [row for row in nusc.sample if nusc.get("scene", row["scene_token"])["name"] in scenes]
    keyframes = []
    for index, sample in enumerate(samples):
        keyframes.append(_keyframe(nusc, index, sample))
        progress(index + 1, len(samples))
    categories = {name: label for label, name in enumerate(CLASSES)}
    metainfo = {"categories": categories, "dataset": "nuscenes", "version": nusc.version, "info_version": "1.1"}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"metainfo": metainfo | {"split": split, "scenes": sorted(scenes)}, "data_list": keyframes}))
    partial.replace(path)
    return len(keyframes)


def _keyframe(nusc: NuScenes, index: int, sample: Row) -> Row:
    lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    lidar2ego, ego2global = _mount(nusc, lidar), _pose(nusc, lidar)
    lidar2global = ego2global @ lidar2ego
    return {
        "sample_idx": index,
        "token": sample["token"],
        "timestamp": sample["timestamp"] / 1e6,
        "ego2global": ego2global.tolist(),
        "images": {name: _image(nusc, sample["data"][name], lidar2global) for name in CAMERA_ORDER},
        "lidar_points": {
            "num_pts_feats": 5,
            "lidar_path": Path(lidar["filename"]).name,
            "lidar2ego": lidar2ego.tolist(),
        },
        "instances": [_instance(nusc, token, lidar2global) for token in sample["anns"]],
        "cam_instances": {name: camera_instances(nusc, sample["data"][name]) for name in CAMERA_ORDER},
    }


def _image(nusc: NuScenes, token: str, lidar2global: NDArray[np.float64]) -> Row:
    data = nusc.get("sample_data", token)
    calibration = nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
    cam2ego = _mount(nusc, data)
    # Cameras fire before the lidar does, so this goes through the global frame and each sensor's own ego pose.
    lidar2cam = np.linalg.inv(_pose(nusc, data) @ cam2ego) @ lidar2global
    return {
        "img_path": Path(data["filename"]).name,
        "cam2img": calibration["camera_intrinsic"],
        "cam2ego": cam2ego.tolist(),
        "sample_data_token": token,
        "timestamp": data["timestamp"] / 1e6,
        "lidar2cam": lidar2cam.tolist(),
        "height": data["height"],
        "width": data["width"],
    }


def _instance(nusc: NuScenes, token: str, lidar2global: NDArray[np.float64]) -> Row:
    """One annotation in the lidar frame."""
    row, box = nusc.get("sample_annotation", token), nusc.get_box(token)
    velocity = np.linalg.inv(lidar2global[:3, :3]) @ (*nusc.box_velocity(token)[:2], 0.0)
    _move(box, np.linalg.inv(lidar2global))
    width, length, height = box.wlh
    label = _label(row["category_name"])
    return {
        "bbox_3d": [*box.center.tolist(), length, width, height, box.orientation.yaw_pitch_roll[0]],
        "bbox_label": label,
        "bbox_label_3d": label,
        "velocity": velocity[:2].tolist(),
        "num_lidar_pts": row["num_lidar_pts"],
        "num_radar_pts": row["num_radar_pts"],
        "bbox_3d_isvalid": row["num_lidar_pts"] + row["num_radar_pts"] > 0,
    }


def camera_instances(nusc: NuScenes, token: str) -> list[Row]:
    """The objects of the ten classes that a camera's image shows, in that camera's frame at its own time."""
    data = nusc.get("sample_data", token)
    intrinsic = np.array(nusc.get("calibrated_sensor", data["calibrated_sensor_token"])["camera_intrinsic"])
    global2cam = np.linalg.inv(_pose(nusc, data) @ _mount(nusc, data))
    instances = []
    for annotation in nusc.get("sample", data["sample_token"])["anns"]:
        row, box = nusc.get("sample_annotation", annotation), nusc.get_box(annotation)
        label = _label(row["category_name"])
        _move(box, global2cam)
        if label < 0 or box.center[2] <= 0:
            continue
        seen = image_box(box, intrinsic, data["width"], data["height"])
        if seen is None:
            continue
        width, length, height = box.wlh
        velocity = global2cam[:3, :3] @ (*nusc.box_velocity(annotation)[:2], 0.0)
        names = [nusc.get("attribute", attribute)["name"] for attribute in row["attribute_tokens"]]
        instances.append(
            {
                "bbox_label": label,
                "bbox_label_3d": label,
                "bbox": seen,
                "bbox_3d_isvalid": True,
                "bbox_3d": [*box.center.tolist(), length, height, width, -box.orientation.yaw_pitch_roll[0]],
                "velocity": velocity[[0, 2]].tolist(),
                "center_2d": view_points(box.center[:, None], intrinsic, normalize=True)[:2, 0].tolist(),
                "depth": float(box.center[2]),
                "attr_label": ATTRIBUTES.index(names[0] if names else "None"),
            }
        )
    return instances


def image_box(box: Box, intrinsic: NDArray[np.float64], width: int, height: int) -> list[float] | None:
    """Left, top, right, bottom of what an image shows of a box in the camera frame; None if nothing."""
    corners = box.corners()
    corners = view_points(corners[:, corners[2] > 0], intrinsic, normalize=True)[:2].T
    seen = MultiPoint(corners).convex_hull.intersection(rectangle(0, 0, width, height))
    return list(seen.bounds) if isinstance(seen, Polygon) and not seen.is_empty else None


def _label(category: str) -> int:
    name = category_to_detection_name(category)
    return CLASSES.index(name) if name else -1


def _mount(nusc: NuScenes, data: Row) -> NDArray[np.float64]:
    """4 x 4, sensor to ego."""
    row = nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
    return np.asarray(transform_matrix(row["translation"], Quaternion(row["rotation"])))


def _pose(nusc: NuScenes, data: Row) -> NDArray[np.float64]:
    """4 x 4, ego to global at the sensor's time."""
    row = nusc.get("ego_pose", data["ego_pose_token"])
    return np.asarray(transform_matrix(row["translation"], Quaternion(row["rotation"])))


def _move(box: Box, transform: NDArray[np.float64]) -> None:
    box.rotate(Quaternion(matrix=transform[:3, :3], rtol=1e-5, atol=1e-6))
    box.translate(transform[:3, 3])
