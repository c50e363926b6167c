"""Info files: read and checked once, by everybody who needs one.

An info file belongs to one root. Its ``metainfo`` holds a fingerprint of the root's tables, so that
the labels of one root are never used with the images of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools import rig
from data_tools.schema import ATTRIBUTES, CLASSES
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint

VERSION = "1.1"  # mmdet3d's schema
ANEW = "Make it anew with 'sparsevit3d data infos ROOT'."
# Tables that are small on any root. Of the others, the size is enough to tell roots apart.
SMALL = ("scene", "sample", "sensor", "calibrated_sensor")
IN_CAMERA = ("cam2img", "lidar2cam", "cam2ego")  # an image's matrices
LARGEST = 1e30  # of the numbers in a file, which become float32
ROUNDED = 0.01  # how far from 0 and 1 a pose's last row and its rotation's determinant may be
# Vectors and labels of an object in the lidar frame and of one in an image.
VECTORS = {"bbox_3d": 7}
VECTORS_SEEN = {"bbox_3d": 7, "bbox": 4, "center_2d": 2}
LABELS = {"bbox_label": (-1, len(CLASSES)), "bbox_label_3d": (-1, len(CLASSES))}
LABELS_SEEN = LABELS | {"attr_label": (0, len(ATTRIBUTES))}

Row = dict[str, Any]


@dataclass(frozen=True)
class InfoFile:
    """The content of an info file.

    Args:
        path (Path): The file.
        metainfo (dict): Its version, split, scenes, root and number of keyframes.
        keyframes (list of dict): The keyframes, in order. All have the same cameras.
    """

    path: Path
    metainfo: Row
    keyframes: list[Row]

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The rig's cameras, in the order of a keyframe's images."""
        return tuple(self.keyframes[0]["images"])

    @property
    def version(self) -> str:
        """The root's folder of tables."""
        return str(self.metainfo["version"])

    def image_path(self, root: Path | str, number: int, camera: str) -> Path:
        """Return the image file of a camera at keyframe ``number``."""
        return rig.full_path(root, camera, self.keyframes[number]["images"][camera]["img_path"])

    def check_root(self, root: Path | str) -> None:
        """Raise InputError if the file was made from the tables of another root."""
        folder = Path(root) / self.version
        if not folder.is_dir():
            raise InputError(
                f"{self.path}: is of the tables {self.version}, which {root} lacks. "
                "Name the root that the file was made from."
            )
        if self.metainfo.get("root") != root_fingerprint(folder):
            raise InputError(
                f"{self.path}: was made from other tables than {folder} has now. {ANEW}"
            )


def root_fingerprint(folder: Path) -> str:
    """Hash what tells a folder of tables from others. Copying or moving the root changes nothing.

    Raises InputError if a table is missing.
    """
    tables = sorted(folder.glob("*.json"))
    sizes = [(path.name, path.stat().st_size) for path in tables if path.name != "splits.json"]
    try:
        contents = [fingerprint(folder / f"{name}.json") for name in SMALL]
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}). 'sparsevit3d data check' lists "
            "what is wrong."
        ) from error
    return hashlib.sha256(repr((sizes, contents)).encode()).hexdigest()


def read_infos(path: Path) -> InfoFile:
    """Read an info file.

    Raises InputError for a file that is missing, damaged, of another format, or empty.
    """
    metainfo, keyframes = _content(path)
    first: Any = None
    tokens = set()
    for number, keyframe in enumerate(keyframes):
        if fault := _fault(keyframe, first or keyframe):
            raise InputError(f"{path}: keyframe {number} {fault}. {ANEW}")
        if keyframe["token"] in tokens:
            raise InputError(f"{path}: keyframe {number} has the token of an earlier one. {ANEW}")
        tokens.add(keyframe["token"])
        first = first or keyframe
    return InfoFile(path, metainfo, keyframes)


