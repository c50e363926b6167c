"""The file that ``data import frames`` takes: read and checked. docs/your-data.md describes it.

Boxes are in a camera's frame: x right, y down, z forward, metres. ``yaw`` turns about y. A box with
yaw 0 is long along x. With yaw pi / 2 it points at the camera. This is KITTI's ``rotation_y``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.imports.values import (
    LATEST,
    Matrix,
    are_numbers,
    check_keys,
    is_number,
    is_text,
    matrix_of,
    rigid,
)
from data_tools.rig import ordered
from data_tools.schema import ATTRIBUTES, CATEGORIES, CLASSES, LIDAR
from sparsevit3d.errors import InputError
from sparsevit3d.files import read_json

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
NAME = re.compile(r"\w[\w.-]*")  # of cameras and splits, which become names of files
ALONE = "frame-"  # begins the name of a scene of one frame


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
        document = read_json(path, "Mend the file.")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Name a JSON file.") from error
    return parse_frames(document, path.parent, str(path))


def parse_frames(document: Any, folder: Path, name: str) -> Frames:
    """Check what a file of frames holds. ``name`` stands for the file in error messages."""
    check_keys(document, {"cameras", "frames"}, {"cameras", "frames"}, name)
    rows = document["cameras"]
    moments = document["frames"]
    if not isinstance(rows, dict) or not rows or not isinstance(moments, list) or not moments:
        raise InputError(
            f'{name}: "cameras" is an object and "frames" a list, and neither is empty. '
            "See docs/your-data.md for both."
        )
    for camera, row in rows.items():
        if not NAME.fullmatch(camera) or camera == LIDAR:
            raise InputError(
                f"{name}: a camera is named {camera!r}. Use letters, digits, '_', '-' and '.'."
            )
        check_keys(row, {"intrinsic", "camera_to_ego"}, set(), f"{name}: camera {camera!r}")
    frames = [
        _frame(row, number, rows, folder, f"{name}: frame {number}")
        for number, row in enumerate(moments)
    ]
    _check_scenes(frames, name)
    _check_tracks(frames, name)
    return Frames(ordered(rows), frames)


def _frame(row: Any, number: int, cameras: Mapping[str, Any], folder: Path, where: str) -> Frame:
    check_keys(row, FRAME_KEYS, {"images"}, where)
    images = row["images"]
    if not isinstance(images, dict) or set(images) != set(cameras):
        raise InputError(f"{where}: images is {images!r}. Name one image of {', '.join(cameras)}.")
    objects = row.get("objects") or []
    if not isinstance(objects, list):
        raise InputError(f"{where}: objects is {objects!r}. Give a list.")
    time = row.get("time")
    if time is not None and not is_number(time, LATEST):
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
        _scene(row.get("scene"), number, where),
        _split(row.get("split"), where),
        time,
        None if row.get("ego_to_global") is None else rigid(row, "ego_to_global", where),
    )


def _scene(value: Any, number: int, where: str) -> str:
    """Return the scene's name. A frame without one is a scene of its own."""
    if value is None:
        return f"{ALONE}{number:06d}"
    if (type(value) is not int and not is_text(value)) or str(value).startswith(ALONE):
        raise InputError(f"{where}: scene is {value!r}. Give a text that is not {ALONE}...")
    return str(value)


