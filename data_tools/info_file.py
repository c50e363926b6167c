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
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint

VERSION = "1.1"  # mmdet3d's schema
ANEW = "Make it anew with 'sparsevit3d data infos ROOT'."
# Tables that are small on any root. Of the others, the size is enough to tell roots apart.
SMALL = ("scene", "sample", "sensor", "calibrated_sensor")
MATRICES = {"cam2img": (3, 3), "lidar2cam": (4, 4), "cam2ego": (4, 4)}

Row = dict[str, Any]


@dataclass(frozen=True)
class InfoFile:
    """The content of an info file.

    Args:
        path (Path): The file.
        metainfo (dict): Its version, split, scenes and root.
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
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {ANEW}") from error
    except ValueError as error:
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
    found = InfoFile(path, metainfo, keyframes)
    for number, keyframe in enumerate(keyframes):
        if fault := _fault(keyframe, keyframes[0]):
            raise InputError(f"{path}: keyframe {number} {fault}. {ANEW}")
    return found


def _fault(keyframe: Any, first: Any) -> str:
    """Return what is wrong with a keyframe, or '' if nothing is."""
    if not isinstance(keyframe, dict):
        return "is no object"
    for key in ("token", "timestamp", "ego2global", "images", "lidar_points", "instances"):
        if key not in keyframe:
            return f"has no {key}"
    images = keyframe["images"]
    if not isinstance(images, dict) or not images:
        return "has no camera"
    if list(images) != list(first["images"]):
        return f"has the cameras {', '.join(images)}, the first one {', '.join(first['images'])}"
    if not _is_matrix(keyframe["ego2global"], (4, 4)):
        return "has an ego2global that is no 4 x 4 matrix"
    lidar = keyframe["lidar_points"]
    if not isinstance(lidar, dict) or not _is_matrix(lidar.get("lidar2ego"), (4, 4)):
        return "has a lidar2ego that is no 4 x 4 matrix"
    return next((what for name in images if (what := _image_fault(name, images[name]))), "")


def _image_fault(camera: str, image: Any) -> str:
    if not isinstance(image, Mapping) or not isinstance(image.get("img_path"), str):
        return f"has no img_path of {camera}"
    for side in ("width", "height"):
        if type(image.get(side)) is not int or image[side] <= 0:
            return f"has no {side} of {camera}"
    for name, shape in MATRICES.items():
        if not _is_matrix(image.get(name), shape):
            return f"has a {name} of {camera} that is no {shape[0]} x {shape[1]} matrix"
    return ""


def _is_matrix(value: Any, shape: tuple[int, int]) -> bool:
    rows, columns = shape
    return (
        isinstance(value, list)
        and len(value) == rows
        and all(isinstance(row, list) and len(row) == columns for row in value)
        and all(type(number) in (int, float) for row in value for number in row)
    )
