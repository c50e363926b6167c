"""KITTI's object layout (``image_2``, ``label_2``, ``calib``) as the content of a frames file.

Labels are in the frame of the reference camera, and images are of camera 2, which stands 6 cm
beside it. The last column of ``P2`` says so. The centre of KITTI's boxes is at their bottom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.imports.layouts import Source, named_splits, read_lines, with_search
from sparsevit3d.errors import InputError
from sparsevit3d.files import read_json

CAMERA = "CAM_2"
CLASSES = {
    "Car": "car",
    "Van": "car",
    "Truck": "truck",
    "Pedestrian": "pedestrian",
    "Person_sitting": "pedestrian",
    "Cyclist": "bicycle",
}
# Visible share by KITTI's occlusion: fully, partly and largely. 3 is unknown.
VISIBILITY = {"0": 1.0, "1": 0.5, "2": 0.2}
COLUMNS = 15
SUFFIXES = (".png", ".jpg", ".jpeg")
EVERY = 5  # without a split, each fifth drive is for val

Matrix = NDArray[np.float64]


def read_kitti(
    source: Path, splits: Mapping[str, Path] | None = None, drives: Path | None = None
) -> Source:
    """Read ``source``, the folder that holds ``image_2``, or its parent.

    Args:
        source (Path): The folder.
        splits (mapping or None): By split, a text file with a frame's number in each line, such as
            KITTI's ImageSets. None: all frames, split by drive.
        drives (Path or None): JSON with the drive of each frame, ``{"000000": "DRIVE"}``. Frames of
            one drive stay in one split. None: each frame is a drive.

    Raises:
        InputError: A file is missing, or a line of it is not KITTI's.
    """
    folder = source / "training" if (source / "training" / "image_2").is_dir() else source
    if not (folder / "image_2").is_dir():
        raise InputError(f"{source}: holds no image_2. Name the folder of image_2 and label_2.")
    images = _images(folder / "image_2")
    drive_of = _drives(drives) if drives else {}
    split_of = named_splits(splits, images) if splits else _splits_by_drive(images, drive_of)
    split_of = with_search(split_of, drive_of)
    left_out: Counter[str] = Counter()
    frames = [
        {
            "images": {CAMERA: {"file": str(images[frame]), "intrinsic": lens.tolist()}},
            "scene": f"kitti-{frame}",
            "split": split,
            "objects": _objects(folder / "label_2" / f"{frame}.txt", offset, left_out),
        }
        for frame, split in split_of.items()
        for lens, offset in [_calibration(folder / "calib" / f"{frame}.txt")]
    ]
    return Source({"cameras": {CAMERA: {}}, "frames": frames}, left_out)


def _images(folder: Path) -> dict[str, Path]:
    """Return the image of each frame."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            raise InputError(f"{path}: {found[path.stem].name} is of the same frame. Remove one.")
        found[path.stem] = path
    return found


def _drives(path: Path) -> dict[str, str]:
    found = read_json(path, 'Make it {"000000": "DRIVE", ...}.')
    return {frame: str(drive) for frame, drive in found.items()}


def _splits_by_drive(images: Mapping[str, Path], drive_of: Mapping[str, str]) -> dict[str, str]:
    drives = list(dict.fromkeys(drive_of.get(frame, frame) for frame in images))
    judged = set(drives[EVERY - 1 :: EVERY])
    return {frame: "val" if drive_of.get(frame, frame) in judged else "train" for frame in images}


def _calibration(path: Path) -> tuple[Matrix, Matrix]:
    """Return (3, 3) intrinsics of camera 2, and (3,) from the reference frame to the camera's."""
    for line in read_lines(path):
        name, _, numbers = line.partition(":")
        if name.strip() == "P2":
            try:
                matrix = np.array(numbers.split(), np.float64).reshape(3, 4)
            except ValueError as error:
                raise InputError(f"{path}: P2 is {numbers!r}. Give 12 numbers.") from error
            if not np.linalg.det(matrix[:, :3]) > 0:
                raise InputError(f"{path}: P2 is {numbers!r}. Put KITTI's calibration back.")
            return matrix[:, :3], np.linalg.solve(matrix[:, :3], matrix[:, 3])
    raise InputError(f"{path}: has no P2. Put KITTI's calibration back.")


def _objects(path: Path, offset: Matrix, left_out: Counter[str]) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(read_lines(path), 1):
        name, *values = line.split()
        try:
            if len(values) not in (COLUMNS - 1, COLUMNS):
                raise ValueError(f"{len(values) + 1} columns")
            height, width, length, x, y, z, yaw = map(float, values[7:14])
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not KITTI's ({error}). Mend it.") from error
        if name not in CLASSES:
            left_out[name] += 1
            continue
        center = np.array([x, y - height / 2, z]) + offset
        found.append(
            {
                "class": CLASSES[name],
                "center": center.tolist(),
                "size": [length, width, height],
                "yaw": yaw,
                "visibility": VISIBILITY.get(values[1]),
            }
        )
    return found
