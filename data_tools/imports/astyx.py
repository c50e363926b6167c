"""Astyx HiRes2019's own layout as the content of a frames file.

``camera_front``, ``calibration`` and ``groundtruth_obj3d`` hold a file for each frame. Boxes are in
the radar's frame (x forward, y left, z up), which serves as the ego frame. Frames have no times.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

from data_tools.imports.layouts import Source, named_splits, with_search
from sparsevit3d.errors import InputError
from sparsevit3d.files import read_json

CAMERA = "CAM_FRONT"
CLASSES = {
    "Car": "car",
    "Truck": "truck",
    "Bus": "bus",
    "Trailer": "trailer",
    "Person": "pedestrian",
    "Cyclist": "bicycle",
    "Motorcyclist": "motorcycle",
}
# Frames near in number resemble each other. Without a split, each fifth block is for val.
BLOCK = 26
ANEW = "Put the file back."
EVERY = 5

Matrix = NDArray[np.float64]


def read_astyx(source: Path, splits: dict[str, Path] | None = None) -> Source:
    """Read ``source``, the folder that holds ``camera_front``.

    Args:
        source (Path): The folder.
        splits (dict or None): By split, a text file with a frame's number in each line. None: all
            frames, split by blocks of neighbours.

    Raises:
        InputError: A file is missing, or its content is not Astyx'.
    """
    if not (source / "camera_front").is_dir():
        raise InputError(
            f"{source}: holds no camera_front. Name the folder dataset_astyx_hires2019."
        )
    images = {path.stem: path for path in sorted((source / "camera_front").glob("*.jpg"))}
    block_of = {frame: str(place // BLOCK) for place, frame in enumerate(images)}
    split_of = named_splits(splits, images) if splits else _by_block(block_of)
    split_of = with_search(split_of, block_of)
    left_out: Counter[str] = Counter()
    frames = []
    for frame, split in split_of.items():
        lens, to_ego = _calibration(source / "calibration" / f"{frame}.json")
        image = {
            "file": str(images[frame]),
            "intrinsic": lens.tolist(),
            "camera_to_ego": to_ego.tolist(),
        }
        objects = _objects(source / "groundtruth_obj3d" / f"{frame}.json", to_ego, left_out)
        frames.append(
            {
                "images": {CAMERA: image},
                "scene": f"astyx-{frame}",
                "split": split,
                "objects": objects,
            }
        )
    return Source({"cameras": {CAMERA: {}}, "frames": frames}, left_out)


def _by_block(block_of: dict[str, str]) -> dict[str, str]:
    return {
        frame: "val" if int(block) % EVERY == EVERY - 1 else "train"
        for frame, block in block_of.items()
    }


def _calibration(path: Path) -> tuple[Matrix, Matrix]:
    """Return (3, 3) intrinsics, and (4, 4) from the camera's frame to the radar's."""
    document = read_json(path, ANEW)
    try:
        sensors = {row["sensor_uid"]: row["calib_data"] for row in document["sensors"]}
        camera = sensors["camera_front"]
        lens = np.array(camera["K"], np.float64).reshape(3, 3)
        to_ego = np.array(camera["T_to_ref_COS"], np.float64).reshape(4, 4)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{path}: has no calibration of camera_front ({error!r}). {ANEW}"
        ) from error
    if not np.isfinite(to_ego).all() or not np.linalg.det(to_ego[:3, :3]) > 0.5:
        raise InputError(f"{path}: T_to_ref_COS is {to_ego.tolist()}, no rotation. {ANEW}")
    # The files give seven digits, too few for an exact rotation.
    left, _, right = np.linalg.svd(to_ego[:3, :3])
    to_ego[:3, :3] = left @ right
    return lens, to_ego


def _objects(path: Path, to_ego: Matrix, left_out: Counter[str]) -> list[dict[str, Any]]:
    to_camera = np.linalg.inv(to_ego)
    document = read_json(path, ANEW)
    found = []
    try:
        for row in document["objects"]:
            if row["classname"] not in CLASSES:
                left_out[row["classname"]] += 1
                continue
            turn = Quaternion(row["orientation_quat"])
            if not turn.norm > 0.5:
                raise ValueError(f"orientation_quat is {row['orientation_quat']}")
            center = to_camera @ [*map(float, row["center3d"]), 1.0]
            forward = to_camera[:3, :3] @ turn.rotate([1.0, 0, 0])
            found.append(
                {
                    "class": CLASSES[row["classname"]],
                    "center": center[:3].tolist(),
                    "size": list(row["dimension3d"]),
                    "yaw": float(np.arctan2(-forward[2], forward[0])),
                }
            )
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path}: has an object that is not Astyx' ({error!r}). {ANEW}") from error
    return found