def _content(path: Path) -> tuple[Row, list[Any]]:
    """Return a file's ``metainfo``, checked, and its keyframes, unchecked."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {ANEW}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no whole JSON ({error}). {ANEW}") from error
    if not isinstance(document, dict) or not isinstance(document.get("metainfo"), dict):
        raise InputError(f"{path}: is no info file of mmdet3d 1.x. {ANEW}")
    metainfo = document["metainfo"]
    keyframes = document.get("data_list")
    if metainfo.get("info_version") != VERSION or not isinstance(metainfo.get("version"), str):
        raise InputError(
            f"{path}: is of info version {metainfo.get('info_version')} and names the tables "
            f"{metainfo.get('version')}. {ANEW}"
        )
    if not isinstance(keyframes, list) or not keyframes:
        raise InputError(f"{path}: holds no keyframe. {ANEW}")
    written = metainfo.get("keyframes", len(keyframes))  # earlier versions did not count
    if written != len(keyframes):
        raise InputError(
            f"{path}: holds {len(keyframes)} keyframes, but {written} were written. {ANEW}"
        )
    return metainfo, keyframes


def _fault(keyframe: Any, first: Any) -> str:
    """Return what is wrong with a keyframe, or '' if nothing is."""
    if not isinstance(keyframe, dict):
        return "is no object"
    for key in ("token", "timestamp", "ego2global", "images", "lidar_points", "instances"):
        if key not in keyframe:
            return f"has no {key}"
    if not isinstance(keyframe["token"], str):
        return "has a token that is no text"
    if not _are_finite([keyframe["timestamp"]], 1):
        return "has a timestamp that is no finite number"
    if not _is_pose(keyframe["ego2global"]):
        return "has an ego2global that is no 4 x 4 matrix of a pose"
    lidar = keyframe["lidar_points"]
    if not isinstance(lidar, dict) or not _is_pose(lidar.get("lidar2ego")):
        return "has a lidar2ego that is no 4 x 4 matrix of a pose"
    if what := _fault_of_objects("the lidar", keyframe["instances"], VECTORS, LABELS):
        return what
    return _fault_of_images(keyframe, first)


def _fault_of_images(keyframe: Row, first: Row) -> str:
    images = keyframe["images"]
    if not isinstance(images, dict) or not images:
        return "has no camera"
    if list(images) != list(first["images"]):
        return f"has the cameras {', '.join(images)}, the first one {', '.join(first['images'])}"
    for camera, image in images.items():
        if what := _fault_of_image(camera, image):
            return what
    if ("cam_instances" in keyframe) != ("cam_instances" in first):
        has, lacks = ("has", "lacks") if "cam_instances" in keyframe else ("has no", "has")
        return f"{has} cam_instances, which the first one {lacks}"
    if "cam_instances" not in keyframe:
        return ""
    shown = keyframe["cam_instances"]
    if not isinstance(shown, dict) or shown.keys() != images.keys():
        return "has cam_instances that are not those of its cameras"
    for camera, rows in shown.items():
        if what := _fault_of_objects(camera, rows, VECTORS_SEEN, LABELS_SEEN):
            return what
    return ""


def _fault_of_image(camera: str, image: Any) -> str:
    if not isinstance(image, Mapping) or not isinstance(image.get("img_path"), str):
        return f"has no img_path of {camera}"
    for side in ("width", "height"):
        if type(image.get(side)) is not int or image[side] <= 0:
            return f"has no {side} of {camera}"
    for name in IN_CAMERA:
        value = image.get(name)
        if name == "cam2img" and not _is_intrinsic(value):
            return f"has a {name} of {camera} that is no 3 x 3 matrix of a camera"
        if name != "cam2img" and not _is_pose(value):
            return f"has a {name} of {camera} that is no 4 x 4 matrix of a pose"
    return ""


def _fault_of_objects(
    where: str, rows: Any, vectors: Mapping[str, int], labels: Mapping[str, tuple[int, int]]
) -> str:
    """Return what is wrong with the objects that a sensor shows, or '' if nothing is."""
    if not isinstance(rows, list):
        return f"has no list of the objects of {where}"
    for number, row in enumerate(rows):
        if what := _fault_of_object(row, vectors, labels):
            return f"has object {number} of {where} {what}"
    return ""


def _fault_of_object(
    row: Any, vectors: Mapping[str, int], labels: Mapping[str, tuple[int, int]]
) -> str:
    if not isinstance(row, dict):
        return "as no object"
    for name, length in vectors.items():
        if not _are_finite(row.get(name), length):
            return f"with a {name} that is not {length} finite numbers"
    for name, (low, end) in labels.items():
        label = row.get(name)
        if type(label) is not int or not low <= label < end:
            return f"with a {name} that is not between {low} and {end - 1}"
    if not _is_velocity(row.get("velocity")):
        return "with a velocity that is not 2 numbers"
    if "attr_label" in labels and not _are_finite([row.get("depth")], 1):
        return "with a depth that is no finite number"
    return ""


def _is_velocity(value: Any) -> bool:
    """Whether ``value`` is two numbers. NaN stands for a velocity that nobody knows."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(number != number or _are_finite([number], 1) for number in value)
    )


def _are_finite(values: Any, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    for number in values:
        kind = type(number)
        if (kind is not float and kind is not int) or not -LARGEST < number < LARGEST:
            return False
    return True


def _is_matrix(value: Any, size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == size
        and all(_are_finite(row, size) for row in value)
    )


def _is_intrinsic(value: Any) -> bool:
    """Whether ``value`` takes points in front of a camera to pixels."""
    return (
        _is_matrix(value, 3)
        and value[0][0] > 0
        and value[1][1] > 0
        and value[2] == [0, 0, 1]
        and _determinant(value) > 0
    )


def _is_pose(value: Any) -> bool:
    """Whether ``value`` turns and moves, and does nothing else."""
    if not _is_matrix(value, 4):
        return False
    *zeros, one = value[3]
    return (
        max(map(abs, zeros)) < ROUNDED
        and abs(one - 1) < ROUNDED
        and abs(_determinant(value) - 1) < ROUNDED
    )


def _determinant(matrix: list[list[float]]) -> float:
    """Return the determinant of a matrix's first three rows and columns."""
    a, b, c = matrix[0][:3]
    d, e, f = matrix[1][:3]
    g, h, i = matrix[2][:3]
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
