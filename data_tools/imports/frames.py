"""The file that ``data import frames`` takes: read and checked. docs/your-data.md describes it.

Boxes are in a camera's frame: x right, y down, z forward, metres. ``yaw`` turns about y. A box with
yaw 0 is long along x. With yaw pi / 2 it points at the camera. This is KITTI's ``rotation_y``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.rig import ordered
from data_tools.schema import ATTRIBUTES, CATEGORIES, CLASSES
from sparsevit3d.errors import InputError

# A category of each class, for those who name the class alone.
CATEGORY = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "trailer": "vehicle.trailer",
    "bus": "vehicle.bus.rigid",
    "construction_vehicle": "vehicle.construction",
    "bicycle": "vehicle.bicycle",
    "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}
# A camera that looks straight ahead from the origin of the ego frame (x forward, y left, z up).
AHEAD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
OBJECT_KEYS = {
    *("class", "camera", "center", "size", "yaw"),
    *("track", "velocity", "attribute", "visibility", "lidar_points"),
}
FRAME_KEYS = {"images", "objects", "scene", "split", "time", "ego_to_global"}

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """One camera's image.

    Args:
        file (Path): The image file.
        intrinsic (array): (3, 3), in pixels of this image.
        to_ego (array): (4, 4) from the camera's frame to the ego's.
    """

    file: Path
    intrinsic: Matrix
    to_ego: Matrix


@dataclass(frozen=True)
class Thing:
    """One object. None stands for what is not known.

    Args:
        category (str): nuScenes' category.
        camera (str): The camera in whose frame the box is.
        center (array): (3,) of the box, in metres.
        size (array): (3,) length, width, height, in metres.
        yaw (float): Radians about the camera's y.
        track (str or None): The same text in several frames means the same object.
        velocity (tuple of float or None): Over the ground, along the camera's x and z, in m/s.
        attribute (str or None): nuScenes' attribute.
        visibility (float or None): The visible share, 0 to 1.
        lidar_points (int or None): How many lidar points lie in the box.
    """

    category: str
    camera: str
    center: Matrix
    size: Matrix
    yaw: float
    track: str | None
    velocity: tuple[float, float] | None
    attribute: str | None
    visibility: float | None
    lidar_points: int | None


@dataclass(frozen=True)
class Frame:
    """One moment.

    Args:
        images (dict): An image of each camera.
        objects (list of Thing): What the images show.
        scene (str): Frames of one drive share it.
        split (str or None): Where the scene belongs.
        time (float or None): Seconds.
        ego_to_global (array or None): (4, 4).
    """

    images: dict[str, Shown]
    objects: list[Thing]
    scene: str
    split: str | None
    time: float | None
    ego_to_global: Matrix | None


@dataclass(frozen=True)
class Frames:
    """All that a file says.

    Args:
        cameras (tuple of str): Their names, in the rig's order.
        frames (list of Frame): The moments, in the file's order.
    """

    cameras: tuple[str, ...]
    frames: list[Frame]


def read_frames(path: Path) -> Frames:
    """Read a file of frames. Images are found relative to the file's folder.

    Raises InputError that names the frame, the value and the remedy.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Name a JSON file.") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}). Mend the file.") from error
    return parse_frames(document, path.parent, str(path))


def parse_frames(document: Any, folder: Path, name: str) -> Frames:
    """Check what a file of frames holds. ``name`` stands for the file in error messages."""
    if not isinstance(document, dict) or not document.get("cameras") or not document.get("frames"):
        raise InputError(f'{name}: needs "cameras" and "frames". See docs/your-data.md for both.')
    rows = document["cameras"]
    if not isinstance(rows, dict) or not isinstance(document["frames"], list):
        raise InputError(f'{name}: "cameras" is an object and "frames" a list. Mend the file.')
    for camera, row in rows.items():
        if not re.fullmatch(r"\w[\w.-]*", camera):
            raise InputError(
                f"{name}: a camera is named {camera!r}. Use letters, digits, '_', '-' and '.'."
            )
        _check_keys(row, {"intrinsic", "camera_to_ego"}, set(), f"{name}: camera {camera!r}")
    frames = [
        _frame(row, number, rows, folder, f"{name}: frame {number}")
        for number, row in enumerate(document["frames"])
    ]
    _check_scenes(frames, name)
    return Frames(ordered(rows), frames)


def _frame(row: Any, number: int, cameras: Mapping[str, Any], folder: Path, where: str) -> Frame:
    _check_keys(row, FRAME_KEYS, {"images"}, where)
    images = row["images"]
    if not isinstance(images, dict) or set(images) != set(cameras):
        raise InputError(f"{where}: images is {images!r}. Name one image of {', '.join(cameras)}.")
    objects = row.get("objects") or []
    if not isinstance(objects, list):
        raise InputError(f"{where}: objects is {objects!r}. Give a list.")
    time = row.get("time")
    if time is not None and not _is_number(time):
        raise InputError(f"{where}: time is {time!r}. Give seconds.")
    return Frame(
        {
            camera: _image(images[camera], cameras, camera, folder, f"{where}: {camera}")
            for camera in cameras
        },
        [
            _thing(each, list(cameras), f"{where}: object {place}")
            for place, each in enumerate(objects)
        ],
        str(row.get("scene") or f"frame-{number:06d}"),
        row.get("split"),
        time,
        None if row.get("ego_to_global") is None else _rigid(row, "ego_to_global", where),
    )


