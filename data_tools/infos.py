"""A keyframe as mmdet3d 1.4 describes one (info schema 1.1), from nuScenes' tables.

Frames and conventions are mmdet3d's:

- ``instances`` are in the lidar frame (x, y, z of the centre, length, width, height, yaw).
- ``cam_instances`` are in each camera's own frame at the camera's own time (centre, length,
  height, width, yaw). They include the 2D box that the image shows.
- Cameras stand in the rig's order, see ``rig``. A root without a lidar has its first camera as the
  reference. Then the lidar frame is the ego frame at that camera's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import transform_matrix, view_points
from pyquaternion import Quaternion
from shapely.geometry import MultiPoint, Polygon
from shapely.geometry import box as rectangle

from data_tools import rig
from data_tools.database import Row, Tables
from data_tools.schema import ATTRIBUTES, LIDAR, label_of
from sparsevit3d.errors import InputError

SWEEPS = 10  # lidar sweeps before the keyframe's own, as mmdet3d keeps them
# Seconds over which the devkit still trusts a velocity. The limit is twice as long for a box that
# has both a box before it and a box after it.
LONGEST_GAP = 1.5

Matrix = NDArray[np.float64]


@contextmanager
def held_together(tables: Tables, token: str) -> Iterator[None]:
    """Convert any error in a sample to InputError.

    The tables may hold unchecked values, and such values can fail in many ways.
    """
    try:
        yield
    except InputError:
        raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(
            f"{tables.folder}: the tables do not hold together at sample {token} ({error!r}). "
            "Run 'sparsevit3d data check'."
        ) from error


def keyframe(tables: Tables, token: str) -> Row:
    """Return the info of a sample, without its ``sample_idx``.

    Raises InputError if the tables lack a keyframe of one of the sensors.
    """
    sample = tables.get("sample", token)
    data = tables.channels(token)
    if lost := [name for name in rig.sensors(tables) if name not in data]:
        raise InputError(
            f"{tables.folder / 'sample_data.json'}: sample {token!r} has no keyframe of "
            f"{', '.join(lost)}"
        )
    channels = rig.cameras(tables)
    first = data[rig.reference(data)]
    has_lidar = LIDAR in data
    lidar2ego = _mount(tables, first) if has_lidar else np.eye(4)
    ego2global = _pose(tables, first)
    lidar2global = ego2global @ lidar2ego
    info = {
        "token": token,
        "timestamp": sample["timestamp"] / 1e6,
        "ego2global": ego2global.tolist(),
        "images": {name: _image(tables, name, data[name], lidar2global) for name in channels},
        "lidar_points": _points(first, lidar2ego)
        if has_lidar
        else {"lidar2ego": np.eye(4).tolist()},
    }
    if has_lidar and (sweeps := _sweeps(tables, first, lidar2global)):
        info["lidar_sweeps"] = sweeps
    annotations = tables.where("sample_annotation", "sample_token", token)
    info["instances"] = [_instance(tables, row, lidar2global) for row in annotations]
    # Nobody has the ground truth of the test tables.
    if not tables.folder.name.endswith("test"):
        seen_by = partial(_camera_instances, tables, annotations)
        info["cam_instances"] = {name: seen_by(data[name]) for name in channels}
    return info


def undetected(tables: Tables, token: str) -> set[str]:
    """Return the categories in a sample that are none of the ten classes.

    mmdet3d's metainfo lists these categories with the label -1.
    """
    rows = tables.where("sample_annotation", "sample_token", token)
    return {name for row in rows if label_of(name := _category(tables, row)) < 0}


def _points(lidar: Row, lidar2ego: Matrix) -> Row:
    return {
        "num_pts_feats": 5,
        "lidar_path": rig.short_path(lidar["filename"], LIDAR),
        "lidar2ego": lidar2ego.tolist(),
    }


def _image(tables: Tables, channel: str, data: Row, lidar2global: Matrix) -> Row:
    cam2ego = _mount(tables, data)
    # Cameras fire before the lidar does. The transform therefore goes through the global frame and
    # each sensor's own ego pose.
    lidar2cam = np.linalg.inv(_pose(tables, data) @ cam2ego) @ lidar2global
    return {
        "img_path": rig.short_path(data["filename"], channel),
        "cam2img": _intrinsic(tables, data),
        "cam2ego": cam2ego.tolist(),
        "sample_data_token": data["token"],
        "timestamp": data["timestamp"] / 1e6,
        "lidar2cam": lidar2cam.tolist(),
        "height": data["height"],
        "width": data["width"],
    }


def _sweeps(tables: Tables, lidar: Row, lidar2global: Matrix) -> list[Row]:
    """Return up to ten lidar sweeps before a keyframe's own, newest first.

    ``lidar2sensor`` maps from the keyframe's lidar frame to the sweep's lidar frame.
    """
    sweeps: list[Row] = []
    while lidar["prev"] and len(sweeps) < SWEEPS:
        lidar = tables.get("sample_data", lidar["prev"])
        mount = _mount(tables, lidar)
        pose = _pose(tables, lidar)
        points = {
            "num_pts_feats": 5,
            "lidar2ego": mount.tolist(),
            "lidar2sensor": (np.linalg.inv(pose @ mount) @ lidar2global).tolist(),
            "lidar_path": lidar["filename"],
        }
        sweeps.append(
            {
                "timestamp": lidar["timestamp"] / 1e6,
                "ego2global": pose.tolist(),
                "lidar_points": points,
                "sample_data_token": lidar["token"],
            }
        )
    return sweeps


def _instance(tables: Tables, row: Row, lidar2global: Matrix) -> Row:
    """Return one annotation in the lidar frame."""
    box = _box(row)
    velocity = np.linalg.inv(lidar2global[:3, :3]) @ _velocity(tables, row)
    _move(box, np.linalg.inv(lidar2global))
    width, length, height = box.wlh
    label = label_of(_category(tables, row))
    return {
        "bbox_3d": [*box.center.tolist(), length, width, height, box.orientation.yaw_pitch_roll[0]],
        "bbox_label": label,
        "bbox_label_3d": label,
        "velocity": velocity[:2].tolist(),
        "num_lidar_pts": row["num_lidar_pts"],
        "num_radar_pts": row["num_radar_pts"],
        "bbox_3d_isvalid": row["num_lidar_pts"] + row["num_radar_pts"] > 0,
    }


def _camera_instances(tables: Tables, annotations: list[Row], data: Row) -> list[Row]:
    """Return the objects of the ten classes that a camera's image shows.

    Boxes are in the camera's own frame at the camera's own time.
    """
    intrinsic = np.array(_intrinsic(tables, data))
    global2cam = np.linalg.inv(_pose(tables, data) @ _mount(tables, data))
    instances = []
    for row in annotations:
        label = label_of(_category(tables, row))
        depth = global2cam[2, :3] @ row["translation"] + global2cam[2, 3]
        if label < 0 or depth <= 0:
            continue
        box = _box(row)
        _move(box, global2cam)
        seen = image_box(box, intrinsic, data["width"], data["height"])
        if seen is None:
            continue
        width, length, height = box.wlh
        velocity = global2cam[:3, :3] @ _velocity(tables, row)
        names = [
            tables.shared("attribute", attribute)["name"] for attribute in row["attribute_tokens"]
        ]
        instances.append(
            {
                "bbox_label": label,
                "bbox_label_3d": label,
                "bbox": seen,
                "bbox_3d_isvalid": True,
                "bbox_3d": [
                    *box.center.tolist(),
                    length,
                    height,
                    width,
                    -box.orientation.yaw_pitch_roll[0],
                ],
                "velocity": velocity[[0, 2]].tolist(),
                "center_2d": view_points(box.center[:, None], intrinsic, normalize=True)[
                    :2, 0
                ].tolist(),
                "depth": float(box.center[2]),
                "attr_label": ATTRIBUTES.index(names[0] if names else "None"),
            }
        )
    return instances


def image_box(box: Box, intrinsic: Matrix, width: int, height: int) -> list[float] | None:
    """Return left, top, right and bottom of the visible part of a box, in image pixels.

    The box is in the camera frame. The result is None if the image shows no part of the box.
    """
    corners = box.corners()
    corners = view_points(corners[:, corners[2] > 0], intrinsic, normalize=True)[:2].T
    if (corners.max(0) < 0).any() or (corners.min(0) > (width, height)).any():
        return None  # most boxes end here, without the cost of a polygon
    seen = MultiPoint(corners).convex_hull.intersection(rectangle(0, 0, width, height))
    return list(seen.bounds) if isinstance(seen, Polygon) and not seen.is_empty else None


def _velocity(tables: Tables, row: Row) -> Matrix:
    """Return an object's velocity as the devkit computes velocities.

    The result is (3,) metres per second in the global frame, along the ground. The velocity is the
    difference between the boxes before and after. The result is NaN if there is neither box, or if
    the boxes are too far apart in time. A velocity in the table comes first.
    """
    if row["velocity"] is not None:
        return np.array(row["velocity"], np.float64) * (1, 1, 0)
    before = tables.get("sample_annotation", row["prev"]) if row["prev"] else row
    after = tables.get("sample_annotation", row["next"]) if row["next"] else row
    times = [
        tables.shared("sample", each["sample_token"])["timestamp"] * 1e-6
        for each in (before, after)
    ]
    gap = times[1] - times[0]
    if not 0 < gap <= LONGEST_GAP * (2 if row["prev"] and row["next"] else 1):
        return np.array((np.nan, np.nan, 0.0))
    velocity = (np.array(after["translation"]) - before["translation"]) / gap
    velocity[2] = 0.0
    return velocity


def _box(row: Row) -> Box:
    return Box(row["translation"], row["size"], Quaternion(row["rotation"]))


def _category(tables: Tables, row: Row) -> str:
    instance = tables.shared("instance", row["instance_token"])
    return str(tables.shared("category", instance["category_token"])["name"])


def _intrinsic(tables: Tables, data: Row) -> list[list[float]]:
    return list(
        tables.shared("calibrated_sensor", data["calibrated_sensor_token"])["camera_intrinsic"]
    )


def _mount(tables: Tables, data: Row) -> Matrix:
    """Return the 4 x 4 transform from the sensor to the ego frame."""
    return _transform(tables.shared("calibrated_sensor", data["calibrated_sensor_token"]))


def _pose(tables: Tables, data: Row) -> Matrix:
    """Return the 4 x 4 transform from the ego to the global frame at the sensor's time."""
    return _transform(tables.shared("ego_pose", data["ego_pose_token"]))


def _transform(row: Row) -> Matrix:
    return np.asarray(transform_matrix(row["translation"], Quaternion(row["rotation"])))


def _move(box: Box, transform: Matrix) -> None:
    box.rotate(Quaternion(matrix=transform[:3, :3], rtol=1e-5, atol=1e-6))
    box.translate(transform[:3, 3])