def _split(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not NAME.fullmatch(value) or value.startswith("imported_"):
        raise InputError(f"{where}: split is {value!r}. Name train, val, search or another word.")
    return value


def _image(value: Any, cameras: Mapping[str, Any], camera: str, folder: Path, where: str) -> Shown:
    """Read an image. What the image does not say of its camera, the camera says."""
    entry = {"file": value} if isinstance(value, str) else value
    check_keys(entry, {"file", "intrinsic", "camera_to_ego"}, {"file"}, where)
    entry = cameras[camera] | entry
    if not is_text(entry["file"]):
        raise InputError(f"{where}: file is {entry['file']!r}. Give the path of an image.")
    matrix = matrix_of(entry.get("intrinsic"), (3, 3))
    if matrix is None or min(matrix[0, 0], matrix[1, 1]) <= 0 or tuple(matrix[2]) != (0, 0, 1):
        raise InputError(
            f"{where}: intrinsic is {entry.get('intrinsic')!r}. "
            "Give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels."
        )
    if entry.get("camera_to_ego") is not None:
        return Shown(folder / entry["file"], matrix, rigid(entry, "camera_to_ego", where))
    if len(cameras) > 1:
        raise InputError(f"{where}: has no camera_to_ego. A rig of several cameras needs each.")
    return Shown(folder / entry["file"], matrix, AHEAD)


def _thing(row: Any, cameras: Sequence[str], where: str) -> Thing:
    needed = {"class", "center", "size", "yaw"} | ({"camera"} if len(cameras) > 1 else set())
    check_keys(row, OBJECT_KEYS, needed, where)
    name = row["class"]
    category = CATEGORY.get(name, name) if isinstance(name, str) else ""
    if category not in CATEGORIES:
        raise InputError(
            f"{where}: class is {row['class']!r}. Name one of {', '.join(CLASSES)}, or a category "
            "of nuScenes."
        )
    if row.get("camera", cameras[0]) not in cameras:
        raise InputError(f"{where}: camera is {row['camera']!r}. Name one of {', '.join(cameras)}.")
    for key, count in (("center", 3), ("size", 3), ("velocity", 2)):
        value = row.get(key)
        if not (value is None and key not in needed) and not are_numbers(value, count):
            raise InputError(f"{where}: {key} is {value!r}. Give {count} finite numbers.")
    if min(row["size"]) <= 0:
        raise InputError(f"{where}: size is {row['size']!r}. Give length, width, height above 0.")
    if not is_number(row["yaw"]):
        raise InputError(f"{where}: yaw is {row['yaw']!r}. Give radians.")
    _check_optional(row, where)
    velocity = row.get("velocity")
    return Thing(
        category,
        row.get("camera", cameras[0]),
        np.array(row["center"], np.float64),
        np.array(row["size"], np.float64),
        float(row["yaw"]),
        _track(row.get("track"), where),
        None if velocity is None else (velocity[0], velocity[1]),
        row.get("attribute"),
        row.get("visibility"),
        row.get("lidar_points"),
    )


def _track(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if type(value) is not int and not is_text(value):
        raise InputError(f"{where}: track is {value!r}. Give a text or a whole number.")
    return str(value)


def _check_optional(row: Mapping[str, Any], where: str) -> None:
    attribute = row.get("attribute")
    if attribute is not None and attribute not in ATTRIBUTES[:-1]:
        raise InputError(
            f"{where}: attribute is {attribute!r}. Name one of {', '.join(ATTRIBUTES[:-1])}, or "
            "leave it out."
        )
    visibility = row.get("visibility")
    if visibility is not None and not (is_number(visibility) and 0 <= visibility <= 1):
        raise InputError(f"{where}: visibility is {visibility!r}. Give the visible share, 0 to 1.")
    points = row.get("lidar_points")
    if points is not None and not (type(points) is int and 0 <= points < 2**31):
        raise InputError(f"{where}: lidar_points is {points!r}. Give a whole number.")


def _check_scenes(frames: Sequence[Frame], name: str) -> None:
    """Check that a scene lies in one split and that its times grow."""
    last: dict[str, Frame] = {}
    for number, frame in enumerate(frames):
        where = f"{name}: frame {number}, scene {frame.scene!r}"
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


def _check_tracks(frames: Sequence[Frame], name: str) -> None:
    """Check that a track is one object: once in a frame, and of one class in its scene."""
    classes: dict[tuple[str, str], str] = {}
    for number, frame in enumerate(frames):
        tracked = [(thing.track, thing.category) for thing in frame.objects if thing.track]
        counts = Counter(track for track, _ in tracked)
        for track, category in tracked:
            if counts[track] > 1:
                raise InputError(
                    f"{name}: frame {number}: two objects have the track {track!r}. "
                    "Give each its own."
                )
            known = classes.setdefault((frame.scene, track), category)
            if known != category:
                raise InputError(
                    f"{name}: frame {number}: the track {track!r} is {category}, before it was "
                    f"{known}. Give each object its own track."
                )