def _image(value: Any, cameras: Mapping[str, Any], camera: str, folder: Path, where: str) -> Shown:
    """Read an image. What the image does not say of its camera, the camera says."""
    entry = {"file": value} if isinstance(value, str) else value
    _check_keys(entry, {"file", "intrinsic", "camera_to_ego"}, {"file"}, where)
    entry = cameras[camera] | entry
    matrix = _matrix(entry.get("intrinsic"), (3, 3))
    if matrix is None or min(matrix[0, 0], matrix[1, 1]) <= 0 or tuple(matrix[2]) != (0, 0, 1):
        raise InputError(
            f"{where}: intrinsic is {entry.get('intrinsic')!r}. "
            "Give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels."
        )
    if entry.get("camera_to_ego") is not None:
        return Shown(folder / entry["file"], matrix, _rigid(entry, "camera_to_ego", where))
    if len(cameras) > 1:
        raise InputError(f"{where}: has no camera_to_ego. A rig of several cameras needs each.")
    return Shown(folder / entry["file"], matrix, AHEAD)


def _thing(row: Any, cameras: Sequence[str], where: str) -> Thing:
    needed = {"class", "center", "size", "yaw"} | ({"camera"} if len(cameras) > 1 else set())
    _check_keys(row, OBJECT_KEYS, needed, where)
    category = CATEGORY.get(row["class"], row["class"])
    if category not in CATEGORIES:
        raise InputError(
            f"{where}: class is {row['class']!r}. Name one of {', '.join(CLASSES)}, or a category "
            "of nuScenes."
        )
    if row.get("camera", cameras[0]) not in cameras:
        raise InputError(f"{where}: camera is {row['camera']!r}. Name one of {', '.join(cameras)}.")
    for key, count in (("center", 3), ("size", 3), ("velocity", 2)):
        value = row.get(key)
        if not (value is None and key not in needed) and not _are_numbers(value, count):
            raise InputError(f"{where}: {key} is {value!r}. Give {count} finite numbers.")
    if min(row["size"]) <= 0:
        raise InputError(f"{where}: size is {row['size']!r}. Give length, width, height above 0.")
    if not _is_number(row["yaw"]):
        raise InputError(f"{where}: yaw is {row['yaw']!r}. Give radians.")
    _check_optional(row, where)
    velocity = row.get("velocity")
    return Thing(
        category,
        row.get("camera", cameras[0]),
        np.array(row["center"], np.float64),
        np.array(row["size"], np.float64),
        float(row["yaw"]),
        None if row.get("track") is None else str(row["track"]),
        None if velocity is None else (velocity[0], velocity[1]),
        row.get("attribute"),
        row.get("visibility"),
        row.get("lidar_points"),
    )


def _check_optional(row: Mapping[str, Any], where: str) -> None:
    attribute = row.get("attribute")
    if attribute is not None and attribute not in ATTRIBUTES[:-1]:
        raise InputError(
            f"{where}: attribute is {attribute!r}. Name one of {', '.join(ATTRIBUTES[:-1])}, or "
            "leave it out."
        )
    visibility = row.get("visibility")
    if visibility is not None and not (_is_number(visibility) and 0 <= visibility <= 1):
        raise InputError(f"{where}: visibility is {visibility!r}. Give the visible share, 0 to 1.")
    points = row.get("lidar_points")
    if points is not None and not (type(points) is int and points >= 0):
        raise InputError(f"{where}: lidar_points is {points!r}. Give a whole number.")


def _check_scenes(frames: Sequence[Frame], name: str) -> None:
    """Check that a scene lies in one split and that its times grow."""
    last: dict[str, Frame] = {}
    for number, frame in enumerate(frames):
        where = f"{name}: frame {number}, scene {frame.scene!r}"
        if frame.split is not None and not isinstance(frame.split, str):
            raise InputError(f"{where}: split is {frame.split!r}. Name train, val or another.")
        before = last.get(frame.scene)
        if before is not None and before.split != frame.split:
            raise InputError(
                f"{where}: split is {frame.split!r}, but {before.split!r} in an earlier frame. "
                "Give all frames of a scene the same split."
            )
        if before is not None and (before.time is None) != (frame.time is None):
            raise InputError(f"{where}: some frames have a time. Give it to all or to none.")
        earlier = before.time if before else None
        if earlier is not None and frame.time is not None and frame.time <= earlier:
            raise InputError(f"{where}: time is {frame.time}, not later than before. Sort them.")
        last[frame.scene] = frame


def _check_keys(row: Any, known: set[str], needed: set[str], where: str) -> None:
    if not isinstance(row, dict):
        raise InputError(f"{where} is {row!r}. Make it an object with {', '.join(sorted(needed))}.")
    if lost := sorted(needed - row.keys()):
        raise InputError(f"{where}: has no {', '.join(lost)}. Add what is missing.")
    if unknown := sorted(row.keys() - known):
        raise InputError(
            f"{where}: has {', '.join(unknown)}. Known are {', '.join(sorted(known))}."
        )


def _rigid(row: Mapping[str, Any], key: str, where: str) -> Matrix:
    """Return a 4 x 4 transform that turns and moves, and does nothing else."""
    matrix = _matrix(row[key], (4, 4))
    if (
        matrix is None
        or tuple(matrix[3]) != (0, 0, 0, 1)
        or not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-4)
        or np.linalg.det(matrix[:3, :3]) < 0
    ):
        raise InputError(f"{where}: {key} is {row[key]!r}. Give a 4 x 4 rotation with translation.")
    return matrix


def _matrix(value: Any, shape: tuple[int, int]) -> Matrix | None:
    if not isinstance(value, list) or not all(_are_numbers(line, shape[1]) for line in value):
        return None
    return np.array(value, np.float64) if len(value) == shape[0] else None


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
